"""Holes by value: metal in CT, saturated or glaring pixels, dead detectors.

Also known as: value, values, range, saturated, metal, dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
_NOTHING = (np.inf, -np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdMask:
    """FILL where the value is above or below a bound; NaN is never a hole."""

    source: Source
    above: float
    below: float
    physical: bool
    channel: int | None
    notices: tuple[str, ...] = ()
    by_value: bool = True

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
        """Say which values the image has if none, or every one that was observed, is beyond a bound.

        Reads up to the first window that shows neither.
        """
        source, shape = self.source, self.source.space.shape
        channels = slice(None) if self.channel is None else slice(self.channel, self.channel + 1)
        pairs = np.array(source.scale_offset, dtype=np.float64)[channels]
        scale, offset = (column(pair, len(shape)) for pair in pairs.T)
        reach, beyond = {False: _NOTHING, True: _NOTHING}, set[bool]()
        for box in Box.whole(shape).tiles(_WINDOW[len(shape)]):
            values = source.read(box)[channels]
            seen = ~np.broadcast_to(source.never(box), (source.n_channels, *box.shape))[channels]
            for physical, found in ((False, values[seen]), (True, (values * scale + offset)[seen])):
                if found.size:
                    low, high = reach[physical]
                    reach[physical] = (min(low, float(found.min())), max(high, float(found.max())))
                if physical == self.physical:
                    beyond |= set(np.unique(self._marked(found)).tolist())
            if len(beyond) > 1:
                return ()
        return (self._said(reach, everything=True in beyond, scaled=bool((pairs != (1, 0)).any())),) if beyond else ()

    def _said(self, reach: Mapping[bool, tuple[float, float]], *, everything: bool, scaled: bool) -> str:
        """Say that all or nothing is marked, by the least and the largest value as stored and with scale applied."""
        bounds = {"above": self.above, "below": self.below}
        asked = " or ".join(f"{name} {bound:g}" for name, bound in bounds.items() if np.isfinite(bound))
        what = f"every observed value is {asked}" if everything else f"no observed value is {asked}"
        own, other = (f"from {low:g} to {high:g}" for low, high in (reach[self.physical], reach[not self.physical]))
        more = f" (with `physical: {str(not self.physical).lower()}` {other})" if scaled else ""
        no_scale = ", and the file has neither scale nor offset" if self.physical and not scaled else ""
        return f"{self.source.paths[0]}: `kind: threshold`: {what}: they reach {own}{more}{no_scale}"

    def _marked(self, values: NDArray[Any]) -> NDArray[np.bool_]:
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
