"""Keys of `input` that change how a file is opened reach the published files and pass the run's own checks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio

from pipeline.config.catalog import resolve_sources
from pipeline.config.schema import load_config
from pipeline.formats import nifti, open_any
from pipeline.formats._gzip import inflate_range
from pipeline.output.verify import verify
from pipeline.run import run
from tests.helpers import blobs, command, layer, pixels, result_hash, run_config, smooth, write_image

FILL = {"model": {"kind": "nearest"}}


@pytest.mark.parametrize("declared", [None, 7])
@pytest.mark.parametrize("nodata", [0, -9999, "none"])
def test_nodata_of_the_config_leaves_the_header(tmp_path, declared, nodata):
    """`input.nodata` says how pixels are read; the published header is the input's."""
    values = smooth((1, 48, 48), "int16")
    hole = blobs((48, 48))
    image = write_image(tmp_path / "image.tif", values, nodata=declared)
    mask = write_image(tmp_path / "mask.tif", hole[None])
    config = run_config(tmp_path, image, mask, input={"nodata": nodata}, **FILL)
    assert (outcome := command("run", config)).code == 0, outcome.err
    restored = layer(tmp_path / "out" / "image", "restored")
    assert restored.nodata == open_any(str(image)).nodata
    assert command("verify", tmp_path / "out").code == 0


def test_nodata_of_a_volume(tmp_path):
    """NIfTI cannot declare nodata: the config can, and voxels that hold it are never touched."""
    values = smooth((1, 16, 16, 16), "int16")
    values[0, :3] = 0
    hole = np.zeros((1, 16, 16, 16), np.uint8)
    hole[0, 2:8, 5:9, 5:9] = 1
    image = write_image(tmp_path / "image.nii.gz", values)
    mask = write_image(tmp_path / "mask.nii.gz", hole)
    config = run_config(tmp_path, image, mask, input={"nodata": 0, "fill_nodata": "never"}, **FILL)
    assert (outcome := command("run", config)).code == 0, outcome.err
    assert (pixels(layer(tmp_path / "out" / "image", "source"))[0, 2, 5:9, 5:9] == 255).all()
    assert command("verify", tmp_path / "out").code == 0


def test_results_of_a_packed_volume_are_inflated_as_a_whole(tmp_path, monkeypatch):
    """Windows of the last check would each inflate a file from its start."""
    image = write_image(tmp_path / "image.nii.gz", smooth((1, 16, 16, 16), "int16"))
    mask = write_image(tmp_path / "mask.nii.gz", blobs((16, 16, 16), radius=3)[None])
    parts = []
    monkeypatch.setattr(nifti, "inflate_range", lambda *part: parts.append(part) or inflate_range(*part))
    outcome = command("run", run_config(tmp_path, image, mask, **FILL))
    assert outcome.code == 0, outcome.err
    assert not parts


@pytest.mark.parametrize("bands", [[2], [3, 1]])
def test_some_bands_of_a_raster(tmp_path, bands):
    """`input.bands` restores and publishes these bands alone, in that order, named or not."""
    values = smooth((3, 48, 48), "uint16")
    image = write_image(tmp_path / "image.tif", values)
    with rasterio.open(image, "r+") as file:
        file.set_band_description(3, "red")
        file.set_band_unit(1, "K")
    mask = write_image(tmp_path / "mask.tif", blobs((48, 48))[None])
    config = run_config(tmp_path, image, mask, input={"bands": bands}, **FILL)
    assert (outcome := command("run", config)).code == 0, outcome.err
    keep = blobs((48, 48)) == 0
    restored = pixels(layer(tmp_path / "out" / "image", "restored"))
    assert np.array_equal(restored[:, keep], values[[b - 1 for b in bands]][:, keep])
    assert command("verify", tmp_path / "out").code == 0


def test_one_volume_of_a_series(tmp_path):
    """One time point of a 4-D file is published as the 3-D image that it is."""
    values = smooth((3, 12, 14, 16), "int16")
    hole = np.zeros((1, 12, 14, 16), np.uint8)
    hole[0, 4:7, 4:7, 4:7] = 1
    image = write_image(tmp_path / "image.nii.gz", values)
    mask = write_image(tmp_path / "mask.nii.gz", hole)
    config = run_config(tmp_path, image, mask, input={"bands": [2]}, **FILL)
    assert (outcome := command("run", config)).code == 0, outcome.err
    assert nibabel.load(tmp_path / "out" / "image" / "image_restored.nii.gz").shape == (16, 14, 12)
    assert command("verify", tmp_path / "out").code == 0


