"""zarr for other software: voxels lie where they are in the body, rasters where they are on the map."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
import xarray
import zarr as zarr_library
from ome_zarr_models.v05.image import Image as OmeImage

from pipeline.errors import SourceError
from pipeline.formats import open_any, zarr
from pipeline.geometry.space import Space
from tests.support_formats import ArraySource, layer_of, memory_image, options, same_bytes, whole

MARK = (1, 2, 3)


def _volume(codes: str, shape: tuple[int, ...] = (4, 5, 6), *, turn: float = 0.0) -> ArraySource:
    """Return a volume whose axes i, j, k point to `codes`; one voxel, at `MARK` (k, j, i), is -1000."""
    rows = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(nibabel.orientations.axcodes2ornt(tuple(codes))):
        rows[int(world), axis] = sign * (axis + 1)
    angle = np.radians(turn)
    about_x = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.column_stack([about_x @ rows, (80.0, -20.0, 7.0)])
    values = np.arange(np.prod(shape), dtype=np.int16).reshape(1, *shape)
    values[0][MARK] = -1000
    space = Space(kind="volume", shape=shape, affine=tuple(affine.ravel().tolist()), crs="RAS+", units="mm")
    return ArraySource(values=values, space=space, native_chunk=shape)


def _place(space: Space, index: tuple[int, ...]) -> np.ndarray:
    rows = np.reshape(space.affine, (3, 4))
    return rows[:, :3] @ np.asarray(index[::-1], dtype=float) + rows[:, 3]


def _seen_at(store: Path, level: int, index: Any) -> np.ndarray:
    """Return x, y, z of a voxel as an OME-Zarr reader computes it, from the metadata of the top folder alone."""
    model = OmeImage.from_zarr(zarr_library.open_group(store, mode="r"))
    scale, shift = model.attributes.ome.multiscales[0].datasets[level].coordinateTransformations
    return (np.asarray(scale.scale) * np.asarray(index) + np.asarray(shift.translation))[::-1]


def _metadata(store: Path) -> Any:
    return zarr_library.open_group(store, mode="r").attrs["ome"]


def _written(image: ArraySource, tmp_path: Path, **layer: Any) -> Path:
    path = tmp_path / "volume.zarr"
    zarr.write(layer_of(image, **layer), path, image, image.read, options(tmp_path))
    return path


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "PIR", "ASL", "SRP", "IAL"])
def test_a_marked_voxel_lies_where_it_is(codes: str, tmp_path: Path) -> None:
    """A reader that knows scale and translation only finds the voxel at its place; scales are positive."""
    image = _volume(codes)
    path = _written(image, tmp_path)
    array = zarr_library.open_array(path / "0", mode="r")[:]
    assert np.allclose(_seen_at(path, 0, np.argwhere(array == -1000)[0]), _place(image.space, MARK))
    ome = _metadata(path)["multiscales"][0]
    assert all(v > 0 for v in ome["datasets"][0]["coordinateTransformations"][0]["scale"])
    assert ome["axes"][2]["orientation"] == {"type": "anatomical", "value": "left-to-right"}
    again = open_any(str(path))
    assert again.space == image.space
    assert same_bytes(again.read(whole(image)), image.values)


def test_an_oblique_volume_keeps_its_middle(tmp_path: Path) -> None:
    """What OME-Zarr cannot say is smallest at the middle, and our own reader knows the whole affine."""
    image = _volume("LPI", (5, 5, 5), turn=15.0)
    path = _written(image, tmp_path)
    assert np.allclose(_seen_at(path, 0, (2, 2, 2)), _place(image.space, (2, 2, 2)))
    assert open_any(str(path)).space == image.space


def test_windows_are_those_of_the_input(tmp_path: Path) -> None:
    """A window is read in the input's order, however the array was turned; so are its chunks."""
    image = _volume("SRP")
    again = open_any(str(_written(image, tmp_path)))
    box = type(whole(image))((1, 0, 2), (3, 4, 5))
    assert same_bytes(again.read(box), image.read(box))
    assert again.native_chunk == image.space.shape


def test_levels_of_a_large_volume(tmp_path: Path) -> None:
    """Each level halves the finest axes and says where its voxels are; values are means, codes keep thin holes."""
    image = _volume("LAS", (4, 6, 300))
    path = _written(image, tmp_path)
    group = zarr_library.open_group(path, mode="r")
    assert [group[str(level)].shape for level in range(3)] == [(4, 6, 300), (4, 6, 150), (2, 3, 75)]
    fine, coarse = group["0"][:], group["1"][:]
    cells = fine.reshape(4, 6, 150, 2)
    assert np.array_equal(coarse, np.round(cells.mean(axis=-1)))
    middle = (_seen_at(path, 0, (1, 2, 20)) + _seen_at(path, 0, (1, 2, 21))) / 2
    assert np.allclose(_seen_at(path, 1, (1, 2, 10)), middle)
    assert np.isclose(np.linalg.norm(_seen_at(path, 2, (0, 0, 1)) - _seen_at(path, 2, (0, 0, 0))), 4)
    codes = ArraySource(values=(image.values == -1000).astype(np.uint8), space=image.space, native_chunk=(4, 6, 300))
    store = tmp_path / "codes.zarr"
    zarr.write(layer_of(codes, "source"), store, codes, codes.read, options(tmp_path))
    assert zarr_library.open_array(store / "2", mode="r")[:].sum() == 1
    assert np.allclose(open_any(str(path / "2")).space.spacing, (6, 4, 4))


