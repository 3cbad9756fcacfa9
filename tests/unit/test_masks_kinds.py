"""Each mask kind on small images whose right answer can be seen."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
import rasterio.warp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import netcdf_file

from pipeline.errors import ConfigError, SourceError
from pipeline.formats import open_any
from pipeline.geometry.box import Box
from pipeline.geometry.places import moved_points, world_of
from pipeline.masks._gaps import narrow_gaps
from pipeline.masks._layouts import LAYOUTS, layout_of_name
from pipeline.masks.base import FILL, mask_options, open_masks
from pipeline.testing import ArraySource, raster_space, volume_space
from tests.support_formats import write_tiff

UTM33 = rasterio.CRS.from_epsg(32633).to_wkt()


def _image(shape: tuple[int, int], **more: Any) -> ArraySource:
    return ArraySource(values=np.ones((1, *shape), np.uint16), space=raster_space(shape, crs=UTM33), **more)


def _read(image: ArraySource, **entry: Any) -> np.ndarray[Any, Any]:
    return open_masks([mask_options(entry)], image, lambda p: p).read(Box.whole(image.space.shape))


def _write(path: Path, codes: Any, *, step: float = 10.0, origin: float = 500000.0, **more: Any) -> str:
    codes = codes if codes.ndim == 3 else codes[None]
    profile = {"crs": UTM33, "transform": rasterio.Affine(step, 0, origin, 0, -step, 5100000), **more}
    count, height, width = codes.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=codes.dtype, **profile
    ) as file:
        file.write(codes)
    return str(path)


def test_a_drawn_mask_is_no_map_of_scene_classes(tmp_path: Path) -> None:
    """0 and 1 are codes of SCL, too, but no scene is nothing but nodata and saturated."""
    drawn = np.zeros((8, 8), np.uint8)
    drawn[2:5, 2:5] = 1
    entry = mask_options({"kind": "scl", "path": _write(tmp_path / "drawn.tif", drawn)})
    (notice,) = open_masks([entry], _image((8, 8)), lambda p: p).examine()
    assert "no scene classes: a mask that was drawn is `kind: raster`" in notice


def test_without_a_zero_what_is_rarer_is_taken_for_the_hole(tmp_path: Path) -> None:
    """A mask of 1 and 255: the advice names the one that fewer pixels have."""
    codes = np.ones((8, 8), np.uint8)
    codes[2:5, 2:5] = 255
    entry = mask_options({"kind": "raster", "path": _write(tmp_path / "odd.tif", codes)})
    (notice,) = open_masks([entry], _image((8, 8)), lambda p: p).examine()
    assert "Choose with `values: [255]`" in notice


# --- threshold ----------------------------------------------------------------------------------------------


def _counted(**more: Any) -> ArraySource:
    values = np.arange(2 * 6 * 8, dtype=np.int16).reshape(2, 6, 8)
    return ArraySource(values=values, space=raster_space((6, 8), crs=UTM33), no_value=95, **more)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"above": 94}, "no observed value is above 94: they reach from 0 to 94"),
        ({"above": 200, "below": -3}, "no observed value is above 200 or below -3: they reach from 0 to 94"),
        ({"above": 94, "band": 1}, "no observed value is above 94: they reach from 0 to 47"),
    ],
)
def test_a_threshold_that_marks_nothing_says_which_values_there_are(entry: dict[str, Any], said: str) -> None:
    """Nodata is no value; a bound that one value is beyond says nothing."""
    image = _counted()
    (notice,) = open_masks([mask_options({"kind": "threshold", **entry})], image, lambda p: p).examine()
    assert notice.endswith(said)
    assert not open_masks([mask_options({"kind": "threshold", "above": 93})], image, lambda p: p).examine()


def test_a_threshold_in_the_other_kind_of_numbers_says_both() -> None:
    """Reflectance against stored numbers: what the other choice of `physical` would compare with."""
    image = _counted(scale_offset=((0.01, -1.0), (0.01, -1.0)))
    stored, applied = (
        open_masks([mask_options({"kind": "threshold", "physical": physical, **bound})], image, lambda p: p)
        for physical, bound in ((False, {"below": -0.5}), (True, {"above": 50}))
    )
    assert stored.examine()[0].endswith("they reach from 0 to 94 (with `physical: true` from -1 to -0.06)")
    assert applied.examine()[0].endswith("they reach from -1 to -0.06 (with `physical: false` from 0 to 94)")


def test_a_threshold_that_marks_everything_says_which_values_there_are() -> None:
    """Reflectance is asked for, of a file that says nothing of a scale."""
    entry = {"kind": "threshold", "above": -0.5, "physical": True}
    (notice,) = open_masks([mask_options(entry)], _counted(), lambda p: p).examine()
    assert "every observed value is above -0.5: they reach from 0 to 94, and the file has neither scale" in notice


# --- nodata -------------------------------------------------------------------------------------------------


def _stripes() -> ArraySource:
    """A swath (columns 8 to 31) with stripes 3 rows thick every 8 rows, and a wide void; 0 = nodata."""
    values = np.full((1, 40, 40), 7, np.uint8)
    for top in range(2, 40, 8):
        values[0, top : top + 3] = 0
    values[0, :, :8] = values[0, :, 32:] = 0
    return ArraySource(values=values, space=raster_space((40, 40)), no_value=0)


def test_stripes_are_holes_up_to_the_swath_edge_and_the_outside_is_not() -> None:
    """What a Landsat 7 user expects: stripes filled, surroundings untouched."""
    states = _read(_stripes(), kind="nodata", max_gap="5 px")[0]
    assert (states[2:5, 8:32] == 1).all()
    assert (states[:, :8] == 2).all()
    assert (states[:, 32:] == 2).all()
    assert (states[5:10, 8:32] == 0).all()


def test_wider_gaps_stay_nodata() -> None:
    """A gap wider than `max_gap` is no gap; null makes every nodata pixel a hole."""
    assert not (_read(_stripes(), kind="nodata", max_gap="2 px") == 1).any()
    assert not (_read(_stripes(), kind="nodata", max_gap=None) == 2).any()


def test_a_value_may_mean_nodata() -> None:
    """Files that do not declare their nodata value are helped by `value`."""
    image = replace(_stripes(), no_value=None)
    assert (_read(image, kind="nodata", max_gap="5 px", value=0)[0, 2:5, 8:32] == 1).all()


def test_a_lost_slice_is_a_gap() -> None:
    """In a volume the gap runs across slices; NaN is nodata."""
    values = np.ones((1, 5, 4, 4), np.float32)
    values[0, 2] = np.nan
    image = ArraySource(values=values, space=volume_space((5, 4, 4)))
    assert (_read(image, kind="nodata")[0, 2] == 1).all()


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 10))
def test_gaps_match_their_definition(line: list[bool], limit: int) -> None:
    """A run between two observed pixels, at most `limit` long - against a loop."""
    missing = np.array(line)[None]
    expected = np.zeros(len(line), bool)
    start = 0
    while start < len(line):
        stop = start
        while stop < len(line) and line[stop]:
            stop += 1
        expected[start:stop] = start > 0 and stop < len(line) and stop - start <= limit
        start = stop + 1
    assert np.array_equal(narrow_gaps(missing, (limit,))[0], expected)


# --- raster -------------------------------------------------------------------------------------------------


def test_nonzero_is_hole(tmp_path: Path) -> None:
    """Any value but 0 is a hole; the mask's own nodata and NaN are not."""
    path = _write(tmp_path / "m.tif", np.array([[0, 1, 255, np.nan, -9]], np.float32), nodata=-9)
    assert _read(_image((1, 5)), kind="raster", path=path)[0, 0].tolist() == [0, 1, 1, 0, 0]


