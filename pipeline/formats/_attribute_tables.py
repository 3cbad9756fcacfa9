"""Names of classes and tables of their attributes, which GDAL keeps beside a raster and rasterio cannot write."""

from __future__ import annotations

from typing import Any

from pipeline.formats._nodata import described_bands

_TABLES = {"CategoryNames": "names of classes", "GDALRasterAttributeTable": "a raster attribute table"}
_BESIDE = ".aux.xml"


def unkept_tables(dataset: Any) -> list[str]:
    """Return, in words, which tables the bands of an open raster have that a result does not get."""
    if dataset.driver != "VRT" and not any(str(file).endswith(_BESIDE) for file in dataset.files):
        return []
    bands = described_bands(dataset)
    return [words for tag, words in _TABLES.items() if any(band.find(tag) is not None for band in bands)]
