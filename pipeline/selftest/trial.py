"""Placements on trial: errors on hidden pixels, in units and pieces that make channels and places comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec
from pipeline.numerics.situation import Situation
from pipeline.restore.blend import limited
from pipeline.restore.estimate import where
from pipeline.restore.task import Draft
from pipeline.selftest.placing import Placement
from pipeline.selftest.weights import Evidence

_CHANNELS = 1
"""Channels of each placement that go through the network, other ones in the next."""

_MAX_PIXELS = 400_000

_LIMIT_QUANTILE = 0.98

_CLEARLY = 0.7
"""Share of the squared error of limited steps that full ones must stay below for the limit to go."""

FEWEST_HIDDEN = 64

Drafts = list[Draft]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A placement with what is known about its pixels.

    Attributes:
        placement: what is hidden where.
        place: distance and family of all pixels.
        unit: `(c, *spatial)`, number of the piece of image that a pixel lies in.
        channels: position in the image of each of the placement's channels.
        made: fills known so far, by label.
    """

    placement: Placement
    place: Situation
    unit: NDArray[np.intp]
    channels: tuple[int, ...]
    made: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def fill(self, spec: FillSpec) -> NDArray[np.float32]:
        """Return what a fill makes of the window; real holes that nothing hidden depends on keep their plain fill."""
        if spec.label not in self.made:
            placement = self.placement
            window = placement.task.window
            mean = spec(replace(window, hole=placement.concerned))
            self.made[spec.label] = np.where(placement.concerned | window.valid, mean, placement.truth)
        return self.made[spec.label]


