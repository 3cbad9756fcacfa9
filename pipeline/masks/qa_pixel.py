"""Holes from Landsat's quality bits, by flag name.

Layouts: `collection2` - QA_PIXEL of Collection 2 (USGS LSDS-1619, Landsat 8-9 C2 Level 2 product guide);
`pixel_qa` - quality band of Collection 1 surface reflectance (USGS LSDS-1368: bit 1 clear ... bit 5 cloud);
`bqa` - Collection 1 Level-1 BQA (USGS LSDS-1834; shadow, snow and cirrus by high confidence). The fill bit is
never touched, except for narrow gaps if `fill_gaps` asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.errors import SourceError
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks._dilate import reach_of
from pipeline.masks._gaps import narrow_gaps
from pipeline.masks._grid import RasterCodes, open_codes
from pipeline.masks.base import LengthText, MaskOptions, Resolve, pixels_on, states_from

Layout = Literal["collection2", "pixel_qa", "bqa"]
Flag = Literal["dilated", "cirrus", "cloud", "shadow", "snow", "clear", "water"]

_FILL_BIT = 1
BITS: dict[Layout, dict[str, int]] = {
    "collection2": {
        "dilated": 1 << 1,
        "cirrus": 1 << 2,
        "cloud": 1 << 3,
        "shadow": 1 << 4,
        "snow": 1 << 5,
        "clear": 1 << 6,
        "water": 1 << 7,
    },
    "pixel_qa": {
        "clear": 1 << 1,
        "water": 1 << 2,
        "shadow": 1 << 3,
        "snow": 1 << 4,
        "cloud": 1 << 5,
        "cirrus": 0b11 << 8,
    },
    "bqa": {"cloud": 1 << 4, "shadow": 0b11 << 7, "snow": 0b11 << 9, "cirrus": 0b11 << 11},
}
"""A flag is set if all its bits are: two-bit confidences count when high."""


class Options(MaskOptions):
    """Which flags are holes."""

    kind: Literal["qa_pixel"] = "qa_pixel"
    path: str = Field(description="QA raster; '{stem}' stands for the image's own name.")
    flags: tuple[Flag, ...] = Field(
        default=("dilated", "cirrus", "cloud", "shadow"),
        description="Flags to restore; any one makes a hole.",
    )
    layout: Layout = Field(default="collection2", description="Meaning of the bits.")
    fill_gaps: LengthText | None = Field(
        default=None, description="Restore fill in gaps up to this wide, e.g. '20 px' for SLC-off stripes."
    )
    band: int = Field(default=1, ge=1, description="Band of the file that holds QA.")

    @model_validator(mode="after")
    def _flags_exist(self) -> Options:
        unknown = [f for f in self.flags if f not in BITS[self.layout]]
        if unknown and "flags" in self.model_fields_set:
            known = ", ".join(BITS[self.layout])
            raise ValueError(f"layout '{self.layout}' has no flag '{unknown[0]}' (known: {known})")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class QaMask:
    """FILL where any wanted flag is set, NEVER where nothing was acquired, KEEP elsewhere.

    With `gap_limits` (pixels per axis) narrow runs of fill are FILL too, although the image has nodata there.
    """

    codes: RasterCodes
    bits: tuple[int, ...]
    gap_limits: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def claims_nodata(self) -> bool:
        """True if gaps are to be restored in spite of the image's nodata."""
        return bool(self.gap_limits)

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return the states, shape `(1, *box.shape)`."""
        outer = box.grow(self.gap_limits or 0) & Box.whole(self.codes.target.shape)
        flags, inside = self.codes.read(outer)
        flags = flags.astype(np.int64)  # a flag may lie beyond the bits of a narrow band
        unseen = ((flags & _FILL_BIT) != 0) & inside
        hole = np.zeros(flags.shape, dtype=bool)
        for bits in self.bits:
            hole |= ((flags & bits) == bits) & ~unseen
        if self.gap_limits:
            gaps = narrow_gaps(unseen, self.gap_limits)
            hole, unseen = hole | gaps, unseen & ~gaps
        return states_from(hole, unseen)[box.at(of=outer)]


def open_mask(options: Options, source: Source, resolve: Resolve) -> QaMask:
    """Open the QA raster.

    Raises:
        ConfigError: `fill_gaps` is a length and the grid has no length unit.
        SourceError: unreadable, not of this place, or not of an integer type.
    """
    codes = open_codes(resolve(options.path), source, (options.band,))
    if codes.dtype.kind not in "iu":
        raise SourceError(f"{codes.path}: QA bits need an integer band, found {codes.dtype}")
    bits = tuple(BITS[options.layout][f] for f in options.flags if f in BITS[options.layout])
    limits: tuple[int, ...] = ()
    if options.fill_gaps is not None:
        limits = reach_of(pixels_on(source.space, options.fill_gaps), source.space.shape)
    return QaMask(codes=codes, bits=bits, gap_limits=limits, notices=codes.notices)
