"""The local step: a weighted multi-band regression in a window around each pixel, whose tail spans large holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.numerics.column import column
from pipeline.references.ridge import cauchy

Field = NDArray[np.float64]

_OUTLIER = 2.0
"""Residuals beyond this many robust standard errors lose weight."""
_TAIL = 0.1
"""Weight of each doubling of the regression window; small, so it only matters where little is observed."""
_SHRINK = 0.02
"""Pull of the local correction toward none, as a share of the variance of a standardised band of the guide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFit:
    """What a regression around each pixel found, float64 `(c, *spatial)` each.

    Attributes:
        values: the corrected prediction, everywhere.
        misfit: mean squared misfit around each pixel over what was expected there; 1 if no band differs.
        spread: local variance of the observed values, data units squared.
    """

    values: Field
    misfit: Field
    spread: Field


def local_fit(
    observed: Field,
    said: tuple[Field, Field],
    guide: NDArray[np.float32],
    common: NDArray[np.bool_],
    scales: Sequence[float],
    *,
    robust: bool = True,
) -> LocalFit:
    """Correct a prediction by a regression of its error on all components of the guide around each pixel.

    One robust weighting, where there is one, keeps pixels of undetected clouds or change from bending it. The slope is
    that of the details: all are freed of their own local mean first, so a gradient of haze or bias does not pass for a
    relation.

    Args:
        observed: `(c, *spatial)`, anything outside `common`.
        said: prediction and expected squared misfit, `(c, *spatial)` each.
        guide: `(q, *spatial)`, zero mean, variance about 1.
        common: bool `spatial`, pixels to learn from; at least one.
        scales: width of the window per axis, pixels.
        robust: as in `fit_relation`.
    """
    prediction, expected = said
    error = np.where(common, observed - prediction, 0.0)
    unit = column(np.maximum(error[:, common].std(axis=1), 1e-30), common.ndim)
    misfit = ((error / unit) ** 2).mean(axis=0)
    usual = max(float(np.median(misfit[common])), 1e-12)
    weight = common * cauchy(misfit / usual, _OUTLIER if robust else np.inf)
    values = prediction + unit * _ridge(error / unit, guide.astype(np.float64), weight, scales)
    level = observed[:, common].mean(axis=1).reshape(unit.shape)
    values_off = np.where(common, observed - level, 0.0)
    plain = _Kernel(common.astype(np.float64), scales)
    spread = plain.mean(np.where(common, values_off - plain.mean(values_off), 0.0) ** 2)
    left = plain.mean(np.where(common, observed - values, 0.0) ** 2)
    foreseen = plain.mean(np.where(common, expected, 0.0))
    return LocalFit(values=values, misfit=left / np.maximum(foreseen, 1e-30), spread=spread)


def _ridge(y: Field, x: Field, weight: Field, scales: Sequence[float]) -> Field:
    """Return the local ridge fit of all `y` `(c, ...)` on all `x` `(q, ...)`, everywhere."""
    kernel, known, q = _Kernel(weight, scales), weight > 0, len(x)
    both = np.concatenate([x, y])
    mean = kernel.mean(np.where(known, both, 0.0))
    detail = np.where(known, both - mean, 0.0)
    moments = kernel.products(detail, q)
    gram, cross = (np.moveaxis(part, (0, 1), (-2, -1)) for part in (moments[:, :q], moments[:, q:]))
    solved = np.linalg.solve(gram + _SHRINK * np.eye(q), cross)
    slope: Field = np.asarray(np.moveaxis(solved, (-2, -1), (0, 1)), dtype=np.float64).reshape(-1, *solved.shape[:-2])
    slopes = kernel.everywhere(slope).reshape(q, len(y), *weight.shape)
    fitted: Field = mean[q:] + np.einsum("qc...,q...->c...", slopes, x - mean[:q])
    return fitted


