"""What the network does to hidden pixels at any weights is what a block makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.fills.base import FillSpec
from pipeline.numerics.situation import KNOTS, Curves, Situation, curves_of
from pipeline.restore.recipe import Recipe
from pipeline.selftest.changes import Change
from pipeline.selftest.drafts import OWN, REFERENCED, Drafts
from pipeline.selftest.network import networked
from tests.support_trials import refined, trials_of

SHAPE = (1, 12, 14, 10)


def _weights(rng: np.random.Generator) -> Curves:
    return curves_of([rng.random(len(knots)).tolist() for knots in KNOTS])


def _change(drafts: Drafts, trust: float) -> Change:
    """Return two windows of noise whose pixels stand at many distances, in all families."""
    rng = np.random.default_rng(2)
    shares = rng.random((3, *SHAPE))
    place = Situation(
        distance=np.sqrt(rng.integers(1, 200, SHAPE)).astype(np.float32),
        shares=(shares / shares.sum(axis=0)).astype(np.float32),
    )
    trials = trials_of(rng.normal(0, 1, (2, *SHAPE)), hidden=rng.random(SHAPE) < 0.5, place=place, trust=trust)
    return Change.of(refined(trials, rng.normal(0, 1, (2, *SHAPE))), drafts)


@pytest.mark.parametrize(("drafts", "trust"), [(OWN, 0.0), (OWN, 0.3), (REFERENCED, 1.0)])
def test_errors_are_those_of_what_a_block_blends(drafts: Drafts, trust: float) -> None:
    """At any weights, over what references carry, too; the gain over all of them follows from these errors."""
    rng = np.random.default_rng(3)
    change = _change(drafts, trust)
    recipe = Recipe(fill=FillSpec("nearest"), floor=(1,), typical=(1,), low=(-9,), high=(9,), network=_weights(rng))
    for referenced in (None, _weights(rng), _weights(rng)):
        used = replace(recipe, network_referenced=referenced)
        blended = np.concatenate([trial.error for trial in networked(change.proposals, used)])
        np.testing.assert_allclose(change.after(used), blended, atol=1e-6)
        gain = 10 * np.log10((change.before**2).mean() / (blended**2).mean())
        assert change.gain_db(used) == pytest.approx(gain, abs=1e-4)


def test_pixels_that_references_do_not_carry_stay_as_they_are() -> None:
    """The network is weighed over references where these carry the mean; elsewhere its weights are decided already."""
    change = _change(REFERENCED, 0.0)
    rng = np.random.default_rng(3)
    recipe = Recipe(fill=FillSpec("nearest"), floor=(1,), typical=(1,), low=(-9,), high=(9,), network=_weights(rng))
    np.testing.assert_array_equal(change.after(replace(recipe, network_referenced=_weights(rng))), change.before)
