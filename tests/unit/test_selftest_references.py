"""What a reference gains is weighed against the pieces of the image that it harms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.fills.base import FillSpec
from pipeline.numerics.situation import Situation, situation
from pipeline.references.reliance import UNUSED, Reliance
from pipeline.restore.codes import REFERENCE
from pipeline.restore.estimate import with_reference
from pipeline.restore.recipe import Recipe
from pipeline.selftest.guides import FittedGuide
from pipeline.selftest.references import careful, reliance_cells, reliance_of, weigh_references
from pipeline.selftest.site import as_deep
from pipeline.selftest.trial import Trial, evidence_of
from tests.support_trials import consulted, trials_of

SIDE = 96
HALF = Reliance(near=(0.5,) * 5, far=(0.5,) * 5)
FULL = Reliance(near=(1.0,) * 5, far=(1.0,) * 5)


def _trials(mean: np.ndarray | float = 1.0, place: Situation | None = None) -> list[Trial]:
    """Return two windows of two channels, hidden but for their rim; truth is 0, so the mean is its own error."""
    hidden = np.zeros((2, SIDE, SIDE), bool)
    hidden[:, 4:-4, 4:-4] = True
    means = np.broadcast_to(np.float32(mean), (2, 2, SIDE, SIDE))
    return trials_of(means, hidden=hidden, place=situation(~hidden, hidden, (1.0, 1.0)) if place is None else place)


def test_a_piece_with_next_to_no_error_does_not_decide():
    """A reference that halves the error is kept though it is far off in a flat corner, where nothing was wrong."""
    flat = np.zeros((2, SIDE, SIDE), bool)
    flat[:, :24, :24] = True
    before = np.where(flat, 1e-6, 1.0).astype(np.float32)
    values = np.where(flat, 1e-2, 0.5).astype(np.float32)
    assert careful(consulted(_trials(before), values, 0.6), HALF) == HALF


def test_dead_pixels_do_not_cost_a_cloud_its_reference():
    """What a reference harms in thin holes, which the base fill restores well, lowers its weight in these alone."""
    thin = np.zeros((2, SIDE, SIDE), bool)
    thin[:, :, : SIDE // 2] = True
    shares = np.stack([thin, ~thin, 0 * thin]).astype(np.float32)
    place = Situation(distance=np.where(thin, np.float32(1), np.float32(8)), shares=shares)
    mean = np.where(thin, np.float32(0.1), np.float32(2))
    trials = _trials(mean, place)
    said = consulted(trials, 1.0, 1.0)
    reliance = reliance_of(evidence_of(said, reliance_cells), None)
    assert reliance.thin == (0,) * 5
    assert reliance.near[-1] == reliance.far[-1] == 1
    careless = replace(reliance, thin=reliance.near)
    for chosen in (reliance, careless):
        kept = careful(said, chosen)
        assert kept.thin == (0,) * 5
        assert kept.far[-1] == 1
        result = said[0].result
        mixed = with_reference(trials[0].draft, result, REFERENCE, kept, trials[0].window)
        assert np.array_equal(mixed.mean, np.where(result.usable & ~thin, np.float32(1), mean))


@pytest.mark.parametrize("told", [True, False])
def test_a_cloud_of_the_reference_is_gated_out_if_the_region_tells(told):
    """Right in one half, a cloud in the other: where regions tell them apart the good half keeps its weight."""
    trials = _trials()
    cloud = np.broadcast_to(np.arange(SIDE) >= SIDE // 2, (2, SIDE, SIDE))
    values = np.where(cloud, np.float32(9), np.float32(0))
    reliability = np.where(cloud, 0.1, 0.95) if told else np.full(cloud.shape, 0.6)
    said = consulted(trials, values, reliability)
    draft = trials[0].draft
    mixed = with_reference(draft, said[0].result, REFERENCE, careful(said, HALF), trials[0].window).mean - draft.mean
    # a region is seen through a blur, so around the cloud's edge the gate is half open
    assert (mixed[:, 8:-8, -20:-8] == 0).all()
    assert (mixed[:, 8:-8, 8:20] == (-0.5 if told else 0)).all()


def test_a_reference_that_helps_everywhere_is_left_alone():
    """No piece is harmed, so there is nothing to pay for; one that is not used stays unused."""
    said = consulted(_trials(), 0.0, 0.2)
    assert careful(said, HALF) == HALF
    none = replace(HALF, near=(0.0,) * 5, far=(0.0,) * 5)
    assert careful(said, none) == none


PIECES = 112
"""Seven windows of sixteen pieces, 64 pixels each."""


def _by_piece(values: np.ndarray) -> np.ndarray:
    """Return windows `(7, 1, 32, 32)` whose pieces have these values `(112,)`."""
    windows = values.reshape(7, 1, 4, 4)
    return np.repeat(np.repeat(windows, 8, axis=2), 8, axis=3)


def _scaled(after: np.ndarray, reliability: float = 0.95) -> Reliance:
    """Weigh a reference that turns errors of 1 into these, `(112,)` of a piece each."""
    said = consulted(trials_of(np.ones((7, 1, 32, 32))), _by_piece(after), reliability)
    return careful(said, FULL)


@pytest.mark.parametrize(("worse", "used"), [(2, True), (4, False)])
def test_one_piece_in_fifty_may_become_worse_by_chance(worse, used):
    """A gain of 0.04 dB in the others is worth two worse pieces of 112, but not four: more than chance explains."""
    after = np.full(PIECES, 10 ** (-0.04 / 20))
    after[:worse] = 1.05
    assert _scaled(after).highest == (1 if used else 0)


@pytest.mark.parametrize(("gain", "used"), [(0.32, False), (0.52, True)])
def test_harm_costs_five_decibels_if_it_is_everywhere(gain, used):
    """Eleven worse pieces of 112 are 7.8 % more than chance: the mean gain must be 0.39 dB at least."""
    after = np.full(PIECES, 10 ** (-(gain + 0.04) * PIECES / (PIECES - 11) / 20))
    after[:11] = 1.05
    assert _scaled(after).highest == (1 if used else 0)


@pytest.mark.parametrize("scale", [1.0, 0.8, 0.6, 0.4, 0.2])
def test_weights_are_scaled_to_what_gains_most(scale):
    """A reference that goes too far is right at a part of its step; the closest fifth is taken."""
    assert _scaled(np.full(PIECES, 1 - 1 / scale)).near == (scale,) * 5


@pytest.mark.parametrize("gate", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_the_gate_lies_where_regions_tell_good_from_bad(gate):
    """Good windows of a reliability, bad ones 0.15 below: closed in these, wide open in those."""
    bad = np.arange(PIECES) >= 64
    sure = np.where(bad, gate - 0.15, gate)
    said = consulted(trials_of(np.ones((7, 1, 32, 32))), _by_piece(np.where(bad, 3.0, 0.0)), _by_piece(sure))
    assert careful(said, FULL) == replace(FULL, gate=gate)


@pytest.mark.parametrize(("believed", "gate"), [(False, 0.0), (True, 0.6)])
def test_a_gate_that_nobody_would_notice_stays_open(believed, gate):
    """Three worse pieces of 112 do not shut a region; with beliefs the gate is what is worth most, to the last bit."""
    after = np.full(PIECES, 0.8)
    after[96:] = 0.99
    after[-3:] = 1.02
    sure = np.where(np.arange(PIECES) < 96, 0.95, 0.45)
    said = consulted(trials_of(np.ones((7, 1, 32, 32))), _by_piece(after), _by_piece(sure))
    assert careful(said, FULL, believed=believed) == replace(FULL, gate=gate)


@pytest.mark.parametrize(("believed", "scale"), [(False, 1.0), (True, 0.8)])
def test_a_scale_that_nobody_would_notice_is_the_largest(believed, scale):
    """0.8 of a step that goes too far is better by 0.04 dB on what is hidden, nearer to the rim than real holes."""
    said = consulted(trials_of(np.ones((7, 1, 32, 32))), _by_piece(np.full(PIECES, -0.1125)), 0.95)
    assert careful(said, FULL, believed=believed).near == (scale,) * 5


@pytest.mark.parametrize(("gain", "used"), [(-0.04, False), (-0.01, True)])
def test_another_date_that_is_worth_next_to_nothing_is_left_out(gain, used):
    """Eight believed pieces that gain 2 dB make 0.13 dB of 120 pieces: a loss of 0.04 dB in the others is too much."""
    said = consulted(trials_of(np.ones((7, 1, 32, 32))), _by_piece(np.full(PIECES, 10 ** (-gain / 20))), 0.95)
    assert careful(said, FULL, believed=True) == (FULL if used else replace(FULL, near=(0.0,) * 5, far=(0.0,) * 5))


def _beside_holes(depth: np.ndarray, thin: float = 0.0) -> list[Trial]:
    """Return seven windows hidden at a depth of 4 px in their left half; the right one is a hole, as deep as said."""
    hidden = np.zeros((1, 32, 64), bool)
    hidden[..., :32] = True
    shares = np.zeros((3, *hidden.shape), np.float32)
    shares[0] = np.where(hidden, 0, thin)
    shares[1] = 1 - shares[0]
    place = Situation(distance=np.where(hidden, np.float32(4), np.float32(depth)), shares=shares)
    trials = trials_of(np.ones((7, *hidden.shape)), hidden=hidden, place=place)
    window = replace(trials[0].window, hole=np.ones_like(hidden))
    tasks = (replace(trial.placement.task, window=window) for trial in trials)
    placements = [replace(t.placement, task=task) for t, task in zip(trials, tasks, strict=True)]
    return [replace(trial, placement=placement) for trial, placement in zip(trials, placements, strict=True)]


def test_holes_are_as_deep_as_what_is_hidden():
    """In half of their pixels; those of thin holes are not asked about, and without holes nothing is deeper."""
    depth = np.where(np.arange(64) < 48, 3.0, 40.0)
    assert as_deep(_beside_holes(depth)) == 0.5
    assert as_deep(_beside_holes(depth, thin=1.0)) == 1.0
    assert as_deep(_trials()) == 1.0


@pytest.mark.parametrize(("after", "deep", "scale"), [(1.02, 0.0, 0.2), (1.02, 0.97, 1.0), (1.3, 0.97, 0.0)])
def test_what_is_hidden_beside_holes_that_are_far_deeper_counts_little(after, deep, scale):
    """Two of eight pieces that get a bit worse scale a date down only if holes are like them; far worse ones end it."""
    far = np.arange(64) >= 64 - round(32 * deep)
    bad = (np.arange(64) < 16) & (np.arange(32) < 16)[:, None]
    said = consulted(_beside_holes(np.where(far, 40.0, 4.0)), np.where(bad, after, 0.88)[None], 0.95)
    assert careful(said, FULL, believed=True).far == (scale,) * 5


def test_what_could_not_be_tested_is_not_left_to_the_fill():
    """All was hidden where the guide is sure, or knows that it is not; in between weights lie between."""
    sure = np.tile(np.repeat([0.25, 1.0], 16), (1, 32, 1))
    said = consulted(trials_of(np.ones((4, 1, 32, 32))), np.where(sure > 0.5, 0.0, 3.0), sure)
    assert reliance_of(evidence_of(said, reliance_cells), None).far == pytest.approx((0, 0, 1 / 3, 2 / 3, 1), abs=1e-3)


def test_weights_never_fall_where_reliability_rises():
    """The reference is right where it says so, and wrong elsewhere: none of it, up to all of it."""
    sure = np.tile(np.repeat(np.linspace(0, 1, 4), 8), (1, 32, 1))
    trials = trials_of(np.ones((4, 1, 32, 32)))
    said = consulted(trials, np.where(sure > 0.5, 0.0, 2.0), sure)
    reliance = reliance_of(evidence_of(said, reliance_cells), 1.5)
    assert reliance.near == reliance.far
    assert reliance.near[0] == reliance.near[1] == 0
    assert reliance.near[3] == reliance.near[4] == 1
    assert reliance.thin is None
    assert reliance.limit == 1.5


def test_a_guide_that_could_not_be_related_stands_in_the_table():
    """It changes nothing, and the line says why."""
    trials = trials_of(np.ones((2, 1, 16, 16)))
    recipe = Recipe(fill=FillSpec("nearest"), floor=(1,), typical=(1,), low=(-9,), high=(9,), references=(UNUSED,))
    guide = FittedGuide(label="other date", relation=None)
    same, (row,), left = weigh_references(trials, [guide], recipe, np.array([10.0]))
    assert same == recipe
    assert left == trials
    assert "too few" in row.method
    assert not row.chosen
