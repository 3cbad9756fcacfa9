"""Holes are what the user marked, or what happened instead is said: whole runs on the inputs that people had."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from tests.helpers import blobs, command, layer, pixels, smooth, write_image

FAST = {
    "model": {"kind": "harmonic"},
    "compute": {"executor": "serial", "device": "cpu"},
    "output": {"directory": "out"},
}
FEET = "EPSG:2248"
"""Maryland, US survey feet."""


def _config(folder: Path, source: Any, *masks: dict[str, Any], **more: Any) -> Path:
    given = {"source": source, **more.pop("input", {})}
    path = folder / "c.yaml"
    path.write_text(json.dumps({"input": given, "mask": list(masks), **FAST, **more}))
    return path


def _run(config: Path, stem: str = "x") -> tuple[NDArray[np.uint8], list[str]]:
    """Run a config and return the source codes and the notices of one image."""
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    folder = config.parent / "out" / stem
    return pixels(layer(folder, "source"))[0], json.loads((folder / "record.json").read_text())["notices"]


@pytest.mark.parametrize(
    ("values", "entry", "said"),
    [
        ((0, 255), {"kind": "scl"}, "holds 0 (1824 px), 255 (96 px); scl has the codes 0 to 11, and others count as"),
        ((0, 4), {"kind": "qa_pixel", "layout": "hls"}, "are those of Fmask's own class codes; if it is no layer of"),
        ((4, 9), {"kind": "scl", "classes": [9]}, ""),
        ((64, 66), {"kind": "qa_pixel", "layout": "hls"}, ""),
    ],
)
def test_codes_of_another_kind_of_file(tmp_path, values, entry, said):
    """A drawn mask as scene classes, or Fmask's classes as bits, is told; the right ones say nothing."""
    write_image(tmp_path / "x.tif", smooth((1, 40, 48)))
    codes = np.full((1, 40, 48), values[0], np.uint8)
    codes[:, 10:18, 10:22] = values[1]
    write_image(tmp_path / "m.tif", codes)
    facts = json.loads(command("plan", _config(tmp_path, "x.tif", {"path": "m.tif", **entry}), "--json").out)
    (row,) = facts["images"]
    notes = [note for note in row["notices"] if "m.tif" in note]
    assert [said in note for note in notes] == [True] * bool(said)
    assert (row["holes"] == 96) == (values[1] != 255)


# --- a mask that covers a part of the image ----------------------------------------------------------------------


@pytest.fixture
def half_covered(tmp_path: Path) -> Path:
    """Write an image of 240 columns at 10 m and scene classes of its left half at 20 m, with a cloud of 30 x 30 m."""
    write_image(tmp_path / "x.tif", smooth((1, 40, 48)))
    classes = np.full((1, 20, 12), 4, np.uint8)
    classes[:, 5:11, 3:9] = 9
    write_image(tmp_path / "x_SCL.tif", classes, transform=rasterio.Affine(20, 0, 5e5, 0, -20, 5e6))
    return tmp_path


def test_scene_classes_of_half_the_image(half_covered):
    """The share that is not covered is said."""
    codes, notices = _run(_config(half_covered, "x.tif", {"kind": "scl", "path": "x_SCL.tif"}))
    assert (codes == 1).sum() == 144
    assert any("does not cover 50 % of the image" in note for note in notices)


def test_less_than_half_is_refused_unless_it_is_wanted(half_covered):
    """A run that would take most of the image as clear is not begun; `outside: keep` says that it is."""
    write_image(half_covered / "x.tif", smooth((1, 40, 100)))
    refused = command("run", _config(half_covered, "x.tif", {"kind": "scl", "path": "x_SCL.tif"}))
    assert refused.code == 4
    assert "x_SCL.tif: does not cover 76 % of the image" in refused.err
    assert "outside: keep" in refused.err
    codes, notices = _run(_config(half_covered, "x.tif", {"kind": "scl", "path": "x_SCL.tif", "outside": "keep"}))
    assert (codes == 1).sum() == 144
    assert any("does not cover 76 %" in note for note in notices)


