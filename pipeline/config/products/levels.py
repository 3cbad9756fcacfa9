"""What the numbers of an image mean, so that those of two processing baselines are never mixed.

A reference is read in the convention of the image: the difference of both offsets is added to its values, a whole
number for Sentinel-2. The image itself is read and written as it is stored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.products import sentinel2
from pipeline.config.products.base import ProductBand
from pipeline.errors import SourceError

_DEPTH = 6
"""Folders from a band up to the top of its product."""
_OF_BAND = re.compile(r"_(B\d[\dA]|SCL|TCI)(_\d\dm)?\.(jp2|tiff?)$", re.IGNORECASE)
_SAME = 1e-3
"""Relative difference of scales that are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """physical = (stored + offset) * scale, for every channel of an image."""

    names: tuple[str, ...]
    offsets: tuple[float, ...]
    scale: float
    what: str
    """Which product says so, for people."""

    def describe(self) -> str:
        """Return product and offset for people."""
        return f"{self.what}, offset {', '.join(f'{v:g}' for v in sorted(set(self.offsets)))}"


def levels_of(bands: Sequence[ProductBand], what: str) -> Levels | None:
    """Return what the numbers of some bands mean; None if the product does not say it of all of them."""
    scales = {band.scale for band in bands}
    offsets = [band.offset for band in bands if band.offset is not None]
    scale = next(iter(scales), None)
    if len(scales) != 1 or scale is None or len(offsets) < len(bands):
        return None
    return Levels(names=tuple(band.name for band in bands), offsets=tuple(offsets), scale=scale, what=what)


def levels_of_files(paths: Sequence[str]) -> Levels | None:
    """Return what the numbers of single bands mean that were named by their files within a SAFE folder."""
    if not paths or not all(_OF_BAND.search(path) and "://" not in path for path in paths):
        return None
    for folder in list(Path(paths[0]).parents)[:_DEPTH]:
        with suppress(SourceError):
            product = sentinel2.recognised(str(folder))
            if product is not None:
                by_file = {os.path.realpath(band.path): band for band in product.bands}
                bands = [by_file.get(os.path.realpath(path)) for path in paths]
                return None if None in bands else levels_of([b for b in bands if b is not None], product.what)
    return None


def shift_to(image: Levels, guide: Levels) -> tuple[float, ...] | None:
    """Return what to add to each channel of a guide so that its numbers mean what those of the image mean.

    None if no sum can do that: the scales differ.
    """
    if abs(guide.scale - image.scale) > _SAME * image.scale:
        return None
    known = dict(zip(image.names, image.offsets, strict=True))
    # whole offsets stay whole
    return tuple(
        round(offset - known.get(name, image.offsets[0]), 6)
        for name, offset in zip(guide.names, guide.offsets, strict=True)
    )
