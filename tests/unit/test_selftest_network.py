"""How much of the network is used, and what single holes it harms cost it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.fills.base import FillSpec
from pipeline.numerics.situation import Situation, curves_of, flat
from pipeline.restore.network import network_share
from pipeline.restore.recipe import Recipe
from pipeline.selftest.network import networked, weigh_network
from tests.support_trials import refined, trials_of

SIDE = 32
RECIPE = Recipe(fill=FillSpec("nearest"), floor=(1, 1), typical=(1, 1), low=(-9, -9), high=(9, 9))


def test_the_network_is_weighed_apart_under_references():
    """It is right where references carry the mean and wrong elsewhere: each side gets the weight it deserves."""
    carried = np.zeros((2, SIDE, SIDE), np.float32)
    carried[:, :, SIDE // 2 :] = 1
    draft, mean = np.ones((2, 2, SIDE, SIDE)), np.where(carried > 0, 0.0, 3.0)
    recipe = weigh_network(refined(trials_of(draft), mean), RECIPE, referenced=False)
    assert recipe.network.highest == 0
    helped = trials_of(draft, trust=carried)
    recipe = weigh_network(refined(helped, mean), recipe, referenced=True)
    assert recipe.network.highest == 0
    assert min(recipe.network_referenced.deep.values) == 1
    share = network_share(recipe, helped[0].draft)
    assert (share[:, :, SIDE // 2 :] == 1).all()
    assert (share[:, :, : SIDE // 2] == 0).all()


def _holes() -> np.ndarray:
    """Return the number of the hole of each pixel `(1, 40, 50)` of twenty holes of 36 pixels, -1 between them."""
    number = np.full((1, 40, 50), -1)
    for k in range(20):
        y, x = 10 * (k // 5) + 2, 10 * (k % 5) + 2
        number[0, y : y + 6, x : x + 6] = k
    return number


def _weighed(worse: int, goes_too_far: float) -> float:
    """Weigh a network that is right in most of twenty holes, and in some goes past a truth that lies closer.

    Returns:
        The weight in wide holes.
    """
    number = _holes()
    odd = (number >= 0) & (number % 3 == 0) & (number < 3 * worse)
    drafts = np.broadcast_to(np.where(odd, 0.01, 1.0), (2, *number.shape))
    trials = trials_of(drafts, hidden=number >= 0)
    recipe = weigh_network(refined(trials, np.where(odd, -0.01 * goes_too_far, 0.0)), RECIPE, referenced=False)
    (weight,) = set(recipe.network.deep.values)
    assert set(recipe.network.border.values) == {round(0.5 * weight, 3)}, "what could not be tested counts half"
    return weight


@pytest.mark.parametrize(("worse", "weight"), [(0, 1.0), (2, 1.0), (3, 0.3)])
def test_one_wide_hole_in_ten_may_become_worse(worse, weight):
    """An average hides the odd one out: three holes of twenty that are always made worse lower all weights."""
    assert _weighed(worse, 9.0) == weight


@pytest.mark.parametrize(
    ("goes_too_far", "weight"), [(0.9, 1.0), (1.2, 0.8), (2.0, 0.6), (3.0, 0.45), (5.0, 0.3), (9.0, 0.3)]
)
def test_weights_are_lowered_until_few_holes_are_harmed(goes_too_far, weight):
    """A hole is harmed from a weight of `2 / (1 + goes_too_far)`; the largest of five factors below it is taken.

    Below the last one they never go: the network has won on average.
    """
    assert _weighed(3, goes_too_far) == weight


def test_thin_holes_keep_their_weight():
    """Only wide holes and edges are lowered: single dead pixels are too small to be told apart."""
    number = _holes()
    thin = np.broadcast_to(number % 2 == 1, number.shape)
    odd = (number >= 0) & (number % 6 == 0)
    shares = np.stack([thin, ~thin, 0 * thin]).astype(np.float32)
    place = Situation(distance=np.full(number.shape, 2, np.float32), shares=shares)
    drafts = np.broadcast_to(np.where(odd, 0.01, 1.0), (2, *number.shape))
    trials = trials_of(drafts, hidden=number >= 0, place=place)
    recipe = weigh_network(refined(trials, np.where(odd, -0.09, 0.0)), RECIPE, referenced=False)
    assert recipe.network.thin.values == (1.0,)
    assert max(recipe.network.deep.values) <= 0.3


def test_an_unused_network_leaves_drafts_as_they_are():
    """Weight 0 everywhere: the very same trials; else its raw error goes with the blend."""
    trials = trials_of(np.ones((2, 1, 8, 8)))
    proposals = refined(trials, 0.0)
    assert all(one is two for one, two in zip(networked(proposals, RECIPE), trials, strict=True))
    rows = [[0.25] * len(curve.knots) for curve in flat(0).all]
    used = Recipe(fill=RECIPE.fill, floor=(1,), typical=(1,), low=(-9,), high=(9,), network=curves_of(rows))
    (mixed, _) = networked(proposals, used)
    assert (mixed.draft.mean == 0.75).all()
    assert np.array_equal(mixed.raw, proposals[0].raw)
