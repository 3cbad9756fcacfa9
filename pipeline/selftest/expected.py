"""Tell the error to expect in the real holes from that of hidden pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.calibration import mean_squared_ratio
from pipeline.numerics.situation import Curves
from pipeline.restore.blend import CARRIED, carried
from pipeline.restore.estimate import error_factor
from pipeline.restore.recipe import Recipe
from pipeline.selftest.errorbars import Pixels, Tested

_FEWEST = 64
"""Pixels below which a channel's holes are not judged by what they are like."""


def expected_rmse(
    tested: Sequence[Tested], drafts: Sequence[Tested], spread: NDArray[np.float64], fitted: Recipe, used: Recipe
) -> tuple[float, ...]:
    """Return the error to expect in each channel's real holes, data units.

    It is the raw error of drafts in the holes times that of hidden pixels over theirs in the same situation, and as
    many times larger as the error bars there are than where they were tested; all of it times what the network leaves
    of the errors of drafts. A network is tried on one channel a placement, and places differ more than channels do, so
    drafts tell channels apart. One in which nothing was hidden gets the mean of the others relative to the range of its
    values.

    Args:
        tested: hidden pixels of each placement, with the network if it is used.
        drafts: the same pixels, and those of the other channels, before it.
        spread: robust range of each channel, `(c,)`.
        fitted: the recipe with the calibrations that the hidden pixels gave.
        used: with those of the run, which may be wider.
    """
    scale = np.where(spread > 0, spread, 1.0)
    pairs = [(t, d.only(np.isin(d.channel, t.channel))) for t, d in zip(tested, drafts, strict=True)]
    after, before = (
        sum(float(np.sum((one.error / scale[one.channel]) ** 2)) for one in of) for of in zip(*pairs, strict=True)
    )
    left = np.sqrt(after / before) if before > 0 else 1.0
    return tuple(float(left * value) for value in _expected(drafts, spread, fitted, used))


def rmse_of_bars(tested: Sequence[Tested], used: Recipe, spread: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the root mean square of the standard errors in each channel's real holes, data units.

    It stands for the error to expect where no hidden pixel tells it. A channel without real holes in the windows gets
    the mean of the others relative to the range of its values; the arguments are as in `expected_rmse`.
    """
    squares, count = np.zeros(spread.size), np.zeros(spread.size)
    for holes in (t.holes for t in tested):
        sigma = (holes.raw * error_factor(used, holes.trust, holes.place)).astype(np.float64)
        squares += np.bincount(holes.channel, weights=sigma**2, minlength=spread.size)
        count += np.bincount(holes.channel, minlength=spread.size)
    known, mean = count > 0, squares / np.maximum(count, 1)
    usual = np.mean(mean[known] / np.where(spread > 0, spread, 1.0)[known] ** 2) if known.any() else 0.0
    return tuple(float(value) for value in np.sqrt(np.where(known, mean, usual * spread**2)))


def _expected(
    tested: Sequence[Tested], spread: NDArray[np.float64], fitted: Recipe, used: Recipe
) -> NDArray[np.float64]:
    """Return the error to expect of the same as what is tested, `(c,)`."""
    n = spread.size
    with_reference, without = (
        _squared_ratio([t.only((t.trust >= CARRIED) == wanted) for t in tested]) for wanted in (True, False)
    )

    def said(pixels: Pixels) -> NDArray[np.float64]:
        """Return the sum of the squared errors that the ratios say, for each channel."""
        ratio = np.where(pixels.trust >= CARRIED, with_reference.at(pixels.place), without.at(pixels.place))
        squares = ratio.astype(np.float64) * pixels.raw.astype(np.float64) ** 2
        return summed(pixels, squares * pixels.weight if isinstance(pixels, Tested) else squares)

    def summed(pixels: Pixels, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(pixels.channel, weights=values, minlength=n).astype(np.float64)

    hidden, real = np.zeros((3, n)), np.zeros((2, n))
    for t in tested:
        off = t.error.astype(np.float64) ** 2
        hidden += np.stack([said(t), summed(t, t.weight.astype(np.float64)), summed(t, t.weight * off)])
        deeper = replace(t.holes, raw=t.holes.raw * _beyond(t.holes, fitted, used))
        real += np.stack([said(deeper), summed(t.holes, np.ones(t.holes.raw.size))])
    # what the ratios get wrong in a channel they get wrong in its holes, too
    skew = np.where(hidden[0] > 0, hidden[2] / np.where(hidden[0] > 0, hidden[0], 1.0), 1.0)
    some = real[1] >= _FEWEST
    mean = np.where(some, skew * real[0] / np.maximum(real[1], 1), hidden[2] / np.maximum(hidden[1], 1))
    known = hidden[1] > 0
    relative = np.sqrt(mean[known]) / np.where(spread[known] > 0, spread[known], 1.0)
    usual = float(np.sqrt(np.mean(relative**2))) if known.any() else 0.0
    return np.where(known, np.sqrt(mean), usual * spread)


def _beyond(pixels: Pixels, fitted: Recipe, used: Recipe) -> NDArray[np.float32]:
    """Return how many times as wide error bars are at pixels as where they were tested, `(n,)`, at least 1."""
    single, referenced = (
        now.over(tested, pixels.place)
        for now, tested in ((used.single, fitted.single), (used.referenced, fitted.referenced))
    )
    return np.asarray(single + carried(pixels.trust) * (referenced - single), dtype=np.float32)


def _squared_ratio(tested: Sequence[Tested]) -> Curves:
    """Return the mean squared error over raw error of the hidden pixels, over distance for each family."""
    return mean_squared_ratio(
        np.concatenate([t.error for t in tested]),
        np.concatenate([t.raw for t in tested]),
        np.concatenate([t.place.distance for t in tested]),
        np.concatenate([t.place.shares for t in tested], axis=1),
        np.concatenate([t.weight for t in tested]),
    )
