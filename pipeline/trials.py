"""Placements on trial: errors on hidden pixels, in units and pieces that make channels and places comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from pipeline.fills.base import FillSpec
from pipeline.pseudoholes import Placement
from pipeline.quality.decide import Evidence
from pipeline.quality.metrics import channel_mse, normalised_mse
from pipeline.quality.situation import FAMILIES, Situation
from pipeline.restore import Draft, limited, where
from pipeline.verdict import FamilyScore, Row

_CHANNELS = 1
"""Channels of each placement that go through the network, other ones in the next."""
_MAX_PIXELS = 400_000
_LIMIT_QUANTILE = 0.98
_CLEARLY = 0.7
"""Share of the squared error of limited steps that full ones must stay below for the limit to go."""
_FEWEST = 64
NOTICEABLE_DB = 0.05
"""What a hole or piece may lose without being called worse."""
_HOLE, _PIECE = 16, 32
"""Hidden pixels below which a hole or piece is not looked at."""
_STEADY = 0.05
"""Share of the typical squared error of a channel that is added to a piece's own."""

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
    if steps.size < _FEWEST:
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


def _channel_of(trial: Trial) -> NDArray[np.intp]:
    """Return the channel of each hidden pixel, counted in the image."""
    return np.asarray(trial.channels)[np.nonzero(trial.placement.hidden)[0]]


def shares_of(trials: Sequence[Trial]) -> NDArray[np.float32]:
    """Return the family shares of all hidden pixels, `(3, n)`."""
    return np.concatenate([t.place.shares[:, t.placement.hidden] for t in trials], axis=1)


def harmed(
    trials: Sequence[Trial], before: Sequence[NDArray[np.floating]], after: Sequence[NDArray[np.floating]]
) -> float:
    """Return the share of wide pseudo-holes of at least 16 pixels that are made worse by more than 0.05 dB.

    `before` and `after` are the errors on the hidden pixels of each trial. NaN without such holes.
    """
    worse = total = 0
    for trial, old, new in zip(trials, before, after, strict=True):
        hidden = trial.placement.hidden
        labels = np.zeros(hidden.shape, dtype=np.intp)
        for c, mask in enumerate(hidden & (trial.place.shares[0] < 0.5)):
            found, _ = label(mask)
            labels[c] = np.where(mask, found + labels.max(), 0)
        number = labels[hidden]
        size = np.bincount(number)
        large = np.flatnonzero(size >= _HOLE)
        ratio = np.bincount(number, weights=new**2)[large] / np.maximum(
            np.bincount(number, weights=old**2)[large], 1e-30
        )
        worse += int((ratio > 10 ** (NOTICEABLE_DB / 10)).sum())
        total += large.size
    return worse / total if total else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Hidden pixels by piece of each placement and channel, to see which pieces a change makes worse.

    Attributes:
        cell: `(n,)`, number of the piece and channel of each hidden pixel that counts.
        count: `(pieces, c)`, hidden pixels.
        before: the same, sum of squared errors before the change.
        steady: the same, added to both sums: pieces with next to no error must not decide.
    """

    cell: NDArray[np.intp]
    count: NDArray[np.float64]
    before: NDArray[np.float64]
    steady: NDArray[np.float64]

    @classmethod
    def of(cls, trials: Sequence[Trial], errors: NDArray[np.floating], some: NDArray[np.bool_]) -> Pieces:
        """Sort some of the hidden pixels of all trials.

        Args:
            trials: what is hidden, `n` pixels in all.
            errors: `(n,)`, before the change.
            some: `(n,)`, those that count.
        """
        channels = 1 + max(max(t.channels) for t in trials)
        cells, first = [], 0
        for trial in trials:
            _, piece = np.unique(hidden_of(trial, trial.unit), return_inverse=True)
            cells.append((first + piece) * channels + _channel_of(trial))
            first += int(piece.max(initial=-1)) + 1
        cell = np.concatenate(cells)[some]
        shape = (first, channels)
        count = np.bincount(cell, minlength=first * channels).reshape(shape).astype(np.float64)
        squares = errors[some].astype(np.float64) ** 2
        before = np.bincount(cell, weights=squares, minlength=first * channels).reshape(shape).astype(np.float64)
        typical = before.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
        return cls(cell=cell, count=count, before=before, steady=_STEADY * typical * count)

    def gains(self, errors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the gain in dB of each piece, mean over channels with at least 32 hidden pixels there.

        `errors` `(n,)` are those after the change, of the pixels that count.
        """
        squares = errors.astype(np.float64) ** 2
        after = np.bincount(self.cell, weights=squares, minlength=self.count.size).reshape(self.count.shape)
        old, new = (np.maximum(part + self.steady, 1e-30) for part in (self.before, after))
        there = self.count >= _PIECE
        total = np.where(there, 10 * np.log10(old / new), 0.0).sum(axis=1)
        some = there.any(axis=1)
        return np.asarray(total[some] / there[some].sum(axis=1))


