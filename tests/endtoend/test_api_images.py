"""Images in memory are taken as they were given: nothing is rounded, unmasked, turned or moved on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
import xarray
from affine import Affine

from pipeline.api import evaluate, plan, restore
from pipeline.api.given import mask_entries, sections_of
from pipeline.api.images import kind_of
from pipeline.errors import ConfigError, OutputConflict, SourceError
from pipeline.formats import open_any
from pipeline.geometry.box import Box
from tests.helpers import blobs, pixels, smooth, write_image

CHEAP: dict[str, Any] = {"model": {"kind": "tension"}, "compute": {"executor": "serial", "device": "cpu"}}
SHAPE = (24, 30)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def _labelled(**attributes: Any) -> xarray.DataArray:
    """Return an array of 10 m pixels in UTM whose first one begins at (600000, 5000000)."""
    array = xarray.DataArray(
        smooth((1, *SHAPE))[0],
        dims=("y", "x"),
        coords={
            "y": 5_000_000 - 10 * (np.arange(SHAPE[0]) + 0.5),
            "x": 600_000 + 10 * (np.arange(SHAPE[1]) + 0.5),
            "spatial_ref": 0,
        },
        attrs=attributes,
    )
    crs = rasterio.crs.CRS.from_epsg(32633).to_wkt()
    array.coords["spatial_ref"].attrs.update(crs_wkt=crs, GeoTransform="600000 10 0 5000000 0 -10")
    return array


def _keeper(folder: Path) -> Callable[[str, Callable[[Path], None]], Path]:
    """Return what keeps files in a folder."""

    def keep(name: str, write: Callable[[Path], None]) -> Path:
        write(folder / name)
        return folder / name

    return keep


def test_what_is_masked_was_not_observed() -> None:
    """Neither pixels nor holes under a mask count; what is left masked keeps its value, what is restored is not masked.

    In holes NaN marks nothing, either.
    """
    image, unseen, drawn = smooth((1, *SHAPE))[0], np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    unseen[:, 22:], drawn[4:9, 6:11], drawn[10:15, 20:24] = True, True, True
    masked = np.ma.MaskedArray(image, mask=unseen, fill_value=7)
    given = restore(masked, np.ma.MaskedArray(np.ones(SHAPE), mask=~drawn), **CHEAP)
    np.testing.assert_array_equal(given.values.mask, unseen & ~drawn)
    np.testing.assert_array_equal(given.values.data[~drawn], image[~drawn])
    assert given.values.fill_value == 7
    assert given.record["holes"]["pixels"] == drawn.sum()
    assert given.record["holes"]["never_touched"] == (unseen & ~drawn).sum()
    np.testing.assert_array_equal(given.source, np.where(drawn, 1, np.where(unseen, 255, 0)))


@pytest.mark.parametrize(("dtype", "held"), [("float32", np.nan), ("uint8", 255), ("int64", 2**63 - 1)])
def test_what_stands_for_masked_pixels_was_never_observed(tmp_path: Path, dtype: str, held: float) -> None:
    """NaN, the largest or the smallest number; where no number is left, the message says what to do."""
    values = np.ma.MaskedArray(np.arange(12, dtype=dtype).reshape(3, 4), mask=np.eye(3, 4, dtype=bool))
    file = open_any(kind_of(values).saved(_keeper(tmp_path), "image"))
    np.testing.assert_equal(file.nodata, (held,))
    np.testing.assert_array_equal(file.never(Box.whole((3, 4)))[0], values.mask)
    every = np.ma.MaskedArray(np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(2, axis=1))
    every[0, 0] = np.ma.masked
    every.fill_value = 9
    with pytest.raises(SourceError, match="set fill_value to one that no pixel has"):
        kind_of(every).saved(_keeper(tmp_path), "image")


def test_voxels_are_not_scaled_anew(tmp_path: Path) -> None:
    """Of a file with a slope the stored numbers, of an array its own type, whatever the header says."""
    values = smooth((1, 8, 9, 10), "int16")[0]
    stored = nibabel.nifti1.Nifti1Image(values, AFFINE)
    stored.header.set_slope_inter(0.1, 3)
    nibabel.save(stored, tmp_path / "scaled.nii.gz")
    scaled = nibabel.load(tmp_path / "scaled.nii.gz")
    again = nibabel.load(kind_of(scaled).saved(_keeper(tmp_path), "image"))
    np.testing.assert_array_equal(again.dataobj.get_unscaled(), values)
    np.testing.assert_array_equal(again.get_fdata(), scaled.get_fdata())
    fractions = values * 1.2345
    # what many scripts do: the header of the file it came from has another type
    image = nibabel.nifti1.Nifti1Image(fractions, AFFINE, nibabel.nifti1.Nifti1Image(values, AFFINE).header)
    assert image.get_data_dtype() == np.int16
    again = nibabel.load(kind_of(image).saved(_keeper(tmp_path), "image"))
    np.testing.assert_array_equal(np.asanyarray(again.dataobj), fractions)


def test_a_part_that_was_cut_out_lies_where_its_coordinates_say() -> None:
    """The array keeps the GeoTransform of the whole; a rotated grid has no coordinates, and only that."""
    array = _labelled()
    assert kind_of(array).raster.grid["transform"] == Affine(10, 0, 600_000, 0, -10, 5_000_000)
    assert kind_of(array[5:, 7:]).raster.grid["transform"] == Affine(10, 0, 600_070, 0, -10, 4_999_950)
    rotated = array.drop_vars(["x", "y"])
    rotated.coords["spatial_ref"].attrs["GeoTransform"] = "600000 7 7 5000000 7 -7"
    assert kind_of(rotated).raster.grid["transform"] == Affine(7, 7, 600_000, 7, -7, 5_000_000)


def test_layers_keep_the_reference_system(tmp_path: Path) -> None:
    """Error and source of a DataArray lie where the image lies; its other attributes are those of values alone."""
    array = _labelled(units="m")
    write_image(tmp_path / "codes.tif", np.zeros((1, *SHAPE), np.uint8))
    layer = kind_of(array).layer(tmp_path / "codes.tif")
    assert layer.coords["spatial_ref"].attrs == array.coords["spatial_ref"].attrs
    assert not layer.attrs


@pytest.mark.parametrize(
    ("attributes", "nodata"),
    [
        ({"_FillValue": 0, "nodata": 5}, 0),
        ({"missing_value": np.array([3], np.uint16)}, 3),
        ({"nodata": 0.0}, 0),
        ({"fill_value": 65535}, 65535),
        ({"_FillValue": -9999}, None),
        ({"_FillValue": np.nan}, None),
        ({"_FillValue": 2.5}, None),
    ],
)
def test_nodata_of_a_dataarray(attributes: dict[str, Any], nodata: float | None) -> None:
    """The attributes that rioxarray asks, too; what no pixel can have is none."""
    assert kind_of(_labelled(**attributes)).raster.nodata == nodata


def _renamed(array: xarray.DataArray, **attributes: Any) -> xarray.DataArray:
    array.coords["spatial_ref"].attrs.update(attributes)
    return array


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (lambda: xarray.concat([_labelled()] * 3, "band").transpose("y", "x", "band"), "the last two must be y and x"),
        (lambda: _labelled().T, "the last two must be y and x"),
        (lambda: _labelled().assign_coords(x=[f"c{k}" for k in range(30)]), "no numbers"),
        (lambda: _labelled().assign_coords(x=np.r_[np.nan, np.arange(29)]), "no regular grid"),
        (lambda: _labelled(_FillValue="none"), "must be one number"),
        (lambda: _renamed(_labelled(), GeoTransform="1 2 3"), "six numbers"),
        (lambda: _renamed(_labelled(), crs_wkt="nonsense"), "reference system cannot be read"),
        (lambda: _labelled()[0], "is no raster"),
        (
            lambda: nibabel.Nifti1Image(np.ma.masked_array(np.zeros((3, 4, 5), np.float32), mask=True), AFFINE),
            "masked, which NIfTI cannot hold",
        ),
    ],
)
def test_what_a_dataarray_says_must_be_clear(image: Callable[[], Any], said: str) -> None:
    """Nothing is guessed, turned or read from the wrong axis."""
    with pytest.raises(SourceError, match=said):
        kind_of(image())


@pytest.mark.parametrize(
    "image",
    [
        lambda: xarray.Dataset({"a": _labelled()}),
        lambda: nibabel.freesurfer.MGHImage(np.zeros((3, 4, 5), np.float32), AFFINE),
        lambda: nibabel.nifti1.Nifti1Pair(np.zeros((3, 4, 5), np.float32), AFFINE),
    ],
)
def test_what_could_not_come_back_is_refused(image: Callable[[], Any]) -> None:
    """With what to give in its place, before anything is computed."""
    with pytest.raises(TypeError, match=r"dataset\['NAME'\]|Nifti1Image.from_image"):
        kind_of(image())


@pytest.mark.parametrize(
    ("holes", "said"),
    [
        (lambda array: array[::-1], "other coordinates 'y'"),
        (lambda array: array.assign_coords(x=array.x + 1000), "other coordinates 'x'"),
        (lambda array: array.T, "transpose the holes"),
        (lambda _: np.full(SHAPE, "x"), "say nothing"),
        (lambda _: np.ones((3, 3)), "do not fit"),
    ],
)
def test_holes_lie_on_the_image(tmp_path: Path, holes: Callable[[Any], Any], said: str) -> None:
    """Those of another place or order would hide other pixels."""
    array = _labelled()
    with pytest.raises(SourceError, match=said):
        kind_of(array).entry(holes(array), _keeper(tmp_path))
    entry = kind_of(array).entry(array.copy(data=blobs(SHAPE)), _keeper(tmp_path))
    np.testing.assert_array_equal(pixels(entry["path"])[0], blobs(SHAPE))


def test_sections_take_what_python_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths, numbers of numpy and NaN; relative paths start from the working folder, as nobody sees the config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.tif").touch()
    given = sections_of(
        {
            "seed": np.int64(3),
            "input": {"nodata": float("nan"), "references": [{"path": Path("other.tif"), "date": "2020"}]},
            "model": {"kind": "tension", "weights": "auto"},
            "mask": {"kind": "raster", "path": "{stem}_mask.tif"},
        }
    )
    reference = {"path": str(tmp_path / "other.tif"), "date": "2020"}
    assert given == {
        "seed": 3,
        "input": {"nodata": "nan", "references": [reference]},
        "model": {"kind": "tension", "weights": "auto"},
        "mask": [{"kind": "raster", "path": str(tmp_path / "{stem}_mask.tif")}],
    }
    kept = [{"kind": "scl", "path": "{folder}/scl.tif"}, {"kind": "raster", "path": "https://a.b/c.tif"}]
    assert mask_entries(kept) == kept


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"output": {"directory": "x"}}, "use folder="),
        ({"input": {"source": "x"}}, "first argument"),
        ({"output": "x"}, "must be a dict"),
        ({"model": {"kind": object()}}, "model.kind: a config cannot hold"),
        ({"mask": "auto"}, "holes are given, too"),
        ({"input": {"references": "x"}, "references": "y"}, "give them once"),
    ],
)
def test_nothing_that_is_asked_for_is_passed_over(sections: dict[str, Any], said: str) -> None:
    """What an argument says, a section does not say again."""
    with pytest.raises(ConfigError, match=said):
        plan(smooth((1, *SHAPE))[0], blobs(SHAPE), **sections)


def test_one_image_one_result(tmp_path: Path) -> None:
    """A path that stands for several is refused before the first is restored; a folder that is a file, too."""
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.tif", smooth((1, *SHAPE)))
    hole = write_image(tmp_path / "hole.zarr", blobs(SHAPE)[None])
    for call in (restore, plan, evaluate):
        with pytest.raises(ConfigError, match="stands for 2 images: a, b"):
            call(tmp_path / "*.tif", hole, **CHEAP)
    with pytest.raises(OutputConflict, match="choose another folder"):
        restore(smooth((1, *SHAPE)), blobs(SHAPE), folder=tmp_path / "a.tif", **CHEAP)


def test_channels_with_holes_of_their_own_and_a_reference() -> None:
    """Both tell: the reference, which needs no list around it, and where that is hidden the other channel."""
    noise = np.random.default_rng(1).normal(0, 60, (1, 40, 44))
    image = (smooth((2, 40, 44)) + noise).astype(np.uint16)
    hole = np.stack([blobs((40, 44), seed, n=2, radius=5.0) for seed in (0, 3)])
    other = (1.2 * image + 40).astype(np.uint16)
    given = restore(image, hole, references=[(other, np.indices((40, 44))[1] < 22)], **CHEAP)
    assert set(given.record["holes"]["by_source"]) >= {"reference 0", "other channels"}
    np.testing.assert_array_equal(given.values[hole == 0], image[hole == 0])
    assert plan(image, hole, references=other, **CHEAP)["holes"] == hole.sum()
