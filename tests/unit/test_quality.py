"""Scores, situations and calibration against their definitions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.scores import coverage
from pipeline.numerics.calibration import (
    STORED_OF_REFERENCES,
    Z90,
    Calibration,
    fit,
    mean_squared_ratio,
    power_of,
    tilted,
)
from pipeline.numerics.metrics import channel_mse, normalised_mse
from pipeline.numerics.situation import Curve, Situation, flat, hats, situation
from pipeline.numerics.structure import Growth


def test_errors_count_only_where_hidden():
    """Pixels that were copied flatter nobody; a channel without hidden pixels has no score."""
    truth = np.zeros((2, 3, 3))
    estimate = np.full_like(truth, 5.0)
    hidden = np.zeros(truth.shape, dtype=bool)
    hidden[0, 1, 1] = True
    mse = channel_mse(estimate, truth, hidden)
    assert mse[0] == 25.0
    assert math.isnan(mse[1])
    assert normalised_mse(mse, np.array([10.0, 10.0])) == pytest.approx(0.25)
    assert math.isnan(normalised_mse(mse, np.array([0.0, 10.0])))


def _errors(n: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    distance = rng.uniform(1, 30, n)
    raw = rng.uniform(0.5, 2.0, n)
    return np.abs(rng.normal(0, raw * (1 + 0.1 * distance))), raw, distance


def _deep(n: int) -> np.ndarray:
    return np.stack([np.zeros(n), np.ones(n), np.zeros(n)])


def _place(distance: np.ndarray) -> Situation:
    return Situation(distance=distance.astype(np.float32), shares=_deep(distance.size).astype(np.float32))


def test_ninety_percent_is_ninety_percent():
    """On errors that grow with distance the interval covers 90 % of others drawn alike, near and far."""
    error, raw, distance = _errors()
    calibration = fit(error, raw, distance, _deep(error.size))
    error, raw, distance = _errors(seed=1)
    sigma = raw * calibration.factor(_place(distance))
    assert coverage(error, sigma) == pytest.approx(0.9, abs=0.01)
    for near, far in ((1, 4), (9, 16), (17, 30)):
        inside = (distance > near) & (distance < far)
        assert coverage(error[inside], sigma[inside]) == pytest.approx(0.9, abs=0.04)


def test_factors_never_fall_with_distance_and_have_no_steps():
    """Also beyond what could be tested the stated error goes on growing."""
    error, raw, distance = _errors()
    calibration = fit(error, raw, distance, _deep(error.size))
    factor = calibration.factor(_place(np.linspace(0, 500, 2001)))
    assert (np.diff(factor) >= 0).all()
    assert np.diff(factor).max() < 0.3
    assert factor[-1] > factor[400]
    assert calibration.tested_to[1] <= 32.5


def test_raw_errors_that_grow_too_fast_do_not_widen_all_bars():
    """The raw error is eight times too large far out: bars still hold nine errors in ten, not nearly all."""
    rng = np.random.default_rng(6)
    distance = rng.uniform(1, 64, 60_000)
    raw = 1 + 7 * distance / 64
    error = np.abs(rng.standard_normal(distance.size))
    calibration = fit(error, raw, distance, _deep(error.size))
    assert (np.diff(calibration.factor(_place(np.linspace(0, 64, 65)))) >= 0).all()
    assert coverage(error, raw * calibration.factor(_place(distance))) == pytest.approx(0.9, abs=0.03)


def test_at_an_edge_no_factor_is_below_that_of_nearer_pixels():
    """Few holes can be hidden there: raw errors that grow too fast widen bars, rather than narrow those nearby."""
    rng = np.random.default_rng(6)
    distance = rng.uniform(1, 64, 60_000)
    raw = 1 + 7 * distance / 64
    error = np.abs(rng.standard_normal(distance.size))
    border = np.stack([np.zeros(error.size), np.zeros(error.size), np.ones(error.size)])
    place = Situation(distance=distance.astype(np.float32), shares=border.astype(np.float32))
    assert coverage(error, raw * fit(error, raw, distance, border).factor(place)) > 0.97


def test_families_have_their_own_factors():
    """Twice the error at the border: twice the factor there; one not tested takes that of all beside what is seen."""
    error, raw, distance = _errors()
    border = np.arange(error.size) % 2 == 0
    shares = np.stack([np.zeros(error.size), ~border, border])
    calibration = fit(np.where(border, 2 * error, error), raw, distance, shares)
    assert calibration.factors.border.values[3] == pytest.approx(2 * calibration.factors.deep.values[3], rel=0.1)
    assert calibration.factors.thin.values[0] > calibration.factors.deep.values[0]
    alone = fit(error, raw, distance, _deep(error.size))
    assert set(alone.factors.border.values) == {alone.factors.deep.values[0]}
    assert alone.tested_to[2] == 1


def _thin(distance: np.ndarray) -> Situation:
    shares = np.stack([np.ones(distance.size), *np.zeros((2, distance.size))])
    return Situation(distance=distance.astype(np.float32), shares=shares.astype(np.float32))


def test_a_lost_thick_slice_is_as_sure_as_those_hidden_like_it():
    """All hidden pixels lie 5.6 steps from observed ones: there bars are as fitted; deeper ones grow from there."""
    error = np.abs(np.random.default_rng(9).standard_normal(4000))
    slices = _thin(np.full(error.size, 5.6))
    calibration = fit(error, np.ones(error.size), slices.distance, slices.shares)
    assert coverage(error, calibration.factor(slices)) == pytest.approx(0.9, abs=0.005)
    assert calibration.factor(_thin(np.array([11.2])))[0] > 1.1 * calibration.factor(slices)[0]


def test_thin_holes_of_two_pixels_err_more_than_those_of_one():
    """Errors two pixels from observed ones are twice those beside them: bars hold nine in ten of both."""
    distance = np.repeat([1.0, 2.0], 4000)
    error = distance * np.abs(np.random.default_rng(9).standard_normal(distance.size))
    calibration = fit(error, np.ones(error.size), distance, _thin(distance).shares)
    for at in (1.0, 2.0):
        here = distance == at
        assert coverage(error[here], calibration.factor(_thin(distance[here]))) == pytest.approx(0.9, abs=0.005)


def test_pixels_count_as_often_as_real_holes_are_like_them():
    """Errors grow with roughness; weighted pixels are as rough on average as the holes, but only as far as they lie."""
    rng = np.random.default_rng(8)
    rough, everyone = rng.normal(size=20_000), np.ones(20_000, bool)
    for wanted, reached in ((0.8, 0.8), (-0.5, -0.5), (0.0, 0.0), (9.0, np.quantile(rough, 0.9))):
        weight = tilted(rough, np.full(50, wanted), everyone)
        assert weight.mean() == pytest.approx(1, rel=1e-5)
        assert np.average(rough, weights=weight) == pytest.approx(reached, abs=1e-3)
    error = np.exp(rough) * np.abs(rng.standard_normal(rough.size))
    raw, distance = np.ones(rough.size), np.full(rough.size, 4.0)
    holes = np.exp(rng.normal(0.8, 1, 20_000)) * np.abs(rng.standard_normal(20_000))
    factors = [
        fit(error, raw, distance, _deep(raw.size), weight=weight).factor(_place(distance))
        for weight in (None, tilted(rough, np.full(50, 0.8), everyone))
    ]
    assert coverage(holes, factors[0]) < 0.8
    assert coverage(holes, factors[1]) == pytest.approx(0.9, abs=0.02)


def test_without_a_difference_all_pixels_count_alike():
    """No hole pixels, one roughness, or nothing that tells."""
    rough, telling = np.arange(9.0), np.arange(9) > 4
    assert set(tilted(rough, np.empty(0), telling)) == {1.0}
    assert set(tilted(np.ones(9), rough, telling)) == {1.0}
    assert set(tilted(rough, rough, np.zeros(9, bool))) == {1.0}


def test_too_little_evidence_keeps_the_stored_default():
    """199 pixels calibrate nothing; sparse images are never more certain than the stored default."""
    error, raw, distance = (a[:199] for a in _errors())
    assert fit(error, raw, distance, _deep(199)) == Calibration()
    low = replace(Calibration(), factors=flat(0.01), pixels=500)
    far = _place(np.array([1.0, 1.5, 4.0, 32.0, 64.0, 500.0]))
    assert low.at_least(Calibration()).factor(far) == pytest.approx(Calibration().factor(far), rel=1e-6)


def test_bars_that_were_hardly_tested_do_not_grow_twice():
    """Tested to one pixel only: at 32 px the larger of what was fitted and the stored factor, each as grown there."""
    far = _place(np.array([32.0, 128.0]))
    stored = Calibration().factor(far)
    low, high = (replace(Calibration(), factors=flat(v), tested_to=(1.5, 1.0, 1.0), pixels=500) for v in (0.01, 4.0))
    assert low.at_least(Calibration()).factor(far) == pytest.approx(stored, rel=1e-6)
    assert high.at_least(Calibration()).factor(far) == pytest.approx(high.factor(far), rel=1e-6)
    assert (high.factor(far) > stored).all()


def test_stored_bars_of_references_do_not_grow():
    """What another date does not know is as much 64 px away as 2 px away; the stored ones of fills rise."""
    far = _place(np.array([1.0, 2.0, 16.0, 64.0]))
    assert STORED_OF_REFERENCES.factor(far) == pytest.approx([0.9, 1.1, 1.1, 1.1], rel=1e-6)


def test_beyond_what_was_tested_bars_grow_as_the_image_does():
    """As fitted up to 2 px; twice that at 8 px, as differences are; then by their last slope, a square root."""
    growth = Growth(lags=(1.0, 2.0, 4.0, 8.0), roots=(1.0, 2.0, 2.0, 4.0))
    calibration = replace(Calibration(), factors=flat(0.5), tested_to=(1.5, 2.0, 2.0), growth=growth, pixels=500)
    factor = calibration.factor(_place(np.array([0.0, 1.0, 2.0, 4.0, 8.0, 32.0])))
    assert factor == pytest.approx([0.5, 0.5, 0.5, 0.5, 1.0, 2.0], rel=1e-6)


def test_perfect_methods_still_state_an_error():
    """Factors stay above 0 even where nothing was wrong."""
    _, raw, distance = _errors()
    assert (fit(np.zeros_like(raw), raw, distance, _deep(raw.size)).factor(_place(distance)) > 0).all()
    assert Z90 == 1.645


def test_expected_error_over_raw_error_by_distance():
    """The mean squared ratio follows how errors grow; with nothing tested it is that of all."""
    error, raw, distance = _errors()
    ratio = mean_squared_ratio(error, raw, distance, _deep(error.size))
    assert ratio.deep.values[4] == pytest.approx((1 + 1.6) ** 2, rel=0.25)
    assert ratio.border.values[0] == pytest.approx(float(((error / raw) ** 2).mean()), rel=1e-6)


def test_where_a_pixel_stands():
    """Dead pixels are thin, the middle of a region deep, a missing margin is border, beyond open edges nothing ends."""
    hole = np.zeros((1, 80, 90), bool)
    hole[0, 5, 5:60:3] = True
    hole[0, 20:50, 20:50] = True
    hole[0, 60:] = True
    place = situation(~hole, hole, (1.0, 1.0))
    assert np.allclose(place.shares.sum(axis=0), 1, atol=1e-6)
    assert (place.shares[0, 0, 5, 5:60:3] == 1).all()
    assert (place.shares[1, 0, 22:48, 22:48] == 1).all()
    assert (place.shares[2, 0, 62:, 3:-3] == 1).all()
    assert place.distance[0, 35, 35] == 15
    open_below = situation(~hole, hole, (1.0, 1.0), ((False, True), (False, False)))
    assert open_below.shares[2, 0, 62:, 10:-10].max() == 0


def test_a_thick_lost_slice_is_thin_and_far():
    """Families count voxels, distances steps of the finest axis; five lost slices in a row are wide."""
    hole = np.zeros((1, 30, 20, 20), bool)
    hole[0, (5, 20, 21, 22, 23, 24)] = True
    place = situation(~hole, hole, (5.0, 1.0, 1.0))
    assert (place.shares[0, 0, 5] == 1).all()
    assert (place.distance[0, 5] == 5).all()
    assert (place.shares[0, 0, 20:25] == 0).all()


def test_curves_are_continuous_and_exact_at_their_knots():
    """Linear in log distance between knots, constant beyond; a partition of unity decides them."""
    curve = Curve(knots=(1.0, 4.0, 16.0), values=(0.0, 1.0, 0.5))
    assert curve(np.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 99.0])).tolist() == [0, 0, 0.5, 1, 0.75, 0.5, 0.5]
    weights = hats(np.array([1.0, 2.0, 3.0, 50.0]), (1.0, 4.0, 16.0))
    assert np.allclose(weights.sum(axis=0), 1)
    assert weights[:, 1].tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize(("power", "found"), [(0.0, 0.0), (0.4, 0.4), (1.0, 1.0), (1.5, 1.0), (-0.5, 0.0)])
def test_the_power_that_errors_grow_with_is_found(power, found):
    """Whatever their distribution; outside 0 to 1 the nearer end is taken; pixels without weight say nothing."""
    rng = np.random.default_rng(5)
    raw = np.exp(0.5 * rng.normal(size=100_000))
    error = np.abs(rng.laplace(size=raw.size)) * raw**power
    assert power_of(error, raw, np.ones(raw.size)) == pytest.approx(found, abs=0.1)
    mixed = np.where(np.arange(raw.size) < 50_000, error, 7 * raw)
    assert power_of(mixed, raw, (np.arange(raw.size) < 50_000).astype(float)) == pytest.approx(found, abs=0.1)


def test_few_or_perfect_pixels_tell_no_power():
    """Then errors are taken to grow as the raw ones do."""
    assert power_of(np.ones(199), np.arange(1.0, 200), np.ones(199)) == 1
    assert power_of(np.zeros(500), np.arange(1.0, 501), np.ones(500)) == 1
