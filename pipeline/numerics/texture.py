"""The detail of an image in bands of scale, and how much of each a pixel may take from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_TRUNCATE = 3.0

Array = NDArray[np.float32]


def reach(sigmas: Sequence[float]) -> int:
    """Return how many pixels around a patch its bands depend on."""
    return int(_TRUNCATE * max(sigmas) + 0.5)


def detail_bands(values: Array, known: NDArray[np.bool_], sigmas: Sequence[float]) -> Array:
    """Return the detail of an image by scale, `(b, c, *spatial)` float32; 0 where nothing is known.

    Band k holds what a Gaussian of `sigmas[k]` takes away from one of `sigmas[k - 1]`, the first one what that of
    `sigmas[0]` takes away from the image. What is not known has no weight.

    Args:
        values: `(c, *spatial)`, finite.
        known: `(1 | c, *spatial)`.
        sigmas: in pixels, ascending.
    """
    everywhere = bool(known.all())
    weighted = values if everywhere else np.where(known, values, np.float32(0))
    bands = np.empty((len(sigmas), *values.shape), dtype=np.float32)
    finer = weighted
    for k, sigma in enumerate(sigmas):
        coarser = np.stack([_blurred(plane, sigma) for plane in weighted])
        if not everywhere:
            share = np.stack([_blurred(plane.astype(np.float32), sigma) for plane in known])
            coarser /= np.maximum(share, np.float32(1e-6))
        np.subtract(finer, coarser, out=bands[k])
        finer = coarser
    return bands if everywhere else np.where(known, bands, np.float32(0))


def _blurred(plane: Array, sigma: float) -> Array:
    blurred: Array = gaussian_filter(plane, sigma, truncate=_TRUNCATE, mode="nearest")
    return blurred


def onset(distance: NDArray[np.floating], sigma: float) -> Array:
    """Return how much of a band a pixel may take, 0 to 1: at the rim what is beside it tells its detail already.

    Detail of a band resembles that of pixels up to about its `sigma` away; what they do not tell comes from elsewhere.

    Args:
        distance: to the nearest observed pixel, in pixels, any shape.
        sigma: of the band, as in `detail_bands`.
    """
    return np.asarray(np.sqrt(1 - np.exp(-((distance / (_ONSET * sigma)) ** 2))), dtype=np.float32)


_ONSET = 1.5
"""Distance in sigmas of a band at which 63 % of its variance are lent."""
