"""A VRT is XML that anybody can write and a file name anybody can choose: it reads images, and nothing else."""

from __future__ import annotations

import http.server
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.vrt import WarpedVRT

from pipeline.errors import SourceError
from pipeline.formats import files_of, geotiff, open_any
from pipeline.formats._gdal import vrt_sources
from pipeline.masks.base import mask_options, open_masks
from tests.support_formats import ArraySource, layer_of, options, random_values, same_bytes, space_of, whole, write_tiff
from tests.web import Silent, answering

_SHAPE = (8, 8)
_SECRET = bytes(range(64))
_PLACE = "<GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>"
_RAW = (
    '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
    '<SourceFilename relativeToVRT="1">secret</SourceFilename>'
    "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>8</LineOffset></VRTRasterBand>"
)


def _vrt(path: Path, bands: str, head: str = "") -> Path:
    path.write_text(f'<VRTDataset rasterXSize="8" rasterYSize="8" {head}>{_PLACE}{bands}</VRTDataset>')
    return path


def _band(name: str, *, source: str = "SimpleSource", relative: int = 1) -> str:
    file = f'<SourceFilename relativeToVRT="{relative}">{name}</SourceFilename><SourceBand>1</SourceBand>'
    return f'<VRTRasterBand dataType="Byte" band="1"><{source}>{file}</{source}></VRTRasterBand>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image and a file that is none of the reader's business."""
    write_tiff(tmp_path / "a.tif", random_values((1, *_SHAPE), "uint8"))
    (tmp_path / "secret").write_bytes(_SECRET)
    return tmp_path


def _refused(path: Path, match: str) -> None:
    """Check that neither an image nor a mask is made of it, and that nothing is said to belong to it."""
    image = ArraySource(values=np.ones((1, *_SHAPE), np.uint16), space=space_of(_SHAPE))
    entry = mask_options({"kind": "raster", "path": str(path)})
    for attempt in (partial(open_any, str(path)), partial(open_masks, [entry], image, str)):
        with pytest.raises(SourceError, match=match) as error:
            attempt()
        assert str(path) in str(error.value)
    assert files_of(str(path)) == ()


@pytest.mark.parametrize("name", ["in.vrt", "in.tif"])
@pytest.mark.parametrize(
    "band",
    [
        _RAW,
        _RAW.replace("subClass", "SUBCLASS").replace("VRTRawRasterBand", "vrtrawrasterband"),
        _RAW.replace(' subClass="VRTRawRasterBand">', "><subClass>VRTRawRasterBand</subClass>"),
    ],
)
def test_raw_bands_are_refused_whatever_they_are_called(name: str, band: str, folder: Path) -> None:
    """Any file of this machine could come back as pixels of the result."""
    _refused(_vrt(folder / name, band), "(?i)VRTRawRasterBand")


def test_raw_bands_are_refused_in_a_vrt_within_a_vrt(folder: Path) -> None:
    """Whatever the inner one is called."""
    _vrt(folder / "inner.tif", _RAW)
    _vrt(folder / "middle.vrt", _band("inner.tif"))
    _refused(_vrt(folder / "in.vrt", _band("middle.vrt")), "VRTRawRasterBand")


@pytest.mark.parametrize(
    ("band", "head", "match"),
    [
        (
            '<VRTRasterBand dataType="Byte" band="1" subClass="VRTDerivedRasterBand">'
            "<PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionType>os.system</PixelFunctionType>"
            "</VRTRasterBand>",
            "",
            "program code",
        ),
        (
            '<VRTRasterBand dataType="Byte" band="1" subClass="VRTDerivedRasterBand">'
            "<PixelFunctionCode>import os</PixelFunctionCode></VRTRasterBand>",
            "",
            "program code",
        ),
        (_band("a.tif"), 'subClass="VRTProcessedDataset"', "VRTProcessedDataset"),
        (_band("secret"), "", "secret: not a readable"),
        (_band("/etc/passwd", relative=0), "", "/etc/passwd: not a readable"),
        (_band("gone.tif"), "", r"gone\.tif: no such file"),
        (_band("."), "", "is a folder"),
        (_band("/dev/zero"), "", "/dev/zero: is a device"),
        (_band("in.vrt"), "", "reads itself"),
        (_band("NETCDF:a.tif:x"), "", "may only read files"),
        (_band("vrt://a.tif"), "", "may only read files"),
        (_band("/vsizip/a.zip/a.tif"), "", "may only read files"),
        (_band("/vsistdin/"), "", "may only read files"),
        (_band("&lt;VRTDataset/>"), "", "may only read files"),
        (_band('{"type": "x"}'), "", "may only read files"),
        (
            '<VRTRasterBand dataType="Byte" band="1"><SimpleSource sourcefilename="secret"/></VRTRasterBand>',
            "",
            "secret",
        ),
        ("<SRS>http://localhost/x</SRS>" + _band("a.tif"), "", "may only read files"),
        ("<unclosed>", "", "not a readable VRT"),
    ],
)
def test_what_a_vrt_may_not_contain(band: str, head: str, match: str, folder: Path) -> None:
    """Program code, other kinds, files that are no images, and names that other drivers would take."""
    _refused(_vrt(folder / "in.vrt", band, head), match)


def test_a_document_type_is_refused(folder: Path) -> None:
    """Entities can grow without end; GDAL writes none."""
    path = _vrt(folder / "in.vrt", _band("a.tif"))
    path.write_text(f'<!DOCTYPE x [<!ENTITY a "b">]>{path.read_text()}')
    _refused(path, "document type")


def test_vrts_that_multiply_are_refused(folder: Path) -> None:
    """Twelve small files, each reading the one before ten times, would be 1e12 reads."""
    shutil.copy(folder / "a.tif", folder / "0.vrt")
    for level in range(1, 12):
        _vrt(folder / f"{level}.vrt", _band(f"{level - 1}.vrt") * 10)
    _refused(folder / "11.vrt", "reads, more than")


def test_a_file_that_is_tiff_and_vrt_is_neither(folder: Path) -> None:
    """GDAL might take it for one and this program for the other."""
    raw = (folder / "a.tif").read_bytes()
    (folder / "both.tif").write_bytes(raw[:8] + b"<VRTDataset" + raw[8:])
    _refused(folder / "both.tif", "not a readable")


@pytest.mark.parametrize("suffix", [".msk", ".ovr"])
def test_a_mask_beside_an_image_is_no_vrt(suffix: str, folder: Path) -> None:
    """GDAL opens it by its name with any driver."""
    _vrt(folder / f"a.tif{suffix}", _RAW)
    with pytest.raises(SourceError, match=rf"a\.tif\{suffix}"):
        open_any(str(folder / "a.tif"))
    _refused(_vrt(folder / "in.vrt", _band("a.tif")), rf"a\.tif\{suffix}")


class _Counting(Silent, http.server.BaseHTTPRequestHandler):
    """Notes who asks, and has nothing."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def spy() -> Iterator[tuple[str, list[str]]]:
    """The address of a web server on this machine, and what it was asked for."""
    asked: list[str] = []
    with answering(type("Handler", (_Counting,), {"asked": asked})) as address:
        yield f"http://{address}", asked