@pytest.mark.parametrize("mask_from", [-180.0, 180.0])
def test_longitudes_from_0_to_360_meet_those_from_180(tmp_path, mask_from):
    """Holes east and west of the date line and of Greenwich are where they were drawn."""
    grid = {"crs": "EPSG:4326", "transform": rasterio.Affine(5, 0, 0, 0, -5, 90)}
    write_image(tmp_path / "x.tif", smooth((1, 36, 72), "float32"), **grid)
    drawn = np.zeros((1, 36, 72), np.uint8)
    drawn[:, 10:14, 4:9] = drawn[:, 20:25, 40:46] = 1
    here = {**grid, "transform": rasterio.Affine(5, 0, mask_from, 0, -5, 90)}
    write_image(tmp_path / "m.tif", np.roll(drawn, 36, axis=2), **here)
    codes, notices = _run(_config(tmp_path, "x.tif", {"kind": "raster", "path": "m.tif"}))
    assert np.array_equal(codes == 1, drawn[0] == 1)
    assert not any("does not cover" in note for note in notices)


def test_two_grids_that_differ_in_direction_alone(tmp_path):
    """Origin, step and shape are the same, so the message has to say which way each of them runs."""
    write_image(tmp_path / "x.tif", smooth((1, 30, 40)), transform=rasterio.Affine(10, 0, 5e5, 0, 10, 5e6))
    write_image(tmp_path / "m.tif", blobs((30, 40))[None])
    refused = command("plan", _config(tmp_path, "x.tif", {"kind": "raster", "path": "m.tif"}))
    assert refused.code == 4
    assert re.search(r"mask: .*5e\+06\), WGS.*\n.*image: .*5e\+06\), rows run north, WGS", refused.err)


# --- masks that mark what is to be kept --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.tif", "x.nii"])
@pytest.mark.parametrize("kept", [1, np.nan])
def test_a_mask_that_marks_what_was_seen(tmp_path, name, kept):
    """A mask of what is good marks nearly all, one of 1 and NaN besides says nothing of the rest; both is told."""
    shape = (12, 14) if name == "x.tif" else (5, 12, 14)
    image = write_image(tmp_path / name, smooth((1, *shape)))
    mask = image.with_stem("m")
    bad = blobs(shape, n=1, radius=2)
    write_image(mask, np.where(bad, 0 if kept == 1 else np.nan, 1).astype(np.float32)[None])
    said = command("plan", _config(tmp_path, name, {"kind": "raster", "path": mask.name})).out
    assert f"the masks mark {100 * (1 - bad.mean()):.3g} % of what has a value" in said
    assert (f"{mask.name}: is NaN in {bad.sum()} pixels, which are kept" in said) == (kept != 1)
    write_image(mask, bad[None])
    assert "invert" not in command("plan", _config(tmp_path, name, {"kind": "raster", "path": mask.name})).out


def test_a_buffer_of_less_than_a_pixel(tmp_path):
    """Widens nothing, so it is said: 60 mm may be meant as 60 m."""
    write_image(tmp_path / "x.tif", smooth((1, 30, 40)))
    write_image(tmp_path / "m.tif", blobs((30, 40))[None])
    for buffer, told in (("60 mm", True), ("10 m", False), ("0 px", False)):
        said = command("plan", _config(tmp_path, "x.tif", {"kind": "raster", "path": "m.tif", "buffer": buffer})).out
        assert ("less than one pixel: nothing is widened" in said) == told, said


def test_a_link_to_nothing_says_where_it_leads(tmp_path):
    """As image and as mask; its own name is no better one."""
    write_image(tmp_path / "x.tif", smooth((1, 30, 40)))
    for name in ("y.tif", "m.tif"):
        (tmp_path / name).symlink_to("moved/away.tif")
    for image in ("x.tif", "y.tif"):
        refused = command("plan", _config(tmp_path, image, {"kind": "raster", "path": "m.tif"}))
        assert refused.code == 4
        assert "it is a link to moved/away.tif, which is not there" in refused.err


