"""Where pseudo-holes lie: in the shapes of real ones, where such holes could have been."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label

from pipeline.fills.base import FillSpec, Window
from pipeline.geometry.box import Box
from pipeline.image.window import Pixels
from pipeline.masks.base import DOUBT, FILL, HAZY, KEEP
from pipeline.selftest import placing
from pipeline.selftest.crowded import of_one_channel
from pipeline.selftest.placing import Placement, _lay, hide, place
from pipeline.selftest.shapes import Shape, Shapes, collect, lie_across, steps_apart, tells
from tests.helpers import smooth

SHAPE = (96, 96)
CLOSED = ((True, True), (True, True))
INSIDE = ((False, False), (False, False))


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
    """A lost margin fits along the opposite one only; so a deeper margin, of which it is a part, is hidden in turn."""
    hole = np.zeros((1, *SHAPE), bool)
    hole[0, :10] = True
    placed = _placements(hole)
    assert len(placed) == 6
    for k, one in enumerate(placed):
        rows = np.flatnonzero(one.hidden[0].all(axis=1))
        assert rows.tolist() == (list(range(86, 96)) if k % 2 == 0 else list(range(10, 20)))
        assert one.hidden[0].sum() == rows.size * 96


@pytest.mark.parametrize(("depth", "hidden"), [(12.0, [96 * 10, 96 * 12]), (60.0, [96 * 10, 96 * 10])])
def test_pixels_beside_holes_are_not_hidden_where_they_are_most(depth, hidden, monkeypatch):
    """Of 86 rows beside a margin 12 are few; 60, though for those that were hidden before, are more than six tenths."""
    hole, once = np.zeros((2, 1, *SHAPE), bool)
    hole[0, :10] = once[0, 86:] = True
    monkeypatch.setattr(placing, "hide", lambda *_: once)
    shapes = Shapes(deep=(), thin=(), depth=depth, thin_distance=1.0)
    placed = place(lambda _: (_seen(hole), ()), [Box.whole(SHAPE)] * 2, shapes, lambda w: w.values, 0)
    assert [int(one.hidden.sum()) for one in placed] == hidden


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


@pytest.mark.parametrize(("dots", "windows"), [(2, [0, 3]), (20, [0, 1, 2, 3, 4, 5])])
def test_rare_thin_holes_are_hidden_in_two_windows(dots, windows):
    """A speck or two beside a cloud, 0.4 % of the hole pixels, in those that are looked at first; 4 % in all."""
    hole = np.zeros((1, *SHAPE), bool)
    hole[0] = np.hypot(*np.meshgrid(np.arange(96) - 30, np.arange(96) - 30, indexing="ij")) < 12.5
    hole[0, 60 : 60 + 1, 2 : 2 + 4 * dots : 4] = True
    sizes = [np.bincount(label(one.hidden[0])[0].ravel())[1:] for one in _placements(hole)]
    assert [k for k, one in enumerate(sizes) if one.min() == 1] == windows
    assert all(one.max() > 100 for one in sizes)


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


def test_real_holes_are_filled_only_where_a_test_leaves_them():
    """What is filled again in every test of a window is not filled before."""
    hole = np.zeros((1, *SHAPE), bool)
    hole[0, 40:60, 40:60] = hole[0, 5:9, 5:9] = True
    filled = []

    def plain(window: Window) -> np.ndarray:
        filled.append(window.hole)
        return window.values

    shapes = collect([(hole, CLOSED)], (1.0, 1.0))
    placed = place(lambda _: (_seen(hole), ()), [Box.whole(SHAPE)] * 2, shapes, plain, 2)
    assert len(filled) == 1
    assert np.array_equal(filled[0], np.any([hole & ~one.concerned for one in placed], axis=0))
    assert filled[0].sum() < hole.sum()


class Script:
    """Random numbers that are told beforehand: first pixels of shapes, one after the other; nothing is flipped."""

    def __init__(self, *starts: tuple[int, int]) -> None:
        self.left = [n for start in starts for n in start]

    def random(self) -> float:
        """Return what flips nothing."""
        return 1.0

    def integers(self, _: int) -> int:
        """Return the next number, 0 at the end."""
        return self.left.pop(0) if self.left else 0


def _seen(hole: np.ndarray) -> Window:
    """Return a window without texture."""
    return Window(values=np.zeros(hole.shape, np.float32), valid=~hole, hole=hole, spacing=(1.0, 1.0))


def _placed(hole: np.ndarray, n: int = 4) -> list[Placement]:
    """Place the holes `(c, y, x)` of an image without texture in itself."""
    window, box = _seen(hole), Box.whole(hole.shape[1:])
    shapes = collect([(hole, CLOSED)], (1.0, 1.0))
    return place(lambda _: (window, ()), [box] * n, shapes, lambda plain: plain.values, seed=0)


def _block(height: int, width: int) -> Shape:
    return Shape(mask=np.ones((1, height, width), bool), edge=INSIDE)


_CLEAR = np.broadcast_to(np.arange(40) >= 22, (1, 10, 40))


def _half_lost() -> Window:
    """Return a window whose first twenty columns of forty are a hole; columns from 22 on are clear of it (`_CLEAR`)."""
    hole = np.zeros((1, 10, 40), bool)
    hole[..., :20] = True
    return _seen(hole)


@pytest.mark.parametrize(("start", "clear"), [(13, False), (14, True)])
def test_a_wide_hole_lies_mostly_on_observed_pixels(start, clear):
    """Of ten columns four on clear ground are too few, five are not; what falls into the real hole is left out.

    The script counts from 3: so far from the window's ends a wide hole begins.
    """
    window = _half_lost()
    laid = _lay(_block(10, 10), window.valid, _CLEAR, CLOSED, Script(*[(0, start)] * 99))
    assert (laid is not None) == clear
    assert laid is None or laid.any(axis=(0, 1)).nonzero()[0].tolist() == list(range(20, start + 13))


@pytest.mark.parametrize(("tries", "found"), [(16, True), (17, False)])
def test_sixteen_places_are_tried_for_a_wide_hole(tries, found):
    """A place that comes up last is found; then the shape is given up."""
    window = _half_lost()
    script = Script(*[(0, 0)] * (tries - 1), (0, 25))
    assert (_lay(_block(10, 10), window.valid, _CLEAR, CLOSED, script) is not None) == found


def test_wide_holes_are_hidden_until_an_eighth_of_the_window_is():
    """The first one beyond 12 % of the observed pixels is the last."""
    hole = np.zeros((1, 128, 128), bool)
    hole[0, 60:80, 60:80] = True
    for one in _placed(hole):
        observed = one.hidden.sum() + one.task.window.valid.sum()
        assert 0.12 * observed < one.hidden.sum() <= 0.12 * observed + 400


def test_a_dozen_small_wide_holes_are_hidden():
    """Small ones do not fill a window: after twelve it has seen enough."""
    hole = np.zeros((1, 128, 128), bool)
    hole[0, 60:66, 60:66] = True
    assert {int(one.hidden.sum()) for one in _placed(hole)} == {12 * 36}


@pytest.mark.parametrize(("columns", "tested"), [(37, True), (38, False)])
def test_no_wide_hole_hides_most_of_what_is_observed(columns, tested):
    """37 columns of a hundred leave 63, of which they are less than 60 %; 38 are more."""
    hole = np.zeros((1, 100, 100), bool)
    hole[..., :columns] = True
    assert bool(_placed(hole)) == tested


def test_thin_holes_hide_an_eighth_of_the_window_at_most():
    """Lines are laid until half of 12 % of the observed pixels are hidden, and never more than the whole of it."""
    hole = np.zeros((1, 128, 128), bool)
    hole[0, 3::6] = True
    for one in _placed(hole):
        observed = one.hidden.sum() + one.task.window.valid.sum()
        assert 0.08 * observed < one.hidden.sum() <= 0.12 * observed


def test_scattered_dead_pixels_are_laid_a_few_times():
    """Ten dead pixels never fill a window: after sixteen times, once more ends it if 64 are hidden."""
    hole = np.zeros((1, 128, 128), bool)
    hole[0, np.arange(10) * 12 + 3, np.arange(10) * 7 % 120] = True
    for one in _placed(hole):
        assert 160 < one.hidden.sum() <= 170


def test_single_dead_pixels_are_laid_until_64_are_hidden():
    """So many are needed to count on."""
    hole = np.zeros((1, 128, 128), bool)
    hole[0, 5, 7] = True
    assert {int(one.hidden.sum()) for one in _placed(hole)} == {64}


def test_a_thin_pattern_is_given_up_at_last(monkeypatch):
    """One that finds no observed pixel is laid 256 times."""
    laid = []

    def nowhere(pattern: np.ndarray, full: tuple[int, ...], _: object) -> np.ndarray:
        laid.append(pattern)
        return np.zeros(full, bool)

    monkeypatch.setattr(placing, "_rolled", nowhere)
    hole = np.zeros((1, 32, 32), bool)
    hole[0, 5, 7] = True
    assert not _placed(hole, n=1)
    assert len(laid) == 256


def test_windows_with_few_hidden_pixels_are_left_out():
    """A hole of 64 pixels is tested where only one fits, one of 63 is not."""
    for pixels, tested in ((64, True), (63, False)):
        hole = np.zeros((1, 16, 24), bool)
        hole[0, 4:12, 1:9] = True
        window = _seen(hole)
        shape = Shape(mask=np.ones((1, 8, 8), bool), edge=INSIDE)
        shape.mask[0, 0, 0] = pixels == 64
        shapes = Shapes(deep=(shape,), thin=(), depth=4.0, thin_distance=1.0)
        placed = place(lambda _, window=window: (window, ()), [Box.whole((16, 24))] * 6, shapes, lambda w: w.values, 0)
        assert bool(placed) == tested


def test_holes_whose_rims_have_no_room_are_tested_without_them():
    """A cloud with doubted pixels all around fits nowhere: it is hidden as the mask has it; else with them."""
    hole = np.zeros((1, *SHAPE), bool)
    hole[0, :, 40:] = True
    bare = Shape(mask=np.ones((1, 10, 10), bool), edge=INSIDE)
    for size, window, fits in ((90, _seen(hole), False), (40, _seen(np.zeros_like(hole)), True)):
        rimmed = Shape(mask=np.ones((1, size, size), bool), edge=INSIDE)
        shapes = Shapes(deep=(rimmed,), thin=(), depth=15.0, thin_distance=1.0)
        alone, both = (
            placing.hide(window, some, np.random.default_rng(0)) for some in (shapes, replace(shapes, bare=(bare,)))
        )
        assert alone.any() == fits
        assert both.any()
        assert np.array_equal(alone, both) == fits


def test_only_trusted_pixels_are_hidden_and_scored():
    """Doubted ones are holes of a test window, so they are never hidden; hazy ones are true without their haze."""
    states = np.full((1, *SHAPE), KEEP, np.uint8)
    states[0, 30:60, 30:60], states[0, 38:50, 38:50], states[0, 70:, :] = DOUBT, FILL, HAZY
    values = smooth((2, *SHAPE), "float32")
    image: Any = SimpleNamespace(spacing=(1.0, 1.0), shape=SHAPE, n_state=1)
    pixels = Pixels(image=image, box=Box.whole(SHAPE), values=values, states=states, guides=())
    shapes = collect([(states == FILL, CLOSED)], (1.0, 1.0))
    placed = place(pixels.window, [Box.whole(SHAPE)] * 6, shapes, FillSpec("nearest"), 0)
    assert len(placed) == 6
    hidden = np.any([one.hidden for one in placed], axis=0)
    assert not hidden[:, (states == DOUBT)[0]].any()
    assert hidden[:, (states == HAZY)[0]].any()
    assert all(np.array_equal(one.truth[one.hidden], values[one.hidden]) for one in placed)


@pytest.mark.parametrize(("rows", "apart"), [(75, True), (77, False)])
def test_channels_are_hidden_apart_while_there_is_room(rows, apart):
    """Dead lines of three channels: on three quarters of the rows there is still room for those that have none.

    Where more have a hole in some channel, lines are hidden where another channel has one.
    """
    hole = np.zeros((3, 100, 64), bool)
    for row in range(rows):
        hole[row % 3, (row * 37) % 100] = True
    shared = sum(int((one.hidden & hole.any(axis=0)).sum()) for one in _placed(hole))
    assert (shared == 0) == apart


@pytest.mark.parametrize(
    ("gap", "length", "kept"), [(3, 64, False), (4, 64, True), (3, 29, True), (3, 30, False), (1, 30, False)]
)
def test_hidden_lines_keep_clear_of_lost_ones(gap, length, kept, monkeypatch):
    """Three steps where another line can be hidden instead; short pieces may lie anywhere."""
    hole = np.zeros((1, 64, 64), bool)
    hole[0, 20] = True
    near = np.zeros(hole.shape, bool)
    near[0, 20 + gap, :length] = True
    pattern = near.copy()
    pattern[0, 40:57:4] = True
    monkeypatch.setattr(placing, "_rolled", lambda *_: pattern)
    (one, *_) = _placed(hole)
    assert one.hidden[0, 40:57:4].all()
    assert one.hidden[near].all() if kept else not one.hidden[near].any()


def test_hidden_lines_lie_apart_and_have_lines_on_either_side():
    """A lost line among sixty: none is hidden within three lines of it, of another one or of the window's ends."""
    hole = np.zeros((1, 60, 60), bool)
    hole[0, 24] = True
    for one in _placed(hole):
        hidden = one.hidden[0].all(axis=1).nonzero()[0]
        assert one.hidden.sum() == hidden.size * 60
        assert np.diff([-1, *sorted([*hidden, 24]), 60]).min() > 3


