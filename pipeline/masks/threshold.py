"""Holes by value: metal in CT, saturated or glaring pixels, dead detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks.base import MaskOptions, Resolve, channel_index, states_from
from pipeline.numerics.column import column


class Options(MaskOptions):
    """Above or below which value a pixel is a hole."""

    kind: Literal["threshold"] = "threshold"
    above: float | None = Field(default=None, description="Values above this are holes.")
    below: float | None = Field(default=None, description="Values below this are holes.")
    physical: bool = Field(
        default=False,
        description="Compare with scale and offset applied (e.g. Hounsfield units), not as stored.",
    )
    band: int | str | None = Field(
        default=None,
        description="One band (number from 1, or name) decides for all; default: each for itself.",
    )

    @model_validator(mode="after")
    def _has_a_bound(self) -> Options:
        if self.above is None and self.below is None:
            raise ValueError("a threshold needs 'above' or 'below'")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdMask:
    """FILL where the value is above or below a bound; NaN is never a hole."""

    source: Source
    above: float
    below: float
    physical: bool
    channel: int | None
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return FILL/KEEP, shape `(1, *box.shape)` if one band decides, else `(c, *box.shape)`."""
        channels = slice(None) if self.channel is None else slice(self.channel, self.channel + 1)
        values = self.source.read(box, channels)
        if self.physical:
            pairs = np.array(self.source.scale_offset[channels], dtype=np.float64)
            scale, offset = (column(pair, box.ndim) for pair in pairs.T)
            values = values * scale + offset
        return states_from((values > self.above) | (values < self.below))


def open_mask(options: Options, source: Source, resolve: Resolve) -> ThresholdMask:  # noqa: ARG001
    """Open the mask; reads nothing.

    Raises:
        ConfigError: the image has no such band.
    """
    return ThresholdMask(
        source=source,
        above=np.inf if options.above is None else options.above,
        below=-np.inf if options.below is None else options.below,
        physical=options.physical,
        channel=None if options.band is None else channel_index(options.band, source),
    )
