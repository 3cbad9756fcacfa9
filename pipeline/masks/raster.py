"""Holes drawn in a file: any raster or NIfTI of the same place; non-zero means hole.

What is drawn is a hole even where the image has nodata (`input.fill_nodata: drawn`): most people store a cloud that
was cut out as nodata, with the mask beside it.

A GeoTIFF mask on another grid is taken to the image grid by nearest neighbour, with a notice. A NIfTI mask
must have the image's grid (affine within 1e-3 mm): a shifted mask would restore the wrong tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks._grid import RasterCodes, open_codes, selected
from pipeline.masks._volume import open_volume_mask
from pipeline.masks.base import Mask, MaskOptions, Resolve, states_from


class Options(MaskOptions):
    """Which values of which file are holes."""

    drawn: ClassVar[bool] = True

    kind: Literal["raster"] = "raster"
    path: str = Field(description="Mask file: raster or NIfTI; '{stem}' stands for the image's own name.")
    values: tuple[float, ...] | None = Field(
        default=None, description="Values that mean hole; default: everything but 0."
    )
    band: PositiveInt | Literal["all"] = Field(
        default=1, description="Band of the mask file, from 1; 'all': one mask band a band of the image."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterMask:
    """FILL where the file has one of `values` (or, without values, anything but 0, NaN and its nodata)."""

    codes: RasterCodes
    values: tuple[float, ...] | None
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return FILL/KEEP; KEEP outside the file; shape `(1 or c, *box.shape)`."""
        codes, inside = self.codes.read(box)
        hole = selected(codes, self.values) & inside
        if self.values is None and self.codes.nodata is not None:
            hole &= codes != self.codes.nodata
        return states_from(hole)

    def unsaid(self, box: Box) -> NDArray[np.bool_]:
        """Return True outside the file and where it has its nodata; shape `(1 or c, *box.shape)`.

        A nodata of 0 counts as said: many tools declare it in files that mark with anything else.
        """
        codes, inside = self.codes.read(box)
        return ~inside | (codes == self.codes.nodata) if self.codes.nodata else ~inside


def open_mask(options: Options, source: Source, resolve: Resolve) -> Mask:
    """Open the file and compare its grid with the image's.

    Raises:
        SourceError: unreadable, too few bands, another place, or (NIfTI) another grid; names both grids.
    """
    path = resolve(options.path)
    if source.space.kind == "volume":
        return open_volume_mask(path, source, options.values)
    bands = None if options.band == "all" else (options.band,)
    codes = open_codes(path, source, bands)
    return RasterMask(codes=codes, values=options.values, notices=codes.notices)
