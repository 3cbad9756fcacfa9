"""Boxes: half-open integer ranges."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.box import Box

A = Box((2, 3), (6, 9))


def test_extent():
    """Shape, size and slices of a box."""
    assert (A.ndim, A.shape, A.size, A.empty) == (2, (4, 6), 24, False)
    assert np.arange(100).reshape(10, 10)[A.slices].shape == (4, 6)
    assert Box.whole((5, 7)) == Box((0, 0), (5, 7))


def test_a_box_turned_around_is_empty():
    """A stop before the start counts no pixel, not a negative number."""
    box = Box((5,), (3,))
    assert (box.shape, box.size, box.empty) == ((0,), 0, True)


def test_intersection():
    """Intersections are commutative; disjoint boxes have an empty one."""
    other = Box((4, 0), (10, 5))
    assert A & other == other & A == Box((4, 3), (6, 5))
    assert (A & Box((6, 9), (8, 12))).empty
    assert (A & Box((20, 20), (30, 30))).size == 0


def test_grow_and_shift():
    """One margin for all axes or one for each; shifting by an offset."""
    assert A.grow(1) == Box((1, 2), (7, 10))
    assert A.grow((0, 2)) == Box((2, 1), (6, 11))
    assert A.grow(1).grow(-1) == A
    assert A.shift((1, -3)) == Box((3, 0), (7, 6))


def test_within():
    """Slices into an array over an outer box; a box that sticks out is refused."""
    outer = Box((1, 1), (8, 10))
    values = np.arange(outer.size).reshape(outer.shape)
    assert np.array_equal(values[A.within(outer)], values[1:5, 2:8])
    with pytest.raises(ValueError, match="is not inside"):
        A.grow(9).within(outer)


def test_axes_must_agree():
    """Start and stop of different length are no box."""
    with pytest.raises(ValueError, match="differ in length"):
        Box((0,), (1, 2))


def test_an_empty_box_has_no_tiles():
    """Nothing to cut, nothing to yield - also where the empty box lies inside a tile."""
    assert list(Box((3, 3), (3, 8)).tiles((4, 4))) == []