def test_wide_holes_keep_clear_of_the_window_s_ends():
    """Nothing is known of what lies beyond, whereas the real hole has observed pixels all around."""
    hole = np.zeros((1, 64, 64), bool)
    hole[0, 30:38, 30:38] = True
    for one in _placed(hole):
        rows, columns = one.hidden[0].nonzero()
        assert min(rows.min(), columns.min()) >= 3
        assert max(rows.max(), columns.max()) < 61


def test_lost_slices_are_hidden_beside_what_all_volumes_lost():
    """An artefact in all volumes of a series has specks around it: they are no test of two slices that one volume lost.

    One pair of slices is hidden in a window, whole but for what the artefact hides; the other volumes are there.
    """
    shape = (20, 40, 40)
    hole = np.zeros((3, *shape), bool)
    hole[:, 8:15, 10:18, 28:36] = hole[:, 11, 4:7, 34] = hole[:, 10, 20, 20:22] = True
    hole[1, 12:14] = True
    values = smooth((3, *shape), "float32")
    window = Window(values=np.where(hole, 0, values), valid=~hole, hole=hole, spacing=(2.0, 1.0, 1.0))
    shapes = collect([(hole, ((True, True),) * 3)], window.spacing)
    placed = place(lambda _: (window, ()), [Box.whole(shape)] * 6, shapes, FillSpec("nearest"), 0)
    alone = [one.hidden[1] & ~one.hidden[[0, 2]].any(axis=0) for one in placed]
    slices = [int((one.mean(axis=(1, 2)) > 0.6).sum()) for one in alone]
    assert len(placed) == 6
    assert set(slices) <= {1, 2}
    assert slices.count(2) >= 4


