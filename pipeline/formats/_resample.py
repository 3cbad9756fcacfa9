"""Read an image on the grid of another one: linear interpolation through the two affines, window by window.

Only for guides (references, auxiliaries) whose config entry says `resample: true`; an image to restore is never
resampled. Both grids must share their reference system.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from pipeline.errors import ConfigError
from pipeline.formats._image import Image
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import ROUNDED, SAME, Space, index_to_world, same_crs


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled(Image):
    """An image on another grid, see `base.Source`; float32 values, non-observed pixels are `never`."""

    inner: Source
    matrix: NDArray[np.float64]
    """Index on our grid -> index of `inner`, homogeneous `(ndim + 1, ndim + 1)`, memory order, pixel centres."""

    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[np.float32]:
        """Return interpolated values, `(c, *box.shape)`; NaN where a neighbour is not observed or outside the file."""
        needed = self._needed(box)
        shape = (len(range(self.n_channels)[channels]), *box.shape)
        if needed.empty:
            return np.full(shape, np.nan, dtype=np.float32)
        values = self.inner.read(needed, channels).astype(np.float32)
        never = np.broadcast_to(self.inner.never(needed), (self.n_channels, *needed.shape))[channels]
        where = self._positions(box, needed)
        result = np.empty(shape, dtype=np.float32)
        for c in range(shape[0]):
            result[c] = _interpolated(np.where(never[c], 0, values[c]), where)
            seen = _interpolated((~never[c]).astype(np.float32), where)
            result[c][seen < 1 - 1e-3] = np.nan
        return result

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return True where `read` gives NaN, `(c, *box.shape)`."""
        return np.isnan(self.read(box))

    def stage(self, directory: Path) -> Self:
        """Return the same view of the staged file."""
        return replace(self, inner=self.inner.stage(directory))

    def close(self) -> None:
        """Release file handles."""
        self.inner.close()

    def _positions(self, box: Box, needed: Box) -> NDArray[np.float64]:
        """Return where in `needed` each pixel of `box` lies, `(ndim, *box.shape)`.

        Computed from indices of the whole image, and subtracting a whole number is exact: windows agree bit for bit.
        """
        index = np.meshgrid(
            *(np.arange(a, b, dtype=np.float64) for a, b in zip(box.start, box.stop, strict=True)), indexing="ij"
        )
        rows = zip(self.matrix[:-1], self.inner.space.shape, needed.start, strict=True)
        return np.stack(
            [
                _inside(sum(m * i for m, i in zip(row, index, strict=False)) + row[-1], extent) - start
                for row, extent, start in rows
            ]
        )

    def _needed(self, box: Box) -> Box:
        """Box of the file that the window depends on."""
        corners = np.stack(np.meshgrid(*zip(box.start, box.stop, strict=True), indexing="ij"), axis=-1)
        mapped = corners.reshape(-1, box.ndim) @ self.matrix[:-1, :-1].T + self.matrix[:-1, -1]
        low, high = np.floor(mapped.min(axis=0)) - 1, np.ceil(mapped.max(axis=0)) + 2
        whole = Box.whole(self.inner.space.shape)
        return Box(tuple(int(v) for v in low), tuple(int(v) for v in high)) & whole


def _inside(position: NDArray[np.float64], extent: int) -> NDArray[np.float64]:
    """Return positions along an axis with those that rounding put just beyond the outermost pixels on these."""
    nearest = np.clip(position, 0, extent - 1)
    return np.where(np.abs(position - nearest) <= SAME, nearest, position)


def _interpolated(values: NDArray[np.float32], where: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(map_coordinates(values, where, order=1, mode="constant", cval=0.0), dtype=np.float32)


def resampled(source: Source, space: Space) -> Source:
    """Return `source` seen on the grid `space`.

    Raises:
        ConfigError: the two are in different reference systems.
    """
    if not source.space.mismatch(space, tolerance=ROUNDED):
        return source
    if source.space.kind != space.kind or not same_crs(source.space.crs, space.crs):
        raise ConfigError(
            f"{source.paths[0]} cannot be resampled onto the image's grid: reference systems differ\n"
            f"  image: {space.describe()}\n  guide: {source.space.describe()}\n"
            + (reprojection(source.paths[0], "IMAGE") if space.kind == source.space.kind == "raster" else "")
        )
    matrix = np.linalg.inv(index_to_world(source.space)) @ index_to_world(space)
    return Resampled(
        kind=source.kind,
        paths=source.paths,
        space=space,
        n_channels=source.n_channels,
        dtype=np.dtype("float32"),
        channel_names=source.channel_names,
        nodata=(float("nan"),) * source.n_channels,
        scale_offset=source.scale_offset,
        # no chunk of this grid is cheaper than another
        native_chunk=space.shape,
        attributes=source.attributes,
        fixed_channels=source.fixed_channels,
        inner=source,
        matrix=matrix,
    )


def reprojection(path: str, like: str) -> str:
    """Return the command that brings a raster onto the grid of another, in words; `rio` is there where rasterio is."""
    name = Path(path)
    there = name.with_name(f"{name.stem}_on_grid.tif").name
    words = ["rio", "warp", path, there, "--like", like, "--resampling", "bilinear"]
    return f"Reproject it, then name the new file: {' '.join(map(shlex.quote, words))}"
