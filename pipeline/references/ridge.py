"""The global step: one linear map from all bands of a reference to all bands of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.column import column
from pipeline.numerics.products import inner

Field = NDArray[np.float64]

_ENOUGH = 32
"""Fewest common pixels per reference band on which a map is worth fitting."""
OUTLIER = 3.0
"""Pixels beyond this many robust standard errors lose weight, where any do."""
_PASSES = 3
_PULL = 0.02
"""Pull of `fit_pulled` toward the reference itself, as a share of the number of pixels it is fitted on."""
_PRIOR = 2000.0
"""The same as a number of pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ridge:
    """A linear map from all bands of a reference to all bands of the target, in data units.

    Attributes:
        matrix: `c` rows of `c_ref` coefficients.
        offset: per target band.
        low: 0.5 % quantile of each target band on the pixels it was fitted on.
        high: 99.5 % quantile.
        samples: pixels it was fitted on; 0 if there were too few, and the map then says nothing.
        explained: share of each target band's variance that the map explains, 0 to 1.
    """

    matrix: tuple[tuple[float, ...], ...]
    offset: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    samples: int
    explained: tuple[float, ...]

    def __call__(self, reference: NDArray[np.float32]) -> Field:
        """Map `(c_ref, *spatial)` to float64 `(c, *spatial)`; non-finite input counts as 0."""
        flat = reference.reshape(len(reference), -1)
        clean = np.where(np.isfinite(flat), flat, np.float32(0)).astype(np.float64)
        values: Field = inner(np.array(self.matrix), clean.T) + column(self.offset, 1)
        return values.reshape(len(values), *reference.shape[1:])


def fit_ridge(target: NDArray[Any], reference: NDArray[Any], ridge: float = 1e-3, *, outlier: float = OUTLIER) -> Ridge:
    """Fit the global multi-band linear map by robust ridge regression.

    Bands are standardised first, so `ridge` has no units; constant bands get no weight. Pixels are weighted by
    Cauchy's function: first of how unusual the reference is there, then, three times, of their residual over all
    bands; so neither clouds that no mask knows nor real change bend the map.

    Args:
        target: `(n, c)` observed values of the image.
        reference: `(n, c_ref)` values of the reference at the same pixels. Rows
            with non-finite values are left out.
        ridge: penalty as a share of the variance of one standardised band.
        outlier: robust standard errors beyond which pixels lose weight; infinite = none does.

    Raises:
        ValueError: the arrays are not 2-D or differ in length.
    """
    if target.ndim != 2 or reference.ndim != 2 or len(target) != len(reference):
        raise ValueError(f"target {target.shape} and reference {reference.shape} must be (n, c) and (n, c_ref)")
    finite = np.isfinite(target).all(axis=1) & np.isfinite(reference).all(axis=1)
    y, x = target[finite].astype(np.float64), reference[finite].astype(np.float64)
    bands, n_ref = target.shape[1], reference.shape[1]
    if len(y) < _ENOUGH * (n_ref + 1):
        zeros = (0.0,) * bands
        return Ridge(matrix=((0.0,) * n_ref,) * bands, offset=zeros, low=zeros, high=zeros, samples=0, explained=zeros)
    weight, scales = cauchy(_distance(x), outlier), (_scale(y), _scale(x))
    centres = y.mean(axis=0), x.mean(axis=0)
    ys, xs = (((part - m) / s).T for part, m, s in zip((y, x), centres, scales, strict=True))
    standard = np.concatenate([xs, ys, np.ones((1, len(y)))])
    for _ in range(_PASSES):
        matrix, offset = _regressed(standard, n_ref, weight, ridge)
        misfit = ((ys - inner(matrix, xs.T) - offset[:, None]) ** 2).mean(axis=0)
        weight = cauchy(misfit / max(float(np.median(misfit)), 1e-12), outlier)
    matrix, offset = _regressed(standard, n_ref, weight, ridge)
    rest = inner((ys - inner(matrix, xs.T) - offset[:, None]) ** 2, weight[None])[:, 0]
    level = inner(ys, weight[None]) / weight.sum()
    total = inner((ys - level) ** 2, weight[None])[:, 0]
    matrix *= scales[0][:, None] / scales[1]
    offset = centres[0] + scales[0] * offset - inner(matrix, centres[1][None])[:, 0]
    return _ridge(y, matrix, offset, 1.0 - rest / np.maximum(total, 1e-300))


def _regressed(standard: Field, m: int, weight: Field, ridge: float) -> tuple[Field, Field]:
    """Return matrix `(c, m)` and offset `(c,)` of the last rows but one on the first `m`, `(m + c + 1, n)`."""
    squares = inner(standard * weight, standard) / weight.sum()
    mean = squares[-1, :-1]
    covariance = squares[:-1, :-1] - mean[:, None] * mean
    matrix = np.linalg.solve(covariance[:m, :m] + ridge * np.eye(m), covariance[:m, m:]).T
    return matrix, mean[m:] - inner(matrix, mean[None, :m])[:, 0]