def test_unknown_voxels_do_not_darken_a_level(tmp_path: Path) -> None:
    """Nodata and NaN are left out of the mean; where nothing is known they stay."""
    values = np.full((1, 2, 2, 200), 8.0, dtype=np.float32)
    values[..., 1], values[..., 2:4] = np.nan, np.nan
    space = Space(kind="volume", shape=(2, 2, 200), affine=(1, 0, 0, 0, 0, 9, 0, 0, 0, 0, 9, 0), units="mm")
    image = ArraySource(values=values, space=space, native_chunk=(2, 2, 200), no_value=float("nan"))
    level = zarr_library.open_array(_written(image, tmp_path) / "1", mode="r")[:]
    assert (level[..., 0] == 8).all()
    assert np.isnan(level[..., 1]).all()
    assert (level[..., 2:] == 8).all()


def test_other_software_may_count_to_the_left(tmp_path: Path) -> None:
    """A foreign image whose axes run to the left and the back (ITK, DICOM) is read at its place."""
    axes = [
        {"name": name, "type": "space", "unit": "millimeter", "orientation": {"type": "anatomical", "value": value}}
        for name, value in (
            ("z", "inferior-to-superior"), ("y", "anterior-to-posterior"), ("x", "right-to-left"),
        )
    ]  # fmt: skip
    levels = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": [step, step, step]},
         {"type": "translation", "translation": [5, 6, 7]}]}
        for name, step in (("0", 1.0), ("1", 2.0))
    ]  # fmt: skip
    root = zarr_library.open_group(tmp_path / "itk.zarr", mode="w", zarr_format=3)
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    for name, n in (("0", 4), ("1", 2)):
        root.create_array(name, data=np.zeros((n, n, n), np.int16), dimension_names=("z", "y", "x"))
    assert open_any(str(tmp_path / "itk.zarr")).space.affine == (-1, 0, 0, -7, 0, -1, 0, -6, 0, 0, 1, 5)
    assert open_any(str(tmp_path / "itk.zarr" / "1")).space.spacing == (2, 2, 2)
    assert open_any(str(tmp_path / "itk.zarr")).attributes["sides_stated"]


def test_sides_that_nobody_knows_are_not_made_up(tmp_path: Path) -> None:
    """A NIfTI with both codes 0, or a foreign image without anatomical axes, gives a store that does not name sides."""
    image = replace(_volume("RAS"), attributes={"qform_code": 0, "sform_code": 0})
    path = _written(image, tmp_path)
    assert all("orientation" not in axis for axis in _metadata(path)["multiscales"][0]["axes"])
    assert not open_any(str(path)).attributes["sides_stated"]
    foreign = zarr_library.create_array(
        tmp_path / "cells.zarr", shape=(3, 4, 5), dtype="int16", dimension_names=("z", "y", "x")
    )
    foreign[:] = 1
    assert not open_any(str(tmp_path / "cells.zarr")).attributes["sides_stated"]
    assert open_any(str(_written(_volume("LAS"), tmp_path))).attributes["sides_stated"]


