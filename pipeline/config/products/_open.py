"""Tell what a user's `source` is: a product of a known kind, or a file like any other."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.products import landsat, sentinel2, stac
from pipeline.config.products.base import Product
from pipeline.system.paths import is_address, kind_of

_SUFFIXES = (".json", ".geojson", ".zip", ".xml", ".txt", ".safe")


def may_be_product(path: str) -> bool:
    """Return True unless name and kind of file say that it is none; opens nothing."""
    if is_address(path):
        return stac.is_item_address(path)
    what = kind_of(path)
    return (what == "folder" and not path.endswith(".zarr")) or (bool(what) and Path(path).suffix.lower() in _SUFFIXES)


def open_product(path: str) -> Product | None:
    """Return the product that a folder, a file or an address stands for; None for anything else.

    Raises:
        SourceError: it is a product, but damaged, incomplete or several.
    """
    if not may_be_product(path):
        return None
    found = (module.recognised(path) for module in (stac, sentinel2, landsat))
    return next((product for product in found if product is not None), None)
