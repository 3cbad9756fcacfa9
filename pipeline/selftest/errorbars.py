"""Fit error bars on restored hidden pixels, check them on others, and predict the error of the real holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.calibration import Calibration, coverage, fit, mean_squared_ratio
from pipeline.numerics.situation import Situation
from pipeline.restore.blend import CARRIED
from pipeline.restore.estimate import error_factor, finish
from pipeline.restore.recipe import Recipe, narrowed
from pipeline.restore.task import Draft
from pipeline.selftest.trial import Trial

_MAX_PIXELS = 400_000

_FEWEST = 64


@dataclass(frozen=True, slots=True)
class Tested:
    """Hidden pixels of one placement after restoring; flat arrays of equal length.

    `holes` are the same facts (raw, distance, shares, trust, channel) of the real hole pixels of the window.
    """

    error: NDArray[np.float32]
    raw: NDArray[np.float32]
    place: Situation
    trust: NDArray[np.float32]
    channel: NDArray[np.intp]
    telling: NDArray[np.bool_]
    holes: Untested


@dataclass(frozen=True, slots=True)
class Untested:
    """Hole pixels of one placement whose truth nobody knows; flat arrays of equal length."""

    raw: NDArray[np.float32]
    place: Situation
    trust: NDArray[np.float32]
    channel: NDArray[np.intp]


def tested_on(trial: Trial, draft: Draft, raw: NDArray[np.float32], recipe: Recipe) -> Tested:
    """Finish a draft as a block would and take out what error bars are made of."""
    own, placement = narrowed(recipe, trial.channels), trial.placement
    result = finish(own, placement.task, draft, raw)
    hidden = placement.hidden
    real = placement.task.window.hole & ~hidden
    floor = np.asarray(own.floor, dtype=np.float32).reshape((-1,) + (1,) * (hidden.ndim - 1))
    channels = np.asarray(trial.channels)

    def pick(mask: NDArray[np.bool_]) -> Situation:
        return Situation(distance=trial.place.distance[mask], shares=trial.place.shares[:, mask])

    return Tested(
        error=(result.mean - placement.truth)[hidden],
        raw=result.raw[hidden],
        place=pick(hidden),
        trust=result.trust[hidden],
        channel=channels[np.nonzero(hidden)[0]],
        # the empty background of a volume is restored without error and says nothing about the rest
        telling=(draft.scale > 1.5 * floor)[hidden],
        holes=Untested(result.raw[real], pick(real), result.trust[real], channels[np.nonzero(real)[0]]),
    )


def calibrated(recipe: Recipe, tested: Sequence[Tested], plain: Sequence[Tested], *, sparse: bool) -> Recipe:
    """Fit both calibrations: with a reference on pixels that one carries, without on `plain`."""
    single = _fit(plain, [np.ones_like(t.telling) for t in plain], cautious=False)
    carried = [t.trust >= CARRIED for t in tested]
    enough = sum(int(c.sum()) for c in carried) >= _FEWEST
    # weights and gates of references were chosen on these pixels: their errors flatter
    referenced = _fit(tested, carried, cautious=True) if enough and any(recipe.reference_weights) else single
    if not referenced.pixels:
        referenced = single
    if sparse:
        single, referenced = single.at_least_stored(), referenced.at_least_stored()
    return replace(recipe, single=single, referenced=referenced)


def _fit(tested: Sequence[Tested], wanted: Sequence[NDArray[np.bool_]], *, cautious: bool) -> Calibration:
    telling = [w & t.telling for t, w in zip(tested, wanted, strict=True)]
    use = telling if sum(int(u.sum()) for u in telling) >= _FEWEST else wanted
    step = max(1, sum(int(u.sum()) for u in use) // _MAX_PIXELS)
    error, raw, distance = (
        np.concatenate([part[u] for part, u in zip(parts, use, strict=True)])[::step]
        for parts in ([np.abs(t.error) for t in tested], [t.raw for t in tested], [t.place.distance for t in tested])
    )
    shares = np.concatenate([t.place.shares[:, u] for t, u in zip(tested, use, strict=True)], axis=1)[:, ::step]
    return fit(error, raw, distance, shares, cautious=cautious)


def cross_coverage(recipe: Recipe, tested: Sequence[Tested], plain: Sequence[Tested]) -> float | None:
    """Return the coverage of each half of the placements with the calibration of the other."""
    errors, sigmas = [], []
    for half in (0, 1):
        other = calibrated(recipe, tested[1 - half :: 2], plain[1 - half :: 2], sparse=False)
        for t in tested[half::2]:
            errors.append(np.abs(t.error)[t.telling])
            sigmas.append((t.raw * error_factor(other, t.trust, t.place))[t.telling])
    value = coverage(np.concatenate(errors), np.concatenate(sigmas))
    return None if np.isnan(value) else value


def expected_rmse(tested: Sequence[Tested], spread: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the error to expect in each channel's real holes: hidden pixels' error over raw error, by situation."""
    n = spread.size
    error, raw, trust = (
        np.concatenate(parts)
        for parts in ([t.error for t in tested], [t.raw for t in tested], [t.trust for t in tested])
    )
    distance = np.concatenate([t.place.distance for t in tested])
    shares = np.concatenate([t.place.shares for t in tested], axis=1)
    carried = trust >= CARRIED
    free = mean_squared_ratio(error[~carried], raw[~carried], distance[~carried], shares[:, ~carried])
    helped = mean_squared_ratio(error[carried], raw[carried], distance[carried], shares[:, carried])
    sums = np.zeros((4, n))
    for t in tested:
        for row, facts in ((0, t), (2, t.holes)):
            if not facts.raw.size:
                continue
            ratio = np.where(facts.trust >= CARRIED, helped.at(facts.place), free.at(facts.place))
            square = ratio.astype(np.float64) * facts.raw.astype(np.float64) ** 2
            sums[row] += np.bincount(facts.channel, weights=square, minlength=n)
            sums[row + 1] += np.bincount(facts.channel, minlength=n)
    true = np.zeros(n)
    for t in tested:
        true += np.bincount(t.channel, weights=t.error.astype(np.float64) ** 2, minlength=n)
    # what the ratios get wrong in a channel they get wrong in its holes, too
    skew = np.where(sums[0] > 0, true / np.where(sums[0] > 0, sums[0], 1.0), 1.0)
    some = sums[3] >= _FEWEST
    mean = np.where(some, skew * sums[2] / np.maximum(sums[3], 1), true / np.maximum(sums[1], 1))
    known = sums[1] > 0
    relative = np.sqrt(mean[known]) / np.where(spread[known] > 0, spread[known], 1.0)
    usual = float(np.sqrt(np.mean(relative**2))) if known.any() else 0.0
    return tuple(float(v) for v in np.where(known, np.sqrt(mean), usual * spread))
