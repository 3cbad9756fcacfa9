"""Read the shapes of a vector file: GeoJSON and masks of Sentinel-2 here, GeoPackage and Shapefile through pyogrio."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.formats._archive import ZIP, opened_in_archive
from pipeline.formats._files import first_bytes, require_file, untrusted
from pipeline.formats._xml import parsed_xml
from pipeline.system.paths import is_address

SUFFIXES = (".geojson", ".json", ".gpkg", ".shp")
_WGS84 = "OGC:CRS84"
_GEOPACKAGE, _SHAPEFILE = b"SQLite format 3\0", b"\0\0\x27\x0a"
_EOP, _GML = "{http://www.opengis.net/eop/2.0}", "{http://www.opengis.net/gml/3.2}"
_LONGEST_EDGE = 10_000
"""Pieces that a straight edge is cut into at most."""

Points = NDArray[np.float64]
"""Coordinates `(n, 2)`: x, y."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What a vector file holds: geometries as GeoJSON objects, and their reference system as text; "" if unknown."""

    geometries: tuple[dict[str, Any], ...]
    crs: str


def read_shapes(path: str, layers: tuple[str, ...] = ()) -> Shapes:
    """Read all geometries of a local vector file; features without one are left out.

    Args:
        path: the file.
        layers: the layer of a file of several, or the types of a mask of Sentinel-2 to read; all of these without any.

    Raises:
        ConfigError: what the format needs is not installed, or the file has several layers and none is named.
        SourceError: missing, no vector file, damaged, or elsewhere.
    """
    if path.startswith(ZIP):
        with opened_in_archive(path) as (file, _):
            return _sentinel2(path, file.read(), layers)
    if is_address(path):
        raise SourceError(f"{path}: a vector mask is read from a local file; copy it here first")
    require_file(path)
    start = first_bytes(path, 16)
    if start.startswith((_GEOPACKAGE, _SHAPEFILE)):
        return _through_gdal(path, layers[0] if layers else None)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"{"):
        return _geojson(path)
    if text.startswith(b"<"):
        return _sentinel2(path, Path(path).read_bytes(), layers)
    raise SourceError(
        f"{path}: is no GeoJSON, GeoPackage or Shapefile (it starts with {start!r}); convert it with ogr2ogr"
    )


def _sentinel2(path: str, text: bytes, types: tuple[str, ...] = ()) -> Shapes:
    """Read a mask of Sentinel-2 as products before baseline 04.00 have it: GML 3.2 with features of `eop:Mask`.

    Source: Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), quality masks of level 1C.

    Args:
        path: for messages.
        text: content of the file.
        types: of features to read, e.g. OPAQUE; all without any.

    Raises:
        SourceError: it is no such mask, or damaged.
    """
    found = parsed_xml(path, text)
    if "Mask" not in found:
        raise SourceError(f"{path}: is XML, but no mask of Sentinel-2; convert it with ogr2ogr to GeoJSON")
    polygons = []
    with untrusted(path, "no readable mask of Sentinel-2", "fetch it again"):
        for feature in found.get("MaskFeature", ()):
            kind = next((e.text or "" for e in feature.iter(f"{_EOP}maskType")), "")
            if not types or kind.strip() in types:
                polygons += [_polygon(one) for one in feature.iter(f"{_GML}Polygon")]
    crs = next((e.get("srsName", "") for e in found.get("Envelope", ())), "")
    return Shapes(geometries=tuple(polygons), crs=crs)


def _polygon(element: Element) -> dict[str, Any]:
    """Return a polygon of GML as GeoJSON: its outer ring first, heights left out."""
    rings = []
    for edge in ("exterior", "interior"):
        for listed in (e for side in element.iter(f"{_GML}{edge}") for e in side.iter(f"{_GML}posList")):
            numbers = np.array((listed.text or "").split(), dtype=np.float64)
            rings.append(numbers.reshape(-1, int(listed.get("srsDimension", "2")))[:, :2].tolist())
    return {"type": "Polygon", "coordinates": rings}