# --- masks that are not binary -----------------------------------------------------------------------------------


@pytest.fixture
def soft(tmp_path: Path) -> NDArray[np.float32]:
    """Write a volume and the probabilities of a segmentation, nearly nowhere 0; returns the probabilities."""
    write_image(tmp_path / "x.nii.gz", smooth((1, 10, 18, 20), "float32"))
    rng = np.random.default_rng(0)
    chance = 0.9 * blobs((10, 18, 20), radius=3.0) + 0.02 + 0.01 * rng.random((10, 18, 20))
    write_image(tmp_path / "m.nii.gz", chance.astype(np.float32)[None])
    return chance.astype(np.float32)


def test_probabilities_are_no_mask(tmp_path, soft):
    """Everything but 0 is a hole as ever, but it is said that the mask is not binary, what it holds, what to write."""
    outcome = command("run", _config(tmp_path, "x.nii.gz", {"kind": "raster", "path": "m.nii.gz"}))
    assert outcome.code == 3
    assert "the mask is not binary, it holds more than 64 values from 0.02" in outcome.err
    assert "`threshold: 0.5`" in outcome.err


def test_a_threshold_makes_them_one(tmp_path, soft):
    """Exactly the voxels above it are restored, without a word."""
    codes, notices = _run(_config(tmp_path, "x.nii.gz", {"kind": "raster", "path": "m.nii.gz", "threshold": 0.5}))
    assert np.array_equal(codes == 1, soft > 0.5)
    assert not [note for note in notices if "m.nii.gz" in note]


def _labels(folder: Path) -> NDArray[np.uint8]:
    write_image(folder / "x.tif", smooth((1, 30, 40)))
    labels = np.zeros((30, 40), np.uint8)
    labels[4:8, 4:8], labels[14:18, 20:26], labels[22:26, 8:12] = 1, 2, 10
    write_image(folder / "m.tif", labels[None])
    return labels


def test_labels_are_said_with_their_counts(tmp_path):
    """The values and how many pixels have them; a binary mask, with any value for hole, gives no notice."""
    labels = _labels(tmp_path)
    codes, notices = _run(_config(tmp_path, "x.tif", {"kind": "raster", "path": "m.tif"}))
    assert np.array_equal(codes == 1, labels > 0)
    (said,) = [note for note in notices if "not binary" in note]
    assert "it holds 0 (1144 px), 2 (24 px), 1 (16 px), 10 (16 px)" in said
    write_image(tmp_path / "m.tif", np.where(labels == 2, 255, 0).astype(np.uint8)[None])
    again = command("run", _config(tmp_path, "x.tif", {"kind": "raster", "path": "m.tif"}), "--overwrite")
    assert again.code == 0
    assert "note:" not in again.err


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [({"values": [2]}, {2}), ({"bits": [1, 3]}, {2, 10}), ({"bits": [0]}, {1}), ({"threshold": 1}, {2, 10})],
)
def test_values_bits_and_thresholds_choose(tmp_path, choice, wanted):
    """One choice an entry: labels by value, flags by bit, grades by threshold."""
    labels = _labels(tmp_path)
    codes, notices = _run(_config(tmp_path, "x.tif", {"kind": "raster", "path": "m.tif", **choice}))
    assert np.array_equal(codes == 1, np.isin(labels, list(wanted)))
    assert notices == []


def test_a_choice_that_marks_nothing_is_said(tmp_path):
    """The values that are there are named; two choices at once are a mistake in the config."""
    _labels(tmp_path)
    _, notices = _run(_config(tmp_path, "x.tif", {"kind": "raster", "path": "m.tif", "values": [7]}))
    assert any("values: [7.0] marks nothing; the mask holds 0 (1144 px)" in note for note in notices)
    both = command("run", _config(tmp_path, "x.tif", {"kind": "raster", "path": "m.tif", "values": [7], "bits": [1]}))
    assert both.code == 2
    assert "give one of 'values', 'threshold' and 'bits'" in both.err


