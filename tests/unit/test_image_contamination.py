"""What haze and doubted pixels around holes add to error bars: it follows the nearest rim, far from any it is 0."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from pipeline.geometry.box import Box
from pipeline.image.contamination import contamination
from pipeline.image.window import OpenImage
from pipeline.masks.base import DOUBT, FILL, HAZY, KEEP

SHAPE = (64, 200)


class _Haze(SimpleNamespace):
    """Amounts of haze as an array of the work folder gives them."""

    def __getitem__(self, at: Any) -> np.ndarray:
        return np.asarray(self.amount[at])


@pytest.fixture
def rims():
    """Return states and haze: a cloud of 40 px between rims of amount 1 and 3, a dead pixel in clear ground."""
    states = np.full((1, *SHAPE), KEEP, np.uint8)
    amount = np.zeros((1, *SHAPE), np.float32)
    states[0, :, 10:20], amount[0, :, 10:20] = HAZY, 1.0
    states[0, :, 20:60] = FILL
    states[0, :, 60:70], amount[0, :, 60:70] = HAZY, 3.0
    states[0, 30, 180] = FILL
    return states, _Haze(amount=amount, attrs={"left": [10.0, 0.5]})


def test_the_error_in_a_hole_is_that_of_the_haze_beside_it(rims):
    """Proportional to the amount at the nearest rim, in each band its own; in the middle between both."""
    states, haze = rims
    left = contamination(states, haze, Box.whole(SHAPE)).left
    assert left.shape == (2, *SHAPE)
    assert left[0, 32, 24] == pytest.approx(10, rel=0.2)
    assert left[0, 32, 55] == pytest.approx(30, rel=0.2)
    assert (np.diff(left[0, 32, 36:44]) > 0).all()
    np.testing.assert_allclose(left[1], 0.05 * left[0], rtol=1e-5)


def test_bars_are_wider_beside_scraps_that_were_taken_off(rims):
    """As beside doubted pixels: where there are scraps, some were missed. Haze is smooth: there is none to miss."""
    states, haze = rims
    beside = contamination(states, haze, Box.whole(SHAPE)).factor
    assert beside[0, 32, 22] == 1.0
    haze.attrs["scraps"] = True
    wider = contamination(states, haze, Box.whole(SHAPE)).factor
    assert wider[0, 32, 22] == pytest.approx(1.3, abs=0.03)
    assert wider[0, 30, 180] == pytest.approx(1.0, abs=0.01)


def test_errors_of_two_spectra_add_up_as_those_of_strangers(rims):
    """Cloud and shadow were taken off, each with its own error: they add in quadrature."""
    states, haze = rims
    cloud, shadow = haze.amount.copy(), np.where(states == HAZY, np.float32(2), np.float32(0))
    alone = [
        contamination(states, _Haze(amount=amount, attrs={"left": [left]}), Box.whole(SHAPE)).left
        for amount, left in ((cloud, [10.0, 0.5]), (shadow, [4.0, 6.0]))
    ]
    both = _Haze(amount=np.concatenate([cloud, shadow]), attrs={"left": [[10.0, 0.5], [4.0, 6.0]]})
    np.testing.assert_allclose(contamination(states, both, Box.whole(SHAPE)).left, np.hypot(*alone), rtol=1e-5)


def test_nothing_is_left_where_no_haze_is(rims):
    """Neither on observed pixels, nor in a hole in clear ground; None without any haze."""
    states, haze = rims
    left = contamination(states, haze, Box.whole(SHAPE)).left
    assert (left[:, (states != FILL)[0]] == 0).all()
    assert left[0, 30, 180] < 1e-6
    assert contamination(states[..., 75:], haze, Box((0, 75), SHAPE)) is None
    assert contamination(np.where(states == HAZY, np.uint8(KEEP), states), None, Box.whole(SHAPE)) is None


def test_bars_are_wider_beside_doubted_pixels(rims):
    """By the share of them around: 1.3 where all are doubted, not at all at the dead pixel; they hold no haze."""
    states, haze = rims
    clear, doubted = states.copy(), states.copy()
    clear[states == HAZY] = KEEP
    doubted[0, :, :20], haze.amount[0, :, :20] = DOUBT, 0.0
    found = contamination(doubted, haze, Box.whole(SHAPE))
    assert found.factor[0, 32, 22] == pytest.approx(1.3, abs=0.01)
    assert 1.0 < found.factor[0, 32, 40] < 1.3
    assert found.factor[0, 32, 58] == pytest.approx(1.0, abs=0.01)
    assert found.factor[0, 30, 180] == 1.0
    assert (found.factor[states != FILL] == 1).all()
    assert found.left[0, 32, 55] == pytest.approx(30, rel=0.2)
    alone = contamination(np.where(doubted == HAZY, np.uint8(KEEP), doubted), None, Box.whole(SHAPE))
    assert (alone.left == 0).all()
    assert np.array_equal(alone.factor, found.factor)


def test_a_wide_hole_has_no_sectors():
    """What is doubted changes along the rim; deep inside, bars do not change from one pixel to the next with it."""
    states = np.full((1, 160, 160), KEEP, np.uint8)
    states[0, np.arange(160) // 20 % 2 == 1] = DOUBT
    states[0, 20:140, 20:140] = FILL
    factor = contamination(states, None, Box.whole((160, 160))).factor[0]
    assert np.ptp(factor[20:140, 20:23]) > 0.2
    deep = factor[44:116, 44:116]
    assert max(np.abs(np.diff(deep, axis=axis)).max() for axis in (0, 1)) < 0.01


@pytest.mark.parametrize("width", [8, 40, 130])
def test_means_on_cells_are_those_under_gaussians(width):
    """Beside narrow holes and deep inside wide ones: within a percent of what pixels say, where they say enough."""
    states = np.full((1, 256, 250), KEEP, np.uint8)
    states[0] = np.where(
        ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, states.shape[1:]), 6) > 0, DOUBT, KEEP
    )
    states[0, :, 100 : 100 + width] = FILL
    factor = contamination(states, None, Box.whole(states.shape[1:])).factor[0]
    hole, doubted = states[0] == FILL, (states[0] == DOUBT).astype(float)
    depth = ndimage.distance_transform_edt(hole)
    level = np.log2(np.maximum(depth, 6.0) / 6.0)
    expected = np.ones(hole.shape)
    for k in range(int(np.ceil(level.max())) + 1):
        total, weight = (ndimage.gaussian_filter(part, 6.0 * 2**k, mode="constant") for part in (doubted, 1.0 - hole))
        expected += 0.3 * np.maximum(0.0, 1.0 - np.abs(level - k)) * total / np.maximum(weight, 1e-12)
    np.testing.assert_allclose(factor[hole], expected[hole], atol=0.01)


def test_hidden_pixels_are_told_of_as_holes_are(rims):
    """What surrounds them, at the place itself and in single channels; the holes keep what they have."""
    states, haze = rims
    image = SimpleNamespace(states=lambda _: states, n_state=1, haze=haze)
    hidden = np.zeros((2, *SHAPE), bool)
    hidden[1, 30, 72:74] = True
    box = Box.whole(SHAPE)
    plain, found = OpenImage.contamination(image, box), OpenImage.contamination(image, box, hidden)
    assert (plain.left[:, 30, 72:74] == 0).all()
    assert (found.left[0, 30, 72:74] > 5).all()
    np.testing.assert_allclose(found.left[:, states[0] == FILL], plain.left[:, states[0] == FILL], rtol=0.05)
    assert found.of([1]).left.tolist() == found.left[1:].tolist()
    assert found.of([1]).factor is found.factor
