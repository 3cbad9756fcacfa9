"""The evidence of hazy pixels: what they show without the haze over them, as the survey found it, and how surely."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.geometry.box import Box
from pipeline.masks.base import FILL, HAZY, evidence
from pipeline.numerics.column import column

_AROUND = 6.0
"""Deviation of the Gaussian by which pixels around a hole pixel count, pixels."""


def without_haze(values: NDArray[Any], states: NDArray[np.uint8], haze: zarr.Array | None, box: Box) -> NDArray[Any]:
    """Return the values of `box` with the haze taken off the hazy pixels; the others as they are.

    Args:
        values: `(c, *box.shape)`, in data units, less a constant or not.
        states: `(n_state, *box.shape)`.
        haze: amount `(1, *spatial)` with the attribute `spectrum`, see `WorkFolder.haze`; None = there is none.
        box: where.
    """
    hazy = states == HAZY
    if haze is None or not hazy.any():
        return values
    added = np.asarray(haze[box.at()]) * column(haze.attrs["spectrum"], box.ndim, np.float32)
    return np.where(hazy, values - added, values)


def left_of_haze(states: NDArray[np.uint8], haze: zarr.Array | None, box: Box) -> NDArray[np.float32] | None:
    """Return the standard error that haze around them leaves in hole pixels, float32 `(c, *box.shape)`, data units.

    What is wrongly taken off, or left, is much the same all along a rim: it goes into the hole as it is, and pixels hidden
    beside a rim do not show it. It follows the mean amount of haze on the pixels around, the nearest ones first.

    Args:
        states: `(n_state, *box.shape)`.
        haze: amount `(1, *spatial)` with the attribute `left`, see `WorkFolder.haze`; None = there is none.
        box: where.

    Returns:
        None if there is no haze in the box.
    """
    hazy = np.asarray((states == HAZY).any(axis=0))
    if haze is None or not hazy.any():
        return None
    seen = evidence(states).any(axis=0).astype(np.float64)
    amount = np.where(hazy, np.asarray(haze[box.at()])[0], 0.0).astype(np.float64)
    # far inside a hole only differences in distance count: weights must not end before the window does
    total, weight = (
        ndimage.gaussian_filter(part, _AROUND, mode="constant", truncate=max(box.shape) / _AROUND)
        for part in (amount, seen)
    )
    around = np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), 0.0)
    error = column(haze.attrs["left"], box.ndim) * around
    return np.where(states == FILL, error, 0.0).astype(np.float32)
