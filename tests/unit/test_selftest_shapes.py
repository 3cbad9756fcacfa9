"""Which holes are thin and which are deep, and how deep."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.selftest.shapes import collect

INSIDE = ((False, False), (False, False))


@pytest.mark.parametrize(("width", "deep"), [(4, 0), (5, 1)])
def test_a_hole_is_deep_from_a_width_of_five_pixels(width, deep):
    """Dead lines are thin however long; two pixels from what is observed on either side is not deep yet."""
    hole = np.zeros((1, 40, 40), bool)
    hole[0, 10:30, 10 : 10 + width] = True
    shapes = collect([(hole, INSIDE)], (1.0, 1.0))
    assert len(shapes.deep) == deep
    assert bool(shapes.thin) == (not deep)


def test_a_line_that_leaves_a_deep_hole_is_thin_two_pixels_off():
    """Within four pixels of its deep part, which begins two pixels inside, everything belongs to the hole."""
    hole = np.zeros((1, 40, 60), bool)
    hole[0, 14:26, 8:20] = True
    hole[0, 20, 20:40] = True
    shapes = collect([(hole, INSIDE)], (1.0, 1.0))
    (deep,) = shapes.deep
    assert deep.mask.shape == (1, 12, 14)
    (thin,) = shapes.thin
    assert np.flatnonzero(thin.any(axis=(0, 1))).tolist() == list(range(22, 40))
    assert shapes.thin_share == 18 / (12 * 12 + 20)


def test_only_edges_of_the_image_are_edges_of_a_hole():
    """A hole cut by the window goes on behind it; one at the image's edge does not."""
    hole = np.zeros((1, 40, 40), bool)
    hole[0, :10, 30:] = True
    (shape,) = collect([(hole, ((True, True), (True, False)))], (1.0, 1.0)).deep
    assert shape.edge == ((True, False), (False, False))


def test_depth_is_that_of_nearly_all_hole_pixels():
    """Of a wide gap the distance to observed pixels that 95 in 100 keep within; without holes nothing is deep."""
    hole = np.zeros((1, 100, 60), bool)
    hole[0, :, 20:40] = True
    assert collect([(hole, INSIDE)], (1.0, 1.0)).depth == 10
    nothing = collect([(np.zeros((1, 8, 8), bool), INSIDE)], (1.0, 1.0))
    assert (nothing.depth, nothing.thin_distance, nothing.deep, nothing.thin) == (0.0, 1.0, (), ())


def test_a_thick_lost_slice_is_as_thin_as_a_thin_one():
    """Thinness is counted in voxels: slices of 6 mm are laid as slices, not as blobs that no window can hold."""
    hole = np.zeros((1, 24, 32, 32), bool)
    hole[0, (6, 15)] = True
    sides = ((True, True), (False, False), (False, False))
    shapes = collect([(hole, sides)], (6.0, 1.0, 1.0))
    assert not shapes.deep
    assert len(shapes.thin) == 1
    assert shapes.thin_distance == pytest.approx(6.0)
    hole[0, 14:19] = True
    (deep,) = collect([(hole, sides)], (6.0, 1.0, 1.0)).deep
    assert deep.mask.shape[1] == 5, "a gap of five slices is one wide hole"
