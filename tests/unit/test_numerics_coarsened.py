"""Fewer unknowns in wide holes that conduct differently: close to all equations, and exact where nothing varies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, sparse

from pipeline.numerics import coarsened
from pipeline.references.guided import interpolate

SHAPE = (150, 160)


def scene(seed=0):
    """Return values, observed pixels, one ragged hole of 13,000 pixels and a guide with fields."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ragged = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 4) * 60
    hole = np.hypot(rows - 75, columns - 82) + ragged < 66
    hole = ndimage.label(hole)[0] == ndimage.label(hole)[0][75, 82]
    fields = rng.normal(0, 1, (12, 12))[rows * 12 // SHAPE[0], columns * 12 // SHAPE[1]]
    guide = (fields + 0.1 * rng.normal(0, 1, SHAPE))[None].astype(np.float32)
    values = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 6)[None]
    return values / values.std(), ~hole, hole, guide


@pytest.fixture
def exact(monkeypatch):
    """Return the interpolation with all equations."""

    def found(*given):
        with monkeypatch.context() as patch:
            patch.setattr(coarsened, "_FEWEST", 10**9)
            return interpolate(*given)

    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fewer_unknowns_change_residuals_by_a_hundredth(seed, exact):
    """Among fields, whose edges hardly conduct; in deviations of what is interpolated."""
    values, known, hole, guide = scene(seed)
    every, fewer = (how(values, known, hole, guide, (1.0, 1.0)) for how in (exact, interpolate))
    change = (fewer - every)[:, hole]
    assert 0 < np.sqrt((change**2).mean()) < 0.01 * values[:, known].std()
    assert np.array_equal(fewer[:, known], values[:, known])


def test_a_residual_that_is_the_same_all_around_stays_the_same():
    """Whatever conducts: weights of an interpolated pixel add up to one."""
    _, known, hole, guide = scene()
    np.testing.assert_allclose(interpolate(np.full((1, *SHAPE), 3.0), known, hole, guide, (1.0, 1.0)), 3.0, atol=1e-9)


def test_a_slope_stays_a_slope_where_all_conducts_alike():
    """Linear interpolation is what the weights become there."""
    _, known, hole, guide = scene()
    slope = np.broadcast_to(np.arange(SHAPE[1]) / 10, (1, *SHAPE))
    found = interpolate(np.where(known, slope, 0.0), known, hole, np.zeros_like(guide), (1.0, 1.0))
    np.testing.assert_allclose(found, slope, atol=1e-9)


def test_small_holes_and_oblong_pixels_have_all_equations(exact):
    """The ones would gain nothing, and the others would change by more."""
    values, _, hole, guide = scene()
    small = hole & (np.arange(SHAPE[1]) < 80)
    assert 4000 < small.sum() < 10_000
    for some, spacing in ((small, (1.0, 1.0)), (hole, (1.0, 2.0))):
        given = values, ~some, some, guide, spacing
        assert np.array_equal(interpolate(*given), exact(*given))


def test_unknowns_of_a_hole_do_not_depend_on_others():
    """But on the hole and its place in the window alone."""
    _, _, hole, _ = scene()
    more = hole.copy()
    more[0, 1:6] = True
    assert not hole[:8, :8].any()
    kept = [np.diff(_found(some).spread.tocsc().indptr)[-2000:] for some in (hole, more)]
    np.testing.assert_array_equal(*kept)


def _found(unknown):
    """Return fewer equations of a hole in which all conducts alike."""
    n = int(unknown.sum())
    number = np.full(unknown.shape, -1)
    number[unknown] = np.arange(n)
    pairs = [(number[:-1], number[1:]), (number[:, :-1], number[:, 1:])]
    ends = np.concatenate([np.stack([a[(a >= 0) & (b >= 0)], b[(a >= 0) & (b >= 0)]]) for a, b in pairs], axis=1)
    edges = sparse.coo_array((-np.ones(ends.shape[1]), ends), shape=(n, n)).tocsr()
    found = coarsened.coarsened((edges + edges.T + 4 * sparse.eye_array(n)).tocsr(), unknown)
    assert found is not None
    return found
