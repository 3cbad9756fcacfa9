"""Holes from Sentinel-2's scene classification (SCL), by class name.

Class codes: Sentinel-2 MSI Level-2A Algorithm Theoretical Basis Document, scene classification. SCL has 20 m
pixels; on a 10 m image every code is repeated (nearest neighbour). Class 0 is never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks._grid import RasterCodes, open_codes
from pipeline.masks.base import MaskOptions, Resolve, states_from

SclClass = Literal[
    "no_data",
    "saturated",
    "dark_area",
    "cloud_shadow",
    "vegetation",
    "bare_soil",
    "water",
    "unclassified",
    "cloud_medium",
    "cloud_high",
    "thin_cirrus",
    "snow",
]
CODES: dict[str, int] = {name: code for code, name in enumerate(get_args(SclClass))}


class Options(MaskOptions):
    """Which classes are holes."""

    kind: Literal["scl"] = "scl"
    path: str = Field(description="SCL raster; '{stem}' stands for the image's own name.")
    classes: tuple[SclClass, ...] = Field(
        default=("cloud_shadow", "cloud_medium", "cloud_high", "thin_cirrus"),
        description="Classes to restore.",
    )
    band: int = Field(default=1, ge=1, description="Band of the file that holds SCL.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SclMask:
    """FILL for the wanted classes, NEVER for class 0, KEEP elsewhere and outside the file."""

    codes: RasterCodes
    wanted: tuple[int, ...]
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return the states, shape `(1, *box.shape)`."""
        codes, inside = self.codes.read(box)
        return states_from(np.isin(codes, self.wanted) & inside, (codes == CODES["no_data"]) & inside)


def open_mask(options: Options, source: Source, resolve: Resolve) -> SclMask:
    """Open the SCL raster.

    Raises:
        SourceError: unreadable, or not of this place.
    """
    codes = open_codes(resolve(options.path), source, (options.band,))
    wanted = tuple(CODES[name] for name in options.classes)
    return SclMask(codes=codes, wanted=wanted, notices=codes.notices)
