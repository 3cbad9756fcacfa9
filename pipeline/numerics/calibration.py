"""Make stated uncertainty true: factors per hole family and distance, fitted on pixels hidden on purpose.

A raw standard error (local roughness, or the network's scale) is multiplied by a factor so that 90 % of the
absolute errors of held-back pixels lie below `1.645 x` it (conformal scaling; Romano, Patterson and Candes 2019).
Factors are continuous, never fall with distance and go on growing beyond the largest distance that could be tested, as
the root of the image's structure function does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from pipeline.numerics.situation import ERROR_KNOTS, FAMILIES, Curves, Situation, blended, curves_of, hats
from pipeline.numerics.structure import Growth

Z90 = 1.645
"""Half width of a two-sided 90 % normal interval in standard errors: the meaning of our uncertainty layer."""

FEWEST_PIXELS = 200
"""Held-back pixels below which nothing is fitted."""

_SMALLEST = 1e-6
_WITHIN = (0.1, 0.9)
"""Shares of the held-back pixels between which the mean is moved to that of real holes."""
_ENOUGH = 20_000
"""Held-back pixels that the weights are found on; of more every second, third, ... is taken."""
_STEEPEST = 10.0
"""Largest exponent of a weight."""
# factors fitted on optical scenes of three places and two sensors were 0.8-1.2 in thin holes, rose from 1.0 to 1.3 in
# wide ones and to 1.4 at edges (16 pixels away); the stored ones lie above them far out, as nothing confirms them
_STORED = (
    (0.9,) * 7,
    (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6),
    (1.0, 1.15, 1.3, 1.45, 1.6, 1.75, 1.9),
)

# where another date carries the mean, what it cannot know is the same at all distances: the factors that 35 scenes of
# which 60 to 93 % are hidden would have needed, at eight places, were 0.8 beside observed pixels and 0.9 to 1.3 farther
_STORED_OF_REFERENCES = ((0.9, *(1.1,) * 6),) * 3


def _stored() -> Curves:
    return curves_of(_STORED, ERROR_KNOTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Factor on the raw standard error.

    Attributes:
        factors: factor over distance of each family, non-decreasing.
        tested_to: largest distance with enough held-back pixels of each family; beyond it factors go on growing.
        growth: how errors grow in this image; beyond what was tested factors grow as much.
        pixels: number of held-back pixels used; 0 = the stored default.
    """

    factors: Curves = field(default_factory=_stored)
    tested_to: tuple[float, ...] = (2.0, 16.0, 16.0)
    growth: Growth = field(default_factory=Growth)
    pixels: int = 0

    def factor(self, place: Situation) -> NDArray[np.float32]:
        """Return the factor at each pixel, `(c, *spatial)`."""
        return blended(place.shares, self._grown([place.distance.astype(np.float64)] * len(FAMILIES)))

    def over(self, fitted: Calibration, place: Situation) -> NDArray[np.float32]:
        """Return how many times as large the factor is as the fitted one at the distances that were tested, at least 1.

        Args:
            fitted: what hidden pixels gave.
            place: of the pixels, `(...)`.
        """
        distance = place.distance.astype(np.float64)
        tested = blended(place.shares, fitted._grown([np.minimum(distance, limit) for limit in fitted.tested_to]))
        return np.asarray(np.maximum(self.factor(place) / tested, np.float32(1)), dtype=np.float32)

    def at_least(self, stored: Calibration) -> Calibration:
        """Return one whose factors are those of this one or the stored ones, whichever are larger at a distance.

        Both are compared as they have grown there, so that the stored ones, which rise with distance by themselves, do
        not grow once more because little could be tested here.
        """
        rows = [np.maximum(*both) for both in zip(self._at_knots(), stored._at_knots(), strict=True)]
        farthest = tuple(max(limit, knots[-1]) for limit, knots in zip(self.tested_to, ERROR_KNOTS, strict=True))
        return replace(self, factors=curves_of([row.tolist() for row in rows], ERROR_KNOTS), tested_to=farthest)

    def _at_knots(self) -> list[NDArray[np.float64]]:
        """Return the factors at the knots of each family, as they have grown there."""
        return self._grown([np.asarray(knots) for knots in ERROR_KNOTS])

    def _grown(self, distances: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Return the factor of each family at distances of its own."""
        grown = []
        for curve, distance, limit in zip(self.factors.all, distances, self.tested_to, strict=True):
            factor, beyond = curve(distance), distance > limit
            # most pixels lie no farther from observed ones than what was tested
            factor[beyond] *= self.growth(distance[beyond]) / self.growth(np.asarray(limit))
            grown.append(factor)
        return grown


STORED_OF_FILLS = Calibration()
"""Where nothing is known of an image, and none of its pixels is restored from another one."""

STORED_OF_REFERENCES = Calibration(
    factors=curves_of(_STORED_OF_REFERENCES, ERROR_KNOTS), tested_to=tuple(knots[-1] for knots in ERROR_KNOTS)
)
"""Where nothing is known but that another date carries the mean."""


def fit(
    absolute_error: NDArray[np.floating],
    raw: NDArray[np.floating],
    distance: NDArray[np.floating],
    shares: NDArray[np.floating],
    *,
    weight: NDArray[np.floating] | None = None,
) -> Calibration:
    """Fit the factors on held-back pixels.

    Factors never fall with distance. In thin and deep holes neighbouring knots whose factors would fall share one, that
    of their pixels together (isotonic regression of a quantile: Robertson and Wright 1980): raw errors may grow faster
    than true ones, and a running maximum would widen all bars far out. For border holes, of which only few can be
    hidden, the running maximum is taken instead.

    A knot on which less weight than that of 200 pixels falls takes the factor of the knot next nearer to observed
    pixels; a family of holes without any such knot takes that of all families together beside observed pixels, which
    grows from there. With fewer than 200 pixels in all the stored default is returned.

    Args:
        absolute_error: `(n,)`.
        raw: `(n,)`, > 0.
        distance: `(n,)`, steps of the finest axis.
        shares: `(3, n)`, families.
        weight: `(n,)`, how often each pixel counts, on average 1 (see `tilted`); None = all alike.
    """
    if absolute_error.size < FEWEST_PIXELS:
        return STORED_OF_FILLS
    ratio = absolute_error.astype(np.float64) / raw.astype(np.float64)
    order = np.argsort(ratio, kind="stable")
    counts = np.ones(ratio.size) if weight is None else weight[order].astype(np.float64)
    ratio, distance, shares = ratio[order], distance[order], shares[:, order] * counts
    (nearest, *_), _ = _curve(ratio, distance, counts, ERROR_KNOTS[0], fallback=None, cautious=False)
    rows, tested = [], []
    for family, knots, share in zip(FAMILIES, ERROR_KNOTS, shares, strict=True):
        values, limit = _curve(ratio, distance, share, knots, fallback=nearest, cautious=family == "border")
        rows.append(values)
        tested.append(limit)
    return Calibration(factors=curves_of(rows, ERROR_KNOTS), tested_to=tuple(tested), pixels=int(ratio.size))


def tilted(
    held_back: NDArray[np.floating], wanted: NDArray[np.floating], telling: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return how often each held-back pixel is to count so that they are on average like the pixels of real holes.

    Where pixels can be held back is not where holes are: a factor fitted mostly on calm water is wrong on the coast.
    Under such a shift intervals hold if each pixel counts as the ratio of both densities (weighted conformal
    prediction: Tibshirani et al. 2019, arXiv:1904.06019). The ratio is an exponential of one property (Qin 1998,
    doi:10.1093/biomet/85.3.619), whose mean it brings to that of the holes, but no farther than nine tenths of the
    pixels lie: beyond, a few of them would decide all.

    Args:
        held_back: `(n,)`, the property.
        wanted: `(m,)`, that of the pixels of real holes; without any all count alike.
        telling: `(n,)`, which of the former are to be like the latter.

    Returns:
        `(n,)` float32, > 0, on average about 1 over those that tell.
    """
    own = held_back[telling].astype(np.float64)
    own = own[:: max(1, own.size // _ENOUGH)]
    if not own.size or not wanted.size or own.std() == 0:
        return np.ones(held_back.size, dtype=np.float32)
    middle, width = own.mean(), own.std()
    target = float(np.clip(wanted.mean(dtype=np.float64), *np.quantile(own, _WITHIN)))

    def counts(slope: float, of: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp(np.clip(slope * (of - middle) / width, -_STEEPEST, _STEEPEST)))

    def missed(slope: float) -> float:
        return float(np.average(own, weights=counts(slope, own))) - target

    # of few different values the ninth tenth may be the largest one, which no weights reach
    slope = float(np.copysign(_STEEPEST, target - own.mean()))
    if missed(-_STEEPEST) < 0 < missed(_STEEPEST):
        slope = float(brentq(missed, -_STEEPEST, _STEEPEST, xtol=1e-6))
    return np.asarray(counts(slope, held_back.astype(np.float64)) / counts(slope, own).mean(), dtype=np.float32)


def power_of(absolute_error: NDArray[np.floating], raw: NDArray[np.floating], weight: NDArray[np.floating]) -> float:
    """Return the power of the raw error that held-back errors grow with, 0 to 1; 1 if fewer than 200 are given.

    The squared error is a power of the raw one up to a factor: maximum likelihood as if it were a Poisson count, which
    is consistent whatever its distribution (Gourieroux, Monfort and Trognon 1984, doi:10.2307/1913472).

    Args:
        absolute_error: `(n,)`.
        raw: `(n,)`, > 0, both over the typical error of their channel.
        weight: `(n,)`, how often each counts.
    """
    every = slice(None, None, max(1, raw.size // _ENOUGH))
    scale = 2 * np.log(raw[every].astype(np.float64))
    square, counts = absolute_error[every].astype(np.float64) ** 2, weight[every].astype(np.float64)
    if scale.size < FEWEST_PIXELS or not (square * counts).any():
        return 1.0
    scale -= scale.max()
    target = np.average(scale, weights=counts * square)

    def missed(power: float) -> float:
        return float(np.average(scale, weights=counts * np.exp(power * scale)) - target)

    if missed(0.0) >= 0 or missed(1.0) <= 0:
        return float(missed(1.0) <= 0)
    return float(brentq(missed, 0.0, 1.0, xtol=1e-4))


def _curve(
    ratio: NDArray[np.float64],
    distance: NDArray[np.floating],
    share: NDArray[np.floating],
    knots: Sequence[float],
    *,
    fallback: float | None,
    cautious: bool,
) -> tuple[list[float], float]:
    """Return a non-decreasing factor for each knot, and how far it was tested; `ratio` is sorted.

    With `cautious` no factor is below that of nearer pixels.
    """
    pools: list[tuple[float, int, NDArray[np.float64]]] = []
    """Factor, first knot, and weight of each pixel."""
    tested = knots[0]
    for k, (knot, hat) in enumerate(zip(knots, hats(distance, knots), strict=True)):
        weight = hat * share
        if weight.sum() < FEWEST_PIXELS:
            continue
        tested = max(tested, min(knot, float(distance[weight > 0].max())))
        first, factor = k, _factor(ratio, weight)
        if cautious and pools:
            factor = max(factor, pools[-1][0])
        while pools and pools[-1][0] > factor:
            _, first, before = pools.pop()
            weight = weight + before
            factor = _factor(ratio, weight)
        pools.append((factor, first, weight))
    if not pools:
        return [_factor(ratio, share.astype(np.float64)) if fallback is None else fallback] * len(knots), tested
    starts = [first for _, first, _ in pools]
    own = np.searchsorted(starts, np.arange(len(knots)), side="right") - 1
    return [pools[max(i, 0)][0] for i in own], tested


def _factor(ratio: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Return what the bars of weighted pixels have to be multiplied by; `ratio` is sorted."""
    cumulated = np.cumsum(weight)
    return max(float(ratio[int(np.searchsorted(cumulated, 0.9 * cumulated[-1]))]) / Z90, _SMALLEST)


def mean_squared_ratio(
    error: NDArray[np.floating],
    raw: NDArray[np.floating],
    distance: NDArray[np.floating],
    shares: NDArray[np.floating],
    weight: NDArray[np.floating] | None = None,
) -> Curves:
    """Return `mean (error / raw)^2` over distance for each family, from held-back pixels as in `fit`."""
    square = (error.astype(np.float64) / raw) ** 2
    weight = np.ones(square.size) if weight is None else weight
    overall = float(np.average(square, weights=weight)) if square.size else 1.0
    rows = []
    for k, knots in enumerate(ERROR_KNOTS):
        counts = hats(distance, knots) * (shares[k] * weight)
        prior = FEWEST_PIXELS / 4
        rows.append(((counts * square).sum(axis=1) + prior * overall) / (counts.sum(axis=1) + prior))
    return curves_of(rows, ERROR_KNOTS)
