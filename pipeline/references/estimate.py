"""From one reference to values: relation, local correction, interpolated residual."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.numerics.column import column
from pipeline.numerics.distance import inside
from pipeline.numerics.pixels import Pixels, picked
from pipeline.references.guided import interpolate
from pipeline.references.local import local_fit, smoothed
from pipeline.references.prediction import Correction, Prediction, seen_by
from pipeline.references.relation import Relation
from pipeline.references.ridge import Field, Ridge

SIGMA = 12.0
"""Width of the regression window, in steps of the finest axis."""
_WIDER = 0.2
"""Estimates may leave the robust range of the target by this share of it (unless the base fill does too)."""
_FADE = 6.0
"""Distance over which the residual fades where a relation was fitted on few pixels, in steps of the finest axis."""
_BELIEVED = 6.0
"""Deviation of the Gaussian over which a correction fades elsewhere, over `Relation.reach`: twice the distance at which
5 % of the covariance is left."""
_INFLATION = 1.5
"""Error of a prediction over its misfit on the pixels that it was fitted on (measured 1.3 to 1.8 on date pairs)."""
_SMOOTH = 1.0 / 3.0
"""Width over which reliability is smoothed, as a share of that of the regression window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFill:
    """What one reference says about a window.

    Attributes:
        values: float32 `(c, *spatial)`; observed, estimate in usable holes, base fill elsewhere.
        usable: bool `(c, *spatial)`; hole pixels where the reference had something to say.
        reliability: float32 `(c, *spatial)` in [0, 1]; the higher, the smaller the squared error to expect relative
            to that of a local mean: 0.5 if they are equal, 0.9 at a third. Low where the scene changed or the
            reference is cloudy, 0 where not usable.
    """

    values: NDArray[np.float32]
    usable: NDArray[np.bool_]
    reliability: NDArray[np.float32]


def reference_fill(
    window: Window,
    reference: NDArray[np.float32],
    reference_valid: NDArray[np.bool_],
    relation: Relation,
    base: NDArray[np.float32],
    *,
    sigma: float = SIGMA,
    predicted: Prediction | None = None,
) -> ReferenceFill:
    """Estimate the holes of a window from one reference.

    Args:
        window: 2-D or 3-D window of the target.
        reference: float32 `(c_ref, *spatial)` on the same grid.
        reference_valid: bool `(1, *spatial)` or `(c_ref, *spatial)`; a pixel is used if all bands are valid.
        relation: how the two images are related, from `fit_relation`.
        base: float32 `(c, *spatial)` single-image fill of the window.
        sigma: width of the regression window in steps of the finest axis.
        predicted: what the relation makes of this reference here, if it is known already.

    Raises:
        ValueError: shapes do not belong together.
    """
    _check_shapes(window, reference, reference_valid, relation, base)
    values = np.where(window.valid, window.values, base).astype(np.float32)
    nothing = np.zeros(values.shape, dtype=np.float32)
    unusable = ReferenceFill(values=values, usable=np.zeros_like(window.hole), reliability=nothing)
    if relation.ridge.samples == 0 or not (window.hole & seen_by(reference, reference_valid)).any():
        return unusable
    predicted = predicted or Prediction.of(relation, reference, reference_valid, window.spacing)
    usable = window.hole & predicted.seen
    if not usable.any():
        return unusable
    estimate, reliability = _channel_estimates(window, relation, predicted, sigma)
    bounded = estimate.astype(np.float32)
    if relation.carries:
        bounded = _bounded(bounded, relation.ridge, base)
    np.copyto(values, bounded, where=usable)
    return ReferenceFill(
        values=values,
        usable=usable,
        reliability=np.where(usable, reliability, np.float32(0)),
    )


def _channel_estimates(
    window: Window, relation: Relation, predicted: Prediction, sigma: float
) -> tuple[Field, NDArray[np.float32]]:
    """Return estimate and reliability `(c, *spatial)`, channels with the same holes together; zeros elsewhere."""
    estimate = np.zeros(window.values.shape, dtype=np.float64)
    reliability = np.zeros(window.values.shape, dtype=np.float32)
    for channels, guide in _together(window, predicted):
        hole = window.hole[channels[0]] & predicted.seen
        pixels = np.flatnonzero(hole)
        values, ratio = _corrected(window, relation, predicted, (channels, guide), pixels, sigma=sigma)
        if predicted.beyond is not None:
            common = window.valid[channels[0]] & predicted.seen
            said, misfit = (picked(part, pixels) for part in predicted.some(channels))
            values, ratio = predicted.beyond.some(channels).over(values, ratio, (said, misfit), common, hole)
        for channel, own, sure in zip(
            channels, values, _reliability(ratio, hole, _scales(sigma, window.spacing)), strict=True
        ):
            estimate[channel][hole], reliability[channel][hole] = own, sure
    return estimate, reliability


def correction(window: Window, relation: Relation, predicted: Prediction, cell: int) -> Correction:
    """Return what the observed cells of an image say beside a relation.

    Args:
        window: the image on cells.
        relation: as in `reference_fill`.
        predicted: what the relation makes of the reference on cells.
        cell: size of a cell, steps of the finest axis.
    """
    shape = window.values.shape
    values, ratio, every = np.zeros(shape), np.ones(shape), np.arange(math.prod(shape[1:]))
    for channels, guide in _together(window, predicted):
        said, misfit = predicted.some(channels)
        some = channels, guide
        own, worse = _corrected(window, relation, predicted, some, every, sigma=max(1.0, SIGMA / cell), step=cell)
        values[channels], ratio[channels] = own.reshape(said.shape) - said, worse.reshape(said.shape) / misfit
    return Correction(values=values, ratio=ratio, to_cut=np.full(shape[1:], np.inf, dtype=np.float32))


