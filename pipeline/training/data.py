"""Tiles of clean pixels, holes cut into them, exact base fills: computed once, kept as arrays on disk."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.fills.base import FillSpec, Window
from pipeline.formats import open_any
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks.base import KEEP
from pipeline.quality.normalise import depth_channel, local_statistics, network_input
from pipeline.synthetic.brain import brain_volume
from pipeline.synthetic.optical import optical_scene
from pipeline.training.config import Images, Synthetic, TrainingConfig
from pipeline.training.masks import sample_mask

Array = NDArray[np.float32]

NORMALISED, VALID, DEPTH, TARGET, HOLE, SCALE = range(6)
"""Planes of a stored sample; the first three are the network's input, all in normalised units but SCALE,
which is the local scale over the robust range of the channel."""
_OBSERVED_SHARE = 0.9
_LEAST_ERROR = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A piece of a scene: values and observed pixels `(c, *tile)`, robust range `(c,)`, spacing."""

    scene: str
    values: Array
    observed: NDArray[np.bool_]
    extent: Array
    spacing: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Where one sample lies and what it is: file of planes `(n, 6, *tile)` float16, row, scene, family."""

    path: Path
    row: int
    scene: str
    family: str

    def planes(self) -> NDArray[np.float16]:
        """Return `(6, *tile)`, mapped from disk."""
        stack: NDArray[np.float16] = np.load(self.path, mmap_mode="r")
        return np.asarray(stack[self.row])


def samples(config: TrainingConfig, config_path: Path) -> tuple[list[Sample], list[Sample]]:
    """Return training and validation samples, computing those that are not in the cache.

    Raises:
        ConfigError: no scene has a clean tile.
    """
    train = [s for part in config.train for s in _cached(part, config, config_path)]
    if not train:
        raise ConfigError(
            f"{config_path}: no clean tile of {config.tile} pixels found; "
            "set a smaller tile and patch, or name other files"
        )
    if config.validate_on:
        return train, [s for part in config.validate_on for s in _cached(part, config, config_path)]
    scenes = sorted({s.scene for s in train})
    if len(scenes) == 1:
        cut_at = len(train) - max(1, len(train) // 5)
        return train[:cut_at], train[cut_at:]
    held = set(scenes[::5])
    return [s for s in train if s.scene not in held], [s for s in train if s.scene in held]


def _cached(part: Images | Synthetic, config: TrainingConfig, config_path: Path) -> list[Sample]:
    """Return the samples of one entry of the config; its index is written when all its arrays are."""
    digest = _digest(part, config, config_path)
    folder = Path(config.cache) / digest
    index = folder / "index.json"
    if not index.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        entries: list[dict[str, Any]] = []
        for number, tile in enumerate(tiles(part, config, config_path)):
            rng = np.random.default_rng([config.seed, number, int(digest[:8], 16)])
            entries.extend(_store(tile, config, folder / f"tile_{number:06d}.npy", rng, part.repeats))
        index.write_text(json.dumps(entries), encoding="utf-8")
    rows = json.loads(index.read_text(encoding="utf-8"))
    return [Sample(path=folder / r["file"], row=r["row"], scene=r["scene"], family=r["family"]) for r in rows]


def _digest(part: Images | Synthetic, config: TrainingConfig, config_path: Path) -> str:
    """Hash everything the stored samples of one entry depend on; files count by size and time of change."""
    keys = {"ndim", "base_fill", "masks", "tile", "patch", "masks_per_tile", "bands_per_mask", "seed"}
    facts: list[Any] = [config.model_dump(mode="json", include=keys), part.model_dump(mode="json")]
    if isinstance(part, Images):
        stats = [(name, Path(name).stat()) for name in _files(part, config_path)]
        facts.append([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _store(
    tile: Tile, config: TrainingConfig, path: Path, rng: np.random.Generator, repeats: int
) -> list[dict[str, Any]]:
    planes: list[NDArray[np.float16]] = []
    entries: list[dict[str, Any]] = []
    for _ in range(config.masks_per_tile * repeats):
        family, made = cut(tile, config, rng)
        for sample in made:
            entries.append({"file": path.name, "row": len(planes), "scene": tile.scene, "family": family})
            planes.append(sample)
    if planes:
        np.save(path, np.stack(planes))
    return entries


def cut(tile: Tile, config: TrainingConfig, rng: np.random.Generator) -> tuple[str, list[NDArray[np.float16]]]:
    """Cut one hole into a tile, fill it, and return the family and the planes of a few bands."""
    family, mask = sample_mask(rng, tile.values.shape[1:], config.shares)
    count = min(config.bands_per_mask, len(tile.values))
    bands = np.sort(rng.choice(len(tile.values), count, replace=False))
    truth, observed = tile.values[bands], tile.observed[bands]
    hole = observed & mask
    valid = observed & ~mask
    if not hole.any():
        return family, []
    window = Window(
        values=np.where(valid, truth, np.float32(0)),
        valid=valid,
        hole=hole,
        spacing=tile.spacing,
        open_edges=((False, False),) * mask.ndim,
    )
    filled = _base_fill(config, family, rng)(window)
    extent = tile.extent[bands]
    made = [
        _planes(truth[i], filled[i], valid[i], hole[i], (float(extent[i]), tile.spacing))
        for i in range(count)
        if hole[i].any()
    ]
    return family, [planes for planes in made if _worth_learning(planes)]


_TENSION = {"points": (0.5, 0.95), "stripes": (0.5, 0.95)}
_AREA_TENSION = (0.3, 0.8)


def _base_fill(config: TrainingConfig, family: str, rng: np.random.Generator) -> FillSpec:
    """Return the fill to correct; its tension in 2-D is drawn anew, as the self-test picks one for each image."""
    options = dict(config.base_fill)
    kind = str(options.pop("kind"))
    if kind == "tension" and config.ndim == 2:
        options["t"] = float(rng.uniform(*_TENSION.get(family, _AREA_TENSION)))
    return FillSpec(kind, options)


def _worth_learning(planes: NDArray[np.float16]) -> bool:
    """Say whether the base fill left an error; in empty background there is nothing to correct."""
    missed = np.abs(planes[TARGET][planes[HOLE] > 0], dtype=np.float32)
    return bool(missed.mean() > _LEAST_ERROR)


def _planes(
    truth: Array,
    filled: Array,
    valid: NDArray[np.bool_],
    hole: NDArray[np.bool_],
    scaling: tuple[float, tuple[float, ...]],
) -> NDArray[np.float16]:
    extent, spacing = scaling
    seen = np.where(valid | hole, filled, filled[valid].mean() if valid.any() else np.float32(0))
    local = local_statistics(seen, valid, 0.01 * extent)
    inputs = network_input(seen, valid, local, depth_channel(valid, spacing))
    target = np.where(hole, (truth - filled) / local.scale, 0)
    rest = np.stack([target, hole, local.scale / extent])
    return np.asarray(np.clip(np.concatenate([inputs, rest]), -6e4, 6e4), dtype=np.float16)


def tiles(part: Images | Synthetic, config: TrainingConfig, config_path: Path) -> Iterator[Tile]:
    """Yield the tiles of one entry of the config, scene by scene."""
    if isinstance(part, Synthetic):
        yield from _synthetic_tiles(part, config)
        return
    for path in _files(part, config_path):
        yield from _file_tiles(path, part, config)


def _files(part: Images, config_path: Path) -> list[str]:
    names: list[str] = []
    for pattern in part.paths:
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute patterns
        if not found:
            raise ConfigError(f"{config_path}: '{pattern}' matches no file; correct the path")
        names.extend(found)
    return names


def _synthetic_tiles(part: Synthetic, config: TrainingConfig) -> Iterator[Tile]:
    for seed in range(part.seed, part.seed + part.count):
        scene = f"synthetic-{part.synthetic}-{seed}"
        if part.synthetic == "optical":
            data = optical_scene((config.tile, config.tile), seed, 1).truths[0].astype(np.float32)
        else:
            data = brain_volume(seed=seed, contrast=part.contrast).truth[None].astype(np.float32)
        cuts = _windows(data.shape[1:], config, None)
        rng = np.random.default_rng([seed, 5])
        pieces = [data[(slice(None), *cuts[i].slices)] for i in rng.permutation(len(cuts))]
        lively = [p for p in pieces if p.std() > 0.15 * (data.max() - data.min())] or pieces
        chosen = [(p, np.ones(p.shape, dtype=bool)) for p in lively[: part.tiles]]
        yield from _finished(scene, chosen, (1.0,) * (data.ndim - 1), 0.0)


def _file_tiles(path: str, part: Images, config: TrainingConfig) -> Iterator[Tile]:
    source = open_any(path, bands=part.bands, nodata=part.nodata)
    if source.space.ndim != config.ndim:
        raise ConfigError(f"{path}: has {source.space.ndim} dimensions, the config says ndim: {config.ndim}")
    masks = []
    for entry in part.masks:
        module = registry.load("masks", str(entry.get("kind")))
        masks.append(module.open_mask(module.Options(**entry), source, lambda text: text))
    windows = _windows(source.space.shape, config, part)
    rng = np.random.default_rng([config.seed, len(windows), 7])
    chosen: list[tuple[Array, NDArray[np.bool_]]] = []
    for i in rng.permutation(len(windows)):
        values, observed = _read(source, windows[i], masks, part.zoom)
        if observed.mean() >= _OBSERVED_SHARE and len(chosen) < part.tiles:
            chosen.append((values, observed))
    source.close()
    scene = path if part.zoom == 1 else f"{path} 1:{part.zoom}"
    yield from _finished(Path(scene).name, chosen, source.space.spacing, part.contrast)


def _read(source: Source, box: Box, masks: Sequence[Any], zoom: int) -> tuple[Array, NDArray[np.bool_]]:
    stored = source.read(box)
    observed = np.broadcast_to(~source.never(box), stored.shape) & np.isfinite(stored)
    for mask in masks:
        observed = observed & (mask.read(box) == KEEP)
    values = np.where(observed, stored, 0).astype(np.float32)
    if zoom == 1:
        return values, observed
    spatial = [n // zoom for n in values.shape[1:]]
    split = (len(values), *(size for n in spatial for size in (n, zoom)))
    axes = tuple(range(2, 2 * len(spatial) + 1, 2))
    trimmed = (slice(None), *(slice(n * zoom) for n in spatial))
    return (
        values[trimmed].reshape(split).mean(axis=axes),
        observed[trimmed].reshape(split).all(axis=axes),
    )


def _windows(shape: Sequence[int], config: TrainingConfig, part: Images | None) -> list[Box]:
    """Return windows of one tile, evenly spread over the region; smaller only where the image is."""
    ndim = len(shape)
    region = (part.region if part else None) or (0.0,) * ndim + (1.0,) * ndim
    size = config.tile * (part.zoom if part else 1)
    starts, extents = [], []
    for axis, n in enumerate(shape):
        low, high = round(region[axis] * n), round(region[ndim + axis] * n)
        extent = min(size, high - low)
        count = max(1, -(-(high - low) // size))
        starts.append(np.unique(np.linspace(low, high - extent, count).astype(int)))
        extents.append(extent)
    if min(extents) < config.patch * (part.zoom if part else 1):
        return []
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, ndim)
    return [Box(tuple(int(v) for v in c), tuple(int(v) + e for v, e in zip(c, extents, strict=True))) for c in corners]


def _finished(
    scene: str,
    pieces: Sequence[tuple[Array, NDArray[np.bool_]]],
    spacing: tuple[float, ...],
    contrast: float,
) -> Iterator[Tile]:
    """Add the robust range of the scene's channels and drop tiles in which nothing is to be seen."""
    if not pieces:
        return
    channels = range(len(pieces[0][0]))
    pooled = [np.concatenate([v[c][o[c]][::5] for v, o in pieces]) for c in channels]
    low, high = np.array([np.percentile(p, [1, 99]) for p in pooled], dtype=np.float32).T
    extent = np.maximum(high - low, np.float32(1e-6))
    for values, observed in pieces:
        deviation = np.array([v[o].std() for v, o in zip(values, observed, strict=True)])
        if (deviation / extent).mean() >= contrast:
            yield Tile(scene=scene, values=values, observed=observed, extent=extent, spacing=spacing)
