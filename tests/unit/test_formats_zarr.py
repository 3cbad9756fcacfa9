"""zarr: products that other software can place on the map or in the scanner, and foreign arrays as input."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr as zarr_library
from ome_zarr_models.v05.image import Image as OmeImage

from pipeline.errors import SourceError
from pipeline.formats import nifti, open_any, zarr
from pipeline.formats._zarr_conventions import declared_nodata, fill_value_attribute
from tests.support_formats import (
    ArraySource,
    layer_of,
    memory_image,
    options,
    random_values,
    same_bytes,
    whole,
    write_nifti,
    write_tiff,
)


def _product(image: Any, tmp_path: Path, role: str = "restored") -> Path:
    """Write one layer of a run: the image itself, or ones."""
    path = tmp_path / f"{role}.zarr"
    if role == "restored":
        zarr.write(layer_of(image, tags={"INPAINT_MODEL": "identity"}), path, image, image.read, options(tmp_path))
        return path
    dtype = np.dtype("float32" if role == "uncertainty" else "uint8")
    nodata = float("nan") if role == "uncertainty" else None
    layer = layer_of(image, role, n_channels=1, channel_names=(role,), dtype=dtype, nodata=nodata)
    zarr.write(layer, path, image, lambda box: np.ones((1, *box.shape), dtype), options(tmp_path))
    return path


def _metadata(path: Path) -> dict[str, Any]:
    return json.loads((path / "zarr.json").read_text())


def test_raster_product_says_where_it_lies(tmp_path: Path) -> None:
    """CRS, GeoTransform and pixel-centre coordinates are there for GDAL and rioxarray, conventions beside them."""
    root = zarr_library.open_group(_product(memory_image((33, 47), "uint16", channels=2), tmp_path), mode="r")
    assert list(root["x"][:2]) == [500005.0, 500015.0]
    assert list(root["y"][:2]) == [4999995.0, 4999985.0]
    assert root["x"].attrs["standard_name"] == "projection_x_coordinate"
    assert root["spatial_ref"].attrs["GeoTransform"] == "500000.0 10 0 5000000.0 0 -10"
    assert "UTM zone 33N" in root["spatial_ref"].attrs["crs_wkt"]
    restored = root["restored"]
    assert restored.metadata.dimension_names == ("band", "y", "x")
    assert restored.attrs["grid_mapping"] == "spatial_ref"
    assert restored.attrs["proj:code"] == "EPSG:32633"
    assert restored.attrs["spatial:transform"] == [10, 0, 500000, 0, -10, 5000000]
    assert {c["name"] for c in restored.attrs["zarr_conventions"]} == {"spatial:", "proj:"}


def test_raster_product_carries_cf_attributes(tmp_path: Path) -> None:
    """Fill value, scale and unit are CF attributes; the stored numbers stay unscaled; tags are at the root."""
    image = memory_image((33, 47), "uint16", channels=2)
    root = zarr_library.open_group(_product(image, tmp_path), mode="r")
    attributes = root["restored"].attrs
    assert (attributes["scale_factor"], attributes["add_offset"]) == (0.5, -1.0)
    assert attributes["_FillValue"] == 0
    assert root["restored"].shards is None
    assert root.attrs["inpaint_pipeline"]["tags"] == {"INPAINT_MODEL": "identity"}
    assert np.array_equal(root["restored"][:], image.values)


@pytest.mark.parametrize("shape", [(33, 47), (9, 8, 7)])
def test_each_layer_is_a_store_of_its_own(shape: tuple[int, ...], tmp_path: Path) -> None:
    """The top folder is what is opened, for every layer; the array inside can be named, too."""
    image = memory_image(shape, "int16")
    path = _product(image, tmp_path)
    assert same_bytes(open_any(str(path)).read(whole(image)), image.values)
    assert open_any(str(_product(image, tmp_path, "source"))).dtype == np.uint8
    uncertainty = _product(image, tmp_path, "uncertainty")
    assert open_any(str(uncertainty)).space == image.space
    inner = open_any(str(uncertainty / ("uncertainty" if len(shape) == 2 else "0")))
    assert inner.space == image.space


def test_complete_is_written_last(tmp_path: Path) -> None:
    """A group without the final mark is refused, whatever it contains."""
    path = _product(memory_image((33, 47), "uint16"), tmp_path)
    metadata = _metadata(path)
    assert metadata["attributes"].pop("complete") is True
    assert set(metadata["consolidated_metadata"]["metadata"]) >= {"restored", "band", "x", "y", "spatial_ref"}
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(SourceError, match="never finished"):
        open_any(str(path))


@pytest.mark.parametrize("channels", [1, 3])
def test_volume_product_is_ome_zarr(channels: int, tmp_path: Path) -> None:
    """Each layer validates against the OME-Zarr 0.5 models, with spacing in millimetres."""
    image = memory_image((9, 8, 7), "int16", channels=channels)
    for role in ("restored", "uncertainty", "source"):
        path = _product(image, tmp_path, role)
        model = OmeImage.from_zarr(zarr_library.open_group(path, mode="r"))
        multiscale = model.attributes.ome.multiscales[0]
        assert [axis.unit for axis in multiscale.axes][-3:] == ["millimeter"] * 3
        scale = multiscale.datasets[0].coordinateTransformations[0].scale
        assert scale[-3] == 2.5
    names = zarr_library.open_array(tmp_path / "restored.zarr" / "0", mode="r").metadata.dimension_names
    assert names == (("t", "z", "y", "x") if channels > 1 else ("z", "y", "x"))


def test_oblique_affine_and_raw_header_are_kept(tmp_path: Path) -> None:
    """OME-Zarr 0.5 has no oblique affine: ours stands in our own attribute, with the NIfTI header bytes."""
    file = write_nifti(tmp_path / "in.nii", random_values((7, 6, 5), "int16"))
    source = nifti.open_source([str(file)])
    path = _product(source, tmp_path)
    own = zarr_library.open_array(path / "0", mode="r").attrs["inpaint_pipeline"]
    assert base64.b64decode(own["file_header"]) == file.read_bytes()[:352]
    assert open_any(str(path)).space == source.space


def test_rotated_raster_has_no_1d_coordinates(tmp_path: Path) -> None:
    """A rotated grid has no x and y of its own; the transform says it all."""
    image = memory_image((33, 47), "uint16")
    space = type(image.space)(kind="raster", shape=(33, 47), affine=(10, 3, 5e5, 3, -10, 5e6))
    rotated = ArraySource(**{f: getattr(image, f) for f in image.__dataclass_fields__ if f != "space"}, space=space)
    path = _product(rotated, tmp_path)
    assert not (path / "x").exists()
    assert open_any(str(path)).space == space


def test_geotiff_facts_pass_through_zarr(tmp_path: Path) -> None:
    """GeoTIFF in, zarr out, zarr in: space, names, nodata and scale are the same."""
    file = write_tiff(
        tmp_path / "in.tif",
        random_values((2, 33, 47), "uint16"),
        nodata=7,
        setup=lambda d: setattr(d, "scales", (0.1, 0.2)),
    )
    source = open_any(str(file))
    again = open_any(str(_product(source, tmp_path)))
    for fact in ("space", "channel_names", "nodata", "scale_offset", "dtype"):
        assert getattr(again, fact) == getattr(source, fact)


@pytest.mark.parametrize("value", [0.0, -3.4e38, float("nan"), 65535.0])
def test_fill_value_round_trip(value: float) -> None:
    """Floats are coded as xarray codes them, because JSON knows no NaN."""
    coded = fill_value_attribute(value, np.dtype("float32"))
    attributes = {"_FillValue": json.loads(json.dumps(coded))}
    assert str(declared_nodata("image.zarr", attributes, np.dtype("float32"))) == str(value)


def test_foreign_raster_with_cf_grid_mapping(tmp_path: Path) -> None:
    """A group as xarray writes it, with `x`, `y` and `spatial_ref`, is placed by its coordinates."""
    root = zarr_library.create_group(tmp_path / "in.zarr")
    values = random_values((3, 4), "float32")
    root.create_array("ndvi", data=values, dimension_names=("y", "x"), attributes={"grid_mapping": "crs"})
    root.create_array("crs", data=np.int32(0).reshape(()), attributes={"crs_wkt": "EPSG:4326"})
    root.create_array("x", data=np.array([10.0, 10.5, 11.0, 11.5]), dimension_names=("x",))
    root.create_array("y", data=np.array([50.0, 49.5, 49.0]), dimension_names=("y",))
    source = open_any(str(tmp_path / "in.zarr"))
    assert source.space.affine == (0.5, 0, 9.75, 0, -0.5, 50.25)
    assert source.space.units == "deg"
    assert same_bytes(source.read(whole(source)), values[np.newaxis])


def test_foreign_uneven_coordinates_are_refused(tmp_path: Path) -> None:
    """Coordinates that are not evenly spaced lie on no grid that a pixel could have."""
    root = zarr_library.create_group(tmp_path / "in.zarr")
    root.create_array("sst", data=np.zeros((2, 3), "float32"), dimension_names=("y", "x"))
    root.create_array("x", data=np.array([0.0, 1.0, 5.0]))
    root.create_array("y", data=np.array([0.0, 1.0]))
    with pytest.raises(SourceError, match="evenly spaced"):
        open_any(str(tmp_path / "in.zarr"))


def test_foreign_volume_without_metadata(tmp_path: Path) -> None:
    """A bare array with named axes is a volume of unknown spacing."""
    array = zarr_library.create_array(
        tmp_path / "in.zarr", shape=(3, 4, 5), dtype="int16", dimension_names=("z", "y", "x")
    )
    array[:] = 7
    source = open_any(str(tmp_path / "in.zarr"))
    assert (source.space.kind, source.space.shape, source.space.units) == ("volume", (3, 4, 5), "unknown")
    assert (source.read(whole(source)) == 7).all()


def test_unnamed_axes_and_many_arrays_are_refused(tmp_path: Path) -> None:
    """What cannot be known is asked for: axis names, or which array."""
    zarr_library.create_array(tmp_path / "bare.zarr", shape=(3, 4, 5), dtype="int16")
    with pytest.raises(SourceError, match=r"have no names.*`dimension_names`"):
        open_any(str(tmp_path / "bare.zarr"))
    root = zarr_library.create_group(tmp_path / "many.zarr")
    for name in "ab":
        root.create_array(name, shape=(3, 4), dtype="int16", dimension_names=("y", "x"))
    with pytest.raises(SourceError, match="2 image arrays"):
        open_any(str(tmp_path / "many.zarr"))
    assert open_any(str(tmp_path / "many.zarr" / "a")).n_channels == 1


def test_version_2_and_strings_are_refused(tmp_path: Path) -> None:
    """Version 2 has no axis names; booleans cannot be restored."""
    zarr_library.create_array(tmp_path / "old.zarr", shape=(3, 4), dtype="int16", zarr_format=2)
    with pytest.raises(SourceError, match="zarr v2"):
        open_any(str(tmp_path / "old.zarr"))
    zarr_library.create_array(tmp_path / "flags.zarr", shape=(3, 4), dtype="bool", dimension_names=("y", "x"))
    with pytest.raises(SourceError, match="bool cannot be restored"):
        open_any(str(tmp_path / "flags.zarr"))


@pytest.mark.parametrize("inside", ["", "band"])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_codec_that_nobody_brings_is_named(tmp_path: Path, inside: str, sharded: bool) -> None:
    """With its array, also in a group and within shards: nothing is damaged, and a copy would not help."""
    home = zarr_library.open_group(tmp_path / "a.zarr", mode="w").store_path
    home = home / inside if inside else home
    shards = {"shards": (8, 8)} if sharded else {}
    zarr_library.create_array(
        home, shape=(8, 8), chunks=(4, 4), dtype="u1", dimension_names=("y", "x"), overwrite=True, **shards
    )
    header = tmp_path / "a.zarr" / inside / "zarr.json"
    header.write_text(header.read_text().replace('"zstd"', '"theirs.packed"'))
    with pytest.raises(
        SourceError, match=r"encoded with 'theirs\.packed'.*install the one that brings this codec"
    ) as error:
        zarr.open_source((str(tmp_path / "a.zarr"),))
    assert str(error.value).startswith(str(header.parent))