def test_values_and_band(tmp_path: Path) -> None:
    """Only the named values of the named band count, nodata or not."""
    path = _write(tmp_path / "m.tif", np.array([[[9, 9, 9]], [[2, 4, 1]]], np.uint8), nodata=4)
    assert _read(_image((1, 3)), kind="raster", path=path, band=2, values=[2, 4])[0, 0].tolist() == [1, 1, 0]


def test_a_mask_band_a_band(tmp_path: Path) -> None:
    """`band: all` gives every channel its own holes."""
    path = _write(tmp_path / "m.tif", np.array([[[1, 0]], [[0, 1]]], np.uint8))
    image = ArraySource(values=np.ones((2, 1, 2)), space=raster_space((1, 2), crs=UTM33))
    assert _read(image, kind="raster", path=path, band="all").tolist() == [[[1, 0]], [[0, 1]]]


def test_other_resolution_and_other_crs_are_warped_with_a_notice(tmp_path: Path) -> None:
    """A 20 m mask repeats on 10 m pixels; one in degrees lands where it belongs."""
    codes = np.zeros((4, 4), np.uint8)
    codes[1, 2] = 1
    image = _image((8, 8))
    coarse = _write(tmp_path / "20m.tif", codes, step=20.0)
    mask = open_masks([mask_options({"kind": "raster", "path": coarse})], image, lambda p: p)
    hole = mask.read(Box.whole((8, 8)))[0] == 1
    assert np.array_equal(hole, np.kron(codes, np.ones((2, 2))).astype(bool))
    assert "nearest neighbour" in mask.notices[0]
    west, south, east, north = rasterio.warp.transform_bounds(UTM33, "EPSG:4326", 500030, 5099940, 500060, 5099970)
    fine = rasterio.Affine((east - west) / 30, 0, west, 0, (south - north) / 30, north)
    degrees = _write(tmp_path / "deg.tif", np.ones((30, 30), np.uint8), crs="EPSG:4326", transform=fine)
    hole = _read(image, kind="raster", path=degrees, outside="keep")[0] == 1
    assert hole[3:6, 3:6].all()
    assert hole.sum() == 9