class _Kernel:
    """Weighted means around each pixel, with a kernel whose tail covers the window.

    The kernel is a sum of Gaussians of width `scales * 2^k`, each `_TAIL` times the one before, and a constant, so a
    pixel deep in a hole falls back to its wider surroundings and nothing is divided by zero. It works on means of
    blocks a third of the width wide, whose error is far below the kernel's.
    """

    def __init__(self, weight: Field, scales: Sequence[float]) -> None:
        self._steps = [max(1, int(scale / 3.0)) for scale in scales]
        self._widths = [scale / step for scale, step in zip(scales, self._steps, strict=True)]
        self._shape = weight.shape
        self._weight = _split(weight[None], self._steps)
        self._total = _long_tailed(self._weight.mean(axis=-1), self._widths)

    def mean(self, fields: Field) -> Field:
        """Return the weighted means of `(n, *spatial)` around each pixel."""
        return self.everywhere(self._around(np.asarray((_split(fields, self._steps) * self._weight).mean(axis=-1))))

    def products(self, fields: Field, q: int) -> Field:
        """Return weighted means of products of the first `q` fields with all `n`, `(q, n, *coarse)`."""
        parts = _split(fields, self._steps)
        n, coarse = len(fields), parts.shape[1:-1]
        flat = parts.reshape(n, -1, parts.shape[-1])
        weighted = flat[:q] * self._weight.reshape(1, *flat.shape[1:])
        moments = np.einsum("ibp,jbp->ijb", weighted, flat) / parts.shape[-1]
        return self._around(moments.reshape(q * n, *coarse)).reshape(q, n, *coarse)

    def everywhere(self, fields: Field) -> Field:
        """Interpolate fields of blocks to fields of pixels."""
        return _stretch(fields, self._steps, self._shape)

    def _around(self, fields: Field) -> Field:
        result: Field = _long_tailed(fields, self._widths) / self._total
        return result


def _long_tailed(fields: Field, widths: Sequence[float]) -> Field:
    """Blur `(n, *coarse)` by the kernel; each doubling of the width is a halving of the grid."""
    shape = fields.shape[1:]
    blurred: Field = ndimage.gaussian_filter(fields, (0.0, *widths), mode="constant")
    if all(extent == 1 or width >= extent / 2 for width, extent in zip(widths, shape, strict=True)):
        inner = tuple(range(1, fields.ndim))
        return np.asarray(blurred + _TAIL * fields.mean(axis=inner, keepdims=True))
    half = (2,) * len(shape)
    coarse: Field = _split(fields, half).mean(axis=-1)
    return blurred + _TAIL * _stretch(_long_tailed(coarse, widths), half, shape)


def _split(fields: Field, steps: Sequence[int]) -> Field:
    """Return `(n, *coarse, pixels of a block)` of `(n, *spatial)`, padded by zeros."""
    missing = [(0, -n % f) for n, f in zip(fields.shape[1:], steps, strict=True)]
    # also where nothing is missing `np.pad` copies
    padded = np.pad(fields, [(0, 0), *missing]) if np.any(missing) else fields
    extents = [extent for n, f in zip(padded.shape[1:], steps, strict=True) for extent in (n // f, f)]
    inner = tuple(range(2, 2 * len(steps) + 1, 2))
    parts = np.moveaxis(padded.reshape(-1, *extents), inner, tuple(range(-len(steps), 0)))
    result: Field = parts.reshape(*parts.shape[: 1 + len(steps)], -1)
    return result


def _stretch(fields: Field, steps: Sequence[int], shape: tuple[int, ...]) -> Field:
    """Interpolate means of blocks of `steps` pixels linearly from `(n, *coarse)` to `(n, *shape)`."""
    result = np.empty((len(fields), *shape))
    for field, stretched in zip(fields, result, strict=True):
        # field by field: what is between stays in the processor's cache
        stretched[...] = _stretched(field, steps, shape)
    return result


def _stretched(field: Field, steps: Sequence[int], shape: tuple[int, ...]) -> Field:
    """Interpolate one field, `(*coarse)` to `shape`."""
    for axis, (extent, step) in enumerate(zip(shape, steps, strict=True)):
        if step > 1:
            last = field.shape[axis] - 1
            position = np.clip((np.arange(extent) + 0.5) / step - 0.5, 0.0, last)
            low = position.astype(np.intp)
            share = (position - low).reshape([-1 if a == axis else 1 for a in range(field.ndim)])
            below, above = field.take(low, axis=axis), field.take(np.minimum(low + 1, last), axis=axis)
            below *= 1.0 - share
            above *= share
            below += above
            field = below
    return field
