"""Wide holes of planes with fewer unknowns: close to all equations, exact for smooth surfaces, and the hole's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.fills import _thinned, harmonic, tension
from pipeline.fills.base import Window

SHAPE = (150, 160)


def window(values):
    """Return an image with one ragged hole of 13,000 pixels, its values those given."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ragged = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 4) * 60
    hole = np.hypot(rows - 75, columns - 82) + ragged < 66
    hole &= (rows > 3) & (rows < SHAPE[0] - 4) & (columns > 3)
    hole = ndimage.label(hole)[0] == ndimage.label(hole)[0][75, 82]
    return Window(values=values[None].astype(np.float32), valid=~hole[None], hole=hole[None], spacing=(1.0, 1.0))


@pytest.fixture
def exact(monkeypatch):
    """Return the fill of a window with all equations."""

    def filled(some, t):
        with monkeypatch.context() as patch:
            patch.setattr(_thinned, "_FEWEST", 10**9)
            return tension.fill(some, t=t)[0]

    return filled


@pytest.mark.parametrize(("t", "share"), [(0.25, 0.01), (0.5, 0.01), (0.75, 0.01), (0.9, 0.01), (1.0, 0.05)])
def test_fewer_unknowns_change_a_fill_by_far_less_than_its_error(t, share, exact):
    """By a hundredth of it in texture; a plate, which swings most where it is deep, by a twentieth."""
    truth = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, SHAPE), 4)
    some = window(truth / truth.std())
    hole, full = some.hole[0], exact(some, t)
    fewer = tension.fill(some, t=t)[0]
    change, error = (fewer - full)[hole], (full - some.values[0])[hole]
    assert 0 < np.sqrt((change**2).mean()) < share * np.sqrt((error**2).mean())
    assert np.array_equal(fewer[~hole], some.values[0][~hole])


@pytest.mark.parametrize("t", [0.5, 1.0])
def test_a_surface_of_the_third_degree_that_all_equations_give_is_given_by_fewer(t):
    """Harmonic polynomials solve every row, and cubic interpolation gives the pixels between."""
    y, x = (axis / 50 - 1.5 for axis in np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float))
    truth = 3 + x - 2 * y + x * y + x**3 - 3 * x * y**2
    some = window(truth)
    np.testing.assert_allclose(tension.fill(some, t=t)[0], truth, atol=1e-5)


def test_a_hole_is_filled_the_same_beside_others():
    """Which pixels are unknowns depends on the hole and its place in the window alone."""
    truth = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, SHAPE), 2)
    alone = window(truth)
    more = alone.hole.copy()
    more[0, 1:6, 150:157] = True
    assert not (more & alone.hole)[0, :9, 147:].any()
    beside = replace(alone, hole=more, valid=~more)
    hole = alone.hole[0]
    first, second = (tension.fill(some, t=0.75)[0][hole] for some in (alone, beside))
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_membranes_small_holes_and_steps_that_differ_have_all_equations(exact):
    """A membrane stays within the range of its rim; others would gain nothing, or have other equations."""
    truth = np.random.default_rng(0).uniform(0, 1, SHAPE)
    some = window(truth)
    assert np.array_equal(harmonic.fill(some)[0], exact(some, 0.0))
    small = replace(some, hole=some.hole & (np.arange(SHAPE[1]) < 80))
    assert small.hole.sum() < 10_000
    assert np.array_equal(tension.fill(small)[0], exact(small, 0.5))
    oblong = replace(some, spacing=(1.0, 2.0))
    assert np.array_equal(tension.fill(oblong)[0], exact(oblong, 0.5))


def test_what_cannot_be_factorised_has_all_equations(exact, monkeypatch):
    """Iterating needs a symmetric matrix, which that of fewer unknowns is not."""
    some = window(ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, SHAPE), 3))
    monkeypatch.setattr(tension, "DIRECT", 1000)
    assert np.array_equal(tension.fill(some)[0], exact(some, 0.5))