# --- quality layers ----------------------------------------------------------------------------------------------


def _hls(folder: Path) -> NDArray[np.uint8]:
    """Write an HLS band and its Fmask: cloud, its margin, shadow, snow, water, fill, over low and moderate aerosol."""
    values = smooth((1, 40, 40), "int16")
    values[:, :, 38:] = -9999
    write_image(folder / "x.tif", values, nodata=-9999)
    quality = np.full((40, 40), 64, np.uint8)
    quality[4:10, 4:10], quality[4:10, 10:12], quality[14:20, 4:10] = 66, 68, 72
    quality[24:34, 4:14], quality[4:12, 20:30], quality[:, 38:] = 192 + 16, 96, 255
    write_image(folder / "x_Fmask.tif", quality[None], nodata=255)
    return quality


def test_fmask_of_hls_is_read_as_such(tmp_path):
    """Clouds, their margins and shadows are holes, snow (bit 4, Landsat's shadow) is not; how it was read is said."""
    quality = _hls(tmp_path)
    codes, notices = _run(_config(tmp_path, "x.tif", {"kind": "qa_pixel", "path": "x_Fmask.tif"}))
    assert np.array_equal(codes == 1, np.isin(quality, [66, 68, 72]))
    assert (codes[:, 38:] == 255).all()
    assert any("read as layout hls, by its name" in note for note in notices)


def test_fmask_as_a_drawn_mask_says_what_to_write(tmp_path):
    """As everything has some bit set the run is refused, with the layout that the name tells."""
    _hls(tmp_path)
    refused = command("run", _config(tmp_path, "x.tif", {"kind": "raster", "path": "x_Fmask.tif"}))
    assert refused.code == 3
    assert "`kind: qa_pixel` with `layout: hls`" in refused.err


def test_what_a_layout_cannot_know_is_refused_by_name(tmp_path):
    """HLS reserves its cirrus bit and never sets it; eight bits without a telling name are no QA_PIXEL."""
    _hls(tmp_path)
    entry = {"kind": "qa_pixel", "path": "x_Fmask.tif", "flags": ["cloud", "cirrus"]}
    for layout in ({}, {"layout": "hls"}):
        refused = command("run", _config(tmp_path, "x.tif", {**entry, **layout}))
        assert refused.code == 2
        assert (
            "layout 'hls' has no flag 'cirrus' (known: cloud, adjacent, shadow, snow, water, high_aerosol)"
            in refused.err
        )
    (tmp_path / "x_Fmask.tif").rename(tmp_path / "quality.tif")
    refused = command("run", _config(tmp_path, "x.tif", {"kind": "qa_pixel", "path": "quality.tif"}))
    assert refused.code == 4
    assert "its name does not tell its layout" in refused.err


# --- images and masks in folders of their own --------------------------------------------------------------------


def _bids(folder: Path) -> None:
    for number in (1, 2, 3):
        anat = folder / "bids" / f"sub-0{number}" / "anat"
        anat.mkdir(parents=True)
        write_image(anat / f"sub-0{number}_T1w.nii.gz", smooth((1, 8, 12, 14), "int16", seed=number))
        if number < 3:
            lesion = blobs((8, 12, 14), number, n=1, radius=2.0)
            write_image(anat / f"sub-0{number}_T1w_label-lesion_roi.nii.gz", lesion[None])


