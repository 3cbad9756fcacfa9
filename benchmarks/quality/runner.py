"""Measure one case: the run with its defaults and every classical method, scored on the same hole pixels."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
import traceback
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import pipeline
from benchmarks.quality import engine, scores
from benchmarks.quality.cases import Case, content_key
from benchmarks.quality.fills import as_stored, estimates
from benchmarks.quality.scenes import Image
from benchmarks.quality.trained import seen, validates
from pipeline.errors import Interrupted

OURS, ALONE, CLEAN = "ours", "ours without guides", "ours without haze"
TILE = 32
"""Edge in pixels of the tiles in which a cloudy reference may do no harm."""
TILE_MIN, COMPONENT_MIN = 64, 16
"""Hole pixels below which a tile or component is not counted."""
CASE_SECONDS = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where results are kept, under which name, whether those of an earlier run count, and the seed of all runs."""

    out: Path
    state: str
    reuse: bool
    seed: int = 0


def software_state() -> str:
    """Return a hash of the package's code and weights, training apart: a run never comes there."""
    root = Path(pipeline.__file__).parent
    files = (p for p in root.rglob("*") if p.suffix in {".py", ".safetensors", ".yaml"})
    return _digest(p for p in files if root / "training" not in p.parents)


@cache
def _classical_state() -> str:
    root = Path(pipeline.__file__).parent
    return _digest([*(root / "fills").glob("*.py"), Path(__file__).with_name("fills.py")])


def _digest(paths: Any) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def describe(case: Case) -> dict[str, Any]:
    """Return what a row says before anything is measured."""
    return {
        "case": case.name,
        "family": case.family,
        "scene": case.scene.name,
        "place": case.scene.place,
        "sensor": case.scene.sensor,
        "unseen": case.scene.unseen,
        "trained": seen(case.scene),
        "validated": validates(case.scene),
    }


def measure(case: Case, settings: Settings) -> dict[str, Any]:
    """Return the row of a case; one that fails has an `error` instead of scores."""
    row = describe(case)
    started = time.process_time()
    # a case that never ends is a failed case
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(CASE_SECONDS)
    try:
        row |= _scores(case, settings)
    except Interrupted:
        # the run took the signal that was meant for the benchmark
        raise KeyboardInterrupt from None
    except Exception as error:
        row |= {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()[-3000:]}
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    row["cpu_seconds"] = time.process_time() - started
    return row


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {CASE_SECONDS} s")


def _scores(case: Case, settings: Settings) -> dict[str, Any]:
    image, hole = case.build()
    given = case.given(image, hole)
    key = content_key(image, hole, given)
    frame = Frame.of(image, hole)
    if not frame.scored.any():
        raise ValueError("no pixel is scored: the hole misses all that counts")
    # nothing is drawn for them: those of the first draw are as good
    fills = replace(settings, reuse=settings.reuse or settings.seed > 0)
    classical = _kept(fills, f"classical-{_classical_state()}", key)
    if classical is None:
        methods = {name: frame.score(values) for name, values in estimates(given, hole).items()}
        classical = _keep(settings, f"classical-{_classical_state()}", key, {"methods": methods})
    ours = _kept(settings, settings.state, key)
    if ours is None or (case.also_alone and ALONE not in ours["methods"]):
        ours = _keep(settings, settings.state, key, _run(case, settings, key, image, given, hole))
    facts = {"key": key, "range": scores.robust_range(image.values, frame.counted).tolist(), "parts": frame.facts()}
    if image.guides:
        facts["agreement"] = _agreement(image, frame)
    return facts | ours | {"methods": classical["methods"] | ours["methods"]}


def _agreement(image: Image, frame: Frame) -> tuple[float, float]:
    """Return how alike image and guides are, without what their own masks hide."""
    common = frame.counted.copy()
    for guide in image.guides:
        common &= True if guide.hidden is None else ~guide.hidden
    return scores.agreement(image.values, np.concatenate([g.values for g in image.guides]), common)


