"""Haze falls with the distance from the holes: how it does is told, and what does not fall so is the ground's."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evidence.decay import Along, fit_decay
from tests.unit.test_evidence_doubt import SHAPE, clouds


def smooth(seed: int, *sizes: float) -> np.ndarray:
    """Return the sum of Gaussian fields seen through so many pixels, deviation 1 each."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=SHAPE), size) for size in sizes]
    return sum(field / field.std() for field in fields)


def window(values: np.ndarray, hole: np.ndarray) -> Along:
    """Return a window of which all beyond 30 pixels is clear."""
    distance = ndimage.distance_transform_edt(~hole)
    return Along(values=values, told=~hole, clear=distance > 30, distance=distance)


@pytest.fixture(scope="module")
def hazy():
    """Return the amount of haze, its window, and what is told: patchy, 2 beside holes, ground of two scales."""
    hole = clouds(2)
    fall = np.exp(-ndimage.distance_transform_edt(~hole) / 7.0)
    amount = 2.0 * fall * np.clip(1 + 0.3 * smooth(3, 12), 0, None) * ~hole
    one = window(0.25 * smooth(1, 1, 6) + amount, hole)
    decay = fit_decay([one])
    assert decay is not None
    return amount, one, decay


def test_how_haze_falls_is_told(hazy):
    """Its usual amount within 15 %, its length within the next of those that are tried, and that it is patchy."""
    decay = hazy[2]
    assert decay.beside == pytest.approx(2.0, rel=0.15)
    assert 6 <= decay.length <= 9
    assert decay.power == 1
    assert 0.15 < np.sqrt(sum(decay.patches)) < 0.6


def test_the_amount_is_told_better_than_by_its_usual_value(hazy):
    """Patches are followed beyond what the ground varies, and never below no haze."""
    amount, one, decay = hazy
    near = one.told & (one.distance < 8)
    told = decay.amount(one)
    off = [ndimage.gaussian_filter((part - amount) * near, 3)[near].std() for part in (told, decay.usual(one.distance))]
    assert off[0] < 0.6 * off[1]
    assert (told >= 0).all()


def test_a_shoulder_is_told():
    """Haze that falls as a Gaussian does is not taken for an exponential."""
    hole = clouds(2)
    fall = np.exp(-((ndimage.distance_transform_edt(~hole) / 12) ** 2)) * ~hole
    decay = fit_decay([window(0.25 * smooth(1, 1, 6) + 2 * fall, hole)])
    assert decay is not None
    assert decay.power == 2
    assert 9 <= decay.length <= 14


def test_broad_differences_are_the_ground():
    """Ground that is higher around the holes over 30 pixels, by as much as ground varies, is left to the ground."""
    hole = clouds(2)
    ground = 0.3 * smooth(5, 1, 10)
    one = window(ground + 2 * np.exp(-ndimage.distance_transform_edt(~hole) / 5.0) * ~hole, hole)
    higher = Along(values=one.values + 0.5 * (one.distance < 30), told=one.told, clear=one.clear, distance=one.distance)
    near = one.told & (one.distance < 10)
    both = [decay.amount(part)[near].mean() for part in (one, higher) if (decay := fit_decay([part]))]
    assert len(both) == 2
    assert both[1] - both[0] < 0.25


def test_what_is_lower_beside_holes_is_no_haze():
    """Then nothing is told."""
    hole = clouds(2)
    fall = np.exp(-ndimage.distance_transform_edt(~hole) / 7.0) * ~hole
    assert fit_decay([window(0.1 * smooth(1, 1, 6) - 2 * fall, hole)]) is None