def _geojson(path: str) -> Shapes:
    """Read GeoJSON (RFC 7946): longitude and latitude of WGS 84, unless the older member `crs` says otherwise."""
    with untrusted(path, "no readable GeoJSON", "write it again, e.g. with ogr2ogr"):
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        geometries = tuple(_geometries(content))
        named = content.get("crs", {"properties": {"name": _WGS84}})
        crs = str(named["properties"]["name"]) if named else ""
    return Shapes(geometries=geometries, crs=crs)


def _geometries(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kind = item["type"]
    if kind == "FeatureCollection":
        for feature in item["features"]:
            yield from _geometries(feature)
    elif kind == "Feature":
        if item.get("geometry") is not None:
            yield from _geometries(item["geometry"])
    elif kind == "GeometryCollection":
        for part in item["geometries"]:
            yield from _geometries(part)
    elif kind in ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"):
        if item["coordinates"]:
            yield {"type": kind, "coordinates": item["coordinates"]}
    else:
        raise ValueError(f"there is no geometry of type {kind!r}")


def _through_gdal(path: str, layer: str | None) -> Shapes:
    try:
        import pyogrio
        import shapely
    except ImportError:
        raise ConfigError(
            f"{path}: GeoPackage and Shapefile need an extra: pip install 'inpaint-pipeline[vector]'; GeoJSON does not "
            "(ogr2ogr mask.geojson FILE)"
        ) from None
    with untrusted(path, "no readable vector file", "copy it again with the files that belong to it"):
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        if layer is None and len(layers) != 1:
            raise ConfigError(f"{path}: has {len(layers)} layers ({', '.join(layers)}); name one with `layer`")
        if layer is not None and layer not in layers:
            raise ConfigError(f"{path}: has no layer '{layer}' (it has {', '.join(layers)})")
        facts, _, stored, _ = pyogrio.raw.read(path, layer=layer, columns=[], force_2d=True)
        found = [shapely.geometry.mapping(shape) for shape in shapely.from_wkb(stored) if shape is not None]
        return Shapes(geometries=tuple(g for item in found for g in _geometries(item)), crs=facts["crs"] or "")


def moved(geometry: dict[str, Any], move: Callable[[Points], Points], longest: float) -> dict[str, Any]:
    """Return a geometry with all its points moved.

    Straight edges may become curves, so edges longer than `longest`, in units of the geometry, are cut into pieces.
    """
    depth = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}

    def walk(item: Any, level: int) -> Any:
        if level == 0:
            return move(np.array([item[:2]], dtype=np.float64))[0].tolist()
        if level > 1:
            return [walk(part, level - 1) for part in item]
        points = np.array([point[:2] for point in item], dtype=np.float64)
        return move(points if geometry["type"] == "MultiPoint" else _cut(points, longest)).tolist()

    return {"type": geometry["type"], "coordinates": walk(geometry["coordinates"], depth[geometry["type"]])}


def bounds(geometry: dict[str, Any]) -> tuple[float, float, float, float]:
    """Return the smallest and largest coordinates of a geometry: `(x0, y0, x1, y1)`."""
    points: list[Points] = []

    def note(found: Points) -> Points:
        points.append(found)
        return found

    moved(geometry, note, np.inf)
    every = np.concatenate(points)
    return (*every.min(axis=0).tolist(), *every.max(axis=0).tolist())


def _cut(points: Points, longest: float) -> Points:
    lengths = np.hypot(*np.diff(points, axis=0).T)
    pieces = np.clip(np.ceil(lengths / longest), 1, _LONGEST_EDGE)
    if not (pieces > 1).any():
        return points
    corners = np.concatenate([[0], np.cumsum(pieces)])
    steps = np.arange(corners[-1] + 1)
    return np.stack([np.interp(steps, corners, axis) for axis in points.T], axis=-1)