@pytest.mark.parametrize(
    ("crs", "affine"),
    [
        ("EPSG:32633", (10000, 0, -200000, 0, -10000, 5000000)),
        ("EPSG:32701", (10000, 0, -150000, 0, -10000, 8200000)),
        ("EPSG:3413", (10000, 0, -320000, 0, -10000, 300000)),
        ("+proj=geos +h=35785831 +lon_0=0 +sweep=y", (180000, 0, -5.7e6, 0, -180000, 5.4e6)),
        ("+proj=sinu +R=6371007.181", (600000, 0, -1.9e7, 0, -330000, 1e7)),
    ],
    ids=["west of the middle of its zone", "across the date line", "pole", "globe seen from space", "sinusoidal"],
)
def test_a_mask_of_the_whole_earth(tmp_path: Path, crs: str, affine: tuple[float, ...]) -> None:
    """It is read for an image of any system; what shows no ground lies outside of it, and blocks change nothing."""
    codes = (np.arange(180)[:, None] // 2 + np.arange(360) // 3).astype(np.uint8) % 2
    path = _write(tmp_path / "m.tif", codes, crs="EPSG:4326", transform=rasterio.Affine(1, 0, -180, 0, -1, 90))
    image = _image((60, 64))
    wkt = rasterio.CRS.from_user_input(crs).to_wkt()
    image = replace(image, space=replace(image.space, crs=wkt, affine=affine))
    mask = open_masks([mask_options({"kind": "raster", "path": path})], image, lambda p: p)
    hole = mask.read(Box.whole((60, 64)))[0] == 1
    cols, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(60) + 0.5)
    places = world_of(image.space, np.stack([cols.ravel(), rows.ravel()]))
    # point by point: one without a place takes no other with it
    every = [moved_points(wkt, rasterio.CRS.from_epsg(4326).to_wkt(), *places[:, [k]]) for k in range(60 * 64)]
    east, north = np.concatenate(every, axis=1).reshape(2, 60, 64)
    known = np.isfinite(east) & np.isfinite(north)
    row, col = (np.where(known, v, 0).astype(int) for v in (90 - north, (east + 180) % 360))
    assert np.array_equal(hole, known & (codes[np.minimum(row, 179), col] > 0))
    assert 0 < hole.sum() < hole.size
    part = Box((3, 5), (40, 17))
    assert np.array_equal(mask.read(part)[0] == 1, hole[part.slices])


def test_outside_the_mask_file_nothing_is_a_hole(tmp_path: Path) -> None:
    """A mask that covers a part of the image says nothing about the rest, which has to be wanted if it is the most."""
    path = _write(tmp_path / "part.tif", np.ones((2, 2), np.uint8), origin=500020.0)
    entry = {"kind": "raster", "path": path}
    assert _read(_image((2, 5)), **entry, outside="keep")[0, 0].tolist() == [0, 0, 1, 1, 0]
    with pytest.raises(SourceError, match=r"(?s)does not cover 60 % of the image.*mask: .*image: .*`outside: keep`"):
        _read(_image((2, 5)), **entry)
    for kind in ({"kind": "raster"}, {"kind": "qa_pixel", "layout": "hls"}):
        inverted = {**entry, **kind, "outside": "keep", "invert": True}
        assert not (_read(_image((2, 5)), **inverted)[0, :, [0, 1, 4]] == 1).any()
    half = open_masks([mask_options(entry)], _image((2, 4)), lambda p: p)
    assert half.notices[-1] == f"{path}: does not cover 50 % of the image: what lies outside counts as observed"


def test_another_place_is_refused_with_both_grids(tmp_path: Path) -> None:
    """No overlap is an input error (exit code 4) that prints both grids."""
    path = _write(tmp_path / "far.tif", np.ones((2, 2), np.uint8), origin=900000.0)
    with pytest.raises(SourceError, match=r"(?s)does not overlap.*mask: .*900000.*image: .*500000") as error:
        _read(_image((2, 2)), kind="raster", path=path)
    assert error.value.exit_code == 4
    assert not (_read(_image((2, 2)), kind="raster", path=path, outside="keep") == 1).any()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_mask_without_georeference(tmp_path: Path) -> None:
    """Same shape: taken pixel by pixel, with a notice. Another shape: refused."""
    bare: dict[str, Any] = {"crs": None, "transform": rasterio.Affine.identity()}
    path = _write(tmp_path / "bare.tif", np.eye(3, dtype=np.uint8), **bare)
    mask = open_masks([mask_options({"kind": "raster", "path": path})], _image((3, 3)), lambda p: p)
    assert np.array_equal(mask.read(Box.whole((3, 3)))[0], np.eye(3))
    assert "pixel by pixel" in mask.notices[0]
    with pytest.raises(SourceError, match="give both the same grid, or a CRS"):
        _read(_image((3, 4)), kind="raster", path=path)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "mask file not found"), (b"no raster at all", "cannot be read")]
)
def test_missing_and_damaged_masks(tmp_path: Path, content: bytes | None, message: str) -> None:
    """The file is named."""
    path = tmp_path / "mask.tif"
    if content:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"mask\.tif: .*{message}|mask\.tif: {message}"):
        _read(_image((2, 2)), kind="raster", path=str(path))


