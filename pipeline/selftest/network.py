"""How much of each reference and of the network an image gets, decided on what they make of hidden pixels.

Weights follow the risk-averse rule mean + 2 standard errors, so a method must win reliably to be used at all; then they
are lowered where single holes or pieces of the image pay for the average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.models.base import Inpainter
from pipeline.numerics.situation import KNOTS, curves_of, hats
from pipeline.restore.blend import carried, limited
from pipeline.restore.network import asked, network_share, raw_of, refine, with_network
from pipeline.restore.recipe import Recipe, narrowed
from pipeline.restore.task import Draft
from pipeline.selftest.scores import harmed
from pipeline.selftest.trial import Drafts, Trial, evidence_of, hidden_of, step_limit
from pipeline.selftest.weights import choose_weights, pooled

_CAUTION = (1.0, 0.8, 0.6, 0.45, 0.3)

_HARMED = 0.1
"""Share of single wide pseudo-holes that the network may make noticeably worse, in one channel, before its weights are
lowered; they have won on average, so not to nothing."""

Refined = list[tuple[NDArray[np.float32], NDArray[np.float32]]]


def weigh_network(
    trials: Sequence[Trial], model: Inpainter, drafts: Drafts, refined: Refined, recipe: Recipe, *, referenced: bool
) -> Recipe:
    """Return the recipe with weights of the network over the drafts: the image's own, or those with references.

    Args:
        trials: what is hidden.
        model: the network.
        drafts: what it starts from.
        refined: what it makes of each, see `refined_by`.
        recipe: decisions so far.
        referenced: the drafts hold references; only pixels that these carry count, and only their weights are set.
    """
    proposals = proposals_of(trials, model, drafts, refined)
    limit = recipe.network_limit if referenced else step_limit(trials, drafts, proposals)
    taken = [limited(d, p, limit) for d, p in zip(drafts, proposals, strict=True)]
    cells = [_family_cells(t) for t in trials]
    if referenced:
        cells = [cell * hidden_of(t, carried(d.trust)) for cell, t, d in zip(cells, trials, drafts, strict=True)]
    weights = choose_weights(evidence_of(trials, drafts, taken, cells))
    rows, first = [], 0
    for knots in KNOTS:
        rows.append(pooled(weights[first : first + len(knots)]))
        first += len(knots)
    if all(w is None for w in weights[1 + len(KNOTS[1]) :]):
        # nothing at an image edge could be hidden: such holes are deep ones of which less is known
        rows[2] = [0.5 * w for w in rows[1]]

    def lowered(share: float) -> Recipe:
        factors = zip((1.0, share, share), rows, strict=True)
        curves = curves_of([[round(factor * w, 3) for w in row] for factor, row in factors])
        return replace(recipe, network_referenced=curves) if referenced else replace(recipe, network=curves)

    recipes = [replace(lowered(share), network_limit=limit) for share in _CAUTION]
    return _cautious(trials, drafts, taken, recipes, referenced=referenced)


def _cautious(
    trials: Sequence[Trial],
    drafts: Drafts,
    taken: Sequence[NDArray[np.float32]],
    recipes: Sequence[Recipe],
    *,
    referenced: bool,
) -> Recipe:
    """Return the first recipe that makes few single wide holes worse: an average hides the odd one out.

    With `referenced` only what is done to pixels that references carry counts: the other weights are decided already.
    """
    before = [hidden_of(t, d.mean - t.placement.truth) for t, d in zip(trials, drafts, strict=True)]

    def step(recipe: Recipe, draft: Draft, proposal: NDArray[np.float32]) -> NDArray[np.float32]:
        share = network_share(recipe, draft)
        return (carried(draft.trust) * share if referenced else share) * (proposal - draft.mean)

    def harm(recipe: Recipe) -> float:
        moved = [hidden_of(t, step(recipe, d, p)) for t, d, p in zip(trials, drafts, taken, strict=True)]
        return harmed(trials, before, [e + move for e, move in zip(before, moved, strict=True)])

    return next((recipe for recipe in recipes if not harm(recipe) > _HARMED), recipes[-1])


def proposals_of(
    trials: Sequence[Trial], model: Inpainter, drafts: Drafts, refined: Refined
) -> list[NDArray[np.float32]]:
    """Return the network's means where it was asked, the drafts' elsewhere."""
    return [
        np.where(asked(model, t.placement.task.window), mean, d.mean)
        for t, d, (mean, _) in zip(trials, drafts, refined, strict=True)
    ]


def refined_by(model: Inpainter, trials: Sequence[Trial], drafts: Drafts, recipe: Recipe) -> Refined:
    """Return the network's mean and raw standard error over each draft."""
    return [
        refine(model, [t.placement.task], [d.mean], narrowed(recipe, t.channels))[0]
        for t, d in zip(trials, drafts, strict=True)
    ]


def networked(
    trials: Sequence[Trial], model: Inpainter, drafts: Drafts, refined: Refined, recipe: Recipe
) -> tuple[Drafts, list[NDArray[np.float32]]]:
    """Return drafts and raw errors as a block would make them."""
    if recipe.network_weight == 0:
        return drafts, [draft.scale for draft in drafts]
    mixed = [
        with_network(d, mean, asked(model, t.placement.task.window), recipe)
        for t, d, (mean, _) in zip(trials, drafts, refined, strict=True)
    ]
    return mixed, [raw_of(recipe, d, raw) for d, (_, raw) in zip(drafts, refined, strict=True)]


def _family_cells(trial: Trial) -> NDArray[np.float64]:
    """Return the share of each knot of each family in the hidden pixels; knots see part of their neighbours' pixels."""
    hidden = trial.placement.hidden
    distance = trial.place.distance[hidden]
    cells = []
    for share, knots in zip(trial.place.shares, KNOTS, strict=True):
        hat = hats(distance, knots)
        wide = hat.copy()
        wide[1:] += 0.5 * hat[:-1]
        wide[:-1] += 0.5 * hat[1:]
        cells.append(wide * share[hidden])
    return np.concatenate(cells)
