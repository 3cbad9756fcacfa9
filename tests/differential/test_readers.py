"""Our readers against rasterio, nibabel and tifffile, on made and on real files."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.errors import NotGeoreferencedWarning

from pipeline.formats import open_any
from pipeline.geometry.box import Box
from tests.support_formats import options, random_values, same_bytes, whole, write_nifti, write_tiff

RASTERS = (
    "satellite/rgb_bahamas_nodata/RGB.byte.tif",
    "satellite/l8_corumba/LC08_L1TP_227074_20190809_20200827_02_T1.tif",
    "satellite/s2_masked_pairs/581_input.tif",
    "satellite/s2_cr_volga/ROIs1970_fall_s2_136_p316.tif",
)
VOLUMES = (
    "medical/chris_head/pcasl.nii.gz",
    "medical/ct_abdomen/example_ct.nii.gz",
    "medical/ms_long_patient01_raw/study1_FLAIR.nii.gz",
)


def _boxes(shape: tuple[int, ...], seed: int) -> list[Box]:
    """Return the whole image and a few random windows."""
    rng = np.random.default_rng(seed)
    boxes = [Box.whole(shape)]
    for _ in range(4):
        start = tuple(int(rng.integers(0, n)) for n in shape)
        boxes.append(Box(start, tuple(int(rng.integers(a, n)) + 1 for a, n in zip(start, shape, strict=True))))
    return boxes


def _check_raster(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            expected, masks = dataset.read(), dataset.read_masks() == 0
            nodata, affine = dataset.nodatavals, tuple(dataset.transform[:6])
    source = open_any(str(path))
    for box in _boxes(expected.shape[1:], 1):
        assert same_bytes(source.read(box), expected[(slice(None), *box.slices)])
    assert source.space.affine == affine
    assert str(source.nodata) == str(nodata)
    never = np.broadcast_to(source.never(whole(source)), expected.shape)
    # rasterio's mask knows nodata only; a NaN that is not declared is unobserved for us all the same
    assert np.array_equal(never, masks | ~np.isfinite(expected))


def _check_volume(path: Path, tmp_path: Path) -> None:
    image = nibabel.load(path)
    source = open_any(str(path)).stage(tmp_path)
    physical = np.asarray(image.dataobj, dtype=np.float64)
    stored = source.read(whole(source))
    slope, inter = source.scale_offset[0]
    ours = (stored.astype(np.float64) * slope + inter).reshape(physical.T.shape).T
    assert np.array_equal(ours, physical, equal_nan=True)
    assert np.array_equal(np.reshape(source.space.affine, (3, 4)), image.affine[:3])
    for box in _boxes(source.space.shape, 2):
        assert same_bytes(source.read(box), np.ascontiguousarray(stored[(slice(None), *box.slices)]))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "bands"])
def test_raster_windows_against_rasterio(dtype: str, layout: str, tmp_path: Path) -> None:
    """Strips, tiles and separate planes give the same pixels, window by window."""
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 32}
    profile = {"strips": {}, "tiles": tiled, "bands": {**tiled, "interleave": "band"}}[layout]
    _check_raster(write_tiff(tmp_path / "in.tif", random_values((3, 70, 90), dtype), nodata=3, **profile))


def test_raster_against_tifffile(tmp_path: Path) -> None:
    """A big-endian BigTIFF made by another library reads the same."""
    values = random_values((70, 90), "uint16")
    tifffile.imwrite(tmp_path / "in.tif", values, bigtiff=True, byteorder=">", compression="zlib")
    source = open_any(str(tmp_path / "in.tif"))
    assert same_bytes(source.read(whole(source)), values[np.newaxis])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volume_windows_against_nibabel(suffix: str, order: str, tmp_path: Path) -> None:
    """Both byte orders, compressed or not, give nibabel's values and affine."""
    values = random_values((9, 8, 7, 3), "int16")
    _check_volume(write_nifti(tmp_path / f"in{suffix}", values, order=order), tmp_path)


@pytest.mark.realdata
@pytest.mark.parametrize("name", RASTERS)
def test_real_raster(name: str, data_dir: Path) -> None:
    """Real satellite files read as rasterio reads them."""
    _check_raster(data_dir / name)


@pytest.mark.realdata
@pytest.mark.parametrize("name", VOLUMES)
def test_real_volume(name: str, data_dir: Path, tmp_path: Path) -> None:
    """Real scans read as nibabel reads them."""
    _check_volume(data_dir / name, tmp_path)


@pytest.mark.realdata
@pytest.mark.parametrize("name", [*RASTERS, *VOLUMES])
def test_real_identity(name: str, data_dir: Path, tmp_path: Path) -> None:
    """A real file passed through reader and writer keeps every pixel and its grid, read by our reader."""
    from pipeline import registry
    from tests.support_formats import layer_of

    source = open_any(str(data_dir / name)).stage(tmp_path / "staged")
    module = registry.load("formats", source.kind)
    path = tmp_path / ("result" + "".join(Path(name).suffixes[-2:]).replace(".byte", ""))
    module.write(layer_of(source), path, source, source.read, options(tmp_path))
    result = open_any(str(path))
    assert result.space == source.space
    assert same_bytes(result.read(whole(source)), source.read(whole(source)))