@pytest.mark.parametrize("coarse", [False, True])
def test_what_a_mask_file_hides_is_kept(tmp_path: Path, coarse: bool) -> None:
    """Under its own mask band a file has no value, whatever lies there: no hole, also with `invert`."""
    codes = np.array([[1, 1, 0, 0]] * 2, np.uint8)
    path = _write(tmp_path / "m.tif", codes, step=20.0 if coarse else 10.0)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.array([[0, 255, 0, 255]] * 2, np.uint8))
    image = _image((4, 8) if coarse else (2, 4))
    step = 2 if coarse else 1
    mask = open_masks([mask_options({"kind": "raster", "path": path})], image, lambda p: p)
    states = mask.read(Box.whole(image.space.shape))[0, ::step, ::step]
    assert (states == FILL).tolist() == [[False, True, False, False]] * 2
    assert any("its own mask or alpha band" in note and "on 50 %" in note for note in mask.examine())
    turned = _read(image, kind="raster", path=path, invert=True)[0, ::step, ::step]
    assert (turned == FILL).tolist() == [[False, False, False, True]] * 2


def test_the_fourth_of_four_masks_is_no_opacity(tmp_path: Path) -> None:
    """GDAL marks it as alpha: with `band: all` it is the mask of the fourth channel, and hides none."""
    codes = np.array([[[1, 0]], [[0, 1]], [[1, 1]], [[0, 0]]], np.uint8)
    path = _write(tmp_path / "m.tif", codes)
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == rasterio.enums.ColorInterp.alpha
    image = ArraySource(values=np.ones((4, 1, 2)), space=raster_space((1, 2), crs=UTM33))
    assert _read(image, kind="raster", path=path, band="all").tolist() == codes.tolist()


def test_transparent_pixels_of_a_painted_mask_say_nothing(tmp_path: Path) -> None:
    """White paint on a transparent PNG: colours below transparent pixels are whatever the program left there."""
    painted = np.zeros((4, 6, 6), np.uint8)
    painted[:3, :3] = painted[3, :2] = 255
    Image.fromarray(painted.transpose(1, 2, 0)).save(tmp_path / "m.png")
    states = _read(_image((6, 6)), kind="raster", path=str(tmp_path / "m.png"))[0]
    assert (states == FILL).any(axis=1).tolist() == [True, True, False, False, False, False]


def test_a_mask_of_several_pages_says_which_is_read(tmp_path: Path) -> None:
    """The first page was taken without a word."""
    with rasterio.open(_write(tmp_path / "one.tif", np.ones((4, 4), np.uint8))) as file:
        profile = file.profile
    for append in ("NO", "YES"):
        with rasterio.open(tmp_path / "m.tif", "w", **profile, APPEND_SUBDATASET=append) as file:
            file.write(np.full((1, 4, 4), append == "NO", np.uint8))
    mask = open_masks([mask_options({"kind": "raster", "path": str(tmp_path / "m.tif")})], _image((4, 4)), str)
    assert any("several images (pages); the first is the mask" in note for note in mask.notices)
    assert (mask.read(Box.whole((4, 4))) == FILL).all()


def test_bands_of_a_vrt_keep_their_types_on_another_grid(tmp_path: Path) -> None:
    """Probabilities in band 2 behind bytes in band 1 became 0 where they were taken to the grid of the image."""
    _write(tmp_path / "a.tif", np.zeros((2, 2), np.uint8), step=20.0)
    _write(tmp_path / "b.tif", np.full((2, 2), 0.7, np.float32), step=20.0)
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{at}"><SimpleSource><SourceFilename relativeToVRT="1">{name}.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for at, (name, kind) in enumerate((("a", "Byte"), ("b", "Float32")), start=1)
    )
    grid = "<SRS>EPSG:32633</SRS><GeoTransform>500000, 20, 0, 5100000, 0, -20</GeoTransform>"
    path = tmp_path / "m.vrt"
    path.write_text(f'<VRTDataset rasterXSize="2" rasterYSize="2">{grid}{bands}</VRTDataset>')
    states = _read(_image((4, 4)), kind="raster", path=str(path), band=2, threshold=0.5)
    assert (states == FILL).all()


def test_a_mask_of_several_variables_or_complex_numbers_is_refused(tmp_path: Path) -> None:
    """With what to do; both were called damaged."""
    write_tiff(tmp_path / "c.tif", np.ones((1, 4, 4), np.complex64), dtype="complex_int16")
    with pytest.raises(SourceError, match=r"complex values \(complex_int16\).*gdal_translate"):
        _read(_image((4, 4)), kind="raster", path=str(tmp_path / "c.tif"))
    with pytest.raises(SourceError, match=r"complex values \(complex_int16\).*amplitude"):
        open_any(str(tmp_path / "c.tif"))
    with netcdf_file(tmp_path / "two.nc", "w") as file:
        for name in ("y", "x"):
            file.createDimension(name, 4)
        for name in ("clouds", "shadows"):
            file.createVariable(name, "f4", ("y", "x"))[:] = 1
    with pytest.raises(SourceError, match=r"several images \(clouds, shadows\).*gdal_translate"):
        _read(_image((4, 4)), kind="raster", path=str(tmp_path / "two.nc"))


