"""How far apart values are still alike, from scattered samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]

_NEAREST = 3.0
"""Nearer pairs share pixels that were interpolated or blurred together."""
_LENGTHS = 2.0 ** np.arange(10.0, -0.5, -0.5)
"""Lengths that are tried; of equally good ones the longest is taken."""
_BIN = 0.5
"""Width of the classes of distance, in octaves."""
_ENOUGH = 200
"""Fewest pairs of a class."""


def correlation_length(parts: Sequence[tuple[Field, Field]]) -> float | None:
    """Return the length L of the exponential covariance, `a exp(-h / L)`, that samples follow.

    The covariance of pairs of samples by distance h is fitted by least squares over classes of equal width in log h
    (Cressie, Statistics for Spatial Data, 1993, 2.4 and 2.6); what single pixels have of their own is no part of it.

    Args:
        parts: regions with the values `(n, c)` of their samples, of mean about 0 in all regions together, and their
            places `(n, ndim)`. Pairs lie in one region.

    Returns:
        In the units of the places, 1 to 1024; None if there are too few pairs or nothing is alike.
    """
    counts, totals = np.zeros(64), np.zeros(64)
    if not parts:
        return None
    unit = np.sqrt(np.maximum(np.mean(np.concatenate([values for values, _ in parts]) ** 2, axis=0), 1e-30))
    for values, places in parts:
        for axis in range(places.shape[1]):
            # neighbours along this axis come one after the other
            order = np.lexsort(np.roll(places.T, -axis - 1, axis=0))
            # sums over a few channels or axes are slow where these lie side by side
            own, at = np.ascontiguousarray((values[order] / unit).T), np.ascontiguousarray(places[order].T)
            for k in range(2 * int(np.log2(max(len(order) // 2, 1))) + 1):
                lag = int(2 ** (k * _BIN))
                product = (own[:, lag:] * own[:, :-lag]).mean(axis=0)
                distance = np.sqrt(((at[:, lag:] - at[:, :-lag]) ** 2).sum(axis=0))
                numbers = np.log2(np.maximum(distance / _NEAREST, 0.5)) / _BIN + 1 / _BIN
                classes = np.minimum(numbers.astype(np.intp), len(counts) - 1)
                counts += np.bincount(classes, minlength=len(counts))
                totals += np.bincount(classes, weights=product, minlength=len(counts))
    widest = max(float(np.ptp(places, axis=0).max()) for _, places in parts)
    distances = _NEAREST * 2.0 ** (_BIN * (np.arange(len(counts)) + 0.5) - 1)
    used = (counts >= _ENOUGH) & (distances >= _NEAREST) & (distances <= widest / 2)
    if used.sum() < 3:
        return None
    found, model = totals[used] / counts[used], np.exp(-distances[used] / _LENGTHS[:, None])
    amplitude = (model @ found) / (model**2).sum(axis=1)
    misfit = ((found - amplitude[:, None] * model) ** 2).sum(axis=1)
    best = int(np.argmin(np.where(amplitude > 0, misfit, np.inf)))
    return float(_LENGTHS[best]) if amplitude[best] > 0 else None
