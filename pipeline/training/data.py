"""Holes cut into tiles, exact base fills, what the network should have said: computed once, kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline import __version__
from pipeline.errors import ConfigError
from pipeline.fills.base import FillSpec, Window
from pipeline.geometry.box import Box
from pipeline.numerics.statistics import depth_channel, local_statistics, network_input
from pipeline.system.files import replacing, write_text
from pipeline.system.room import explain_full_disk
from pipeline.system.signals import NEVER, Stop
from pipeline.training.config import Augment, Images, Synthetic, TrainingConfig, resolve
from pipeline.training.log import Pace
from pipeline.training.masks import sample_mask
from pipeline.training.tiles import Array, Tile, files, tiles
from pipeline.training.workers import mapped

log = logging.getLogger(__name__)

NORMALISED, VALID, DEPTH, TARGET, HOLE, SCALE, TAUGHT = range(7)
"""Planes of a sample; the first three are the network's input, all in normalised units but SCALE, which is the local
scale over the robust range of the channel. TAUGHT is what a teacher makes of TARGET, if the config names one."""
_LEAST_ERROR = 0.01
_KRIGED = " kriged"
_THICK = 1.2
"""Ratio of voxel edges above which the self-test also tries the spline that counts length in voxels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Where one sample lies and what it is: file of planes `(n, 6, *tile)` float16, row, scene, place, family.

    `taught` is the file `(n, *tile)` of what a teacher says, None without one.
    """

    path: Path
    row: int
    scene: str
    box: Box
    family: str
    taught: Path | None = None

    def planes(self) -> NDArray[np.float16]:
        """Return `(6, *tile)`, mapped from disk, or `(7, *tile)` with what a teacher says."""
        stack: NDArray[np.float16] = np.load(self.path, mmap_mode="r")
        planes = np.asarray(stack[self.row])
        if self.taught is None:
            return planes
        return np.concatenate([planes, np.load(self.taught, mmap_mode="r")[self.row][None]])


def samples(config: TrainingConfig, config_path: Path, stop: Stop = NEVER) -> tuple[list[Sample], list[Sample]]:
    """Return training and validation samples, computing those that are not in the cache.

    Validation cases depend on the seed, the family and the place of their tile in its scene, on nothing else:
    a cache made anew, other files beside them, or another training set leave them as they are.

    Raises:
        ConfigError: no scene has a clean tile.
        Interrupted: a stop was requested.
        ClusterGone: a process that fills holes died.
    """
    train = [s for part in config.train for s in _cached(part, config, config_path, stop, held=False)]
    if not train:
        raise ConfigError(
            f"{config_path}: no clean tile of {config.tile} pixels found; set a smaller tile and patch, a smaller "
            "`observed` share, or name other files"
        )
    parts = config.validate_on or config.train
    held = [s for part in parts for s in _cached(part, config, config_path, stop, held=True)]
    if not config.validate_on:
        train, held = _split(train, held)
    return train, _balanced(held, config.validation_cases)


def _split(train: list[Sample], held: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Hold out one scene in five; of a single scene, one tile in five and what overlaps it."""
    scenes = sorted({s.scene for s in train})
    if len(scenes) > 1:
        out = set(scenes[::5])
        return [s for s in train if s.scene not in out], [s for s in held if s.scene in out]
    boxes = sorted({s.box for s in train})
    chosen = boxes[::5]
    rest = [s for s in train if all((s.box & box).empty for box in chosen)]
    if rest:
        return rest, [s for s in held if s.box in chosen]
    log.warning("one tile only: validated on other holes in the pixels that are trained on")
    return train, held


