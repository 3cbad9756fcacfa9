"""Through-plane interpolation: between the nearest observed slices, column by column.

The method users know for dropped slices, and the baseline there.

Also known as: interslice, between slices, slices.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.fills._common import background, check
from pipeline.fills.base import Window

NDIM = (3,)

Indices = NDArray[np.intp]
Field = NDArray[np.float64]


def fill(window: Window, *, axis: int = 0, order: Literal["linear", "cubic"] = "linear") -> NDArray[np.float32]:
    """Interpolate along one axis; the nearest observed voxel stands beyond the first and last of a column.

    `cubic` is the Hermite spline through the two nearest observed voxels on each side, with slopes by finite
    differences (Catmull and Rom 1974 on uneven knots); it is linear where a side has only one. A column
    without an observed voxel keeps the guess, else the mean of the channel's valid voxels.

    Args:
        window: 3-D window.
        axis: spatial axis to interpolate along, 0 (z), 1 (y) or 2 (x).
        order: `linear` or `cubic`.

    Returns:
        float32 `(c, *spatial)`: observed values where valid, the interpolation in holes, finite elsewhere.

    Raises:
        ValueError: unknown axis or order, or the window cannot be filled (see the message).
    """
    check(window, NDIM)
    if axis not in (0, 1, 2) or order not in ("linear", "cubic"):
        raise ValueError(f"axis = {axis} must be 0, 1 or 2, and order = {order!r} 'linear' or 'cubic'")
    result = background(window)
    for channels in window.hole_groups:
        valid = np.moveaxis(window.valid[channels[0]], axis, 0)
        hole = np.moveaxis(window.hole[channels[0]], axis, 0)
        below, above = _neighbours(valid)
        where = np.nonzero(hole & ((below >= 0) | (above >= 0)))
        for channel in channels:
            column = np.moveaxis(result[channel], axis, 0)
            column[where] = _interpolate(column.astype(np.float64), (below, above), where, order)
    return result


def _neighbours(valid: NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """Return the index along axis 0 of the nearest valid voxel strictly below and above, else -1."""
    index = np.arange(len(valid)).reshape(-1, 1, 1)
    below = np.full(valid.shape, -1, dtype=np.intp)
    above = np.full(valid.shape, len(valid), dtype=np.intp)
    below[1:] = np.maximum.accumulate(np.where(valid, index, -1), axis=0)[:-1]
    above[:-1] = np.minimum.accumulate(np.where(valid, index, len(valid))[::-1], axis=0)[::-1][1:]
    return below, np.where(above == len(valid), -1, above)


def _interpolate(column: Field, neighbours: tuple[Indices, Indices], where: tuple[Indices, ...], order: str) -> Field:
    z, rest = where[0], where[1:]
    low, high = (side[where] for side in neighbours)
    low, high = np.where(low < 0, high, low), np.where(high < 0, low, high)
    first, last = column[(low, *rest)], column[(high, *rest)]
    gap = np.maximum(high - low, 1).astype(np.float64)
    s = (z - low) / gap * (high > low)
    linear: Field = first + s * (last - first)
    if order == "linear":
        return linear
    slope = (last - first) / gap
    before, after = neighbours[0][(low, *rest)], neighbours[1][(high, *rest)]
    start = np.where(before < 0, slope, _slope(column, rest, (before, high)))
    end = np.where(after < 0, slope, _slope(column, rest, (low, after)))
    bend: Field = s * (1 - s) * gap * ((1 - s) * (start - slope) - s * (end - slope))
    return linear + np.where(high > low, bend, 0.0)


def _slope(column: Field, rest: tuple[Indices, ...], ends: tuple[Indices, Indices]) -> Field:
    low, high = ends
    rise: Field = (column[(high, *rest)] - column[(low, *rest)]) / np.maximum(high - low, 1)
    return rise
