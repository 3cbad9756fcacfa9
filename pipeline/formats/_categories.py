"""Names of classes and tables of their attributes, which GDAL keeps beside a raster and rasterio cannot write.

Formats: https://gdal.org/en/stable/user/raster_data_model.html
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from pipeline.formats._nodata import described_bands

_INTEGER, _STRING = 0, 2
_NAME, _VALUE = 2, 5
"""Types and usages of columns as GDAL counts them."""
_TABLES = {"CategoryNames": "names of classes", "GDALRasterAttributeTable": "a raster attribute table"}
SIDECAR = ".aux.xml"
"""What GDAL appends to the name of a TIFF for the file of what its keys cannot hold."""


def unkept_tables(dataset: Any) -> list[str]:
    """Return, in words, which tables the bands of an open raster have that a result does not get."""
    if dataset.driver != "VRT" and not any(str(file).endswith(SIDECAR) for file in dataset.files):
        return []
    bands = described_bands(dataset)
    return [words for tag, words in _TABLES.items() if any(band.find(tag) is not None for band in bands)]


def name_categories(sidecar: Path, names: Mapping[int, str], n_bands: int) -> None:
    """Write the names of the values of all bands into a file beside a raster; what else it holds stays."""
    root = ET.parse(sidecar).getroot() if sidecar.exists() else ET.Element("PAMDataset")
    for band in range(1, n_bands + 1):
        found = root.find(f"PAMRasterBand[@band='{band}']")
        entry = ET.SubElement(root, "PAMRasterBand", band=str(band)) if found is None else found
        listed = ET.SubElement(entry, "CategoryNames")
        for value in range(max(names) + 1):
            # the place in the list is the value
            ET.SubElement(listed, "Category").text = names.get(value)
        entry.append(_table(names))
    ET.indent(root)
    ET.ElementTree(root).write(sidecar, encoding="UTF-8")


def _table(names: Mapping[int, str]) -> ET.Element:
    table = ET.Element("GDALRasterAttributeTable", tableType="thematic")
    columns = (("Value", _INTEGER, _VALUE), ("Class", _STRING, _NAME))
    for index, (name, kind, usage) in enumerate(columns):
        column = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, text in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            ET.SubElement(column, tag).text = text
    for index, (value, name) in enumerate(sorted(names.items())):
        row = ET.SubElement(table, "Row", index=str(index))
        for text in (str(value), name):
            ET.SubElement(row, "F").text = text
    return table