def test_a_bids_tree_is_one_config(tmp_path):
    """`{folder}` finds the lesions of each; who has none fails alone, and a path without it says what to write."""
    _bids(tmp_path)
    tree = "bids/sub-*/anat/*_T1w.nii.gz"
    mask = "{stem}_label-lesion_roi.nii.gz"
    outcome = command("run", _config(tmp_path, tree, {"kind": "raster", "path": f"{{folder}}/{mask}"}))
    assert outcome.code == 5
    assert "1 of 3 images failed: sub-03_T1w" in outcome.err
    for number in (1, 2):
        codes = pixels(layer(tmp_path / "out" / f"sub-0{number}_T1w", "source"))[0]
        assert np.array_equal(codes == 1, blobs((8, 12, 14), number, n=1, radius=2.0) == 1)
    outcome = command("run", _config(tmp_path, tree, {"kind": "raster", "path": mask}, output={"directory": "again"}))
    assert outcome.code == 5
    assert f"write '{{folder}}/{mask}'" in outcome.err
    summary = (tmp_path / "again" / "run.json").read_text()
    assert "mask file not found" in summary
    assert str(tmp_path) not in summary


def _landsat(folder: Path) -> list[str]:
    scenes = ["LC08_L2SP_190024_20220612_20220616_02_T1", "LC09_L2SP_190024_20220620_20230411_02_T1"]
    for number, scene in enumerate(scenes):
        (folder / scene).mkdir()
        write_image(folder / scene / f"{scene}_SR_B4.TIF", smooth((1, 30, 32), seed=number))
        quality = np.where(blobs((30, 32), number, n=2) == 1, 8, 64).astype(np.uint16)
        write_image(folder / scene / f"{scene}_QA_PIXEL.TIF", quality[None])
    return scenes


def test_a_start_config_finds_the_lesion(tmp_path):
    """`config new` on a BIDS image or a band of a Landsat scene writes a config that runs as it is."""
    _bids(tmp_path)
    (scene, _) = _landsat(tmp_path)
    for image in ("bids/sub-01/anat/sub-01_T1w.nii.gz", f"{scene}/{scene}_SR_B4.TIF"):
        config = tmp_path / f"{Path(image).name}.yaml"
        assert command("config", "new", tmp_path / image, "-o", config).code == 0
        outcome = command("run", config, "--set", "model.kind=harmonic", "--set", "compute.executor=serial")
        assert outcome.code == 0, outcome.err
        assert "nothing to restore" not in outcome.err


def test_landsat_scene_folders_are_one_config(tmp_path):
    """A part of the name leads to the quality band of each scene, and to a guide of each."""
    scenes = _landsat(tmp_path)
    for number, scene in enumerate(scenes):
        write_image(tmp_path / scene / f"{scene}_SR_B5.TIF", smooth((1, 30, 32), seed=9 + number))
    guide = {"path": r"{folder}/{stem/_B\d$/_B5}.TIF"}
    mask = {"kind": "qa_pixel", "path": "{folder}/{stem:-6}_QA_PIXEL.TIF"}
    config = _config(tmp_path, "L*/*_SR_B4.TIF", mask, input={"auxiliary": [guide]})
    for number, scene in enumerate(scenes):
        codes, _ = _run(config, f"{scene}_SR_B4")
        assert np.array_equal(codes == 1, blobs((30, 32), number, n=2) == 1)
        record = json.loads((tmp_path / "out" / f"{scene}_SR_B4" / "record.json").read_text())
        assert any(fact["path"].endswith(f"{scene}_SR_B5.TIF") for fact in record["inputs"])


def test_a_guide_that_one_image_lacks_fails_that_image_alone(tmp_path):
    """The other images of the batch are restored."""
    scenes = _landsat(tmp_path)
    write_image(tmp_path / scenes[1] / f"{scenes[1]}_SR_B5.TIF", smooth((1, 30, 32)))
    mask = {"kind": "qa_pixel", "path": "{folder}/{stem:-6}_QA_PIXEL.TIF"}
    config = _config(tmp_path, "L*/*_SR_B4.TIF", mask, input={"auxiliary": [{"path": "{folder}/{stem:-1}5.TIF"}]})
    outcome = command("run", config)
    assert outcome.code == 5
    assert f"{scenes[0]}_SR_B5.TIF: no such file" in outcome.err
    assert (tmp_path / "out" / f"{scenes[1]}_SR_B4" / "record.json").exists()


