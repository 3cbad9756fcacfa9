"""Points and bounds in other reference systems: what has no place there is told, and ends nothing else.

GDAL takes the bounds of an area from its edges. That is not enough where an edge leaves the world (the corners of a
globe seen from space) or where a projection folds, so points between the edges are asked, too.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.space import Space

TURN = 360.0
"""Degrees after which longitudes repeat."""
_TRIES = 32
"""GDAL reports the first twenty points without a place, and rasterio ends on each report; after them it goes on."""
_DEGREES, _POLE = "EPSG:4326", 90.0
_POINTS = 65
"""Points of a grid along an axis, both edges among them, that are asked at most."""
_ON_EDGES = 101
"""Points between two corners of bounds that are taken to another reference system."""
_SAYS = re.compile(
    r"\s*(\+|\{|\w+\s*[\[(=]|[A-Za-z]+:[\w.+:-]+\s*$|(WGS|NAD|CRS)\d\d\s*$|https?://(www\.)?opengis\.net/def/crs)"
)
"""How a reference system is written; GDAL opens what is not, or what it cannot read then, as a file or an address."""

_WHOLE = 350.0
"""Degrees from which on an image shows the earth all around; projections of it are cut half a turn off their origin."""
_ORIGIN = re.compile(
    r'PARAMETER\["(?:central_meridian|longitude[ _]of[ _](?:center|(?:natural |false )?origin))"\s*,\s*([-+\d.eE]+)',
    re.I,
)

Bounds = tuple[float, float, float, float]


def moved_points(source: str, target: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points in another reference system, shape `(2, n)`; NaN where a point has no place there.

    Args:
        source: WKT of the reference system of `x` and `y`.
        target: WKT of the other one.
        x: coordinates to the east, `(n,)`.
        y: to the north, likewise.

    Raises:
        ValueError: no operation leads from one system to the other.
    """
    found = _moved_at_once(source, target, x, y, _TRIES)
    if found is not None:
        return found
    # PROJ reports latitudes beyond the poles each time: points off the earth are told by their degrees
    degrees = _moved_at_once(source, _DEGREES, x, y, _TRIES)
    on_earth = np.ones(len(x), dtype=bool) if degrees is None else np.abs(degrees[1]) <= _POLE
    found = np.full((2, len(x)), np.nan)
    found[:, on_earth] = _moved_by_halves(source, target, x[on_earth], y[on_earth])
    return found


def _moved_by_halves(source: str, target: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    found = _moved_at_once(source, target, x, y, 1) if len(x) else np.empty((2, 0))
    if found is not None:
        return found
    if len(x) == 1:
        return np.full((2, 1), np.nan)
    halves = (slice(len(x) // 2), slice(len(x) // 2, None))
    return np.concatenate([_moved_by_halves(source, target, x[part], y[part]) for part in halves], axis=1)


def _moved_at_once(
    source: str, target: str, x: NDArray[np.float64], y: NDArray[np.float64], tries: int
) -> NDArray[np.float64] | None:
    """Return all points as `moved_points` does; None if rasterio ends each of `tries` for one that has no place."""
    from rasterio import Env
    from rasterio._err import CPLE_BaseError, CPLE_NotSupportedError
    from rasterio.warp import transform

    with Env():
        for _ in range(tries):
            try:
                found = np.array(transform(source, target, x, y)[:2], dtype=np.float64)
            except CPLE_NotSupportedError:
                raise ValueError("no operation leads from one reference system to the other") from None
            except CPLE_BaseError:
                continue
            return np.where(np.isfinite(found).all(axis=0), found, np.nan)
    return None


def moved_bounds(source: str, target: str, bounds: Bounds) -> Bounds | None:
    """Return the bounds of an area by its edges alone; of one across the date line the east lies beyond 180 degrees.

    Args:
        source: WKT of the reference system of `bounds`.
        target: WKT of the other one.
        bounds: west, south, east, north.

    Returns:
        None where an edge has no place there.

    Raises:
        ValueError: no operation leads from one system to the other.
    """
    from rasterio import Env
    from rasterio._err import CPLE_BaseError, CPLE_NotSupportedError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    try:
        with Env():
            west, south, east, north = transform_bounds(source, target, *bounds, densify_pts=_ON_EDGES)
    except CPLE_NotSupportedError:
        raise ValueError("no operation leads from one reference system to the other") from None
    except (RasterioError, CPLE_BaseError):
        return None
    if not all(map(np.isfinite, (west, south, east, north))):
        return None
    return west, south, east + TURN if east < west and in_degrees(target) else east, north


def known_crs(text: str) -> Any:
    """Return the reference system of a text as rasterio has it: a code, WKT or PROJ's words; no file, no address.

    Raises:
        CRSError: it is none.
    """
    from rasterio import Env
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    if not _SAYS.match(text) or os.path.lexists(text.strip()):
        raise CRSError("give a code such as EPSG:4326, WKT or the words of PROJ")
    with Env():
        try:
            return CRS.from_user_input(text)
        except ValueError as error:
            raise CRSError(str(error)) from None


def in_degrees(crs: str) -> bool:
    """Return True if coordinates are longitudes and latitudes, which repeat."""
    from rasterio.crs import CRS

    return bool(crs) and bool(CRS.from_wkt(crs).is_geographic)


def inner_points(space: Space) -> NDArray[np.float64]:
    """Return pixel coordinates, x and y, of points all over a raster, its edges among them, `(2, n)`."""
    y, x = (np.linspace(0, n, min(n + 1, _POINTS)) for n in space.shape)
    return np.stack(np.meshgrid(x, y), axis=0).reshape(2, -1)


def world_of(space: Space, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where pixel coordinates of a raster, x and y, lie in its reference system, `(2, n)`."""
    a, b, c, d, e, f = space.affine
    x, y = pixels
    return np.stack([a * x + b * y + c, d * x + e * y + f])


@lru_cache(maxsize=16)
def bounds_in(space: Space, crs: str) -> Bounds:
    """Return the bounds of a raster in another reference system: west, south, east, north.

    Of one across the date line the east lies beyond 180 degrees.

    Raises:
        ValueError: it has no place there.
    """
    own = world_of(space, np.array([[0.0, space.shape[1], 0, space.shape[1]], [0, 0, space.shape[0], space.shape[0]]]))
    by_edges = moved_bounds(space.crs, crs, (*own.min(axis=1).tolist(), *own.max(axis=1).tolist()))
    x, y = moved_points(space.crs, crs, *world_of(space, inner_points(space)))
    x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    if by_edges is None:
        if not x.size:
            raise ValueError("the image has no place in that reference system")
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())
    west, south, east, north = by_edges
    if in_degrees(crs):
        origin = _ORIGIN.search(space.crs)
        middle = float(origin[1]) if origin and east - west > _WHOLE else (west + east) / 2
        if east - west > _WHOLE:
            west, east = middle - TURN / 2, middle + TURN / 2
        x = middle + (x - middle + TURN / 2) % TURN - TURN / 2
    xs, ys = np.append(x, [west, east]), np.append(y, [south, north])
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
