"""Scores over hidden pixels only: whole-image scores flatter every method with the pixels it merely copied."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def psnr_db(squared_error: float, value_range: float) -> float:
    """Return `20 log10(R / RMSE)` in dB for a mean squared error; infinity for an exact result.

    `value_range` is R, the p1-p99 range of the observed pixels of that channel, in the same units as the error.
    """
    if squared_error <= 0:
        return math.inf
    return 10.0 * math.log10(value_range**2 / squared_error) if value_range > 0 else -math.inf


def channel_mse(
    estimate: NDArray[np.floating], truth: NDArray[np.floating], hidden: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the mean squared error of each channel over its hidden pixels, shape `(c,)`; NaN where none is hidden."""
    error = np.where(hidden, estimate.astype(np.float64) - truth.astype(np.float64), 0.0)
    axes = tuple(range(1, error.ndim))
    count = hidden.sum(axis=axes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((error**2).sum(axis=axes) / np.where(count > 0, count, np.nan))


def normalised_mse(mse: NDArray[np.float64], value_range: NDArray[np.float64]) -> float:
    """Return the mean over channels of `mse / R^2`; channels without hidden pixels or without range are left out."""
    usable = np.isfinite(mse) & (value_range > 0)
    if not usable.any():
        return math.nan
    return float(np.mean(mse[usable] / value_range[usable] ** 2))
