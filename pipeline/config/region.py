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
from pipeline.geometry.places import TURN, in_degrees, inner_points, known_crs, moved_bounds, moved_points, world_of
from pipeline.geometry.space import Space

_AXES = "ijk"
_EDGE = 1e-3
"""Share of a pixel by which bounds may reach into it without meaning it: they are rounded where they are written."""
_MOST = 2**62
"""No image has as many pixels along an axis."""


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
        across = max(abs(left), abs(right)) <= TURN / 2 and left > right
        hint = (
            f"; across the date line right is counted on: [{left}, {bottom}, {right + TURN}, {top}]" if across else ""
        )
        raise ValueError(f"must be [left, bottom, right, top] with left < right and bottom < top; found {value}{hint}")
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
        from rasterio.errors import CRSError

        try:
            crs = space.crs if self.crs is None else str(known_crs(self.crs).to_wkt())
            edges = bounds if self.crs is None else moved_bounds(crs, space.crs, bounds)
            turns = (0.0, TURN, -TURN) if in_degrees(space.crs) else (0.0,)
            touched = [_touched(space, edges, turn) for turn in turns] if edges else []
            box = next((one for one in touched if not one.empty), Box((0, 0), (0, 0)))
            box = box if self.crs is None else _with_inside(box, space, crs, bounds)
        except CRSError as error:
            raise ConfigError(f"crs '{self.crs}' is no reference system that is known ({error})") from None
        except ValueError as error:
            raise ConfigError(f"bounds {list(bounds)} have no place in the image's system ({error})") from None
        if box.empty:
            raise ConfigError(f"bounds {list(bounds)} lie outside the image; {space.describe()}")
        return box


def _touched(space: Space, bounds: tuple[float, float, float, float], turn: float) -> Box:
    """Return the pixels that bounds touch which are `turn` degrees further east."""
    x, y = np.array([0, 2, 0, 2]), np.array([1, 1, 3, 3])
    asked = np.asarray(bounds)
    a, b, c, d, e, f = space.affine
    places = np.linalg.solve([[a, b], [d, e]], [asked[x] + turn - c, asked[y] - f])
    # rows come first in memory; what is smaller than the margin of rounding lies in one pixel all the same
    low, high = np.floor(places.min(axis=1) + _EDGE)[::-1], np.ceil(places.max(axis=1) - _EDGE)[::-1]
    start, stop = (np.clip(ends, -_MOST, _MOST).astype(np.int64) for ends in (low, np.maximum(high, low + 1)))
    return Box(tuple(start.tolist()), tuple(stop.tolist())) & Box.whole(space.shape)


def _with_inside(box: Box, space: Space, crs: str, bounds: tuple[float, float, float, float]) -> Box:
    """Return a part with what lies inside of bounds but beyond their edges: around a pole, where an edge has no place.

    Looked at are points all over the image: where one of them lies in no pixel of `box`, those around it are taken.
    """
    left, bottom, right, top = bounds
    places = inner_points(space)
    x, y = moved_points(space.crs, crs, *world_of(space, places))
    x = left + (x - left) % TURN if in_degrees(crs) else x
    columns, rows = places[:, (x > left) & (x < right) & (y > bottom) & (y < top)]
    beyond = (rows < box.start[0]) | (rows > box.stop[0]) | (columns < box.start[1]) | (columns > box.stop[1])
    if not beyond.any():
        return box
    found = np.stack([rows, columns])[:, beyond | box.empty]
    step = tuple(-(-n // (len(np.unique(at)) - 1)) for n, at in zip(space.shape, places[::-1], strict=True))
    low, high = np.floor(found.min(axis=1)), np.ceil(found.max(axis=1))
    part = Box(tuple(map(int, low)), tuple(map(int, high))).grow(step) & Box.whole(space.shape)
    if box.empty:
        return part
    return Box(tuple(map(min, box.start, part.start)), tuple(map(max, box.stop, part.stop)))


def region_facts(box: Box) -> dict[str, Any]:
    """Return a part of an image as a config names it by its pixels."""
    ranges = zip(_AXES, reversed(box.start), reversed(box.stop), strict=False)
    return {axis: [first, stop] for axis, first, stop in ranges}
