"""How unlike two values of a field are, by the distance between them: so errors grow where nothing could be tested.

The structure function of a field is the mean squared difference of two values a lag apart (Kolmogorov 1941; twice the
variogram of Matheron 1963). An error of interpolation is a difference of values, too: in a field that looks alike at
all scales its standard deviation at some depth in a hole is a constant times the root of the structure function at
that lag, whatever the constant is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LAGS = (1, 2, 4, 8, 16, 32, 64)
_PATCHES = 4
"""Pairs that make a lag count, in squares (volumes: cubes) as wide as it: so many places are independent."""
_FEWEST_LAGS = 3
_TAIL = 2
"""Steps between lags, counted from the last one, over which the slope is taken that goes on beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How errors grow with distance to observed pixels, up to a constant: a power law between lags and beyond them.

    Attributes:
        lags: distances, steps of the finest axis, increasing; at least two.
        roots: root of the structure function there, > 0, never falling.
    """

    lags: tuple[float, ...] = (1.0, 16.0)
    roots: tuple[float, ...] = (1.0, 2.0)
    """As long as nothing is known of the image, the fourth root of the distance."""

    def __call__(self, distance: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the relative error at distances > 0, same shape."""
        at, lags, roots = np.log2(distance), np.log2(self.lags), np.log2(self.roots)
        first = max(0, len(lags) - 1 - _TAIL)
        slope = (roots[-1] - roots[first]) / (lags[-1] - lags[first])
        return np.asarray(2 ** (np.interp(at, lags, roots) + slope * np.maximum(at - lags[-1], 0.0)))


def growth_of(
    fields: Iterable[tuple[NDArray[np.floating], NDArray[np.bool_]]], scale: NDArray[np.floating], axes: Sequence[int]
) -> Growth:
    """Return how errors grow in an image, by the structure function of its channels together.

    Lags count between which there are enough pairs of known values; with fewer than three of them, or where nothing
    varies, nothing is known.

    Args:
        fields: pieces of the image: values and which of them are known, `(c, *spatial)` each, any units.
        scale: of each channel, `(c,)`, same units, by which their differences are divided; 0 = a channel is left out.
        axes: along which lags are taken, of `spatial`: those with steps alike.
    """
    use = np.flatnonzero(scale > 0)
    squares, pairs, ndim = np.zeros(len(_LAGS)), np.zeros(len(_LAGS)), 2
    for values, known in fields:
        ndim = values.ndim - 1
        scaled = np.where(known[use], values[use], 0) / scale[use].reshape(-1, *(1,) * ndim)
        for axis in axes:
            for k, lag in enumerate(_LAGS):
                near, far = _ends(scaled, axis + 1, lag)
                both = np.logical_and(*_ends(known[use], axis + 1, lag))
                squares[k] += float(np.sum((far - near)[both].astype(np.float64) ** 2))
                pairs[k] += both.sum()
    counts = pairs >= _PATCHES * max(len(use), 1) * np.asarray(_LAGS, dtype=np.float64) ** ndim
    counts &= squares > 0
    if counts.sum() < _FEWEST_LAGS:
        return Growth()
    roots = np.maximum.accumulate(np.sqrt(squares[counts] / pairs[counts]))
    return Growth(lags=tuple(np.asarray(_LAGS, dtype=float)[counts].tolist()), roots=tuple(roots.tolist()))


def _ends(values: NDArray[Any], axis: int, lag: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values at both ends of all lags along an axis; empty where it is shorter."""
    n = values.shape[axis]
    before = (slice(None),) * axis
    return values[(*before, slice(0, max(n - lag, 0)))], values[(*before, slice(lag, None))]