def _together(window: Window, predicted: Prediction) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Yield channels with the same holes and the same guide that have holes which the reference sees."""
    for group in window.hole_groups:
        for bands, guide in predicted.guides:
            channels = [c for c in group if c in bands]
            if channels and (window.hole[channels[0]] & predicted.seen).any():
                yield channels, guide


def _scales(sigma: float, spacing: Sequence[float]) -> tuple[float, ...]:
    return tuple(sigma * min(spacing) / step for step in spacing)


def _corrected(
    window: Window,
    relation: Relation,
    predicted: Prediction,
    some: tuple[list[int], NDArray[np.float32]],
    asked: Pixels,
    *,
    sigma: float,
    step: float = 1.0,
) -> tuple[Field, Field]:
    """Return the estimate of some channels, and its squared misfit over the local variance, `(n, pixels asked for)`.

    `sigma` is in steps of the window's finest axis, which are `step` times those of the image.
    """
    channels, guide = some
    said, misfit = predicted.some(channels)
    common, hole = window.valid[channels[0]] & predicted.seen, window.hole[channels[0]] & predicted.seen
    if not common.any():
        # nothing around to correct it by: the map of the whole image as it is, its misfit over the image's variance
        return picked(said, asked), picked(misfit, asked) / _variance(relation.ridge)[channels][:, None]
    observed = window.values[channels].astype(np.float64)
    fit = local_fit(observed, (said, misfit), guide, common, _scales(sigma, window.spacing), robust=relation.robust)
    estimate = said if relation.clusters is None else fit.values
    corrected = picked(estimate, asked)
    if relation.carries:
        left = interpolate(observed - estimate, common, hole, guide, window.spacing)
        corrected = corrected + picked(left, asked)
    said, believed = picked(said, asked), _believed(relation, common, window.spacing, step).ravel()[asked]
    worse, expected, spread = (picked(part, asked) for part in (fit.misfit, misfit, fit.spread))
    overfit_ratio = np.array(relation.overfit_ratio)[channels][:, None]
    return said + believed * (corrected - said), overfit_ratio * worse * expected / np.maximum(spread, 1e-30)


def _variance(ridge: Ridge) -> Field:
    """Return the variance of each band of the image, `(c,)`, from the range that holds 99 % of it."""
    return np.asarray(np.maximum(((np.asarray(ridge.high) - np.asarray(ridge.low)) / 5.15) ** 2, 1e-30))


def _believed(relation: Relation, common: NDArray[np.bool_], spacing: Sequence[float], step: float) -> Field:
    """Return the weight of a correction: 1 on pixels that are observed in both, falling with distance from them.

    What is left over at two places is the less alike the farther they are apart, so far off the map of the whole image
    stands, as the mean does in simple kriging. What few pixels say holds beside them only.
    """
    few = relation.clusters is None
    if not few and relation.reach is None:
        return np.ones(common.shape)
    away = step * inside(~common, [own / min(spacing) for own in spacing])
    if few:
        return np.asarray(np.exp(-away / _FADE))
    return np.asarray(np.exp(-0.5 * np.square(away / (_BELIEVED * (relation.reach or np.inf)))))


def _reliability(ratio: Field, hole: NDArray[np.bool_], scales: Sequence[float]) -> NDArray[np.float32]:
    """Turn squared misfits over the local variance of hole pixels, `(c, n)`, into reliabilities between 0 and 1.

    Half of what a band says is what all bands say, as clouds cover all of them; and neighbours agree: both lower the
    error of choosing between reference and single-image fill by the result.
    """
    level = np.log(np.clip(_INFLATION * ratio, 1e-6, 1e6))
    fields = np.zeros((len(level), *hole.shape), dtype=np.float32)
    fields[:, hole] = 0.5 * (level + level.mean(axis=0))
    smooth = picked(smoothed(fields, hole, [scale * _SMOOTH for scale in scales]), np.flatnonzero(hole))
    return np.asarray(1.0 / (1.0 + np.exp(2.0 * smooth)), dtype=np.float32)


def _check_shapes(
    window: Window,
    reference: NDArray[np.float32],
    reference_valid: NDArray[np.bool_],
    relation: Relation,
    base: NDArray[np.float32],
) -> None:
    spatial = window.values.shape[1:]
    if reference.shape[1:] != spatial or reference_valid.shape[1:] != spatial or base.shape != window.values.shape:
        raise ValueError(
            f"window {window.values.shape}, reference {reference.shape}, validity {reference_valid.shape} "
            f"and base fill {base.shape} must lie on one grid"
        )
    bands, maps_to = len(relation.axes[0]), len(relation.ridge.offset)
    if maps_to != len(base) or bands != len(reference):
        raise ValueError(
            f"the map takes {bands} bands to {maps_to}, but reference and target "
            f"have {len(reference)} and {len(base)}: fit it on the same bands"
        )


def _bounded(estimate: NDArray[np.float32], ridge: Ridge, base: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip to the robust range of each target band widened by `_WIDER`, or to the base fill beyond it."""
    low, high = (column(v, base.ndim - 1, np.float32) for v in (ridge.low, ridge.high))
    slack = _WIDER * (high - low)
    clipped: NDArray[np.float32] = np.clip(estimate, np.minimum(low - slack, base), np.maximum(high + slack, base))
    return clipped
