"""What a method gains and where it harms: lines of the self-test table, and gains by piece of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from pipeline.numerics.metrics import channel_mse, normalised_mse
from pipeline.numerics.situation import FAMILIES
from pipeline.selftest.trial import FEWEST_HIDDEN, Drafts, Trial, channel_of, channel_units, hidden_of, shares_of
from pipeline.selftest.verdict import FamilyScore, Row

NOTICEABLE_DB = 0.05
"""What a hole or piece may lose without being called worse."""

_HOLE, _PIECE = 16, 32
"""Hidden pixels below which a hole or piece is not looked at."""

_STEADY = 0.05
"""Share of the typical squared error of a channel that is added to a piece's own."""


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
            cells.append((first + piece) * channels + channel_of(trial))
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
        if pixels < FEWEST_HIDDEN:
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
