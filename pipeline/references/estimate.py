"""From one reference to values: global map, local regression, interpolated residual, feathered edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.fills import tension
from pipeline.fills.base import Window
from pipeline.references.local import local_fit
from pipeline.references.relation import Relation
from pipeline.references.ridge import Ridge

_WIDER = 0.2
"""Estimates may leave the robust range of the target by this share of it (unless the base fill does too)."""
_FEATHER = 6.0
"""Pixels over which the estimate fades into the base fill beside pixels that the reference does not see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFill:
    """What one reference says about a window.

    Attributes:
        values: float32 `(c, *spatial)`; observed, estimate in usable holes, base fill elsewhere.
        usable: bool `(c, *spatial)`; hole pixels where the reference had something to say.
        trust: float32 `(c, *spatial)` in [0, 1]; share of the estimate in `values`, the rest is the base fill. 0 beside
            pixels that the reference does not see, rising to 1; 0 where not usable.
        reliability: float32 `(c, *spatial)` in [0, 1]; the higher, the smaller the error to expect relative to the
            base fill's. Low where the scene changed or the reference is cloudy, 0 where not usable.
    """

    values: NDArray[np.float32]
    usable: NDArray[np.bool_]
    trust: NDArray[np.float32]
    reliability: NDArray[np.float32]


def reference_fill(
    window: Window,
    reference: NDArray[np.float32],
    reference_valid: NDArray[np.bool_],
    relation: Relation,
    base: NDArray[np.float32],
    *,
    sigma: float = 12.0,
    t: float = 0.5,
) -> ReferenceFill:
    """Estimate the holes of a window from one reference.

    Args:
        window: 2-D or 3-D window of the target.
        reference: float32 `(c_ref, *spatial)` on the same grid.
        reference_valid: bool `(1, *spatial)` or `(c_ref, *spatial)`; a pixel is used if all bands are valid.
        relation: how the two images are related, from `fit_relation`.
        base: float32 `(c, *spatial)` single-image fill of the window.
        sigma: width of the regression window in steps of the finest axis.
        t: tension of the residual's interpolation.

    Raises:
        ValueError: shapes do not belong together.
    """
    ridge = relation.ridge
    _check_shapes(window, reference, reference_valid, ridge, base)
    seen: NDArray[np.bool_] = np.all(reference_valid, axis=0) & np.isfinite(reference).all(axis=0)
    usable = window.hole & seen
    values = np.where(window.valid, window.values, base).astype(np.float32)
    reliability = np.zeros(values.shape, dtype=np.float32)
    if ridge.samples == 0 or not usable.any():
        return ReferenceFill(
            values=values, usable=np.zeros_like(usable), trust=np.zeros_like(reliability), reliability=reliability
        )
    prediction = ridge(reference)
    fitted = np.zeros(values.shape, dtype=np.float32)
    scales = tuple(sigma * min(window.spacing) / step for step in window.spacing)
    for k in range(len(values)):
        common = window.valid[k] & seen
        usable[k] &= bool(common.any())
        if usable[k].any():
            observed = np.where(common, window.values[k], 0.0).astype(np.float64)
            fitted[k], reliability[k] = local_fit(observed, prediction[k], common, scales)
    estimate = fitted + _residual(window, fitted, seen, t)
    estimate = _bounded(estimate, ridge, base)
    trust = _feather(seen, window.spacing)
    np.copyto(values, base + trust * (estimate - base), where=usable, casting="same_kind")
    return ReferenceFill(
        values=values,
        usable=usable,
        trust=np.where(usable, trust, np.float32(0)),
        reliability=np.where(usable, reliability, np.float32(0)),
    )


def _check_shapes(
    window: Window,
    reference: NDArray[np.float32],
    reference_valid: NDArray[np.bool_],
    ridge: Ridge,
    base: NDArray[np.float32],
) -> None:
    spatial = window.values.shape[1:]
    if reference.shape[1:] != spatial or reference_valid.shape[1:] != spatial or base.shape != window.values.shape:
        raise ValueError(
            f"window {window.values.shape}, reference {reference.shape}, validity {reference_valid.shape} "
            f"and base fill {base.shape} must lie on one grid"
        )
    if len(ridge.offset) != len(base) or len(ridge.matrix[0]) != len(reference):
        raise ValueError(
            f"the map takes {len(ridge.matrix[0])} bands to {len(ridge.offset)}, but reference and target "
            f"have {len(reference)} and {len(base)}: fit it on the same bands"
        )


def _bounded(estimate: NDArray[np.float32], ridge: Ridge, base: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip to the robust range of each target band widened by `_WIDER`, or to the base fill beyond it."""
    low, high = (np.array(v, dtype=np.float32).reshape(-1, *(1,) * (base.ndim - 1)) for v in (ridge.low, ridge.high))
    slack = _WIDER * (high - low)
    clipped: NDArray[np.float32] = np.clip(estimate, np.minimum(low - slack, base), np.maximum(high + slack, base))
    return clipped


def _residual(window: Window, fitted: NDArray[np.float32], seen: NDArray[np.bool_], t: float) -> NDArray[np.float32]:
    """Interpolate observed minus fitted across the holes; zero where no observed pixel is connected."""
    rest = replace(
        window,
        values=np.where(window.valid & seen, window.values - fitted, 0.0).astype(np.float32),
        valid=window.valid & seen,
        hole=window.hole & seen,
        guess=np.zeros_like(fitted),
        open_edges=(),
    )
    return tension.fill(rest, t=t)


def _feather(seen: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float32]:
    """Return 0 beside pixels that the reference does not see, rising to 1 over `_FEATHER` pixels."""
    if seen.all():
        return np.ones(seen.shape, dtype=np.float32)
    distance = ndimage.distance_transform_edt(seen, sampling=[s / min(spacing) for s in spacing])
    ramp = np.clip((distance - 1.0) / _FEATHER, 0.0, 1.0)
    result: NDArray[np.float32] = (ramp * ramp * (3.0 - 2.0 * ramp)).astype(np.float32)
    return result
