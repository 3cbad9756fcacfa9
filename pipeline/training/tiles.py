"""Clean pieces of scenes to cut holes into: from files, and from synthetic scenes."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.formats import open_any
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks.base import FILL, KEEP, NEVER
from pipeline.synthetic.body import body_volume
from pipeline.synthetic.brain import brain_volume
from pipeline.synthetic.optical import varied_scene
from pipeline.training.config import Images, Synthetic, TrainingConfig, resolve

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Pieces = list[tuple[Box, Array, Mask, Mask]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A piece of a scene.

    Attributes:
        scene: folder and name of the file, or name of the synthetic scene.
        box: where it lies in the scene, in pixels of the scene whatever the zoom.
        values: float32 `(c, *tile)`.
        observed: bool `(c, *tile)`.
        hidden: bool `(c, *tile)`, holes of the image itself: to be filled as in a run, but nobody knows with what.
        extent: float32 `(c,)`, robust range of the scene's channels.
        spacing: step per spatial axis.
    """

    scene: str
    box: Box
    values: Array
    observed: Mask
    hidden: Mask
    extent: Array
    spacing: tuple[float, ...]

    def seed(self) -> list[int]:
        """Return integers that stand for the place of the tile and for nothing else."""
        name = int.from_bytes(hashlib.sha256(self.scene.encode()).digest()[:8])
        return [name, *self.box.start, *self.box.stop]


def tiles(part: Images | Synthetic, config: TrainingConfig, config_path: Path) -> Iterator[Tile]:
    """Yield the tiles of one entry of the config, scene by scene.

    Raises:
        ConfigError: a pattern matches no file, a file has other dimensions, or `zoom` or `region` has.
        SourceError: a file cannot be read.
    """
    if isinstance(part, Synthetic):
        yield from _synthetic_tiles(part, config)
        return
    for path in files(part, config_path):
        yield from _file_tiles(path, part, config, config_path)


def files(part: Images, config_path: Path) -> list[str]:
    """Return the files of an entry, sorted within each pattern.

    Raises:
        ConfigError: a pattern matches no file.
    """
    names: list[str] = []
    for pattern in part.paths:
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute patterns
        if not found:
            raise ConfigError(f"{config_path}: '{pattern}' matches no file; correct the path")
        names.extend(found)
    return names


def _synthetic_tiles(part: Synthetic, config: TrainingConfig) -> Iterator[Tile]:
    for seed in range(part.seed, part.seed + part.count):
        if part.synthetic == "optical":
            data = varied_scene((config.tile, config.tile), seed)
        elif part.synthetic == "body":
            data = body_volume(seed=seed).astype(np.float32)[None]
        else:
            data = brain_volume(seed=seed, contrast=part.contrast).truth[None].astype(np.float32)
        if data.ndim - 1 != config.ndim:
            raise ConfigError(f"synthetic: {part.synthetic} has {data.ndim - 1} dimensions, not ndim: {config.ndim}")
        windows = _windows(data.shape[1:], config, (1,) * config.ndim, None)
        order = np.random.default_rng([seed, 5]).permutation(len(windows))
        pieces = [(windows[i], data[(slice(None), *windows[i].slices)]) for i in order]
        lively = [p for p in pieces if p[1].std() > 0.15 * np.ptp(data)] or pieces
        chosen = [
            (box, values, np.ones(values.shape, dtype=bool), np.zeros(values.shape, dtype=bool))
            for box, values in lively[: part.tiles]
        ]
        yield from _finished(f"synthetic-{part.synthetic}-{seed}", chosen, (1.0,) * config.ndim, 0.0)


def _file_tiles(path: str, part: Images, config: TrainingConfig, config_path: Path) -> Iterator[Tile]:
    source = open_any(path, bands=part.bands, nodata=part.nodata)
    ndim = source.space.ndim
    if ndim != config.ndim:
        raise ConfigError(f"{path}: has {ndim} dimensions, the config says ndim: {config.ndim}")
    zoom = (part.zoom,) * ndim if isinstance(part.zoom, int) else part.zoom
    if len(zoom) != ndim or min(zoom) < 1:
        raise ConfigError(f"zoom {list(zoom)}: must be 1 or more for each of the {ndim} dimensions of {path}")
    _require_region(part.region, ndim, path)
    masks = []
    for entry in part.masks:
        module = registry.load("masks", str(entry.get("kind")))
        masks.append(module.open_mask(module.Options(**entry), source, lambda text: resolve(text, config_path)))
    scene = f"{Path(path).parent.name}/{Path(path).name}"
    windows = _windows(source.space.shape, config, zoom, part.region)
    rng = np.random.default_rng([config.seed, int.from_bytes(hashlib.sha256(scene.encode()).digest()[:8])])
    chosen: Pieces = []
    for i in rng.permutation(len(windows)):
        if len(chosen) == part.tiles:
            break
        values, observed, hidden = _read(source, windows[i], masks, zoom)
        if observed.mean() >= part.observed:
            chosen.append((windows[i], values, observed, hidden))
    source.close()
    spacing = tuple(s * z for s, z in zip(source.space.spacing, zoom, strict=True))
    yield from _finished(scene, chosen, spacing, part.contrast)


