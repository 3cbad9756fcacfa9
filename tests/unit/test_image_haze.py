"""What haze on the pixels around leaves in holes: it follows the nearest rim and is nothing far from any haze."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.geometry.box import Box
from pipeline.image.haze import left_of_haze
from pipeline.masks.base import DOUBT, FILL, HAZY, KEEP

SHAPE = (64, 200)


class _Haze(SimpleNamespace):
    """Amounts of haze as an array of the work folder gives them."""

    def __getitem__(self, at: Any) -> np.ndarray:
        return np.asarray(self.amount[at])


@pytest.fixture
def rims():
    """Return states with a cloud of 40 px between rims of amount 1 and 3, and a dead pixel in clear ground; and haze."""
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
    left = left_of_haze(states, haze, Box.whole(SHAPE))
    assert left.shape == (2, *SHAPE)
    assert left[0, 32, 24] == pytest.approx(10, rel=0.2)
    assert left[0, 32, 55] == pytest.approx(30, rel=0.2)
    assert (np.diff(left[0, 32, 26:54]) > 0).all()
    np.testing.assert_allclose(left[1], 0.05 * left[0], rtol=1e-5)


def test_nothing_is_left_where_no_haze_is(rims):
    """Neither on observed pixels, nor in a hole in clear ground; None without any haze."""
    states, haze = rims
    left = left_of_haze(states, haze, Box.whole(SHAPE))
    assert (left[:, (states != FILL)[0]] == 0).all()
    assert left[0, 30, 180] < 1e-6
    assert left_of_haze(states, None, Box.whole(SHAPE)) is None
    assert left_of_haze(states[..., 75:], haze, Box((0, 75), SHAPE)) is None


def test_doubted_pixels_do_not_count(rims):
    """They are no evidence: nothing is filled from them, however near they are."""
    states, haze = rims
    states[0, :, 16:20] = DOUBT
    haze.amount[0, :, 16:20] = 0
    left = left_of_haze(states, haze, Box.whole(SHAPE))
    assert left[0, 32, 24] == pytest.approx(10, rel=0.2)
