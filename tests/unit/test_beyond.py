"""Holes wider than a patch: what patches cannot see comes from the survey, so that no patch shows in the results."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from pipeline.fills.base import Window
from pipeline.numerics.beyond import Beyond, distance_to_cut, push_pull, seen_in_pixels, share_seen
from pipeline.numerics.situation import Situation, across, situation
from pipeline.plan.workdir import WorkFolder
from pipeline.references.prediction import Correction
from pipeline.restore.network import counted
from pipeline.restore.task import Task
from pipeline.survey.cells import Cells, sums
from tests.helpers import command, layer, pixels, result_hash, run_config, tiny_weights, use_everything, write_image

EDGE, PATCH, OVERLAP = 256, 64, 16


# --- one window ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hole():
    """A disc of 170 pixels that the image's right edge cuts."""
    y, x = np.mgrid[:EDGE, :EDGE]
    return np.hypot(y - 128, x - 190) < 85


def _window(hole: np.ndarray, part: tuple[slice, slice]) -> Beyond:
    """Return what the whole image says of a window, without an error of cells."""
    depth, behind = across(~hole, hole, (1.0, 1.0))
    shape = hole[part].shape
    edges = tuple((s.start > 0, s.stop < EDGE) for s in part)
    one = np.ones((1, *shape), np.float32)
    cut = distance_to_cut(shape, (1.0, 1.0), edges)
    return Beyond(distance=depth[part][None], behind=behind[part][None], mean=one, scale=one, to_cut=cut)


@pytest.mark.parametrize("corner", [(96, 176), (60, 100), (130, 130), (112, 140)])
def test_a_window_stands_where_the_whole_image_says(hole, corner):
    """Distances are those of the whole image, and so is what lies behind; from the window alone neither is."""
    part = tuple(slice(a, a + PATCH) for a in corner)
    beyond = _window(hole, part)
    edges = tuple((s.start > 0, s.stop < EDGE) for s in part)
    valid, asked = ~hole[part][None], hole[part][None]
    whole = situation(~hole[None], hole[None], (1.0, 1.0))
    there = situation(valid, asked, (1.0, 1.0), edges, beyond)
    alone = situation(valid, asked, (1.0, 1.0), edges)
    np.testing.assert_allclose(there.distance, whole.distance[:, *part], rtol=1e-6)
    # what a patch says at its very edge has no weight
    inner = asked & (beyond.to_cut > OVERLAP // 4)
    off = np.abs(there.shares - whole.shares[:, :, *part])[:, inner]
    assert off.max() < 0.25
    assert np.abs(alone.distance - whole.distance[:, *part]).max() > 5
    assert np.abs(alone.shares - whole.shares[:, :, *part])[:, inner].max() > 2 * off.max()


def test_a_window_that_sees_all_is_as_before():
    """Where no pixel beyond can be nearer, wrong fields of the whole image change nothing."""
    asked = (np.hypot(*(np.mgrid[:96, :96] - 48)) < 9)[None]
    valid = ~asked
    edges = ((False, True), (True, True))
    wrong = np.full((1, 96, 96), 0.5, np.float32)
    cut = distance_to_cut((96, 96), (1.0, 1.0), edges)
    beyond = Beyond(distance=50 * wrong, behind=wrong, mean=wrong, scale=wrong, to_cut=cut)
    there, alone = (situation(valid, asked, (1.0, 1.0), edges, far) for far in (beyond, None))
    assert np.array_equal(there.distance, alone.distance)
    assert np.array_equal(there.shares, alone.shares)


def test_what_is_seen_fades_with_distance_over_that_to_the_cut():
    """All to half of it, nothing from there on; everything where there is no cut."""
    cut = np.array([20.0, 20.0, 20.0, np.inf], np.float32)
    assert share_seen(np.array([10.0, 15.0, 20.0, 1e9], np.float32), cut).tolist() == [1.0, 0.5, 0.0, 1.0]


def test_steps_are_those_of_the_axis():
    """Distance to the cut counts steps of the finest axis, along open edges only."""
    cut = distance_to_cut((4, 6), (3.0, 1.0), ((True, False), (False, True)))
    assert cut[:, 0].tolist() == [3.0, 6.0, 6.0, 6.0]
    assert cut[3].tolist() == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]


