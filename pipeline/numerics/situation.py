"""Where a hole pixel stands: how far from observed pixels, in a thin hole or a deep one, or with nothing behind it.

Methods and errors differ more between these situations than between images: a dead pixel wants a stiffer spline than a
cloud, a network that repairs texture beside the rim knows nothing in the middle, and at an image edge every method
extrapolates. So what the self-test decides are curves over distance, one for each family of holes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from pipeline.numerics.alike import alike
from pipeline.numerics.behind import CUT, END, Mask, OpenEdges, around_each, march
from pipeline.numerics.beyond import Beyond, handed_over
from pipeline.numerics.distance import close, inside, inside_from
from pipeline.numerics.pixels import Pixels, picked

Array = NDArray[np.float32]

FAMILIES = ("thin", "deep", "border")
"""Thin: dead pixels, lines, lost slices. Deep: clouds, regions, lesions. Border: nothing observed on the far side."""
THIN = 2.5
"""Greatest distance to observed pixels, in pixels along any axis, of a hole that is thin all over: a lost slice is thin
however thick it is."""
CORE_REACH = (3.0, 5.0)
"""Within the first of these distances, in pixels, from a core deeper than `THIN` a pixel is deep, beyond the second
thin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Distance and family of every pixel of a window.

    Attributes:
        distance: float32 `(c, *spatial)`, distance to the nearest observed pixel in steps of the finest axis; 0 on
            observed pixels, the window's diagonal in channels without any of which nothing else is known.
        shares: float32 `(3, c, *spatial)` in [0, 1], membership in each of `FAMILIES`; sums to 1 in holes.
    """

    distance: Array
    shares: Array

    def of(self, some: Mask) -> Situation:
        """Return the situation of some pixels `(c, *spatial)`, of which there are n: `(n,)` and `(3, n)`."""
        return Situation(distance=self.distance[some], shares=self.shares[:, some])

    def at(self, pixels: Pixels) -> Situation:
        """Return the situation of some pixels of all channels, `(c, n)` and `(3, c, n)`; one plane stays one."""
        shares = np.stack([picked(share, pixels) for share in self.distinct.shares])
        distance = picked(self.distance, pixels)
        return Situation(distance=distance, shares=np.broadcast_to(shares, (len(shares), *distance.shape)))

    def along(self, curve: Curve) -> NDArray[np.float64]:
        """Return the value of a curve at each pixel, `(c, *spatial)`."""
        return curve(self.distance)

    @property
    def alike(self) -> bool:
        """Return True if one plane stands for all channels."""
        return self.distance.strides[0] == 0 and self.shares.strides[1] == 0

    @property
    def distinct(self) -> Situation:
        """Return the situation in one channel if it is the same in all."""
        return Situation(distance=self.distance[:1], shares=self.shares[:, :1]) if self.alike else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring(Situation):
    """The same of pixels `(n,)` that many curves are asked about: each distance, which recurs, is looked up once."""

    levels: Array
    """`(m,)`, the distances that occur."""
    level: NDArray[np.intp]
    """`(n,)`, number of that of each pixel."""

    @classmethod
    def of_many(cls, places: Sequence[Situation]) -> Recurring:
        """Return the situation of the pixels of all places, `(n,)` and `(3, n)` each, one after the other."""
        distance = np.concatenate([place.distance for place in places])
        levels, level = np.unique(distance, return_inverse=True)
        shares = np.concatenate([place.shares for place in places], axis=1)
        return cls(distance=distance, shares=shares, levels=levels, level=level)

    def along(self, curve: Curve) -> NDArray[np.float64]:
        """Return the value of a curve at each pixel, `(n,)`."""
        return curve(self.levels)[self.level]


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

    def at(self, place: Situation) -> Array:
        """Return the value at each pixel, `(c, *spatial)`: the families' curves by their shares."""
        return blended(place.shares, [place.along(curve) for curve in self.all])


def blended(shares: Array, values: Sequence[NDArray[np.floating]]) -> Array:
    """Return the mean of `values`, `(...)` or numbers, weighted by `shares` `(3, ...)`; exact where they agree."""
    first = np.asarray(values[0], dtype=np.float64)
    total = np.broadcast_to(first, shares.shape[1:]).copy()
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
    sampling = np.asarray(spacing, dtype=np.float64) / min(spacing)
    edges = tuple(open_edges) or ((False, False),) * len(sampling)
    # what looks the same in a window may differ beyond it
    groups = alike(valid, hole) if beyond is None or beyond.shared else [[c] for c in range(len(valid))]
    told = [
        _of_channel(valid[c], hole[c], sampling, edges, None if beyond is None else beyond.of([c])) for c, *_ in groups
    ]
    if len(groups) == 1:
        ((distance, shares),) = told
        return Situation(
            distance=np.broadcast_to(distance, valid.shape),
            shares=np.broadcast_to(shares[:, None], (len(FAMILIES), *valid.shape)),
        )
    own = {c: k for k, channels in enumerate(groups) for c in channels}
    planes = [told[own[c]] for c in range(len(valid))]
    return Situation(
        distance=np.stack([distance for distance, _ in planes]), shares=np.stack([part for _, part in planes], axis=1)
    )


