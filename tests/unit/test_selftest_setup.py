"""What the self-test starts from, and what it makes of an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.fills import tension
from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.image.scene import Clock, Scene, open_scene
from pipeline.image.window import OpenImage
from pipeline.numerics.calibration import STORED_OF_REFERENCES, Z90
from pipeline.numerics.solve import ROUGH, solve
from pipeline.restore.estimate import error_factor
from pipeline.restore.task import Contamination
from pipeline.selftest import judge, setup
from pipeline.selftest.carry import Carry
from pipeline.selftest.rim import Rim
from pipeline.selftest.samples import samples_of
from pipeline.selftest.setup import _limits, self_test, start_recipe
from tests.helpers import blobs, command, layer, order_of, pixels, run_config, smooth, stem_of, write_image


def tense(n: int, t: float, seed: int) -> NDArray[Any]:
    """Return a Gaussian field `(n, n, n)` float32 whose power falls with frequency as splines of tension `t` assume."""
    noise = np.fft.fftn(np.random.default_rng(seed).standard_normal((n, n, n)))
    square = sum((2 * np.pi * f) ** 2 for f in np.meshgrid(*[np.fft.fftfreq(n)] * 3, indexing="ij"))
    values = np.fft.ifftn(noise / np.sqrt(t * square**2 + (1 - t) * square + 1e-3)).real
    return (1000 + 200 * values / values.std()).astype(np.float32)


def test_wide_holes_of_a_grainy_volume_get_a_slacker_spline(tmp_path, monkeypatch):
    """The default is stiff; a file rougher than it assumes gets a slacker one, in steps, and thin holes their own.

    What is only compared is solved no more exactly than that needs.
    """
    asked = set()
    monkeypatch.setattr(tension, "solve", lambda *of, **how: (asked.add(how["tolerance"]), solve(*of, **how))[1])
    image, mask = tmp_path / "image.nii", tmp_path / "mask.nii"
    nibabel.save(nibabel.Nifti1Image(tense(48, 0.4, seed=1), np.eye(4)), image)
    nibabel.save(nibabel.Nifti1Image(blobs((48, 48, 48), n=3), np.eye(4)), mask)
    order = order_of(run_config(tmp_path, image, mask, patch={"size": 48, "overlap": 8}, model=None))
    scene, _ = open_scene(order.job, Clock())
    verdict = self_test(scene, None)
    gain = {row.method: row.gain_db for row in verdict.rows}
    assert verdict.recipe.fill.kind == "tension"
    assert verdict.recipe.fill.options["t"] < 0.95
    assert gain["tension t=0.5"] > gain["tension t=0.8"] > gain["tension t=0.95"]
    assert verdict.recipe.thin_fill != verdict.recipe.fill
    assert asked == {ROUGH}


def _opened(tmp_path: Path, kind: str | None, size: int = 96) -> Scene:
    """Return an image of 16 bits with one line lost, as it is when the self-test begins."""
    hole = np.zeros((1, size, size), np.uint8)
    hole[0, size // 2] = 1
    image = write_image(tmp_path / "image.tif", smooth((2, size, size)))
    mask = write_image(tmp_path / "mask.tif", hole)
    model = {"kind": kind} if kind else None
    scene, _ = open_scene(order_of(run_config(tmp_path, image, mask, model=model)).job, Clock())
    assert scene is not None
    return scene


def test_the_first_recipe_keeps_to_the_range_of_the_file(tmp_path):
    """Values may leave it by a twentieth of the robust range; the smallest scale is a hundredth of it."""
    scene = _opened(tmp_path, None)
    recipe, spread = start_recipe(scene), scene.values.spread
    margins = np.asarray(recipe.high) + np.asarray(scene.values.centre) - scene.values.high
    assert np.allclose(margins, 0.05 * spread)
    assert np.allclose(recipe.floor, 0.01 * spread)
    assert recipe.fills == (recipe.fill,) * 3
    assert recipe.network_weight == 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_nothing_is_written_beyond_an_end_where_values_pile_up(tmp_path, dtype):
    """Rain of 280 to 340, or none: a spline swings below zero at its edges, and no less than zero is written."""
    c, i, j = np.mgrid[:4, :96, :96]
    rain = np.where((i // 12 + j // 12) % 3, 300 + c / 7 + 20 * (1 + np.sin(i / 9) * np.cos(j / 7)), 0).astype(dtype)
    image = write_image(tmp_path / "image.tif", rain)
    mask = write_image(tmp_path / "mask.tif", blobs((96, 96), n=8)[np.newaxis])
    config = run_config(tmp_path, image, mask, model={"kind": "tension"})
    assert command("run", config).code == 0
    assert pixels(layer(tmp_path / "out" / stem_of(image), "restored")).min() == 0


def test_the_little_that_is_seen_beside_a_date_is_no_limit(tmp_path):
    """Not even where it piles up: what another date shows may lie beyond."""
    values = _opened(tmp_path, None).values
    low, high = _limits(replace(values, piled=np.ones_like(values.piled)), little=True)
    assert max(low.max(), -high.min()) < -1e37


def test_forced_models_may_write_anything_that_float32_holds(tmp_path):
    """Twice 1e38 is no limit, infinity is; nothing is tested."""
    verdict = self_test(_opened(tmp_path, "identity"), None)
    limits = np.float32([verdict.recipe.low, verdict.recipe.high])
    assert np.isfinite(limits).all()
    assert np.abs(limits).min() > 2e38
    assert verdict.placements == 0
    assert "no self-test" in verdict.note


@pytest.mark.parametrize(("size", "looked_at"), [(96, 3), (32, 2)])
def test_the_rim_is_looked_at_in_three_windows(tmp_path, monkeypatch, size, looked_at):
    """An image of a single window is looked at twice, with clean places elsewhere."""
    seen: list[Window] = []

    def check(windows: list[Window], *_: object) -> Rim:
        seen.extend(windows)
        return Rim()

    monkeypatch.setattr(setup, "check_rim", check)
    self_test(_opened(tmp_path, "nearest", size), None)
    assert len(seen) == looked_at


@pytest.mark.parametrize(
    ("hidden", "role", "led"),
    [
        (0.95, "references", True),
        (0.6, "references", True),
        (0.5, "references", False),
        (0.95, "auxiliary", False),
        (0.6, "auxiliary", False),
    ],
)
def test_where_most_is_hidden_bars_of_dates_are_the_stored_ones(tmp_path, monkeypatch, hidden, role, led):
    """Whatever could be hidden; of other contrasts nothing was measured, and with half of an image left it tells.

    `coverage_90` is the share of hidden pixels within 1.645 of the standard errors that the recipe gives them.
    """
    truth = smooth((2, 128, 128), "float32")
    noise = np.random.default_rng(3).normal(0, 0.2 * truth.std(), truth.shape)
    hole = np.zeros((1, 128, 128), np.uint8)
    # between the gaps that are left holes are wide
    hole[0, :, np.arange(128) % 40 < 40 * hidden] = 1
    image, mask = write_image(tmp_path / "image.tif", truth), write_image(tmp_path / "mask.tif", hole)
    entry = {"path": str(write_image(tmp_path / "date.tif", (truth + noise).astype(np.float32))), "mask": []}
    config = run_config(tmp_path, image, mask, input={role: [entry]}, patch={"size": 128, "overlap": 32})
    kept = []
    monkeypatch.setattr(judge, "samples_of", lambda *of: kept.append(of) or samples_of(*of))
    verdict = self_test(open_scene(order_of(config).job, Clock())[0], None)
    recipe = verdict.recipe
    assert (recipe.referenced == STORED_OF_REFERENCES) == led
    assert kept or verdict.coverage_90 is None
    for _, tested, _, published, _ in kept:
        assert published == recipe
        held = [np.abs(t.error) <= Z90 * t.raw * error_factor(recipe, t.trust, t.place) for t in tested]
        counts = np.concatenate([t.weight * t.telling for t in tested])
        # what hidden pixels gave is counted on the other half of them
        share = np.average(np.concatenate(held), weights=counts)
        assert verdict.coverage_90 == pytest.approx(share, abs=1e-6 if led else 0.05)
    assert any(recipe.reference_weights) or role == "auxiliary"


def test_coverage_counts_what_contaminated_pixels_around_add(tmp_path, monkeypatch):
    """Bars three times as wide beside doubted pixels hold more; where and for which pixels, the image is asked."""
    scene, asked = _opened(tmp_path, None), []

    def around(_: OpenImage, box: Box, hidden: NDArray[np.bool_]) -> Contamination:
        asked.append((box.shape, hidden.shape[1:], hidden.any()))
        return Contamination(left=np.zeros(hidden.shape, np.float32), factor=np.full((1, *box.shape), 3, np.float32))

    monkeypatch.setattr(OpenImage, "contamination", around)
    monkeypatch.setattr(setup, "_rim", lambda *_: (Rim(), Carry()))
    clean = self_test(scene, None)
    assert not asked
    doubtful = self_test(replace(scene, states=replace(scene.states, doubted=1)), None)
    assert all(box == window and some for box, window, some in asked)
    assert len(asked) == clean.placements
    assert doubtful.recipe == clean.recipe
    assert clean.coverage_90 < 0.96 < doubtful.coverage_90
