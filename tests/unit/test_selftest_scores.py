"""Which holes and pieces of the image count as worse, and by how much pieces gain."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.numerics.situation import Situation
from pipeline.selftest.scores import Pieces, harmed, row_of, wide_holes
from pipeline.selftest.trial import Proposal
from tests.support_trials import trials_of, wide


def _decibel(loss: float) -> float:
    """Return the factor on the error that costs so many dB."""
    return float(10 ** (loss / 20))


@pytest.mark.parametrize(("loss", "share"), [(0.045, 0.0), (0.055, 0.5)])
def test_a_hole_is_worse_from_a_twentieth_of_a_decibel(loss, share):
    """Of two holes one loses that much, the other gains."""
    hidden = np.zeros((1, 20, 9), bool)
    hidden[:, 2:8, 2:8] = hidden[:, 12:18, 2:8] = True
    trials = trials_of(np.ones((1, 1, 20, 9)), hidden=hidden)
    before = trials[0].error
    after = before * np.repeat([_decibel(loss), 0.5], 36)
    assert harmed(wide_holes(trials), before, after) == share


@pytest.mark.parametrize(("pixels", "counts"), [(15, False), (16, True)])
def test_small_holes_are_not_looked_at(pixels, counts):
    """Chance decides about them; without any other there is no share."""
    hidden = np.zeros((1, 5, 20), bool)
    hidden[0, 2, :pixels] = True
    trials = trials_of(np.ones((1, 1, 5, 20)), hidden=hidden)
    share = harmed(wide_holes(trials), trials[0].error, 2 * trials[0].error)
    assert share == 1 if counts else math.isnan(share)


def test_holes_are_told_apart_by_place_channel_and_window():
    """Two holes in each of two channels of two windows: eight, one of which is made worse."""
    hidden = np.zeros((2, 20, 20), bool)
    hidden[:, 2:8, 2:8] = hidden[:, 12:18, 2:8] = True
    trials = trials_of(np.ones((2, 2, 20, 20)), hidden=hidden)
    before = np.concatenate([t.error for t in trials])
    after = before.copy()
    after[-36:] *= 2
    assert harmed(wide_holes(trials), before, after) == 1 / 8


def test_thin_holes_are_no_wide_hole():
    """A line that is made worse says nothing of the two squares beside it, one of which is."""
    hidden = np.zeros((1, 20, 20), bool)
    hidden[:, 2:8, 2:8] = hidden[:, 12:18, 2:8] = hidden[:, :, 15] = True
    place = wide(hidden.shape)
    place.shares[:2, :, :, 15] = np.array([[1], [0]])[..., None]
    trials = trials_of(np.ones((1, 1, 20, 20)), hidden=hidden, place=place)
    line = np.nonzero(hidden)[2] == 15
    before = trials[0].error
    assert harmed(wide_holes(trials), before, np.where(line, 2 * before, before)) == 0
    first = np.arange(before.size) < 6
    assert harmed(wide_holes(trials), before, np.where(line | first, 2 * before, before)) == 1 / 2


def test_a_piece_is_scored_by_its_mean_over_channels():
    """Errors ten times smaller in one channel and the same in the other are close to 10 dB."""
    trials = trials_of(np.ones((2, 2, 32, 32)))
    before = np.concatenate([t.error for t in trials])
    pieces = Pieces.of(trials, before, np.ones(before.size, bool))
    after = before * np.tile(np.repeat([0.1, 1.0], 32 * 32), 2)
    assert pieces.gains(after).size == 2 * 16
    assert np.allclose(pieces.gains(after), 5 * np.log10(1.05 / 0.06))
    assert np.allclose(pieces.gains(before), 0)


@pytest.mark.parametrize(("pixels", "counts"), [(31, 0), (32, 1)])
def test_pieces_with_few_hidden_pixels_do_not_count(pixels, counts):
    """A piece needs enough of them in some channel."""
    hidden = np.zeros((1, 32, 32), bool)
    hidden[0, 0, :8] = hidden[0, 1, :8] = hidden[0, 2, :8] = hidden[0, 3, : pixels - 24] = True
    trials = trials_of(np.ones((1, 1, 32, 32)), hidden=hidden)
    error = trials[0].error
    assert Pieces.of(trials, error, np.ones(error.size, bool)).gains(error).size == counts


def test_a_piece_with_next_to_no_error_gains_and_loses_little():
    """A twentieth of the typical squared error stands beside its own: losing as much again costs 3 dB, not infinity."""
    mean = np.ones((1, 1, 32, 32))
    mean[..., :8, :8] = 0
    trials = trials_of(mean)
    before = trials[0].error
    typical = float((before**2).mean())
    pieces = Pieces.of(trials, before, np.ones(before.size, bool))
    spoilt = np.where(before == 0, math.sqrt(0.05 * typical), before)
    assert pieces.gains(spoilt).min() == pytest.approx(-10 * math.log10(2), abs=0.01)


def test_a_line_of_the_table_says_what_was_blended_and_what_it_gained():
    """Half the step to the truth: weight 0.5, 6 dB in wide holes; the proposal itself is without error."""
    trials = trials_of(np.ones((2, 1, 16, 16)))
    proposals = [Proposal(trial=t, mean=np.zeros((1, 16, 16), np.float32)) for t in trials]
    row = row_of("it", proposals, trials_of(np.full((2, 1, 16, 16), 0.5)), np.array([10.0]))
    assert row.weight == 0.5
    assert row.psnr_db == 120
    (family,) = row.families
    assert (family.family, family.pixels, family.weight) == ("deep", 512, 0.5)
    assert family.gain_db == pytest.approx(20 * math.log10(2))


def test_families_are_weighed_apart():
    """Nothing is blended in thin holes, all in wide ones."""
    shares = np.zeros((3, 1, 16, 16), np.float32)
    shares[0, :, :8] = shares[1, :, 8:] = 1
    place = Situation(distance=np.full((1, 16, 16), 2, np.float32), shares=shares)
    trials = trials_of(np.ones((1, 1, 16, 16)), place=place)
    proposals = [Proposal(trial=t, mean=np.zeros((1, 16, 16), np.float32)) for t in trials]
    mixed = trials_of(np.where(shares[0] > 0, 1.0, 0.0)[None], place=place)
    row = row_of("it", proposals, mixed, np.array([10.0]))
    assert [(f.family, f.weight) for f in row.families] == [("thin", 0), ("deep", 1)]
