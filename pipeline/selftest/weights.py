"""Turn errors on hidden pixels into blend weights: risk-averse, one for each situation (cell)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]

GRID = tuple(k / 10 for k in range(11))
"""Weights that are tried."""

FINE = tuple(k / 100 for k in range(101))
"""The same in steps that nobody notices."""

RISK = 2.0
"""Standard errors by which a method must win; 2 was measured to cut harm tenfold at no loss in mean PSNR."""

FILLS_OF_IMAGES_RISK = 1.5
"""The same for one classical fill of an image in place of another, which can lose less than a network."""

_FEWEST_UNITS = 4.0
"""Pieces of image below which nothing is decided; where one holds more pixels than others, it takes more pieces."""

BELIEVED_PIECES = 8
"""Pieces of image that a belief counts for."""

_FEWEST_PIXELS = 100.0
"""Hidden pixels below which nothing is decided."""

_STEADY = 0.25
"""Share of the typical error that is added to a unit's own, so that one with next to no error does not decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Hidden pixels seen as a comparison of a proposal with what it would replace."""

    error: Field
    """`(n,)`, error without the proposal, in units that make channels comparable."""
    step: Field
    """`(n,)`, what the proposal would add, same units."""
    cells: Field
    """`(j, n)`, share of each cell (situation) in each pixel."""
    unit: NDArray[np.intp]
    """`(n,)`, number of the piece of image a pixel lies in; errors in different pieces count as independent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What is known of a cell before anything was hidden: from the self-tests of many images."""

    weight: float
    """Best blend weight, 0 to 1."""
    change: float
    """Squared error at this weight, relative to that without the proposal, minus 1: below 0 where it helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A proposal beside what it would replace: by how much it changes the squared error, and how sure that is."""

    weight: float
    """How much of it is blended in, 0 to 1."""
    change: float
    """Mean over pieces of image of the change of the squared error, over that without it; below 0 where it helps."""
    error: float
    """Standard error of the change."""
    risk: float
    """Standard errors by which it must win."""

    @property
    def wins(self) -> bool:
        """Say whether it is better by as many standard errors as it must."""
        return self.change + self.risk * self.error < 0


def choose_weights(
    evidence: Evidence, beliefs: Sequence[Belief | None] = (), grid: Sequence[float] = GRID
) -> list[float | None]:
    """Return for each cell the weight whose relative MSE change has the smallest mean + 2 standard errors.

    0 if no weight wins by that much; None where too little was hidden to tell.

    Args:
        evidence: what was hidden.
        beliefs: for each cell what is known before, None = nothing; it counts for `BELIEVED_PIECES` pieces of image.
        grid: weights that are tried, from 0 up.
    """
    n_units = int(evidence.unit.max(initial=0)) + 1
    squares = evidence.step**2, evidence.error * evidence.step, evidence.error**2

    def by_unit(values: Field) -> Field:
        return np.bincount(evidence.unit, weights=values, minlength=n_units).astype(np.float64)

    weights: list[float | None] = []
    for k, share in enumerate(evidence.cells):
        count = by_unit(share)
        total = float(count.sum())
        belief = beliefs[k] if beliefs else None
        if belief is None and (total < _FEWEST_PIXELS or total**2 < _FEWEST_UNITS * float((count**2).sum())):
            weights.append(None)
            continue
        sums = np.stack([by_unit(share * values) for values in squares] + [count])
        if belief is not None:
            sums = np.concatenate([sums, _believed(sums, belief)], axis=1)
        gain, cross, base, pixels = sums
        found = _safest(gain, cross, base, pixels / pixels.sum(), grid)
        weights.append(found.weight if found is not None and found.wins else 0.0)
    return weights


def compare(evidence: Evidence) -> list[Comparison | None]:
    """Return for each cell how the proposal does at its best weight, whether or not it wins; None if nothing tells."""
    n_units = int(evidence.unit.max(initial=0)) + 1
    squares = evidence.step**2, evidence.error * evidence.step, evidence.error**2
    found = []
    for share in evidence.cells:
        gain, cross, base, count = (
            np.bincount(evidence.unit, weights=share * values, minlength=n_units).astype(np.float64)
            for values in (*squares, np.ones(share.size))
        )
        enough = (count > 0).sum() > 1 and float(count.sum()) >= _FEWEST_PIXELS
        found.append(_safest(gain, cross, base, count / count.sum()) if enough else None)
    return found


def may_gain(evidence: Evidence, least: float) -> bool:
    """Say whether what was hidden leaves it open that the proposal lowers the squared error of a cell by `least`.

    That is so where, at some weight, the mean change less its standard error does; and where nothing tells.

    Args:
        evidence: what was hidden.
        least: share of the squared error.
    """
    n_units = int(evidence.unit.max(initial=0)) + 1
    squares = evidence.step**2, evidence.error * evidence.step, evidence.error**2
    told = False
    for share in evidence.cells:
        gain, cross, base, count = (
            np.bincount(evidence.unit, weights=share * values, minlength=n_units).astype(np.float64)
            for values in (*squares, np.ones(share.size))
        )
        if (count > 0).sum() < 2 or float(count.sum()) < _FEWEST_PIXELS:
            continue
        found = _on_grid(gain, cross, base, count / count.sum())
        if found is None:
            continue
        told = True
        mean, error, _ = found
        if (mean - error).min() < -least:
            return True
    return not told


