"""Local roughness of the observed pixels: the raw standard error of a fill before calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_SCALES_PX = (6.0, 18.0, 54.0)
_SCALE_WEIGHT = 1e-2


def local_scale(
    values: NDArray[np.float32], valid: NDArray[np.bool_], floor: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the local standard deviation of the observed values, `(c, *spatial)`, never below `floor`.

    Moments are taken in Gaussian windows of 6, 18 and 54 pixels; each wider one counts 1 % of the one before, so
    it decides only where the narrower ones see nothing. Unlike one number a window this field is continuous.

    Args:
        values: float32 `(c, *spatial)`, data units.
        valid: bool, same shape; True = observed.
        floor: float32 `(c,)`, smallest scale of each channel.
    """
    result = np.empty_like(values)
    for c in range(values.shape[0]):
        seen = valid[c]
        if not seen.any():
            result[c] = floor[c]
            continue
        centred = np.where(seen, values[c] - values[c][seen].mean(dtype=np.float64), 0.0)
        total = first = second = 0.0
        weight = 1.0
        for scale in _SCALES_PX:
            total = total + weight * gaussian_filter(seen.astype(np.float64), scale, mode="constant")
            first = first + weight * gaussian_filter(centred, scale, mode="constant")
            second = second + weight * gaussian_filter(centred**2, scale, mode="constant")
            weight *= _SCALE_WEIGHT
        share = np.maximum(total, 1e-30)
        variance = second / share - (first / share) ** 2
        overall = float(centred[seen].std())
        scale_map = np.where(total > 1e-12, np.sqrt(np.maximum(variance, 0.0)), overall)
        result[c] = np.maximum(scale_map, floor[c])
    return result
