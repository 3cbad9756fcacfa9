"""Which channels of an image tell about which."""

from __future__ import annotations

import numpy as np

from pipeline.selftest.guides import choose_siblings

N = 4000


def channels(seed=0):
    """Six channels: 0, 2 and 4 alike, 1, 3 and 5 alike, as in series whose volumes alternate."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(0, 1, (2, N))
    return np.stack([kinds[k % 2] + rng.normal(0, 0.1 + 0.05 * k, N) for k in range(6)]).astype(np.float32)


def test_channels_that_vary_alike_and_are_observed_there_are_chosen_first():
    """Those of its own kind lead; one that is lost at the same place is left out."""
    values = channels()
    hole = np.zeros(values.shape, bool)
    hole[2, :500] = True
    hole[4, :500] = True
    valid = ~hole
    chosen = choose_siblings(2, values, valid, hole)
    assert chosen == (0, 1, 3, 5)
    assert choose_siblings(0, values, valid, hole) == ()


def test_partly_lost_channels_are_dropped_until_the_rest_is_observed_together():
    """Each of them is there at 92 percent of the holes, but at other ones."""
    values = channels(1)
    hole = np.zeros(values.shape, bool)
    hole[0, :1000] = True
    valid = ~hole
    for j in range(1, 6):
        valid[j, (j - 1) * 80 : j * 80] = False
    chosen = choose_siblings(0, values, valid, hole)
    assert 2 in chosen
    assert valid[list(chosen)][:, hole[0]].all(axis=0).mean() >= 0.8


def test_a_channel_that_is_often_there_is_better_than_none():
    """No channel is observed at nine tenths of the holes: the best of the rest."""
    values = channels(2)
    hole = np.zeros(values.shape, bool)
    hole[0, :1000] = True
    valid = ~hole
    valid[1:, :900] = False
    valid[2, 300:900] = True
    assert choose_siblings(0, values, valid, hole) == (2,)
    valid[1:, :900] = False
    assert choose_siblings(0, values, valid, hole) == ()
