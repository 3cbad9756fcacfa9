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
    """Regress `observed` on `prediction` around each pixel; return the fit and the agreement, both `spatial`.

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
    agreement: Field = np.clip(share / _CONVINCING, 0.0, 1.0)
    return (fit + centre).astype(np.float32), agreement.astype(np.float32)


def _line(y: Field, x: Field, weight: Field, scales: Sequence[float], prior: float) -> tuple[Field, Field]:
    """Return the locally fitted line at `x`, and the local mean of `y`."""
    x_known = np.where(weight > 0, x, 0.0)
    moments = [weight * v for v in (y, x_known, x_known * x_known, x_known * y)]
    mean_y, mean_x, mean_xx, mean_xy = _average(moments, weight, scales)
    variance = np.maximum(mean_xx - mean_x**2, 0.0)
    tiny = 1e-12 + 1e-12 * np.abs(mean_xx)
    slope = np.clip((mean_xy - mean_x * mean_y + prior) / (variance + prior + tiny), 0.0, 2.0)
    return mean_y + slope * (x - mean_x), mean_y


def _average(moments: list[Field], weight: Field, scales: Sequence[float]) -> list[Field]:
    """Return weighted means around each pixel, with a kernel whose tail covers the window.

    It is a sum of Gaussians of width `scales * 2^k`, each `_TAIL` times the one before, and a constant,
    so a pixel deep in a hole falls back to its wider surroundings and nothing is divided by zero.
    """
    total = [_blur(part, scales) for part in (*moments, weight)]
    factor, widths = 1.0, list(scales)
    while min(w / n for w, n in zip(widths, weight.shape, strict=True)) < 0.5:
        widths = [2.0 * w for w in widths]
        factor *= _TAIL
        total = [a + factor * _blur(part, widths) for a, part in zip(total, (*moments, weight), strict=True)]
    total = [a + factor * _TAIL * part.mean() for a, part in zip(total, (*moments, weight), strict=True)]
    return [part / total[-1] for part in total[:-1]]


def _blur(field: Field, scales: Sequence[float]) -> Field:
    """Gaussian blur (zero outside); wide ones on block means, whose error is far below the kernel's."""
    steps = [max(1, int(s / 6.0)) for s in scales]
    padded = np.pad(field, [(0, -n % f) for n, f in zip(field.shape, steps, strict=True)])
    split = [extent for n, f in zip(padded.shape, steps, strict=True) for extent in (n // f, f)]
    coarse = padded.reshape(split).mean(axis=tuple(range(1, 2 * field.ndim, 2)))
    narrow = [s / f for s, f in zip(scales, steps, strict=True)]
    blurred: Field = ndimage.gaussian_filter(coarse, narrow, mode="constant")
    for axis, (n, f) in enumerate(zip(field.shape, steps, strict=True)):
        blurred = _stretch(blurred, axis, n, f)
    return np.maximum(blurred, 0.0) if field.min() >= 0 else blurred


def _stretch(field: Field, axis: int, extent: int, step: int) -> Field:
    """Interpolate block means linearly to `extent` pixels along one axis."""
    if step == 1:
        return field
    position = np.clip((np.arange(extent) + 0.5) / step - 0.5, 0.0, field.shape[axis] - 1.0)
    low = np.minimum(position.astype(np.intp), max(field.shape[axis] - 2, 0))
    high = np.minimum(low + 1, field.shape[axis] - 1)
    share = (position - low).reshape([-1 if a == axis else 1 for a in range(field.ndim)])
    stretched: Field = (1.0 - share) * field.take(low, axis=axis) + share * field.take(high, axis=axis)
    return stretched