def test_of_a_lost_thick_slice_a_window_shows_all_that_counts():
    """The slices beside it lie one pixel away, so two pixels from where the window is cut all is seen of it."""
    valid = np.ones((2, 9, 32, 32), dtype=bool)
    valid[0, 4] = valid[1] = False
    seen = seen_in_pixels(valid, ((False, False), (True, True), (True, False)))
    assert seen[0, 4, 0].max() == 0
    assert (seen[0, 4, 1:-1, 1:] == 1).all()
    assert (seen[1] == 0).all()


def test_of_a_lost_thick_slice_a_window_tells_the_correction_itself():
    """Beside a relation the slices next to it are heard, not cells of the whole image."""
    common = np.ones((9, 32, 32), dtype=bool)
    common[4] = False
    to_cut = distance_to_cut(common.shape, (1.0, 1.0, 1.0), ((False, False), (True, True), (True, True)))
    one = np.ones((1, *common.shape))
    correction = Correction(values=50 * one, ratio=9 * one, to_cut=to_cut)
    each = np.ones((1, 32 * 32))
    values, ratio = correction.over(3 * each, 2 * each, (each, each), common, ~common)
    values, ratio = values.reshape(32, 32), ratio.reshape(32, 32)
    assert (values[1:-1, 1:-1] == 3).all()
    np.testing.assert_allclose(ratio[1:-1, 1:-1], 2, rtol=1e-6)
    assert (values[0] == 51).all()


# --- the whole image on cells --------------------------------------------------------------------------------------


def test_surroundings_are_narrow_where_much_is_observed_and_wide_elsewhere():
    """Two halves of 1 and 3: each keeps its own beside the gap, its middle has what lies between; all stay inside."""
    count, values = np.ones((30, 90)), np.where(np.arange(90) < 45, 1.0, 3.0) * np.ones((30, 1))
    count[:, 30:60] = 0.0
    mean = push_pull(count, (count * values)[None])[0]
    assert mean.min() >= 1 - 1e-9
    assert mean.max() <= 3 + 1e-9
    assert mean[15, 20] == pytest.approx(1, abs=0.05)
    assert mean[15, 70] == pytest.approx(3, abs=0.05)
    assert 1.3 < mean[15, 45] < 2.7
    assert (np.diff(mean[15, 25:65]) > -0.02).all()


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("shape", [(20, 30), (20, 27), (19, 30)])
def test_sums_over_cells_are_those_of_each(shape, dtype):
    """Ragged edges included; decimal numbers are summed in float64."""
    values = (np.random.default_rng(0).normal(0, 1e6, (2, *shape))).astype(dtype)
    found = sums(values, 5)
    assert found.dtype == (np.float64 if dtype == "float32" else np.int32)
    for i, j in np.ndindex(*found.shape[1:]):
        cell = values[:, 5 * i : 5 * i + 5, 5 * j : 5 * j + 5].astype(np.float64)
        np.testing.assert_allclose(found[:, i, j], cell.sum(axis=(1, 2)), rtol=1e-12, atol=1e-6)


def test_cells_taken_together_are_those_of_the_pixels():
    """Mean, variance and count of 6 x 6 pixels are the same by way of 2 x 2, ragged edges included."""
    rng = np.random.default_rng(1)
    values, seen = rng.normal(1e4, 3, (2, 20, 27)).astype(np.float32), rng.random((20, 27)) < 0.6
    seen[:6, :6] = False
    shape = values.shape
    whole = Cells(
        mean=np.where(seen, values, 0), variance=np.zeros(shape, np.float32),
        count=np.broadcast_to(seen.astype(np.int32), shape), usable=np.broadcast_to(seen, shape),
    )  # fmt: skip
    at_once, by_steps = whole.pooled(6), whole.pooled(2).pooled(3)
    assert not at_once.valid[:, 0, 0].any()
    for one in (at_once, by_steps):
        assert one.count[0, 3, 4] == seen[18:, 24:].sum()
        np.testing.assert_allclose(one.mean[1, 1, 1], values[1, 6:12, 6:12][seen[6:12, 6:12]].mean(), rtol=1e-6)
        np.testing.assert_allclose(one.variance[1, 1, 1], values[1, 6:12, 6:12][seen[6:12, 6:12]].var(), rtol=1e-3)


# --- whole runs ----------------------------------------------------------------------------------------------------


