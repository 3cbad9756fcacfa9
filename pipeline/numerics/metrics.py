"""Scores over hidden pixels only: whole-image scores flatter every method with the pixels it merely copied.

What is summed is summed by part (a hole, a piece of image), so that a score can be made of any choice of parts: the
bootstrap draws them again and again.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter, uniform_filter

from pipeline.numerics.pixels import neighbours

PERFECT_DB = 99.0
"""What an exact result counts."""

_SSIM_EDGE = 7
_SSIM_K = (0.01, 0.03)
"""Edge of the window and the two constants, as scikit-image and the BraTS inpainting challenge use them."""

Floats = NDArray[np.floating]


def mean_psnr_db(mse: Floats, value_range: Floats) -> NDArray[np.float64]:
    """Return the mean over channels of `20 log10(R / RMSE)`, dB, at most `PERFECT_DB`, shape `(...)`.

    Args:
        mse: mean squared errors `(..., c)`; NaN where nothing is known of a channel.
        value_range: R of each channel, the p1-p99 range of its observed pixels, `(c,)`. Channels without range or error
            are left out; NaN if none is left.
    """
    error, reach = np.asarray(mse, dtype=np.float64), np.asarray(value_range, dtype=np.float64)
    usable = np.isfinite(error) & (reach > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        decibel = np.minimum(10 * np.log10(reach**2 / error), PERFECT_DB)
    return mean_where(decibel, usable)


def mean_where(values: Floats, usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over the last axis of the values `(..., n)` that are usable, `(...)`; NaN without any."""
    count = usable.sum(axis=-1)
    total = np.where(usable, values, 0.0).sum(axis=-1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


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
    """Return the mean over channels of `mse / R^2`, both `(c,)`; those without hidden pixels or range are left out."""
    # the square of a range below 1e-162 is 0
    usable = np.isfinite(mse) & (value_range**2 > 0)
    if not usable.any():
        return math.nan
    return float(np.mean(mse[usable] / value_range[usable] ** 2))


def tiles(shape: tuple[int, ...], edge: int) -> NDArray[np.int64]:
    """Return the number, from 1, of the tile of `edge` pixels a side that each pixel lies in, `(*shape)`."""
    label = np.zeros(shape, dtype=np.int64)
    for axis, n in enumerate(shape):
        index = np.arange(n) // edge
        label = label * (int(index[-1]) + 1) + index.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return label + 1


def sums_by_part(values: Floats, labels: NDArray[np.integer], parts: int) -> NDArray[np.float64]:
    """Return the sum of `values` over each part, `(parts, c)`.

    Args:
        values: `(c, *spatial)`, finite where `labels` are not 0.
        labels: `(c | 1, *spatial)`, part of each pixel from 1; 0 belongs to none.
        parts: number of parts.
    """
    planes = np.broadcast_to(labels, values.shape)
    summed = [
        np.bincount(plane[plane > 0], band[plane > 0].astype(np.float64), minlength=parts + 1)[1:]
        for band, plane in zip(values, planes, strict=True)
    ]
    return np.stack(summed, axis=1)


def gradients_by_part(values: Floats, labels: NDArray[np.integer], parts: int) -> NDArray[np.float64]:
    """Return the sum of absolute differences of neighbours that lie in the same part, `(parts, c)`.

    Over that of the truth it is the gradient ratio: 1 is as sharp, less is blurred. Arguments are as in `sums_by_part`.
    """
    total = np.zeros((parts, len(values)))
    planes = np.broadcast_to(labels, values.shape)
    for near, far in neighbours(values.ndim - 1):
        together = np.where(planes[near] == planes[far], planes[near], 0)
        step = np.abs(values[near].astype(np.float64) - values[far])
        total += sums_by_part(np.where(together > 0, step, 0.0), together, parts)
    return total


def spectral_angles(estimate: Floats, truth: Floats) -> NDArray[np.float64]:
    """Return the angle between two spectra at each pixel in degrees, `(*spatial)`.

    The spectral angle mapper (Kruse et al. 1993, doi:10.1016/0034-4257(93)90013-N). A factor on all bands changes
    nothing. NaN where either spectrum is 0.

    Args:
        estimate: `(c, *spatial)`, values that are 0 where nothing is reflected.
        truth: the same shape and units.
    """
    one, other = estimate.astype(np.float64), truth.astype(np.float64)
    lengths = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (one * other).sum(axis=0) / np.where(lengths > 0, lengths, np.nan)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def ssim_edge(shape: tuple[int, ...]) -> int:
    """Return the edge of the windows that `ssim` looks through: 7 pixels, fewer where an axis is shorter."""
    return min(_SSIM_EDGE, *((n - 1) // 2 * 2 + 1 for n in shape))


def ssim(estimate: Floats, truth: Floats, value_range: float, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the structural similarity around each pixel of one channel, `(*spatial)`.

    Wang et al. 2004 (doi:10.1109/TIP.2003.819861) over square windows with sample covariances. NaN where the window
    leaves the array or holds a pixel that is not known.

    Args:
        estimate: `(*spatial)`, finite.
        truth: the same.
        value_range: R of the two constants, > 0, in the same units.
        known: bool `(*spatial)`, pixels whose true value is known.
    """
    edge = ssim_edge(truth.shape)
    x, y = estimate.astype(np.float64), truth.astype(np.float64)
    # covariances of values around 0 lose no digits
    middle = float(y[known].mean()) if known.any() else 0.0
    x, y = np.where(known, x - middle, 0.0), np.where(known, y - middle, 0.0)
    count = edge**truth.ndim
    unbiased = count / max(count - 1, 1)
    mean_x, mean_y = (uniform_filter(v, edge) for v in (x, y))
    var_x, var_y, both = (
        unbiased * (uniform_filter(product, edge) - means)
        for product, means in ((x * x, mean_x**2), (y * y, mean_y**2), (x * y, mean_x * mean_y))
    )
    mean_x, mean_y = mean_x + middle, mean_y + middle
    c1, c2 = ((k * value_range) ** 2 for k in _SSIM_K)
    similar = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    with np.errstate(invalid="ignore", divide="ignore"):
        result = similar / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    whole = minimum_filter(known, edge, mode="constant", cval=False)
    return np.where(whole, result, np.nan)
