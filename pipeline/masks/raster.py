"""Holes drawn in a file: any raster or NIfTI of the same place; non-zero means hole.

What is drawn is a hole even where the image has nodata (`input.fill_nodata: drawn`): most people store a cloud that
was cut out as nodata, with the mask beside it.

A GeoTIFF mask on another grid is taken to the image grid by nearest neighbour, with a notice. A NIfTI mask
must have the image's grid, along whatever axes: a shifted mask would restore the wrong tissue.

Also known as: mask, file, drawn, lesion, lesions, labels, label, volume, nifti, nii, geotiff, tif, tiff, array, image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from pipeline.errors import ConfigError
from pipeline.formats._files import suffix_matches
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks._grid import RasterCodes, open_codes
from pipeline.masks._layouts import layout_of_name
from pipeline.masks._shapes import SUFFIXES as VECTOR_SUFFIXES
from pipeline.masks._values import Marks, Tally, value_notices
from pipeline.masks._volume import open_volume_mask
from pipeline.masks.base import FileMaskOptions, Mask, Resolve, states_from

Bit = Annotated[int, Field(ge=0, le=62)]


class Options(FileMaskOptions):
    """Which values of which file are holes."""

    drawn: ClassVar[bool] = True

    kind: Literal["raster"] = "raster"
    values: tuple[float, ...] | None = Field(
        default=None, description="Values (classes, labels) that mean hole; default: everything but 0."
    )
    threshold: float | None = Field(
        default=None, allow_inf_nan=False, description="Values above this mean hole, e.g. 0.5 of a probability."
    )
    bits: tuple[Bit, ...] | None = Field(
        default=None, min_length=1, description="Bits that mean hole, from 0, any one of them: [1, 3]."
    )
    band: PositiveInt | Literal["all"] = Field(
        default=1, description="Band of the mask file, from 1; 'all': one mask band a band of the image."
    )

    @model_validator(mode="after")
    def _one_choice(self) -> Options:
        if sum(given is not None for given in (self.values, self.threshold, self.bits)) > 1:
            raise ValueError("give one of 'values', 'threshold' and 'bits'")
        return self

    @property
    def marks(self) -> Marks:
        """The values that mean hole."""
        return Marks(values=self.values, threshold=self.threshold, bits=self.bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterMask:
    """FILL where the file has one of the values marked (without a choice anything but 0, NaN and its nodata)."""

    codes: RasterCodes
    marks: Marks
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return FILL/KEEP; KEEP outside the file; shape `(1 or c, *box.shape)`."""
        codes, inside = self.codes.read(box)
        return states_from(self._holes(codes, inside))

    def unsaid(self, box: Box) -> NDArray[np.bool_]:
        """Return True outside the file, where it has its nodata, and where its own mask or alpha band hides it.

        Shape `(1 or c, *box.shape)`. A nodata of 0 counts as said: many tools declare it in files that mark with
        anything else.
        """
        codes, inside = self.codes.read(box)
        return ~inside | (codes == self.codes.nodata) if self.codes.nodata else ~inside

    def examine(self) -> tuple[str, ...]:
        """Count the values under the image and say if they are not what a mask holds, and how much is its nodata."""
        tally, silent, blank, looked = Tally(), 0, 0, 0
        for box in self.codes.looked_at():
            codes, inside = self.codes.read(box)
            inside = np.broadcast_to(inside, codes.shape)
            unknown = inside & (codes == self.codes.nodata) if self.codes.nodata else np.zeros_like(inside)
            tally.add(codes[inside & ~unknown], self._holes(codes, inside))
            silent, looked = silent + int(unknown.sum()), looked + unknown.size
            blank += int((~inside).sum()) if self.codes.blank else 0
        layout = layout_of_name(self.codes.path)
        advice = f"By its name it is `kind: qa_pixel` with `layout: {layout}`: write that" if layout else ""
        if layout == "scl":
            advice = "By its name it holds scene classes: write `kind: scl`"
        if self.codes.lossy and not layout:
            middle = f"`threshold: {tally.high // 2:g}`"
            advice = f"Choose with {middle}, as lossy compression smears what was drawn (better: save it without loss),"
        notices = value_notices(self.codes.path, tally, self.marks, advice)
        nodata = None if self.codes.nodata is None else f"{self.codes.nodata:g}"
        told = {
            f"has its own nodata ({nodata})": silent,
            "says nothing (its own mask or alpha band, or its end)": blank,
        }
        said = (f"{self.codes.path}: {what} on {100 * n / looked:.3g} % of the image" for what, n in told.items() if n)
        return (*notices, *(f"{one}, which is kept" for one in said))

    def _holes(self, codes: NDArray[np.generic], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        hole = self.marks.of(codes) & inside
        said = self.marks.values is not None or self.codes.nodata is None
        return hole if said else hole & (codes != self.codes.nodata)


def open_mask(options: Options, source: Source, resolve: Resolve) -> Mask:
    """Open the file and compare its grid with the image's.

    Raises:
        ConfigError: the file holds shapes.
        SourceError: unreadable, too few bands, another place or a part of it only, bits of fractions, or (NIfTI)
            another grid; names both grids.
    """
    path = resolve(options.path)
    if suffix_matches(path, VECTOR_SUFFIXES):
        raise ConfigError(f"{path}: holds shapes; write `kind: vector` for it")
    if source.space.kind == "volume":
        return open_volume_mask(path, source, options.marks)
    bands = None if options.band == "all" else (options.band,)
    codes = open_codes(path, source, bands, options.outside)
    options.marks.require_fits(path, codes.dtype)
    unsaid = codes.count > 1 and "band" not in options.model_fields_set
    said = f"{path}: has {codes.count} bands, the first is the mask; `band: 2` takes another, `band: all` one a band"
    return RasterMask(codes=codes, marks=options.marks, notices=(*codes.notices, *([said] if unsaid else [])))
