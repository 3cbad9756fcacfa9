"""Writes small scenes as agencies deliver them: SAFE folders, Landsat folders, STAC Items, from generated values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from tests.helpers import smooth
from tests.support_formats import UTM33, write_tiff

TILE = "T33UVP"
SIZE = 48
"""Pixels of 10 m along the edge of a scene; a whole number of those of 20 and 60 m (60 m: 8)."""
BANDS = {
    "R10m": ("B02", "B03", "B04", "B08"),
    "R20m": ("B02", "B03", "B04", "B05", "B8A", "B11"),
    "R60m": ("B01", "B02", "B09"),
}
LANDSAT = "LC08_L2SP_190024_20220126_20220128_02_T1"


def scene_values(size: int = SIZE, seed: int = 0) -> NDArray[np.uint16]:
    """Return values of ten bands at 10 m, uint16 `(10, size, size)`, around 1000."""
    return smooth((10, size, size), seed=seed)


def classes(size: int = SIZE // 2) -> NDArray[np.uint8]:
    """Return a scene classification at 20 m with one cloud in the middle, uint8 `(1, size, size)`."""
    codes = np.full((1, size, size), 4, np.uint8)
    codes[0, size // 3 : size // 2, size // 3 : size // 2] = 9
    return codes


def metadata_of(baseline: str, *, level: str = "2A", offset: int | None = None, start: str = "2022-01-26") -> str:
    """Return MTD_MSIL2A.xml or MTD_MSIL1C.xml with what is read of it."""
    word = "BOA" if level == "2A" else "RADIO"
    quantity = "BOA_QUANTIFICATION_VALUE" if level == "2A" else "QUANTIFICATION_VALUE"
    rows = "".join(f'<{word}_ADD_OFFSET band_id="{k}">{offset}</{word}_ADD_OFFSET>' for k in range(13))
    offsets = f"<{word}_ADD_OFFSET_VALUES_LIST>{rows}</{word}_ADD_OFFSET_VALUES_LIST>" if offset is not None else ""
    return (
        f'<?xml version="1.0"?><n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/x.xsd">'
        f"<n1:General_Info><Product_Info><PRODUCT_START_TIME>{start}T10:20:21.024Z</PRODUCT_START_TIME>"
        f"<PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE></Product_Info><Product_Image_Characteristics>"
        f'<{quantity} unit="none">10000</{quantity}>{offsets}'
        f"</Product_Image_Characteristics></n1:General_Info></n1:Level-{level}_User_Product>"
    )


def write_safe(
    folder: Path,
    *,
    baseline: str = "04.00",
    date: str = "20220126",
    added: int = 0,
    seed: int = 0,
    metadata: bool = True,
    cloudy: bool = True,
) -> Path:
    """Write a SAFE folder of level 2A with lossless JPEG 2000 bands; `added` is what its numbers hold over reflectance.

    Since baseline 04.00 the metadata say an offset of -1000.
    """
    number = baseline.replace(".", "")
    safe = folder / f"S2A_MSIL2A_{date}T102021_N{number}_R065_{TILE}_{date}T140000.SAFE"
    images = safe / "GRANULE" / f"L2A_{TILE}_A034000_{date}T102018" / "IMG_DATA"
    values = scene_values(seed=seed) + np.uint16(added)
    for name, bands in BANDS.items():
        metres = int(name[1:3])
        (images / name).mkdir(parents=True)
        for at, band in enumerate(bands):
            step = metres // 10
            write_jp2(images / name / f"{TILE}_{date}T102021_{band}_{metres}m.jp2", values[at, ::step, ::step], metres)
    codes = classes() if cloudy else np.full((1, SIZE // 2, SIZE // 2), 4, np.uint8)
    write_jp2(images / "R20m" / f"{TILE}_{date}T102021_SCL_20m.jp2", codes[0], 20)
    if metadata:
        offset = -1000 if float(baseline) >= 4 else None
        start = f"{date[:4]}-{date[4:6]}-{date[6:]}"
        (safe / "MTD_MSIL2A.xml").write_text(metadata_of(baseline, offset=offset, start=start))
    return safe


def write_level_1c(folder: Path, baseline: str, *, clouds: bool = True) -> Path:
    """Write a SAFE folder of level 1C with four bands and, unless `clouds` is False, the cloud mask of its baseline.

    In pixels of 60 m an opaque cloud lies at rows 2 to 3 and columns 3 to 5 but 4 (of baseline 04.00 and later without
    that gap), cirrus at row 6 and column 1, snow, since then, at row 0 and column 0.
    """
    safe = folder / f"S2A_MSIL1C_20220126T102021_N{baseline.replace('.', '')}_R065_{TILE}_20220126T120000.SAFE"
    images, quality = (safe / "GRANULE" / f"L1C_{TILE}_A034000_20220126T102018" / n for n in ("IMG_DATA", "QI_DATA"))
    images.mkdir(parents=True)
    quality.mkdir()
    for band, metres in (("B02", 10), ("B04", 10), ("B10", 60), ("B11", 20)):
        step = metres // 10
        write_jp2(images / f"{TILE}_20220126T102021_{band}.jp2", scene_values()[0, ::step, ::step], metres)
    write_jp2(quality / "MSK_DETFOO_B02.jp2", scene_values()[0], 10)
    new = float(baseline) >= 4
    (safe / "MTD_MSIL1C.xml").write_text(metadata_of(baseline, level="1C", offset=-1000 if new else None))
    if clouds and new:
        classified = np.zeros((3, SIZE // 6, SIZE // 6), np.uint8)
        classified[0, 2:4, 3:6] = classified[1, 6, 1] = classified[2, 0, 0] = 1
        write_jp2(quality / "MSK_CLASSI_B00.jp2", classified, 60)
    elif clouds:
        opaque = _ring(3, 2, 6, 4), _ring(4, 2, 5, 4)
        (quality / "MSK_CLOUDS_B00.gml").write_text(clouds_gml(("OPAQUE", opaque), ("CIRRUS", (_ring(1, 6, 2, 7),))))
    return safe


def _ring(x0: int, y0: int, x1: int, y1: int) -> str:
    """Return the ring around pixels of 60 m as GML lists it, with a height of 7 at every corner."""
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))
    return " ".join(f"{500000 + 60 * x} {5000000 - 60 * y} 7" for x, y in corners)


def clouds_gml(*features: tuple[str, tuple[str, ...]]) -> str:
    """Return a cloud mask as products before baseline 04.00 have it; a feature is a type and its rings."""
    members = ""
    for at, (kind, rings) in enumerate(features):
        edges = "".join(
            f"<gml:{side}><gml:LinearRing><gml:posList srsDimension='3'>{ring}</gml:posList></gml:LinearRing>"
            f"</gml:{side}>"
            for side, ring in zip(("exterior", *["interior"] * len(rings)), rings, strict=False)
        )
        members += (
            f"<eop:MaskFeature gml:id='{kind}.{at}'><eop:maskType codeSpace='urn:gs2:S2PDGS:maskType'>{kind}"
            f"</eop:maskType><eop:extentOf><gml:Polygon gml:id='{kind}.{at}_Polygon'>{edges}</gml:Polygon>"
            "</eop:extentOf></eop:MaskFeature>"
        )
    where = '<gml:boundedBy><gml:Envelope srsName="urn:ogc:def:crs:EPSG:8.7:32633"/></gml:boundedBy>' if members else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" '
        'xmlns:gml="http://www.opengis.net/gml/3.2" gml:id="S2A_OPER_MSK_CLOUDS">'
        f"{where}<eop:maskMembers>{members}</eop:maskMembers></eop:Mask>"
    )


def write_jp2(path: Path, values: NDArray[Any], metres: float) -> Path:
    """Write one band `(y, x)`, or several `(band, y, x)`, without loss."""
    bands = values[None] if values.ndim == 2 else values
    height, width = bands.shape[1:]
    profile = {
        "driver": "JP2OpenJPEG",
        "count": len(bands),
        "height": height,
        "width": width,
        "dtype": values.dtype,
        "crs": UTM33,
    }
    transform = rasterio.Affine(metres, 0, 5e5, 0, -metres, 5e6)
    with rasterio.open(path, "w", **profile, transform=transform, QUALITY="100", REVERSIBLE="YES") as file:
        file.write(bands)
    return path


def write_landsat(folder: Path, scene: str = LANDSAT, *, seed: int = 0) -> Path:
    """Write the folder of a Landsat 8 scene of Collection 2, level 2."""
    folder.mkdir(parents=True, exist_ok=True)
    values = scene_values(seed=seed)
    transform = rasterio.Affine(30, 0, 5e5, 0, -30, 5e6)
    for at, band in enumerate(("SR_B2", "SR_B3", "SR_B4", "SR_B5", "ST_B10")):
        write_tiff(folder / f"{scene}_{band}.TIF", values[at : at + 1], transform=transform, nodata=0)
    quality = np.full((1, SIZE, SIZE), 21824, np.uint16)
    quality[0, 16:24, 16:24] = 22280
    write_tiff(folder / f"{scene}_QA_PIXEL.TIF", quality, transform=transform, nodata=1)
    (folder / f"{scene}_MTL.txt").write_text(
        "GROUP = LANDSAT_METADATA_FILE\n  GROUP = IMAGE_ATTRIBUTES\n    DATE_ACQUIRED = 2022-01-26\n"
        '    SCENE_CENTER_TIME = "10:02:03.1234560Z"\n  END_GROUP = IMAGE_ATTRIBUTES\nEND\n'
    )
    return folder


def write_item(folder: Path, properties: Mapping[str, Any], *, base: str = "", seed: int = 0, added: int = 0) -> Path:
    """Write a STAC Item of Sentinel-2 with three bands of 10 m, one of 20 m, SCL, a picture and metadata as assets.

    Args:
        folder: of Item and bands.
        properties: added to those of the Item.
        base: what the addresses of the assets begin with; empty: relative to the Item.
        seed: of the values.
        added: as `write_safe`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = scene_values(seed=seed) + np.uint16(added)
    assets: dict[str, Any] = {
        "thumbnail": {"href": f"{base}preview.jpg", "type": "image/jpeg"},
        "granule_metadata": {"href": f"{base}metadata.xml", "type": "application/xml"},
        "visual": {"href": f"{base}TCI.tif", "type": "image/tiff", "eo:bands": [{"name": n} for n in "rgb"]},
        "red-jp2": {"href": "s3://sentinel/B04.jp2", "type": "image/jp2", "eo:bands": [{"common_name": "red"}]},
    }
    for at, (key, band, metres) in enumerate(
        (("blue", "B02", 10), ("green", "B03", 10), ("red", "B04", 10), ("rededge1", "B05", 20))
    ):
        step = metres // 10
        transform = rasterio.Affine(metres, 0, 5e5, 0, -metres, 5e6)
        write_tiff(folder / f"{band}.tif", values[at : at + 1, ::step, ::step], transform=transform, nodata=0)
        assets[key] = {
            "href": f"{base}{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "eo:bands": [{"name": key, "common_name": key.rstrip("1")}],
            "raster:bands": [{"spatial_resolution": metres, "scale": 0.0001, "offset": -0.1}],
        }
    write_tiff(folder / "SCL.tif", classes(), transform=rasterio.Affine(20, 0, 5e5, 0, -20, 5e6))
    assets["scl"] = {"href": f"{base}SCL.tif", "type": "image/tiff"}
    path = folder / "item.json"
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2B_33UVP_20220126_0_L2A",
        "properties": {"datetime": "2022-01-26T10:20:21Z", "constellation": "sentinel-2", **properties},
        "geometry": None,
        "links": [],
        "assets": assets,
    }
    path.write_text(json.dumps(item))
    return path
