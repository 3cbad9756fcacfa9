"""Slices of a volume that look lost: without any value, of one value, a copy of the one before, or far too dark.

Nothing is marked for it: a notice names them, and the mask entry that would restore them.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.formats._view import box_of
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks.base import FILL, NEVER
from pipeline.system.signals import stop_if_asked

_LONGEST = 3
"""Neighbouring slices that are lost together; more of one value are a gap between two things."""
_DARK = 0.5
"""Share of the level of the slices on both sides below which a slice is far too dark. Of 90 axes of 30 real volumes the
lowest is 0.68, where the halves of a brain meet; a slice without a signal has 0."""
_CONTENT = 0.1
"""Share of the level of the brightest slice above which a slice shows something."""
_FEW = 0.1
"""Share of slices up to which copies are lost slices; more are a volume that was made finer by repeating them."""
_FEWEST_SLICES = 5
_CODES, _SAMPLED = 32, 3
"""Different values up to which a volume holds codes, and every how many voxels a row or column is asked for them."""
_NO_VALUE = "no value"
_SHOWN = 4
AXES = "kji"
"""Names of the axes of a file in memory order."""
_AT_ONCE = 1 << 20
"""Voxels that are looked at together."""
_MOST = 1 << 30
"""Voxels above which nothing is looked for: it would take longer than the rest of a look at the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What a volume or series lost; numbers count from 0, as the file stores them.

    Attributes:
        axis: `i`, `j` or `k` of the file, along which slices are counted.
        slices: lost slices by volume, with what they hold in words.
        volumes: volumes that were lost as a whole.
    """

    axis: str
    slices: Mapping[int, Mapping[int, str]]
    volumes: tuple[int, ...] = ()

    def entries(self) -> list[dict[str, object]]:
        """Return the mask entries of a config, one for all volumes that lost the same slices."""
        return [
            {"kind": "slices", "slices": list(slices), "axis": self.axis, "volumes": list(volumes)}
            for slices, volumes in self._together()
        ]

    def only(self, holds: Callable[[int, int], bool]) -> Lost:
        """Return those of the slices for which `holds(volume, slice)`."""
        left = {volume: {k: w for k, w in said.items() if holds(volume, k)} for volume, said in self.slices.items()}
        return replace(self, slices={volume: said for volume, said in left.items() if said})

    def sentences(self, *, series: bool) -> list[str]:
        """Say which slices look lost, and which entry of `mask` restores them; of a `series` in which volumes.

        Of volumes that lost different slices a few are told, and how many there are.
        """
        found = self._together()
        said = [self._sentence(slices, volumes, series=series) for slices, volumes in found[:_SHOWN]]
        more = sum(len(volumes) for _, volumes in found[_SHOWN:])
        return [*said, f"slices along {self.axis} of {more} more volumes look lost, too"] if more else said

    def texts(self, *, series: bool) -> list[str]:
        """Return the entries as they stand in a config."""
        return [self._text(slices, volumes, series=series) for slices, volumes in self._together()]

    def _together(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Return what was lost as slices and the volumes that lost the same."""
        together: dict[tuple[int, ...], list[int]] = {}
        for volume, said in self.slices.items():
            together.setdefault(tuple(said), []).append(volume)
        return [(slices, tuple(volumes)) for slices, volumes in together.items()]

    def _sentence(self, slices: tuple[int, ...], volumes: tuple[int, ...], *, series: bool) -> str:
        said = self.slices[volumes[0]]
        where = f" of volume{'s' * (len(volumes) > 1)} {', '.join(map(str, volumes))}" if series else ""
        what = ", ".join(f"{k} ({said[k]})" for k in slices)
        one = len(slices) == 1
        return (
            f"slice{'' if one else 's'} {what} along {self.axis}{where} look{'s' if one else ''} lost, counted from 0, "
            f"and no mask marks {'it' if one else 'them'}; if so, restore {'it' if one else 'them'} with "
            + self._text(slices, volumes, series=series)
        )

    def _text(self, slices: tuple[int, ...], volumes: tuple[int, ...], *, series: bool) -> str:
        if all(self.slices[volumes[0]][k] == _NO_VALUE for k in slices):
            # a voxel without a value is none that a number marks
            return f"{{kind: nodata, max_gap: {_LONGEST} px}}"
        more = f", volumes: {list(volumes)}" if series else ""
        return f"{{kind: slices, slices: {list(slices)}, axis: {self.axis}{more}}}"