def trials_of(placements: Sequence[Placement]) -> list[Trial]:
    """Return placements on trial.

    The unit of independent evidence is a piece of the image, a quarter of a window wide (a third in volumes), however
    often something was hidden there.
    """
    ndim = len(placements[0].start)
    extent = [max(1, -(-n // (6 - ndim))) for n in placements[0].truth.shape[1:]]
    cells = []
    for placement in placements:
        lines = [
            (a + np.arange(n)) // size
            for a, n, size in zip(placement.start, placement.truth.shape[1:], extent, strict=True)
        ]
        cells.append(np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1))
    most = np.max([cell.reshape(-1, ndim).max(axis=0) for cell in cells], axis=0) + 1
    flat = [np.ravel_multi_index(tuple(np.moveaxis(cell, -1, 0)), tuple(most)) for cell in cells]
    _, number = np.unique(np.concatenate([f.ravel() for f in flat]), return_inverse=True)
    trials, first = [], 0
    for placement, numbers in zip(placements, flat, strict=True):
        unit = number[first : first + numbers.size].reshape(numbers.shape)
        first += numbers.size
        shape = placement.truth.shape
        trials.append(
            Trial(
                placement=placement,
                place=where(placement.task.window),
                unit=np.broadcast_to(unit, shape),
                channels=tuple(range(shape[0])),
            )
        )
    return trials


def rotated(trials: Sequence[Trial], drafts: Drafts, alone: Drafts) -> tuple[list[Trial], Drafts, Drafts]:
    """Keep one channel of each placement, another in the next: the network treats each channel by itself."""
    fewer, narrow, narrow_alone = [], [], []
    for k, (trial, draft, single) in enumerate(zip(trials, drafts, alone, strict=True)):
        hidden = trial.placement.hidden
        some = np.flatnonzero(hidden.reshape(len(hidden), -1).any(axis=1))
        picked = sorted({int(some[(_CHANNELS * k + i) % len(some)]) for i in range(_CHANNELS)})
        fewer.append(_of_channels(trial, picked))
        narrow.append(_draft_of(draft, picked))
        narrow_alone.append(narrow[-1] if single is draft else _draft_of(single, picked))
    return fewer, narrow, narrow_alone


def _of_channels(trial: Trial, picked: list[int]) -> Trial:
    p = trial.placement
    window = p.task.window
    window = replace(window, values=window.values[picked], valid=window.valid[picked], hole=window.hole[picked])
    place = Situation(distance=trial.place.distance[picked], shares=trial.place.shares[:, picked])
    placement = Placement(
        task=replace(p.task, window=window),
        truth=p.truth[picked],
        hidden=p.hidden[picked],
        concerned=p.concerned[picked],
        start=p.start,
    )
    channels = tuple(trial.channels[c] for c in picked)
    return Trial(placement=placement, place=place, unit=trial.unit[picked], channels=channels)


def _draft_of(draft: Draft, picked: list[int]) -> Draft:
    return Draft(
        mean=draft.mean[picked],
        origin=draft.origin[picked],
        trust=draft.trust[picked],
        place=Situation(distance=draft.place.distance[picked], shares=draft.place.shares[:, picked]),
        scale=draft.scale[picked],
        lead=draft.lead[picked],
        reliability=draft.reliability[picked],
    )


def step_limit(trials: Sequence[Trial], drafts: Drafts, proposals: Sequence[NDArray[np.float32]]) -> float | None:
    """Return the step, in local standard deviations, that nearly all of the tested ones stay below.

    None if those beyond it proved right, too: what a clear reference shows may lie far from any fill.
    """
    ratios = [hidden_of(t, np.abs(p - d.mean) / d.scale) for t, d, p in zip(trials, drafts, proposals, strict=True)]
    steps = np.concatenate(ratios)
    steps = steps[steps > 0]
    if steps.size < FEWEST_HIDDEN:
        return None
    limit = round(float(np.quantile(steps, _LIMIT_QUANTILE)), 3)
    full = cut = 0.0
    for trial, draft, proposal, ratio in zip(trials, drafts, proposals, ratios, strict=True):
        beyond = ratio > limit
        full += _squares(trial, draft, proposal, beyond)
        cut += _squares(trial, draft, limited(draft, proposal, limit), beyond)
    return None if full < _CLEARLY * cut else limit


def _squares(trial: Trial, draft: Draft, mean: NDArray[np.float32], some: NDArray[np.bool_]) -> float:
    """Return the sum of squared errors over some of the hidden pixels, in local standard deviations."""
    errors = hidden_of(trial, (mean - trial.placement.truth) / draft.scale)[some]
    return float((errors.astype(np.float64) ** 2).sum())


def evidence_of(
    trials: Sequence[Trial],
    drafts: Drafts,
    proposals: Sequence[NDArray[np.float32]],
    cells: Sequence[NDArray[np.float64]],
) -> Evidence:
    """Return the hidden pixels as a comparison of proposals with drafts; `cells` are `(j, n)` of each trial."""
    errors = [hidden_of(t, d.mean - t.placement.truth) for t, d in zip(trials, drafts, strict=True)]
    units = channel_units(trials, errors)
    error = np.concatenate([e / u for e, u in zip(errors, units, strict=True)])
    steps = [hidden_of(t, p - d.mean) / u for t, d, p, u in zip(trials, drafts, proposals, units, strict=True)]
    thin = slice(None, None, max(1, error.size // _MAX_PIXELS))
    return Evidence(
        error=error[thin].astype(np.float64),
        step=np.concatenate(steps)[thin].astype(np.float64),
        cells=np.concatenate(cells, axis=1)[:, thin],
        unit=np.concatenate([hidden_of(t, t.unit) for t in trials])[thin],
    )


def hidden_of(trial: Trial, values: NDArray[Any]) -> NDArray[Any]:
    """Return the values on hidden pixels, 1-D."""
    return values[trial.placement.hidden]


def channel_of(trial: Trial) -> NDArray[np.intp]:
    """Return the channel of each hidden pixel, counted in the image."""
    return np.asarray(trial.channels)[np.nonzero(trial.placement.hidden)[0]]


def shares_of(trials: Sequence[Trial]) -> NDArray[np.float32]:
    """Return the family shares of all hidden pixels, `(3, n)`."""
    return np.concatenate([t.place.shares[:, t.placement.hidden] for t in trials], axis=1)


def channel_units(trials: Sequence[Trial], errors: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float64]]:
    """Return for each hidden pixel the root mean square of the errors of its channel."""
    channel = np.concatenate([channel_of(t) for t in trials])
    squares = np.concatenate(errors).astype(np.float64) ** 2
    total = np.bincount(channel, weights=squares)
    mean = total / np.maximum(np.bincount(channel), 1)
    unit = np.sqrt(np.where(mean > 0, mean, 1.0))
    return [unit[channel_of(t)] for t in trials]