def test_a_band_for_each_needs_as_many(tmp_path: Path) -> None:
    """Where an image is restored in one band of three, its mask of three bands does not say which of them is meant."""
    path = _write(tmp_path / "m.tif", np.ones((3, 4, 4), np.uint8))
    with pytest.raises(SourceError, match=r"has 3 bands, and 1 of the image.*`band: 3`.*gdal_translate -b"):
        _read(_image((4, 4)), kind="raster", path=path, band="all")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", ["m.jpg", "m.tif"])
@pytest.mark.parametrize("drawn", [255, 100])
def test_a_mask_with_loss_is_none_of_whole_numbers(tmp_path: Path, name: str, drawn: int) -> None:
    """Around what was drawn lie values of 1 to 9, whatever the file is called: nobody means them."""
    path, (y, x) = tmp_path / name, np.mgrid[:64, :64]
    codes = np.where((y - 30) ** 2 + (x - 35) ** 2 < 300, drawn, 0).astype(np.uint8)
    driver = {".jpg": "JPEG", ".tif": "GTiff"}[path.suffix]
    options = {"compress": "jpeg"} if driver == "GTiff" else {}
    with rasterio.open(path, "w", driver=driver, width=64, height=64, count=1, dtype="uint8", **options) as file:
        file.write(codes, 1)
    mask = open_masks([mask_options({"kind": "raster", "path": str(path)})], _image((64, 64)), str)
    said = " ".join(mask.examine())
    threshold = re.search(r"Choose with `threshold: (\d+)`, as lossy compression smears", said)
    assert threshold is not None, said
    assert drawn / 4 < int(threshold[1]) < drawn * 3 / 4


def test_missing_band_is_named(tmp_path: Path) -> None:
    """Asking for band 3 of a one-band mask says so."""
    path = _write(tmp_path / "m.tif", np.ones((2, 2), np.uint8))
    with pytest.raises(SourceError, match=r"has 1 band\(s\), band 3 is asked for"):
        _read(_image((2, 2)), kind="raster", path=path, band=3)


def _volume(c: int = 1) -> ArraySource:
    return ArraySource(values=np.ones((c, 2, 3, 9), np.int16), space=volume_space((2, 3, 9)), paths=("t1.nii",))


def _nifti(path: Path, data: Any, affine: Any = None) -> str:
    nibabel.Nifti1Image(np.asarray(data), np.eye(4) if affine is None else affine).to_filename(path)
    return str(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_mask_is_transposed_as_the_image_is(tmp_path: Path, suffix: str) -> None:
    """Voxel (i, j, k) of the file is pixel (k, j, i); scaled masks are read with their slope."""
    data = np.zeros((9, 3, 2), np.uint8)
    data[7, 1, 0] = 1
    states = _read(_volume(), kind="raster", path=_nifti(tmp_path / f"m{suffix}", data))
    assert np.argwhere(states == 1).tolist() == [[0, 0, 1, 7]]


def test_a_volume_mask_a_volume(tmp_path: Path) -> None:
    """A 4-D mask gives every volume its own holes; another count is refused."""
    data = np.zeros((9, 3, 2, 2), np.uint8)
    data[0, 0, 0, 1] = 1
    path = _nifti(tmp_path / "m.nii.gz", data)
    assert np.argwhere(_read(_volume(2), kind="raster", path=path) == 1).tolist() == [[1, 0, 0, 0]]
    with pytest.raises(SourceError, match="has 2 volumes, the image has 3"):
        _read(_volume(3), kind="raster", path=path)


def test_a_new_volume_mask_of_the_same_name_is_read_anew(tmp_path: Path) -> None:
    """Somebody edits the mask and runs again in the same session: the old holes are not restored."""
    image = ArraySource(values=np.ones((1, 4, 5, 6), np.int16), space=volume_space((4, 5, 6)))
    path, found = tmp_path / "mask.nii", []
    for hole in (2, 3):
        mask = np.zeros((6, 5, 4), np.uint8)
        mask[hole] = 1
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([1, 1, 1, 1])), path)
        found.append(_read(image, kind="raster", path=str(path))[0, 0, 0].tolist())
    assert found[0].index(1) == 2
    assert found[1].index(1) == 3


