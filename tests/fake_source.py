"""An image in memory, as small as a test wants it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space


def raster_space(shape: tuple[int, int], step: float = 10.0, crs: str = "", units: str = "m") -> Space:
    """Return a north-up grid with its corner at (500000, 5100000)."""
    affine = (step, 0.0, 500000.0, 0.0, -step, 5100000.0)
    return Space(kind="raster", shape=shape, affine=affine, crs=crs, units=units)


def volume_space(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Space:
    """Return an axis-aligned volume; `spacing_mm` in memory order (z, y, x)."""
    z, y, x = spacing_mm
    affine = (x, 0.0, 0.0, 0.0, 0.0, y, 0.0, 0.0, 0.0, 0.0, z, 0.0)
    return Space(kind="volume", shape=shape, affine=affine, crs="RAS+", units="mm")


@dataclass(kw_only=True)
class ArraySource:
    """A `Source` over an array `(c, *spatial)`; `never` is its nodata and NaN."""

    values: NDArray[Any]
    space: Space
    no_value: float | None = None
    kind: str = "array"
    paths: tuple[str, ...] = ("image.tif",)
    scale_offset: tuple[tuple[float, float], ...] = ()
    native_chunk: tuple[int, ...] = (64, 64)
    attributes: dict[str, Any] = field(default_factory=dict)
    fixed_channels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.n_channels = len(self.values)
        self.dtype = self.values.dtype
        self.channel_names = tuple(f"B{n + 1:02d}" for n in range(self.n_channels))
        self.nodata = (self.no_value,) * self.n_channels
        self.scale_offset = self.scale_offset or ((1.0, 0.0),) * self.n_channels

    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return a window."""
        return self.values[(channels, *box.slices)]

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return nodata and non-finite pixels."""
        values = self.read(box)
        nan = ~np.isfinite(values)
        return nan if self.no_value is None else nan | (values == self.no_value)

    def stage(self, directory: Path) -> Source:
        """Return itself."""
        return self

    def close(self) -> None:
        """Do nothing."""
