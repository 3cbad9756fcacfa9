"""Holes from Sentinel-2's scene classification (SCL), by class name.

SCL has 20 m pixels; on a 10 m image every code is repeated (nearest neighbour). Class 0 is never touched.

Also known as: sen2cor, scene classification, scene classes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.formats.base import Source
from pipeline.masks._grid import open_codes
from pipeline.masks._layouts import LAYOUTS, CodesMask, SclClassOrCode
from pipeline.masks.base import FileMaskOptions, Resolve

_LAYOUT = LAYOUTS["scl"]


class Options(FileMaskOptions):
    """Which classes are holes."""

    kind: Literal["scl"] = "scl"
    classes: tuple[SclClassOrCode, ...] = Field(
        default=("cloud_shadow", "cloud_medium", "cloud_high", "thin_cirrus"),
        description="Classes to restore, by name or code.",
    )
    band: int = Field(default=1, ge=1, description="Band of the file that holds SCL.")


def open_mask(options: Options, source: Source, resolve: Resolve) -> CodesMask:
    """Open the SCL raster.

    Raises:
        SourceError: unreadable, not of this place, or of a part of it only.
    """
    codes = open_codes(resolve(options.path), source, (options.band,), options.outside)
    wanted = tuple(_LAYOUT.flags[name] for name in options.classes)
    return CodesMask(codes=codes, wanted=wanted, layout="scl", notices=codes.notices)
