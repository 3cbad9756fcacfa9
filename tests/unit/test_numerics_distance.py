"""Distances that are computed only around a mask are those of the whole array, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from pipeline.numerics.distance import around, close, inside, inside_from

SHAPES = [(1, 9), (40, 31), (17, 20, 13)]


def _masks(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return a mask in the middle, one that touches ends, scattered pixels, and all but one pixel."""
    rng = np.random.default_rng(len(shape))
    middle, ends, all_but_one = (np.zeros(shape, dtype=np.bool_) for _ in range(3))
    middle[tuple(slice(n // 4, max(n // 4 + 1, n // 2)) for n in shape)] = True
    ends[tuple(slice(0, -(-n // 3)) for n in shape)] = True
    all_but_one[:] = True
    all_but_one[tuple(n // 3 for n in shape)] = False
    return [middle, ends, rng.random(shape) < 0.2, rng.random(shape) < 0.9, all_but_one]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1.0, 2.5])
def test_distances_of_a_mask_are_those_of_the_whole_array(monkeypatch, shape, steps):
    """Also with uneven steps, at the ends, where nearly all is in the mask, and measured in strips."""
    monkeypatch.setattr("pipeline.numerics.distance._STRIP", 600)
    sampling = (steps, *(1.0,) * (len(shape) - 1))
    for mask in _masks(shape):
        expected = distance_transform_edt(mask, sampling=sampling)
        assert np.array_equal(inside(mask, sampling), expected)
        some = mask & (np.arange(mask.size).reshape(shape) % 3 > 0)
        distance, nearest = inside_from(mask, sampling, some)
        assert np.array_equal(distance, expected)
        assert not mask[tuple(nearest)].any()
        away = (np.argwhere(some) - nearest.T) * sampling
        assert np.allclose(np.sqrt((away**2).sum(axis=1)), expected[some])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("most", [2.0, 4.5])
def test_distances_around_a_mask_hold_up_to_the_most(shape, most):
    """Beyond it only that they are larger is sure."""
    for mask in _masks(shape):
        expected, found = distance_transform_edt(~mask), around(mask, most)
        near = expected <= most
        assert np.array_equal(found[near], expected[near])
        assert (found[~near] > most).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("most", [1, 5, 8])
def test_short_distances_are_those_of_the_whole_transform(shape, most):
    """To the last bit up to the most, infinite above it."""
    for mask in _masks(shape):
        expected = distance_transform_edt(~mask)
        number, distances = close(mask, most)
        assert np.array_equal(distances[number], np.where(expected <= most, expected, np.inf))


def test_nothing_is_far_from_everything():
    """An empty mask has no inside, and nothing lies around it."""
    nothing = np.zeros((5, 7), dtype=np.bool_)
    assert not inside(nothing).any()
    assert np.isinf(around(nothing, 3)).all()
    number, distances = close(nothing, 5)
    assert np.isinf(distances[number]).all()


@pytest.mark.parametrize("most", [1, 3.0, 11, 12, 4.5])
@pytest.mark.parametrize("sampling", [None, (1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_distances_around_a_mask_of_a_volume_are_those_of_its_steps(most, sampling):
    """Whether shifted squares tell them or the whole transform."""
    mask = np.zeros((14, 17, 19), dtype=np.bool_)
    mask[3, 4:9, 2] = mask[10, 0, 18] = True
    expected, found = distance_transform_edt(~mask, sampling=sampling), around(mask, most, sampling)
    near = expected <= most
    assert np.array_equal(found[near], expected[near])
    assert (found[~near] > most).all()
