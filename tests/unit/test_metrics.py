"""Scores by part against their definitions, scikit-image and hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from benchmarks.quality.scores import bootstrap
from pipeline.numerics.bootstrap import counts, interval
from pipeline.numerics.metrics import (
    PERFECT_DB,
    gradients_by_part,
    mean_psnr_db,
    spectral_angles,
    ssim,
    ssim_edge,
    sums_by_part,
    tiles,
)


@pytest.mark.parametrize("shape", [(20, 24), (12, 11, 13)])
def test_ssim_is_that_of_scikit_image(shape):
    """The whole map, but for the margin in which windows leave the array; in values far from 0."""
    rng = np.random.default_rng(0)
    truth = 1000 + rng.normal(0, 30, shape)
    estimate = truth + rng.normal(0, 10, shape)
    ours = ssim(estimate, truth, 150.0, np.ones(shape, dtype=bool))
    _, theirs = structural_similarity(truth, estimate, win_size=7, data_range=150.0, full=True)
    inside = np.isfinite(ours)
    assert inside.sum() == np.prod([n - 6 for n in shape])
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-9)


def test_ssim_leaves_out_windows_with_unknown_pixels():
    """One unknown pixel takes the 49 windows that hold it; what it holds does not matter."""
    known = np.ones((21, 21), dtype=bool)
    known[10, 10] = False
    truth = np.random.default_rng(1).normal(size=(21, 21))
    one, other = truth.copy(), truth.copy()
    one[10, 10], other[10, 10] = 1e6, -1e6
    np.testing.assert_array_equal(ssim(one, truth, 1.0, known), ssim(other, truth, 1.0, known))
    assert np.isfinite(ssim(one, truth, 1.0, known)).sum() == 15**2 - 7**2


def test_ssim_looks_through_smaller_windows_where_an_axis_is_short():
    """Odd ones, down to a single pixel."""
    assert [ssim_edge((n, 30)) for n in (9, 7, 6, 3, 2, 1)] == [7, 7, 5, 3, 1, 1]


def test_spectral_angles():
    """A factor changes nothing, orthogonal spectra are 90 degrees apart, a spectrum of nothing has no angle."""
    truth = np.array([[1.0, 0.0, 0.0, 3.0], [1.0, 1.0, 0.0, 4.0]])[:, None]
    estimate = np.array([[7.0, 2.0, 1.0, 4.0], [7.0, 0.0, 1.0, 3.0]])[:, None]
    angles = spectral_angles(estimate, truth)[0]
    np.testing.assert_allclose(angles[[0, 1, 3]], [0, 90, math.degrees(math.acos(24 / 25))], atol=1e-5)
    assert math.isnan(angles[2])


def test_sums_and_gradients_by_part():
    """Only pixels of a part count, and only pairs of neighbours in the same one."""
    values = np.array([[[0.0, 1.0, 3.0, 6.0, 10.0]], [[0.0, 0.0, 0.0, 5.0, np.nan]]])
    labels = np.array([[[1, 1, 2, 2, 0]]])
    np.testing.assert_array_equal(sums_by_part(values, labels, 3), [[1, 0], [9, 5], [0, 0]])
    np.testing.assert_array_equal(gradients_by_part(values, labels, 3), [[1, 0], [3, 5], [0, 0]])


def test_psnr_is_a_mean_over_usable_channels():
    """Resamplings come as rows; a channel without range, or without error known, is left out."""
    rows = mean_psnr_db(np.array([[1.0, 0.01, 1.0], [np.nan, 0.0, 1.0], [np.nan, np.nan, 1.0]]), np.array([10, 10, 0]))
    np.testing.assert_allclose(rows, [30.0, PERFECT_DB, np.nan])


def test_tiles_are_numbered_from_one():
    """Each tile is one number, the last ones may be smaller."""
    assert tiles((3, 4), 2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4]]


def test_draws_by_counts_are_those_of_the_bootstrap():
    """The first row is the sample itself; intervals of a mean agree, whichever way they are made."""
    values = np.random.default_rng(2).normal(size=40)
    drawn = counts(len(values), 500, 7)
    assert drawn.shape == (501, 40)
    assert (drawn[0] == 1).all()
    assert (drawn.sum(axis=1) == 40).all()
    low, high = interval((drawn @ values / 40)[1:])
    groups = {f"{k:02d}": [v] for k, v in enumerate(values)}
    np.testing.assert_allclose(bootstrap(groups, folds=500, seed=7), (values.mean(), low, high))
    assert low < values.mean() < high


def test_one_group_says_nothing_of_how_scores_vary():
    """There is no interval, and no warning either."""
    assert counts(1, 100, 0).tolist() == [[1.0]]
    assert all(math.isnan(end) for end in interval(np.zeros(0)))
