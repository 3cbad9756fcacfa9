"""Files made to hurt: random damage, headers that claim the world, pipes and devices in place of files, gzip bombs.

Each is refused with the file's name, or read; nothing hangs, and no memory is spent on what a header merely says.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr

from pipeline.errors import SourceError
from pipeline.formats import _gzip, files_of, geotiff, nifti, open_any
from pipeline.geometry.box import Box
from pipeline.masks.base import mask_options, open_masks
from tests.support_formats import Affine, ArraySource, random_values, space_of, whole, write_nifti, write_tiff

_EXTREMES = [
    *(struct.pack("<H", v) for v in (0, 1, 8, 0x7FFF, 0x8000, 0xFFFF)),
    *(struct.pack("<I", v) for v in (0, 1, 65535, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)),
    *(struct.pack("<f", v) for v in (float("nan"), float("inf"), -1.0, 1e30, 0.5)),
    *(struct.pack("<d", v) for v in (float("nan"), 1e300, -1.0)),
    *(struct.pack("<Q", v) for v in (2**40, 2**63, 2**64 - 1)),
]
_HEADER = 700
"""Bytes from the start within which most of the damage is done."""


def damaged(rng: random.Random, raw: bytes) -> bytes:
    """Return a file with bits flipped and fields set to extremes, or cut off."""
    if rng.random() < 0.15:
        return raw[: rng.randrange(len(raw))]
    result = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(min(_HEADER, len(raw)) if rng.random() < 0.8 else len(raw))
        if rng.random() < 0.4:
            result[at] ^= 1 << rng.randrange(8)
        else:
            value = rng.choice(_EXTREMES)[:: rng.choice((1, -1))]
            result[at - at % 2 : at - at % 2 + len(value)] = value
    return bytes(result)


def _damaged_gzip(rng: random.Random, raw: bytes) -> bytes:
    """Damage either what is in the gzip file, which is then whole, or the gzip file itself."""
    if rng.random() < 0.7:
        return gzip.compress(damaged(rng, raw), compresslevel=1)
    return damaged(rng, gzip.compress(raw, compresslevel=1))


def use(path: Path, scratch: Path) -> None:
    """Do with an image what a run does: header facts, two windows, staging, the files that belong to it."""
    source = open_any(str(path))
    json.dumps(dict(source.attributes))
    source.space.describe()
    if isinstance(source, geotiff.GeoTiff):
        source.header()
    shape = source.space.shape
    source.never(Box((0,) * len(shape), tuple(min(n, 64) for n in shape)))
    source.read(Box(tuple(max(0, n - 64) for n in shape), shape))
    staged = source.stage(scratch)
    staged.read(Box((0,) * len(shape), tuple(min(n, 64) for n in shape)))
    files_of(str(path))


def as_mask(path: Path | str, ndim: int = 2) -> None:
    """Use a file as the mask of a small image."""
    image = _IMAGES[ndim]
    mask = open_masks([mask_options({"kind": "raster", "path": str(path)})], image, lambda p: p)
    mask.read(whole(image))


_IMAGES = {
    ndim: ArraySource(values=np.ones((1, *shape), np.uint16), space=space_of(shape))
    for ndim, shape in ((2, (40, 50)), (3, (7, 8, 9)))
}


def _tiffs(folder: Path) -> Iterator[bytes]:
    values = np.random.default_rng(0).integers(0, 3000, (3, 40, 50)).astype(np.uint16)
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "predictor": 2}
    for at, profile in enumerate(
        ({}, tiles, {"interleave": "band", "compress": "zstd", "nodata": 7, "bigtiff": "YES"})
    ):
        path = folder / f"whole{at}.tif"
        write_tiff(path, values, setup=lambda dataset: dataset.update_tags(1, A="b"), **profile)
        yield path.read_bytes()


def _volumes(folder: Path) -> Iterator[bytes]:
    for version, order in ((1, "<"), (1, ">"), (2, "<")):
        path = write_nifti(folder / "whole.nii", random_values((9, 8, 7), "int16"), version=version, order=order)
        yield path.read_bytes()


@pytest.mark.parametrize(
    ("suffix", "wholes", "damage", "ndim"),
    [(".tif", _tiffs, damaged, 2), (".nii", _volumes, damaged, 3), (".nii.gz", _volumes, _damaged_gzip, 3)],
)
def test_random_damage_is_an_error_of_the_file_or_reads(
    suffix: str, wholes: Callable[[Path], Iterator[bytes]], damage: Any, ndim: int, tmp_path: Path
) -> None:
    """A hundred damaged files a format, as image and as mask: what is refused is refused by name, nothing else ends."""
    rng = random.Random(14)
    originals = list(wholes(tmp_path))
    path = tmp_path / f"in{suffix}"
    messages = []
    for _ in range(100):
        path.write_bytes(damage(rng, rng.choice(originals)))
        attempts = [partial(use, path, tmp_path / "staged"), partial(as_mask, path, ndim)]
        for attempt in attempts[: rng.choice((1, 1, 2))]:
            try:
                attempt()
            except SourceError as error:
                messages.append(str(error))
    assert all(str(path) in message for message in messages)
    assert 20 < len(messages) < 120


# --- no files ------------------------------------------------------------------------------------------------


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


@pytest.mark.parametrize("make", [_pipe, _device, _socket, Path.mkdir])
@pytest.mark.parametrize("name", ["in.tif", "in.nii", "in.nii.gz", "in"])
def test_what_is_no_file_is_refused_unopened(make: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    """A pipe, a device, a socket and a folder: as image and as either kind of mask."""
    path = tmp_path / name
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        make(path)
    for attempt in (partial(open_any, str(path)), partial(as_mask, path, 2), partial(as_mask, path, 3)):
        with pytest.raises(SourceError, match=rf"{name}"):
            attempt()
    assert files_of(str(path)) == ()


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    """Links are followed: what counts is where they lead."""
    write_tiff(tmp_path / "real.tif", random_values((1, 9, 9), "uint8"))
    (tmp_path / "link.tif").symlink_to("real.tif")
    assert open_any(str(tmp_path / "link.tif")).space.shape == (9, 9)


@pytest.mark.parametrize("suffix", [".msk", ".ovr", ".aux.xml", ".MSK"])
def test_a_pipe_beside_an_image_is_not_opened(suffix: str, tmp_path: Path) -> None:
    """GDAL opens what belongs to an image by its name."""
    path = write_tiff(tmp_path / "in.tif", random_values((1, 9, 9), "uint8"))
    os.mkfifo(f"{path}{suffix}")
    with pytest.raises(SourceError, match=suffix):
        open_any(str(path))


@pytest.mark.parametrize(("kept", "whole"), [(1.0, True), (0.6, False), (0.0, False)])
def test_what_gdal_keeps_beside_an_image_is_not_lost_in_silence(kept: float, whole: bool, tmp_path: Path) -> None:
    """A file of it that is cut off would be left out by GDAL, and nodata with it."""
    path = write_tiff(tmp_path / "in.tif", random_values((1, 9, 9), "uint8"))
    text = '<PAMDataset>\n <PAMRasterBand band="1"><NoDataValue>3</NoDataValue></PAMRasterBand>\n</PAMDataset>\n'
    Path(f"{path}.aux.xml").write_text(text[: int(kept * len(text))])
    if whole:
        assert open_any(str(path)).nodata == (3.0,)
        return
    with pytest.raises(SourceError, match=r"in\.tif\.aux\.xml: .*is cut off or no XML"):
        open_any(str(path))


@pytest.mark.parametrize("name", ["a\0.tif", "x" * 5000 + ".tif"])
def test_names_that_no_file_can_have(name: str) -> None:
    """A null byte and a name that is too long are said as such."""
    with pytest.raises(SourceError, match="cannot be read"):
        open_any(f"/{name}")


# --- claims --------------------------------------------------------------------------------------------------


def _tiff_with(path: Path, tag: int, value: int) -> Path:
    """Write a TIFF and set one field of its directory, an unsigned long."""
    raw = bytearray(write_tiff(path, random_values((1, 40, 50), "uint8"), compress="deflate").read_bytes())
    (start,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, start)
    (at,) = (at for at in range(start + 2, start + 2 + 12 * count, 12) if struct.unpack_from("<H", raw, at)[0] == tag)
    struct.pack_into("<HII", raw, at + 2, 4, 1, value)
    path.write_bytes(bytes(raw))
    return path


@pytest.mark.parametrize("tag", [256, 257])
def test_tiffs_that_claim_more_than_they_hold(tag: int, tmp_path: Path) -> None:
    """Two billion columns or rows in a file of some hundred bytes."""
    with pytest.raises(SourceError, match=r"in\.tif"):
        open_any(str(_tiff_with(tmp_path / "in.tif", tag, 2_000_000_000)))


def test_a_strip_of_more_than_a_gibibyte_is_refused(tmp_path: Path) -> None:
    """It would be decoded whole; the message says how to rewrite the file."""
    path = tmp_path / "in.tif"
    side = {"width": 40_000, "height": 40_000, "blockxsize": 40_000, "blockysize": 40_000}
    place = {"transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(path, "w", driver="GTiff", count=1, dtype="uint8", tiled=True, sparse_ok=True, **side, **place):
        pass
    with pytest.raises(SourceError, match="TILED=YES"):
        open_any(str(path))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_of_more_pixels_than_a_run_can_survey_is_refused(tmp_path: Path) -> None:
    """Four lines of XML ask for 4e18 pixels; the number and a remedy are named."""
    band = '<VRTRasterBand dataType="Byte" band="1"/>'
    path = tmp_path / "in.vrt"
    path.write_text(f'<VRTDataset rasterXSize="2000000000" rasterYSize="2000000000">{band}</VRTDataset>')
    with pytest.raises(SourceError, match=r"2000000000 x 2000000000 .*srcwin"):
        open_any(str(path))


def test_a_mask_much_finer_than_its_image_is_refused(tmp_path: Path) -> None:
    """A window of the image would be a window of 1e12 pixels of the mask."""
    band = '<VRTRasterBand dataType="Byte" band="1"/>'
    place = f"<SRS>{_IMAGES[2].space.crs}</SRS><GeoTransform>500000,1e-4,0,5000000,0,-1e-4</GeoTransform>"
    path = tmp_path / "mask.vrt"
    path.write_text(f'<VRTDataset rasterXSize="5000000" rasterYSize="4000000">{place}{band}</VRTDataset>')
    source = ArraySource(values=np.ones((1, 40, 50), np.uint8), space=_IMAGES[2].space)
    mask = open_masks([mask_options({"kind": "raster", "path": str(path)})], source, lambda p: p)
    with pytest.raises(SourceError, match="gdalwarp"):
        mask.read(whole(source))


def _nifti_with(path: Path, at: int, form: str, *values: float) -> Path:
    """Write a NIfTI-1 file and set fields of its header."""
    raw = bytearray(write_nifti(path.with_name("plain.nii"), random_values((9, 8, 7), "int16")).read_bytes())
    struct.pack_into(form, raw, at, *values)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("name", ["in.nii", "in.nii.gz"])
@pytest.mark.parametrize(
    ("at", "form", "values"),
    [
        (108, "<f", (float("nan"),)),  # vox_offset
        (108, "<f", (float("inf"),)),
        (108, "<f", (-352.0,)),
        (108, "<f", (0.0,)),
        (108, "<f", (1e12,)),
        (40, "<4h", (3, 32767, 32767, 32767)),  # dim
        (40, "<2h", (3, -9)),
        (40, "<4h", (4, 0, 0, 0)),
        (70, "<h", (12345,)),  # datatype
        (252, "<2h7f", (1, 0, float("nan"), *(0.0,) * 6)),  # qform in place of sform
        (280, "<4f", (float("inf"),) * 4),  # srow_x
        (280, "<12f", (0.0,) * 12),
        (112, "<2f", (2.0, float("nan"))),  # slope and intercept
    ],
)
def test_nifti_headers_that_make_no_sense(
    name: str, at: int, form: str, values: tuple[float, ...], tmp_path: Path
) -> None:
    """Every field that decides where voxels are or how many: the file is named, as an image and as a mask."""
    path = _nifti_with(tmp_path / name, at, form, *values)
    for attempt in (partial(use, path, tmp_path / "staged"), partial(as_mask, path, 3)):
        with pytest.raises(SourceError, match=r"in\.nii"):
            attempt()


@pytest.mark.parametrize("packed", [False, True])
def test_a_series_of_a_trillion_volumes_is_not_counted_through(packed: bool, tmp_path: Path) -> None:
    """NIfTI-2 has room for the number; nothing is made for each volume before the file is known to hold them."""
    raw = bytearray(write_nifti(tmp_path / "in.nii", random_values((9, 8, 7), "int16"), version=2).read_bytes())
    struct.pack_into("<5q", raw, 16, 4, 9, 8, 7, 2**40)
    path = tmp_path / ("in.nii.gz" if packed else "in.nii")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    for attempt in (partial(open_any, str(path)), partial(as_mask, path, 3)):
        with pytest.raises(SourceError, match=r"in\.nii"):
            attempt()


def test_a_slope_of_nan_means_no_slope(tmp_path: Path) -> None:
    """The standard says so; the voxels read as they are stored."""
    source = open_any(str(_nifti_with(tmp_path / "in.nii", 112, "<2f", float("nan"), 5.0)))
    assert source.scale_offset == ((1.0, 0.0),)


@pytest.mark.parametrize("packed", [False, True])
def test_an_extension_cannot_claim_what_lies_behind_it(packed: bool, tmp_path: Path) -> None:
    """Extensions end where the voxels start, whatever their own length says."""
    path = write_nifti(tmp_path / "plain.nii", random_values((9, 8, 7), "int16"))
    raw = bytearray(path.read_bytes())
    raw[348:352] = b"\1\0\0\0"
    raw[352:352] = struct.pack("<ii8x", 0x7FFFFFF0, 6)
    struct.pack_into("<f", raw, 108, 368.0)
    target = tmp_path / ("in.nii.gz" if packed else "in.nii")
    target.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(SourceError, match=r"in\.nii"):
        open_any(str(target))


def test_a_gzip_bomb_is_not_inflated_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros many times the size of the voxels lie after them: staging stops, and leaves nothing."""
    monkeypatch.setattr(_gzip, "_SLACK", 2**20)
    raw = write_nifti(tmp_path / "plain.nii", random_values((9, 8, 7), "int16")).read_bytes()
    path = tmp_path / "in.nii.gz"
    path.write_bytes(gzip.compress(raw + bytes(20 * 2**20), compresslevel=1))
    with pytest.raises(SourceError, match=r"in\.nii\.gz.*more than its header says"):
        nifti.open_source([str(path)]).stage(tmp_path / "staged")
    assert list((tmp_path / "staged").iterdir()) == []


