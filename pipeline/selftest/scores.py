"""What a method gains and where it harms: lines of the self-test table, and gains by piece of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from pipeline.numerics.situation import FAMILIES
from pipeline.selftest.site import FEWEST_HIDDEN, Site, channel_scale, shares_of
from pipeline.selftest.trial import Proposal, Trial, evidence_of
from pipeline.selftest.verdict import FamilyScore, Row
from pipeline.selftest.weights import Comparison, compare

NOTICEABLE_DB = 0.05
"""Change of a hole, a piece of image or a family of holes that nobody notices."""

PRICE_DB = 5.0
"""Gain that is deducted for harm if all holes or pieces of image become noticeably worse, and its share if some do."""

TOLERATED = 0.1
"""Share of the single wide pseudo-holes (each channel counts as a hole of its own) that may become noticeably worse."""

_HOLE = 16
"""Hidden pixels below which a hole is not looked at."""

_FEW_THIN = 0.125
"""Share of what is hidden that lies in thin holes from which wide pieces are parts of wedges: it is 0.08 at most in
clouds with specks, 0.16 and more in stripes."""

_PIECE = 32
"""Hidden pixels of a channel below which a piece of image says nothing about it."""

_STEADY = 0.05
"""Share of the typical squared error of a channel that is added to a piece's own."""


def wide_holes(sites: Sequence[Site]) -> NDArray[np.intp]:
    """Return the number of the wide pseudo-hole that each hidden pixel of all sites lies in, `(n,)`.

    Each channel counts as a hole of its own; numbers begin at 1. What is hidden in thin holes has 0.
    """
    numbers: list[NDArray[np.intp]] = []
    known = 0
    for site in sites:
        labels = np.zeros(site.placement.hidden.shape, dtype=np.intp)
        for c, wide in enumerate(site.placement.hidden & (site.place.shares[0] < 0.5)):
            found, count = label(wide)
            labels[c] = np.where(wide, found + known, 0)
            known += count
        numbers.append(site.hidden(labels))
    return np.concatenate(numbers)


def stand_alone(sites: Sequence[Site]) -> bool:
    """Say whether wide pseudo-holes are holes of their own, as clouds are, not pieces of stripes."""
    return bool(shares_of(sites)[0].mean() < _FEW_THIN)


def harmed(holes: NDArray[np.intp], before: NDArray[np.floating], after: NDArray[np.floating]) -> float:
    """Return the share of wide pseudo-holes of at least 16 pixels that are made worse by more than 0.05 dB.

    NaN without any.

    Args:
        holes: see `wide_holes`, `(n,)`.
        before: errors `(n,)`, data units.
        after: the same.
    """
    large = 1 + np.flatnonzero(np.bincount(holes)[1:] >= _HOLE)
    old, new = (np.bincount(holes, weights=error**2)[large] for error in (before, after))
    worse = new / np.maximum(old, 1e-30) > 10 ** (NOTICEABLE_DB / 10)
    return float(worse.sum()) / large.size if large.size else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Hidden pixels by piece of each placement and channel, to see which pieces a change makes worse."""

    cell: NDArray[np.intp]
    """`(n,)`, number of the piece and channel of each hidden pixel that counts."""
    count: NDArray[np.float64]
    """`(pieces, c)`, hidden pixels."""
    before: NDArray[np.float64]
    """`(pieces, c)`, sum of squared errors before the change."""
    steady: NDArray[np.float64]
    """`(pieces, c)`, added to the sums before and after: pieces with next to no error must not decide."""

    @classmethod
    def of(cls, sites: Sequence[Site], errors: NDArray[np.floating], some: NDArray[np.bool_]) -> Pieces:
        """Sort some of the hidden pixels of all sites.

        Args:
            sites: what is hidden, `n` pixels in all.
            errors: `(n,)`, before the change.
            some: `(n,)`, those that count.
        """
        channels = 1 + max(max(s.channels) for s in sites)
        cells, first = [], 0
        for site in sites:
            _, piece = np.unique(site.hidden(site.unit), return_inverse=True)
            cells.append((first + piece) * channels + site.channel)
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


def row_of(method: str, proposals: Sequence[Proposal], mixed: Sequence[Trial], spread: NDArray[np.float64]) -> Row:
    """Return a line of the table: the proposals alone, and by families what the blend gains over the drafts.

    Args:
        method: name.
        proposals: what the method would have, one for each trial.
        mixed: the same trials with what was blended of it.
        spread: robust range of each channel of the image, `(c,)`.
    """
    trials = [p.trial for p in proposals]
    step = np.abs(_drafted(mixed) - _drafted(trials))
    full = np.abs(np.concatenate([p.step for p in proposals]))
    shares = shares_of(trials).astype(np.float64)
    weights = (shares * step).sum(axis=1) / np.maximum((shares * full).sum(axis=1), 1e-30)
    before, after = (np.concatenate([t.error for t in some]) for some in (trials, mixed))
    score = psnr_of([p.trial.normalised_mse_of(p.mean, spread) for p in proposals])
    return Row(
        method=method,
        psnr_db=score,
        gain_db=score - psnr_of([t.normalised_mse_of(t.draft.mean, spread) for t in trials]),
        weight=float(np.clip(step.sum() / max(full.sum(), 1e-30), 0, 1)),
        seconds=0.0,
        chosen=False,
        families=family_scores(
            trials, before, after, [float(w) for w in np.clip(weights, 0, 1)], compare(evidence_of(proposals, _shares))
        ),
    )


def _shares(proposal: Proposal) -> NDArray[np.float64]:
    """Return the family shares of the hidden pixels of a proposal's trial, `(3, n)`."""
    return proposal.trial.hidden_place.shares.astype(np.float64)


def _drafted(trials: Sequence[Trial]) -> NDArray[np.float32]:
    """Return what has been made of the hidden pixels of all trials, `(n,)`."""
    return np.concatenate([t.hidden(t.draft.mean) for t in trials])


def family_scores(
    sites: Sequence[Site],
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    weights: Sequence[float],
    comparisons: Sequence[Comparison | None] = (None,) * len(FAMILIES),
) -> tuple[FamilyScore, ...]:
    """Return for each family with enough hidden pixels what is gained from errors `before` to those `after`.

    Args:
        sites: what is hidden, `n` pixels in all.
        before: `(n,)`, data units.
        after: the same.
        weights: share of the method in each family.
        comparisons: how sure the method is in each family.
    """
    scale = channel_scale(sites, before)
    old, new = ((error / scale) ** 2 for error in (before, after))
    scores = []
    for name, share, weight, sure in zip(FAMILIES, shares_of(sites), weights, comparisons, strict=True):
        pixels = float(share.sum())
        if pixels < FEWEST_HIDDEN:
            continue
        ratio = float((share * old).sum()) / max(float((share * new).sum()), 1e-30)
        gain = float(10 * np.log10(ratio)) if np.isfinite(ratio) and ratio > 0 else float("nan")
        scores.append(FamilyScore(family=name, pixels=round(pixels), gain_db=gain, weight=weight, comparison=sure))
    return tuple(scores)


def psnr_of(normalised_mse: Sequence[float]) -> float:
    """Return the PSNR in dB of the mean over placements of normalised squared errors; NaN counts for nothing."""
    scores = np.asarray(normalised_mse)
    usable = scores[np.isfinite(scores)]
    return float(-10 * np.log10(max(usable.mean(), 1e-12))) if usable.size else float("nan")
