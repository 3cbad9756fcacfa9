"""Rasters that are not what is asked for: several images in one file, complex numbers; of images and masks alike."""

from __future__ import annotations

from shlex import quote
from typing import Any

from pipeline.errors import SourceError


def require_one_image(path: str, dataset: Any) -> None:
    """Check that a file is one image, not several.

    Raises:
        SourceError: names what is in it.
    """
    if dataset.count or not dataset.subdatasets:
        return
    inside = list(dataset.subdatasets)
    names = ", ".join(name.rpartition(":")[2] for name in inside)
    raise SourceError(
        f"{path}: holds several images ({names}); take out the one that is meant, e.g. `gdal_translate "
        f"{quote(inside[0])} {quote(inside[0].rpartition(':')[2] + '.tif')}`"
    )


def has_pages(dataset: Any) -> bool:
    """Return True if a file holds more images (pages) than the one that is read."""
    return bool(dataset.subdatasets)


def require_real(path: str, dataset: Any, remedy: str) -> None:
    """Check that no band holds complex numbers: of GDAL's whole ones (`complex_int16`) numpy knows nothing.

    Raises:
        SourceError: one does; names its type.
    """
    odd = [name for name in dataset.dtypes if name.startswith("complex")]
    if odd:
        raise SourceError(f"{path}: complex values ({odd[0]}) are not read; {remedy}")
