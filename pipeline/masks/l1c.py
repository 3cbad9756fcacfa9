"""Clouds of Sentinel-2's level 1C, which has no scene classes: its own cloud mask, at 60 m.

Since processing baseline 04.00 that is MSK_CLASSI_B00.jp2, with a band of 0 and 1 for each class: 1 opaque clouds,
2 cirrus, 3 snow and ice. Before, it was MSK_CLOUDS_B00.gml, with polygons of opaque clouds and cirrus. Neither tells
shadows.
Source: Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), quality masks of level 1C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import ConfigError
from pipeline.formats._files import suffix_matches
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks._drawn import open_drawn
from pipeline.masks._grid import RasterCodes, open_codes
from pipeline.masks.base import FileMaskOptions, Mask, Resolve, states_from

CloudClass = Literal["opaque", "cirrus", "snow"]
"""In the order of the bands of MSK_CLASSI."""


class Options(FileMaskOptions):
    """Which classes are holes."""

    kind: Literal["l1c"] = "l1c"
    classes: tuple[CloudClass, ...] = Field(
        default=("opaque", "cirrus"), min_length=1, description="Classes to restore; snow only since baseline 04.00."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassesMask:
    """FILL where any band says so, KEEP elsewhere and outside the file."""

    codes: RasterCodes
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return FILL/KEEP, shape `(1, *box.shape)`."""
        codes, inside = self.codes.read(box)
        return states_from((codes != 0).any(axis=0, keepdims=True) & inside)

    def unsaid(self, box: Box) -> NDArray[np.bool_]:
        """Return True outside the file, shape `(1, *box.shape)`."""
        return ~self.codes.read(box)[1]


def open_mask(options: Options, source: Source, resolve: Resolve) -> Mask:
    """Open the raster or the polygons.

    Raises:
        ConfigError: snow is asked of polygons.
        SourceError: unreadable, not of this place, or of a part of it only.
    """
    path = resolve(options.path)
    if not suffix_matches(path, (".gml",)):
        bands = tuple(get_args(CloudClass).index(name) + 1 for name in options.classes)
        codes = open_codes(path, source, bands, options.outside)
        return ClassesMask(codes=codes, notices=codes.notices)
    if "snow" in options.classes:
        raise ConfigError(f"{path}: has polygons of opaque clouds and cirrus, none of snow; leave it out of `classes`")
    return open_drawn(path, source, tuple(name.upper() for name in options.classes))