def test_a_pattern_that_is_not_in_the_name_says_so(tmp_path):
    """Of a mask and of a guide that are not found as their placeholder replaced nothing; one that is there is taken."""
    write_image(tmp_path / "scene_B4.tif", smooth((1, 30, 32)))
    write_image(tmp_path / "scene_B4_mask.tif", blobs((30, 32), n=2)[None])
    found = {"kind": "raster", "path": "{stem/_B9/}_mask.tif"}
    for mask, guides in (({"kind": "raster", "path": "{stem/_B9/_mask}.png"}, []), (found, ["{stem/_B9/_B5}.tiff"])):
        outcome = command("plan", _config(tmp_path, "scene_B4.tif", mask, input={"auxiliary": guides}))
        assert outcome.code == 4
        assert "} replaces nothing, as '_B9' is not in the image's name 'scene_B4'" in outcome.err
    assert command("plan", _config(tmp_path, "scene_B4.tif", found)).code == 0


def test_a_glob_that_takes_the_masks_says_so(tmp_path):
    """Nothing is begun; the message says what to write, and that works."""
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.tif", smooth((1, 24, 24)))
        write_image(tmp_path / f"{name}_holes.tif", blobs((24, 24), n=1)[None])
    mask = {"kind": "raster", "path": "{stem}_holes.tif"}
    outcome = command("run", _config(tmp_path, "*.tif", mask))
    assert outcome.code == 2
    assert "also takes masks of its images: a_holes.tif, b_holes.tif" in outcome.err
    assert 'exclude: ["*_holes.tif"]' in outcome.err
    assert not (tmp_path / "out").exists()
    assert command("run", _config(tmp_path, "*.tif", mask, input={"exclude": "*_holes.tif"})).code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir() and p.name[0] != ".") == ["a", "b"]


# --- lengths in other units --------------------------------------------------------------------------------------


@pytest.fixture
def in_feet(tmp_path: Path) -> Path:
    """Write an image of 100 ft pixels and a mask of one of them."""
    grid = {"crs": FEET, "transform": rasterio.Affine(100, 0, 1_300_000, 0, -100, 500_000)}
    write_image(tmp_path / "x.tif", smooth((1, 30, 30), "uint8"), **grid)
    drawn = np.zeros((1, 30, 30), np.uint8)
    drawn[0, 15, 15] = 1
    write_image(tmp_path / "m.tif", drawn, **grid)
    return tmp_path


@pytest.mark.parametrize(
    ("buffer", "pixels_wide"), [("60 m", 1), ("62 m", 2), ("200 us-ft", 2), ("0.04 km", 1), ("2 px", 2)]
)
def test_buffers_on_a_grid_in_feet(in_feet, buffer, pixels_wide):
    """60 m are 1.97 pixels of 100 US survey feet: less than two."""
    codes, _ = _run(_config(in_feet, "x.tif", {"kind": "raster", "path": "m.tif", "buffer": buffer}))
    assert np.flatnonzero(codes[15] == 1).tolist() == list(range(15 - pixels_wide, 16 + pixels_wide))


def test_a_bare_number_asks_for_its_unit(in_feet):
    """60 what? The message offers both; on a grid without a unit it counts pixels."""
    refused = command("run", _config(in_feet, "x.tif", {"kind": "raster", "path": "m.tif", "buffer": 60}))
    assert refused.code == 2
    assert "x.tif: buffer: '60' has no unit" in refused.err
    assert "write '60 px' or '60 us-ft'" in refused.err


