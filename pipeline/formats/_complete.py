"""Whether a raster is all there, as far as can be told without decoding it: what lies beside it, and its last tile."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import Interleaving

from pipeline.errors import SourceError
from pipeline.formats._files import first_bytes
from pipeline.system.paths import is_address, kind_of

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF starts, one of them."""
SIDECARS = (".msk", ".ovr", ".msk.ovr", ".aux.xml")
"""What is read with a raster without being named."""
_MAX_BLOCK_BYTES = 2**30
"""A tile or strip is decoded whole, whatever the window."""
_XML_ENDS = 4096
"""Bytes at the start and the end of an XML file that are looked at."""


def require_plain_sidecars(path: str) -> None:
    """Check what GDAL opens beside a raster: a mask or an overview is a TIFF, and everything is a file."""
    for suffix in (*SIDECARS, *(s.upper() for s in SIDECARS)):
        beside = path + suffix
        if not os.path.lexists(beside):
            continue
        xml = suffix.lower() == ".aux.xml"
        if kind_of(beside) != "file" or not (xml or first_bytes(beside).startswith(TIFF)):
            raise SourceError(f"{beside}: belongs to the image, but is no TIFF file; convert or remove it")
        if xml:
            _require_whole(beside)


def _require_whole(path: str) -> None:
    """Check the file in which GDAL keeps what belongs to an image: a damaged one it leaves out, nodata and all.

    Raises:
        SourceError: it is cut off, or no XML.
    """
    with Path(path).open("rb") as file:
        start = file.read(_XML_ENDS)
        file.seek(max(0, Path(path).stat().st_size - _XML_ENDS))
        end = file.read()
    root = re.search(rb"<([A-Za-z_][\w:.-]*)", start)
    # GDAL is lenient about what stands between
    if root is None or not re.search(rb"(</" + re.escape(root[1]) + rb"\s*>|/>)\s*$", end):
        raise SourceError(
            f"{path}: belongs to the image, which may have its nodata there, but is cut off or no XML; copy it again, "
            "or remove it"
        )


def require_complete(dataset: Any, path: str) -> None:
    """Check cheaply that a TIFF claims no more than it can hold and reaches to the end of its last tile.

    Raises:
        SourceError: a tile or strip that no memory should be spent on, or the file is shorter than its own index says.
    """
    if dataset.count == 0:
        return
    rows, cols = dataset.block_shapes[0]
    together = dataset.count if dataset.interleaving == Interleaving.pixel else 1
    block = rows * cols * together * np.dtype(dataset.dtypes[0]).itemsize
    if block > _MAX_BLOCK_BYTES:
        raise SourceError(
            f"{path}: one tile or strip has {rows} x {cols} pixels, {block} bytes, and is decoded whole; "
            "rewrite the file in tiles (gdal_translate -co TILED=YES)"
        )
    if is_address(path) or dataset.driver != "GTiff":
        return
    found = Path(path).stat().st_size
    blocks = -(-dataset.height // rows) * -(-dataset.width // cols) * (dataset.count // together)
    if blocks > found:
        raise SourceError(
            f"{path}: truncated or damaged: {found} bytes cannot hold {blocks} tiles; copy the file again"
        )
    for band in {1, dataset.count}:
        _require_last_block(dataset, path, band, found)


def _require_last_block(dataset: Any, path: str, band: int, found: int) -> None:
    rows, cols = dataset.block_shapes[band - 1]
    last = f"{(dataset.width - 1) // cols}_{(dataset.height - 1) // rows}"
    offset = dataset.get_tag_item(f"BLOCK_OFFSET_{last}", "TIFF", bidx=band)
    size = dataset.get_tag_item(f"BLOCK_SIZE_{last}", "TIFF", bidx=band)
    if offset and size and int(offset) + int(size) > found:
        raise SourceError(
            f"{path}: truncated: {found} bytes found, but the last block of band {band} ends at byte "
            f"{int(offset) + int(size)}; copy the file again"
        )
