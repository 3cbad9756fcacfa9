"""Make stated uncertainty true: one factor per distance to observed pixels, fitted on pixels hidden on purpose.

A raw standard error (local roughness, or the network's scale) is multiplied by a factor so that 90 % of the
absolute errors of held-back pixels lie below `1.645 x` it (conformal scaling; Romano, Patterson and Candes 2019).
Factors never fall with distance and go on growing beyond the largest distance that could be tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z90 = 1.645
"""Half width of a two-sided 90 % normal interval in standard errors: the meaning of our uncertainty layer."""

_EDGES = (1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5)
_GROWTH_EXPONENT = 0.25
_MIN_PIXELS = 200
_UNTESTED_FACTOR = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Factor on the raw standard error as a function of distance.

    Attributes:
        edges: upper distance (in steps of the finest axis) of each bin.
        factors: factor of each bin, non-decreasing.
        tested_to: largest distance with enough held-back pixels; 0 if nothing could be tested.
        pixels: number of held-back pixels used.
    """

    edges: tuple[float, ...] = _EDGES
    factors: tuple[float, ...] = (_UNTESTED_FACTOR,) * len(_EDGES)
    tested_to: float = 0.0
    pixels: int = 0

    def factor(self, distance: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the factor at each distance (same shape, float32)."""
        index = np.minimum(np.searchsorted(self.edges, distance), len(self.factors) - 1)
        factor = np.asarray(self.factors, dtype=np.float64)[index]
        limit = max(self.tested_to, self.edges[0])
        growth = np.maximum(distance / limit, 1.0) ** _GROWTH_EXPONENT
        return np.asarray(factor * growth, dtype=np.float32)


def fit(absolute_error: NDArray[np.floating], raw: NDArray[np.floating], distance: NDArray[np.floating]) -> Calibration:
    """Fit the factors on held-back pixels; all arguments are 1-D and equally long, `raw > 0`.

    Bins with fewer than 200 pixels take the factor of the next nearer bin. With fewer than 200 pixels in all the
    stored default (`tested_to = 0`) is returned.
    """
    if absolute_error.size < _MIN_PIXELS:
        return Calibration(pixels=int(absolute_error.size))
    ratio = absolute_error.astype(np.float64) / raw.astype(np.float64)
    bins = np.minimum(np.searchsorted(_EDGES, distance), len(_EDGES) - 1)
    overall = float(np.quantile(ratio, 0.9)) / Z90
    factors: list[float] = []
    tested_to = _EDGES[0]
    for k, edge in enumerate(_EDGES):
        inside = ratio[bins == k]
        if inside.size >= _MIN_PIXELS:
            value = float(np.quantile(inside, 0.9)) / Z90
            tested_to = min(edge, float(distance.max()))
        else:
            value = factors[-1] if factors else overall
        factors.append(max(value, factors[-1]) if factors else value)
    floor = 1e-6
    return Calibration(factors=tuple(max(f, floor) for f in factors), tested_to=tested_to, pixels=int(ratio.size))


def coverage(absolute_error: NDArray[np.floating], sigma: NDArray[np.floating]) -> float:
    """Return the share of errors inside the 90 % interval."""
    return float(np.mean(absolute_error <= Z90 * sigma)) if absolute_error.size else float("nan")
