"""What a reference gains is weighed against the pieces of the image that it harms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.fills.base import FillSpec, Window
from pipeline.numerics.situation import Situation
from pipeline.references.estimate import ReferenceFill
from pipeline.references.reliance import Reliance
from pipeline.restore.estimate import where, with_reference
from pipeline.restore.network import network_share
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Draft, Task
from pipeline.selftest.network import Refined, weigh_network
from pipeline.selftest.placing import Placement
from pipeline.selftest.references import Consulted, careful, reliance_cells, reliance_of
from pipeline.selftest.scores import Pieces
from pipeline.selftest.site import sites_of
from pipeline.selftest.trial import Trial, evidence_of

SIDE = 96
HALF = Reliance(near=(0.5,) * 5, far=(0.5,) * 5)


def _trials(mean: np.ndarray | float = 1.0) -> list[Trial]:
    """Return two windows of two channels, hidden all over; truth is 0, so the mean is its own error."""
    hidden = np.zeros((2, SIDE, SIDE), bool)
    hidden[:, 4:-4, 4:-4] = True
    window = Window(values=np.zeros(hidden.shape, np.float32), valid=~hidden, hole=hidden, spacing=(1.0, 1.0))
    task = Task(window=window, patch=(SIDE, SIDE), offset=(0, 0))
    sites = sites_of(
        [
            Placement(task=task, truth=window.values, hidden=hidden, concerned=hidden, start=(k * SIDE, 0))
            for k in range(2)
        ]
    )
    ones = np.ones((2, SIDE, SIDE), np.float32)
    draft = Draft(
        mean=np.broadcast_to(np.float32(mean), ones.shape),
        origin=np.ones(ones.shape, np.uint8),
        trust=0 * ones,
        place=where(window),
        scale=ones,
        lead=0 * ones,
        reliability=0.5 * ones,
    )
    return [Trial.of(site, draft) for site in sites]


def _says(values: np.ndarray, reliability: np.ndarray, trial: Trial) -> Consulted:
    usable = trial.placement.hidden
    result = ReferenceFill(
        values=values, usable=usable, trust=np.ones_like(values), reliability=reliability.astype(np.float32)
    )
    return Consulted.of(trial, result)


def _errors(trials: list[Trial], field: np.ndarray) -> np.ndarray:
    return np.concatenate([np.broadcast_to(field, t.placement.hidden.shape)[t.placement.hidden] for t in trials])


def test_a_piece_is_scored_by_its_mean_over_channels():
    """Errors ten times smaller in one channel and the same in the other are close to 10 dB; few pixels do not count."""
    trials = _trials()
    before = _errors(trials, np.ones(1))
    pieces = Pieces.of(trials, before, np.ones(before.size, bool))
    after = _errors(trials, np.reshape([0.1, 1.0], (2, 1, 1)))
    assert pieces.gains(after).size == 2 * 16
    assert np.allclose(pieces.gains(after), 5 * np.log10(1.05 / 0.06))
    assert np.allclose(pieces.gains(before), 0)


def test_a_piece_with_next_to_no_error_does_not_decide():
    """A reference that halves the error is kept though it is far off in a flat corner, where nothing was wrong."""
    flat = np.zeros((2, SIDE, SIDE), bool)
    flat[:, :24, :24] = True
    before = np.where(flat, 1e-6, 1.0).astype(np.float32)
    values = np.where(flat, 1e-2, 0.5).astype(np.float32)
    said = [_says(values, np.full(flat.shape, 0.6), t) for t in _trials(before)]
    assert careful(said, HALF) == HALF


def test_dead_pixels_do_not_cost_a_cloud_its_reference():
    """What a reference harms in thin holes, which the base fill restores well, lowers its weight in these alone."""
    thin = np.zeros((2, SIDE, SIDE), bool)
    thin[:, :, : SIDE // 2] = True
    shares = np.stack([thin, ~thin, 0 * thin]).astype(np.float32)
    place = Situation(distance=np.where(thin, np.float32(1), np.float32(8)), shares=shares)
    mean = np.where(thin, np.float32(0.1), np.float32(2))
    trials = [replace(t, place=place, draft=replace(t.draft, place=place)) for t in _trials(mean)]
    said = [_says(np.ones_like(mean), np.ones_like(mean), t) for t in trials]
    reliance = reliance_of(evidence_of(said, reliance_cells), None)
    assert reliance.thin == (0,) * 5
    assert reliance.near[-1] == reliance.far[-1] == 1
    careless = replace(reliance, thin=reliance.near)
    for chosen in (reliance, careless):
        kept = careful(said, chosen)
        assert kept.thin == (0,) * 5
        assert kept.far[-1] == 1
        result = said[0].result
        mixed = with_reference(trials[0].draft, result, 0, kept, (1.0, 1.0))
        assert np.array_equal(mixed.mean, np.where(result.usable & ~thin, np.float32(1), mean))


def test_the_network_is_weighed_apart_under_references():
    """It is right where references carry the mean and wrong elsewhere: each side gets the weight it deserves."""
    carried = np.zeros((2, SIDE, SIDE), np.float32)
    carried[:, :, SIDE // 2 :] = 1
    own = _trials()
    helped = [t.with_draft(replace(t.draft, trust=carried)) for t in own]
    mean = np.where(carried > 0, np.float32(0), np.float32(3))

    def refined(trials: list[Trial]) -> list[Refined]:
        return [
            Refined(trial=t, mean=np.where(t.window.hole, mean, t.draft.mean), asked=t.window.hole, raw=t.raw)
            for t in trials
        ]

    recipe = Recipe(fill=FillSpec("nearest"), floor=(1, 1), typical=(1, 1), low=(-9, -9), high=(9, 9))
    recipe = weigh_network(refined(own), recipe, referenced=False)
    assert recipe.network.highest == 0
    recipe = weigh_network(refined(helped), recipe, referenced=True)
    assert recipe.network.highest == 0
    assert min(recipe.network_referenced.deep.values) == 1
    share = network_share(recipe, helped[0].draft)
    assert (share[:, 30:60, SIDE // 2 : 80] == 1).all()
    assert (share[:, :, : SIDE // 2] == 0).all()


@pytest.mark.parametrize("told", [True, False])
def test_a_cloud_of_the_reference_is_gated_out_if_the_region_tells(told):
    """Right in one half, a cloud in the other: where regions tell them apart the good half keeps its weight."""
    trials = _trials()
    cloud = np.broadcast_to(np.arange(SIDE) >= SIDE // 2, (2, SIDE, SIDE))
    values = np.where(cloud, np.float32(9), np.float32(0))
    reliability = np.where(cloud, 0.1, 0.95) if told else np.full(cloud.shape, 0.6)
    said = [_says(values, reliability, t) for t in trials]
    draft = trials[0].draft
    mixed = with_reference(draft, said[0].result, 0, careful(said, HALF), (1.0, 1.0)).mean - draft.mean
    # a region is seen through a blur, so around the cloud's edge the gate is half open
    assert (mixed[:, 8:-8, -20:-8] == 0).all()
    assert (mixed[:, 8:-8, 8:20] == (-0.5 if told else 0)).all()


def test_a_reference_that_helps_everywhere_is_left_alone():
    """No piece is harmed, so there is nothing to pay for; one that is not used stays unused."""
    said = [_says(np.zeros((2, SIDE, SIDE), np.float32), np.full((2, SIDE, SIDE), 0.2), t) for t in _trials()]
    assert careful(said, HALF) == HALF
    none = replace(HALF, near=(0.0,) * 5, far=(0.0,) * 5)
    assert careful(said, none) == none
