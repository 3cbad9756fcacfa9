"""Chooses what of a self-test is kept for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.calibration import Z90
from pipeline.plan.samples import DISTANCES, SCORES, Samples, Specimen
from pipeline.restore.estimate import finish
from pipeline.restore.recipe import Recipe, narrowed
from pipeline.selftest.errorbars import Tested
from pipeline.selftest.site import FEWEST_HIDDEN
from pipeline.selftest.trial import Trial

_PIXELS = 2000
_SMALLEST = 1e-6
"""Standard error over the range that float16 can tell from none."""
_LARGEST = float(np.finfo(np.float16).max)
_RANKS = (("a good one", 0.25), ("a typical one", 0.5), ("the worst", 1.0))
"""Windows that are shown, by the rank of their error among all windows and channels."""


def samples_of(
    trials: Sequence[Trial],
    tested: Sequence[Tested],
    widths: Sequence[NDArray[np.float32]],
    recipe: Recipe,
    spread: NDArray[np.float64],
) -> Samples:
    """Return what is kept.

    Args:
        trials: hidden pixels with their drafts.
        tested: the same after restoring.
        widths: half width of the 90 % interval of the hidden pixels of each as it is published, fitted on others.
        recipe: the decisions.
        spread: robust range of each channel, `(c,)`.
    """
    error, width = (np.concatenate(list(parts)) for parts in ([t.error for t in tested], widths))
    truth = np.concatenate([trial.hidden(trial.placement.truth) for trial in trials])
    distance = np.concatenate([t.place.distance for t in tested])
    # as for the coverage: what is restored without error where nothing varies says nothing
    telling = np.concatenate([t.telling for t in tested])
    telling = telling if telling.any() else np.ones_like(telling)
    weight = np.concatenate([t.weight for t in tested]).astype(np.float64) * telling
    score = np.clip(Z90 * error / width, SCORES[0], SCORES[-1])
    some = slice(None, None, max(1, -(-error.size // _PIXELS)))
    return Samples(
        truth=truth[some],
        restored=(truth + error)[some],
        channel=np.concatenate([t.channel for t in tested])[some].astype(np.int32),
        scores=np.histogram(score, SCORES, weights=weight)[0],
        seen=np.histogram(distance, DISTANCES, weights=weight)[0],
        held=np.histogram(distance, DISTANCES, weights=weight * (np.abs(error) <= width))[0],
        specimens=_specimens(trials, tested, recipe, spread),
    )


def _specimens(
    trials: Sequence[Trial], tested: Sequence[Tested], recipe: Recipe, spread: NDArray[np.float64]
) -> tuple[Specimen, ...]:
    ranked = sorted(
        (
            float(np.sqrt(np.mean(t.error[t.channel == channel].astype(np.float64) ** 2))) / float(spread[channel]),
            k,
            channel,
        )
        for k, t in enumerate(tested)
        for channel, count in enumerate(np.bincount(t.channel))
        if count >= FEWEST_HIDDEN and spread[channel] > 0
    )
    if not ranked:
        return ()
    places = {round(rank * (len(ranked) - 1)): title for title, rank in _RANKS}
    found = []
    for place, title in sorted(places.items()):
        error, k, channel = ranked[place]
        trial = trials[k]
        own, placement, at = narrowed(recipe, trial.channels), trial.placement, trial.channels.index(channel)
        result = finish(own, placement.task, trial.draft, trial.raw)
        hidden = placement.hidden[at]
        off, sigma = (values[at] / spread[channel] for values in (result.mean - placement.truth, result.sigma))
        found.append(
            Specimen(
                title=title,
                channel=channel,
                start=tuple(placement.start),
                error=error,
                off=np.where(hidden, np.clip(off, -_LARGEST, _LARGEST), 0.0).astype(np.float16),
                sigma=np.where(hidden, np.clip(sigma, _SMALLEST, _LARGEST), 0.0).astype(np.float16),
            )
        )
    return tuple(found)
