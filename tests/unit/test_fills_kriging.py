"""Kriging: its weights against dense algebra, what it wins, and where it leaves the spline alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.fills import kriging, tension
from pipeline.fills.base import Window


def window(values, hole):
    """Return a window of one channel with holes; what is under them is wiped."""
    values = np.where(hole, 0, values).astype(np.float32)
    return Window(values=values[None], valid=~hole[None], hole=hole[None], spacing=(1.0,) * values.ndim)


def rmse(estimate, truth, hole):
    """Return the root mean square error over the holes."""
    return float(np.sqrt(np.mean((estimate[0][hole] - truth[hole]) ** 2)))


def oriented(shape, sigma, seed=0):
    """Return smooth noise with its own correlation length per axis."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return field / field.std()


def test_weights_solve_the_constrained_system():
    """Each pattern's weights are the stationary point with Lagrange's multiplier, and zero where nothing is seen."""
    rng = np.random.default_rng(1)
    sample = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    matrix = sample.T @ sample / 200
    patterns = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1]], dtype=bool)
    (weights,) = kriging._weights(matrix[:1, 1:], (matrix[1:, 1:] + 0.3 * np.eye(5))[None], patterns)
    for seen, row in zip(patterns, weights, strict=True):
        k = int(seen.sum())
        border = np.zeros((k + 1, k + 1))
        border[:k, :k] = matrix[1:, 1:][np.ix_(seen, seen)] + 0.3 * np.eye(k)
        border[k, :k] = border[:k, k] = 1
        expected = np.linalg.solve(border, np.append(matrix[0, 1:][seen], 1.0))[:k]
        assert np.allclose(row[seen], expected)
        assert (row[~seen] == 0).all()


@pytest.mark.parametrize(
    ("shape", "sigma", "lost"),
    [((96, 96), (0.8, 2.0), "points"), ((96, 96), (1.5, 0.7), "lines"), ((40, 36, 36), (1.0, 0.8, 0.8), "slices")],
)
def test_it_learns_the_correlation_of_the_image(shape, sigma, lost):
    """On noise whose correlation is not the spline's, the error falls by more than 10 %."""
    truth = oriented(shape, sigma)
    hole = np.zeros(shape, dtype=bool)
    if lost == "points":
        hole = np.random.default_rng(2).random(shape) < 0.3
    else:
        hole[5::8] = True
    t = 0.5 if len(shape) == 2 else 0.95
    spline = rmse(tension.fill(window(truth, hole), t=t), truth, hole)
    kriged = rmse(kriging.fill(window(truth, hole), t=t), truth, hole)
    assert kriged < 0.9 * spline


def test_constant_stays_exactly_constant():
    """Nothing to krige from: no variance, the value stays."""
    hole = np.random.default_rng(0).random((48, 48)) < 0.3
    assert (kriging.fill(window(np.full((48, 48), 0.1), hole))[0] == np.float32(0.1)).all()


def test_constant_surroundings_in_a_varied_image_stay_exactly_constant():
    """Weights sum to one: a flat part of the image keeps its value to the last bit."""
    truth = oriented((64, 96), (1.0, 1.0))
    truth[:, :48] = 3.7
    hole = np.random.default_rng(0).random(truth.shape) < 0.3
    assert (kriging.fill(window(truth, hole))[0, :, :40] == np.float32(3.7)).all()


def test_the_middle_of_a_large_hole_is_the_spline():
    """Where little is observed nearby, kriging has nothing to add."""
    truth = oriented((80, 80), (2.0, 2.0))
    hole = np.zeros(truth.shape, dtype=bool)
    hole[25:55, 25:55] = True
    spline, kriged = tension.fill(window(truth, hole), t=0.7), kriging.fill(window(truth, hole), t=0.7)
    assert np.array_equal(kriged[0, 30:50, 30:50], spline[0, 30:50, 30:50])
    assert not np.array_equal(kriged, spline)


def test_never_touch_pixels_carry_no_information():
    """Whatever their values are, the result is the same."""
    truth = oriented((64, 64), (1.0, 1.0))
    hole = np.random.default_rng(0).random(truth.shape) < 0.3
    never = np.zeros_like(hole)
    never[20:30, 20:30] = True
    results = []
    for value in (0.0, 1e6):
        values = np.where(never, value, truth).astype(np.float32)[None]
        w = Window(values=values, valid=(~hole & ~never)[None], hole=(hole & ~never)[None], spacing=(1.0, 1.0))
        results.append(kriging.fill(w)[:, ~never])
    assert np.array_equal(*results)


def test_only_pixels_that_count_are_kriged():
    """The others keep the spline: kriging them takes several times as long."""
    truth = oriented((48, 48), (1.0, 1.0))
    hole = np.random.default_rng(3).random(truth.shape) < 0.2
    whole = window(truth, hole)
    asked = whole.hole & (np.indices(truth.shape)[1] < 24)
    some, spline = kriging.fill(replace(whole, asked=asked)), tension.fill(whole)
    assert np.array_equal(some[asked], kriging.fill(whole)[asked])
    assert (some[asked] != spline[asked]).any()
    assert np.array_equal(some[~asked], spline[~asked])


def test_channels_do_not_mix_and_scale_passes_through():
    """Two bands together are the same as apart; powers of two scale the result exactly."""
    truth = np.stack([oriented((64, 64), (1.0, 1.0)), oriented((64, 64), (2.0, 0.6), seed=5)]).astype(np.float32)
    hole = np.broadcast_to(np.random.default_rng(0).random((64, 64)) < 0.3, truth.shape)
    both = kriging.fill(Window(values=truth, valid=~hole, hole=hole, spacing=(1.0, 1.0)))
    for c in range(2):
        alone = kriging.fill(window(truth[c], hole[c]))
        assert np.array_equal(both[c], alone[0])
    scaled = kriging.fill(Window(values=truth * 1024, valid=~hole, hole=hole, spacing=(1.0, 1.0)))
    assert np.allclose(scaled, both * 1024, rtol=1e-5, atol=1e-2)


def test_too_small_a_window_keeps_the_spline():
    """Covariances of a handful of pixels mean nothing."""
    truth = oriented((9, 9), (1.0, 1.0))
    hole = np.zeros((9, 9), dtype=bool)
    hole[4, 4] = True
    assert np.array_equal(kriging.fill(window(truth, hole)), tension.fill(window(truth, hole)))


@pytest.mark.parametrize("reach", [(3,), (0, 0), (-1, 2)])
def test_reach_must_fit_the_window(reach):
    """One half width per axis, not all zero, none negative."""
    hole = np.zeros((20, 20), dtype=bool)
    hole[5, 5] = True
    with pytest.raises(ValueError, match="half width"):
        kriging.fill(window(np.zeros((20, 20)), hole), reach=reach)
