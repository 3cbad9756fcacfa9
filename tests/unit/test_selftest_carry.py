"""What a contaminated rim carries into holes is what the estimate owes to it, by depth; a clean rim carries nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from pipeline.fills.base import FillSpec, Window
from pipeline.image.scene import Clock, Scene, open_scene
from pipeline.numerics.situation import Curve
from pipeline.restore.recipe import Recipe, narrowed
from pipeline.selftest import setup
from pipeline.selftest.carry import Carry, carried
from pipeline.selftest.rim import Rim
from pipeline.selftest.rings import pooled
from pipeline.selftest.setup import start_recipe
from pipeline.selftest.verdict import Verdict
from pipeline.synthetic.noise import fractal
from tests.helpers import order_of, run_config, write_image

SPLINE = FillSpec("tension", {"t": 0.5})


def _window(height: float, width: int = 2, size: int = 160, apart: int = 40) -> Window:
    """Return texture of deviation 10 with discs of holes, and a rim `width` px wide that is `height` too bright."""
    rng = np.random.default_rng(4)
    values = np.stack([fractal(rng, (size, size), slope=1.8, longest=40, shortest=2) for _ in range(2)])
    values = 100 + 10 * (values - values.mean()) / values.std()
    grid = np.ogrid[:size, :size]
    hole = np.zeros((size, size), bool)
    for centre in np.ndindex(size // apart, size // apart):
        hole |= sum((g - apart * (c + 0.5)) ** 2 for g, c in zip(grid, centre, strict=True)) < 7**2
    distance = distance_transform_edt(~hole)
    # the second channel is contaminated half as much
    rim = np.where((distance > 0) & (distance <= width), height, 0.0) * np.array([1.0, 0.5])[:, None, None]
    valid = np.broadcast_to(~hole, values.shape)
    return Window(
        values=np.where(valid, values + rim, 0).astype(np.float32), valid=valid, hole=~valid, spacing=(1.0, 1.0)
    )


@pytest.mark.parametrize("height", [30.0, -60.0])
def test_what_a_rim_carries_is_what_the_estimate_owes_to_it(height):
    """Of the change that the spoilt rim makes in the holes, known here, it is told within a third at each depth."""
    spoilt, clean = _window(height), _window(0.0)
    change = SPLINE(spoilt) - SPLINE(clean)
    depth = distance_transform_edt(spoilt.hole[0])
    told = carried([spoilt] * 2, SPLINE, 2, 1, 0)
    for curve, own, mean in zip(told.by_depth, change, told.mean, strict=True):
        for low, high in ((0, 1.5), (1.5, 3), (3, 7)):
            some = (depth > low) & (depth <= high)
            true, said = (math.sqrt(float(np.mean(np.square(v[some])))) for v in (own, curve(depth)))
            assert said == pytest.approx(true, rel=0.33)
        assert mean == pytest.approx(math.sqrt(float(np.mean(np.square(own[depth > 0])))), rel=0.33)


def test_a_clean_rim_carries_next_to_nothing():
    """Estimates change as much at clean places when rings are hidden: that is taken off."""
    told = carried([_window(0.0)] * 2, SPLINE, 2, 1, 0)
    assert max(told.mean) < 4


def test_lost_slices_do_not_count():
    """They have no rim: what a ball's rim carries into it is the same beside one."""
    rng = np.random.default_rng(0)
    ball = np.broadcast_to(sum((g - 14) ** 2 for g in np.ogrid[:44, :44, :44]) < 5.5**2, (1, 44, 44, 44))
    values = rng.normal(100, 1, ball.shape) + np.where(distance_transform_edt(~ball[0]) <= 1.5, 50, 0)
    lost = ball.copy()
    lost[:, 34] = True
    told = []
    for hole in (ball, lost):
        window = Window(values=np.where(hole, 0, values).astype(np.float32), valid=~hole, hole=hole, spacing=(1.0,) * 3)
        told.append(carried([window] * 2, FillSpec("nearest"), 2, 1, 0).mean[0])
    assert told[0] > 30
    assert told[1] == pytest.approx(told[0], rel=0.1)


def test_it_never_falls_with_depth_and_depths_are_pixels():
    """On cells of two pixels, of which three are spoilt in part, the first depth is two and as much is carried."""
    spoilt = _window(30.0, width=4, size=160, apart=53)
    one, two = (carried([pooled(spoilt, step)] * 2, SPLINE, width, step, 0) for step, width in ((1, 4), (2, 3)))
    for told in (one, two):
        assert all(list(curve.values) == sorted(curve.values) for curve in told.by_depth)
    assert min(one.by_depth[0].knots) == 1
    assert min(two.by_depth[0].knots) == 2
    assert two.mean[0] == pytest.approx(one.mean[0], rel=0.2)


def test_cells_are_means_of_what_is_observed_in_them():
    """A cell is a hole where nothing is observed; ragged last ones hold what is there."""
    values = np.arange(15, dtype=np.float32).reshape(1, 3, 5)
    valid = np.ones(values.shape, bool)
    valid[0, :2, :2] = valid[0, 0, 2] = False
    cells = pooled(Window(values=values, valid=valid, hole=~valid, spacing=(1.0, 1.0)), 2)
    assert cells.values.tolist() == [[[0, np.mean([3, 7, 8]), 6.5], [10.5, 12.5, 14]]]
    assert cells.hole.tolist() == [[[True, False, False], [False] * 3]]
    assert (cells.valid == ~cells.hole).all()