def test_shifted_nifti_mask_is_refused(tmp_path: Path) -> None:
    """A part of a voxel would restore the wrong tissue; a hundredth is rounding, and is said."""
    empty = np.zeros((9, 3, 2), np.uint8)
    for shift, said in ((5e-4, False), (5e-3, True)):
        near = np.eye(4)
        near[0, 3] = shift
        entry = {"kind": "raster", "path": _nifti(tmp_path / f"{shift}.nii", empty, near)}
        notices = " ".join(open_masks([mask_options(entry)], _volume(), str).notices)
        assert ("off the image's grid by up to 0.005 of a voxel; taken voxel by voxel" in notices) == said
    shifted, turned = np.eye(4), np.eye(4)
    shifted[0, 3] = 0.5
    mirrored = _nifti(tmp_path / "mirrored.nii", empty, np.diag([-1, 1, 1, 1]))
    with pytest.raises(SourceError, match=r"voxel axes RAS against LAS"):
        # mirrored at its first voxel, not at its middle: another place
        _read(_volume(), kind="raster", path=mirrored)
    # small in every number of the matrix, and 0.064 of a voxel in the far corner
    turned[1, 0] = 0.008
    for far in (shifted, turned):
        path = _nifti(tmp_path / "far.nii", empty, far)
        with pytest.raises(SourceError, match=r"(?s)does not lie on the image's grid.*mask: .*image: .*resample"):
            _read(_volume(), kind="raster", path=path)


def test_truncated_nifti_mask_is_named(tmp_path: Path) -> None:
    """A cut file says in which plane it ends."""
    path = Path(_nifti(tmp_path / "m.nii", np.zeros((9, 3, 2), np.uint8)))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(SourceError, match=r"m\.nii: mask ends in plane 1 of 2"):
        _read(_volume(), kind="raster", path=str(path))


# --- codes --------------------------------------------------------------------------------------------------


def test_scl_classes(tmp_path: Path) -> None:
    """Default classes are cloud, shadow and cirrus; class 0 is never touched; names pick others."""
    path = _write(tmp_path / "scl.tif", np.arange(12, dtype=np.uint8)[None])
    states = _read(_image((1, 12)), kind="scl", path=path)[0, 0]
    assert states.tolist() == [2, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0]
    snow = _read(_image((1, 12)), kind="scl", path=path, classes=["snow"])[0, 0]
    assert np.flatnonzero(snow == 1).tolist() == [11]


def test_qa_pixel_flags(tmp_path: Path) -> None:
    """Collection 2: dilated, cirrus, cloud, shadow are holes; fill is never; snow and clear are kept."""
    codes = np.array([[1, 2, 4, 8, 16, 32, 64, 1 | 8]], np.uint16)
    path = _write(tmp_path / "qa.tif", codes)
    assert _read(_image((1, 8)), kind="qa_pixel", path=path)[0, 0].tolist() == [2, 1, 1, 1, 1, 0, 0, 2]
    only = _read(_image((1, 8)), kind="qa_pixel", path=path, flags=["snow"])[0, 0]
    assert only.tolist() == [2, 0, 0, 0, 0, 1, 0, 2]


def test_older_landsat_layouts(tmp_path: Path) -> None:
    """pixel_qa has cloud in bit 5; BQA has it in bit 4 and shadow as a two-bit confidence."""
    pixel_qa = _write(tmp_path / "pixel_qa.tif", np.array([[1, 2, 8, 32, 4, 16]], np.uint16))
    bqa = _write(tmp_path / "bqa.tif", np.array([[1, 16, 3 << 7, 1 << 7, 2720]], np.uint16))
    states = _read(_image((1, 6)), kind="qa_pixel", layout="pixel_qa", path=pixel_qa)[0, 0]
    assert states.tolist() == [2, 0, 1, 1, 0, 0]
    assert _read(_image((1, 5)), kind="qa_pixel", layout="bqa", path=bqa)[0, 0].tolist() == [2, 1, 1, 0, 0]


@pytest.mark.parametrize(("layout", "bit"), [("collection2", 8), ("collection2_tm", 8), ("pixel_qa", 6), ("bqa", 5)])
def test_cloud_of_medium_confidence_is_a_hole_only_if_asked_for(tmp_path: Path, layout: str, bit: int) -> None:
    """The two bits of Landsat's confidence: 1 is low, 2 medium, 3 high, which has a bit of its own."""
    path = _write(tmp_path / "qa.tif", np.array([[1 << bit, 2 << bit, 3 << bit]], np.uint16))
    read = partial(_read, _image((1, 3)), kind="qa_pixel", layout=layout, path=path)
    assert read()[0, 0].tolist() == [0, 0, 0]
    assert read(flags=["cloud_medium"])[0, 0].tolist() == [0, 1, 0]


def test_flag_must_exist_in_the_layout() -> None:
    """Collection 1 has no dilated-cloud bit."""
    with pytest.raises(ValueError, match="layout 'pixel_qa' has no flag 'dilated'"):
        mask_options({"kind": "qa_pixel", "path": "x", "layout": "pixel_qa", "flags": ["dilated"]})


def test_fill_gaps_of_the_quality_band(tmp_path: Path) -> None:
    """Narrow fill is restored although the image says nodata; wide fill is not."""
    codes = np.array([[64, 1, 1, 64, 1, 1, 1, 1]], np.uint16)
    path = _write(tmp_path / "qa.tif", codes)
    image = _image((1, 8), no_value=1)
    states = _read(image, kind="qa_pixel", path=path, fill_gaps="3 px")[0, 0]
    assert states.tolist() == [2, 1, 1, 2, 2, 2, 2, 2]