def _believed(sums: Field, belief: Belief) -> Field:
    """Return the sums of pieces of image on which all is as believed, `(4, BELIEVED_PIECES)`; see `_safest`."""
    base, count = float(sums[2].sum()), float(sums[3].sum())
    # as large as a typical piece, with the typical error
    pixels = float((sums[3] ** 2).sum()) / count if count > 0 else 1.0
    squared = pixels * (base / count if base > 0 else 1.0)
    weight = max(belief.weight, GRID[1])
    gain = -min(belief.change, 0.0) * squared / weight**2
    return np.repeat([[gain], [-gain * weight], [squared], [pixels]], BELIEVED_PIECES, axis=1)


def _safest(
    gain: Field, cross: Field, base: Field, importance: Field, grid: Sequence[float] = GRID
) -> Comparison | None:
    """Return the best weight above 0 of one cell from sums over each unit: step^2, error x step, error^2."""
    found = _on_grid(gain, cross, base, importance, grid)
    if found is None:
        return None
    mean, error, risk = found
    best = int(np.argmin(mean + risk * error))
    return Comparison(weight=grid[1 + best], change=float(mean[best]), error=float(error[best]), risk=risk)


def _on_grid(
    gain: Field, cross: Field, base: Field, importance: Field, weights: Sequence[float] = GRID
) -> tuple[Field, Field, float] | None:
    """Return mean and standard error of the change at each weight above 0, and the standard errors to win by."""
    used = importance > 0
    gain, cross, base, importance = (part[used] for part in (gain, cross, base, importance))
    typical = float(base.sum()) * importance
    denominator = (1 - _STEADY) * base + _STEADY * typical
    if not (denominator > 0).all():
        return None
    # the change of each unit, weighted: what one unit adds to the mean
    grid = np.asarray(weights[1:])[:, None]
    change = (gain * grid**2 + 2 * cross * grid) / denominator
    mean = (importance * change).sum(axis=1)
    spread = (importance**2 * (change - mean[:, None]) ** 2).sum(axis=1) * len(base) / (len(base) - 1)
    return mean, np.sqrt(spread), _risk(importance)


def _risk(importance: Field, usual: float = RISK) -> float:
    """Return the standard errors to win by: more than is usual where few units speak, about as Student's t has it."""
    return usual * (1.0 + 2.0 * float((importance**2).sum()))


def better_one(
    rivals: Sequence[Field | None],
    default: int,
    share: NDArray[np.floating],
    unit: NDArray[np.intp],
    risk: float = RISK,
) -> int:
    """Return the method with the smallest error among those that beat the default one reliably, else the default.

    Args:
        rivals: `(n,)` errors of each method; None = it cannot be used.
        default: its position in `rivals`.
        share: `(n,)`, how far each pixel belongs to the family of holes that is decided upon.
        unit: `(n,)`, as in `Evidence`.
        risk: standard errors to win by, where many pieces speak.
    """
    count = np.bincount(unit, weights=share)
    total = float(count.sum())
    usual = rivals[default]
    if usual is None or total < _FEWEST_PIXELS or total**2 < _FEWEST_UNITS * float((count**2).sum()):
        return default
    best, least = default, 0.0
    for k, error in enumerate(rivals):
        found = None if k == default or error is None else replaced(usual, error, share, unit, risk)
        if found is not None and found.wins and found.change < least:
            best, least = k, found.change
    return best


def replaced(
    usual: NDArray[np.floating],
    error: NDArray[np.floating],
    share: NDArray[np.floating],
    unit: NDArray[np.intp],
    risk: float = RISK,
) -> Comparison | None:
    """Compare errors `(n,)` with the usual ones, which they would replace; None if nothing tells.

    `share`, `unit` and `risk` are as in `better_one`.
    """
    count = np.bincount(unit, weights=share)
    used = count > 0
    importance = count[used] / count.sum()
    base = np.bincount(unit, weights=share * usual**2)[used]
    denominator = (1 - _STEADY) * base + _STEADY * float(base.sum()) * importance
    if len(base) < 2 or not (denominator > 0).all():
        return None
    change = (np.bincount(unit, weights=share * error**2)[used] - base) / denominator
    mean = float((importance * change).sum())
    spread = float((importance**2 * (change - mean) ** 2).sum()) * len(base) / (len(base) - 1)
    return Comparison(weight=1.0, change=mean, error=float(np.sqrt(spread)), risk=_risk(importance, risk))


def pooled(weights: list[float | None], default: float = 0.0) -> list[float]:
    """Fill the cells that could not be decided from the next one before, else the next one after, else `default`."""
    known = [k for k, weight in enumerate(weights) if weight is not None]
    if not known:
        return [default] * len(weights)
    result = []
    for k in range(len(weights)):
        before = [j for j in known if j <= k]
        value = weights[before[-1] if before else known[0]]
        result.append(default if value is None else value)
    return result


def between(weights: list[float | None], default: float = 0.0) -> list[float]:
    """Fill the cells that could not be decided on the line between the nearest ones that were, else with `default`."""
    known = [k for k, weight in enumerate(weights) if weight is not None]
    if not known:
        return [default] * len(weights)
    filled = np.interp(np.arange(len(weights)), known, [weight for weight in weights if weight is not None])
    return [float(weight) for weight in filled]


def rising(weights: list[float], counts: Field) -> list[float]:
    """Return the nearest non-decreasing weights (pool adjacent violators: Ayer et al. 1955), rounded to the grid."""
    blocks: list[list[float]] = []
    for weight, count in zip(weights, counts, strict=True):
        blocks.append([weight, max(float(count), 1e-9), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            last, before = blocks.pop(), blocks.pop()
            mass = before[1] + last[1]
            blocks.append([(before[0] * before[1] + last[0] * last[1]) / mass, mass, before[2] + last[2]])
    return [round(value, 3) for value, _, length in blocks for _ in range(int(length))]