def test_what_cannot_be_told_is_empty():
    """No window, or a hole that leaves no room for the same shape elsewhere."""
    assert carried([], SPLINE, 2, 1, 0) == Carry()
    hole = np.ones((1, 40, 40), bool)
    hole[:, :3] = False
    window = Window(values=np.zeros(hole.shape, np.float32), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    assert carried([window], SPLINE, 2, 1, 0) == Carry()


def _scene(folder, window: Window) -> Scene:
    values = np.where(window.valid, np.rint(window.values), 0).astype(np.uint16)
    image = write_image(folder / "image.tif", values)
    mask = write_image(folder / "mask.tif", window.hole[:1].astype(np.uint8))
    scene, _ = open_scene(order_of(run_config(folder, image, mask, patch={"size": 256, "overlap": 32})).job, Clock())
    return scene


def test_bars_and_expected_error_count_a_contaminated_rim(tmp_path, monkeypatch):
    """Three of six rings are spoilt: what they carry is in the recipe, the error to expect and the sentence.

    The share of hidden pixels that the 90 % interval held is told of the bars with it.
    """
    scene = _scene(tmp_path, _window(60.0, 3))
    found = setup.self_test(scene, None)
    assert (found.rim.wider_px, found.rim.ring_px, found.rim.open) == (3, 1, False)
    assert found.rim.carried[0] > 30
    assert found.recipe.rim[0](np.array([3.0])) > 30
    said = found.rim.sentence(scene.source.space)
    assert "up to 3 px (" in said
    assert "error bars are wider for it" in said
    monkeypatch.setattr(setup, "_rim", lambda *_: (Rim(), Carry()))
    clean = setup.self_test(scene, None)
    both = zip(clean.predicted_rmse, found.rim.carried, strict=True)
    assert found.predicted_rmse == tuple(math.hypot(*pair) for pair in both)
    assert replace(found.recipe, rim=()) == clean.recipe
    assert clean.coverage_90 < 0.95 < found.coverage_90


def test_wider_rings_are_looked_at_where_all_are_contaminated(tmp_path):
    """A halo that fades over more than six pixels: rings of two pixels and more say how far it reaches."""
    window = _window(0.0, size=252, apart=63)
    away = distance_transform_edt(~window.hole[0])
    halo = np.where(away > 0, 100 * np.exp(-away / 4), 0)
    scene = _scene(tmp_path, replace(window, values=(window.values + halo).astype(np.float32)))
    rim, carry = setup._rim(scene, start_recipe(scene), np.random.default_rng(0))
    assert rim.wider_px >= 8
    assert rim.ring_px > 1
    assert min(carry.mean) > 30


def test_a_clean_rim_changes_nothing(tmp_path):
    """Recipe and error to expect stay those of the self-test."""
    scene = _scene(tmp_path, _window(0.0))
    rim, carry = setup._rim(scene, start_recipe(scene), np.random.default_rng(0))
    assert rim.tested_px
    verdict = Verdict(recipe=start_recipe(scene), predicted_rmse=(3.0, 4.0))
    assert carry == Carry()
    assert setup.with_rim(verdict, rim, carry) == replace(verdict, rim=rim)


def test_bars_that_could_not_be_widened_are_said_to_be_so(tmp_path, monkeypatch):
    """A rim that is contaminated, and nothing told of what it carries: a warning, and bars as they were."""
    scene = _scene(tmp_path, _window(0.0))
    monkeypatch.setattr(setup, "_rim", lambda *_: (Rim(tested_px=3, wider_px=3), Carry()))
    found = setup.self_test(scene, None)
    assert found.recipe.rim == ()
    assert "3 px (" in found.rim.sentence(scene.source.space)
    assert "perhaps farther" in found.rim.sentence(scene.source.space)
    assert "error bars do not count it" in found.rim.sentence(scene.source.space)


def test_wider_rings_add_to_what_narrow_ones_found():
    """How far was looked always counts, what was found only where it lies farther."""
    near = Rim(tested_px=3, wider_px=3, excess=(9.0, 8.0, 7.0))
    assert near.farther(Rim(tested_px=3, wider_px=1, excess=(9.0, 1.0, 1.0)), 2) == replace(near, tested_px=6)
    far = Rim(tested_px=3, wider_px=2, excess=(9.0, 8.0, 1.0))
    assert near.farther(far, 4) == replace(far, tested_px=12, wider_px=8, ring_px=4)


def test_the_curve_of_a_channel_is_its_own():
    """A recipe of some channels has the curves of those."""
    curves = tuple(Curve(knots=(1.0,), values=(float(k),)) for k in range(3))
    recipe = Recipe(fill=SPLINE, floor=(1.0,) * 3, typical=(1.0,) * 3, low=(0.0,) * 3, high=(9.0,) * 3, rim=curves)
    assert narrowed(recipe, [2, 0]).rim == (curves[2], curves[0])
    assert narrowed(replace(recipe, rim=()), [2, 0]).rim == ()
