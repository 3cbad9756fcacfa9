"""Nodata of 64-bit integers, exactly: rasterio hands it over as a float, GDAL's VRT driver as a whole number."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil

from pipeline.numerics.number import exact

_EXACT = 2**53
_NAMES = {"int64": "Int64", "uint64": "UInt64"}


def declared_nodata(dataset: Any) -> tuple[float | None, ...]:
    """Return what each band of an open raster declares as nodata; whole numbers where the pixels have 64 bits."""
    if not any(name in _NAMES for name in dataset.dtypes):
        return tuple(dataset.nodatavals)
    copy = f"/vsimem/{uuid.uuid4().hex}.vrt"
    rasterio.shutil.copy(dataset, copy, driver="VRT")
    try:
        with rasterio.open(copy, driver="VRT") as described:
            text = described.tags(ns="xml:VRT")["xml:VRT"]
    finally:
        rasterio.shutil.delete(copy, driver="VRT")
    found = [band.findtext("NoDataValue") for band in ElementTree.fromstring(text).findall("VRTRasterBand")]
    return tuple(_number(value) for value in found)


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return exact(int(text))
    except ValueError:
        return float(text)


def creating(path: Path, profile: dict[str, Any]) -> Any:
    """Open a GeoTIFF for writing as `rasterio.open(path, "w", **profile)` does, but with its nodata exact."""
    nodata, dtype = profile["nodata"], np.dtype(profile["dtype"]).name
    if dtype not in _NAMES or nodata is None or abs(nodata) <= _EXACT:
        return rasterio.open(path, "w", **profile)
    value = f"<NoDataValue>{int(nodata)}</NoDataValue>"
    band = f'<VRTRasterBand dataType="{_NAMES[dtype]}" band="{{}}">{value}</VRTRasterBand>'
    empty = path.with_suffix(".vrt")
    empty.write_text(
        f'<VRTDataset rasterXSize="{profile["width"]}" rasterYSize="{profile["height"]}">'
        + "".join(band.format(at + 1) for at in range(profile["count"]))
        + "</VRTDataset>"
    )
    options = {k: v for k, v in profile.items() if k not in _NO_OPTIONS}
    rasterio.shutil.copy(empty, path, sparse_ok=True, **options)
    dataset = rasterio.open(path, "r+")
    if profile["crs"]:
        dataset.crs = profile["crs"]
    if profile["transform"] is not None:
        dataset.transform = profile["transform"]
    return dataset


_NO_OPTIONS = ("dtype", "count", "height", "width", "crs", "transform", "nodata", "photometric")
"""What of a profile is no option of GDAL's driver, or is no matter for pixels of 64 bits (they have no colours)."""