@pytest.mark.parametrize("form", ["{}/x.tif", "/vsicurl/{}/x.tif"])
def test_local_files_do_not_reach_the_network(form: str, spy: tuple[str, list[str]], folder: Path) -> None:
    """Neither a VRT nor the metadata of a TIFF, in it or beside it, makes the program ask a server for anything."""
    url, asked = spy
    target = form.format(url)
    _refused(_vrt(folder / "in.vrt", _band(target)), "may only read files")
    with rasterio.open(folder / "a.tif", "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=target)
    _refused(folder / "a.tif", "overviews")
    _refused(_vrt(folder / "in.vrt", _band("a.tif")), "overviews")
    write_tiff(folder / "b.tif", random_values((1, *_SHAPE), "uint8"))
    item = f'<MDI key="OVERVIEW_FILE">{target}</MDI>'
    (folder / "b.tif.aux.xml").write_text(f'<PAMDataset><Metadata domain="OVERVIEWS">{item}</Metadata></PAMDataset>')
    _refused(folder / "b.tif", "overviews")
    assert asked == []


# --- what must go on working ---------------------------------------------------------------------------------


def _written_by_gdal(folder: Path, kind: str) -> tuple[Path, Any]:
    path = folder / f"{kind}.vrt"
    with rasterio.open(folder / "a.tif") as source:
        if kind == "plain":
            rasterio.shutil.copy(source, path, driver="VRT")
            return path, source.read()
        with WarpedVRT(source, crs="EPSG:4326") as warped:
            rasterio.shutil.copy(warped, path, driver="VRT")
            return path, warped.read()


@pytest.mark.parametrize("kind", ["plain", "warped"])
def test_what_gdal_writes_is_read(kind: str, folder: Path) -> None:
    """A mosaic and a warped image, with the values that GDAL gives, from another folder, through a link, nested."""
    path, expected = _written_by_gdal(folder, kind)
    source = open_any(str(path))
    assert same_bytes(source.read(whole(source)), expected)
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "link.vrt").symlink_to(path)
    linked = open_any(str(folder / "elsewhere" / "link.vrt"))
    assert same_bytes(linked.read(whole(linked)), expected)
    assert vrt_sources(str(path)) == (str(folder / "a.tif"),)