def across(valid: Mask, hole: Mask, spacing: Sequence[float]) -> tuple[Array, Array]:
    """Return of a whole image, or cells of it, what `Beyond` says: distances and what lies behind, `(*spatial)` each.

    Args:
        valid: bool `(*spatial)`, True = observed; not False everywhere.
        hole: bool `(*spatial)`, True = to be filled.
        spacing: step per axis; distances are in the smallest of them.
    """
    sampling = np.asarray(spacing, dtype=np.float64) / min(spacing)
    depth, nearest = inside_from(~valid, sampling, hole)
    pixels_deep = depth if (sampling == 1).all() else inside(~valid)
    behind = np.zeros(hole.shape)
    closed = ((False, False),) * hole.ndim
    ends = march(hole, valid, nearest, closed, pixels_deep) == END
    if ends.any():
        behind[hole] = around_each(ends.astype(np.float64), hole, pixels_deep)
        # beside a hole stands what is said of its outermost pixels: whoever interpolates must not meet a 0 there
        total, count = (uniform_filter(part.astype(np.float64), 3, mode="constant") for part in (behind, hole))
        behind = np.where(hole, behind, np.clip(total / np.maximum(count, 1e-9), 0.0, 1.0))
    return depth.astype(np.float32), behind.astype(np.float32)


def _of_channel(
    valid: Mask, hole: Mask, sampling: NDArray[np.float64], edges: OpenEdges, far: Beyond | None
) -> tuple[Array, Array]:
    """Return distance `(*spatial)` and shares `(3, *spatial)` of one channel."""
    if hole.any() and valid.any():
        return _of_plane(valid, hole, sampling, edges, far)
    shares = np.zeros((len(FAMILIES), *valid.shape), dtype=np.float32)
    shares[1] = 1.0
    if valid.any():
        return inside(~valid, sampling).astype(np.float32), shares
    if far is None:
        return np.full(valid.shape, np.linalg.norm(valid.shape), dtype=np.float32), shares
    shares[1], shares[2] = 1.0 - far.behind[0], far.behind[0]
    return far.bounded(np.full(valid.shape, np.inf, dtype=np.float32)[None])[0], shares


def _of_plane(
    valid: Mask, hole: Mask, sampling: NDArray[np.float64], edges: OpenEdges, far: Beyond | None
) -> tuple[Array, Array]:
    in_pixels, nearest = inside_from(~valid, sampling, hole)
    depth = in_pixels.astype(np.float32)
    as_far = bool((sampling == 1).all())
    if not as_far:
        # of a whole volume one of them is a tenth of a gigabyte
        del in_pixels
        in_pixels = inside(~valid)
    core = hole & (in_pixels > THIN)
    distance = depth if far is None else far.bounded(depth)[0]
    if not core.any():
        shares = np.zeros((len(FAMILIES), *hole.shape), dtype=np.float32)
        shares[0] = 1.0
        return distance, shares
    # what lies behind is told of hole pixels alone, `(n,)`: of whole volumes planes are what takes memory
    end = march(hole, valid, nearest, edges, in_pixels)
    behind = (end == END).astype(np.float64)
    if far is not None:
        behind = np.where(end == CUT, far.behind[0][hole], behind)
    if behind.any():
        behind = around_each(behind, hole, depth if as_far else in_pixels)
    if far is not None:
        behind = handed_over(behind, far.behind[0][hole], far.seen(distance, 0)[hole]).astype(np.float64)
    return distance, _shares(hole, core, behind)


def _shares(hole: Mask, core: Mask, behind: NDArray[np.float64]) -> Array:
    """Return the shares `(3, *spatial)` given the cores of deep holes and what lies behind hole pixels, `(n,)`."""
    near, most = CORE_REACH
    number, distances = close(core, math.ceil(most))
    thin = np.clip((distances - near) / (most - near), 0.0, 1.0)
    shares = np.zeros((len(FAMILIES), *hole.shape), dtype=np.float32)
    shares[0] = thin.astype(np.float32)[number]
    shares[2][hole] = (1.0 - thin[number[hole]]) * behind
    np.subtract(1.0, shares[0], out=shares[1])
    shares[1] -= shares[2]
    return shares


def _log(distance: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.log2(np.maximum(np.asarray(distance, dtype=np.float64), 0.5))
