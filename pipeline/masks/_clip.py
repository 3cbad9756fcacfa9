"""Cut shapes to a rectangle: what lies far from an image is not drawn."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pipeline.masks._shapes import bounds

_Edges = tuple[float, float, float, float]
_SIDES = ((0, 0, 1), (0, 2, -1), (1, 1, 1), (1, 3, -1))
"""Of each side of a rectangle its axis, its place in `_Edges`, and 1 where what is larger lies inside."""


def clipped(geometry: dict[str, Any], edges: _Edges) -> dict[str, Any] | None:
    """Return what of a geometry of GeoJSON lies in a rectangle; None if nothing does.

    Parts of polygons that the rectangle separates stay joined along its sides. Of lines every edge is kept that may
    touch it. A geometry that lies in it is returned as it is.

    Args:
        geometry: of any type but a collection.
        edges: of the rectangle: west, south, east, north.
    """
    x0, y0, x1, y1 = bounds(geometry)
    if x0 >= edges[0] and y0 >= edges[1] and x1 <= edges[2] and y1 <= edges[3]:
        return geometry
    kind, given = geometry["type"], geometry["coordinates"]
    single = not kind.startswith("Multi")
    parts = [given] if single else given
    if kind.endswith("Point"):
        kept: list[Any] = [p for p in parts if edges[0] <= p[0] <= edges[2] and edges[1] <= p[1] <= edges[3]]
        kind = "MultiPoint"
    elif kind.endswith("LineString"):
        kept = [list(edge) for line in parts for edge in pairwise(line) if _near(edge, edges)]
        kind = "MultiLineString"
    else:
        cut = [[ring for ring in (_ring(ring, edges) for ring in polygon) if ring] for polygon in parts]
        kept = [rings for rings in cut if rings]
        kind = "MultiPolygon"
    return {"type": kind, "coordinates": kept} if kept else None


def _near(edge: tuple[Any, Any], edges: _Edges) -> bool:
    """Return False for an edge all of which lies beyond one side."""
    return not any(all(sign * (point[axis] - edges[side]) < 0 for point in edge) for axis, side, sign in _SIDES)


def _ring(ring: list[Any], edges: _Edges) -> list[Any]:
    """Return a closed ring cut at one side after the other (Sutherland and Hodgman); empty if nothing is left."""
    points = [list(map(float, point[:2])) for point in ring]
    for axis, side, sign in _SIDES:
        found: list[Any] = []
        for a, b in pairwise([*points, *points[:1]]):
            # what only touches a side is none: beyond the date line it would come back on the other side of the earth
            a_in, b_in = (sign * (point[axis] - edges[side]) > 0 for point in (a, b))
            if a_in:
                found.append(a)
            if a_in != b_in:
                share = (edges[side] - a[axis]) / (b[axis] - a[axis])
                at = a[1 - axis] + share * (b[1 - axis] - a[1 - axis])
                found.append([edges[side], at] if axis == 0 else [at, edges[side]])
        points = found
    return [*points, points[0]] if len(points) > 2 else []
