"""Holes are nodata pixels in narrow gaps: scan-line stripes, dropped lines, lost slices.

Nodata around the swath is no hole. The two are told apart by width: a gap is a run of nodata, along a row, a
column or a slice direction, that observed pixels end on both sides and that is at most `max_gap` long. The
default of 20 px covers the widest Landsat 7 SLC-off stripes (about 14 px at the swath edge).

Also known as: nan, missing, gap, gaps, stripes, no value, null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks._dilate import reach_of
from pipeline.masks._gaps import narrow_gaps
from pipeline.masks.base import LengthText, MaskOptions, Resolve, length_on, states_from


def _unless_none(value: object) -> object:
    return None if value == "none" else value


class Options(MaskOptions):
    """Which nodata pixels become holes."""

    kind: Literal["nodata"] = "nodata"
    max_gap: Annotated[LengthText | None, BeforeValidator(_unless_none)] = Field(
        default="20 px",
        description="Longest run of nodata that is a hole: '20 px', '600 m'; null: all nodata.",
    )
    value: int | float | None = Field(default=None, description="A stored value that also means nothing was observed.")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodataMask:
    """FILL in narrow nodata gaps, per channel where the channels differ."""

    source: Source
    limits: tuple[int, ...] | None
    value: float | None
    max_gap: str | None = None
    notices: tuple[str, ...] = ()
    claims_nodata: bool = True

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return FILL for gap pixels, else KEEP; shape `(1 or c, *box.shape)`."""
        if self.limits is None:
            return states_from(self._missing(box))
        outer = box.grow(self.limits) & Box.whole(self.source.space.shape)
        gaps = narrow_gaps(self._missing(outer), self.limits)
        return states_from(gaps[box.at(of=outer)])

    def _missing(self, box: Box) -> NDArray[np.bool_]:
        never = self.source.never(box)
        return never if self.value is None else never | (self.source.read(box) == self.value)


def open_mask(options: Options, source: Source, resolve: Resolve) -> NodataMask:  # noqa: ARG001
    """Open the mask; reads nothing.

    Raises:
        ConfigError: `max_gap` is a length and the grid has no length unit.
    """
    limits = None
    if options.max_gap is not None:
        limits = reach_of(length_on(source, "max_gap", options.max_gap), source.space.shape)
    return NodataMask(source=source, limits=limits, value=options.value, max_gap=options.max_gap)