def test_narrow_quality_bands_are_read(tmp_path: Path) -> None:
    """A byte band has no bits 8 and 9; asking for the others must not fail."""
    path = _write(tmp_path / "qa.tif", np.array([[1, 32, 2]], np.uint8))
    assert _read(_image((1, 3)), kind="qa_pixel", layout="pixel_qa", path=path)[0, 0].tolist() == [2, 1, 0]


def test_quality_bits_need_integers(tmp_path: Path) -> None:
    """A float raster has no bits."""
    path = _write(tmp_path / "qa.tif", np.ones((2, 2), np.float32))
    with pytest.raises(SourceError, match="QA bits need an integer band, found float32"):
        _read(_image((2, 2)), kind="qa_pixel", path=path)


# --- threshold and slices -------------------------------------------------------------------------------------


def test_threshold_stored_and_physical() -> None:
    """`physical` applies scale and offset first; NaN is no hole; bounds may be combined."""
    values = np.array([[[100.0, 3100.0, np.nan, 0.0]]], np.float32)
    image = ArraySource(values=values, space=raster_space((1, 4)), scale_offset=((1.0, -1024.0),))
    assert _read(image, kind="threshold", above=2000)[0, 0].tolist() == [0, 1, 2, 0]
    assert _read(image, kind="threshold", above=2000, below=-1000, physical=True)[0, 0].tolist() == [0, 1, 2, 1]


def test_one_band_decides_for_all() -> None:
    """With `band` one band rules all channels; without, each rules itself."""
    image = ArraySource(values=np.array([[[9, 1]], [[1, 9]]]), space=raster_space((1, 2)))
    assert _read(image, kind="threshold", above=5).tolist() == [[[1, 0]], [[0, 1]]]
    assert (_read(image, kind="threshold", above=5, band="B02") == [[[0, 1]]]).all()
    with pytest.raises(ConfigError, match="no band 'B09'; it has 2: B01, B02"):
        _read(image, kind="threshold", above=5, band="B09")


def test_threshold_needs_a_bound() -> None:
    """Neither above nor below is a mistake."""
    with pytest.raises(ValueError, match="needs 'above' or 'below'"):
        mask_options({"kind": "threshold"})


@pytest.mark.parametrize(("axis", "where"), [("k", np.s_[:, 1]), ("j", np.s_[:, :, 1]), ("i", np.s_[..., 1])])
def test_slices_count_as_the_file_does(axis: str, where: Any) -> None:
    """Axis k of the file is z here, i is x."""
    hole = _read(_volume(), kind="slices", slices=[1], axis=axis) == 1
    assert hole[where].all()
    assert hole.sum() == hole[where].size


def test_slices_of_some_volumes() -> None:
    """Other volumes keep the slice."""
    states = _read(_volume(3), kind="slices", slices=[0], volumes=[2])
    assert (states[2, 0] == 1).all()
    assert (states == 1).sum() == states[2, 0].size


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"slices": [2]}, r"axis k has 2 slices, numbered 0 to 1; there is no 2"),
        ({"slices": [0], "volumes": [1]}, r"has 1 volumes, numbered 0 to 0; there is no 1"),
    ],
)
def test_slices_must_exist(entry: dict[str, Any], message: str) -> None:
    """The range that exists is named."""
    with pytest.raises(ConfigError, match=message):
        _read(_volume(), kind="slices", **entry)


def test_rasters_have_no_axis_k() -> None:
    """On a raster lines are lost along i or j."""
    with pytest.raises(ConfigError, match="a raster has no axis 'k'"):
        _read(_image((2, 2)), kind="slices", slices=[0])


# --- layouts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_is_whole(layout: str) -> None:
    """Default flags exist, no flag is set by fill alone, and a file called as the product calls it is known."""
    facts = LAYOUTS[layout]
    assert set(facts.default) <= set(facts.flags)
    codes = np.arange(1 << facts.width)
    for name, flag in facts.flags.items():
        assert flag.of(codes).any(), name
    names = {
        "fmask": "x_Fmask4.tif",
        "modis_state": "MOD09GA.state_1km_1.tif",
        "cloud_probability": "MSK_CLDPRB_20m.jp2",
    }
    names |= {"viirs_state": "VNP09H1.SurfReflect_State_500m.tif", "viirs_qf1": "a.SurfReflect_QF1_1.tif"}
    names |= {"viirs_qf2": "a.SurfReflect_QF2_1.tif", "scl": "T33_SCL_20m.jp2", "hls": "HLS.S30.T33.v2.0.Fmask.tif"}
    names |= {"collection2_tm": "LE07_L2SP_190024_20020612_02_T1_QA_PIXEL.TIF", "collection2": "LC08_A_QA_PIXEL.TIF"}
    names |= {"radsat": "LC08_QA_RADSAT.TIF", "bqa": "LC08_BQA.TIF"}
    assert layout_of_name(f"/data/{names.get(layout, 'LC08_pixel_qa.tif')}") == layout