def test_lost_slices_are_hidden_where_the_organ_is():
    """Four of sixteen slices of an organ are lost: empty ones beyond it are farther from them, but tell nothing."""
    shape = (27, 24, 24)
    values = smooth((1, *shape), "float32")
    values[:, :5] = values[:, 21:] = 0
    values[:, :, :6] = values[..., 18:] = 0
    hole = np.zeros((1, *shape), bool)
    hole[:, [7, 12, 13, 18]] = True
    window = Window(values=np.where(hole, 0, values), valid=~hole, hole=hole, spacing=(6.0, 1.0, 1.0))
    shapes = collect([(hole, ((True, True),) * 3)], window.spacing)
    placed = place(lambda _: (window, ()), [Box.whole(shape)] * 6, shapes, FillSpec("nearest"), 0)
    hidden = {z for one in placed for z in np.flatnonzero(one.hidden[0].all(axis=(1, 2)))}
    assert len(placed) == 6
    assert hidden
    # of a pair one slice may be empty
    assert hidden <= set(range(4, 22))


def test_what_a_window_cuts_from_a_blob_is_no_slice():
    """It is hidden wherever there is room, as flat as it may be there; a slice must show something."""
    labels = np.zeros((20, 24, 24), int)
    labels[2, 3:14, 3:14], labels[10], labels[15, :, :11] = 1, 2, 3
    assert lie_across(labels).tolist() == [False, True, False]
    assert not lie_across((labels[:, 10] > 0).astype(int)).any()
    flat = np.zeros((1, *labels.shape), np.float32)
    flat[:, 17:] = 1
    seen = np.ones(flat.shape, bool)
    window = Window(values=flat, valid=seen, hole=~seen, spacing=(1.0,) * 3)
    assert tells(window, labels, np.ones(3, bool)).tolist() == [True, False, True]
    sides = ((True, True),) * 3
    reaches = [steps_apart(collect([((labels == k)[None], sides)], window.spacing)) for k in (1, 2)]
    assert reaches == [(6, 3), (6, 3, 1)]


