"""Holes by value: metal in CT, saturated or glaring pixels, dead detectors.

Also known as: value, values, range, saturated, metal, dead.
"""

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
    above: float | None = Field(default=None, description="Values above (greater than) this are holes.")
    below: float | None = Field(default=None, description="Values below (less than) this are holes.")
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


_WINDOW = {2: (1024, 1024), 3: (64, 256, 256)}
"""What is read at once by number of axes."""


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
        return states_from(self._marked(values))

    def examine(self) -> tuple[str, ...]:
        """Say which values the image has if no observed one is beyond a bound; reads up to the first that is."""
        source, channels = self.source, slice(None) if self.channel is None else [self.channel]
        scale, offset = np.array(source.scale_offset, dtype=np.float64)[channels].T
        low, high = np.full(len(scale), np.inf), np.full(len(scale), -np.inf)
        for box in Box.whole(source.space.shape).tiles(_WINDOW[len(source.space.shape)]):
            values = source.read(box).astype(np.float64)
            seen, axes = np.broadcast_to(~source.never(box), values.shape), tuple(range(1, values.ndim))
            low = np.minimum(low, values.min(axes, where=seen, initial=np.inf)[channels])
            high = np.maximum(high, values.max(axes, where=seen, initial=-np.inf)[channels])
            ends = np.stack([low, high])[:, np.isfinite(low)]
            applied = ends * scale[np.isfinite(low)] + offset[np.isfinite(low)]
            if self._marked(applied if self.physical else ends).any():
                return ()
        return (self._nothing(ends, applied),) if ends.size else ()

    def _nothing(self, stored: NDArray[np.float64], applied: NDArray[np.float64]) -> str:
        """Say that nothing is marked, by the ends of the values of each channel, both `(2, c)`."""
        bounds = {"above": self.above, "below": self.below}
        asked = " or ".join(f"{name} {bound:g}" for name, bound in bounds.items() if np.isfinite(bound))
        own, other = (applied, stored) if self.physical else (stored, applied)
        said = f"no observed value is {asked}: they reach from {own.min():g} to {own.max():g}"
        key = f"physical: {str(not self.physical).lower()}"
        more = f" (with `{key}` from {other.min():g} to {other.max():g})" if (own != other).any() else ""
        return f"{self.source.paths[0]}: `kind: threshold` marks nothing, as {said}{more}"

    def _marked(self, values: NDArray[np.generic]) -> NDArray[np.bool_]:
        return np.asarray((values > self.above) | (values < self.below))


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
