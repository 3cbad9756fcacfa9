"""Nearest, through and exemplar fills: what exactly is copied or interpolated."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.fills import exemplar, nearest, tension, through
from pipeline.fills.base import Window


def column_window(profile, known, axis=0):
    """A volume whose every column along `axis` is `profile`, observed at the indices `known`."""
    values = np.moveaxis(np.tile(np.asarray(profile, np.float32)[:, None, None], (1, 2, 3)), 0, axis)[None]
    valid = np.zeros(len(profile), bool)
    valid[list(known)] = True
    valid = np.moveaxis(np.tile(valid[:, None, None], (1, 2, 3)), 0, axis)[None]
    return Window(values=np.where(valid, values, 0), valid=valid, hole=~valid, spacing=(1.0, 1.0, 1.0))


def test_nearest_measures_in_spacing_not_in_pixels():
    """Three columns away at 1 mm is nearer than one slice away at 5 mm."""
    values = np.zeros((1, 3, 7), np.float32)
    values[0, :, 0], values[0, 0, 3] = 1.0, 2.0
    valid = values > 0
    hole = np.zeros(values.shape, bool)
    hole[0, 1, 3] = True
    assert nearest.fill(Window(values=values, valid=valid, hole=hole, spacing=(5.0, 1.0)))[0, 1, 3] == 1.0
    assert nearest.fill(Window(values=values, valid=valid, hole=hole, spacing=(1.0, 1.0)))[0, 1, 3] == 2.0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_through_linear_is_numpys_interp(axis):
    """Inside linear, outside the nearest slice, along any axis."""
    profile = np.array([9, 3, 5, 1, 7, 4, 8, 2, 6], np.float32)
    known = [1, 2, 5, 7]
    result = through.fill(column_window(profile, known, axis), axis=axis)
    expected = np.interp(np.arange(9), known, profile[known])
    assert np.allclose(np.moveaxis(result[0], axis, 0)[:, 1, 2], expected, atol=1e-6)


def test_through_cubic_reproduces_a_parabola_on_even_knots():
    """Central differences are exact for degree two, so the Hermite spline is too."""
    z = np.arange(12.0)
    profile = 2 * z**2 - 3 * z + 1
    known = [0, 1, 4, 5]
    even = [0, 3, 6, 9, 11]
    result = through.fill(column_window(profile, even), order="cubic")[0, :, 0, 0]
    assert np.allclose(result[4:6], profile[4:6], rtol=1e-6)
    line = through.fill(column_window(3 * z + 1, known), order="cubic")[0, :6, 0, 0]
    assert np.allclose(line, (3 * z + 1)[:6], rtol=1e-6)


def test_through_refuses_what_it_does_not_know():
    """Axis and order are named in the message."""
    with pytest.raises(ValueError, match="axis = 3"):
        through.fill(column_window([1, 2, 3], [0]), axis=3)
    with pytest.raises(ValueError, match="'quintic'"):
        through.fill(column_window([1, 2, 3], [0]), order="quintic")


def test_exemplar_continues_a_periodic_texture():
    """A checkerboard of 4-pixel cells has exact copies: the hole comes back better than by the spline."""
    y, x = np.mgrid[:64, :64]
    values = np.stack([((y // 4 + x // 4) % 2) * 100.0, (x // 4 % 2) * 10.0]).astype(np.float32)
    hole = np.zeros(values.shape, bool)
    hole[:, 26:38, 24:37] = True
    window = Window(values=np.where(hole, 0, values), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    error = np.abs(exemplar.fill(window) - values)[hole].mean()
    assert error < 0.75 * np.abs(tension.fill(window) - values)[hole].mean()


def test_exemplar_copies_observed_vectors_and_follows_its_seed():
    """All channels of a pixel come from one observed place; the seed decides, and only it."""
    rng = np.random.default_rng(2)
    values = rng.normal(0, 1, (4, 40, 40)).astype(np.float32)
    hole = np.zeros(values.shape, bool)
    hole[:, 10:20, 10:20] = True
    window = Window(values=values, valid=~hole, hole=hole, spacing=(1.0, 1.0))
    result = exemplar.fill(window, seed=3)
    observed = {tuple(v) for v in values[:, ~hole[0]].T}
    assert {tuple(v) for v in result[:, hole[0]].T} <= observed
    assert np.array_equal(result, exemplar.fill(window, seed=3))
    assert not np.array_equal(result, exemplar.fill(window, seed=4))


@pytest.mark.parametrize("options", [{"size": 4}, {"size": 1}, {"sweeps": 0}])
def test_exemplar_refuses_bad_options(options):
    """Patch size and sweeps are checked."""
    values = np.zeros((1, 12, 12), np.float32)
    window = Window(values=values, valid=values == 0, hole=values != 0, spacing=(1.0, 1.0))
    with pytest.raises(ValueError, match="patch size"):
        exemplar.fill(window, **options)
