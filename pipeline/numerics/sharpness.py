"""How sharp a restored image is in its holes and how it meets their rim, beside what is observed around them.

Counted are absolute differences of neighbours: both restored, one restored and one observed, both observed. Sums of
windows can be added up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.pixels import neighbours

Field = NDArray[np.float64]


def steps(values: NDArray[Any], restored: NDArray[np.bool_], observed: NDArray[np.bool_]) -> Field:
    """Return sums of absolute differences of neighbours, and how many there are, `(3, 2, c)`: inside, rim, around.

    Args:
        values: `(c, *spatial)`, finite where restored or observed.
        restored: `(1 | c, *spatial)`.
        observed: `(1 | c, *spatial)`.
    """
    counted = np.zeros((3, 2, len(values)))
    inside, seen = (np.broadcast_to(one, values.shape) for one in (restored, observed))
    axes = tuple(range(1, values.ndim))
    for near, far in neighbours(values.ndim - 1):
        with np.errstate(invalid="ignore", over="ignore"):
            step = np.abs(values[near].astype(np.float64) - values[far])
        rim = (inside[near] & seen[far]) | (seen[near] & inside[far])
        for k, pairs in enumerate((inside[near] & inside[far], rim, seen[near] & seen[far])):
            counted[k, 0] += np.where(pairs, step, 0.0).sum(axis=axes)
            counted[k, 1] += pairs.sum(axis=axes)
    return counted


def ratios(counted: Field) -> tuple[float | None, float | None]:
    """Return the mean step inside of holes and over their rim, both over the mean step around; None if not known.

    The mean over channels, of those in which something varies.

    Args:
        counted: as `steps` returns it, `(3, 2, c)`.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        inside, rim, around = counted[:, 0] / counted[:, 1]
        found = [over[np.isfinite(over)] for over in (inside / around, rim / around)]
    gradient, meets = (float(over.mean()) if over.size else None for over in found)
    return gradient, meets
