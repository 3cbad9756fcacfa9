"""Holes to train on."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.training.masks import FAMILIES, sample_mask

SHAPES = {2: (96, 80), 3: (32, 40, 36)}
CASES = [(ndim, family) for ndim, families in FAMILIES.items() for family in families]


@pytest.mark.parametrize(("ndim", "family"), CASES)
def test_every_family_leaves_something_and_takes_something(ndim, family):
    """Never empty, never everything, right shape, and different from draw to draw."""
    draws = [sample_mask(np.random.default_rng(i), SHAPES[ndim], {family: 1.0})[1] for i in range(12)]
    assert all(m.shape == SHAPES[ndim] and m.dtype == bool for m in draws)
    shares = np.array([m.mean() for m in draws])
    assert (shares > 0).all()
    assert (shares < 0.95).all()
    assert len({m.tobytes() for m in draws}) > 6


def test_the_same_seed_gives_the_same_hole():
    """A draw is a function of the generator's state."""
    one, two = (sample_mask(np.random.default_rng(3), (64, 64), {"cloud": 1, "points": 1}) for _ in range(2))
    assert one[0] == two[0]
    assert np.array_equal(one[1], two[1])


def test_shares_are_respected():
    """A family with share 0 never comes, the others as often as asked."""
    rng = np.random.default_rng(0)
    names = [sample_mask(rng, (16, 16), {"points": 3, "border": 1, "regions": 0})[0] for _ in range(400)]
    assert "regions" not in names
    assert names.count("points") / 400 == pytest.approx(0.75, abs=0.07)


def test_slices_are_whole_and_few():
    """A lost slice is lost entirely, at most three in a row."""
    hole = sample_mask(np.random.default_rng(1), (24, 24, 24), {"slices": 1})[1]
    axis = next(a for a in range(3) if set(hole.mean(axis=tuple({0, 1, 2} - {a}))) <= {0.0, 1.0})
    lost = hole.all(axis=tuple({0, 1, 2} - {axis}))
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, lost.astype(int), 0])))[::2]
    assert 1 <= runs.max() <= 3
