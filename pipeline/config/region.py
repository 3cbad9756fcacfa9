"""Which part of an image is restored: ranges of its pixels, or the bounds of a raster in a reference system."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from pipeline.config.fields import Section
from pipeline.errors import ConfigError
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space

_AXES = "ijk"
_EDGE = 1e-3
"""Share of a pixel by which bounds may reach into it without meaning it: they are rounded where they are written."""


def _range(value: object) -> object:
    numbers = list(value) if isinstance(value, list | tuple) else []
    if len(numbers) != 2 or not all(type(n) is int for n in numbers) or not 0 <= numbers[0] < numbers[1]:
        raise ValueError(
            f"must be two whole numbers, the first that is taken and the one after the last, counted from 0, such as "
            f"[0, 512]; found {value!r}"
        )
    return tuple(numbers)


def _bounds(value: object) -> object:
    numbers = list(value) if isinstance(value, list | tuple) else []
    if len(numbers) != 4 or not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        raise ValueError(f"must be four numbers, [left, bottom, right, top]; found {value!r}")
    left, bottom, right, top = numbers
    if not (left < right and bottom < top):
        raise ValueError(f"must be [left, bottom, right, top] with left < right and bottom < top; found {value}")
    return tuple(map(float, numbers))


_RANGE_SCHEMA = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2}
_BOUNDS_SCHEMA = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
Range = Annotated[tuple[int, int], BeforeValidator(_range), WithJsonSchema(_RANGE_SCHEMA)]
Bounds = Annotated[tuple[float, float, float, float], BeforeValidator(_bounds), WithJsonSchema(_BOUNDS_SCHEMA)]


class RegionConfig(Section):
    """The part of each image that is restored, as if the rest were not there; axes that are not named are whole."""

    i: Range | None = Field(
        default=None,
        description="Columns of a raster, voxels along the first axis of a volume: the first that is taken and the one "
        "after the last, from 0: [0, 512].",
    )
    j: Range | None = Field(default=None, description="Rows of a raster, voxels along the second axis, likewise.")
    k: Range | None = Field(default=None, description="Slices of a volume, likewise.")
    bounds: Bounds | None = Field(
        default=None,
        description="Of a raster, in place of i and j: [left, bottom, right, top] in its reference system, or in crs.",
    )
    crs: str | None = Field(default=None, description="Reference system of bounds, such as 'EPSG:4326' for degrees.")

    @model_validator(mode="after")
    def _one_way(self) -> RegionConfig:
        ranges = [axis for axis in _AXES if getattr(self, axis) is not None]
        if self.bounds is None and not ranges:
            raise ValueError("names no part: give ranges of pixels, {i: [0, 512], j: [0, 512]}, or bounds")
        if self.bounds is not None and ranges:
            raise ValueError(f"give bounds or {' and '.join(ranges)}, not both")
        if self.crs is not None and self.bounds is None:
            raise ValueError("crs is that of bounds, and there are none")
        return self

    def box(self, source: Source) -> Box:
        """Return the part of an image, in pixels.

        Raises:
            ConfigError: it lies outside, or the image has no such axis or no reference system.
        """
        space, path = source.space, source.paths[0]
        try:
            return self._of_ranges(space) if self.bounds is None else self._of_bounds(space, self.bounds)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def _of_ranges(self, space: Space) -> Box:
        if space.ndim < len(_AXES) and self.k is not None:
            raise ConfigError("a raster has no axis k; use i (columns) and j (rows)")
        ranges = []
        for axis, extent in zip(_AXES, reversed(space.shape), strict=False):
            first, stop = getattr(self, axis) or (0, extent)
            if stop > extent:
                raise ConfigError(f"{axis} [{first}, {stop}] reaches out of the image, which has {extent} there")
            ranges.append((first, stop))
        return Box(tuple(a for a, _ in reversed(ranges)), tuple(b for _, b in reversed(ranges)))

    def _of_bounds(self, space: Space, bounds: tuple[float, float, float, float]) -> Box:
        if space.kind == "volume":
            raise ConfigError("bounds are of rasters; name the part of a volume by i, j and k")
        if not space.crs:
            raise ConfigError("has no reference system for bounds; name the part by i and j")
        x, y = np.array([0, 2, 0, 2]), np.array([1, 1, 3, 3])
        asked = np.asarray(bounds if self.crs is None else _transformed(self.crs, space.crs, bounds))
        a, b, c, d, e, f = space.affine
        places = np.linalg.solve([[a, b], [d, e]], [asked[x] - c, asked[y] - f])
        # rows come first in memory
        low, high = np.floor(places.min(axis=1) + _EDGE)[::-1], np.ceil(places.max(axis=1) - _EDGE)[::-1]
        most = 2**62
        box = Box(*(tuple(int(v) for v in np.clip(ends, -most, most)) for ends in (low, high)))
        inside = box & Box.whole(space.shape)
        if inside.empty:
            raise ConfigError(f"bounds {list(bounds)} lie outside the image; {space.describe()}")
        return inside


def _transformed(crs: str, target: str, bounds: tuple[float, float, float, float]) -> tuple[float, ...]:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError, RasterioError
    from rasterio.warp import transform_bounds

    try:
        found: tuple[float, ...] = transform_bounds(CRS.from_user_input(crs), CRS.from_wkt(target), *bounds)
    except (CRSError, ValueError) as error:
        raise ConfigError(f"crs '{crs}' is no reference system that is known ({error})") from None
    except RasterioError as error:
        raise ConfigError(f"bounds {list(bounds)} in {crs} have no place in the image's system ({error})") from None
    if not all(map(math.isfinite, found)):
        raise ConfigError(f"bounds {list(bounds)} in {crs} have no place in the reference system of the image")
    return found


def region_facts(box: Box) -> dict[str, Any]:
    """Return a part of an image as a config names it by its pixels."""
    ranges = zip(_AXES, reversed(box.start), reversed(box.stop), strict=False)
    return {axis: [first, stop] for axis, first, stop in ranges}
