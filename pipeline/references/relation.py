"""What the survey knows of one reference: how its values map to the image's, and how far off they may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.column import column
from pipeline.numerics.products import inner
from pipeline.numerics.replicated import interpolated
from pipeline.references.clusters import KINDS, Clusters, fit_clusters, odd_kinds
from pipeline.references.context import WAVES, standardised, with_waves
from pipeline.references.ridge import OUTLIER, Field, Moments, Ridge, cauchy, fit_pulled, fit_ridge, regress

_PIXELS_PER_BAND = 400
"""Pixels for each band of the reference below which its surroundings are left out of the map, and it is pulled."""
_PIXELS_PER_WAVE = 40
_MOST_PIXELS = 15_000
_PENALTIES = (3e-3, 3e-2, 0.3, 3.0)
_MISFIT_PENALTY = 1e-2
_AXES = 6
_SLAB = 8192
"""Pixels whose features are held at a time; each pixel is computed by itself, so the number does not matter."""
_PASSES = 2
_FOLDS, _STRIPS = 4, 3
"""Groups of pixels that are left out in turn, and strips of the image in each."""
_QUIET = 1e-3
"""Share of a band's typical squared misfit below which misfits are not told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """How a reference and the image are related, over the whole image; part of the plan.

    The prediction of the image is the mean of three: a linear map of the reference's context plus a smooth non-linear
    correction; a map of its bands pulled toward the reference itself; a map for each kind of cover. Their errors
    differ, so the mean is better than any of them (six date pairs: 0.3 dB over the first, none worse). How far off it
    will be is predicted, too, as the logarithm of its squared misfit, from what the reference looks like at a pixel:
    clouds, their shadows and kinds of cover that change look different from what stayed, and are learned as such on
    observed pixels.

    Attributes:
        ridge: linear map of the context, `m` values a pixel.
        pulled: linear map of the bands that stays near the reference itself, None if there were few pixels: `ridge` is
            that map then.
        clusters: a linear map for each kind of cover, None if there were few pixels.
        shares: of the three in the prediction, for each kind of cover: the greater the smaller its mean squared error,
            of all pixels or, where a map of all misses a kind, of that kind; those of a kind sum to 1.
        carries: what the map leaves over beside a hole is carried into it; not where nearly all is hidden and what is
            left over is haze.
        offset: where the reference shows what the image has at a pixel, relative to it, in pixels per axis.
        centre: mean of each context value, in units of the reference.
        scale: standard deviation of each context value.
        axes: `(q, c_ref)`, principal axes of the standardised bands.
        correction: per band of the image `m + waves` coefficients, in its units; empty if there were too few pixels.
        shift: per band, constant of the correction.
        log_misfit: per band `m + waves` coefficients of the logarithm of the squared misfit; empty if there were too
            few pixels.
        typical: per band, constant term of `log_misfit`.
        mildest: per band, smallest predicted `log_misfit` that is believed, smaller ones count as this.
        worst: per band, largest one that is believed.
        overfit_ratio: per band, squared misfit of pixels left out of the fit over that of fitted ones, at least 1.
        reach: distance within which what the relation leaves over is alike, the length of its exponential covariance in
            steps of the finest axis; None = not known.
        robust: pixels that do not fit count less, here and in the regression around a pixel.
        pixel_sizes: of each band of the reference along each axis, in pixels of the grid; empty = all are those of the
            grid.
        resolved: pixel size of each band of the image, the longest side: coarser bands of the reference tell of it
            without their squares. Empty like `pixel_sizes`.
    """

    ridge: Ridge
    pulled: Ridge | None = None
    clusters: Clusters | None = None
    shares: tuple[tuple[float, ...], ...] = ((1.0, 0.0, 0.0),) * KINDS
    carries: bool = True
    offset: tuple[float, ...] = ()
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...]
    correction: tuple[tuple[float, ...], ...]
    shift: tuple[float, ...]
    log_misfit: tuple[tuple[float, ...], ...]
    typical: tuple[float, ...]
    mildest: tuple[float, ...]
    worst: tuple[float, ...]
    overfit_ratio: tuple[float, ...]
    reach: float | None = None
    robust: bool = True
    pixel_sizes: tuple[tuple[float, ...], ...] = ()
    resolved: tuple[float, ...] = ()

    def views(
        self, reference: NDArray[np.float32], seen: NDArray[np.bool_]
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Yield bands of the image and what the reference is to them: the finest first, all at once where none differs.

        The map is that of the bands as they are: squares are noise that it has seen, and what is without them is not.
        """
        sizes = [max(axes) for axes in self.pixel_sizes]
        finest: dict[tuple[int, ...], list[int]] = {}
        for band, own in sorted(enumerate(self.resolved), key=lambda pair: (pair[1], pair[0])):
            finest.setdefault(tuple(b for b, size in enumerate(sizes) if size > own), []).append(band)
        for coarser, bands in (finest or {(): list(range(len(self.typical)))}).items():
            view = reference.copy() if coarser else reference
            for b in coarser:
                view[b] = interpolated(reference[b], seen, self.pixel_sizes[b])
            yield bands, view

    @property
    def outlier(self) -> float:
        """Return the robust standard errors beyond which pixels lose weight."""
        return OUTLIER if self.robust else np.inf

    def predict(self, context: NDArray[np.float32]) -> tuple[Field, Field]:
        """Return the predicted image and the expected squared misfit, float64 `(c, *spatial)` each."""
        linear = self.ridge(context)
        ndim = context.ndim - 1
        if not self.correction:
            misfit = np.exp(column(self.typical, ndim))
            return linear, np.broadcast_to(misfit, linear.shape)
        heads = np.asarray(self.correction + self.log_misfit, dtype=np.float32)
        waves = heads.shape[1] - len(self.centre)
        flat = context.reshape(len(context), -1)
        said = np.empty((len(heads), flat.shape[1]))
        for start in range(0, flat.shape[1], _SLAB):
            part = slice(start, start + _SLAB)
            features = with_waves(standardised(flat[:, part], self.centre, self.scale), waves)
            said[:, part] = inner(heads, features.T)
        said = said.reshape(-1, *context.shape[1:])
        bands = len(linear)
        correction = said[:bands] + column(self.shift, ndim)
        log_misfit = said[bands:] + column(self.typical, ndim)
        return self._mean(linear + correction, context), np.exp(
            np.clip(log_misfit, column(self.mildest, ndim), column(self.worst, ndim))
        )

    def _mean(self, said: Field, context: NDArray[np.float32]) -> Field:
        """Return the mean of a prediction and those of the other maps, by their shares in each kind of cover."""
        if self.pulled is None or self.clusters is None:
            return said
        bands = len(self.axes[0])
        z = standardised(context[:bands], self.centre[:bands], self.scale[:bands]).reshape(bands, -1)
        kind = np.concatenate([self.clusters.kind(part) for part in _slabs(z)])
        parts = zip(_slabs(z), _slabs(kind), strict=True)
        kinds = np.concatenate([self.clusters(part, some) for part, some in parts], axis=1).reshape(said.shape)
        own, pulled, clustered = np.asarray(self.shares)[kind].T.reshape(3, *said.shape[1:])
        return np.asarray(own * said + pulled * self.pulled(context[:bands]) + clustered * kinds)

    def guide(self, reference: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the principal components of standardised bands, `(q, *spatial)`; mean variance a band is 1."""
        bands = reference.shape[0]
        z = standardised(reference, self.centre[:bands], self.scale[:bands])
        components: NDArray[np.float32] = np.einsum("qb,b...->q...", np.asarray(self.axes, dtype=np.float32), z)
        return components


class _Heads(NamedTuple):
    """The non-linear part of a `Relation`."""

    correction: tuple[tuple[float, ...], ...]
    shift: tuple[float, ...]
    log_misfit: tuple[tuple[float, ...], ...]
    typical: tuple[float, ...]
    mildest: tuple[float, ...]
    worst: tuple[float, ...]
    overfit_ratio: tuple[float, ...]


def fit_relation(
    target: NDArray[Any], context: NDArray[Any], bands: int, *, few: bool = False, robust: bool = True
) -> Relation:
    """Relate the image to a reference on pixels observed in both.

    Args:
        target: `(n, c)` values of the image.
        context: `(n, m)` values of `references.context` at the same pixels; rows with non-finite values are left out.
        bands: number of bands of the reference, the first columns of `context`.
        few: count the pixels as few however many there are: the map is pulled toward the reference itself.
        robust: pixels that do not fit count less: they may be clouds or change. In an image of another kind they are
            kinds of cover or tissue to be learned.

    Raises:
        ValueError: the arrays are not 2-D or differ in length.
    """
    finite = np.isfinite(target).all(axis=1) & np.isfinite(context).all(axis=1)
    outlier = OUTLIER if robust else np.inf
    few = finite.any() and (few or finite.sum() < _PIXELS_PER_BAND * bands)
    ridge = _pulled(target[finite], context[finite], bands) if few else fit_ridge(target, context, outlier=outlier)
    step = -(-int(finite.sum()) // _MOST_PIXELS) or 1
    y, x = target[finite][::step].astype(np.float64), context[finite][::step].astype(np.float32)
    none = (0.0,) * target.shape[1]
    one = (1.0,) * target.shape[1]
    if ridge.samples == 0:
        return _relation(ridge, x, bands, _Heads((), none, (), none, none, none, one), robust)
    rest = y - ridge(x.T).T
    typical = np.log(np.maximum(np.median(rest**2, axis=0), 1e-30))
    waves = 0 if few else min(WAVES, len(y) // _PIXELS_PER_WAVE - x.shape[1])
    if waves <= 0:
        heads = _Heads((), none, (), _floats(typical), _floats(typical), _floats(typical), one)
        return _relation(ridge, x, bands, heads, robust)
    return _with_others(_relation(ridge, x, bands, _nonlinear(rest, _standard(x), waves, outlier), robust), y, x)


def _with_others(relation: Relation, y: Field, x: NDArray[np.float32]) -> Relation:
    """Add the two other maps of the bands, and the shares of the three."""
    bands, z, outlier = len(relation.axes[0]), _standard(x)[0], relation.outlier
    left = y - relation.predict(x.T)[0].T
    misfit = (left**2 / np.maximum(np.median(left**2, axis=0), 1e-30)).mean(axis=1)
    weight = cauchy(misfit / max(float(np.median(misfit)), 1e-12), outlier)
    pulled, clusters = fit_pulled(y, x[:, :bands], weight), fit_clusters(y, z[:bands], misfit, outlier)
    if clusters is None:
        return relation
    kind = clusters.kind(z[:bands])
    errors = left, y - pulled(x[:, :bands].T).T, y - clusters(z[:bands], kind).T
    # fitted pixels flatter the map with many coefficients
    one = np.ones(y.shape[1])
    flattered = np.asarray(relation.overfit_ratio), one, one

    def shares(some: NDArray[np.bool_] | slice, counts: Field) -> Field:
        rivals = [ratio * _mean_square(e[some], counts[some]) for ratio, e in zip(flattered, errors, strict=True)]
        unit = np.maximum(sum(rivals), 1e-30)
        worth = np.asarray([1.0 / max(float((rival / unit).mean()), 1e-6) ** 3 for rival in rivals])
        return np.asarray(worth / worth.sum())

    general, every = shares(slice(None), weight), np.ones(len(y))
    own = [shares(kind == k, every) if odd else general for k, odd in enumerate(odd_kinds(misfit, kind, outlier))]
    return replace(relation, pulled=pulled, clusters=clusters, shares=_rows(np.stack(own)))


def _slabs(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield `(..., n)` in parts."""
    for start in range(0, values.shape[-1], _SLAB):
        yield values[..., start : start + _SLAB]


def _mean_square(error: Field, weight: Field) -> Field:
    """Return the weighted mean squared error of each band, `(c,)`."""
    return np.asarray(np.einsum("n,nc->c", weight, error**2) / weight.sum())


def _pulled(target: NDArray[Any], context: NDArray[Any], bands: int) -> Ridge:
    """Return the pulled map of the bands, as one of the whole context."""
    ridge = fit_pulled(target, context[:, :bands])
    zeros = (0.0,) * (context.shape[1] - bands)
    return replace(ridge, matrix=tuple(row + zeros for row in ridge.matrix))


def _standard(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], Field, Field]:
    """Return standardised `x.T` with its centres and scales."""
    centre, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 1e-9 * np.maximum(np.abs(x).max(axis=0), 1e-30), scale, 1.0)
    return standardised(x.T, centre.tolist(), scale.tolist()), centre, scale