# --- zarr ----------------------------------------------------------------------------------------------------


def _zarr(path: Path) -> Path:
    names = ("y", "x")
    array = zarr.create_array(path, shape=(40, 50), chunks=(16, 16), dtype="int16", dimension_names=names)
    array[:] = 7
    return path


def test_a_pipe_for_a_chunk_is_not_opened(tmp_path: Path) -> None:
    """The chunk is named; the others still read."""
    path = _zarr(tmp_path / "in.zarr")
    chunk = path / "c" / "1" / "2"
    chunk.unlink()
    os.mkfifo(chunk)
    source = open_any(str(path))
    assert (source.read(Box((0, 0), (16, 50))) == 7).all()
    with pytest.raises(SourceError, match="c/1/2"):
        source.read(whole(source))


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2 * 10**9, 2 * 10**9]},
        {"shape": [2**40, 40, 50], "dimension_names": ["band", "y", "x"]},
        {"shape": [0, 50]},
        {"shape": [-4, 50]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**6, 10**6]}}},
        {"attributes": {"inpaint_pipeline": {"space": {"kind": "raster", "shape": 7}}}},
        {"attributes": {"inpaint_pipeline": {"space": {"kind": "raster", "shape": [40, None], "affine": [1] * 6}}}},
        {"attributes": {"inpaint_pipeline": {"space": {"kind": "raster", "shape": [40, 50], "affine": [1, 2]}}}},
        {"attributes": {"inpaint_pipeline": {"space": {"kind": "x", "shape": [40, 50], "affine": [1] * 6}}}},
        {"attributes": {"inpaint_pipeline": {"channel_names": ["a", "b"]}}},
        {"attributes": {"spatial:transform": ["nan"] * 6}},
        {"attributes": {"spatial:transform": [0, 0, 0, 0, 0, 0]}},
        {"attributes": {"_FillValue": "%%%"}},
        {"attributes": {"scale_factor": "much"}},
        {"codecs": [{"name": "no such codec"}]},
        {"data_type": "float1024"},
        {"dimension_names": [1, 2]},
        {"fill_value": {}},
    ],
)
def test_zarr_metadata_that_make_no_sense(changes: dict[str, Any], tmp_path: Path) -> None:
    """Impossible shapes, chunks of a terabyte, attributes of the wrong kind: the store is named."""
    path = _zarr(tmp_path / "in.zarr")
    facts = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps(facts | changes))
    with pytest.raises(SourceError, match=r"in\.zarr"):
        open_any(str(path))


