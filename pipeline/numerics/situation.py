"""Where a hole pixel stands: how far from observed pixels, in a thin hole or a deep one, or with nothing behind it.

Methods and errors differ more between these situations than between images: a dead pixel wants a stiffer spline than a
cloud, a network that repairs texture beside the rim knows nothing in the middle, and at an image edge every method
extrapolates. So what the self-test decides are curves over distance, one for each family of holes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label, uniform_filter

from pipeline.numerics.alike import alike
from pipeline.numerics.beyond import Beyond, handed_over
from pipeline.numerics.distance import around, inside, inside_from

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
OpenEdges = Sequence[tuple[bool, bool]]

FAMILIES = ("thin", "deep", "border")
"""Thin: dead pixels, lines, lost slices. Deep: clouds, regions, lesions. Border: nothing observed on the far side."""
THIN = 2.5
"""Greatest distance to observed pixels, in pixels along any axis, of a hole that is thin all over: a lost slice is thin
however thick it is."""
CORE_REACH = (3.0, 5.0)
"""Within the first of these distances, in pixels, from a core deeper than `THIN` a pixel is deep, beyond the second
thin."""
_SMOOTH = 4
"""Depth in pixels from which what lies behind is averaged over a square as wide as a pixel is deep: all that have the
same nearest pixel see the same, so shares would change from one sector of a wide hole to the next."""
_MARCH = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Distance and family of every pixel of a window.

    Attributes:
        distance: float32 `(c, *spatial)`, distance to the nearest observed pixel in steps of the finest axis; 0 on
            observed pixels, the window's diagonal in channels without any of which nothing else is known.
        shares: float32 `(3, c, *spatial)` in [0, 1], membership in each of `FAMILIES`; sums to 1 in holes.
    """

    distance: Field
    shares: Field

    def of(self, some: Mask) -> Situation:
        """Return the situation of some pixels `(c, *spatial)`, of which there are n: `(n,)` and `(3, n)`."""
        return Situation(distance=self.distance[some], shares=self.shares[:, some])


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A value over distance: linear in log distance between the knots, constant beyond them."""

    knots: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, distance: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the value at each distance >= 0, same shape."""
        if len(set(self.values)) == 1:
            return np.full(np.shape(distance), self.values[0])
        return np.asarray(np.interp(_log(distance), _log(np.asarray(self.knots)), self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """One curve for each family."""

    thin: Curve
    deep: Curve
    border: Curve

    @property
    def highest(self) -> float:
        """Return the largest value anywhere."""
        return max(value for curve in self.all for value in curve.values)

    @property
    def all(self) -> tuple[Curve, Curve, Curve]:
        """Return the curves in the order of `FAMILIES`."""
        return self.thin, self.deep, self.border

    def at(self, place: Situation) -> Field:
        """Return the value at each pixel, `(c, *spatial)`: the families' curves by their shares."""
        return blended(place.shares, [curve(place.distance) for curve in self.all])


def blended(shares: Field, values: Sequence[NDArray[np.floating]]) -> Field:
    """Return the mean of `values` weighted by `shares` `(3, ...)`; exact where they agree."""
    first = np.asarray(values[0], dtype=np.float64)
    total = first.copy()
    for share, value in zip(shares[1:], values[1:], strict=True):
        total += share * (value - first)
    return total.astype(np.float32)


def flat(value: float) -> Curves:
    """Return curves that have one value everywhere."""
    return curves_of([[value] * len(knots) for knots in KNOTS])


KNOTS = ((1.5,), (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0), (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0))
"""Distances at which each family's curve is decided."""
ERROR_KNOTS = (KNOTS[1],) * len(FAMILIES)
"""The same where errors are told: in thin holes, too, they grow with distance; a lost slice may be ten steps thick."""


def curves_of(values: Sequence[Sequence[float]], at: Sequence[tuple[float, ...]] = KNOTS) -> Curves:
    """Return curves on `KNOTS`, or on other ones, with the given values, one row for each family."""
    rows = [Curve(knots=knots, values=tuple(float(v) for v in row)) for knots, row in zip(at, values, strict=True)]
    return Curves(thin=rows[0], deep=rows[1], border=rows[2])


def hats(distance: NDArray[np.floating], knots: Sequence[float]) -> NDArray[np.float64]:
    """Return the share of each knot in each distance, `(knots, n)`: what `Curve` gives with a 1 at that knot."""
    if len(knots) == 1:
        return np.ones((1, distance.size))
    position = np.interp(_log(distance), _log(np.asarray(knots)), np.arange(len(knots)))
    return np.maximum(0.0, 1.0 - np.abs(position - np.arange(len(knots))[:, None]))


def situation(
    valid: Mask, hole: Mask, spacing: Sequence[float], open_edges: OpenEdges = (), beyond: Beyond | None = None
) -> Situation:
    """Tell where the pixels of a window stand.

    Args:
        valid: bool `(c, *spatial)`; True = observed.
        hole: bool `(c, *spatial)`; True = to be filled. Pixels that are neither lie outside, like what is beyond edges.
        spacing: step per axis; only ratios matter.
        open_edges: per axis `(low, high)`, True where the image goes on beyond the window; without, nowhere.
        beyond: what the whole image says of the window's pixels; None = nothing is known.
    """
    distance = np.zeros(valid.shape, dtype=np.float32)
    shares = np.zeros((len(FAMILIES), *valid.shape), dtype=np.float32)
    sampling = np.asarray(spacing, dtype=np.float64) / min(spacing)
    edges = tuple(open_edges) or ((False, False),) * len(sampling)
    # what looks the same in a window may differ beyond it
    groups = alike(valid, hole) if beyond is None or beyond.shared else [[c] for c in range(len(valid))]
    for c, *others in groups:
        far = beyond.of([c]) if beyond is not None else None
        if not hole[c].any() and valid[c].any():
            distance[c] = inside(~valid[c], sampling)
            shares[1, c] = 1.0
        elif valid[c].any():
            distance[c], shares[:, c] = _of_plane(valid[c], hole[c], sampling, edges, far)
        elif far is None:
            distance[c] = float(np.linalg.norm(valid.shape[1:]))
            shares[1, c] = 1.0
        else:
            distance[c] = far.bounded(np.full(valid.shape[1:], np.inf, dtype=np.float32))[0]
            shares[1, c], shares[2, c] = 1.0 - far.behind[0], far.behind[0]
        distance[others], shares[:, others] = distance[c], shares[:, c : c + 1]
    return Situation(distance=distance, shares=shares)


def across(valid: Mask, hole: Mask, spacing: Sequence[float]) -> tuple[Field, Field]:
    """Return of a whole image, or cells of it, what `Beyond` says: distances and what lies behind, `(*spatial)` each.

    Args:
        valid: bool `(*spatial)`, True = observed; not False everywhere.
        hole: bool `(*spatial)`, True = to be filled.
        spacing: step per axis; distances are in the smallest of them.
    """
    sampling = np.asarray(spacing, dtype=np.float64) / min(spacing)
    depth, nearest = inside_from(~valid, sampling)
    behind = np.zeros(hole.shape)
    behind[hole] = _march(hole, valid, nearest[:, hole[~valid]], ((False, False),) * hole.ndim) == _END
    if behind.any():
        behind = _around(behind, hole, depth if (sampling == 1).all() else inside(~valid))
        # beside a hole stands what is said of its outermost pixels: whoever interpolates must not meet a 0 there
        total, count = (uniform_filter(part.astype(np.float64), 3, mode="constant") for part in (behind, hole))
        behind = np.where(hole, behind, np.clip(total / np.maximum(count, 1e-9), 0.0, 1.0))
    return depth.astype(np.float32), behind.astype(np.float32)


def _of_plane(
    valid: Mask, hole: Mask, sampling: NDArray[np.float64], edges: OpenEdges, far: Beyond | None
) -> tuple[Field, Field]:
    exact, nearest = inside_from(~valid, sampling)
    depth = exact.astype(np.float32)
    pixels_deep = depth if (sampling == 1).all() else inside(~valid)
    core = hole & (pixels_deep > THIN)
    shares = np.zeros((len(FAMILIES), *hole.shape), dtype=np.float32)
    distance = depth if far is None else far.bounded(depth)[0]
    if not core.any():
        shares[0] = 1.0
        return distance, shares
    near, most = CORE_REACH
    thin = np.clip((around(core, most) - near) / (most - near), 0.0, 1.0)
    end = _march(hole, valid, nearest[:, hole[~valid]], edges)
    behind = np.zeros(hole.shape, dtype=np.float64)
    behind[hole] = end == _END
    if far is not None:
        behind[hole] = np.where(end == _CUT, far.behind[0][hole], end == _END)
    if behind.any():
        behind = _around(behind, hole, pixels_deep)
    if far is not None:
        behind = np.where(hole, handed_over(behind, far.behind[0], far.seen(distance, 0)), 0.0).astype(np.float64)
    shares[0] = thin
    shares[2] = (1.0 - thin) * behind
    shares[1] = 1.0 - shares[0] - shares[2]
    return distance, shares


def _around(values: NDArray[np.float64], hole: Mask, depth: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean of values in [0, 1] over the hole pixels in a square around each one, as wide as it is deep."""
    level = np.where(hole, np.log2(np.maximum(depth, _SMOOTH) / _SMOOTH), 0.0)
    within, result = hole.astype(np.float64), np.zeros_like(values)
    for k in range(int(np.ceil(level.max())) + 1):
        width = _SMOOTH * 2**k + 1
        total, count = (uniform_filter(part, width, mode="constant") for part in (values, within))
        # running sums leave rests of rounding behind
        mean = np.clip(np.round(total / np.maximum(count, 1e-9), 6), 0.0, 1.0)
        result += np.maximum(0.0, 1.0 - np.abs(level - k)) * np.where(hole, mean, 0.0)
    return result


_FOUND, _END, _CUT = 1, 2, 3
"""Where a march ends: at an observed pixel, where the image ends, where the window is cut out of it."""


def _march(hole: Mask, valid: Mask, nearest: NDArray[np.intp], edges: OpenEdges) -> NDArray[np.int8]:
    """Go from the nearest observed pixel through each hole pixel and on: say where that ends.

    0 = nowhere, or at an observed pixel: holes that reach neither an end nor a cut are not gone through. `nearest`
    are the indices of the former, `(ndim, n)`, hole pixels in C order.

    Steps are as long as no observed or outside pixel can be missed (sphere tracing: Hart 1996,
    doi:10.1007/s003710050084).
    """
    padded_hole = np.pad(hole, 1)
    state = np.where(np.pad(valid, 1), _FOUND, np.where(padded_hole, 0, _END)).astype(np.int8)
    for axis, (low, high) in enumerate(edges):
        view = np.moveaxis(state, axis, 0)
        # beyond an open edge the image goes on: no end
        view[0] = np.where(low, _CUT, view[0])
        view[-1] = np.where(high, _CUT, view[-1])
    end = np.zeros(nearest.shape[1], dtype=np.int8)
    active = np.flatnonzero(_beside(state == 0, state > _FOUND)[(slice(1, -1),) * hole.ndim][hole])
    if not active.size:
        return end
    free = inside(state == 0)
    at = np.argwhere(hole)[active].astype(np.float64)
    direction = at - nearest.T[active]
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    # axis by axis is faster than pixel by pixel
    at, direction = (np.ascontiguousarray(part.T) for part in (at, direction))
    limit = np.asarray(state.shape)[:, None] - 1
    for _ in range(_MARCH):
        cell = np.ravel_multi_index(tuple(np.clip(np.rint(at).astype(np.intp) + 1, 0, limit)), state.shape)
        found = state.ravel()[cell]
        end[active] = found
        keep = found == 0
        if not keep.any():
            break
        active, cell, at, direction = active[keep], cell[keep], at[:, keep], direction[:, keep]
        at += direction * np.maximum(1.0, free.ravel()[cell] - 1.0)
    return end


def _beside(mask: Mask, some: Mask) -> Mask:
    """Return the connected parts of a mask that touch some pixels, corners included: no way out leads elsewhere."""
    if not some.any():
        return np.zeros_like(mask)
    touching = np.ones((3,) * mask.ndim)
    parts, count = label(mask, touching)
    reached = np.zeros(count + 1, dtype=np.bool_)
    reached[parts[binary_dilation(some, touching)]] = True
    return np.asarray(reached[parts] & mask)


def _log(distance: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.log2(np.maximum(np.asarray(distance, dtype=np.float64), 0.5))
