"""What an evaluation hides, what each method makes of it, and what is counted, against hand-made cases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.image.scene import Clock, Scene, open_scene
from pipeline.masks.base import KEEP
from pipeline.numerics.situation import Curve
from pipeline.restore.estimate import estimate
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Task
from pipeline.selftest.evaluation import rounds as rounds_of
from pipeline.selftest.evaluation.families import TITLES, families
from pipeline.selftest.evaluation.hiding import Holdout, hiding, holdouts
from pipeline.selftest.evaluation.methods import RUN, restorations
from pipeline.selftest.evaluation.rounds import Round, rounds
from pipeline.selftest.evaluation.scoring import Counted, Errors, parts_of
from pipeline.selftest.evaluation.table import table
from pipeline.selftest.evaluation.words import sentence
from pipeline.selftest.setup import start_recipe
from pipeline.selftest.verdict import Verdict
from tests.helpers import blobs, order_of, run_config, smooth, write_image


def _scene(folder, shape: tuple[int, ...], suffix: str) -> Scene:
    image = write_image(folder / f"image{suffix}", smooth((1, *shape)))
    hole = write_image(folder / f"holes{suffix}", blobs(shape, n=2, radius=4)[None])
    config = run_config(folder, image, hole, patch={"size": 48})
    return open_scene(order_of(config).job, Clock())[0]


@pytest.fixture(scope="module", params=[(".tif", (64, 72)), (".nii", (28, 30, 32))], ids=["raster", "volume"])
def scene(request, tmp_path_factory) -> Iterator[Scene]:
    """An opened image with two holes."""
    suffix, shape = request.param
    return _scene(tmp_path_factory.mktemp("scene"), shape, suffix)


def test_families_hide_observed_pixels_and_show_them_again(scene):
    """All families have their holes, in windows that do not overlap; counts are those of the states; nothing stays."""
    before = np.asarray(scene.image.state[:])
    found = families(scene, (), np.random.default_rng(0))
    assert [family.name for family in found] == list(TITLES[scene.ndim])
    for family in found:
        some = holdouts(scene, family, 2, np.random.default_rng(1))
        assert some, family.name
        for holdout in some:
            assert (before[holdout.box.at()][holdout.hidden] == KEEP).all()
            assert (holdout.scored <= np.broadcast_to(holdout.hidden, holdout.scored.shape)).all()
        assert all((a.box & b.box).empty for k, a in enumerate(some) for b in some[:k])
        with hiding(scene, some) as told:
            total = sum(int(holdout.hidden.sum()) for holdout in some)
            assert (np.asarray(scene.image.state[:]) != before).sum() == total
            assert told.states.holes == scene.states.holes + total
            assert told.states.kept_cells.sum() == told.states.kept == scene.states.kept - total
            assert not told.window(some[0].box)[0].valid[some[0].hidden].any()
        np.testing.assert_array_equal(np.asarray(scene.image.state[:]), before)


def test_states_come_back_after_an_error(scene):
    """Whatever happens while pixels are hidden."""
    before = np.asarray(scene.image.state[:])
    (family,) = families(scene, ("region",), np.random.default_rng(0))
    with pytest.raises(ZeroDivisionError), hiding(scene, holdouts(scene, family, 1, np.random.default_rng(1))):
        raise ZeroDivisionError
    np.testing.assert_array_equal(np.asarray(scene.image.state[:]), before)


def test_families_of_another_kind_are_refused(scene):
    """By name, with those that there are."""
    with pytest.raises(ConfigError, match=r"'moons' .*own"):
        families(scene, ("moons",), np.random.default_rng(0))


def test_a_run_is_what_a_block_would_make(scene):
    """Rounded as it would be stored; the fills are beside it."""
    recipe: Recipe = start_recipe(scene)
    box = Box((0,) * scene.ndim, tuple(min(24, n) for n in scene.shape))
    found = restorations(scene, recipe, None, box)
    window, guides = scene.window(box)
    (ours,) = estimate(recipe, None, [Task(window=window, guides=guides, patch=min(scene.lattice.patch))])
    np.testing.assert_array_equal(found[RUN].mean, np.rint(ours.mean))
    np.testing.assert_array_equal(found[RUN].sigma, ours.sigma)
    assert {"nearest", "harmonic"} <= set(found)
    assert found["nearest"].sigma is None


def test_what_is_hidden_has_no_contaminated_rim(scene, monkeypatch):
    """Bars are scored without what the rim of the mask carries: hidden pixels lie elsewhere."""
    spoilt = replace(start_recipe(scene), rim=(Curve(knots=(1.0,), values=(9.0,)),))
    seen = []

    def watched(told, recipe, *rest):
        seen.append(recipe.rim)
        return restorations(told, recipe, *rest)

    monkeypatch.setattr(rounds_of, "self_test", lambda *_: Verdict(recipe=spoilt))
    monkeypatch.setattr(rounds_of, "restorations", watched)
    rounds(scene, None, list(TITLES[scene.ndim])[:1], [0], lambda _: None)
    assert set(seen) == {()}


def _holdout(hidden: np.ndarray, values: np.ndarray | None = None) -> Holdout:
    valid = np.ones((1, *hidden.shape), dtype=bool)
    values = np.zeros(valid.shape, np.float32) if values is None else values
    window = Window(values=values, valid=valid, hole=~valid, spacing=(1.0,) * hidden.ndim)
    return Holdout(box=Box.whole(hidden.shape), before=window, hidden=hidden[None], scored=hidden[None])


def test_wide_holes_stand_for_themselves_and_thin_ones_for_their_piece():
    """Two squares are two parts; dead pixels are as many as there are quarters of the window with some."""
    hidden = np.zeros((40, 40), dtype=bool)
    hidden[2:10, 2:10] = hidden[20:28, 20:28] = True
    labels, count = parts_of(_holdout(hidden))
    assert count == 2
    assert labels[0, 5, 5] != labels[0, 22, 22]
    hidden[:, 20:28] = True
    assert parts_of(_holdout(hidden))[1] == 5
    points = np.zeros((40, 40), dtype=bool)
    points[1:20:4, 1:20:4] = True
    labels, count = parts_of(_holdout(points))
    assert count == 4
    assert (np.bincount(labels.ravel())[1:] > 0).all()


def _errors(squares: list[float], pixels: float = 100.0) -> Errors:
    sums = np.asarray(squares)[:, None] * pixels
    zero = np.zeros_like(sums)
    return Errors(squares=sums, inside=np.full_like(sums, 0.9 * pixels), similar=zero, gradients=zero, angles=zero)


def _table(methods: dict[str, Errors]):
    parts = len(next(iter(methods.values())).squares)
    pixels, none = np.full((parts, 1), 100.0), np.zeros((parts, 1))
    total = Counted(pixels=pixels, centres=none, gradients=none, spectra=none, methods=methods)
    fills = [name for name in methods if name != RUN]
    return {row.method: row for row in table(total, fills, np.array([100.0]), 0)}


def test_scores_are_made_of_sums():
    """PSNR and error of a known mistake; what could not be counted is not known; holes made worse are counted."""
    rows = _table({RUN: _errors([1.0] * 9 + [9.0]), "good": _errors([2.0] * 10), "bad": _errors([100.0] * 10)})
    run = rows[RUN].scores
    assert run["psnr_db"].value == pytest.approx(10 * np.log10(1e4 / 1.8))
    assert run["gain_db"].value == pytest.approx(10 * np.log10(2.0 / 1.8))
    assert run["rmse_share"].value == pytest.approx(np.sqrt(1.8) / 100)
    assert rows["bad"].rmse == pytest.approx((10.0,))
    assert run["worse_share"].value == pytest.approx(0.1)
    assert rows["good"].scores["worse_share"].value == 0
    assert run["coverage_90"].value == pytest.approx(0.9)
    assert np.isnan([run["ssim"].value, run["sam_deg"].value, run["gradient_ratio"].value]).all()
    assert run["psnr_db"].low < run["psnr_db"].value < run["psnr_db"].high
    assert rows["good"].scores["psnr_db"].low == pytest.approx(rows["good"].scores["psnr_db"].high)


@pytest.mark.parametrize(
    ("run", "fill", "chosen", "said"),
    [
        ([1.0] * 10, [2.0] * 10, RUN, "use a run: in holes .* 3.01 dB"),
        ([2.0] * 10, [1.0] * 10, "fill", "use the fill fill .* 3.01 dB more than a run"),
        ([2.0, 2.0, 2.0, 1.0], [1.0, 2.0, 1.9, 1.9], RUN, "use a run: .* not surely better or worse"),
    ],
)
def test_the_advice_follows_the_scores(run, fill, chosen, said):
    """The run, unless another method is surely better."""
    rows = _table({RUN: _errors(run), "fill": _errors(fill)})
    assert [name for name, row in rows.items() if row.chosen] == [chosen]
    one = Round(family="own", title="holes like its own", rows=tuple(rows.values()), best_fill="fill")
    assert re.search(said, sentence([one, replace(one, family="points", title="points")]))


def test_a_network_alone_is_no_advice():
    """No config can ask for it, however good it looks."""
    methods = {RUN: _errors([2.0] * 10), "network t1": _errors([1.0] * 10), "fill": _errors([3.0] * 10)}
    pixels, none = np.full((10, 1), 100.0), np.zeros((10, 1))
    total = Counted(pixels=pixels, centres=none, gradients=none, spectra=none, methods=methods)
    assert [row.method for row in table(total, ["fill"], np.array([100.0]), 0) if row.chosen] == [RUN]


def test_where_nothing_could_be_hidden_nothing_is_advised():
    """In words, too."""
    assert "nothing can be said" in sentence([Round(family="own", title="holes like its own")])


def test_an_image_that_does_not_vary_needs_no_advice(tmp_path):
    """There is no range to measure errors by; nothing is made up."""
    image = write_image(tmp_path / "image.tif", np.full((1, 48, 48), 7, np.uint16))
    hole = write_image(tmp_path / "holes.tif", blobs((48, 48), n=2, radius=4)[None])
    flat = open_scene(order_of(run_config(tmp_path, image, hole)).job, Clock())[0]
    (one,) = rounds(flat, None, ["points"], [0], lambda _: None)
    assert np.isnan(one.rows[0].scores["psnr_db"].value)
    assert one.rows[0].rmse == (0.0,)
    assert "does not vary" in sentence([one])