def _run(
    case: Case, settings: Settings, key: str, image: Image, given: Image, hole: NDArray[np.bool_]
) -> dict[str, Any]:
    folder = settings.out / "work" / f"{key}-{os.getpid()}"
    frame = Frame.of(image, hole)
    restore = partial(engine.restore, folder=folder, seed=settings.seed)
    done = restore(given, hole)
    kept = ~(hole | image.hidden)
    scored = frame.scored
    error = done.values[scored].astype(np.float64) - image.values[scored]
    spatial = np.asarray(scored.any(axis=0))
    test = done.record["self_test"] or {}
    facts = {
        "methods": {OURS: frame.score(done.values)},
        "coverage": scores.coverage(error, done.sigma[scored].astype(np.float64)),
        "changed": int((done.values[kept] != given.values[kept]).sum()) + int(done.values.dtype != image.values.dtype),
        "seam": scores.rim_seam(done.values, image.values, spatial),
        "gradient": scores.gradient_ratio(done.values, image.values, spatial),
        "predicted": list(test.get("predicted_rmse") or ()),
        "note": test.get("note", ""),
        "recipe": done.record["recipe"],
        "by_source": done.record["holes"]["by_source"],
        "seconds": done.seconds,
    }
    if case.also_alone:
        single = restore(image, hole, alone=True)
        facts["methods"][ALONE] = frame.score(single.values)
    if given is not image:
        facts["methods"][CLEAN] = frame.score(restore(image, hole).values)
    arrays = settings.out / settings.state / f"{key}.npz"
    arrays.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arrays, ours=done.values[hole], sigma=done.sigma[hole])
    return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Which pixels of a case are scored, and the parts that are scored one by one.

    Attributes:
        truth: `(c, *spatial)` as stored.
        counted: bool `(*spatial)`, pixels whose values make the range.
        scored: bool `(c, *spatial)`.
        components: int `(*spatial)`, face-connected hole components from 1.
        tiles: int `(*spatial)`, tiles from 1; empty for volumes.
    """

    truth: NDArray[Any]
    counted: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    components: NDArray[np.integer]
    tiles: NDArray[np.integer]

    @classmethod
    def of(cls, image: Image, hole: NDArray[np.bool_]) -> Frame:
        """Return the frame of an image and its test hole; what is scored all guides show, or none does (`unshown`)."""
        counted = image.counted & ~image.hidden
        hidden = [guide.hidden for guide in image.guides if guide.hidden is not None]
        if image.unshown:
            scored = hole & counted & np.all(hidden, axis=0)
        else:
            scored = hole & counted & ~np.any(hidden, axis=0) if hidden else hole & counted
        area = scored.any(axis=0)
        flat = image.values.ndim == 3
        components = ndimage.label(area)[0]
        if components.max() > 4000:
            components = np.zeros_like(components)
        grid = scores.tiles(area.shape, TILE) if flat else np.zeros_like(components)
        return cls(truth=image.values, counted=counted, scored=scored, components=components, tiles=grid)

    def score(self, values: NDArray[Any]) -> dict[str, Any]:
        """Return mean squared errors per channel: of all scored pixels, each component and each tile."""
        stored = as_stored(values.astype(np.float32), self.truth.dtype)
        area = np.asarray(self.scored.any(axis=0))
        result: dict[str, Any] = {"mse": scores.channel_mse(stored, self.truth, self.scored).tolist()}
        for name, labels in (("components", self.components), ("tiles", self.tiles)):
            keep = self._large(labels, COMPONENT_MIN if name == "components" else TILE_MIN)
            result[name] = scores.by_part(stored, self.truth, area, labels)[keep].tolist() if keep.any() else []
        return result

    def facts(self) -> dict[str, int]:
        """Return how much is scored."""
        return {
            "pixels": int(self.scored.sum()),
            "components": int(self._large(self.components, COMPONENT_MIN).sum()),
            "tiles": int(self._large(self.tiles, TILE_MIN).sum()),
        }

    def _large(self, labels: NDArray[np.integer], least: int) -> NDArray[np.bool_]:
        area = np.asarray(self.scored.any(axis=0))
        count = np.bincount(np.where(area, labels, 0).ravel(), minlength=int(labels.max()) + 1)[1:]
        return np.asarray(count >= least)


def _kept(settings: Settings, folder: str, key: str) -> dict[str, Any] | None:
    path = settings.out / folder / f"{key}.json"
    if not settings.reuse or not path.exists():
        return None
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def _keep(settings: Settings, folder: str, key: str, facts: dict[str, Any]) -> dict[str, Any]:
    path = settings.out / folder / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(facts))
    draft.replace(path)
    return facts