def _balanced(held: Sequence[Sample], most: int) -> list[Sample]:
    """Choose evenly over families, and over scenes and tiles within each."""
    families = sorted({s.family for s in held})
    chosen: list[Sample] = []
    for family in families:
        cases = sorted((s for s in held if s.family == family), key=lambda s: (s.scene, s.box, s.row))
        keep = np.linspace(0, len(cases) - 1, min(max(1, most // len(families)), len(cases))).astype(int)
        chosen.extend(cases[i] for i in np.unique(keep))
    return chosen


def _cached(
    part: Images | Synthetic, config: TrainingConfig, config_path: Path, stop: Stop, *, held: bool
) -> list[Sample]:
    """Return the samples of one entry of the config; its index is written when all its arrays are.

    Raises:
        ConfigError: the cache cannot be made there.
    """
    folder = Path(config.cache) / _digest(part, config, config_path, held=held)
    index = folder / "index.json"
    said = (_named(part), "validation" if held else "training")
    rows = _indexed(index)
    if rows is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{config_path}: cache: cannot make {folder} ({error.strerror or error}); name another folder"
            ) from error
        log.info("%s for %s: cutting and filling holes", *said)
        families = (_validated(config) if held else [None] * config.masks_per_tile) * part.repeats
        store = partial(_store, config=config, folder=folder, families=families)
        pace = Pace()
        entries: list[dict[str, Any]] = []
        numbered = enumerate(tiles(part, config, config_path))
        with explain_full_disk(folder):
            for number, stored in enumerate(mapped(store, numbered, config.processes, stop), 1):
                entries.extend(stored)
                if pace.due():
                    log.info("%d tiles", number)
            write_text(index, json.dumps(entries), shared=True)
        rows = entries
    log.info("%s for %s: %d samples", *said, len(rows))
    return [
        Sample(
            path=folder / r["file"],
            row=r["row"],
            scene=r["scene"],
            box=Box(tuple(r["start"]), tuple(r["stop"])),
            family=r["family"],
        )
        for r in rows
    ]


def _indexed(index: Path) -> list[dict[str, Any]] | None:
    """Return what is in the index of a cache; None if it or an array is not there, cut off, or something else."""
    if not index.is_file():
        return None
    try:
        rows: list[dict[str, Any]] = json.loads(index.read_bytes())
        for row in rows:
            Box(tuple(row["start"]), tuple(row["stop"]))
        counts = {str(row["file"]): int(row["row"]) + 1 for row in rows if str(row["scene"]) and str(row["family"])}
        # mapping an array compares its shape with the length of its file
        if all(len(np.load(index.parent / file, mmap_mode="r")) >= count for file, count in counts.items()):
            return rows
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        log.warning("%s: is damaged, and made again", index.parent)
    return None


def _named(part: Images | Synthetic) -> str:
    if isinstance(part, Synthetic):
        return f"synthetic {part.synthetic} x {part.count}"
    more = f" and {len(part.paths) - 1} more" if len(part.paths) > 1 else ""
    return "/".join(Path(part.paths[0]).parts[-2:]) + more


def _digest(part: Images | Synthetic, config: TrainingConfig, config_path: Path, *, held: bool) -> str:
    """Hash everything the stored samples of one entry depend on; files count by size and time of change."""
    keys = {"ndim", "base_fill", "augment", "tile", "patch", "masks_per_tile", "bands_per_mask", "seed"}
    # defaults may change with the version, so what they come to is hashed as well
    resolved = [config.shares, config.tension_ranges, config.kriged, __version__]
    facts: list[Any] = [config.model_dump(mode="json", include=keys), resolved, part.model_dump(mode="json"), held]
    if isinstance(part, Images):
        masks = [resolve(entry["path"], config_path) for entry in part.masks if isinstance(entry.get("path"), str)]
        found = [*files(part, config_path), *(name for name in masks if Path(name).is_file())]
        stats = [(name, Path(name).stat()) for name in found]
        facts.append([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _validated(config: TrainingConfig) -> list[str]:
    return sorted(config.shares) + [f + _KRIGED for f in sorted(config.kriged)]


def _store(
    numbered: tuple[int, Tile], config: TrainingConfig, folder: Path, families: Sequence[str | None]
) -> list[dict[str, Any]]:
    """Cut a hole of each family into a tile, drawn where it is None, and write the samples to a file of the folder."""
    count, tile = numbered
    path = folder / f"tile_{count:06d}.npy"
    planes: list[NDArray[np.float16]] = []
    entries: list[dict[str, Any]] = []
    for number, wanted in enumerate(families):
        rng = np.random.default_rng([config.seed, int(wanted is not None), number, *tile.seed()])
        family, made = cut(tile, config, rng, wanted)
        place = {"scene": tile.scene, "start": tile.box.start, "stop": tile.box.stop, "family": family}
        for sample in made:
            entries.append({"file": path.name, "row": len(planes), **place})
            planes.append(sample)
    if planes:
        with replacing(path, shared=True) as fresh, fresh.open("wb") as file:
            np.save(file, np.stack(planes))
    return entries


def cut(
    tile: Tile, config: TrainingConfig, rng: np.random.Generator, family: str | None = None
) -> tuple[str, list[NDArray[np.float16]]]:
    """Cut one hole into a tile, fill it, and return the family and the planes of a few bands.

    Args:
        tile: clean pixels.
        config: holes, fills and augmentation.
        rng: source of randomness.
        family: hole family of a validation case, which is not augmented and has the middle tension, with ` kriged`
            behind it if kriging fills the hole; without it family, fill and augmentation are drawn.
    """
    held = family is not None
    shares = config.shares if family is None else {family.removesuffix(_KRIGED): 1.0}
    drawn, mask = sample_mask(rng, tile.values.shape[1:], shares)
    family = family or drawn
    count = min(config.bands_per_mask, len(tile.values))
    bands = np.sort(rng.choice(len(tile.values), count, replace=False))
    truth, observed, extent = tile.values[bands], tile.observed[bands], tile.extent[bands]
    unknown = tile.hidden[bands]
    if not held:
        truth = augmented(truth, observed, extent, config.augment, rng)
    hole = observed & mask
    valid = observed & ~mask
    if not hole.any():
        return family, []
    window = Window(
        values=np.where(valid, truth, np.float32(0)),
        valid=valid,
        hole=hole | unknown,
        spacing=tile.spacing,
        open_edges=((False, False),) * mask.ndim,
    )
    filled = _base_fill(config, family, tile.spacing, None if held else rng)(window)
    made = [
        _planes(truth[i], filled[i], (valid[i], hole[i], unknown[i]), (float(extent[i]), tile.spacing))
        for i in range(count)
        if hole[i].any()
    ]
    return family, [planes for planes in made if _worth_learning(planes)]


def _base_fill(
    config: TrainingConfig, family: str, spacing: tuple[float, ...], rng: np.random.Generator | None
) -> FillSpec:
    """Return the fill a self-test might choose: drawn with `rng`, the middle one without."""
    options = dict(config.base_fill)
    kind = str(options.pop("kind"))
    if family.endswith(_KRIGED) or (rng and rng.random() < config.kriged.get(family, 0.0)):
        kind, family = "kriging", family.removesuffix(_KRIGED)
        options = {key: value for key, value in options.items() if key in {"t", "isotropic"}}
    if family in config.tension_ranges:
        low, high = config.tension_ranges[family]
        options["t"] = round(float(rng.uniform(low, high)) if rng else (low + high) / 2, 3)
        if max(spacing) > _THICK * min(spacing):
            options["isotropic"] = rng is None or bool(rng.random() < 0.5)
    return FillSpec(kind, options)


def augmented(
    values: Array, observed: NDArray[np.bool_], extent: Array, how: Augment, rng: np.random.Generator
) -> Array:
    """Change tone, sharpness and noise of a tile at random.

    Args:
        values: float32 `(c, *tile)`.
        observed: bool, the same shape; other pixels keep their value and change no other.
        extent: float32 `(c,)`, robust range of each channel, > 0.
        how: chances and limits.
        rng: source of randomness.
    """
    tone, soft, noisy = rng.random(3) < how.share
    exponent = np.exp(rng.uniform(-how.gamma, how.gamma))
    sigma, level = rng.uniform(0.3, 1.0) * how.blur, rng.uniform(0.1, 1.0) * how.noise
    result = values.copy()
    for c, seen in enumerate(observed):
        if not seen.any():
            continue
        field = values[c]
        if tone:
            low = field[seen].min()
            field = low + extent[c] * (np.maximum(field - low, 0) / extent[c]) ** exponent
        if soft and sigma > 0:
            weight = ndimage.gaussian_filter(seen.astype(np.float32), sigma)
            field = ndimage.gaussian_filter(np.where(seen, field, 0), sigma) / np.maximum(weight, 1e-6)
        if noisy:
            field = field + level * extent[c] * rng.standard_normal(field.shape, dtype=np.float32)
        result[c] = np.where(seen, field, values[c])
    return result


def _worth_learning(planes: NDArray[np.float16]) -> bool:
    """Say whether the base fill left an error; in empty background there is nothing to correct."""
    missed = np.abs(planes[TARGET][planes[HOLE] > 0], dtype=np.float32)
    return bool(missed.mean() > _LEAST_ERROR)


def _planes(
    truth: Array,
    filled: Array,
    states: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]],
    scaling: tuple[float, tuple[float, ...]],
) -> NDArray[np.float16]:
    """Stack a sample from truth and fill `(*tile)`, the valid, cut and unknown pixels, robust range and spacing."""
    (valid, hole, unknown), (extent, spacing) = states, scaling
    seen = np.where(valid | hole | unknown, filled, filled[valid].mean() if valid.any() else np.float32(0))
    local = local_statistics(seen, valid, 0.01 * extent)
    inputs = network_input(seen, valid, local, depth_channel(valid, spacing))
    target = np.where(hole, (truth - filled) / local.scale, 0)
    rest = np.stack([target, hole, local.scale / extent])
    return np.asarray(np.clip(np.concatenate([inputs, rest]), -6e4, 6e4), dtype=np.float16)