def test_a_second_run_in_one_process(tmp_path):
    """The same image copied anew, the results removed: nothing that the first run had staged is looked for."""
    hole = np.zeros((1, 12, 14, 16), np.uint8)
    hole[0, 4:7, 4:7, 4:7] = 1
    mask = write_image(tmp_path / "mask.nii.gz", hole)
    hashes = []
    for time in (1, 2):
        image = write_image(tmp_path / "image.nii.gz", smooth((1, 12, 14, 16), "int16"))
        os.utime(image, (time, time))
        config = run_config(tmp_path, image, mask, **FILL | {"compute": {"executor": "serial"}})
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        run(config)
        hashes.append(result_hash(tmp_path / "out" / "image"))
    assert all(check.held for check in verify(tmp_path / "out" / "image"))
    assert hashes[0] == hashes[1]


def test_config_new_in_another_folder(tmp_path, monkeypatch):
    """Paths are relative to the config that is written, not to where the user stands; no folder is no traceback."""
    (tmp_path / "data").mkdir()
    image = write_image(tmp_path / "data" / "image.tif", smooth((1, 48, 48)))
    write_image(tmp_path / "data" / "image_mask.tif", blobs((48, 48))[None])
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path)
    outcome = command("config", "new", image.relative_to(tmp_path), "-o", "configs/mine.yaml")
    assert outcome.code == 0, outcome.err
    assert (outcome := command("plan", "configs/mine.yaml")).code == 0, outcome.err
    outcome = command("config", "new", image, "-o", "nowhere/mine.yaml")
    assert outcome.code == 6
    assert "nowhere/mine.yaml" in outcome.err


def test_names_in_the_report_are_text(tmp_path):
    """A file name is no HTML, and the dtype is readable."""
    image = write_image(tmp_path / "a<b>&c.tif", smooth((1, 48, 48), "uint16"))
    mask = write_image(tmp_path / "mask.tif", blobs((48, 48))[None])
    assert (outcome := command("run", run_config(tmp_path, image, mask, **FILL))).code == 0, outcome.err
    page = (tmp_path / "out" / "a<b>&c" / "report.html").read_text()
    assert "<b>&c" not in page
    assert "a&lt;b&gt;&amp;c" in page
    assert "uint16" in page


@pytest.mark.parametrize("named", ["image.tif", "link.tif", "copy.tif"])
def test_the_image_is_no_reference_of_itself(tmp_path, named):
    """Its clouds were restored as clouds: exit 2. A mask of its own, or other bands of it, make it one like others."""
    values, hole = smooth((2, 40, 46)), blobs((40, 46), n=2, radius=5)
    image = write_image(tmp_path / "image.tif", np.where(hole, 5000, values).astype(values.dtype))
    mask = write_image(tmp_path / "clouds.tif", hole[None])
    (tmp_path / "link.tif").symlink_to(image)
    shutil.copy(image, tmp_path / "copy.tif")
    guide = {"path": str(tmp_path / named)}
    refused = command("run", run_config(tmp_path, image, mask, input={"references": [guide]}))
    assert refused.code == 2
    assert f"{named} is the image itself, and nothing says what is hidden in it" in refused.err
    beside = write_image(tmp_path / f"{Path(named).stem}_mask.tif", hole[None])
    refused = command("run", run_config(tmp_path, image, mask, input={"references": [guide]}))
    assert (refused.code, "is the image itself" in refused.err) == (2, True), refused.err
    beside.unlink()
    masked = guide | {"mask": [{"kind": "raster", "path": str(mask)}]}
    for allowed in ({"references": [masked]}, {"bands": [1], "references": [guide | {"bands": [2]}]}):
        outcome = command("plan", run_config(tmp_path, image, mask, input=allowed))
        assert outcome.code == 0, outcome.err


def test_a_glob_of_dates_leaves_out_the_image_itself(tmp_path):
    """The same glob serves every image of a batch."""
    hole = blobs((40, 46), n=2, radius=5)
    for number in (1, 2):
        write_image(tmp_path / f"date_{number}.tif", smooth((2, 40, 46), seed=number))
    mask = write_image(tmp_path / "clouds.tif", hole[None])
    guides = {"references": [{"path": str(tmp_path / "date_*.tif")}]}
    config = run_config(tmp_path, tmp_path / "date_1.tif", mask, input=guides)
    (spec,) = resolve_sources(load_config(config))
    assert [Path(one.paths[0]).name for one in spec.references] == ["date_2.tif"]
    (tmp_path / "date_2.tif").unlink()
    refused = command("run", config)
    assert refused.code == 4
    assert "no file matches but the image itself" in refused.err
