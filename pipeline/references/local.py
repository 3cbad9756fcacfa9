"""The local step: a weighted multi-band regression in a window around each pixel, whose tail spans large holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.numerics.between import Between, between
from pipeline.numerics.column import column
from pipeline.numerics.products import one_thread
from pipeline.references.ridge import cauchy

Field = NDArray[np.float64]
_Real = TypeVar("_Real", np.float32, np.float64)

_BLOCK = 1.5
"""Widths of the regression window over the size of the blocks that it works on."""

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
    inside = error[:, common]
    # an error that is the same everywhere deviates by rounding alone
    least = np.maximum(1e-6 * np.abs(inside).max(axis=1), 1e-30)
    unit = column(np.maximum(inside.std(axis=1), least), common.ndim)
    error /= unit
    misfit = (error**2).mean(axis=0)
    usual = max(float(np.median(misfit[common])), 1e-12)
    weight = common * cauchy(misfit / usual, _OUTLIER if robust else np.inf)
    values = _ridge(error, guide, weight, scales) * unit
    values += prediction
    level = column(observed[:, common].mean(axis=1), common.ndim)
    off = np.where(common, observed - level, 0.0)
    plain = _Kernel(common, scales)
    spread = plain.mean(np.where(common, off - plain.everywhere(plain.mean(off)), 0.0) ** 2)
    left = plain.mean(np.where(common, observed - values, 0.0) ** 2)
    foreseen = plain.mean(np.where(common, expected, 0.0))
    ratio = left / np.maximum(foreseen, 1e-30)
    return LocalFit(values=values, misfit=plain.everywhere(ratio), spread=plain.everywhere(spread))


def smoothed(fields: NDArray[np.float32], some: NDArray[np.bool_], scales: Sequence[float]) -> NDArray[np.float32]:
    """Return means of `(n, *spatial)` over some of the pixels around each, under a Gaussian of a width per axis."""
    kernel = _Kernel(some, scales, tail=0.0)
    return kernel.everywhere(kernel.mean(fields))


def _ridge(y: Field, x: NDArray[np.float32], weight: Field, scales: Sequence[float]) -> Field:
    """Return the local ridge fit of all `y` `(c, ...)` on all `x` `(q, ...)`, everywhere."""
    kernel, known, q = _Kernel(weight, scales), weight > 0, len(x)
    both = np.where(known, np.concatenate([x, y], dtype=np.float32), np.float32(0))
    mean = kernel.everywhere(kernel.mean(both))
    moments = kernel.products(np.where(known, both - mean, np.float32(0)), q)
    gram, cross = moments[..., :q], moments[..., q:]
    slopes = np.linalg.solve(gram + _SHRINK * np.eye(q), cross)
    details, fitted = x - mean[:q], mean[q:]
    for k, detail in enumerate(details):
        for c, values in enumerate(fitted):
            # field by field: what is between stays in the processor's cache
            np.add(values, kernel.everywhere(slopes[None, ..., k, c].astype(np.float32))[0] * detail, out=values)
    return fitted.astype(np.float64)


class _Kernel:
    """Weighted means around each pixel, with a kernel whose tail covers the window.

    The kernel is a sum of Gaussians of width `scales * 2^k`, each `_TAIL` times the one before, and a constant, so a
    pixel deep in a hole falls back to its wider surroundings and nothing is divided by zero. It works on means of
    blocks two thirds of the width wide, and on Gaussians narrower by what blocks and interpolation between them blur.
    """

    def __init__(self, weight: NDArray[Any], scales: Sequence[float], tail: float = _TAIL) -> None:
        self._tail = tail
        self._steps = [max(1, int(scale / _BLOCK)) for scale in scales]
        self._widths = [
            float(np.sqrt((scale / step) ** 2 - (1 - step**-2) / 4))
            for scale, step in zip(scales, self._steps, strict=True)
        ]
        self._shape = weight.shape
        self._weight = _blocks(weight[None].astype(np.float64), self._steps)
        self._total = self._blurred(self._weight.mean(axis=-1)[None, ..., 0])

    def mean(self, fields: NDArray[_Real]) -> NDArray[_Real]:
        """Return the weighted means of `(n, *spatial)` around each block, `(n, *coarse)`."""
        parts = _blocks(fields, self._steps)
        weight = np.moveaxis(self._weight, -1, -2).astype(fields.dtype) / fields.dtype.type(parts.shape[-1])
        with one_thread():
            means = (parts @ weight)[..., 0]
        return self._around(np.moveaxis(means, -1, 0))

    def products(self, fields: NDArray[np.float32], q: int) -> Field:
        """Return weighted means of products of the first `q` fields with all `n`, `(*coarse, q, n)`."""
        parts = _blocks(fields, self._steps)
        weighted = parts[..., :q, :] * self._weight.astype(np.float32)
        with one_thread():
            moments = weighted @ np.moveaxis(parts, -1, -2) / np.float32(parts.shape[-1])
        # of those of the first with one another half are enough
        row, col = np.triu_indices(q, m=len(fields))
        result = np.empty((*moments.shape[:-2], q, len(fields)))
        result[..., row, col] = np.moveaxis(self._around(np.moveaxis(moments[..., row, col], -1, 0)), 0, -1)
        result[..., col[col < q], row[col < q]] = result[..., row[col < q], col[col < q]]
        return result

    def everywhere(self, fields: NDArray[_Real]) -> NDArray[_Real]:
        """Interpolate fields of blocks to fields of pixels."""
        return _stretch(fields, self._steps, self._shape)

    def _around(self, fields: NDArray[_Real]) -> NDArray[_Real]:
        return np.asarray(self._blurred(fields) / np.maximum(self._total, 1e-30), dtype=fields.dtype)

    def _blurred(self, fields: NDArray[_Real]) -> NDArray[_Real]:
        return _long_tailed(fields, self._widths, self._tail)


def _long_tailed(fields: NDArray[_Real], widths: Sequence[float], tail: float) -> NDArray[_Real]:
    """Blur `(n, *coarse)` by the kernel; each doubling of the width is a halving of the grid."""
    shape = fields.shape[1:]
    blurred: NDArray[_Real] = ndimage.gaussian_filter(fields, (0.0, *widths), mode="constant")
    if tail == 0:
        return blurred
    if all(extent == 1 or width >= extent / 2 for width, extent in zip(widths, shape, strict=True)):
        inner = tuple(range(1, fields.ndim))
        blurred += tail * fields.mean(axis=inner, keepdims=True)
        return blurred
    coarse = fields
    for axis in range(1, fields.ndim):
        coarse = _halved(coarse, axis)
    blurred += tail * _stretch(_long_tailed(coarse, widths, tail), (2,) * len(shape), shape)
    return blurred


def _halved(fields: NDArray[_Real], axis: int) -> NDArray[_Real]:
    """Return means of two and two along one axis, padded by zeros."""
    rows = np.moveaxis(fields, axis, 0)
    result = 0.5 * rows[::2]
    result[: len(rows) // 2] += 0.5 * rows[1::2]
    return np.moveaxis(result, 0, axis)


def _blocks(fields: NDArray[_Real], steps: Sequence[int]) -> NDArray[_Real]:
    """Return `(*coarse, n, pixels of a block)` of `(n, *spatial)`, padded by zeros."""
    ndim: int = len(steps)
    missing: list[tuple[int, int]] = [(0, -n % f) for n, f in zip(fields.shape[1:], steps, strict=True)]
    # also where nothing is missing `np.pad` copies
    padded = np.pad(fields, [(0, 0), *missing]) if np.any(missing) else fields
    extents = [extent for n, f in zip(padded.shape[1:], steps, strict=True) for extent in (n // f, f)]
    order = (*range(1, 2 * ndim, 2), 0, *range(2, 2 * ndim + 1, 2))
    parts = padded.reshape(len(fields), *extents).transpose(order)
    return parts.reshape(*parts.shape[: ndim + 1], -1)


def _stretch(fields: NDArray[_Real], steps: Sequence[int], shape: tuple[int, ...]) -> NDArray[_Real]:
    """Interpolate means of blocks of `steps` pixels linearly from `(n, *coarse)` to `(n, *shape)`."""
    sizes = zip(shape, steps, fields.shape[1:], strict=True)
    ends = [between(n, step, coarse) if step > 1 else None for n, step, coarse in sizes]
    result = np.empty((len(fields), *shape), dtype=fields.dtype)
    for field, stretched in zip(fields, result, strict=True):
        # field by field: what is between stays in the processor's cache
        stretched[...] = _stretched(field, ends)
    return result


def _stretched(field: NDArray[_Real], ends: Sequence[Between | None]) -> NDArray[_Real]:
    """Interpolate one field, `(*coarse)`: the last axis first, as long rows are copied faster than single pixels."""
    for axis in reversed(range(field.ndim)):
        found = ends[axis]
        if found is not None:
            low, high, share = found
            above = field.take(high, axis=axis)
            field = field.take(low, axis=axis)
            above -= field
            above *= share.reshape([-1 if a == axis else 1 for a in range(field.ndim)]).astype(field.dtype)
            field += above
    return field
