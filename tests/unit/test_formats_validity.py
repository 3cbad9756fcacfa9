"""Values that CF's attributes rule out, beside the one fill value of an image: in netCDF and zarr alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from scipy.io import netcdf_file

from pipeline.errors import SourceError
from pipeline.formats import open_any
from pipeline.formats._cf_validity import validity_of
from pipeline.formats.base import Source
from pipeline.geometry.box import Box

_ROWS = np.array([[-2, -1, 0, 7, 90, 5001, 9999]], dtype=np.int16)


def _netcdf(path: Path, values: NDArray[Any], **attributes: Any) -> Path:
    with netcdf_file(path, "w") as file:
        for name, count in zip(("y", "x"), values.shape, strict=True):
            file.createDimension(name, count)
            coordinate = file.createVariable(name, "f8", (name,))
            coordinate[:] = 10.0 * np.arange(count)
            coordinate.standard_name = f"projection_{name}_coordinate"
        variable = file.createVariable("sst", values.dtype, ("y", "x"))
        variable[:] = values
        for name, value in attributes.items():
            setattr(variable, name, value)
    return path


def _zarr(path: Path, values: NDArray[Any], **attributes: Any) -> Path:
    array = zarr.create_array(path, data=values, dimension_names=("y", "x"))
    array.attrs.update({k: v.tolist() if hasattr(v, "tolist") else v for k, v in attributes.items()})
    return path


def _read(path: Path, **options: Any) -> tuple[Source, NDArray[Any], list[Any]]:
    """Return an image, its values from south to north, and those that never were observed."""
    source = open_any(str(path), **options)
    box = Box.whole(source.space.shape)
    values = source.read(box)[0]
    return source, values, np.unique(values[source.never(box)[0]]).tolist()


@pytest.mark.parametrize("write", [_netcdf, _zarr])
@pytest.mark.parametrize(
    ("attributes", "never"),
    [
        ({"_FillValue": np.int16(-2), "valid_max": np.int16(5000)}, [-2, 5001, 9999]),
        ({"_FillValue": np.int16(-2), "valid_min": np.int16(0)}, [-2, -1]),
        ({"_FillValue": np.int16(-2), "valid_range": np.array([0, 5001], np.int16)}, [-2, -1, 9999]),
        ({"_FillValue": np.int16(-2), "missing_value": np.int16(9999)}, [-2, 9999]),
        ({"missing_value": np.array([-1, 0, 9999], np.int16)}, [-1, 0, 9999]),
        ({"missing_value": np.int16(0)}, [0]),
    ],
)
def test_values_that_attributes_rule_out(
    tmp_path: Path, write: Any, attributes: dict[str, Any], never: list[int]
) -> None:
    """They never were observed, stay as they are stored, and are told; what the config says goes before."""
    path = write(tmp_path / ("image.nc" if write is _netcdf else "image.zarr"), _ROWS.repeat(2, axis=0), **attributes)
    source, values, found = _read(path)
    assert found == never
    assert sorted(set(values.ravel().tolist())) == _ROWS.ravel().tolist()
    assert any("never observed" in notice for notice in source.notices) == (len(attributes) > 1 or len(never) > 1)
    assert _read(path, nodata=7)[2] == [7]
    assert _read(path, nodata=float("nan"))[2] == []


@pytest.mark.parametrize("write", [_netcdf, _zarr])
def test_numbers_without_a_sign(tmp_path: Path, write: Any) -> None:
    """The attribute `_Unsigned` names other numbers for the same bits, of values and attributes alike."""
    stored = np.array([[1, 40_000, 65_534, 65_535]], np.uint16).view(np.int16).repeat(2, axis=0)
    said = {"_Unsigned": "true", "_FillValue": np.int16(-1), "valid_range": np.array([2, -2], np.int16)}
    path = write(tmp_path / ("image.nc" if write is _netcdf else "image.zarr"), stored, **said)
    source, values, never = _read(path)
    assert source.dtype == np.uint16
    assert sorted(set(values.ravel().tolist())) == [1, 40_000, 65_534, 65_535]
    assert never == [1, 65_535]


def test_bytes_whose_range_needs_no_sign(tmp_path: Path) -> None:
    """A range up to 255 is how old netCDF says that bytes have no sign."""
    stored = np.array([[1, 200, 254]], np.uint8).view(np.int8).repeat(2, axis=0)
    path = _netcdf(tmp_path / "image.nc", stored, valid_range=np.array([0, 255], np.int16))
    source, values, never = _read(path)
    assert (source.dtype, sorted(set(values.ravel().tolist())), never) == (np.uint8, [1, 200, 254], [])


def test_the_largest_valid_value_is_valid() -> None:
    """A bound in double precision is compared as pixels of single precision hold it."""
    found = validity_of("image.nc", {"valid_max": "0.1"}, np.dtype("float32"), None)
    assert found.violated(np.array([0.1, 0.2], np.float32)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"valid_range": [0]}, r"valid_range must be two numbers, found \[0\]; .*`nodata`"),
        ({"valid_min": "low"}, "valid_min must be one number, found 'low'"),
        ({"valid_max": True}, "valid_max must be one number"),
        ({"scale_factor": [0.1, 0.2]}, "scale_factor must be one number"),
        ({"add_offset": None}, "add_offset must be one number, found None"),
        ({"spatial:transform": [1, 2, 3]}, r"spatial:transform must be six numbers, found \[1, 2, 3\]"),
    ],
)
def test_attributes_that_are_no_numbers(tmp_path: Path, attributes: dict[str, Any], said: str) -> None:
    """The message names the attribute and its value."""
    path = _zarr(tmp_path / "image.zarr", _ROWS, **attributes)
    with pytest.raises(SourceError, match=said):
        open_any(str(path))


def test_a_place_counted_from_middles_of_pixels(tmp_path: Path) -> None:
    """`spatial:registration` may say that whole numbers are middles, not corners."""
    said = {"spatial:transform": [10, 0, 500, 0, -10, 900]}
    corners = open_any(str(_zarr(tmp_path / "a.zarr", _ROWS, **said)))
    middles = open_any(str(_zarr(tmp_path / "b.zarr", _ROWS, **said, **{"spatial:registration": "node"})))
    assert (corners.space.affine[2], corners.space.affine[5]) == (500, 900)
    assert (middles.space.affine[2], middles.space.affine[5]) == (495, 905)


def test_a_netcdf_whose_place_cannot_be_read_says_so(tmp_path: Path) -> None:
    """Steps that are uneven give pixels no place."""
    path = _netcdf(tmp_path / "image.nc", _ROWS.repeat(3, axis=0))
    assert not any("no place" in notice for notice in open_any(str(path)).notices)
    with netcdf_file(path, "a") as file:
        file.variables["x"][3] = 33.0
    moved = tmp_path / "moved.nc"
    path.rename(moved)
    assert any("no place" in notice for notice in open_any(str(moved)).notices)
