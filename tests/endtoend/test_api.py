"""From Python: the kind that goes in comes out, with the bytes of the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
import xarray

from pipeline.api import evaluate, open_image, plan, restore
from pipeline.errors import ConfigError, OutputConflict, SourceError
from tests.helpers import blobs, command, pixels, smooth

DOCS = Path(__file__).parents[2] / "docs"
CHEAP: dict[str, Any] = {"model": {"kind": "tension"}, "compute": {"executor": "serial", "device": "cpu"}}
SHAPE = (3, 70, 80)


def _labelled(values: np.ndarray) -> xarray.DataArray:
    """Return a DataArray in UTM, with 10 m pixels whose first one begins at (600000, 5000000)."""
    bands, height, width = values.shape
    array = xarray.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={
            "band": [f"B{k + 1}" for k in range(bands)],
            "y": 5_000_000 - 10 * (np.arange(height) + 0.5),
            "x": 600_000 + 10 * (np.arange(width) + 0.5),
            "spatial_ref": 0,
        },
        attrs={"units": "reflectance"},
        name="scene",
    )
    array.coords["spatial_ref"].attrs["crs_wkt"] = rasterio.crs.CRS.from_epsg(32633).to_wkt()
    return array


def test_an_array_gives_the_bytes_of_the_command_line(tmp_path):
    """Observed and restored pixels, errors and sources."""
    image, hole = smooth(SHAPE), blobs(SHAPE[1:])
    given = restore(image, hole, folder=tmp_path / "kept", **CHEAP)
    path = tmp_path / "kept/image/image_restored.tif"
    assert given.folder == path.parent
    np.testing.assert_array_equal(given.values, pixels(path))
    assert given.values.dtype == image.dtype
    np.testing.assert_array_equal(given.values[:, hole == 0], image[:, hole == 0])
    assert given.uncertainty.shape == SHAPE
    assert (given.uncertainty[:, hole == 1] > 0).all()
    np.testing.assert_array_equal(given.source, hole)
    # the very config of the call, on the command line
    (config,) = (tmp_path / "kept/inputs").glob("*/config.yaml")
    other = tmp_path / "other"
    assert command("run", config, "--set", f"output.directory={other}", "--quiet").code == 0
    hashes = [
        {o["role"]: o["sha256"] for o in json.loads((folder / "image/record.json").read_text())["outputs"]}
        for folder in (tmp_path / "kept", other)
    ]
    for role in ("uncertainty", "source"):
        assert hashes[0][role] == hashes[1][role]


def test_a_result_says_how_far_to_trust_it_and_what_was_done():
    """What the command line and the report say; a notebook shows a line, not thousands of numbers."""
    found = restore(smooth(SHAPE), blobs(SHAPE[1:]), **CHEAP)
    assert found.judgement.level in ("sound", "look", "poor")
    assert repr(found).startswith(f"<Restored, {found.judgement.words}: ")
    assert len(repr(found)) < 1000
    assert f"{found.record['holes']['pixels']:,} pixels" in found.methods.text
    assert "@misc{inpaintpipeline" in found.methods.bibtex


def test_one_plane_stays_one_plane():
    """`(y, x)` in, `(y, x)` out; one band in an axis of its own keeps it."""
    image, hole = smooth((1, 60, 64)), blobs((60, 64)) == 1
    flat, deep = restore(image[0], hole, **CHEAP), restore(image, hole, **CHEAP)
    assert flat.values.shape == flat.uncertainty.shape == flat.source.shape == (60, 64)
    assert deep.values.shape == (1, 60, 64)
    np.testing.assert_array_equal(flat.values, deep.values[0])
    assert flat.folder is None


def test_bands_may_have_holes_of_their_own():
    """Each band of the holes belongs to one of the image."""
    image, hole = smooth(SHAPE), np.stack([blobs(SHAPE[1:], seed) for seed in range(3)])
    given = restore(image, hole, **CHEAP)
    np.testing.assert_array_equal(given.source != 0, hole == 1)
    np.testing.assert_array_equal(given.values[hole == 0], image[hole == 0])


def test_an_xarray_comes_back_with_its_place(tmp_path):
    """Coordinates and names stay, and the file that is made lies where the coordinates say."""
    array, hole = _labelled(smooth(SHAPE)), blobs(SHAPE[1:])
    given = restore(array, array[0].copy(data=hole), folder=tmp_path, **CHEAP)
    assert given.values.coords.equals(array.coords)
    assert given.values.attrs == array.attrs
    assert given.values.name == "scene"
    assert given.uncertainty.dims == array.dims
    assert given.source.dims == ("y", "x")
    assert not given.source.attrs
    with rasterio.open(tmp_path / "image/image_restored.tif") as file:
        assert file.crs.to_epsg() == 32633
        assert tuple(file.transform)[:6] == (10, 0, 600_000, 0, -10, 5_000_000)


def test_coordinates_that_are_no_grid_are_refused():
    """Nothing is restored on a grid that was guessed."""
    array = _labelled(smooth(SHAPE))
    uneven = array.assign_coords(x=600_000 + np.arange(SHAPE[2]) ** 1.1)
    with pytest.raises(SourceError, match="'x' is no regular grid"):
        restore(uneven, blobs(SHAPE[1:]), **CHEAP)


def test_a_nibabel_image_comes_back_as_one():
    """The same class, affine and observed voxels; holes as an array or as an image."""
    values = smooth((1, 20, 24, 22), "int16")[0]
    hole, affine = blobs(values.shape, n=1, radius=3.0), np.diag([2.0, 2.0, 2.5, 1.0])
    image = nibabel.nifti1.Nifti1Image(values, affine)
    given = restore(image, hole == 1, **CHEAP)
    same = restore(image, nibabel.nifti1.Nifti1Image(hole, affine), **CHEAP)
    assert type(given.values) is nibabel.nifti1.Nifti1Image
    np.testing.assert_array_equal(given.values.affine, affine)
    stored = np.asanyarray(given.values.dataobj)
    assert stored.dtype == np.int16
    np.testing.assert_array_equal(stored[hole == 0], values[hole == 0])
    np.testing.assert_array_equal(stored, np.asanyarray(same.values.dataobj))
    np.testing.assert_array_equal(np.asanyarray(given.source.dataobj), hole)


def test_references_and_their_holes_are_used():
    """A pair is an image with its holes: where it is hidden it says nothing."""
    image, hole = smooth(SHAPE), blobs(SHAPE[1:], radius=9.0)
    noise = np.random.default_rng(1).normal(0, 60, SHAPE[1:])
    image = (image + noise).astype(np.uint16)
    other = (1.2 * image + 40).astype(np.uint16)
    given = restore(image, hole, references=[(other, np.zeros(SHAPE[1:], bool))], **CHEAP)
    assert "reference 0" in given.record["holes"]["by_source"]
    blind = restore(image, hole, references=[(other, np.ones(SHAPE[1:], bool))], **CHEAP)
    assert set(blind.record["holes"]["by_source"]) == {"classical"}


def test_the_same_call_gives_what_is_there_and_another_is_refused(tmp_path):
    """A folder keeps its results."""
    image, hole = smooth(SHAPE), blobs(SHAPE[1:])
    first, again = (restore(image, hole, folder=tmp_path, **CHEAP) for _ in range(2))
    assert again.record["created"] == first.record["created"]
    with pytest.raises(OutputConflict):
        restore(image + 1, hole, folder=tmp_path, **CHEAP)
    np.testing.assert_array_equal(open_image(first.folder / "image_restored.tif").dtype, image.dtype)


def test_plan_and_evaluate_say_what_the_commands_say():
    """Rows without the name of an image that has none."""
    image, hole = smooth(SHAPE), blobs(SHAPE[1:])
    assert plan(image, hole, **CHEAP)["holes"] == hole.sum()
    methods = [row.get("method") for row in evaluate(image, hole, families=["own"], **CHEAP)]
    assert "tension" in methods
    assert "nearest" in methods


@pytest.mark.parametrize(
    ("image", "holes", "error"),
    [
        (np.zeros((2, 3, 4, 5), np.uint8), None, SourceError),
        (np.zeros((8, 8), bool), None, SourceError),
        (np.zeros((8, 8), np.float16), None, SourceError),
        (np.zeros((8, 8), np.uint8), np.zeros((7, 8)), SourceError),
        (np.zeros((8, 8), np.uint8), None, ConfigError),
        ([[1, 2], [3, 4]], None, TypeError),
        ("no_such_file.tif", None, SourceError),
        ("no_such_file.tif", np.zeros((8, 8)), TypeError),
    ],
)
def test_what_cannot_be_restored_is_refused(image, holes, error):
    """Before anything is computed."""
    with pytest.raises(error):
        restore(image, holes, **CHEAP)


@pytest.mark.parametrize(("page", "least"), [("python.md", 5), ("tutorials/python.md", 1)])
def test_the_page_runs(page, least, tmp_path, monkeypatch):
    """Each example of a page, one after the other."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert len(blocks) >= least
    for block in blocks:
        exec(compile(block, page, "exec"), names)
