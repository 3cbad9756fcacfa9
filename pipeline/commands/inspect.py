"""What an image or a delivered scene is, by its headers; of a volume also which slices look lost."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pipeline.config.fetched import copied
from pipeline.config.products import open_product
from pipeline.config.products.base import metres_text
from pipeline.errors import SourceError
from pipeline.formats import open_any
from pipeline.formats.base import Source
from pipeline.image.lost import looked_through
from pipeline.system.redact import redacted


def image_table(file: str) -> dict[str, Any]:
    """Return the header facts of an image, or the bands of a delivered scene; of a volume it reads the voxels, too."""
    if (product := open_product(file)) is not None:
        return {
            "file": redacted(file),
            "scene": product.name,
            "product": product.what,
            "date": product.date,
            "bands": [
                {
                    "name": band.name,
                    "range": ", ".join(band.common),
                    "size": metres_text(band.metres),
                    "offset": band.offset,
                }
                for band in product.bands
            ],
            "mask": [redacted(path) for entry in product.mask for path in entry.reads()],
        }
    with tempfile.TemporaryDirectory(prefix="inpaint-inspect-") as folder:
        return _header(file, open_any(copied(file, Path(folder))))


def _header(file: str, source: Source) -> dict[str, Any]:
    return {
        "file": redacted(file),
        "format": source.kind,
        "grid": source.space.describe(),
        "channels": source.n_channels,
        "names": list(source.channel_names),
        "dtype": str(source.dtype),
        "nodata": list(source.nodata),
        "scale_offset": [list(p) for p in source.scale_offset],
        "native_chunk": list(source.native_chunk),
        **dict(source.attributes),
        "notices": [redacted(text) for text in (*getattr(source, "notices", ()), *_slices(source))],
    }


def _slices(source: Source) -> list[str]:
    """Say which slices of a volume look lost; of one whose voxels are damaged, what is wrong."""
    series = source.n_channels > 1
    try:
        found = looked_through(source)
    except SourceError as error:
        return [str(error)]
    return [f"{source.paths[0]}: {said}" for lost in found for said in lost.sentences(series=series)]