def test_functions_of_gdal_itself_and_nested_vrts_are_read(folder: Path) -> None:
    """A pixel function in C, free text with an address in it, and a VRT in a VRT."""
    words = "<MDI key='LICENSE'>http://example.org</MDI><MDI key='SourceFilename'>scene 7</MDI>"
    inner = _vrt(folder / "inner.vrt", f"<Metadata>{words}</Metadata>" + _band("a.tif"))
    inner.write_text(f"<!-- made by hand -->{inner.read_text()}")
    derived = _band("inner.vrt").replace(
        'band="1">', 'band="1" subClass="VRTDerivedRasterBand"><PixelFunctionType>inv</PixelFunctionType>'
    )
    source = open_any(str(_vrt(folder / "in.vrt", derived)))
    assert source.read(whole(source)).shape == (1, *_SHAPE)
    assert files_of(str(folder / "in.vrt")) == (str(folder / "a.tif"), str(folder / "inner.vrt"))


def test_a_vrt_from_elsewhere_reads_what_lies_there(web: str, folder: Path) -> None:
    """The image beside it is read; a file of this machine, or a raw band, is not."""
    _vrt(folder / "in.vrt", _band("a.tif"))
    source = open_any(f"{web}/in.vrt")
    with rasterio.open(folder / "a.tif") as dataset:
        assert same_bytes(source.read(whole(source)), dataset.read())
    assert files_of(f"{web}/in.vrt") == (f"{web}/a.tif",)
    _vrt(folder / "local.vrt", _band(str(folder / "a.tif"), relative=0))
    with pytest.raises(SourceError, match="may only read what lies there"):
        open_any(f"{web}/local.vrt")
    _vrt(folder / "raw.vrt", _RAW.replace("secret", str(folder / "secret")).replace('VRT="1"', 'VRT="0"'))
    with pytest.raises(SourceError, match="VRTRawRasterBand"):
        open_any(f"{web}/raw.vrt")


def test_an_image_from_elsewhere_is_read_while_its_result_is_written(web: str, folder: Path) -> None:
    """Local files do not reach the network, but what is written may come from there."""
    source = geotiff.open_source([f"{web}/a.tif"])
    geotiff.write(layer_of(source), folder / "out.tif", source, source.read, options(folder))
    written = open_any(str(folder / "out.tif"))
    with rasterio.open(folder / "a.tif") as dataset:
        assert same_bytes(written.read(whole(written)), dataset.read())


@pytest.mark.parametrize(("driver", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("JP2OpenJPEG", ".jp2")])
def test_masks_are_pictures_too(driver: str, suffix: str, folder: Path) -> None:
    """What a drawing program or a satellite product gives is a mask, whatever its name."""
    image = ArraySource(values=np.ones((1, 64, 64), np.uint16), space=space_of((64, 64)))
    codes = np.full((1, 64, 64), 255, np.uint8)
    path = write_tiff(folder / f"mask{suffix}", codes, driver=driver)
    for name in (path, shutil.copy(path, folder / "mask.tif")):
        mask = open_masks([mask_options({"kind": "raster", "path": str(name)})], image, str)
        assert (mask.read(whole(image)) == 1).all()
