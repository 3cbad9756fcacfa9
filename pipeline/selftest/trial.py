"""Sites on trial: what has been made of each so far, and what a method proposes instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.situation import Situation
from pipeline.restore.blend import limited
from pipeline.restore.task import Draft
from pipeline.selftest.placing import Placement
from pipeline.selftest.site import FEWEST_HIDDEN, Site, channel_scale, unit_of
from pipeline.selftest.weights import Evidence

_MAX_PIXELS = 400_000
"""Hidden pixels that weights are decided on; of more every second, third, ... is taken."""

_LIMIT_QUANTILE = 0.98
"""Share of the tested steps that the limit lets through whole."""

_SMALLEST_LIMIT = 0.001
"""No limit is below this, in local standard deviations; limits are rounded to as much."""

_CLEARLY = 0.7
"""Share of the squared error of limited steps that full ones must stay below for the limit to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial(Site):
    """A site with what has been made of it so far; the fills tried there are forgotten."""

    draft: Draft
    """The estimate so far; its `place` is that of the site."""
    raw: NDArray[np.float32]
    """`(c, *spatial)`, uncalibrated standard error that goes with it, data units."""

    @classmethod
    def of(cls, site: Site, draft: Draft) -> Trial:
        """Return a site with its first draft, whose error is judged by how rough the surroundings are."""
        return cls(
            placement=site.placement,
            place=site.place,
            unit=site.unit,
            channels=site.channels,
            draft=draft,
            raw=draft.close,
        )

    @property
    def error(self) -> NDArray[np.float32]:
        """Return how far the draft is off at the hidden pixels, float32 `(n,)`, data units."""
        return self.error_of(self.draft.mean)

    def with_draft(self, draft: Draft) -> Trial:
        """Return the trial with something else made of it."""
        return replace(self, draft=draft)

    def of_channels(self, picked: list[int]) -> Trial:
        """Return the trial of some of its channels."""
        p, draft, window = self.placement, self.draft, self.window
        around = p.task.around and p.task.around.of(picked)
        place = Situation(distance=self.place.distance[picked], shares=self.place.shares[:, picked])
        window = replace(window, values=window.values[picked], valid=window.valid[picked], hole=window.hole[picked])
        return Trial(
            placement=Placement(
                task=replace(p.task, window=window, around=around),
                truth=p.truth[picked],
                hidden=p.hidden[picked],
                concerned=p.concerned[picked],
                start=p.start,
            ),
            place=place,
            unit=self.unit[picked],
            channels=tuple(self.channels[c] for c in picked),
            draft=Draft(
                mean=draft.mean[picked],
                origin=draft.origin[picked],
                trust=draft.trust[picked],
                place=place,
                scale=draft.scale[picked],
                close=draft.close[picked],
                lead=draft.lead[picked],
                reliability=draft.reliability[picked],
                said=draft.said[picked],
            ),
            raw=self.raw[picked],
        )


def rotated(trials: Sequence[Trial]) -> list[Trial]:
    """Keep one channel of each trial, another in the next: the network treats each channel by itself."""
    narrow = []
    for k, trial in enumerate(trials):
        hidden = trial.placement.hidden
        some = np.flatnonzero(hidden.reshape(len(hidden), -1).any(axis=1))
        narrow.append(trial.of_channels([int(some[k % len(some)])]))
    return narrow


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a method would have instead of the draft of a trial."""

    trial: Trial
    mean: NDArray[np.float32]
    """`(c, *spatial)`, data units; the draft's where the method has nothing to say."""

    @property
    def step(self) -> NDArray[np.float32]:
        """Return what the proposal adds to the draft at the hidden pixels, `(n,)`."""
        return self.trial.hidden(self.mean - self.trial.draft.mean)

    @property
    def relative_step(self) -> NDArray[np.float32]:
        """Return the size of the step at the hidden pixels in local standard deviations, `(n,)`."""
        draft = self.trial.draft
        return self.trial.hidden(np.abs(self.mean - draft.mean) / draft.scale)

    def limited(self, limit: float | None) -> Self:
        """Return the proposal with steps above the limit (see `step_limit`) shortened, with None as it is."""
        return replace(self, mean=limited(self.trial.draft, self.mean, limit))

    def squared_error(self, some: NDArray[np.bool_]) -> float:
        """Return the sum of squared errors over some `(n,)` of the hidden pixels, in local standard deviations."""
        trial = self.trial
        errors = trial.hidden((self.mean - trial.placement.truth) / trial.draft.scale)[some]
        return float((errors.astype(np.float64) ** 2).sum())


_P = TypeVar("_P", bound=Proposal)


def step_limit(proposals: Sequence[Proposal], surely: float = _CLEARLY) -> float | None:
    """Return the step, in local standard deviations, that nearly all of the tested ones stay below.

    None if those beyond it proved right, too: what a clear reference shows may lie far from any fill.

    Args:
        proposals: one for each trial.
        surely: share of the squared error of limited steps that full ones must stay below for the limit to go.
    """
    steps = np.concatenate([p.relative_step for p in proposals])
    steps = steps[steps > 0]
    if steps.size < FEWEST_HIDDEN:
        return None
    limit = max(round(float(np.quantile(steps, _LIMIT_QUANTILE)), 3), _SMALLEST_LIMIT)
    full = cut = 0.0
    for proposal in proposals:
        beyond = proposal.relative_step > limit
        full += proposal.squared_error(beyond)
        cut += proposal.limited(limit).squared_error(beyond)
    return None if full < surely * cut else limit


def evidence_of(proposals: Sequence[_P], cells: Callable[[_P], NDArray[np.float64]]) -> Evidence:
    """Return the hidden pixels as a comparison of proposals with drafts.

    Args:
        proposals: one for each trial.
        cells: gives the share of each cell in the hidden pixels of a proposal's trial, `(j, n)`.
    """
    trials = [p.trial for p in proposals]
    error = np.concatenate([t.error for t in trials])
    scale = channel_scale(trials, error)
    step = np.concatenate([p.step for p in proposals])
    some = slice(None, None, max(1, error.size // _MAX_PIXELS))
    return Evidence(
        error=(error / scale)[some],
        step=(step / scale)[some],
        cells=np.concatenate([cells(p) for p in proposals], axis=1)[:, some],
        unit=unit_of(trials)[some],
    )
