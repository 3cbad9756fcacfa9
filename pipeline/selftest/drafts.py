"""The two kinds of drafts that the network is weighed over: the image's own, and those that hold references.

A recipe has weights of the network for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.situation import KNOTS, Curves, hats
from pipeline.restore.blend import carried
from pipeline.restore.recipe import Recipe
from pipeline.selftest.prior import Usual
from pipeline.selftest.trial import Proposal, step_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """Drafts of one kind: which weights of a recipe are theirs, and which hidden pixels say something of them."""

    referenced: bool
    """They hold references; only pixels that these carry count."""
    usual: Usual = field(default_factory=Usual)
    """What is known of the network over such drafts before anything was hidden."""

    def curves(self, recipe: Recipe) -> Curves | None:
        """Return the weights of the network over these drafts, None if they are not decided."""
        return recipe.network_referenced if self.referenced else recipe.network

    def highest(self, recipe: Recipe) -> float:
        """Return the largest of these weights, 0 if they are not decided."""
        curves = self.curves(recipe)
        return curves.highest if curves else 0.0

    def weighted(self, recipe: Recipe, curves: Curves) -> Recipe:
        """Return the recipe with these weights; those over the other drafts stay."""
        return replace(recipe, network_referenced=curves) if self.referenced else replace(recipe, network=curves)

    def limit(self, recipe: Recipe, proposals: Sequence[Proposal]) -> float | None:
        """Return the longest step of the network, see `step_limit`; references keep the one that was found without."""
        return recipe.network_limit if self.referenced else step_limit(proposals)

    def counted(self, proposal: Proposal, values: NDArray[np.floating]) -> NDArray[Any]:
        """Return values at the hidden pixels, `(..., n)`, times how far each of these counts."""
        return self.counted_at(proposal.trial.hidden(proposal.trial.draft.trust), values) if self.referenced else values

    def counted_at(self, trust: NDArray[np.float32], values: NDArray[np.floating]) -> NDArray[Any]:
        """Return the same of any pixels that references carry as far as `trust`, `(n,)` in [0, 1]."""
        return values * carried(trust) if self.referenced else values

    def families(self, proposal: Proposal) -> NDArray[np.float64]:
        """Return the share of each family in the hidden pixels, `(3, n)`, as far as they count."""
        return np.asarray(self.counted(proposal, proposal.trial.hidden_place.shares), dtype=np.float64)

    def cells(self, proposal: Proposal) -> NDArray[np.float64]:
        """Return the share of each knot of each family in the hidden pixels, `(j, n)`, as far as they count.

        Knots see part of their neighbours' pixels.
        """
        place = proposal.trial.hidden_place
        # families that are told at the same distances share what takes longest
        wide = {knots: _wide(place.distance, knots) for knots in set(KNOTS)}
        cells = [wide[knots] * share for share, knots in zip(place.shares, KNOTS, strict=True)]
        return self.counted(proposal, np.concatenate(cells))


def _wide(distance: NDArray[np.floating], knots: Sequence[float]) -> NDArray[np.float64]:
    hat = hats(distance, knots)
    wide = hat.copy()
    wide[1:] += 0.5 * hat[:-1]
    wide[:-1] += 0.5 * hat[1:]
    return wide


OWN = Drafts(referenced=False)
"""What is made of the image alone."""

REFERENCED = Drafts(referenced=True)
"""What is made with references."""