def _scene(folder: Path, *, guided: bool) -> Path:
    """Write ground that is rougher on the right, with a hole of nearly three patches; return the config."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:EDGE, :EDGE] / EDGE

    def field(width: float) -> np.ndarray:
        found = ndimage.gaussian_filter(rng.normal(size=(EDGE, EDGE)), width, mode="wrap")
        return found / found.std()

    ground = 1000 + 80 * field(40) + (0.3 + 2.2 * x) * (40 * field(6) + 25 * field(1.5))
    angle = np.arctan2(y - 0.5, x - 0.5)
    hole = np.hypot(y - 0.5, x - 0.5) < 0.34 * (1 + 0.12 * np.sin(3 * angle) + 0.06 * np.sin(7 * angle + 1))
    image = write_image(folder / "image.tif", np.rint(ground).clip(1).astype(np.uint16)[None])
    mask = write_image(folder / "mask.tif", hole.astype(np.uint8)[None])
    np.savez(folder / "truth.npz", ground=ground, hole=hole)
    sections = {"patch": {"size": PATCH, "overlap": OVERLAP}}
    if guided:
        # what the haze of the other date adds changes over the hole: only what is observed around tells how
        other = 0.8 * ground + 150 + 300 * np.exp(-((y - 0.8) ** 2 + (x - 0.2) ** 2) / 0.15) + 10 * field(1)
        path = write_image(folder / "other.tif", np.rint(other).clip(1).astype(np.uint16)[None])
        sections["input"] = {"references": [{"path": str(path)}]}
    return run_config(folder, image, mask, **sections)


def _run(config: Path, *settings: str) -> Path:
    outcome = command("run", config, "--quiet", "--overwrite", *(part for one in settings for part in ("--set", one)))
    assert outcome.code == 0, outcome.err
    return config.parent / "out" / "image"


def _steps(field: np.ndarray, inside: np.ndarray) -> float:
    """Return how much larger changes of a field across the edges of patches are than across other lines."""
    half = OVERLAP // 2
    stride = PATCH - OVERLAP
    at_edges, elsewhere = [], []
    for values, some in ((field, inside), (field.T, inside.T)):
        for line in range(half, EDGE - half):
            here = some[line - half : line + half].all(axis=0)
            away = (line + half) % stride
            away = min(away, stride - away)
            if here.sum() >= 20 and (away <= 1 or away > half + 2):
                change = np.abs(values[line + half - 1] - values[line - half])[here].mean()
                (at_edges if away <= 1 else elsewhere).append(change)
    return float(np.mean(at_edges) / np.mean(elsewhere))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a run with a spline alone."""
    return _run(_scene(tmp_path_factory.mktemp("plain"), guided=False))


def test_no_patch_shows_in_error_bars(plain):
    """Told from each patch alone the same image has steps that are 2.2 times as large at the edges of patches."""
    hole = np.load(plain.parent.parent / "truth.npz")["hole"]
    assert _steps(np.log(np.maximum(pixels(layer(plain, "uncertainty"))[0], 1e-3)), hole) < 1.3


def test_the_same_for_any_block(plain):
    """Blocks of one patch, and not of whole patches: the bytes of all layers."""
    expected = result_hash(plain)
    folder = _run(plain.parent.parent / "run.yaml", "compute.block=[80, 112]")
    assert result_hash(folder) == expected


def test_fields_beyond_patches_are_kept_and_checked(plain):
    """Results can be computed again from what is published, so they are there, and nothing is without wide holes."""
    assert WorkFolder.of(plain).beyond.exists()
    assert json.loads(WorkFolder.of(plain).plan.read_text())["beyond_cell"] == 4


def test_no_patch_shows_in_what_a_reference_brings(tmp_path, monkeypatch):
    """What is observed around reaches the middle: the error has no steps at the edges of patches, nor have its bars."""
    use_everything(monkeypatch)
    folder = _run(_scene(tmp_path, guided=True))
    truth = np.load(tmp_path / "truth.npz")
    error = ndimage.gaussian_filter(pixels(layer(folder, "restored"))[0] - truth["ground"], 2)
    assert _steps(error, ndimage.binary_erosion(truth["hole"], iterations=6)) < 1.2
    assert _steps(np.log(np.maximum(pixels(layer(folder, "uncertainty"))[0], 1e-3)), truth["hole"]) < 1.3


