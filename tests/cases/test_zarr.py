"""zarr as other programs write it: time axes, declared values, grids, OME-Zarr from microscopes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr as zarr_library

from pipeline.errors import SourceError
from pipeline.formats import open_any
from tests.support_formats import whole

NUMBERED = ("band_1", "band_2")


def _store(
    path: Path, attributes: dict[str, Any] | None = None, **coordinates: tuple[list[float], dict[str, Any]]
) -> str:
    """Write two channels `(time, y, x)`; coordinates are values and attributes."""
    group = zarr_library.open_group(path, mode="w", zarr_format=3)
    values = np.arange(40, dtype=np.float32).reshape(2, 4, 5)
    group.create_array("sst", data=values, attributes=attributes, dimension_names=("time", "y", "x"))
    for name, (numbers, said) in coordinates.items():
        group.create_array(name, data=np.asarray(numbers), attributes=said, dimension_names=(name,))
    return str(path)


@pytest.mark.parametrize(
    ("said", "numbers", "names"),
    [
        ({"units": "days since 1990-1-1"}, [0, 31], ("1990-01-01", "1990-02-01")),
        ({"units": "Day since 1990-01-01 00:00:00 UTC"}, [0, 31], ("1990-01-01", "1990-02-01")),
        ({"units": "hours since 1990-01-01 0:0:0.0 +02:00"}, [2, 3], ("1990-01-01T00:00:00", "1990-01-01T01:00:00")),
        ({"units": "seconds since 1990-01-01T00:00:00-0130"}, [0, 60], ("1990-01-01T01:30:00", "1990-01-01T01:31:00")),
        # days of these calendars have no dates in ours
        ({"units": "days since 1990-01-01", "calendar": "noleap"}, [800, 1600], NUMBERED),
        ({"units": "days since 1990-01-01", "calendar": "360_day"}, [800, 1600], NUMBERED),
        # before the reform the standard calendar is not that of numpy, and 1990 would be off by two days
        ({"units": "days since 0001-01-01"}, [726467, 726468], NUMBERED),
        (
            {"units": "days since 0001-01-01", "calendar": "proleptic_gregorian"},
            [726467, 726468],
            ("1990-01-01", "1990-01-02"),
        ),
        ({"units": "months since 1990-01-01"}, [0, 1], NUMBERED),
        ({"units": "days since the flood"}, [0, 1], NUMBERED),
        ({"units": "days since 1990-01-01"}, [0, np.nan], NUMBERED),
        ({"units": "days since 1990-01-01"}, [0, 1e300], NUMBERED),
    ],
)
def test_channels_are_called_by_their_time_only_where_that_is_right(tmp_path, said, numbers, names):
    """Time zones, short dates and units in the singular are read; what has no date in the civil calendar gets none."""
    path = _store(tmp_path / "image.zarr", time=(numbers, said))
    assert open_any(f"{path}/sst").channel_names == names


@pytest.mark.parametrize(
    ("attributes", "nodata"),
    [
        ({"missing_value": -9999.0}, -9999.0),
        ({"_FillValue": 5, "missing_value": 7}, 5.0),
        ({"_FillValue": "-9999"}, -9999.0),
    ],
)
def test_the_value_that_means_nothing(tmp_path, attributes, nodata):
    """CF has two names for it, and some writers put numbers into texts."""
    assert open_any(f"{_store(tmp_path / 'image.zarr', attributes)}/sst").nodata == (nodata, nodata)


@pytest.mark.parametrize(
    ("attributes", "coordinates", "said"),
    [
        ({"_FillValue": [1, 2]}, {}, r"_FillValue must be one number, found \[1, 2\]; .*`nodata`"),
        ({"missing_value": "none"}, {}, "missing_value must be one number, found 'none'"),
        ({}, {"y": ([3, np.nan, 1, 0], {}), "x": (range(5), {})}, "y is not evenly spaced"),
        ({}, {"spatial_ref": ([0], {"GeoTransform": "0 1 2"})}, "GeoTransform of 'spatial_ref' must be six numbers"),
        ({}, {"spatial_ref": ([0], {"crs_wkt": "WRONG"})}, "reference system cannot be read .* in 'spatial_ref'"),
        ({}, {"spatial_ref": ([0], {"crs_wkt": "http://127.0.0.1:9/crs"})}, "cannot be read .give a code such as EPSG"),
    ],
)
def test_what_an_array_says_must_be_right(tmp_path, attributes, coordinates, said):
    """The attribute and its value are named, not a damaged store."""
    with pytest.raises(SourceError, match=said):
        open_any(f"{_store(tmp_path / 'image.zarr', attributes, **coordinates)}/sst")


def test_a_fill_value_of_the_config_goes_before_a_wrong_one(tmp_path):
    """What the message advises works."""
    path = _store(tmp_path / "image.zarr", {"_FillValue": "none"})
    assert open_any(f"{path}/sst", nodata=3).nodata == (3.0, 3.0)


def test_dates_that_were_added_later_are_there(tmp_path):
    """Consolidated metadata of an earlier state said that there are fewer, and the others were lost without a word."""
    path = _store(tmp_path / "image.zarr")
    with warnings.catch_warnings():
        # consolidated metadata is no part of the specification yet
        warnings.simplefilter("ignore")
        zarr_library.consolidate_metadata(path)
    group = zarr_library.open_group(path, mode="r+", use_consolidated=False)
    group["sst"].append(np.full((1, 4, 5), 7, dtype=np.float32))
    stale = json.loads((tmp_path / "image.zarr" / "zarr.json").read_text())
    assert stale["consolidated_metadata"]["metadata"]["sst"]["shape"] == [2, 4, 5]
    image = open_any(path)
    assert image.n_channels == 3
    assert (image.read(whole(image))[2] == 7).all()


@pytest.mark.parametrize(("start", "origin", "told"), [(3, 30, True), (0, 0, False)])
def test_what_xarray_has_cut_lies_where_its_coordinates_say(tmp_path, start, origin, told):
    """`isel` cuts coordinates and leaves the GeoTransform as it was: masks on the map came beside the image."""
    axes = {"y": -5.0 - 10 * np.arange(4), "x": 5.0 + 10 * np.arange(start, start + 5)}
    coordinates = {name: (list(values), {}) for name, values in axes.items()}
    path = _store(tmp_path / "image.zarr", spatial_ref=([0], {"GeoTransform": "0 10 0 0 0 -10"}), **coordinates)
    image = open_any(f"{path}/sst")
    assert image.space.affine == (10, 0, origin, 0, -10, 0)
    said = [note for note in image.notices if "GeoTransform of 'spatial_ref' says (origins 30 apart)" in note]
    assert len(said) == told


@pytest.mark.parametrize("place", ["0.2 10 0 0 0 -10", "0 8 6 0 6 -8"])
def test_a_stated_place_counts_where_coordinates_say_no_better(tmp_path, place):
    """Numbers that were rounded, and a rotated grid, which has no coordinates of its own."""
    axes = {"y": (list(-5.0 - 10 * np.arange(4)), {}), "x": (list(5.0 + 10 * np.arange(5)), {})}
    path = _store(tmp_path / "image.zarr", spatial_ref=([0], {"GeoTransform": place}), **axes)
    c, a, b, f, d, e = map(float, place.split())
    assert open_any(f"{path}/sst").space.affine == (a, b, c, d, e, f)


def _scale(*factors: float) -> list[dict[str, Any]]:
    return [{"type": "scale", "scale": list(factors)}]


def _ome(path: Path, units: tuple[str, str, str], level: list[dict[str, Any]], image: list[dict[str, Any]]) -> str:
    axes = [{"name": axis, "type": "space", "unit": unit} for axis, unit in zip("zyx", units, strict=True)]
    multiscale = {
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": level}],
        "coordinateTransformations": image,
    }
    ome = {"version": "0.5", "multiscales": [multiscale]}
    group = zarr_library.open_group(path, mode="w", zarr_format=3, attributes={"ome": ome})
    group.create_array("0", data=np.zeros((3, 4, 5), np.uint8), dimension_names=tuple("zyx"))
    return str(path)


@pytest.mark.parametrize(
    ("units", "level", "image", "spacing", "unit"),
    [
        (("micrometer", "millimeter", "nanometer"), _scale(500, 2, 1e6), [], (0.5, 2, 1), "mm"),
        (("millimeter",) * 3, _scale(3, 1, 1), _scale(1, 2, 2), (3, 2, 2), "mm"),
        (("millimeter", "", "millimeter"), _scale(3, 1, 1), [{"type": "identity"}], (3, 1, 1), "unknown"),
    ],
)
def test_each_axis_has_its_unit_and_the_image_its_scale(tmp_path, units, level, image, spacing, unit):
    """The unit of the first axis was taken for all, and what scales the whole image was passed over."""
    space = open_any(_ome(tmp_path / "image.zarr", units, level, image)).space
    assert space.spacing == pytest.approx(spacing)
    assert space.units == unit


def test_a_whole_image_is_scaled_after_its_level_is_placed(tmp_path):
    """In the order of the specification: the place of the level is scaled, too."""
    level = [*_scale(1, 1, 1), {"type": "translation", "translation": [10, 0, 0]}]
    space = open_any(_ome(tmp_path / "image.zarr", ("millimeter",) * 3, level, _scale(2, 2, 2))).space
    assert space.affine[11] == 20


def test_what_is_no_scale_is_not_passed_over(tmp_path):
    """A grid that turns or lies in a file of its own would be read as if it did not."""
    path = _ome(tmp_path / "image.zarr", ("millimeter",) * 3, [{"type": "affine", "affine": []}], [])
    with pytest.raises(SourceError, match="a transformation of type affine"):
        open_any(path)


@pytest.mark.parametrize(
    ("ome", "said"),
    [
        ({"version": "0.5", "plate": {}}, r"without an image of its own \(plate, version\); give one of the images"),
        ({"multiscales": []}, "without an image of its own"),
        ({"multiscales": [{"axes": [], "datasets": [{"path": "9"}]}]}, "its finest level '9' is not there"),
    ],
)
def test_groups_of_images_are_no_image(tmp_path, ome, said):
    """Plates and collections name what to give; they were called damaged."""
    zarr_library.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=3, attributes={"ome": ome})
    with pytest.raises(SourceError, match=said):
        open_any(str(tmp_path / "plate.zarr"))


def test_other_images_of_a_store_are_named(tmp_path):
    """OME-Zarr may hold several in one group: the first was read without a word of the others."""
    path = _ome(tmp_path / "image.zarr", ("millimeter",) * 3, _scale(1, 1, 1), [])
    assert not any("holds 2" in note for note in open_any(path).notices)
    group = zarr_library.open_group(path, mode="r+")
    group.create_array("b0", data=np.ones((3, 4, 5), np.uint8), dimension_names=tuple("zyx"))
    first = group.attrs["ome"]["multiscales"][0]
    group.attrs["ome"] = {"multiscales": [first, {**first, "datasets": [{**first["datasets"][0], "path": "b0"}]}]}
    (notice,) = (note for note in open_any(path).notices if "holds 2" in note)
    assert notice.endswith(f"holds 2 images; {path}/0 is read, the others are {path}/b0")
    assert (open_any(f"{path}/b0").read(whole(open_any(path))) == 1).all()


@pytest.mark.parametrize(("fill", "declared", "told"), [(7, None, True), (7, 7, False), (np.nan, None, False)])
def test_chunks_that_were_never_written_are_told(tmp_path, fill, declared, told):
    """They hold the fill value, as zarr has it, and that is an observation unless somebody says that it is none."""
    said = {} if declared is None else {"_FillValue": declared}
    array = zarr_library.create_array(
        tmp_path / "image.zarr", shape=(8, 8), chunks=(4, 4), dtype="f4", fill_value=fill, dimension_names=("y", "x")
    )
    array.attrs.update(said)
    array[:4] = 1
    image = open_any(str(tmp_path / "image.zarr"))
    assert image.never(whole(image)).any() == (not told)
    notices = [note for note in image.notices if "50 % of its chunks are not stored" in note]
    assert len(notices) == told
    assert all("`input.nodata: 7.0`" in note for note in notices)
