"""Where the self-test looks, and where it takes hole shapes from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.geometry.box import Box
from pipeline.image.scene import Clock, open_scene
from pipeline.image.window import OpenImage
from pipeline.masks.base import DOUBT, FILL, KEEP
from pipeline.selftest import windows
from pipeline.selftest.setup import self_test
from tests.helpers import order_of, run_config, smooth, write_image

CELL = 16


def _scene(hole: np.ndarray, patch: int) -> Any:
    """Return what windows need to know of an image with these holes."""
    cells = [n // CELL for n in hole.shape]
    counts = hole.reshape(cells[0], CELL, cells[1], CELL).sum(axis=(1, 3))
    return SimpleNamespace(
        lattice=SimpleNamespace(patch=(patch, patch)),
        source=SimpleNamespace(space=SimpleNamespace(shape=hole.shape, ndim=2)),
        ndim=2,
        spacing=(1.0, 1.0),
        image=SimpleNamespace(holes=lambda box: hole[None][box.at()], holes_with_rims=lambda box: hole[None][box.at()]),
        states=SimpleNamespace(cell=CELL, hole_cells=counts, kept_cells=CELL**2 - counts, doubted=0),
    )


def _dotted(n: int, step: int = 64) -> np.ndarray:
    """Return holes of one pixel, one in every tile."""
    hole = np.zeros((n, n), bool)
    hole[step // 2 :: step, step // 2 :: step] = True
    return hole


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("depth", "edge"), [(1.0, 128), (9.1, 128), (9.2, 192), (18.2, 256), (99.0, 256)])
def test_windows_are_as_wide_as_holes_ask_for(depth, edge):
    """Fourteen times their depth in steps of 64 pixels, never wider than 256 or a patch."""
    for patch in (512, 256, 160):
        boxes = windows.test_windows(_scene(_dotted(1024), patch), depth, _rng())
        assert {box.shape for box in boxes} == {(min(edge, patch),) * 2}


def test_six_windows_are_tested():
    """Different ones in a large image, the same ones several times in a small one, none where nothing is observed."""
    many = windows.test_windows(_scene(_dotted(1024), 512), 1.0, _rng())
    assert len(many) == len(set(many)) == 6
    few = windows.test_windows(_scene(_dotted(128), 128), 1.0, _rng())
    assert len(few) == 6
    assert len(set(few)) == 1
    assert not windows.test_windows(_scene(np.ones((128, 128), bool), 128), 1.0, _rng())


def _volume(values: np.ndarray, lost: np.ndarray) -> Any:
    """Return what windows need to know of a volume `(1, 160, 160, 160)`."""
    cells = lost[0].reshape(*(10, CELL) * 3).sum(axis=(1, 3, 5))

    def window(box: Any) -> Any:
        return SimpleNamespace(values=np.where(lost, 0, values)[box.at()], valid=~lost[box.at()]), ()

    return SimpleNamespace(
        lattice=SimpleNamespace(patch=(40, 40, 40)),
        source=SimpleNamespace(space=SimpleNamespace(shape=values.shape[1:], ndim=3)),
        ndim=3,
        spacing=(1.0, 1.0, 1.0),
        values=SimpleNamespace(spread=np.array([4.0])),
        states=SimpleNamespace(cell=CELL, hole_cells=cells, kept_cells=CELL**3 - cells),
        window=window,
    )


def test_windows_of_a_volume_lie_where_there_is_something():
    """Of windows in air with a body of noise in one corner most see the body, whatever was lost in the air."""
    values = np.full((1, 160, 160, 160), -50, np.float32)
    values[0, :80, :80, :80] = _rng().standard_normal((80, 80, 80))
    lost = np.zeros(values.shape, bool)
    lost[:, :, :, 100] = True
    scene = _volume(values, lost)
    seen = [float(values[box.at()].std()) > 0 for box in windows.test_windows(scene, 1.0, _rng())]
    assert len(seen) == 6
    assert sum(seen) >= 4


def test_windows_of_a_volume_lie_where_its_holes_are():
    """What is told of real holes is told from those seen: the large one, in a few of the windows, not the dot."""
    values = _rng().standard_normal((1, 160, 160, 160)).astype(np.float32)
    lost = np.zeros(values.shape, bool)
    lost[:, 70:90, 70:90, 70:90] = lost[:, 3, 3, 3] = True
    boxes = windows.test_windows(_volume(values, lost), 1.0, _rng())
    assert sum(bool(lost[box.at()].sum() > 1) for box in boxes) >= 4


def test_hole_shapes_reach_over_doubted_pixels():
    """A ring that a fill must not learn from makes a hole wider; doubted pixels elsewhere are no part of any."""
    state = np.full((1, 32, 32), KEEP, np.uint8)
    state[0, 4:20, 4:20], state[0, 8:16, 8:16], state[0, 28:31, 28:31] = DOUBT, FILL, DOUBT
    image: Any = SimpleNamespace(states=lambda box: state[box.at()])
    expected = np.zeros((1, 30, 30), bool)
    expected[0, 2:18, 2:18] = True
    np.testing.assert_array_equal(OpenImage.holes_with_rims(image, Box((2, 2), (32, 32))), expected)


def test_shapes_are_known_without_their_doubted_rims(monkeypatch):
    """Where pixels are doubted, holes are collected as masks have them, too; elsewhere nothing more is drawn."""
    hole = np.zeros((64, 64), bool)
    hole[20:30, 20:30] = True
    wide = np.zeros_like(hole)
    wide[10:40, 10:40] = True
    scene = _scene(hole, 64)
    assert windows.hole_shapes(scene, _rng()).bare == ()
    scene.states.doubted = 800
    monkeypatch.setattr(scene.image, "holes_with_rims", lambda box: wide[None][box.at()])
    shapes = windows.hole_shapes(scene, _rng())
    assert [shape.mask.shape for shape in shapes.deep] == [(1, 30, 30)]
    assert [shape.mask.shape for shape in shapes.bare] == [(1, 10, 10)]


def test_shapes_are_taken_from_a_dozen_windows():
    """As many as have holes where these are fewer."""
    assert len(windows.hole_shapes(_scene(_dotted(512), 64), _rng()).thin) == 12
    one = np.zeros((512, 512), bool)
    one[7, 7] = True
    assert len(windows.hole_shapes(_scene(one, 64), _rng()).thin) == 1


@pytest.mark.parametrize(("edge", "looked_at"), [(520, range(4096, 4097)), (528, range(4096, 4109))])
def test_large_images_are_looked_at_in_4096_windows(edge, looked_at):
    """Of more a random choice is, and in any case up to twelve with holes."""
    hole = np.zeros((528, 528), bool)
    hole[300, 300] = True
    scene = _scene(hole, 16)
    scene.source.space.shape = (edge, edge)
    boxes, holes, kept = windows.candidate_windows(scene, (16, 16), _rng())
    assert len(boxes) in looked_at
    assert len(boxes) == len(set(boxes)) == len(holes) == len(kept)
    assert holes.any()


@pytest.mark.parametrize("n_planes", [1, 3])
def test_one_hole_in_a_large_image_is_found(tmp_path, n_planes):
    """Of more windows than are looked at, those with holes are among them; a hole beside a window is no pattern."""
    values = smooth((3, 1600, 1600), "uint8")
    hole = np.zeros((n_planes, 1600, 1600), np.uint8)
    hole[0, 697:702, 697:702] = 1
    image = write_image(tmp_path / "image.tif", values)
    mask = write_image(tmp_path / "mask.tif", hole)
    config = run_config(tmp_path, image, mask, patch={"size": 16, "overlap": 4}, model={"kind": "nearest"})
    order = order_of(config)
    scene, _ = open_scene(order.job, Clock())
    verdict = self_test(scene, None)
    assert verdict.placements >= 2
    assert verdict.hidden_pixels >= 64
    assert not verdict.note