def _require_region(region: tuple[float, ...] | None, ndim: int, path: str) -> None:
    """Check that a region has two corners of the image, the lower one first.

    Raises:
        ConfigError: it has not.
    """
    if region is None:
        return
    corners = tuple(zip(region[:ndim], region[ndim:], strict=False))
    if len(region) != 2 * ndim or not all(0 <= low < high <= 1 for low, high in corners):
        raise ConfigError(
            f"region {list(region)}: must be {2 * ndim} fractions of {path}, the low corner before the high one, such "
            f"as {[0] * ndim + [0.5] * ndim}"
        )


def _read(source: Source, box: Box, masks: Sequence[Any], zoom: tuple[int, ...]) -> tuple[Array, Mask, Mask]:
    """Return values, observed pixels and holes of a window; a coarse pixel is observed if all its parts are."""
    stored = source.read(box)
    observed = np.broadcast_to(~source.never(box), stored.shape) & np.isfinite(stored)
    # nodata may be a hole, too: a `nodata` mask says so
    states = [np.broadcast_to(mask.read(box), stored.shape) for mask in masks]
    hidden = np.zeros(stored.shape, dtype=bool)
    for state in states:
        observed, hidden = observed & (state == KEEP), hidden | (state == FILL)
    for state in states:
        hidden = hidden & (state != NEVER)
    known = observed | hidden
    values = np.where(observed, stored, 0).astype(np.float32)
    if max(zoom) == 1:
        return values, observed, hidden
    cells = [n // z for n, z in zip(values.shape[1:], zoom, strict=True)]
    split = (len(values), *(size for cell in zip(cells, zoom, strict=True) for size in cell))
    axes = tuple(range(2, 2 * len(cells) + 1, 2))
    trimmed = (slice(None), *(slice(n * z) for n, z in zip(cells, zoom, strict=True)))
    whole = [flags[trimmed].reshape(split).all(axis=axes) for flags in (observed, known)]
    return values[trimmed].reshape(split).mean(axis=axes), whole[0], whole[1] & ~whole[0]


def _windows(
    shape: Sequence[int], config: TrainingConfig, zoom: tuple[int, ...], region: tuple[float, ...] | None
) -> list[Box]:
    """Return windows of one tile, evenly spread over the region; smaller only where the image is.

    Their number is rounded, so that neighbours overlap by little and few pixels are left out.
    """
    ndim = len(shape)
    region = region or (0.0,) * ndim + (1.0,) * ndim
    starts, extents = [], []
    for axis, n in enumerate(shape):
        low, high = round(region[axis] * n), round(region[ndim + axis] * n)
        size = config.tile * zoom[axis]
        extent = min(size, high - low)
        if extent < config.patch * zoom[axis]:
            return []
        count = max(1, round((high - low) / size))
        starts.append(np.unique(np.linspace(low, high - extent, count).astype(int)))
        extents.append(extent)
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, ndim)
    return [Box(tuple(int(v) for v in c), tuple(int(v) + e for v, e in zip(c, extents, strict=True))) for c in corners]


def _finished(scene: str, pieces: Pieces, spacing: tuple[float, ...], contrast: float) -> Iterator[Tile]:
    """Add the robust range of the scene's channels and drop tiles in which nothing is to be seen."""
    if not pieces:
        return
    channels = range(len(pieces[0][1]))
    pooled = [np.concatenate([v[c][o[c]][::5] for _, v, o, _ in pieces]) for c in channels]
    low, high = np.array([np.percentile(p, [1, 99]) for p in pooled], dtype=np.float32).T
    extent = np.maximum(high - low, np.float32(1e-6))
    for box, values, observed, hidden in pieces:
        deviation = np.array([v[o].std() for v, o in zip(values, observed, strict=True)])
        if (deviation / extent).mean() >= contrast:
            yield Tile(
                scene=scene,
                box=box,
                values=values,
                observed=observed,
                hidden=hidden,
                extent=extent,
                spacing=spacing,
            )