def _dates(n: int, land: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` dates, each with a wide hole of its own, and where they have a value: right of `land` columns."""
    holes = np.zeros((n, *SHAPE), bool)
    for k in range(n):
        holes[k, 12 * k : 12 * k + 14, 50:] = True
    return holes, np.broadcast_to(np.arange(SHAPE[1]) >= land, holes.shape)


def _hidden_in_dates(n: int, land: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the holes of some dates and what is hidden in them, `(n, *SHAPE)`."""
    holes, content = _dates(n, land)
    window = Window(values=smooth(holes.shape, "float32"), valid=content & ~holes, hole=holes, spacing=(1.0, 1.0))
    return holes, hide(window, collect([(holes, CLOSED)], (1.0, 1.0)), np.random.default_rng(0))


def test_wide_holes_of_dates_without_a_common_place_are_hidden_whole():
    """Dates leave too little of a sea clear together: holes lie where other dates have theirs, as real ones do."""
    holes, hidden = _hidden_in_dates(7, land=40)
    deepest = [distance_transform_edt(plane).max() for plane in hidden if plane.any()]
    assert max(deepest) > 6
    assert hidden.any(axis=(1, 2)).sum() > 1
    assert (hidden & np.roll(holes, 1, axis=0)).any() or (hidden & holes.any(axis=0)).any()
    assert not (hidden & holes).any()


def test_land_is_no_clear_place_for_holes_of_dates():
    """The same holes leave most of the image clear where all of it has values, and are hidden where all dates are."""
    holes, hidden = _hidden_in_dates(7, land=0)
    assert hidden.any()
    assert not (hidden & holes.any(axis=0)).any()


def test_a_hole_of_one_channel_is_cut_from_what_all_make_together():
    """Only one piece of one channel is taken, with the edges of the image that it touches itself."""
    mask = np.zeros((2, 10, 20), bool)
    mask[0, :4, 2:6] = mask[0, 7:, 10:14] = mask[1, 3:8, 5:12] = True
    edge = ((True, True), (True, False))
    found = [of_one_channel(Shape(mask=mask, edge=edge), np.random.default_rng(seed)) for seed in range(30)]
    seen = {(one.mask.shape[1:], tuple(one.mask.any(axis=(1, 2))), one.edge[0]) for one in found}
    assert seen == {
        ((4, 4), (True, False), (True, False)),
        ((3, 4), (True, False), (False, True)),
        ((5, 7), (False, True), (False, False)),
    }
    assert all(one.mask.any(axis=0).all() and one.edge[1] == (False, False) for one in found)
