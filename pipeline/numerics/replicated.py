"""Bands whose pixels are larger than those of the grid they are stored on: how large, and a smooth view of them.

Coarse bands are brought onto a fine grid by repeating their pixels (nearest neighbour), perhaps once more by linear
interpolation, which leaves flat squares with mixed pixels between. A relation between images would print these squares
into fine bands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LARGEST = 12
"""Longest period that is looked for, grid pixels."""

_THROUGHOUT = 0.5
"""Changes at half of the lines of the busiest phase over their mean, at least: a map of a few areas has a few edges."""

_FLAT = 0.2
"""Changes at the quietest phase over those at the busiest, at most: without squares all phases are alike."""

_AS_MANY = 0.75
"""Share of the most changes at which a shorter period is as good as a longer one: multiples of a period are, too."""


def pixel_size(values: NDArray[np.generic]) -> tuple[float, ...]:
    """Return how large the pixels of a band are along each axis, in grid pixels; 1 where they are those of the grid.

    Neighbours differ where two coarse pixels meet and nowhere else, so how often they do depends on the phase in the
    period of the squares. Where a band has few grey levels, or flat areas, it does not.

    Args:
        values: `(rows, cols)`, or any number of axes; a piece large enough for five of the largest pixels.

    >>> pixel_size(np.kron(np.arange(900.0).reshape(30, 30) ** 2 % 97, np.ones((3, 6))))
    (3.0, 6.0)
    """
    return tuple(_size(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)) for axis in range(values.ndim))


def _size(lines: NDArray[np.generic]) -> float:
    """Return the size of pixels across lines, `(n, rest)`."""
    there = np.isfinite(lines[1:]) & np.isfinite(lines[:-1])
    changes = ((lines[1:] != lines[:-1]) & there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    if len(changes) < 2 * LARGEST or not changes.any():
        return 1.0
    phases = [[changes[start::period] for start in range(period)] for period in range(1, LARGEST + 1)]
    rates = [np.asarray([part.mean() for part in some]) for some in phases]
    most = np.asarray([rate.max() for rate in rates])
    period = int(np.argmax(most >= _AS_MANY * most.max())) + 1
    rate = rates[period - 1]
    throughout = np.median(phases[period - 1][int(rate.argmax())])
    if rate.min() > _FLAT * rate.max() or throughout < _THROUGHOUT * rate.max():
        return 1.0
    busy = rate > rate.max() / 2
    squares = int((busy & ~np.roll(busy, 1)).sum())
    mixed = int(busy.sum()) - squares
    # lines that are repeated now and then only, as where pixels of nearly the same size were resampled, make no squares
    return period / squares if (period - mixed) / squares >= (3 if mixed else 2) else 1.0


def interpolated(values: NDArray[np.float32], valid: NDArray[np.bool_], sizes: Sequence[float]) -> NDArray[np.float32]:
    """Return a band of square pixels as linear interpolation between their centres shows it; 0 where not valid.

    It is the mean over the width of a pixel, wherever pixels begin.

    Args:
        values: float32 `spatial`.
        valid: bool `spatial`; the others do not count.
        sizes: of a pixel along each axis, in grid pixels.
    """
    total, share = np.where(valid, values, 0).astype(np.float64), valid.astype(np.float64)
    for axis, size in enumerate(sizes):
        if size > 1:
            total, share = (
                ndimage.correlate1d(part, _mean_over(size), axis=axis, mode="constant") for part in (total, share)
            )
    return np.where(valid, total / np.where(valid, share, 1.0), 0.0).astype(np.float32)


def reach(size: float) -> int:
    """Return how many grid pixels away `interpolated` looks along an axis.

    >>> [reach(size) for size in (1.0, 2.0, 3.0, 10 / 3)]
    [0, 1, 1, 2]
    """
    return int(np.ceil((size - 1) / 2))


def _mean_over(size: float) -> NDArray[np.float64]:
    """Return weights of the mean over a width; at both ends a part of a pixel."""
    inner = 2 * reach(size) - 1
    end = (size - inner) / 2
    return np.array([end, *np.ones(inner), end]) / size
