"""Estimates into the stored image: observed pixels are moved, hole pixels rounded and clipped to the stored dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.masks.base import FILL, NEVER
from pipeline.numerics.column import column
from pipeline.numerics.pixels import picked, pixels_of, with_values
from pipeline.plan.plan import Plan
from pipeline.restore.codes import NEVER_TOUCHED, OBSERVED, REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Blended:
    """Sums over patches in a write box: float64 mean and sigma, uint8 origin, `(c, n)` each.

    The n pixels are those that are holes in any channel, in C order. `patches` were computed for it; others may have
    been there already.
    """

    mean: NDArray[np.float64]
    sigma: NDArray[np.float64]
    origin: NDArray[np.uint8]
    patches: int


def composite(plan: Plan, stored: NDArray[Any], state: NDArray[np.uint8], blended: Blended) -> dict[str, NDArray[Any]]:
    """Put estimates into the stored image: `restored`, `uncertainty`, `origin` of one write box.

    Hole pixels get the rounded and clipped estimate in the stored dtype, never the nodata value; everything else is
    moved bit for bit. Returns arrays `(n_channels_of_file, ...)`, `(c, ...)` and `(n_state, ...)`.
    """
    filled, never = state == FILL, state == NEVER
    some = pixels_of(filled)
    own = picked(filled, some)
    hole = np.broadcast_to(own, blended.mean.shape)
    sigma = blended.sigma + _rounding_sigma(plan)
    codes = blended.origin[: plan.n_state]
    value = to_stored(blended.mean + column(plan.centre, 1), plan)
    if plan.refuse_above is not None:
        too_far = hole & (sigma > plan.refuse_above * column(plan.spread, 1))
        if plan.n_state == 1:
            too_far = np.broadcast_to(too_far.any(axis=0, keepdims=True), too_far.shape)
        for c, code in enumerate(plan.refused):
            value[c] = np.where(too_far[c], np.asarray(code).astype(value.dtype), value[c])
        codes = np.where(too_far[: plan.n_state], np.uint8(REFUSED), codes)
    origin = np.where(never, np.uint8(NEVER_TOUCHED), np.uint8(OBSERVED))
    origin = with_values(origin, some, np.where(own, codes, picked(origin, some)))
    restored = np.array(stored, order="C")
    uncertainty = np.zeros((len(plan.channels), *state.shape[1:]), dtype=np.float32)
    uncertainty[np.broadcast_to(never, uncertainty.shape)] = np.nan
    for c, channel in enumerate(plan.channels):
        for layer, own_value in ((restored[channel], value[c]), (uncertainty[c], sigma[c])):
            flat = layer.reshape(-1)
            flat[some] = np.where(hole[c], own_value, flat[some])
    return {"restored": restored, "uncertainty": uncertainty, "origin": origin}


def to_stored(value: NDArray[np.float64], plan: Plan) -> NDArray[Any]:
    """Round and clip estimates `(c, ...)` to the stored dtype, one quantum away from nodata where they would hit it."""
    dtype = np.dtype(plan.dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        # float64 cannot hold the last integers below 2^63; stay inside
        top = float(info.max) if info.bits < 64 else float(np.nextafter(float(info.max), 0))
        result = np.clip(np.rint(value), float(info.min), top).astype(dtype)
    else:
        result = value.astype(dtype)
    for c, code in enumerate(plan.nodata):
        if code is not None and not np.isnan(code):
            hit = result[c] == np.asarray(code).astype(dtype)
            result[c] = np.where(hit, _neighbour(code, dtype), result[c])
    return result


def _neighbour(code: float, dtype: np.dtype[Any]) -> Any:
    """Return the stored value one quantum above `code`, or below it at the top of the range."""
    if dtype.kind == "f":
        return np.nextafter(np.asarray(code, dtype=dtype), np.asarray(np.inf, dtype=dtype))
    step = 1 if int(code) < np.iinfo(dtype).max else -1
    return np.asarray(int(code) + step, dtype=dtype)


def _rounding_sigma(plan: Plan) -> NDArray[np.float64] | float:
    """Rounding to an integer adds a uniform error of one quantum, 1/sqrt(12); float64 leaves some out above 2^53."""
    if np.dtype(plan.dtype).kind not in "iu":
        return 0.0
    quantum: NDArray[np.float64] = np.maximum(1.0, np.spacing(np.abs(column(plan.centre, 1))))
    return quantum * 12**-0.5
