"""How much of each reference an image gets, decided on what it makes of hidden pixels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.situation import hats
from pipeline.references.consult import consult
from pipeline.references.estimate import ReferenceFill
from pipeline.references.reliance import REACH, RELIABILITY, UNUSED, Reliance, region
from pipeline.restore.blend import limited
from pipeline.restore.estimate import with_reference
from pipeline.restore.recipe import Recipe
from pipeline.selftest.guides import FittedGuide
from pipeline.selftest.scores import NOTICEABLE_DB, Pieces, row_of
from pipeline.selftest.trial import Drafts, Trial, evidence_of, hidden_of, shares_of, step_limit
from pipeline.selftest.verdict import Row
from pipeline.selftest.weights import Evidence, choose_weights, pooled, rising

_SCALES = (1.0, 0.8, 0.6, 0.4, 0.2)

_GATES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""What is tried to spare single pieces of the image the harm of a reference that helps on average."""

_TOLERATED, _PRICE_DB = 0.02, 5.0
"""Share of noticeably worse pieces that is taken for chance, and the mean gain at which all pieces might be worse."""


def weigh_references(
    trials: Sequence[Trial],
    guides: Sequence[FittedGuide],
    drafts: Drafts,
    recipe: Recipe,
    spread: NDArray[np.float64],
) -> tuple[Recipe, list[Row], Drafts]:
    """Weigh one guide after the other, each over what the earlier ones made."""
    rows = []
    for k, guide in enumerate(guides):
        recipe, row, drafts = _weigh_reference(trials, k, guide, drafts, recipe, spread)
        rows.append(row)
    return recipe, rows, drafts


def _weigh_reference(
    trials: Sequence[Trial],
    k: int,
    fitted: FittedGuide,
    drafts: Drafts,
    recipe: Recipe,
    spread: NDArray[np.float64],
) -> tuple[Recipe, Row, Drafts]:
    started = time.perf_counter()
    if fitted.relation is None:
        nan = float("nan")
        name = f"{fitted.label}: too few pixels observed in both"
        return recipe, Row(method=name, psnr_db=nan, gain_db=nan, weight=0.0, seconds=0.0, chosen=False), drafts
    results = []
    for trial, draft in zip(trials, drafts, strict=True):
        task = trial.placement.task
        guide = task.guides[k]
        results.append(consult(task.window, guide.values, guide.valid, fitted.relation, draft.mean, draft.reliability))
    proposals = [np.where(r.usable, r.values, d.mean) for r, d in zip(results, drafts, strict=True)]
    limit = step_limit(trials, drafts, proposals)
    taken = [limited(d, p, limit) for d, p in zip(drafts, proposals, strict=True)]
    cells = [_reliance_cells(t, r) for t, r in zip(trials, results, strict=True)]
    evidence = evidence_of(trials, drafts, taken, cells)
    reliance = _careful(trials, drafts, results, taken, _reliance(evidence, limit))
    spacing = trials[0].placement.task.window.spacing
    mixed = [with_reference(d, r, k, reliance, spacing) for d, r in zip(drafts, results, strict=True)]
    recipe = replace(recipe, references=tuple(reliance if i == k else w for i, w in enumerate(recipe.references)))
    row = row_of(fitted.label, trials, drafts, proposals, mixed, spread)
    return recipe, replace(row, chosen=reliance.highest > 0, seconds=time.perf_counter() - started), mixed


def _reliance_cells(trial: Trial, result: ReferenceFill) -> NDArray[np.float64]:
    """Return the share of each cell in the hidden pixels, `(3 n, pixels)`; none if unusable.

    Thin holes with rising reliability, then wide ones near observed pixels, then those far from them.
    """
    hidden = trial.placement.hidden
    reliability, distance = result.reliability[hidden], trial.place.distance[hidden]
    position = np.interp(reliability, RELIABILITY, np.arange(len(RELIABILITY)))
    level = np.maximum(0.0, 1.0 - np.abs(position - np.arange(len(RELIABILITY))[:, None]))
    level = level * result.usable[hidden]
    thin, reach = trial.place.shares[0][hidden], hats(distance, REACH)
    return np.concatenate([level * thin, level * (1 - thin) * reach[0], level * (1 - thin) * reach[1]])


