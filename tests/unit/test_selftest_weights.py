"""The risk-averse weight against its definition: how surely, on how much, a method must win."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.selftest.weights import Belief, Evidence, better_one, between, choose_weights, pooled, rising


def _evidence(error: np.ndarray, step: np.ndarray, unit: np.ndarray) -> Evidence:
    return Evidence(error=error, step=step, cells=np.ones((1, error.size)), unit=unit)


UNIT = np.repeat(np.arange(8), 50)


def test_a_reliable_winner_is_used_fully():
    """A proposal that takes off the whole error everywhere: weight 1; half of it is the best where it goes too far."""
    error = np.random.default_rng(0).normal(0, 1, UNIT.size)
    assert choose_weights(_evidence(error, -error, UNIT)) == [1.0]
    assert choose_weights(_evidence(error, -2 * error, UNIT)) == [0.5]


def test_an_unreliable_winner_is_not_used():
    """Good in seven pieces of eight, bad in one: less of it than average error asks for; very bad: none."""
    error = np.ones(UNIT.size)
    gamble = np.where(UNIT == 3, 1.0, -0.8)
    best = min(np.linspace(0, 1, 11), key=lambda w: ((error + w * gamble) ** 2).mean())
    assert choose_weights(_evidence(error, gamble, UNIT))[0] < 0.5 * best
    assert choose_weights(_evidence(error, np.where(UNIT == 3, 5.0, -0.8), UNIT)) == [0.0]


@pytest.mark.parametrize("unit", [np.zeros(400, int), np.minimum(np.arange(400), 2)])
def test_no_evidence_means_no_decision(unit):
    """Errors of one piece of the image decide nothing, however many; a cell without pixels neither."""
    error = np.ones(unit.size)
    assert choose_weights(_evidence(error, -error, unit)) == [None]


def test_cells_are_decided_apart():
    """Good in one situation, bad in another; where nothing was tested the nearest decided one before holds."""
    error = np.ones(UNIT.size)
    cells = np.zeros((3, UNIT.size))
    cells[0, ::2] = cells[1, 1::2] = 1
    step = np.where(cells[0] > 0, -1.0, 1.0)
    weights = choose_weights(Evidence(error=error, step=step, cells=cells, unit=UNIT))
    assert weights == [1.0, 0.0, None]
    assert pooled(weights) == [1.0, 0.0, 0.0]
    assert pooled([None, 0.4, None]) == [0.4, 0.4, 0.4]
    assert pooled([None, None]) == [0.0, 0.0]


def test_a_cell_that_was_not_tested_lies_between_those_that_were():
    """Beyond the outermost tested ones these hold; without any the default does."""
    assert between([None, 0.0, None, None, 0.9, None]) == pytest.approx([0, 0, 0.3, 0.6, 0.9, 0.9])
    assert between([None, None], 0.4) == [0.4, 0.4]


def test_weights_rise_with_reliability():
    """Violators are averaged by how much was tested of each."""
    assert rising([0.0, 0.8, 0.2, 1.0], np.array([1.0, 1.0, 3.0, 1.0])) == [0.0, 0.35, 0.35, 1.0]


def test_another_fill_must_beat_the_default_reliably():
    """Smaller error everywhere wins, smaller on average but not reliably does not."""
    rng = np.random.default_rng(1)
    usual = rng.normal(0, 1, UNIT.size)
    lucky = np.where(UNIT == 2, 0.1 * usual, 1.02 * usual)
    assert (lucky**2).mean() < (usual**2).mean()
    everything = np.ones(UNIT.size)
    assert better_one([usual, 0.9 * usual, None, lucky], 0, everything, UNIT) == 1
    assert better_one([usual, lucky], 0, everything, UNIT) == 0


@pytest.mark.parametrize(("best", "weight"), [(0.12, 0.1), (0.33, 0.3), (0.58, 0.6), (0.94, 0.9)])
def test_weights_come_in_tenths(best, weight):
    """A proposal that goes too far is best at a part of it: the nearest tenth is taken."""
    error = np.ones(UNIT.size)
    assert choose_weights(_evidence(error, -error / best, UNIT)) == [weight]


@pytest.mark.parametrize(("apart", "wins"), [(0.20, True), (0.223, False)])
def test_a_gain_must_exceed_its_uncertainty(apart, wins):
    """A fifth less squared error on average, more in half of eight pieces and less in the others.

    Each piece lies `apart` from the mean, which makes a standard error of `apart / sqrt(7)`; with eight pieces 2.5 of
    them must lie below the gain.
    """
    usual = np.ones(UNIT.size)
    ratio = 0.8 + np.where(UNIT % 2 == 0, apart, -apart)
    assert better_one([usual, np.sqrt(ratio)], 0, usual, UNIT) == int(wins)
    step = np.sqrt(ratio) - 1
    assert (choose_weights(_evidence(usual, step, UNIT))[0] > 0.85) == wins


@pytest.mark.parametrize(
    ("sizes", "decides"),
    [
        ([25] * 4, True),
        ([50] * 3, False),
        ([50, 25, 25, 25], False),
        ([50, 25, 25, 25, 25], True),
        ([20] * 5, True),
        ([20, 20, 20, 20, 19], False),
    ],
)
def test_four_pieces_and_a_hundred_pixels_decide(sizes, decides):
    """Fewer say nothing, nor do four of which one is twice as large; five with such a one do."""
    unit = np.repeat(np.arange(len(sizes)), sizes)
    error = np.ones(unit.size)
    assert choose_weights(_evidence(error, -error, unit)) == [1.0 if decides else None]
    assert better_one([error, 0.1 * error], 0, error, unit) == int(decides)


@pytest.mark.parametrize(("error", "wins"), [(0.5, True), (0.58, False)])
def test_a_piece_without_error_has_little_to_say(error, wins):
    """Seven pieces lose all of their error, one that had none gets some: its ratio alone would be infinite.

    A quarter of the typical squared error stands below its change, so that it may get about a quarter of it.
    """
    flat = UNIT == 3
    usual = np.where(flat, 1e-6, 1.0)
    new = np.where(flat, error, 0.0)
    assert better_one([usual, new], 0, np.ones(UNIT.size), UNIT) == int(wins)


BELIEF = Belief(weight=0.8, change=-0.5)


def test_what_is_believed_holds_where_nothing_was_hidden():
    """No pixel, or pixels of one piece: the usual weight, which one piece that says the same does not change."""
    nothing = Evidence(error=np.zeros(0), step=np.zeros(0), cells=np.zeros((1, 0)), unit=np.zeros(0, int))
    assert choose_weights(nothing, [BELIEF]) == [0.8]
    error = np.ones(400)
    assert choose_weights(_evidence(error, -error / 0.8, np.zeros(400, int)), [BELIEF])[0] == pytest.approx(
        0.8, abs=0.11
    )


def test_many_pieces_that_say_otherwise_end_a_belief():
    """A proposal that makes forty pieces worse is not used, however well it does elsewhere; four lower its weight."""
    unit = np.repeat(np.arange(40), 50)
    error = np.random.default_rng(2).normal(0, 1, unit.size)
    harmful = 2 * np.random.default_rng(3).normal(0, 1, unit.size)
    assert choose_weights(_evidence(error, harmful, unit), [BELIEF]) == [0.0]
    some = unit < 4
    few = choose_weights(_evidence(error[some], harmful[some], unit[some]), [BELIEF])[0]
    assert few is not None
    assert few < 0.8


def test_without_a_belief_nothing_changes():
    """None stands for a cell of which nothing is known before."""
    error = np.random.default_rng(4).normal(0, 1, UNIT.size)
    evidence = _evidence(error, -0.7 * error, UNIT)
    assert choose_weights(evidence, [None]) == choose_weights(evidence)
