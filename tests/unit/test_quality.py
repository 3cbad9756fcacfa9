"""Scores, calibration and the risk-averse weight against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.quality.calibration import Z90, Calibration, coverage, fit
from pipeline.quality.metrics import channel_mse, normalised_mse, psnr_db, risk_averse_weight

WEIGHTS = (0.0, 0.5, 1.0)


def test_psnr():
    """20 log10(R / RMSE): an error of a tenth of the range is 20 dB."""
    assert psnr_db(100.0, 100.0) == pytest.approx(20.0)
    assert psnr_db(0.0, 1.0) == math.inf
    assert psnr_db(1.0, 0.0) == -math.inf


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


def test_a_reliable_winner_is_used_fully():
    """Half the error in every placement: weight 1."""
    base = np.array([4.0, 5.0, 6.0, 4.5])
    blended = np.stack([base, base * 0.7, base * 0.5])
    assert risk_averse_weight(base, blended, WEIGHTS) == 1.0


def test_an_unreliable_winner_is_not_used():
    """Better on average but far worse in one placement of four: weight 0 - do no harm."""
    base = np.ones(4)
    gamble = np.array([0.2, 0.2, 0.2, 2.5])
    assert gamble.mean() < 1
    assert risk_averse_weight(base, np.stack([base, gamble, gamble]), WEIGHTS) == 0.0


@pytest.mark.parametrize("base", [np.array([1.0]), np.array([np.nan, 1.0]), np.array([0.0, 0.0])])
def test_no_evidence_means_no_use(base):
    """Fewer than two usable placements decide nothing."""
    assert risk_averse_weight(base, np.stack([base, base / 2, base / 4]), WEIGHTS) == 0.0


def _errors(n: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    distance = rng.uniform(1, 30, n)
    raw = rng.uniform(0.5, 2.0, n)
    return np.abs(rng.normal(0, raw * (1 + 0.1 * distance))), raw, distance


def test_ninety_percent_is_ninety_percent():
    """On errors that grow with distance the interval covers 90 % of others drawn alike, near and far."""
    calibration = fit(*_errors())
    error, raw, distance = _errors(seed=1)
    sigma = raw * calibration.factor(distance)
    assert coverage(error, sigma) == pytest.approx(0.9, abs=0.01)
    for near, far in ((1, 4), (9, 16), (17, 30)):
        inside = (distance > near) & (distance < far)
        assert coverage(error[inside], sigma[inside]) == pytest.approx(0.9, abs=0.04)


def test_factors_never_fall_with_distance():
    """Also beyond what could be tested the stated error goes on growing."""
    calibration = fit(*_errors())
    factor = calibration.factor(np.linspace(0, 500, 1001))
    assert (np.diff(factor) >= 0).all()
    assert factor[-1] > factor[100]
    assert calibration.tested_to <= 32.5


def test_too_little_evidence_keeps_the_stored_default():
    """199 pixels calibrate nothing."""
    few = tuple(a[:199] for a in _errors())
    assert fit(*few) == Calibration(pixels=199)
    assert math.isnan(coverage(np.empty(0), np.empty(0)))


def test_perfect_methods_still_state_an_error():
    """Factors stay above 0 even where nothing was wrong."""
    _, raw, distance = _errors()
    assert (fit(np.zeros_like(raw), raw, distance).factor(distance) > 0).all()
    assert Z90 == 1.645