def channel_units(trials: Sequence[Trial], errors: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float64]]:
    """Return for each hidden pixel the root mean square of the errors of its channel."""
    channel = np.concatenate([_channel_of(t) for t in trials])
    squares = np.concatenate(errors).astype(np.float64) ** 2
    total = np.bincount(channel, weights=squares)
    mean = total / np.maximum(np.bincount(channel), 1)
    unit = np.sqrt(np.where(mean > 0, mean, 1.0))
    return [unit[_channel_of(t)] for t in trials]


def row_of(
    method: str,
    trials: Sequence[Trial],
    drafts: Drafts,
    proposals: Sequence[NDArray[np.float32]],
    mixed: Drafts,
    spread: NDArray[np.float64],
) -> Row:
    """Return a line of the table: the proposal alone, and by families what the blend gains over the draft."""
    before = [hidden_of(t, d.mean - t.placement.truth) for t, d in zip(trials, drafts, strict=True)]
    after = [hidden_of(t, m.mean - t.placement.truth) for t, m in zip(trials, mixed, strict=True)]
    moved = [hidden_of(t, m.mean - d.mean) for t, d, m in zip(trials, drafts, mixed, strict=True)]
    asked_for = [hidden_of(t, p - d.mean) for t, d, p in zip(trials, drafts, proposals, strict=True)]
    shares = shares_of(trials).astype(np.float64)
    step, full = np.abs(np.concatenate(moved)), np.abs(np.concatenate(asked_for))
    weights = (shares * step).sum(axis=1) / np.maximum((shares * full).sum(axis=1), 1e-30)
    score = psnr_of(trials, proposals, spread)
    return Row(
        method=method,
        psnr_db=score,
        gain_db=score - psnr_of(trials, [d.mean for d in drafts], spread),
        weight=float(np.clip(step.sum() / max(full.sum(), 1e-30), 0, 1)),
        seconds=0.0,
        chosen=False,
        families=family_scores(trials, before, after, [float(w) for w in np.clip(weights, 0, 1)]),
    )


def family_scores(
    trials: Sequence[Trial],
    before: Sequence[NDArray[np.floating]],
    after: Sequence[NDArray[np.floating]],
    weights: Sequence[float],
) -> tuple[FamilyScore, ...]:
    """Return for each family with enough hidden pixels what is gained from errors `before` to those `after`."""
    units = channel_units(trials, before)
    old, new = (
        np.concatenate([(e / u) ** 2 for e, u in zip(errors, units, strict=True)]) for errors in (before, after)
    )
    scores = []
    for name, share, weight in zip(FAMILIES, shares_of(trials), weights, strict=True):
        pixels = float(share.sum())
        if pixels < _FEWEST:
            continue
        ratio = float((share * old).sum()) / max(float((share * new).sum()), 1e-30)
        gain = float(10 * np.log10(ratio)) if np.isfinite(ratio) and ratio > 0 else float("nan")
        scores.append(FamilyScore(family=name, pixels=round(pixels), gain_db=gain, weight=weight))
    return tuple(scores)


def psnr_of(trials: Sequence[Trial], means: Sequence[NDArray[np.float32]], spread: NDArray[np.float64]) -> float:
    """PSNR in dB of the mean normalised MSE over placements."""
    scores = np.asarray(
        [
            normalised_mse(channel_mse(m, t.placement.truth, t.placement.hidden), spread[list(t.channels)])
            for t, m in zip(trials, means, strict=True)
        ]
    )
    usable = scores[np.isfinite(scores)]
    return float(-10 * np.log10(max(usable.mean(), 1e-12))) if usable.size else float("nan")