def fit_pulled(target: NDArray[Any], reference: NDArray[Any], weight: Field | None = None) -> Ridge:
    """Fit a linear map on few pixels: without evidence against it the reference holds as it is, but for its level.

    Where both have as many bands the difference between them is a constant, the median, plus a map that is pulled
    toward nothing; else so is the target itself.

    Args:
        target: finite `(n, c)`, n > 0.
        reference: finite `(n, c_ref)` at the same pixels.
        weight: `(n,)` of the pixels, 0 to 1; None = 1 each.
    """
    y, x = target.astype(np.float64), reference.astype(np.float64)
    z, unit = (x - x.mean(axis=0)) / _scale(x), _scale(x)
    counts = np.ones(len(z)) if weight is None else weight
    same = np.zeros((y.shape[1], x.shape[1]))
    if y.shape[1] == x.shape[1]:
        # each band follows its own; with few pixels by 1: another sensor may count otherwise, the same one does not
        slope = np.einsum("n,ni,ni->i", counts, z, y - y.mean(axis=0)) / len(z) / unit
        same = np.diag((len(z) * slope + _PRIOR) / (len(z) + _PRIOR))
    rest = y - inner(x, same)
    gram = np.einsum("n,ni,nj->ij", counts, z, z) + (_PULL * len(z) + _PRIOR) * np.eye(z.shape[1])
    slope = np.linalg.solve(gram, np.einsum("n,ni,nj->ij", counts, z, rest - np.median(rest, axis=0))).T / unit
    matrix = same + slope
    offset = np.median(y - inner(x, matrix), axis=0)
    left, around = y - inner(x, matrix) - offset, y - y.mean(axis=0)
    return _ridge(y, matrix, offset, 1.0 - (left**2).sum(axis=0) / np.maximum((around**2).sum(axis=0), 1e-300))


def _ridge(y: Field, matrix: Field, offset: Field, explained: Field) -> Ridge:
    """Return a map that was fitted to `y`, with the range of values it may give."""
    low, high = np.quantile(y, (0.005, 0.995), axis=0)
    return Ridge(
        matrix=tuple(map(tuple, matrix.tolist())),
        offset=tuple(offset.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        samples=len(y),
        explained=tuple(np.clip(explained, 0.0, 1.0).tolist()),
    )


def cauchy(squared: Field, outlier: float = OUTLIER) -> Field:
    """Return the weight of a squared, scaled distance: half at `outlier`, 1 everywhere where that is infinite."""
    weight: Field = 1.0 / (1.0 + squared / outlier**2)
    return weight


def _distance(part: Field) -> Field:
    """Return the mean squared distance from the median over columns, in robust standard deviations, `(n,)`."""
    away = np.abs(part - np.median(part, axis=0))
    spread = 1.4826 * np.median(away, axis=0)
    spread = np.where(spread > 0, spread, _scale(part))
    distance: Field = ((away / spread) ** 2).mean(axis=1)
    return distance


@dataclass(frozen=True, slots=True)
class Moments:
    """Weighted sums over pixels from which a ridge regression follows; those of parts add up to those of the whole.

    Attributes:
        squares: sums of products of all columns of `x`, `y` and 1, `(m + c + 1, m + c + 1)`.
        features: m.
    """

    squares: Field
    features: int

    @classmethod
    def of(cls, y: Field, x: Field, weight: Field) -> Moments:
        """Sum `(n, c)`, `(n, m)` and `(n,)` over the pixels."""
        both = np.concatenate([x, y, np.ones((len(x), 1))], axis=1).T
        return cls(inner(both * weight, both), x.shape[1])

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.squares + other.squares, self.features)

    def solve(self, penalty: float) -> tuple[Field, Field]:
        """Return matrix `(c, m)` and offset `(c,)`; the penalty is a share of the variance of each feature."""
        m, total = self.features, self.squares[-1, -1]
        mean = self.squares[-1, :-1] / total
        covariance = self.squares[:-1, :-1] / total - mean[:, None] * mean
        gram = covariance[:m, :m]
        scale = np.sqrt(np.maximum(gram.diagonal(), 1e-12))
        standard = gram / scale[:, None] / scale + penalty * np.eye(m)
        matrix = (np.linalg.solve(standard, covariance[:m, m:] / scale[:, None]) / scale[:, None]).T
        return matrix, mean[m:] - np.einsum("ij,j->i", matrix, mean[:m])


def regress(y: Field, x: Field, weight: Field, ridge: float) -> tuple[Field, Field]:
    """Return matrix `(c, c_ref)` and offset `(c,)`."""
    total = weight.sum()
    mean_y, mean_x = (np.einsum("n,nj->j", weight, part) / total for part in (y, x))
    scale_y, scale_x = _scale(y), _scale(x)
    ys, xs = ((y - mean_y) / scale_y).T, ((x - mean_x) / scale_x).T
    moments = inner(xs * weight, np.concatenate([xs, ys])) / total
    gram, cross = moments[:, : len(xs)] + ridge * np.eye(len(xs)), moments[:, len(xs) :]
    matrix = (np.linalg.solve(gram, cross) / scale_x[:, None] * scale_y).T
    return matrix, mean_y - np.einsum("ij,j->i", matrix, mean_x)


def _scale(part: Field) -> Field:
    """Standard deviation per column, 1 for constant ones, whose standardised values are zero."""
    spread = part.std(axis=0)
    quiet = spread <= 1e-9 * np.maximum(np.abs(part).max(axis=0), 1e-30)
    scale: Field = np.where(quiet, 1.0, spread)
    return scale