# --- JPEG 2000 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "length"), [(48, 0), (48, 7), (40, 7)])
def test_a_box_that_leads_nowhere_is_refused(at: int, length: int, tmp_path: Path) -> None:
    """GDAL would go round in circles: inside the header no box is without length, and none shorter than its head."""
    values = random_values((1, 40, 50), "uint8")
    raw = bytearray(write_tiff(tmp_path / "in.jp2", values, driver="JP2OpenJPEG").read_bytes())
    start = raw.index(b"jp2h") - 4
    struct.pack_into(">I", raw, start + at - 40, length)
    (tmp_path / "in.jp2").write_bytes(bytes(raw))
    for attempt in (partial(open_any, str(tmp_path / "in.jp2")), partial(as_mask, tmp_path / "in.jp2")):
        with pytest.raises(SourceError, match=r"in\.jp2: box"):
            attempt()


def test_bytes_that_are_no_text_are_not_printed_as_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Rasterio cannot log what GDAL says of a damaged file if it is no UTF-8; other failures are still told."""
    open_any(str(write_tiff(tmp_path / "in.tif", random_values((1, 9, 9), "uint8"))))
    silent = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    sys.excepthook(type(silent), silent, None)
    sys.unraisablehook(SimpleNamespace(exc_value=silent, exc_type=type(silent), exc_traceback=None, object=None))
    assert capsys.readouterr().err == ""
    sys.excepthook(ValueError, ValueError("told"), None)
    assert "told" in capsys.readouterr().err