def _nonlinear(rest: Field, standard: tuple[NDArray[np.float32], Field, Field], waves: int, outlier: float) -> _Heads:
    """Fit the correction and the expected misfit to what the linear map left over, `(n, c)`.

    The penalty is the one with the smallest error on strips of the image that were left out; the misfit is learned
    from those errors, too, as pixels that were fitted look better than they are.
    """
    features = with_waves(standard[0], waves).T.astype(np.float64)
    scale = np.maximum(rest.std(axis=0), 1e-30)
    misfit = ((rest / scale) ** 2).mean(axis=1)
    parts = [(part, features[part]) for part in _strips(len(rest))]
    for _ in range(_PASSES):
        weight = cauchy(misfit / max(float(np.median(misfit)), 1e-12), outlier)
        folds = [Moments.of(rest[part], own, weight[part]) for part, own in parts]
        left_out, penalty = _left_out(rest / scale, parts, weight, folds, scale)
        misfit = (left_out**2).mean(axis=1)
    matrix, shift = sum(folds[1:], folds[0]).solve(penalty)
    fitted = rest - inner(features, matrix) - shift
    squared = (left_out * scale) ** 2
    level = np.log(squared + _QUIET * np.maximum(np.median(squared, axis=0), 1e-30))
    log_misfit, typical = regress(level, features, np.ones(len(level)), _MISFIT_PENALTY)
    overfit_ratio = np.median(squared, axis=0) / np.maximum(np.median(fitted**2, axis=0), 1e-30)
    mildest, worst = np.quantile(level, (0.01, 0.99), axis=0)
    return _Heads(
        correction=_rows(matrix),
        shift=_floats(shift),
        log_misfit=_rows(log_misfit),
        typical=_floats(typical),
        mildest=_floats(mildest),
        worst=_floats(worst),
        overfit_ratio=_floats(np.clip(overfit_ratio, 1.0, 10.0)),
    )