def flat_slices(volume: NDArray[np.generic], axis: int) -> NDArray[np.bool_]:
    """Return True for each slice along an axis that holds one value, or none, all over."""
    slices = np.moveaxis(volume, axis, 0).reshape(volume.shape[axis], -1)
    first = slices[:, :1]
    # what differs from itself is NaN
    nothing = (slices != slices) & (first != first)  # noqa: PLR0124
    return np.asarray(((slices == first) | nothing).all(axis=1))


def look_lost(source: Source) -> list[Lost]:
    """Look through a volume or series for slices that seem lost along any axis; reads it once, in slabs of 30 MB.

    Empty slices at its ends are none, nor is a gap of more than three between two things. Nothing is found in a raster,
    or in more voxels than 2^30.

    Raises:
        SourceError: the file is damaged.
    """
    shape = source.space.shape
    if source.space.kind != "volume" or math.prod(shape) * source.n_channels > _MOST:
        return []
    part = box_of(source)
    start = part.start if part else (0,) * len(shape)
    found = []
    for axis, slices in enumerate(_measured(source)):
        said = {volume: slices.suspects(volume, start[axis]) for volume in range(source.n_channels)}
        found.append(Lost(axis=AXES[axis], slices={volume: one for volume, one in said.items() if one}))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slices:
    """What slices along one axis hold; arrays `(volumes, slices)`."""

    level: NDArray[np.float64]
    """Mean above the lowest value of the volume; what has no value counts as lowest."""
    known: NDArray[np.bool_]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    copies: NDArray[np.bool_]

    def suspects(self, volume: int, first: int) -> dict[int, str]:
        """Return what slices of a volume hold that look lost, by number; `first` is the number of the first one."""
        level, count = self.level[volume], self.level.shape[1]
        shows = level > _CONTENT * level.max()
        if count < _FEWEST_SLICES or not shows.any():
            return {}
        empty, low = ~self.known[volume], self.low[volume]
        flat = empty | (low == self.high[volume])
        before = [level[max(0, k - _LONGEST) : k].max(initial=0.0) for k in range(count)]
        after = [level[k + 1 : k + 1 + _LONGEST].max(initial=0.0) for k in range(count)]
        dark = (level < _DARK * np.minimum(before, after)) & ~flat
        copies = self.copies[volume] & ~flat & shows
        copies &= copies.mean() <= _FEW
        said: dict[int, str] = {}
        for a, b in _runs(flat | dark):
            if b - a <= _LONGEST and a > 0 and b < count and shows[a - 1] and shows[b]:
                said |= {
                    k: _NO_VALUE
                    if empty[k]
                    else f"{low[k]:g} all over"
                    if flat[k]
                    else "far darker than those beside it"
                    for k in range(a, b)
                }
        said |= {int(k): f"a copy of slice {first + k - 1}" for k in np.flatnonzero(copies) if int(k) not in said}
        return {first + k: said[k] for k in sorted(said)}


def _runs(marked: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield the first of each run of True and the one after its last."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]])))
    yield from zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True)


