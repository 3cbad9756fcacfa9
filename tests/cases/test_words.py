"""Names and values as newcomers write them, and what they are told."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import zarr

from tests.helpers import blobs, command, run_config, smooth, write_image

SHAPE = (40, 46)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A folder with a raster, a mask of three bands that differ, and a volume."""
    folder = tmp_path_factory.mktemp("scene")
    write_image(folder / "image.tif", smooth((2, *SHAPE)))
    write_image(folder / "mask.tif", np.stack([blobs(SHAPE, seed=k, n=3, radius=4) for k in range(3)]))
    write_image(folder / "mask.nii.gz", np.ones((1, 4, 4, 4), np.uint8))
    (folder / "empty.tif").touch()
    zarr.create_group(folder / "mask.zarr")
    with zipfile.ZipFile(folder / "scene.zip", "w") as archive:
        archive.write(folder / "image.tif", "image.tif")
    return folder


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model=tension", "model: must be a section with keys of its own"),
        ("mask=[{kind: raster, path: mask.tif, values: 1}]", "must be a list, such as [1, 2]"),
        ("seed=abc", "must be a whole number, found 'abc'"),
        ("compute.memory_per_worker=2", "2 means 2 bytes; write it with its unit, such as '4 GiB'"),
        ("output.format=png", "must be 'same' or 'zarr', found 'png'"),
    ],
)
def test_values_of_another_kind(scene, setting, said):
    """The words are those of YAML, and one mistake is one line."""
    outcome = command("plan", run_config(scene, scene / "image.tif", scene / "mask.tif"), "--set", setting)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_nan_in_capitals(scene):
    """As most languages write it."""
    image = write_image(scene / "float.tif", smooth((2, *SHAPE)).astype(np.float32))
    config = run_config(scene, image, scene / "mask.tif", input={"nodata": "NaN"})
    assert command("plan", config).code == 0


@pytest.mark.parametrize(
    ("image", "mask", "said"),
    [
        ('NETCDF:"sst.nc":sst', "mask.tif", "gdal_translate 'NETCDF:\"sst.nc\":sst' part.tif"),
        ("image.tif", "mask.nii.gz", "this is a NIfTI volume; a raster is asked for here"),
        ("image.tif", "mask.zarr", "is zarr, and a file is asked for here"),
        ("image.tif", "empty.tif", "(it is empty)"),
        ("http://127.0.0.1:1/image.tif", "mask.tif", "check the address"),
    ],
)
def test_images_and_masks_of_another_kind(scene, image, mask, said):
    """Exit 4 with what to do."""
    source = image if ":" in image else scene / image
    outcome = command("plan", run_config(scene, source, scene / mask))
    assert outcome.code == 4
    assert said in outcome.err


def test_a_virtual_path_of_gdal_is_an_image(scene):
    """As a URL is, and as it was for masks."""
    outcome = command("plan", run_config(scene, f"/vsizip/{scene}/scene.zip/image.tif", scene / "mask.tif"))
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(("band", "told"), [({}, True), ({"band": 2}, False), ({"band": 1}, False)])
def test_a_mask_of_several_bands(scene, band, told):
    """Only the first is read unless the entry says which."""
    entry = {"kind": "raster", "path": str(scene / "mask.tif"), **band}
    outcome = command("plan", run_config(scene, scene / "image.tif", None, mask=[entry]))
    assert outcome.code == 0, outcome.err
    assert ("has 3 bands, the first is the mask" in outcome.err + outcome.out) == told


def test_grids_that_are_moved_say_how_far(scene):
    """Two rows of equal numbers told nothing."""
    moved = write_image(
        scene / "moved.tif",
        blobs(SHAPE, n=3, radius=4)[None],
        crs="EPSG:32633",
        transform=(10.0, 0.0, 600000.4, 0.0, -10.0, 5000000.0),
    )
    image = write_image(
        scene / "placed.tif",
        smooth((1, *SHAPE)),
        crs="EPSG:32633",
        transform=(10.0, 0.0, 600000.0, 0.0, -10.0, 5000000.0),
    )
    outcome = command("plan", run_config(scene, image, moved))
    assert "origins 0.4 m apart" in outcome.err + outcome.out