@pytest.mark.parametrize(
    ("layout", "codes", "flags", "states"),
    [
        # cloud, adjacent, shadow, snow, water, high aerosol, clear, fill
        ("hls", [2, 4, 8, 16, 32, 192, 64, 255], None, [1, 1, 1, 0, 0, 0, 0, 2]),
        ("hls", [2, 4, 8, 16, 32, 192, 64, 255], ["snow", "high_aerosol"], [0, 0, 0, 1, 0, 1, 0, 2]),
        # band 1, band 7, unused, bands 6H and 9, dropped, occluded, none
        ("radsat", [1, 64, 128, 256, 512, 2048, 0], None, [1, 1, 0, 1, 1, 0, 0]),
        # cloudy, mixed, assumed clear, shadow, cirrus small, average, high, internal cloud, snow, adjacent, fill
        ("modis_state", [1, 2, 3, 4, 256, 512, 768, 1024, 4096, 8192, 65535], None, [1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 2]),
        ("viirs_state", [1 << 3, 3 << 3, 5 << 3, 2 << 3, 0], ["water"], [0, 1, 1, 0, 1]),
        # confident cloudy, probably cloudy, probably clear, clear of high quality
        ("viirs_qf1", [12, 8, 4, 3], None, [1, 1, 0, 0]),
        # land, sea, shadow, aerosol, snow, cirrus by reflectance, by emission
        ("viirs_qf2", [1, 3, 8, 16, 32, 64, 128], None, [0, 0, 1, 0, 0, 1, 1]),
        ("fmask", [0, 1, 2, 3, 4, 255], None, [0, 0, 1, 0, 1, 2]),
        ("scl", [0, 3, 4, 8, 9, 10, 11], None, [2, 1, 0, 1, 1, 1, 0]),
        ("cloud_probability", [0, 40, 41, 100], None, [0, 0, 1, 1]),
    ],
)
def test_codes_of_other_products(
    tmp_path: Path, layout: str, codes: list[int], flags: list[str] | None, states: list[int]
) -> None:
    """Each code of a product's guide has the state that its words say."""
    dtype = np.uint8 if LAYOUTS[layout].width == 8 else np.uint16
    path = _write(tmp_path / "q.tif", np.array([codes], dtype))
    entry = {"kind": "qa_pixel", "path": path, "layout": layout} | ({"flags": flags} if flags else {})
    assert _read(_image((1, len(codes))), **entry)[0, 0].tolist() == states


def test_landsat_7_knows_no_cirrus(tmp_path: Path) -> None:
    """The bit is there, but nothing sets it: asked for by name it is refused, by default it is left out."""
    path = _write(tmp_path / "LE07_L2SP_190024_20020612_20200916_02_T1_QA_PIXEL.TIF", np.array([[4, 8, 64]], np.uint16))
    assert _read(_image((1, 3)), kind="qa_pixel", path=path)[0, 0].tolist() == [0, 1, 0]
    with pytest.raises(ConfigError, match="layout 'collection2_tm' has no flag 'cirrus'"):
        _read(_image((1, 3)), kind="qa_pixel", path=path, flags=["cirrus"])


def test_a_probability_of_ones_own(tmp_path: Path) -> None:
    """`above` is a percentage of cloud, and of nothing else."""
    path = _write(tmp_path / "q.tif", np.array([[0, 20, 21, 100]], np.uint8))
    entry = {"kind": "qa_pixel", "path": path, "layout": "cloud_probability"}
    assert _read(_image((1, 4)), **entry, above=20)[0, 0].tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="layout 'cloud_probability' has no flag 'snow'"):
        mask_options({**entry, "flags": ["snow"]})
    with pytest.raises(ValueError, match="`above` is for layout cloud_probability, not for 'hls'"):
        mask_options({"kind": "qa_pixel", "path": path, "layout": "hls", "above": 20})
    with pytest.raises(ValueError, match=r"no layout 'sentinel3' \(known: auto, "):
        mask_options({"kind": "qa_pixel", "path": path, "layout": "sentinel3"})


def test_derived_masks_do_not_claim_nodata_and_drawn_bits_do(tmp_path: Path) -> None:
    """A layout says what was seen; what is drawn by bits is a hole over nodata, too."""
    path = _write(tmp_path / "q.tif", np.array([[8, 8, 64]], np.uint16))
    image = ArraySource(values=np.array([[[0, 5, 5]]], np.uint16), space=raster_space((1, 3), crs=UTM33), no_value=0)
    for entry, state in (({"kind": "qa_pixel"}, 2), ({"kind": "raster", "bits": [3]}, 1)):
        mask = open_masks([mask_options({**entry, "path": path})], image, lambda p: p, "drawn")
        assert mask.read(Box.whole((1, 3)))[0, 0].tolist() == [state, 1, 0]
