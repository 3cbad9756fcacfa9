"""Nodata that rasterio does not hand over as it stands in a file: whole numbers of 64 bits, and what no pixel can have.

rasterio makes a float of the first and drops the second; GDAL's VRT driver says and takes both.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil

from pipeline.formats._gdal import quiet
from pipeline.formats._image import representable
from pipeline.numerics.number import exact

_WIDE = ("int64", "uint64")
_NAMES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "uint64": "UInt64", "int64": "Int64",
}  # fmt: skip
"""Integer types as GDAL names them."""
_NO_OPTIONS = ("dtype", "count", "height", "width", "crs", "transform", "nodata")
"""What of a profile is no option of GDAL's driver."""


def declared_nodata(dataset: Any) -> tuple[float | None, ...]:
    """Return what each band of an open raster declares as nodata; whole numbers where a float would not do."""
    read = tuple(dataset.nodatavals)
    if all(
        name not in _NAMES or (name not in _WIDE and v is not None)
        for name, v in zip(dataset.dtypes, read, strict=True)
    ):
        return read
    return tuple(_number(band.findtext("NoDataValue")) for band in described_bands(dataset))


def described_bands(dataset: Any) -> list[ElementTree.Element]:
    """Return what GDAL writes of each band of an open raster into a VRT, which is more than rasterio tells."""
    copy = f"/vsimem/{uuid.uuid4().hex}.vrt"
    rasterio.shutil.copy(dataset, copy, driver="VRT")
    try:
        with quiet(), rasterio.open(copy, driver="VRT") as described:
            text = described.tags(ns="xml:VRT")["xml:VRT"]
    finally:
        rasterio.shutil.delete(copy, driver="VRT")
    return ElementTree.fromstring(text).findall("VRTRasterBand")


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return exact(int(text))
    except ValueError:
        return float(text)


def creating(path: Path, profile: dict[str, Any]) -> Any:
    """Open a GeoTIFF for writing as `rasterio.open(path, "w", **profile)` does, but with its nodata as it is given."""
    nodata, dtype = profile["nodata"], np.dtype(profile["dtype"])
    held = representable(nodata, dtype) == nodata and isinstance(exact(nodata or 0), float)
    if nodata is None or dtype.name not in _NAMES or held:
        return rasterio.open(path, "w", **profile)
    value = f"<NoDataValue>{int(nodata) if nodata == nodata // 1 else nodata!r}</NoDataValue>"
    band = f'<VRTRasterBand dataType="{_NAMES[dtype.name]}" band="{{}}">{value}</VRTRasterBand>'
    empty = path.with_suffix(".vrt")
    empty.write_text(
        f'<VRTDataset rasterXSize="{profile["width"]}" rasterYSize="{profile["height"]}">'
        + "".join(band.format(at + 1) for at in range(profile["count"]))
        + "</VRTDataset>"
    )
    rasterio.shutil.copy(empty, path, sparse_ok=True, **{k: v for k, v in profile.items() if k not in _NO_OPTIONS})
    with quiet():
        dataset = rasterio.open(path, "r+")
    if profile["crs"]:
        dataset.crs = profile["crs"]
    if profile["transform"] is not None:
        dataset.transform = profile["transform"]
    return dataset
