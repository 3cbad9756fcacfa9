"""Holes by index: slices lost to motion or a dropped packet; lines of a raster.

Also known as: slice, lines, rows, planes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import ConfigError
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks.base import FILL, MaskOptions, Resolve

Index = Annotated[int, Field(ge=0)]


class Options(MaskOptions):
    """Which slices, counted from 0 as the file stores them."""

    kind: Literal["slices"] = "slices"
    slices: tuple[Index, ...] = Field(min_length=1, description="Slice numbers, from 0.")
    axis: Literal["i", "j", "k"] = Field(
        default="k",
        description="Axis of the file they are counted on; on rasters i is the column, j the row.",
    )
    volumes: tuple[Index, ...] | None = Field(
        default=None, description="Volumes (time points) they are lost in, from 0; default: all."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicesMask:
    """FILL on whole slices.

    Attributes:
        axis: spatial axis in memory order.
        slices: indices along it.
        channels: channels concerned; None for all alike.
        n_channels: channels of the image.
    """

    axis: int
    slices: tuple[int, ...]
    channels: tuple[int, ...] | None
    n_channels: int
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return FILL/KEEP, shape `(1, *box.shape)`, or `(c, *box.shape)` if volumes were named."""
        states = np.zeros((1 if self.channels is None else self.n_channels, *box.shape), dtype=np.uint8)
        lost = np.isin(np.arange(box.start[self.axis], box.stop[self.axis]), self.slices)
        where = (slice(None),) * self.axis + (lost,)
        for channel in (0,) if self.channels is None else self.channels:
            states[channel][where] = FILL
        return states


def open_mask(options: Options, source: Source, resolve: Resolve) -> SlicesMask:  # noqa: ARG001
    """Open the mask; reads nothing.

    Raises:
        ConfigError: the image has no such axis, slice or volume.
    """
    shape = source.space.shape
    axis = len(shape) - 1 - "ijk".index(options.axis)
    if axis < 0:
        raise ConfigError(f"{source.paths[0]}: a raster has no axis 'k'; use 'i' (column) or 'j' (row)")
    _check(options.slices, shape[axis], f"{source.paths[0]}: axis {options.axis}", "slice")
    _check(options.volumes or (), source.n_channels, source.paths[0], "volume")
    return SlicesMask(axis=axis, slices=options.slices, channels=options.volumes, n_channels=source.n_channels)


def _check(indices: tuple[int, ...], count: int, where: str, what: str) -> None:
    beyond = [n for n in indices if n >= count]
    if beyond:
        raise ConfigError(f"{where} has {count} {what}s, numbered 0 to {count - 1}; there is no {beyond[0]}")