def test_no_patch_shows_in_what_other_channels_bring(tmp_path):
    """A hole in one channel, the others observed: what they leave over is told from the whole image, for any block."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:EDGE, :EDGE] / EDGE

    def field(width: float) -> np.ndarray:
        found = ndimage.gaussian_filter(rng.normal(size=(EDGE, EDGE)), width, mode="wrap")
        return found / found.std()

    ground = [80 * field(40) + (0.3 + 2.2 * x) * (40 * field(6) + 25 * field(1.5)) for _ in range(2)]
    others = [ground[0], 0.6 * ground[0] + 0.5 * ground[1], ground[1]]
    # what the other channels do not see, only the observed pixels around tell
    shade = 300 * np.exp(-((y - 0.8) ** 2 + (x - 0.2) ** 2) / 0.15)
    own = 0.7 * ground[0] + 0.4 * ground[1] + shade + 10 * field(1)
    values = np.rint(1500 + np.stack([own, *(other + 10 * field(1) for other in others)])).clip(1)
    hole = np.zeros(values.shape, np.uint8)
    hole[0] = np.hypot(y - 0.5, x - 0.5) < 0.34
    image, mask = write_image(tmp_path / "image.tif", values.astype(np.uint16)), write_image(tmp_path / "m.tif", hole)
    asked = [{"kind": "raster", "path": str(mask), "band": "all"}]
    folder = _run(run_config(tmp_path, image, None, mask=asked, patch={"size": PATCH, "overlap": OVERLAP}))
    error = ndimage.gaussian_filter(pixels(layer(folder, "restored"))[0] - values[0], 2)
    assert _steps(error, ndimage.binary_erosion(hole[0] > 0, iterations=6)) < 1.15
    expected = result_hash(folder)
    assert result_hash(_run(tmp_path / "run.yaml", "compute.block=[80, 112]")) == expected


def test_no_patch_shows_in_lost_thick_slices(tmp_path):
    """Error bars of slices of 6 mm follow what is beside them, at the edges of patches as in one patch for all."""
    rng = np.random.default_rng(5)
    size = (80, 80, 10)
    rough = 1.2 + np.sin(np.arange(80) / 4)[:, None, None]
    values = np.rint(1000 + 80 * rough * ndimage.gaussian_filter(rng.normal(size=size), (1, 1, 0.7)))
    hole = np.zeros(size, np.uint8)
    hole[:, :, [3, 6, 7]] = 1
    image, mask = tmp_path / "image.nii", tmp_path / "mask.nii"
    for path, stored in ((image, values.astype(np.int16)), (mask, hole)):
        nibabel.save(nibabel.Nifti1Image(stored, np.diag([1.0, 1.0, 6.0, 1.0])), path)
    bars = []
    for edge in (48, 128):
        folder = tmp_path / str(edge)
        folder.mkdir()
        found = _run(run_config(folder, image, mask, patch={"size": [16, edge, edge], "overlap": [8, 16, 16]}))
        bars.append(pixels(layer(found, "uncertainty"))[0][hole.T > 0])
    # each run fits a factor of its own
    assert np.ptp(np.log(bars[0] / bars[1])) < 0.1


def test_no_patch_shows_in_what_a_network_brings(tmp_path, monkeypatch):
    """It is asked where a patch sees nothing observed, too, and sees depth and statistics of the whole image."""
    use_everything(monkeypatch)
    config = _scene(tmp_path, guided=False)
    model = {"kind": "autoencoder", "weights": str(tiny_weights(tmp_path))}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model": model}))
    folder = _run(config)
    hole = np.load(tmp_path / "truth.npz")["hole"]
    assert _steps(np.log(np.maximum(pixels(layer(folder, "uncertainty"))[0], 1e-3)), hole) < 1.3
    source = pixels(layer(folder, "source"))[0]
    assert _steps((source == 2).astype(float), hole) < 1.5


def test_a_network_is_not_asked_where_it_does_not_count():
    """Deeper than a patch nothing that it says is taken, so no time is spent on it."""
    hole = np.ones((1, 64, 64), dtype=bool)
    window = Window(values=np.zeros(hole.shape, np.float32), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    depth = np.broadcast_to(np.linspace(20, 90, 64, dtype=np.float32), hole.shape)
    seen = np.zeros(hole.shape, np.float32)
    beyond = Beyond(distance=depth, behind=seen, mean=seen, scale=seen + 1, to_cut=np.ones((64, 64), np.float32))
    task = Task(window=window, guides=(), patch=64, beyond=beyond)
    place = Situation(distance=depth, shares=np.stack([seen, seen + 1, seen]))
    counts = counted(object(), task, place)
    assert np.array_equal(counts > 0, depth < 64)
    assert (np.diff(counts[0, 0]) <= 0).all()