def _strips(n: int) -> list[NDArray[np.intp]]:
    """Return the numbers of every pixel by strip: samples come in the order of the image."""
    strip = np.arange(n) * (_FOLDS * _STRIPS) // n % _FOLDS
    return [np.flatnonzero(strip == k) for k in range(_FOLDS)]


def _left_out(
    y: Field, parts: list[tuple[NDArray[np.intp], Field]], weight: Field, folds: list[Moments], scale: Field
) -> tuple[Field, float]:
    """Return errors of pixels left out in turn, in units of `scale`, at the penalty where they are smallest.

    Args:
        y: `(n, c)`, what is to be explained, in units of `scale`.
        parts: for each strip the numbers of its pixels and their features.
        weight: `(n,)`.
        folds: moments of each strip.
        scale: `(c,)`.
    """
    best, chosen = np.inf, (y, _PENALTIES[-1])
    for penalty in _PENALTIES:
        error = np.empty_like(y)
        for k, (part, features) in enumerate(parts):
            others = [fold for i, fold in enumerate(folds) if i != k]
            matrix, shift = sum(others[1:], others[0]).solve(penalty)
            error[part] = y[part] - (inner(features, matrix) + shift) / scale
        size = float(np.einsum("n,nc->", weight, error**2))
        if size < best:
            best, chosen = size, (error, penalty)
    return chosen


def _relation(ridge: Ridge, x: NDArray[np.float32], bands: int, heads: _Heads, robust: bool) -> Relation:
    """Put a relation together; principal axes from the correlations of the bands."""
    z, centre, scale = _standard(x) if len(x) else (x.T, np.zeros(x.shape[1]), np.ones(x.shape[1]))
    few = z[:bands].astype(np.float64)
    correlation = np.einsum("in,jn->ij", few, few) / max(1, len(x))
    axes = np.linalg.eigh(correlation)[1][:, ::-1].T[: min(_AXES, bands)]
    return Relation(
        ridge=ridge,
        centre=tuple(centre.tolist()),
        scale=tuple(scale.tolist()),
        axes=_rows(axes),
        robust=robust,
        **heads._asdict(),
    )


def _floats(values: Field) -> tuple[float, ...]:
    return tuple(values.tolist())


def _rows(matrix: Field) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))