def _reliance(evidence: Evidence, limit: float | None) -> Reliance:
    """Decide the weights of a reference: none rises where reliability falls."""
    weights = choose_weights(evidence)
    counts = evidence.cells.sum(axis=1)
    n = len(RELIABILITY)
    rows = []
    for part in (slice(0, n), slice(n, 2 * n), slice(2 * n, 3 * n)):
        known = [0.0 if w is None and k == 0 else w for k, w in enumerate(weights[part])]
        rows.append(rising(pooled(known), counts[part]) if any(w is not None for w in weights[part]) else None)
    thin, near, far = rows
    near, far = near or far or thin, far or near or thin
    if near is None or far is None:
        return UNUSED
    return Reliance(near=tuple(near), far=tuple(far), thin=tuple(thin) if thin else None, limit=limit)


def _careful(
    trials: Sequence[Trial],
    drafts: Drafts,
    results: Sequence[ReferenceFill],
    taken: Sequence[NDArray[np.float32]],
    reliance: Reliance,
) -> Reliance:
    """Scale the weights of a reference and gate them by region, so that what it gains is worth the pieces it harms.

    The weights have won on average. Under a cloud of the reference an average says little: there the spline stands
    only if the region as a whole is seen to be unreliable. Thin holes have a scale of their own: what a reference harms
    there says nothing about a cloud.
    """
    if reliance.highest == 0:
        return reliance
    error = np.concatenate([hidden_of(t, d.mean - t.placement.truth) for t, d in zip(trials, drafts, strict=True)])
    thin = shares_of(trials)[0] >= 0.5
    around, steps = [], []
    for t, d, r, p in zip(trials, drafts, results, taken, strict=True):
        around.append(hidden_of(t, region(r.reliability, r.usable, t.placement.task.window.spacing)))
        weight = reliance.at(r.reliability, d.place.distance, d.place.shares[0])
        steps.append(hidden_of(t, r.usable * weight * (p - d.mean)))
    change = _Change(trials, error, np.concatenate(steps), np.concatenate(around))
    scale, gate = change.best(~thin, _GATES) or change.best(thin, _GATES) or (1.0, 0.0)
    own = change.best(thin, (gate,) if scale else _GATES) or (scale, gate)
    near, far = (tuple(round(scale * w, 3) for w in row) for row in (reliance.near, reliance.far))
    rest = None if reliance.thin is None else tuple(round(own[0] * w, 3) for w in reliance.thin)
    return replace(reliance, near=near, far=far, thin=rest, gate=gate if scale else own[1])


@dataclass(frozen=True, slots=True)
class _Change:
    """What the weights of a reference do to the hidden pixels of all trials: arrays `(n,)`."""

    trials: Sequence[Trial]
    error: NDArray[np.float32]
    step: NDArray[np.float32]
    around: NDArray[np.float32]

    def best(self, some: NDArray[np.bool_], gates: Sequence[float]) -> tuple[float, float] | None:
        """Return the scale and gate that are worth most on some of the pixels; None if too few lie together to tell.

        The scale is 0 if none is worth its harm.
        """
        pieces = Pieces.of(self.trials, self.error, some)
        error, step, around = self.error[some], self.step[some], self.around[some]

        def worth(scale: float, gate: float) -> float:
            opened = replace(UNUSED, gate=gate).open(around)
            gains = pieces.gains(error + scale * opened * step)
            worse = float((gains < -NOTICEABLE_DB).mean())
            return float(gains.mean()) - _PRICE_DB * max(0.0, worse - _TOLERATED)

        if not pieces.gains(error).size:
            return None
        tried = {(scale, gate): worth(scale, gate) for gate in gates for scale in _SCALES}
        scale, gate = max(tried, key=lambda key: tried[key])
        return (scale, gate) if tried[scale, gate] >= 0 else (0.0, gate)