@pytest.mark.parametrize(("unit", "size"), [("micron", 1e-3), ("meter", 1e3)])
def test_volumes_in_other_units(tmp_path, unit, size):
    """A volume in microns or metres and a mask with the same header lie on one grid; a buffer in mm is converted."""
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    hole = np.zeros((14, 12, 10), np.uint8)
    hole[7, 6, 5] = 1
    for name, values in (("x", smooth((1, 14, 12, 10), "int16")[0]), ("m", hole)):
        image = nibabel.Nifti1Image(values, affine)
        image.header.set_xyzt_units(unit)
        image.to_filename(tmp_path / f"{name}.nii.gz")
    buffer = f"{2 * size:g} mm"
    codes, _ = _run(_config(tmp_path, "x.nii.gz", {"kind": "raster", "path": "m.nii.gz", "buffer": buffer}))
    assert np.flatnonzero(codes[5, 6] == 1).tolist() == [5, 6, 7, 8, 9]


# --- NIfTI masks that are odd or damaged -------------------------------------------------------------------------


def _volume(folder: Path) -> bytes:
    """Write a volume, and return the bytes of an uncompressed mask for it."""
    write_image(folder / "x.nii", smooth((1, 8, 12, 14), "int16"))
    write_image(folder / "m.nii", blobs((8, 12, 14), n=1, radius=2.0)[None])
    return (folder / "m.nii").read_bytes()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("e.nii.gz", lambda _: b"", "mask for a volume must be NIfTI"),
        ("m.nii", lambda good: good[:112] + np.float32([1, np.nan]).tobytes() + good[120:], "invalid intercept"),
        ("m.nii", lambda good: good[:-100], "mask ends in plane"),
    ],
)
def test_a_damaged_mask_is_named(tmp_path, name, damage, message):
    """Exit code 4 and the file, not a traceback."""
    (tmp_path / name).write_bytes(damage(_volume(tmp_path)))
    outcome = command("run", _config(tmp_path, "x.nii", {"kind": "raster", "path": name}))
    assert outcome.code == 4
    assert f"{name}: " in outcome.err
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_compressed_mask_that_is_named_nii(tmp_path):
    """What is in the file counts, not what it is called."""
    (tmp_path / "m.nii").write_bytes(gzip.compress(_volume(tmp_path)))
    codes, _ = _run(_config(tmp_path, "x.nii", {"kind": "raster", "path": "m.nii"}))
    assert np.array_equal(codes == 1, blobs((8, 12, 14), n=1, radius=2.0) == 1)


def test_a_volume_without_a_place(tmp_path):
    """An sform of zeros gives no voxel an extent: exit code 4, with what to repair."""
    _volume(tmp_path)
    good = (tmp_path / "x.nii").read_bytes()
    codes_to_sform = np.array([0, 1], np.int16).tobytes() + good[256:280] + bytes(48)
    (tmp_path / "x.nii").write_bytes(good[:252] + codes_to_sform + good[328:])
    outcome = command("run", _config(tmp_path, "x.nii", {"kind": "raster", "path": "m.nii"}))
    assert outcome.code == 4
    assert "gives a pixel no extent; repair the georeference (NIfTI: sform and qform)" in outcome.err


# --- references --------------------------------------------------------------------------------------------------


def test_a_reference_without_any_mask_is_said(tmp_path):
    """One with a mask beside it is not, nor one whose entry says that nothing is hidden."""
    values = smooth((1, 32, 32))
    for change, name in enumerate(("x", "r", "s", "t")):
        write_image(tmp_path / f"{name}.tif", values + change)
    write_image(tmp_path / "m.tif", blobs((32, 32), n=1)[None])
    write_image(tmp_path / "s_mask.tif", blobs((32, 32), 1, n=1)[None])
    config = _config(
        tmp_path,
        "x.tif",
        {"kind": "raster", "path": "m.tif"},
        input={"references": ["r.tif", "s.tif", {"source": "t.tif", "mask": []}]},
    )
    _, notices = _run(config)
    assert [note.split(": it has no mask")[0].rpartition("/")[2] for note in notices if "has no mask" in note] == [
        "r.tif"
    ]