def test_an_early_product_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Before arrays were turned they lay in a group `restored`, in the order of the input."""
    image = _volume("LPI")
    space = {name: getattr(image.space, name) for name in ("kind", "shape", "affine", "crs", "units")}
    root = zarr_library.open_group(tmp_path / "early.zarr", mode="w", zarr_format=3)
    root.attrs.update({"inpaint_pipeline": {"layers": ["restored"]}, "complete": True})
    layer = root.create_group("restored")
    layer.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": [], "datasets": [{"path": "0"}]}]}
    layer.create_array("0", data=image.values[0], attributes={"inpaint_pipeline": {"space": space}})
    again = open_any(str(tmp_path / "early.zarr"))
    assert again.space == image.space
    assert same_bytes(again.read(whole(image)), image.values)


def test_a_damaged_order_is_refused(tmp_path: Path) -> None:
    """Axes that are no order of three, or do not fit the array, are not guessed."""
    path = _written(_volume("SRP"), tmp_path)
    array = zarr_library.open_array(path / "0", mode="r+")
    own = dict(array.attrs["inpaint_pipeline"])
    for axes in ([0, 0, 1], [0, 1], [0, 1, 2]):
        array.attrs["inpaint_pipeline"] = own | {
            "space": own["space"] | {"turned": {"axes": axes, "backwards": [0, 0, 0]}}
        }
        with pytest.raises(SourceError, match="is not that of an array of shape"):
            open_any(str(path / "0"))


@pytest.mark.filterwarnings("ignore:Use `@`:PendingDeprecationWarning")  # rioxarray, since affine 3.1
@pytest.mark.parametrize("channels", [1, 3])
def test_xarray_finds_the_map(channels: int, tmp_path: Path) -> None:
    """`xarray.open_zarr` without options: reference system and coordinates of pixel centres, band by band."""
    import rioxarray  # noqa: F401 - adds `.rio`

    image = memory_image((33, 47), "uint16", channels=channels)
    path = _written(image, tmp_path)
    layer = xarray.open_zarr(path)["restored"]
    assert layer.dims == ("band", "y", "x")
    assert set(layer.coords) == {"band", "y", "x", "spatial_ref"}
    assert layer.rio.crs.to_epsg() == 32633
    assert layer.rio.transform().to_gdal() == (500000, 10, 0, 5000000, 0, -10)
    assert list(layer["band"]) == list(range(1, channels + 1))
    assert layer["band"].attrs["band_names"] == list(image.channel_names)
    raw = xarray.open_zarr(path, mask_and_scale=False)["restored"].to_numpy()
    assert same_bytes(raw, image.values)


def test_which_gdal_opens_it(tmp_path: Path) -> None:
    """As docs/formats.md says: GDAL opens zarr v3 from 3.11 on; older ones do not know the codec `bytes`."""
    path = _written(memory_image((33, 47), "uint16"), tmp_path)
    address = f'ZARR:"{path}":/restored'
    version = tuple(int(part) for part in re.findall(r"\d+", rasterio.__gdal_version__)[:2])
    if version < (3, 11):
        with pytest.raises(rasterio.errors.RasterioIOError):
            rasterio.open(address)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(address) as dataset:
            assert dataset.crs.to_epsg() == 32633
            assert dataset.transform.to_gdal() == (500000, 10, 0, 5000000, 0, -10)


def _series(path: Path, dims: tuple[str, str, str], **coords: Any) -> Path:
    """Write an array of three channels as xarray does, without a grid mapping."""
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    named = {dims[1]: 45 + 0.5 * np.arange(4), dims[2]: 15 + 0.5 * np.arange(5), **coords}
    array = xarray.DataArray(values, dims=dims, coords=named, name="sst", attrs={"units": "K"})
    with warnings.catch_warnings():
        # texts have no place in zarr's specification yet
        warnings.simplefilter("ignore")
        array.to_zarr(path, zarr_format=3, consolidated=False)
    return path


@pytest.mark.parametrize("plane", [("lat", "lon"), ("latitude", "longitude"), ("y", "x")])
def test_the_names_that_climate_data_give_to_space(tmp_path, plane):
    """Rows that run north, too; the unit of the values is kept."""
    image = open_any(str(_series(tmp_path / "image.zarr", ("band", *plane))))
    assert image.space.affine == (0.5, 0.0, 14.75, 0.0, 0.5, 44.75)
    assert image.attributes["units"] == ["K"] * 3


DAYS = ("2024-06-12", "2024-06-27", "2024-07-12")


@pytest.mark.parametrize(
    ("name", "labels", "found"),
    [
        ("time", np.array(DAYS, "M8[ns]"), DAYS),
        ("time", np.array([f"{day}T10:20" for day in DAYS], "M8[ns]"), tuple(f"{day}T10:20:00" for day in DAYS)),
        ("band", ["red", "nir", "swir"], ("red", "nir", "swir")),
        ("band", ["red", "red", "nir"], ("band_1", "band_2", "band_3")),
        ("band", [1, 2, 3], ("band_1", "band_2", "band_3")),
    ],
)
def test_channels_are_called_as_their_coordinate_says(tmp_path, name, labels, found):
    """Dates and names tell the channels of a result apart; numbers are those of bands anyhow."""
    path = _series(tmp_path / "image.zarr", (name, "y", "x"), **{name: labels})
    assert open_any(str(path)).channel_names == found


def test_what_lies_deeper_in_a_group_is_named(tmp_path):
    """The path to give; and dimensions without names are said to have none."""
    group = zarr_library.open_group(tmp_path / "scene.zarr", mode="w", zarr_format=3)
    group.create_array("r10m/b02", shape=(4, 5), dtype="u2")
    with pytest.raises(SourceError, match=r"give one of its arrays: .*scene\.zarr/r10m/b02"):
        open_any(str(tmp_path / "scene.zarr"))
    with pytest.raises(SourceError, match=r"of shape \(4, 5\) have no names"):
        open_any(str(tmp_path / "scene.zarr/r10m/b02"))
