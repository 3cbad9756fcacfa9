"""What the survey found of the whole image on cells, read for one window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.numerics.beyond import Beyond, distance_to_cut, seen_in_pixels
from pipeline.plan.plan import Plan
from pipeline.references.prediction import Correction
from pipeline.references.siblings import Siblings
from pipeline.restore.task import Contamination


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What was found of the whole image, for one window; see `Task`."""

    beyond: Beyond | None = None
    contamination: Contamination | None = None
    corrections: Mapping[int, Correction] = field(default_factory=dict)


def read_beyond(fields: zarr.Array | Held, plan: Plan, box: Box, window: Window) -> Read:
    """Return what lies beyond a window; nothing if it is not cut out of the image.

    Args:
        fields: float32 `(n, *cells)`: distances and what lies behind, one of each plane of holes; mean and scale of
            each channel; `left` of each channel and `factor` of contamination, if there is any; values and logarithm of
            the ratio of each channel, or of each of `Siblings.every`, for each relation that is consulted.
        plan: whose cells these are.
        box: of the window.
        window: the window.
    """
    to_cut = distance_to_cut(box.shape, window.spacing, window.open_edges)
    if not np.isfinite(to_cut).any():
        return Read()
    channels, shape, planes = len(window.values), window.values.shape, plan.n_state
    contaminated = bool(plan.hazy or plan.doubted)
    sizes = [planes, planes, channels, channels, channels * contaminated, contaminated]
    numbers = []
    for k, relation in plan.recipe.consulted:
        numbers.append(k)
        sizes += [len(relation.every) if isinstance(relation, Siblings) else channels] * 2
    distance, behind, mean, scale, left, factor, *rest = np.split(
        coarse_window(fields, plan.beyond_cell, box), np.cumsum(sizes)[:-1]
    )
    beyond = Beyond(
        distance=np.broadcast_to(distance, shape),
        behind=np.broadcast_to(behind, shape),
        mean=mean,
        scale=scale,
        to_cut=to_cut,
        shown=seen_in_pixels(window.valid, window.open_edges) if len(set(window.spacing)) > 1 else None,
    )
    pixels = distance_to_cut(box.shape, (1.0,) * box.ndim, window.open_edges)
    return Read(
        beyond=beyond,
        contamination=Contamination(left=left, factor=factor) if contaminated else None,
        corrections={
            k: Correction(values=values, ratio=np.exp(level), to_cut=pixels)
            for k, values, level in zip(numbers, rest[::2], rest[1::2], strict=True)
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Those of the cells of the whole image that windows inside a box are interpolated from, in memory.

    Attributes:
        values: `(n, *cells)`, of the box.
        first: its first cell.
        shape: that of all cells, `(n, *cells)`.
    """

    values: NDArray[np.float32]
    first: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, fields: zarr.Array, factor: int, box: Box) -> Held:
        """Read the cells, `factor` pixels a side, once."""
        cells = _between(box, factor, fields.shape)[0]
        values = np.asarray(fields[(slice(None), *cells)])
        return cls(values=values, first=tuple(part.start for part in cells), shape=fields.shape)

    def __getitem__(self, part: tuple[slice, ...]) -> NDArray[np.float32]:
        """Return a copy of `(n, *cells)` at slices that count from the first cell of the image."""
        planes, *cells = part
        own = (slice(a.start - first, a.stop - first) for a, first in zip(cells, self.first, strict=True))
        return self.values[(planes, *own)].copy()


def coarse_window(guess: NDArray[np.float32] | zarr.Array | Held, factor: int, box: Box) -> NDArray[np.float32]:
    """Return the coarse fill over `box`, `(c, *box.shape)`, linearly interpolated between cell centres."""
    if factor == 1:
        return np.asarray(guess[box.at()])
    cells, lows, weights = _between(box, factor, guess.shape)
    result = np.asarray(guess[(slice(None), *cells)])
    for axis, (low, weight) in enumerate(zip(lows, weights, strict=True), start=1):
        upper = np.minimum(low + 1, result.shape[axis] - 1)
        column = weight.reshape([-1 if a == axis else 1 for a in range(result.ndim)])
        below, result = np.take(result, low, axis=axis), np.take(result, upper, axis=axis)
        result -= below
        result *= column
        result += below
    return result


def _between(
    box: Box, factor: int, shape: tuple[int, ...]
) -> tuple[list[slice], list[NDArray[np.intp]], list[NDArray[np.float32]]]:
    """Return which cells of an image, `(n, *cells)`, lie around a box, and how its pixels lie between them.

    That is for each axis which of these cells lies before each pixel, and the share of the next one.
    """
    cells, lows, weights = [], [], []
    for axis in range(box.ndim):
        position = (np.arange(box.start[axis], box.stop[axis]) + 0.5) / factor - 0.5
        position = np.clip(position, 0, shape[axis + 1] - 1)
        first = int(position[0])
        last = min(int(position[-1]) + 1, shape[axis + 1] - 1)
        low = np.minimum(position.astype(int), last)
        lows.append(low - first)
        weights.append((position - low).astype(np.float32))
        cells.append(slice(first, last + 1))
    return cells, lows, weights
