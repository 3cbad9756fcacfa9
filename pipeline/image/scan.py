"""Two bounded passes over an image: where the holes are, and what the observed pixels look like.

Nothing here holds an image: states go to a chunked store, values to a thin regular sample and to coarse cells. The
numbers do not depend on the size of the scan boxes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.image.haze import without_haze
from pipeline.image.lone import LoneEnd, lone_end, piled_ends
from pipeline.image.open import LARGEST, computable, float32_holds
from pipeline.masks.base import FILL, KEEP, NEVER, ComposedMask, Mask, evidence
from pipeline.system.files import remove_made
from pipeline.system.signals import stop_if_asked

_Kind = TypeVar("_Kind", np.uint8, np.bool_)

SCAN_EXTENT = {2: (1024, 1024), 3: (64, 256, 256)}

_SAMPLE = 120_000
_MAX_CELLS = 1 << 20
_ROBUST = (0.01, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateScan:
    """Where the holes are."""

    n_state: int
    """1 if the states are the same in all restored channels, else their number."""
    holes: int
    """Pixels to restore, over the `n_state` planes; as `kept` and `never` are counted."""
    kept: int
    """Observed pixels that are evidence: hazy ones, too."""
    never: int
    """Pixels that are never touched."""
    cell: int
    """Edge of a count cell in pixels."""
    hole_cells: NDArray[np.int64]
    """Holes per cell, summed over the `n_state` planes, `(*cells)`."""
    kept_cells: NDArray[np.int64]
    """Observed pixels per cell, likewise."""
    doubted: int = 0
    """Observed pixels that are no evidence; `kept` and `kept_cells` are without them."""
    hazy: int = 0
    """Those of `kept` that are evidence without the haze or shadow over them."""
    strong: int = 0
    """Those of `hazy` to which it adds or takes a noticeable part of what the image varies."""
    left: int = 0
    """Pixels that a mask marks and that are never touched all the same, as they have no value."""
    wide: int = 0
    """Pixels without a value in voids wider than the mask's `max_gap`, or around the content; 0 without such a mask."""
    empty: tuple[int, ...] = ()
    """Channels without any observed pixel beside others that have some."""
    marked_empty: int = 0
    """Pixels that masks mark in these."""
    drawn_nodata: int = 0
    """Places (not planes) that are holes over nodata in any restored channel because somebody drew them."""

    def near_holes(self, box: Box) -> bool:
        """Return False if no cell over a box has a hole: the counts spare reading most of a large image."""
        return bool(self.hole_cells[cells_of(box, self.cell)].any())

    def spread_over_holes(self, shape: tuple[int, ...], edge: int, most: int) -> list[Box]:
        """Return windows of `edge` pixels near holes, spread over an image of this shape, at most so many."""
        boxes = [box for box in Box.whole(shape).tiles((edge,) * len(shape)) if self.near_holes(box)]
        return boxes[:: -(-len(boxes) // most) or 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueScan:
    """What the observed pixels look like, per restored channel, in stored units.

    Attributes:
        centre: subtracted before float32 arithmetic (0 where float32 is exact).
        low, high: smallest and largest sampled value.
        piled: whether values pile up at them, as at a limit of what is measured, `(2, c)`.
        p1, p99: robust range.
        quantum: step of the stored dtype (1 for integers, 0 for floats).
        lone_ends: per restored channel, None or the value that looks like nodata which nobody declared.
    """

    centre: tuple[float, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    piled: NDArray[np.bool_]
    p1: NDArray[np.float64]
    p99: NDArray[np.float64]
    quantum: float
    lone_ends: tuple[LoneEnd | None, ...] = ()

    @property
    def spread(self) -> NDArray[np.float64]:
        """p99 - p1 of each channel."""
        return np.asarray(self.p99 - self.p1)


def no_values(n_channels: int) -> ValueScan:
    """Return the statistics of an image of which nothing needs to be known, as nothing is hidden."""
    zeros, none = np.zeros(n_channels), np.zeros((2, n_channels), dtype=np.bool_)
    return ValueScan(centre=(0.0,) * n_channels, low=zeros, high=zeros, piled=none, p1=zeros, p99=zeros, quantum=0.0)


def scan_states(source: Source, mask: Mask, channels: tuple[int, ...], path: Path) -> tuple[StateScan, zarr.Array]:
    """Write the state of every pixel to the zarr array `path`, uint8 `(n_state, *spatial)`, and count.

    Raises:
        SourceError: a mask gave states for a number of channels that is neither 1 nor the image's.
    """
    shape = source.space.shape
    whole = Box.whole(shape)
    scan = SCAN_EXTENT[len(shape)]
    cell = max(1, math.ceil((whole.size / _MAX_CELLS) ** (1 / len(shape))))
    scan = tuple(max(cell, n // cell * cell) for n in scan)
    n_planes = _planes(mask.read(next(whole.tiles(scan))), source, channels).shape[0]
    # one chunk of all planes a scan box keeps the pass free of read-modify-write
    chunk = tuple(min(n, s) for n, s in zip(shape, scan, strict=True))
    array = zarr.create_array(
        path, shape=(n_planes, *shape), chunks=(n_planes, *chunk), dtype="uint8", fill_value=KEEP, overwrite=True
    )
    counts = _Counts(n_planes, shape, cell)
    for box in whole.tiles(scan):
        stop_if_asked()
        looked, over_nodata, untouched = _looked(mask, box)
        state = np.broadcast_to(_planes(looked, source, channels), (n_planes, *box.shape))
        if not state.any():
            # what nobody writes is kept
            counts.add_kept(box)
            continue
        array[box.at()] = state
        counts.add(box, state, _planes(over_nodata, source, channels), _planes(untouched, source, channels))
    result = counts.result(channels, gaps_limited=bool(getattr(mask, "max_gap", None)))
    if n_planes != result.n_state:
        array = _first_plane(array, path)
    return result, array


class _Counts:
    """What is counted of the states of an image, box by box."""

    def __init__(self, n_planes: int, shape: tuple[int, ...], cell: int) -> None:
        cells = tuple(-(-n // cell) for n in shape)
        self.cell = cell
        self.holes, self.kept = np.zeros(cells, dtype=np.int64), np.zeros(cells, dtype=np.int64)
        self.total = np.zeros((n_planes, 3), dtype=np.int64)
        """Pixels of each plane by state."""
        self.left = np.zeros(n_planes, dtype=np.int64)
        self.uniform = True
        self.drawn_nodata = 0

    def add_kept(self, box: Box) -> None:
        """Count a box of which every pixel is kept, as most are of a large image; it begins at a cell."""
        self.total[:, KEEP] += box.size
        self.kept[cells_of(box, self.cell)] += len(self.total) * cell_sizes(box.shape, self.cell)

    def add(
        self, box: Box, state: NDArray[np.uint8], over_nodata: NDArray[np.bool_], untouched: NDArray[np.bool_]
    ) -> None:
        """Count the states of a box, `(n_planes, *box.shape)`, and what masks drew over nodata or left untouched."""
        self.drawn_nodata += int(over_nodata.any(axis=0).sum())
        self.uniform = self.uniform and bool((state == state[:1]).all())
        self.total += np.stack([np.bincount(plane.ravel(), minlength=3)[:3] for plane in state])
        self.left += np.broadcast_to(untouched, state.shape).reshape(len(state), -1).sum(axis=1)
        part = cells_of(box, self.cell)
        for plane in state:
            self.holes[part] += block_sum(plane == FILL, self.cell)
            self.kept[part] += block_sum(plane == KEEP, self.cell)

    def result(self, channels: tuple[int, ...], *, gaps_limited: bool) -> StateScan:
        """Return the counts; `gaps_limited` says that a mask leaves voids which are too wide."""
        n_state = 1 if self.uniform else len(self.total)
        counts = self.total[:n_state].sum(axis=0)
        left = int(self.left[:n_state].sum())
        empty = np.flatnonzero(self.total[:, KEEP] == 0) if self.total[:, KEEP].any() else np.empty(0, dtype=np.int64)
        return StateScan(
            n_state=n_state,
            holes=int(counts[FILL]),
            kept=int(counts[KEEP]),
            never=int(counts[NEVER]),
            left=left,
            wide=int(counts[NEVER]) - left if gaps_limited else 0,
            empty=tuple(channels[plane] for plane in empty),
            marked_empty=int(self.total[empty, FILL].sum() + self.left[empty].sum()),
            cell=self.cell,
            hole_cells=self.holes * n_state // len(self.total),
            kept_cells=self.kept * n_state // len(self.total),
            drawn_nodata=self.drawn_nodata,
        )


def scan_values(
    source: Source, state: zarr.Array, channels: tuple[int, ...], haze: zarr.Array | None = None
) -> ValueScan:
    """Sample what is evidence on a regular grid, without its haze, and return robust statistics per restored channel.

    Raises:
        SourceError: a channel has no observed pixel at all, or values that float32 arithmetic cannot carry.
    """
    shape = source.space.shape
    whole = Box.whole(shape)
    sample = partial(_sample, _Pixels(source=source, state=state, channels=channels, haze=haze))
    samples = sample(max(1, int((whole.size / _SAMPLE) ** (1 / len(shape)))))
    if any(not s.size for s in samples):
        # holes that avoid the grid on purpose (a dropped slice) need the full pass
        samples = sample(1, limit=8 * _SAMPLE)
    for c, found in zip(channels, samples, strict=True):
        if not found.size:
            raise SourceError(
                f"{source.paths[0]}: no observed pixel in channel {_name(source, c)}; nothing to restore it from"
            )
    quantiles = np.asarray([np.quantile(s.astype(np.float64), _ROBUST) for s in samples])
    exact = float32_holds(source.dtype)
    middle = [0.0 if exact else float(np.median(s.astype(np.float64))) for s in samples]
    return ValueScan(
        centre=tuple(middle),
        low=np.asarray([float(s.min()) for s in samples]),
        high=np.asarray([float(s.max()) for s in samples]),
        piled=np.asarray([piled_ends(s) for s in samples]).T,
        p1=quantiles[:, 0],
        p99=quantiles[:, 1],
        quantum=1.0 if source.dtype.kind in "iu" else 0.0,
        lone_ends=tuple(lone_end(s) for s in samples),
    )


def _name(source: Source, channel: int) -> str:
    return source.channel_names[channel] if source.channel_names else str(channel + 1)


def cells_of(box: Box, cell: int) -> tuple[slice, ...]:
    """Return the cells of edge `cell` that lie over a box, those at its edges, too."""
    return tuple(slice(a // cell, -(-b // cell)) for a, b in zip(box.start, box.stop, strict=True))


def cell_sizes(shape: tuple[int, ...], cell: int) -> NDArray[np.int64]:
    """Return the pixels of each cell of edge `cell` of a window that begins at a cell, `(*cells)`; last ones fewer."""
    edges = (np.diff([*range(0, n, cell), n]) for n in shape)
    return np.asarray(reduce(np.multiply.outer, edges), dtype=np.int64)


def block_sum(counts: NDArray[np.integer] | NDArray[np.bool_], cell: int) -> NDArray[np.int64]:
    """Sum an array `(*spatial)` over cells of edge `cell`, `(*cells)`; ragged last cells over what is there."""
    result: NDArray[Any] = counts
    # the last axis first: what lies side by side is summed before anything becomes eight bytes wide
    for axis in reversed(range(counts.ndim)):
        result = np.add.reduceat(result, np.arange(0, result.shape[axis], cell), axis=axis, dtype=np.int64)
    return result


def _looked(mask: Mask, box: Box) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the states of a window, where they are holes over nodata that somebody drew, and marked pixels left."""
    if isinstance(mask, ComposedMask):
        return mask.look(box)
    none = np.zeros((1, *box.shape), dtype=np.bool_)
    return mask.read(box), none, none


def _planes(state: NDArray[_Kind], source: Source, channels: tuple[int, ...]) -> NDArray[_Kind]:
    if state.shape[0] == 1:
        return state
    if state.shape[0] != source.n_channels:
        raise SourceError(
            f"mask of {source.paths[0]} has {state.shape[0]} channels, the image {source.n_channels}: give a mask "
            "with one channel or one for each"
        )
    return state[list(channels)]


def _first_plane(array: zarr.Array, path: Path) -> zarr.Array:
    """Rewrite the states with one plane, chunk by chunk."""
    whole = Box.whole(array.shape[1:])
    chunks = array.chunks[1:]
    single_path = path.with_name("state-1.zarr")
    single = zarr.create_array(
        single_path,
        shape=(1, *array.shape[1:]),
        chunks=(1, *chunks),
        dtype="uint8",
        overwrite=True,
    )
    for box in whole.tiles(chunks):
        stop_if_asked()
        single[box.at()] = array[box.at(slice(0, 1))]
    remove_made(path)
    single_path.rename(path)
    return zarr.open_array(path, mode="r")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pixels:
    """What the statistics of an image are taken from; see `OpenImage`."""

    source: Source
    state: zarr.Array
    channels: tuple[int, ...]
    haze: zarr.Array | None


def _sample(image: _Pixels, step: int, limit: int | None = None) -> list[NDArray[Any]]:
    """Return evidence at the global positions that are multiples of `step`, per channel."""
    shape = image.source.space.shape
    parts: list[list[NDArray[Any]]] = [[] for _ in image.channels]
    for box in Box.whole(shape).tiles(SCAN_EXTENT[len(shape)]):
        stop_if_asked()
        grid = (slice(None), *(slice((-a) % step, None, step) for a in box.start))
        states = np.asarray(image.state[box.at()])
        told = evidence(states[grid])
        if not told.any():
            continue
        stored = image.source.read(box)[list(image.channels)]
        _require_carried(image, stored, evidence(states))
        for i, values in enumerate(without_haze(stored, states, image.haze, box)[grid]):
            found = values[told[min(i, len(told) - 1)]]
            if limit is None or sum(p.size for p in parts[i]) < limit:
                parts[i].append(found)
    return [np.concatenate(p) if p else np.empty(0, dtype=image.source.dtype) for p in parts]


def _require_carried(image: _Pixels, stored: NDArray[Any], told: NDArray[np.bool_]) -> None:
    """Refuse evidence `(c, *spatial)` that float32 cannot square: one such pixel is enough to spoil sums.

    Raises:
        SourceError: names channel and values, with all digits, as nodata has to equal what is stored.
    """
    if stored.dtype.kind != "f":
        return
    for i, channel in enumerate(image.channels):
        known = told[min(i, len(told) - 1)]
        if (~computable(stored[i]) & known).any():
            values = stored[i][known]
            raise SourceError(
                f"{image.source.paths[0]}: observed values of channel {_name(image.source, channel)} reach from "
                f"{values.min():.17g} to {values.max():.17g}, and only up to {LARGEST:g} can be computed with; if one "
                "of them means that nothing was observed, set input.nodata to it, else divide all by a power of ten"
            )
