"""Where pseudo-holes lie: in the shapes of real ones, where such holes could have been."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from pipeline.fills.base import FillSpec, Window
from pipeline.geometry.box import Box
from pipeline.selftest.placing import Placement, place
from pipeline.selftest.shapes import collect
from tests.helpers import smooth

SHAPE = (96, 96)
CLOSED = ((True, True), (True, True))


def _placements(planes: np.ndarray, seed: int = 0) -> list[Placement]:
    """Place the holes `(n, *SHAPE)` of a two-channel image in itself, six times."""
    values = smooth((2, *SHAPE), "float32")
    hole = np.broadcast_to(planes, values.shape)

    def read(_: Box):
        window = Window(values=np.where(hole, 0, values), valid=~hole, hole=hole, spacing=(1.0, 1.0))
        return window, ()

    shapes = collect([(planes, CLOSED)], (1.0, 1.0))
    return place(read, [Box.whole(SHAPE)] * 6, shapes, FillSpec("nearest"), seed)


def test_holes_at_an_edge_are_tested_at_an_edge():
    """A lost margin is hidden along another margin: there, too, nothing is observed behind it."""
    hole = np.zeros((1, *SHAPE), bool)
    hole[0, :10] = True
    for one in _placements(hole):
        rows = np.flatnonzero(one.hidden[0].all(axis=1))
        assert rows.tolist() == list(range(86, 96))


def test_wide_holes_keep_their_shape_and_clear_of_one_another():
    """A disk is hidden whole, at other places, and not grown into the real one."""
    grid = np.hypot(*np.meshgrid(np.arange(96) - 20, np.arange(96) - 25, indexing="ij"))
    hole = (grid < 9)[None]
    placed = _placements(hole)
    assert len(placed) == 6
    assert len({one.hidden.tobytes() for one in placed}) > 1
    for one in placed:
        depth = distance_transform_edt(one.task.window.hole[0])[one.hidden[0]].max()
        assert depth == pytest.approx(distance_transform_edt(hole[0]).max(), abs=1.5)
        assert not (one.hidden & hole).any()


def test_dense_dead_pixels_are_thinned_out():
    """Of scattered pixels few are hidden at once: their neighbours are observed as often as those of real ones."""
    hole = np.random.default_rng(0).random((1, *SHAPE)) < 0.5
    for one in _placements(hole):
        assert 0.02 < one.hidden[0].mean() < 0.1
        distance = distance_transform_edt(~one.task.window.valid[0])
        assert distance[one.hidden[0]].mean() == pytest.approx(distance[hole[0]].mean(), rel=0.1)


def test_a_band_with_lost_lines_is_tested_alone():
    """Channels are hidden as they are in the file; the others stay to tell about them."""
    hole = np.zeros((2, *SHAPE), bool)
    hole[1, 5::17] = True
    for one in _placements(hole):
        assert not one.hidden[0].any()
        assert one.hidden[1].any()
        assert (one.task.window.valid[0]).all()


def test_what_one_channel_lost_is_hidden_where_the_others_are_observed():
    """Lines of either band are hidden at other rows, never in both at a place: siblings stay to tell about them."""
    hole = np.zeros((2, *SHAPE), bool)
    hole[0, 5::17] = True
    hole[1, 11::17] = True
    for one in _placements(hole):
        assert one.hidden[0].any()
        assert one.hidden[1].any()
        assert (one.task.window.hole.sum(axis=0) <= 1).all()


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


def test_a_cloud_is_hidden_whole_though_a_band_has_dead_lines():
    """What hides all bands is no loss of one channel: it is laid over the dead lines of another place."""
    grid = np.hypot(*np.meshgrid(np.arange(96) - 30, np.arange(96) - 30, indexing="ij"))
    hole = np.broadcast_to(grid < 18, (2, *SHAPE)).copy()
    hole[0, 5::12] = True
    deepest = max(distance_transform_edt(one.hidden[1]).max() for one in _placements(hole))
    assert deepest > 12


def test_only_what_depends_on_hidden_pixels_is_filled_again():
    """A real hole far from all hidden pixels keeps the fill it has; one that touches them does not."""
    hole = np.zeros((1, *SHAPE), bool)
    hole[0, 40:60, 40:60] = True
    for one in _placements(hole, seed=2):
        assert (one.hidden <= one.concerned).all()
        gap = distance_transform_edt(~one.hidden[0])[hole[0]].min()
        assert one.concerned[0, 50, 50] if gap <= 2 else gap <= 4 or not one.concerned[0, 50, 50]
