"""Synthetic scenes: deterministic, plausible, and readable by the libraries users have."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio

from pipeline.synthetic.body import body_volume
from pipeline.synthetic.brain import CSF, GREY, WHITE, brain_volume
from pipeline.synthetic.demo import write_demo_brain, write_demo_sentinel
from pipeline.synthetic.noise import fractal
from pipeline.synthetic.optical import Scl, optical_scene, varied_scene


@pytest.fixture(scope="module")
def scene():
    """One small scene with a swath edge."""
    return optical_scene((192, 256), seed=4, swath_edge=True)


def test_the_same_seed_gives_the_same_scene(scene):
    """A scene is a function of its arguments alone."""
    again = optical_scene((192, 256), seed=4, swath_edge=True)
    assert np.array_equal(scene.images[0], again.images[0])
    assert not np.array_equal(scene.images[0], optical_scene((192, 256), seed=5).images[0])


def test_only_the_first_date_is_clouded(scene):
    """Outside the marked pixels the first date is the truth up to sensor noise; the second is the truth."""
    image, truth = scene.images[0].astype(float), scene.truths[0].astype(float)
    clear = ~scene.cloudy & (truth[0] > 0)
    assert np.array_equal(scene.images[1], scene.truths[1])
    assert np.abs(image - truth)[:, clear].max() < 0.05 * truth.max()
    assert np.abs(image - truth)[:, scene.cloudy].mean() > 200
    assert 0.1 < scene.cloudy.mean() < 0.7


def test_scene_classes_find_the_thick_clouds(scene):
    """Every pixel brightened beyond doubt is cloud, and nodata is code 0 in both grids."""
    codes = np.kron(scene.scl[0], np.ones((2, 2), np.uint8))
    bright = scene.images[0][0].astype(int) - scene.truths[0][0] > 2500
    found = np.isin(codes, (Scl.CLOUD_MEDIUM, Scl.CLOUD_HIGH))
    assert found[bright].mean() > 0.98
    assert np.array_equal(codes == 0, scene.images[0][0] == 0)
    assert not np.isin(scene.scl[1], (Scl.SHADOW, Scl.CLOUD_HIGH, Scl.CIRRUS)).any()


def test_the_second_date_resembles_the_first(scene):
    """A reference is worth something: strongly correlated, yet not equal."""
    seen = scene.truths[0][0] > 0
    r = np.corrcoef(scene.truths[0][3][seen], scene.truths[1][3][seen])[0, 1]
    assert 0.6 < r < 0.995


def test_heads_have_the_tissues_of_heads():
    """T1 order of brightness, a bounded share of artefacts, and truth outside them."""
    head = brain_volume((48, 56, 48), seed=1)
    mean = {tissue: head.truth[head.labels == tissue].mean() for tissue in (CSF, GREY, WHITE)}
    assert mean[CSF] < mean[GREY] < mean[WHITE]
    assert 0.002 < head.artefact.mean() < 0.1
    assert np.array_equal(head.image[~head.artefact], head.truth[~head.artefact])
    assert head.artefact.any(axis=(1, 2)).sum() > 1
    assert head.artefact.all(axis=(1, 2)).sum() == 1


def test_random_contrasts_differ_in_more_than_gain():
    """Domain randomisation changes the order of the tissues, not the anatomy."""
    one, two = (brain_volume((32, 40, 32), seed=2, contrast=c) for c in ("t1", "random"))
    assert np.array_equal(one.labels, two.labels)
    inside = one.labels > 0
    assert abs(np.corrcoef(one.truth[inside], two.truth[inside])[0, 1]) < 0.98


def test_fractal_noise_is_standardised_and_smooth():
    """Zero mean, unit deviation, and a steeper slope is smoother."""
    rough, smooth = (fractal(np.random.default_rng(0), (64, 64), slope=s) for s in (0.5, 2.0))
    for field in (rough, smooth):
        assert abs(float(field.mean())) < 1e-5
        assert abs(float(field.std()) - 1) < 1e-5
    assert np.abs(np.diff(smooth)).mean() < 0.5 * np.abs(np.diff(rough)).mean()


def test_demo_files_open_with_their_headers(tmp_path: Path):
    """Rasterio and nibabel read what a user expects of such files."""
    paths = write_demo_sentinel(tmp_path, seed=1, shape=(128, 128))
    with rasterio.open(paths["image"]) as image, rasterio.open(paths["scl"]) as scl:
        assert image.crs.to_epsg() == 32633
        assert image.descriptions == ("B02", "B03", "B04", "B08", "B11", "B12")
        assert image.nodata == 0
        assert image.bounds == scl.bounds
        assert scl.res == (20.0, 20.0)
    files = write_demo_brain(tmp_path, seed=1, shape=(32, 40, 32))
    head, mask = nib.load(files["image"]), nib.load(files["mask"])
    assert head.shape == mask.shape == (32, 40, 32)
    assert head.get_data_dtype() == np.int16
    assert nib.aff2axcodes(head.affine) == ("R", "A", "S")


def test_training_scenes_vary_and_repeat():
    """The same seed gives the same scene; wild and cultivated, soft and sharp ones differ in fine structure."""
    scenes = [varied_scene((96, 96), seed) for seed in range(6)]
    assert np.array_equal(scenes[0], varied_scene((96, 96), 0))
    rough = [np.diff(s[3]).std() / s[3].std() for s in scenes]
    assert max(rough) > 1.5 * min(rough)
    assert all(s.shape == (6, 96, 96) and s.min() >= 1 for s in scenes)


def test_bodies_have_the_levels_of_hounsfield():
    """Air around, fat and soft tissue inside, bone somewhere, no metal; the same seed gives the same bytes."""
    body = body_volume((48, 56, 64), seed=1)
    assert body.dtype == np.int16
    assert np.array_equal(body, body_volume((48, 56, 64), seed=1))
    corner = body[:, :4, :4]
    assert abs(float(np.median(corner)) + 1000) < 15
    assert ((body > -150) & (body < -50)).mean() > 0.02
    assert ((body > 0) & (body < 250)).mean() > 0.05
    assert 0.001 < (body > 400).mean() < 0.15
    assert body.max() < 2500
