"""Trials made by hand: windows side by side whose truth is 0, so that an estimate is its own error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fills.base import Window
from pipeline.numerics.situation import Situation
from pipeline.references.estimate import ReferenceFill
from pipeline.restore.task import Draft, Task
from pipeline.selftest.network import Refined
from pipeline.selftest.placing import Placement
from pipeline.selftest.references import Consulted
from pipeline.selftest.site import sites_of
from pipeline.selftest.trial import Trial

Array = NDArray[np.float32]


def wide(shape: tuple[int, ...], distance: ArrayLike = 4.0) -> Situation:
    """Return the situation of pixels `(c, *spatial)` in wide holes only."""
    shares = np.zeros((3, *shape), np.float32)
    shares[1] = 1
    return Situation(distance=np.broadcast_to(np.float32(distance), shape), shares=shares)


def trials_of(
    means: ArrayLike,
    *,
    hidden: NDArray[np.bool_] | None = None,
    place: Situation | None = None,
    trust: ArrayLike = 0.0,
    scale: ArrayLike = 1.0,
) -> list[Trial]:
    """Return one trial for each draft mean.

    Args:
        means: `(trials, c, *spatial)`.
        hidden: `(c, *spatial)`, all pixels without; the others are observed.
        place: of each trial; in wide holes without.
        trust: of the drafts, a number or `(c, *spatial)`.
        scale: local standard deviation of the drafts, a number or `(c, *spatial)`.
    """
    drafted = np.asarray(means, np.float32)
    shape = drafted.shape[1:]
    hidden = np.ones(shape, bool) if hidden is None else hidden
    place = wide(shape) if place is None else place
    window = Window(values=np.zeros(shape, np.float32), valid=~hidden, hole=hidden, spacing=(1.0,) * (len(shape) - 1))
    task = Task(window=window, patch=64)
    starts = [(k * shape[1], *(0,) * (len(shape) - 2)) for k in range(len(drafted))]
    sites = sites_of(
        [Placement(task=task, truth=window.values, hidden=hidden, concerned=hidden, start=start) for start in starts]
    )
    trials = []
    for site, mean in zip(sites, drafted, strict=True):
        draft = Draft(
            mean=mean,
            origin=np.ones(shape, np.uint8),
            trust=np.broadcast_to(np.float32(trust), shape),
            place=place,
            close=np.broadcast_to(np.float32(scale), shape),
            scale=np.broadcast_to(np.float32(scale), shape),
            lead=np.zeros(shape, np.float32),
            reliability=np.full(shape, 0.5, np.float32),
            said=np.zeros(shape, np.float32),
        )
        trial = Trial.of(site, draft)
        trials.append(_placed(trial, place))
    return trials


def _placed(trial: Trial, place: Situation) -> Trial:
    return Trial(
        placement=trial.placement,
        place=place,
        unit=trial.unit,
        channels=trial.channels,
        draft=trial.draft,
        raw=trial.raw,
    )


def consulted(trials: list[Trial], values: ArrayLike, reliability: ArrayLike = 0.9) -> list[Consulted]:
    """Return what a reference says that is usable wherever something is hidden.

    `values` and `reliability` are numbers, `(c, *spatial)` for all trials, or `(trials, c, *spatial)`.
    """
    full = (len(trials), *trials[0].draft.mean.shape)
    said, sure = (np.broadcast_to(np.float32(part), full) for part in (values, reliability))
    results = [
        ReferenceFill(values=said[k], usable=t.placement.hidden, reliability=sure[k]) for k, t in enumerate(trials)
    ]
    return [Consulted.of(trial, result) for trial, result in zip(trials, results, strict=True)]


def refined(trials: list[Trial], means: ArrayLike) -> list[Refined]:
    """Return what a network says that was asked about all hidden pixels; `means` as `values` of `consulted`."""
    full = (len(trials), *trials[0].draft.mean.shape)
    said = np.broadcast_to(np.float32(means), full)
    return [
        Refined(trial=t, mean=np.where(t.window.hole, mean, t.draft.mean), asked=t.window.hole, raw=t.raw)
        for t, mean in zip(trials, said, strict=True)
    ]
