"""Small misregistration between a reference and the image: one shift for the whole image, found and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.numerics.column import column
from pipeline.references.context import context
from pipeline.references.ridge import Field, Ridge, cauchy, fit_ridge

_STEPS = 4
_LARGEST, _SMALLEST = 3.0, 0.05
"""Shifts in pixels beyond which something else is wrong, and below which nothing is gained."""
_GAIN = 0.02
"""Share of the squared misfit of details that a shift must remove to be believed; resampling alone smooths a little."""
_DETAIL = 4.0
_RINGING = 3
"""Reach in pixels of a cubic spline's ringing beside pixels that are not seen."""
_MOST_PIXELS = 15_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same window of image and reference.

    Attributes:
        target: `(c, *spatial)`.
        known: bool `spatial`, all channels observed.
        reference: float32 `(c_ref, *spatial)`.
        seen: bool `spatial`, all its bands observed.
    """

    target: NDArray[np.float32]
    known: NDArray[np.bool_]
    reference: NDArray[np.float32]
    seen: NDArray[np.bool_]


def aligned(
    reference: NDArray[np.float32], seen: NDArray[np.bool_], offset: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the reference as it is `offset` pixels on, `reference(x + offset)`, and where that is seen.

    Cubic interpolation; pixels close to unseen ones count as unseen. An empty offset or zeros change nothing.
    """
    if not any(offset):
        return reference, seen
    if not seen.any():
        return reference, seen
    level = reference[:, seen].mean(axis=1, dtype=np.float64)
    moved = [
        ndimage.shift(np.where(seen, band, mean), [-o for o in offset], order=3, mode="nearest")
        for band, mean in zip(reference.astype(np.float64), level, strict=True)
    ]
    reach = _RINGING + int(np.ceil(np.abs(offset).max()))
    clear = seen if seen.all() else ~ndimage.binary_dilation(~seen, iterations=reach)
    return np.where(clear, np.stack(moved), 0.0).astype(np.float32), clear


def misregistration(pairs: Sequence[Pair]) -> tuple[float, ...]:
    """Return the shift per axis, in pixels, at which the reference explains the image's details best; or zeros.

    Gauss-Newton steps (Lucas and Kanade, IJCAI 1981) on a robust linear prediction of the image from the bands. A
    shift is believed if it removes 2 % of the squared misfit of details, and as much of the whole.
    """
    none = (0.0,) * (pairs[0].known.ndim if pairs else 0)
    usable = [pair for pair in pairs if (pair.known & pair.seen).sum() >= 2 * _RINGING * pair.known.ndim]
    if not usable:
        return none
    both = [pair.known & pair.seen for pair in usable]
    y = np.concatenate([pair.target[:, use] for pair, use in zip(usable, both, strict=True)], axis=1).T
    x = np.concatenate([pair.reference[:, use] for pair, use in zip(usable, both, strict=True)], axis=1).T
    step = -(-len(y) // _MOST_PIXELS)
    ridge = fit_ridge(y[::step], x[::step])
    if ridge.samples == 0:
        return none
    width = column(np.maximum(y.std(axis=0, dtype=np.float64), 1e-30), len(none))
    details = [_details(pair.target.astype(np.float64) / width, pair.known) for pair in usable]
    offset, first, best = np.zeros(len(none)), 0.0, (np.inf, none)
    for k in range(_STEPS + 1):
        normal, right, misfit = _equations(usable, details, ridge, width, offset)
        first = misfit if k == 0 else first
        if misfit < best[0]:
            best = misfit, tuple(offset.tolist())
        moved = np.linalg.solve(normal + 1e-9 * np.eye(len(none)), right)
        offset = offset + moved
        if np.abs(offset).max() > _LARGEST or _settled(offset, moved):
            break
    believed = best[0] < (1 - _GAIN) * first and np.abs(best[1]).max() >= _SMALLEST
    return best[1] if believed and _explains_more(usable, best[1]) else none


def _settled(offset: Field, moved: NDArray[np.floating]) -> bool:
    """Say whether steps have become so small that an offset too small to be believed will remain one."""
    return bool(np.abs(offset).max() < _SMALLEST / 2 and np.abs(moved).max() < _SMALLEST / 10)


def _explains_more(pairs: Sequence[Pair], offset: tuple[float, ...]) -> bool:
    """Return whether a linear map of the sharp and blurred bands leaves less unexplained if they are shifted.

    Details of another contrast can look shifted where one tissue is bright beside another; what predicts the image does
    not gain by that. The blurred bands take away what resampling gains by smoothing.
    """
    target, still, moved = [], [], []
    for pair in pairs:
        shifted, seen = aligned(pair.reference, pair.seen, offset)
        use = pair.known & seen
        unit = (1.0,) * use.ndim
        target.append(pair.target[:, use].T)
        still.append(context(pair.reference, pair.seen, unit)[:, use].T)
        moved.append(context(shifted, seen, unit)[:, use].T)
    y = np.concatenate(target)
    step = -(-len(y) // _MOST_PIXELS) or 1
    before, after = (fit_ridge(y[::step], np.concatenate(x)[::step]).explained for x in (still, moved))
    return bool(1 - np.mean(after) < (1 - _GAIN) * (1 - np.mean(before)))


def _equations(
    pairs: Sequence[Pair], details: Sequence[Field], ridge: Ridge, width: Field, offset: Field
) -> tuple[Field, Field, float]:
    """Return normal matrix, right side and mean squared misfit of one step at `offset`.

    `details` are those of the targets in units of `width`, which do not move.
    """
    ndim = len(offset)
    normal, right, total, count = np.zeros((ndim, ndim)), np.zeros(ndim), 0.0, 1e-30
    for pair, observed in zip(pairs, details, strict=True):
        reference, seen = aligned(pair.reference, pair.seen, offset.tolist())
        use = ndimage.binary_erosion(pair.known & seen, iterations=_RINGING)
        if not use.any():
            continue
        predicted = _details(ridge(reference) / width, seen)
        error = (observed - predicted)[:, use]
        squared = (error**2).mean(axis=0)
        weight = cauchy(squared / max(float(np.median(squared)), 1e-30))
        slope = np.stack([np.gradient(predicted, axis=a + 1)[:, use] for a in range(ndim)])
        normal += np.einsum("acn,bcn,n->ab", slope, slope, weight)
        right += np.einsum("acn,cn,n->a", slope, error, weight)
        total += float((weight * squared).sum())
        count += float(weight.sum())
    return normal, right, total / count


def _details(fields: Field, known: NDArray[np.bool_]) -> Field:
    """Return fields freed of their local mean over known pixels, 0 elsewhere."""
    share = ndimage.gaussian_filter(known.astype(np.float64), _DETAIL)
    means = [ndimage.gaussian_filter(np.where(known, f, 0.0), _DETAIL) / np.maximum(share, 1e-6) for f in fields]
    return np.where(known, fields - np.stack(means), 0.0)
