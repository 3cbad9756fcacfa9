"""The local step: a weighted regression in a window around each pixel, with a tail that spans large holes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float64]

_OUTLIER = 2.0
"""Residuals beyond this many robust standard errors lose weight."""
_TAIL = 0.1
"""Weight of each doubling of the regression window; small, so it only matters where little is observed."""
_SHRINK = 0.05
"""Pull of the local slope toward 1, as a share of the global variance of the prediction."""
_CONVINCING = 0.3
"""Share of the local variance explained at which a reference deserves full trust. On real date pairs the
blend weight that minimises the error was 0.75-1.0 at shares of 0.4-0.7, so the share itself would be too
timid."""


def local_fit(
    observed: Field, prediction: Field, common: NDArray[np.bool_], scales: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Regress `observed` on `prediction` around each pixel; return the fit and its reliability, both `spatial`.

    One robust reweighting keeps pixels of undetected clouds or change from bending the line.
    """
    weight: Field = common.astype(np.float64)
    centre = float(observed[common].mean())  # second moments of centred values do not cancel
    y, x = np.where(common, observed - centre, 0.0), prediction - centre
    prior = _SHRINK * float(x[common].var())
    fit = _line(y, x, weight, scales, prior)[0]
    misfit = np.where(common, y - fit, 0.0) ** 2
    typical = max(float(np.median(misfit[common])), 1e-12)
    weight /= 1.0 + misfit / (_OUTLIER**2 * typical)
    fit, mean = _line(y, x, weight, scales, prior)
    rest, spread = _average([common * (y - fit) ** 2, common * (y - mean) ** 2], common.astype(np.float64), scales)
    share = 1.0 - rest / np.maximum(spread, 1e-12)
    reliability: Field = np.clip(share / _CONVINCING, 0.0, 1.0)
    return (fit + centre).astype(np.float32), reliability.astype(np.float32)


def _line(y: Field, x: Field, weight: Field, scales: Sequence[float], prior: float) -> tuple[Field, Field]:
    """Return the locally fitted line at `x`, and the local mean of `y`.

    The slope is that of the details: both are freed of their own local mean first, so a gradient of haze or bias
    within the window does not pass for a relation. What the details miss is left to the residual.
    """
    known = weight > 0
    mean_y, mean_x = _average([weight * y, weight * np.where(known, x, 0.0)], weight, scales)
    detail_y, detail_x = np.where(known, y - mean_y, 0.0), np.where(known, x - mean_x, 0.0)
    moments = [weight * detail_x * detail_x, weight * detail_x * detail_y]
    variance, covariance = _average(moments, weight, scales)
    slope = np.clip((covariance + prior) / (variance + prior + 1e-12), 0.0, 2.0)
    return mean_y + slope * (x - mean_x), mean_y


def _average(moments: list[Field], weight: Field, scales: Sequence[float]) -> list[Field]:
    """Return weighted means around each pixel, with a kernel whose tail covers the window.

    The kernel is a sum of Gaussians of width `scales * 2^k`, each `_TAIL` times the one before, and a constant, so a
    pixel deep in a hole falls back to its wider surroundings and nothing is divided by zero. It works on means of
    blocks a third of the width wide, whose error is far below the kernel's.
    """
    steps = [max(1, int(scale / 3.0)) for scale in scales]
    parts = [_block_means(part, steps) for part in (*moments, weight)]
    widths = [scale / step for scale, step in zip(scales, steps, strict=True)]
    total = [_long_tailed(part, widths) for part in parts]
    means = [part / total[-1] for part in total[:-1]]
    return [_stretch(mean, steps, weight.shape) for mean in means]


def _long_tailed(field: Field, widths: Sequence[float]) -> Field:
    """Blur by the kernel of `_average`; each doubling of the width is a halving of the grid."""
    blurred: Field = ndimage.gaussian_filter(field, widths, mode="constant")
    if all(width >= extent / 2 for width, extent in zip(widths, field.shape, strict=True)):
        return blurred + _TAIL * float(field.mean())
    half = (2,) * field.ndim
    tail: Field = _stretch(_long_tailed(_block_means(field, half), widths), half, field.shape)
    return blurred + _TAIL * tail


def _block_means(field: Field, steps: Sequence[int]) -> Field:
    padded = np.pad(field, [(0, -n % f) for n, f in zip(field.shape, steps, strict=True)])
    split = [extent for n, f in zip(padded.shape, steps, strict=True) for extent in (n // f, f)]
    means: Field = padded.reshape(split).mean(axis=tuple(range(1, 2 * field.ndim, 2)))
    return means


def _stretch(field: Field, steps: Sequence[int], shape: tuple[int, ...]) -> Field:
    """Interpolate means of blocks of `steps` pixels linearly to an array of `shape`."""
    for axis, (extent, step) in enumerate(zip(shape, steps, strict=True)):
        if step > 1:
            last = field.shape[axis] - 1
            position = np.clip((np.arange(extent) + 0.5) / step - 0.5, 0.0, last)
            low = position.astype(np.intp)
            share = (position - low).reshape([-1 if a == axis else 1 for a in range(field.ndim)])
            high = np.minimum(low + 1, last)
            field = (1.0 - share) * field.take(low, axis=axis) + share * field.take(high, axis=axis)
    return field
