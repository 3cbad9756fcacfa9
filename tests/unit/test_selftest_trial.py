"""What a placement knows of its pixels, and what counts as a step, a limit and evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.fills.base import FillSpec, Window
from pipeline.restore.task import Task
from pipeline.selftest.placing import Placement
from pipeline.selftest.scores import family_scores
from pipeline.selftest.site import sites_of
from pipeline.selftest.trial import Proposal, evidence_of, rotated, step_limit
from tests.helpers import smooth
from tests.support_trials import Array, trials_of


def _proposals(steps: np.ndarray, truth: float | None = None) -> list[Proposal]:
    """Return steps `(n,)` away from a draft of 0, at hidden pixels; `truth` is that of those above 1."""
    (trial,) = trials_of(np.zeros((1, 1, 1, steps.size)))
    if truth is not None:
        true = np.where(steps > 1, truth, 0.0).astype(np.float32).reshape(1, 1, -1)
        trial = replace(trial, placement=replace(trial.placement, truth=true))
    return [Proposal(trial=trial, mean=steps.astype(np.float32).reshape(1, 1, -1))]


def test_two_steps_of_a_hundred_lie_beyond_the_limit():
    """The limit lets all but the largest through whole: 98 of 100 different ones."""
    steps = np.arange(1.0, 101.0)
    limit = step_limit(_proposals(steps))
    assert (steps > limit).sum() == 2


@pytest.mark.parametrize(("n", "tells"), [(63, False), (64, True)])
def test_few_steps_say_nothing_about_their_size(n, tells):
    """Pixels without a step do not count."""
    assert (step_limit(_proposals(np.r_[np.arange(1.0, n + 1), np.zeros(500)])) is not None) == tells


@pytest.mark.parametrize(("truth", "limit"), [(6.25, 1.0), (6.35, None), (1.0, 1.0), (10.0, None)])
def test_the_limit_goes_if_whole_steps_are_clearly_better(truth, limit):
    """One step in a hundred goes ten times as far as the others: right if the truth lies there, else cut to 1.9.

    Whole and cut steps are equally wrong at 5.95; from 6.3 on whole ones have less than 0.7 of the squared error.
    """
    steps = np.r_[np.ones(990), np.full(10, 10.0)]
    assert step_limit(_proposals(steps, truth)) == limit


def test_steps_count_in_local_standard_deviations():
    """Ten units where values vary by ten are as large a step as one where they vary by one."""
    scale = np.ones((1, 1, 200), np.float32)
    scale[..., 100:] = 10
    trials = trials_of(np.zeros((1, 1, 1, 200)), scale=scale)
    assert step_limit([Proposal(trial=trials[0], mean=scale)]) == 1.0


@pytest.mark.parametrize(("pixels", "families"), [(63, 0), (64, 1)])
def test_a_family_with_few_hidden_pixels_has_no_score(pixels, families):
    """What was hardly tested is not in the table."""
    trials = trials_of(np.ones((1, 1, 1, pixels)))
    error = trials[0].error
    assert len(family_scores(trials, error, 0.1 * error, (0.0, 1.0, 0.0))) == families


@pytest.mark.parametrize(("side", "used"), [((799, 1000), 799_000), ((800, 1000), 400_000)])
def test_evidence_is_thinned_out_evenly(side, used):
    """Of 800,000 hidden pixels every second one decides: more would take long and say no more."""
    (trial,) = trials_of(np.ones((1, 1, *side)))
    proposal = Proposal(trial=trial, mean=np.zeros((1, *side), np.float32))
    evidence = evidence_of([proposal], lambda p: np.ones((1, p.trial.error.size)))
    assert evidence.error.size == evidence.step.size == evidence.unit.size == evidence.cells.shape[1] == used


def test_channels_of_other_units_count_alike():
    """Errors are measured by the root mean square of their channel: a thousand times larger ones weigh the same."""
    mean = np.stack([np.full((8, 8), 2.0), np.full((8, 8), 2000.0)])
    (trial,) = trials_of(mean[None])
    evidence = evidence_of([Proposal(trial=trial, mean=0 * trial.draft.mean)], lambda p: np.ones((1, p.step.size)))
    assert np.allclose(evidence.error, 1)
    assert np.allclose(evidence.step, -1)


def test_channels_take_turns_before_the_network():
    """One channel of each placement, the next in the next; those without hidden pixels are passed over."""
    hidden = np.ones((3, 8, 8), bool)
    hidden[1] = False
    values = np.arange(3, dtype=np.float32)[:, None, None]
    trials = rotated(trials_of(np.broadcast_to(values, (3, 3, 8, 8)), hidden=hidden))
    assert [t.channels for t in trials] == [(0,), (2,), (0,)]
    assert [float(t.draft.mean.max()) for t in trials] == [0, 2, 0]
    shapes: set[tuple[int, ...]] = {t.draft.place.distance.shape for t in trials}
    assert shapes == {(1, 8, 8)}


def test_pieces_of_the_image_are_the_same_in_every_placement():
    """A window hidden in twice gives its pixels the same pieces; one beside it gives others."""
    two: list[Array] = [t.unit for t in trials_of(np.zeros((2, 1, 16, 16)))]
    assert len(np.unique(two[0])) == len(np.unique(two[1])) == 16
    assert not set(np.unique(two[0])) & set(np.unique(two[1]))


def test_kriging_is_tested_with_all_holes_of_the_window():
    """Lost lines far from the hidden one shape its neighbourhood and covariances, as they do in a run."""
    values = smooth((1, 48, 48)).astype(np.float32)
    hole = np.zeros((1, 48, 48), bool)
    hole[0, 8::8] = True
    hidden = np.zeros_like(hole)
    hidden[0, 24] = True
    window = Window(values=np.where(hole, 0, values), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    task = Task(window=window, patch=64)
    kriging, spline = FillSpec("kriging"), FillSpec("tension")
    truth = spline(replace(window, values=values, valid=~hole | hidden, hole=hole & ~hidden))
    (site,) = sites_of([Placement(task=task, truth=truth, hidden=hidden, concerned=hidden, start=(0, 0))])
    assert np.array_equal(site.fill(kriging)[hidden], kriging(window)[hidden])
    assert not np.array_equal(site.fill(kriging)[hidden], site.fill(spline)[hidden])
    assert np.array_equal(site.fill(kriging)[hole & ~hidden], truth[hole & ~hidden])