def _measured(source: Source) -> list[_Slices]:
    """Measure the slices along each axis, memory order; none of a mask or an atlas, whose slices may well be alike."""
    shape, n = source.space.shape, source.n_channels
    total, count = ([np.zeros((n, size)) for size in shape] for _ in range(2))
    low, high = ([np.full((n, size), end) for size in shape] for end in (np.inf, -np.inf))
    copies = [np.ones((n, size), dtype=bool) for size in shape]
    last: NDArray[Any] | None = None
    seen: set[float] = set()
    for box, halo in _slabs(shape, n):
        stop_if_asked()
        lead = source.read(Box((box.start[0], box.start[1] - halo, 0), box.stop))
        stored = lead[:, :, halo:]
        known = ~np.broadcast_to(source.never(box), stored.shape)
        values = stored.astype(np.float64)
        if len(seen) <= _CODES:
            some = (..., slice(None, None, _SAMPLED), slice(None, None, _SAMPLED))
            # of voxels without a value each would be one more
            seen.update(np.unique(values[some][known[some]])[: _CODES + 1].tolist())
        before = stored if box.start[0] == 0 or last is None else np.concatenate([last, stored], axis=1)
        for axis, (first, stop, parts) in enumerate(zip(box.start, box.stop, (before, lead, stored), strict=True)):
            at, across = (slice(None), slice(first, stop)), tuple(a for a in (1, 2, 3) if a != axis + 1)
            total[axis][at] += np.where(known, values, 0).sum(axis=across)
            count[axis][at] += known.sum(axis=across)
            low[axis][at] = np.minimum(low[axis][at], np.where(known, values, np.inf).min(axis=across))
            high[axis][at] = np.maximum(high[axis][at], np.where(known, values, -np.inf).max(axis=across))
            same = _same_as_before(parts, axis + 1, across)
            copies[axis][:, stop - same.shape[1] : stop] &= same
        last = stored[:, -1:].copy()
    if len(seen) <= _CODES:
        return []
    return [_of(*facts) for facts in zip(total, count, low, high, copies, strict=True)]


def _slabs(shape: tuple[int, ...], n: int) -> Iterator[tuple[Box, int]]:
    """Yield slabs of n volumes that hold about `_AT_ONCE` voxels, and how many rows before one are compared with it.

    Slices that are larger are cut into strips, each of which is gone through from the first slice to the last.
    """
    rows = max(1, _AT_ONCE // (math.prod(shape[1:]) * n))
    wide = min(shape[1], max(1, _AT_ONCE // (shape[2] * n)))
    for strip in Box.whole(shape).tiles((shape[0], wide, shape[2])):
        for box in strip.tiles((rows, wide, shape[2])):
            yield box, int(box.start[1] > 0)


def _same_as_before(values: NDArray[Any], axis: int, across: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return for each slice but the first whether it is that before it, NaN included, `(volumes, slices - 1)`."""
    rows = np.moveaxis(values, axis, 0)
    same = rows[1:] == rows[:-1]
    if values.dtype.kind == "f":
        same |= np.isnan(rows[1:]) & np.isnan(rows[:-1])
    return np.asarray(np.moveaxis(same, 0, axis).all(axis=across))


def _of(
    total: NDArray[Any], count: NDArray[Any], low: NDArray[Any], high: NDArray[Any], copies: NDArray[Any]
) -> _Slices:
    floor = low.min(axis=1, keepdims=True)
    floor = np.where(np.isfinite(floor), floor, 0)
    # the first slice has none before it
    return _Slices(
        level=(total - floor * count) / max(1.0, float(count.max())),
        known=count > 0,
        low=low,
        high=high,
        copies=copies & (np.arange(copies.shape[1]) > 0),
    )


def looked_through(source: Source) -> list[Lost]:
    """Return what `look_lost` says of an image that is not staged; a packed one is inflated in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="inpaint-slices-") as folder:
        return look_lost(source.stage(Path(folder)))


def slice_notices(source: Source, states: NDArray[np.uint8] | zarr.Array, channels: Sequence[int]) -> list[str]:
    """Return a notice for slices that look lost and that no mask marks, with the entry of `mask` that would.

    Args:
        source: the image.
        states: of its pixels, uint8 `(1 or len(channels), *spatial)`.
        channels: volumes that they are of.

    Raises:
        SourceError: the file is damaged.
    """

    def unmarked(lost: Lost, volume: int, number: int) -> bool:
        if volume not in channels:
            return False
        axis = AXES.index(lost.axis)
        box = Box.whole(source.space.shape)
        at = [
            slice(number - start[axis], number - start[axis] + 1) if a == axis else s for a, s in enumerate(box.slices)
        ]
        plane = np.asarray(states[(slice(None), *at)])[channels.index(volume) if states.shape[0] > 1 else 0]
        return int((plane == FILL).sum()) * 2 <= int((plane != NEVER).sum())

    part = box_of(source)
    start = part.start if part else (0,) * source.space.ndim
    found = [lost.only(partial(unmarked, lost)) for lost in look_lost(source)]
    return [f"{source.paths[0]}: {said}" for lost in found for said in lost.sentences(series=source.n_channels > 1)]
