"""What must be known before a block runs: states, statistics, the self-test's verdict, a coarse fill, the blocks.

The survey is the only step that looks at the whole image, in passes of bounded memory. It ends in an immutable `Plan`;
blocks add nothing to what is decided here, which is why they are pure functions.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.errors import ConfigError, PlanRefused
from pipeline.fills.base import FillSpec, Window
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.lattice import Lattice
from pipeline.masks.base import FILL, KEEP, Mask
from pipeline.models.base import Inpainter
from pipeline.plan import GuideRef, ModelRef, Plan, SourceRef, patches_with_holes
from pipeline.references import Ridge, fit_ridge
from pipeline.registry import kinds, load
from pipeline.resources import auto_block, check_fits
from pipeline.restore import Guide, Recipe
from pipeline.scan import StateScan, ValueScan, coarse_values, scan_states, scan_values
from pipeline.selftest import FittedGuide, Verdict, judge, place
from pipeline.workspace import GUESS, STORED, centred, open_guide_mask, open_source, read_guide

_MAX_COARSE_VALUES = 16_000_000
_MAX_UNKNOWNS = 1_500_000
_PLACEMENTS = 8
_RIDGE_SAMPLES = 60_000
_WIDEST = 3e38
"""Just inside the range of float32."""
_FORCED = {"identity", "constant"}
"""Models of the tests: they replace the restoration instead of competing in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One image to restore, as the config asks for it.

    Attributes:
        workdir: folder for the survey's arrays.
        source: the image.
        open_mask: makes the mask from the (staged) source.
        guides: references and auxiliaries.
        model: kind, weights file, options and device; None = find shipped weights, then decide by self-test.
        patch, overlap: per axis, or None for the default.
        block: per axis, or None to choose by memory.
        batch: patches a forward pass.
        memory_bytes: bound of one worker.
        refuse_above: see `Plan`.
        seed: of every random draw.
        config: hash-relevant part of the config.
    """

    workdir: Path
    source: SourceRef
    open_mask: Callable[[Source], Mask]
    guides: tuple[GuideRef, ...] = ()
    model_kind: str | None = None
    model_weights: str = "auto"
    model_options: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    patch: tuple[int, ...] | None = None
    overlap: tuple[int, ...] | None = None
    block: tuple[int, ...] | None = None
    batch: int = 1
    memory_bytes: int = 4 * 2**30
    refuse_above: float | None = None
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The plan and what people want to know about how it came about."""

    plan: Plan
    verdict: Verdict | None
    states: StateScan
    patches_touching_holes: int
    model_name: str
    seconds: dict[str, float]
    notices: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return what the record needs beside the plan, as JSON values."""
        verdict = self.verdict
        self_test = None
        if verdict is not None:
            self_test = {
                "placements": verdict.placements,
                "hidden_pixels": verdict.hidden_pixels,
                "coverage_90": verdict.coverage_90,
                "predicted_rmse": verdict.predicted_rmse,
                "note": verdict.note,
                "methods": [asdict(row) for row in verdict.rows],
            }
        return {
            "self_test": self_test,
            "states": {"holes": self.states.holes, "kept": self.states.kept, "never": self.states.never},
            "patches_touching_holes": self.patches_touching_holes,
            "model_name": self.model_name,
            "seconds": self.seconds,
            "notices": self.notices,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """The opened image of a job with everything measured so far."""

    job: Job
    source: Source
    guides: tuple[tuple[Source, Mask], ...]
    channels: tuple[int, ...]
    state: zarr.Array
    states: StateScan
    values: ValueScan
    lattice: Lattice
    spacing: tuple[float, ...]

    def window(self, box: Box) -> tuple[Window, tuple[Guide, ...]]:
        """Read a window as a block would see it; hole values are 0."""
        state = np.asarray(self.state[(slice(None), *box.slices)])
        stored = self.source.read(box)[list(self.channels)]
        valid = np.broadcast_to(state == KEEP, stored.shape)
        window = Window(
            values=centred(stored, self.values.centre, valid),
            valid=valid,
            hole=np.broadcast_to(state == FILL, stored.shape),
            spacing=self.spacing,
        )
        return window, tuple(read_guide(s, m, box) for s, m in self.guides)


def survey(job: Job) -> Survey:
    """Look at the image of a job and return its plan.

    Raises:
        SourceError: the image, a mask or a guide cannot be used.
        ConfigError: the config asks for what this image cannot have.
        PlanRefused: nothing is observed, or the work does not fit the memory or disk.
    """
    clock = _Clock()
    with threadpool_limits(limits=1):
        scene, notices = _open_scene(job, clock)
        if scene is None or scene.states.holes == 0:
            return _nothing_to_do(job, notices, clock)
        model, model_ref = find_model(job, scene.source.space.ndim)
        verdict = _self_test(scene, model)
        clock.lap("self-test")
        factor, digest = _coarse_fill(scene, verdict.recipe.fill)
        clock.lap("coarse fill")
        plan = _plan(scene, verdict, model_ref, factor, digest)
        clock.lap("plan")
        touching = _patches_touching_holes(scene)
    return Survey(
        plan=plan,
        verdict=verdict,
        states=scene.states,
        patches_touching_holes=touching,
        model_name=model.name if model else "",
        seconds=clock.seconds,
        notices=tuple(notices),
    )


def find_model(job: Job, ndim: int) -> tuple[Inpainter | None, ModelRef | None]:
    """Open the model a job asks for; without a model section, shipped weights that fit the kind of image.

    Raises:
        ConfigError: unknown kind, missing weights or wrong hash.
        PlanRefused: the device is not there.
    """
    from pipeline.models.base import find_weights

    kind = job.model_kind or "autoencoder"
    if kind in kinds("fills") and kind not in kinds("models"):
        return None, None
    weights: Path | None = None
    if kind not in _FORCED:
        name = job.model_weights
        if name == "auto":
            name = "optical" if ndim == 2 else "t1"
        weights = find_weights(name)
    model: Inpainter = load("models", kind).open_model(weights, ndim=ndim, device=job.device, options=job.model_options)
    ref = ModelRef(
        kind=kind,
        weights=str(weights) if weights else None,
        sha256=model.sha256,
        options=job.model_options,
        device=job.device,
    )
    return model, ref


def default_fills(ndim: int, spacing: tuple[float, ...]) -> list[FillSpec]:
    """Base fills that compete in the self-test, the default first."""
    if ndim == 2:
        return [
            FillSpec("tension", {"t": 0.5}),
            FillSpec("tension", {"t": 0.9}),
            FillSpec("harmonic"),
            FillSpec("nearest"),
        ]
    fills = [FillSpec("tension", {"t": 0.95})]
    if max(spacing) > 1.2 * min(spacing):
        fills.append(FillSpec("tension", {"t": 0.95, "isotropic": True}))
    return [
        *fills,
        FillSpec("harmonic"),
        FillSpec("nearest"),
        FillSpec("through", {"order": "linear"}),
        FillSpec("through", {"order": "cubic"}),
    ]


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def _open_scene(job: Job, clock: _Clock) -> tuple[_Scene | None, list[str]]:
    source = open_source(job.source)
    if job.source.staged:
        clock.lap("stage")
    space = source.space
    lattice = _lattice(job, space.shape)
    fixed = tuple(getattr(source, "fixed_channels", ()))
    channels = tuple(c for c in range(source.n_channels) if c not in fixed)
    if not channels:
        raise ConfigError(f"{source.paths[0]}: no band to restore, only alpha")
    mask = job.open_mask(source)
    states, state = scan_states(source, mask, channels, job.workdir)
    notices = list(mask.notices)
    clock.lap("masks")
    if states.holes == 0:
        return None, notices
    if states.kept == 0:
        raise PlanRefused(
            f"{source.paths[0]}: the masks cover everything that is not nodata ({states.holes} pixels); nothing "
            "observed is left to restore from. Check the mask's classes, `invert` and `buffer`"
        )
    values = scan_values(source, state, channels)
    if job.model_kind == "constant":
        # its number is in data units
        values = replace(values, centre=(0.0,) * len(channels))
    guides = tuple(_open_guide(job, guide, source) for guide in job.guides)
    spacing = space.spacing if space.kind == "volume" else (1.0,) * space.ndim
    clock.lap("statistics")
    scene = _Scene(
        job=job,
        source=source,
        guides=guides,
        channels=channels,
        state=state,
        states=states,
        values=values,
        lattice=lattice,
        spacing=spacing,
    )
    return scene, notices


def _open_guide(job: Job, guide: GuideRef, target: Source) -> tuple[Source, Mask]:
    source = open_source(guide.source)
    difference = target.space.mismatch(source.space)
    if difference and not guide.source.resample:
        raise ConfigError(
            f"{guide.role} {source.paths[0]} lies on another grid than {target.paths[0]}: {difference}\n"
            f"  image:     {target.space.describe()}\n  {guide.role}: {source.space.describe()}\n"
            "Bring it onto the image's grid, or set `resample: true` on this entry"
        )
    if guide.source.resample:
        from pipeline.formats._resample import resampled

        source = resampled(source, target.space)
    return source, open_guide_mask(guide.masks, source, guide.base)


def _lattice(job: Job, shape: tuple[int, ...]) -> Lattice:
    ndim = len(shape)
    patch = job.patch or ((256, 256) if ndim == 2 else (64, 64, 64))
    overlap = job.overlap or tuple(p // 4 for p in patch)
    if len(patch) != ndim or len(overlap) != ndim:
        raise ConfigError(
            f"patch size {patch} and overlap {overlap} must have {ndim} numbers for an image of shape {shape}"
        )
    try:
        return Lattice(shape=shape, patch=patch, overlap=overlap)
    except ValueError as error:
        raise ConfigError(f"patch: {error}") from error


def _draft(scene: _Scene) -> Recipe:
    values = scene.values
    spread = values.spread
    margin = 0.05 * spread
    centre = np.asarray(values.centre)
    floor = np.maximum(0.01 * spread, values.quantum * 12**-0.5)
    floor = np.maximum(floor, np.finfo(np.float32).tiny * 1e6)
    fills = default_fills(scene.source.space.ndim, scene.spacing)
    kind = scene.job.model_kind
    fill = FillSpec(STORED) if kind == "identity" else fills[0]
    if kind in kinds("fills") and kind not in kinds("models"):
        fill = FillSpec(str(kind), scene.job.model_options)
    return Recipe(
        fill=fill,
        floor=tuple(float(v) for v in floor),
        low=tuple(float(v) for v in np.clip(values.low - margin - centre, -_WIDEST, _WIDEST)),
        high=tuple(float(v) for v in np.clip(values.high + margin - centre, -_WIDEST, _WIDEST)),
        ridges=(None,) * len(scene.guides),
        reference_weights=(0.0,) * len(scene.guides),
    )


def _self_test(scene: _Scene, model: Inpainter | None) -> Verdict:
    draft = _draft(scene)
    kind = scene.job.model_kind
    if kind in _FORCED:
        wide = replace(draft, network_weight=1.0, low=(-_WIDEST,) * len(draft.low), high=(_WIDEST,) * len(draft.high))
        return Verdict(recipe=wide, note=f"model {kind}: no self-test")
    guides = [
        FittedGuide(label=f"{ref.role} {k} ({ref.label})", ridge=ridge)
        for k, (ref, ridge) in enumerate(zip(scene.job.guides, _ridges(scene), strict=True))
    ]
    rng = np.random.default_rng(scene.job.seed)
    tests, patterns = _choose_windows(scene, rng)
    placements = place(scene.window, tests, [_pattern(scene, b) for b in patterns], scene.lattice.patch, scene.job.seed)
    fills = default_fills(scene.source.space.ndim, scene.spacing)
    forced = kind in kinds("fills")
    if forced:
        # the user chose the fill: the others are only measured beside it
        fills = [draft.fill, *(f for f in fills if f.label != draft.fill.label)]
    return judge(placements, fills, guides, model, draft, scene.values.spread, forced=forced)


def _choose_windows(scene: _Scene, rng: np.random.Generator) -> tuple[list[Box], list[Box]]:
    """Return windows to test in (much observed, holes near) and windows to take hole shapes from."""
    shape, patch = scene.source.space.shape, scene.lattice.patch
    size = tuple(min(p, n) for p, n in zip(patch, shape, strict=True))
    starts = [sorted({*range(0, n - s + 1, max(1, s // 2)), n - s}) for n, s in zip(shape, size, strict=True)]
    grid = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, len(shape))
    if len(grid) > 4096:
        grid = grid[np.sort(rng.choice(len(grid), 4096, replace=False))]
    cell = scene.states.cell
    boxes = [Box(tuple(int(v) for v in g), tuple(int(v) + s for v, s in zip(g, size, strict=True))) for g in grid]
    cuts = [tuple(slice(a // cell, -(-b // cell)) for a, b in zip(x.start, x.stop, strict=True)) for x in boxes]
    holes = np.asarray([scene.states.hole_cells[c].sum() for c in cuts], dtype=np.float64)
    kept = np.asarray([scene.states.kept_cells[c].sum() for c in cuts], dtype=np.float64)
    near = kept * (1.0 + 3.0 * (holes > 0))
    tests = _draw(boxes, near, _PLACEMENTS, rng)
    # an image of one or two windows is tested several times with other hole positions
    tests = [tests[i % len(tests)] for i in range(_PLACEMENTS)] if tests else []
    return tests, _draw(boxes, holes, 2 * _PLACEMENTS, rng)


def _draw(boxes: Sequence[Box], weight: NDArray[np.float64], n: int, rng: np.random.Generator) -> list[Box]:
    usable = int((weight > 0).sum())
    if not usable:
        return []
    chosen = rng.choice(len(boxes), size=min(n, usable), replace=False, p=weight / weight.sum())
    return [boxes[i] for i in sorted(chosen)]


def _pattern(scene: _Scene, box: Box) -> NDArray[np.bool_]:
    planes: NDArray[np.bool_] = np.asarray(scene.state[(slice(None), *box.slices)]) == FILL
    # a channel without holes would hide nothing
    if planes.shape[0] == 1:
        return planes
    with_holes = np.asarray(planes.any(axis=tuple(range(1, planes.ndim))))
    return np.asarray(planes[with_holes])


def _ridges(scene: _Scene) -> list[Ridge | None]:
    """Fit the global map of every guide on a regular sample of pixels observed in both images."""
    if not scene.guides:
        return []
    shape = scene.source.space.shape
    target: list[NDArray[np.float32]] = []
    guides: list[list[NDArray[np.float32]]] = [[] for _ in scene.guides]
    both: list[list[NDArray[np.bool_]]] = [[] for _ in scene.guides]
    step = max(1, int((math.prod(shape) / (2 * _RIDGE_SAMPLES)) ** (1 / len(shape))))
    for box in Box.whole(shape).tiles((512,) * 2 if len(shape) == 2 else (64,) * 3):
        window, seen = scene.window(box)
        grid = (slice(None), *(slice((-a) % step, None, step) for a in box.start))
        valid = np.asarray(window.valid[grid].all(axis=0))
        target.append(window.values[grid][:, valid].T)
        for k, guide in enumerate(seen):
            guides[k].append(guide.values[grid][:, valid].T)
            both[k].append(np.asarray(guide.valid[grid].all(axis=0))[valid])
    everything = np.concatenate(target)
    result: list[Ridge | None] = []
    for k in range(len(scene.guides)):
        use = np.concatenate(both[k])
        enough = int(use.sum()) >= 10 * (guides[k][0].shape[1] + 1)
        result.append(fit_ridge(everything[use], np.concatenate(guides[k])[use]) if enough else None)
    return result


def _coarse_fill(scene: _Scene, fill: FillSpec) -> tuple[int, str]:
    """Fill the whole image at a bounded size and store it; returns the cell size and the hash of the array.

    At cell size 1 this is the base fill itself, exact and without seams; else patches start from it.
    """
    job, ndim = scene.job, scene.source.space.ndim
    if fill.kind == STORED:
        np.save(job.workdir / GUESS, np.zeros((len(scene.channels),) + (1,) * ndim, dtype=np.float32))
        return max(scene.source.space.shape), ""
    n_values = len(scene.channels) * math.prod(scene.source.space.shape)
    factor = 1
    while n_values / factor**ndim > _MAX_COARSE_VALUES or scene.states.holes / factor**ndim > _MAX_UNKNOWNS:
        factor += 1
    mean, valid, usable = coarse_values(scene.source, scene.state, scene.channels, scene.values.centre, factor)
    window = Window(values=mean, valid=valid, hole=usable & ~valid, spacing=scene.spacing)
    spec = fill if factor == 1 else default_fills(ndim, scene.spacing)[0]
    guess = spec(window)
    path = job.workdir / GUESS
    np.save(path, guess)
    return factor, hashlib.sha256(guess.tobytes()).hexdigest()


def _plan(scene: _Scene, verdict: Verdict, model: ModelRef | None, factor: int, digest: str) -> Plan:
    job, source = scene.job, scene.source
    channels = scene.channels
    nodata = tuple(source.nodata[c] for c in channels)
    plan = Plan(
        workdir=str(job.workdir),
        source=job.source,
        guides=job.guides,
        model=model,
        recipe=verdict.recipe,
        space=source.space,
        channels=channels,
        n_state=scene.states.n_state,
        dtype=source.dtype.newbyteorder("=").str,
        nodata=nodata,
        refused=_refused(job, source, channels, nodata),
        centre=scene.values.centre,
        spread=tuple(float(v) for v in scene.values.spread),
        refuse_above=job.refuse_above,
        lattice=scene.lattice,
        spacing=scene.spacing,
        guess_factor=factor,
        block=job.block or scene.lattice.patch,
        batch=job.batch,
        survey_sha256=digest,
        config=job.config,
    )
    block = job.block or auto_block(plan, source.n_channels, job.memory_bytes)
    plan = replace(plan, block=block)
    check_fits(plan, source.n_channels, job.memory_bytes)
    return replace(plan, blocks=_blocks(scene, plan))


def _refused(
    job: Job, source: Source, channels: tuple[int, ...], nodata: tuple[float | None, ...]
) -> tuple[float | None, ...]:
    if job.refuse_above is None:
        return (None,) * len(channels)
    if source.dtype.kind == "f":
        return tuple(float("nan") if n is None else n for n in nodata)
    if any(n is None for n in nodata):
        raise ConfigError(
            f"output.refuse_above needs a nodata value for the refused pixels, {source.paths[0]} ({source.dtype}) "
            "has none: set input.nodata"
        )
    return nodata


def _blocks(scene: _Scene, plan: Plan) -> tuple[tuple[int, ...], ...]:
    rows = []
    for box in Box.whole(plan.space.shape).tiles(plan.block):
        hole = np.asarray(np.asarray(scene.state[(slice(None), *box.slices)]) == FILL)
        n_holes = int(hole.sum()) * (len(plan.channels) // plan.n_state)
        if n_holes:
            n_patches = sum(1 for _ in patches_with_holes(plan.lattice, box, hole))
            index = tuple(a // n for a, n in zip(box.start, plan.block, strict=True))
            rows.append((*index, n_holes, n_patches))
    return tuple(rows)


def _patches_touching_holes(scene: _Scene) -> int:
    """Count the patches of the whole lattice that touch a hole: what one block the size of the image would run."""
    lattice = scene.lattice
    touched = np.zeros(lattice.counts, dtype=np.bool_)
    for box in Box.whole(lattice.shape).tiles(scene.state.chunks[1:]):
        hole = np.asarray(np.asarray(scene.state[(slice(None), *box.slices)]) == FILL)
        for index in patches_with_holes(lattice, box, hole):
            touched[index] = True
    return int(touched.sum())


def _nothing_to_do(job: Job, notices: list[str], clock: _Clock) -> Survey:
    source = open_source(job.source)
    ndim, shape = source.space.ndim, source.space.shape
    fixed = tuple(getattr(source, "fixed_channels", ()))
    channels = tuple(c for c in range(source.n_channels) if c not in fixed)
    zeros = (0.0,) * len(channels)
    state = zarr.open_array(job.workdir / "state.zarr", mode="r")
    plan = Plan(
        workdir=str(job.workdir),
        source=job.source,
        recipe=Recipe(fill=default_fills(ndim, (1.0,) * ndim)[0], floor=zeros, low=zeros, high=zeros),
        space=source.space,
        channels=channels,
        n_state=state.shape[0],
        dtype=source.dtype.newbyteorder("=").str,
        nodata=tuple(source.nodata[c] for c in channels),
        refused=(None,) * len(channels),
        centre=zeros,
        spread=zeros,
        lattice=_lattice(job, shape),
        spacing=(1.0,) * ndim,
        guess_factor=1,
        block=_lattice(job, shape).patch,
        config=job.config,
    )
    np.save(job.workdir / GUESS, np.zeros((1,) * (ndim + 1), dtype=np.float32))
    empty = np.zeros((0,), dtype=np.int64)
    states = StateScan(n_state=1, holes=0, kept=0, never=0, cell=1, hole_cells=empty, kept_cells=empty)
    return Survey(
        plan=plan,
        verdict=None,
        states=states,
        patches_touching_holes=0,
        model_name="",
        seconds=clock.seconds,
        notices=(*notices, "nothing to restore: the masks mark no pixel"),
    )
