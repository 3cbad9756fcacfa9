"""Holes drawn as shapes: polygons, lines and points of a GeoJSON, GeoPackage or Shapefile.

A polygon marks the pixels whose centres lie in it, with `all_touched` every pixel that it touches; lines and points
mark what they touch. What is drawn is a hole even where the image has nodata, as under `kind: raster`.

Also known as: shapes, shape, shapefile, shp, polygon, polygons, geojson, geopackage, gpkg.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.formats.base import Source
from pipeline.masks._drawn import DrawnMask, open_drawn
from pipeline.masks.base import MaskOptions, Resolve


class Options(MaskOptions):
    """Which shapes of which file are holes."""

    drawn: ClassVar[bool] = True

    kind: Literal["vector"] = "vector"
    path: str = Field(description="GeoJSON, or with the extra `vector` GeoPackage or Shapefile; '{stem}' as elsewhere.")
    layer: str | None = Field(default=None, description="Layer of a GeoPackage with several.")
    crs: str | None = Field(
        default=None, description="Reference system of the coordinates if the file does not say it, e.g. 'EPSG:32633'."
    )
    all_touched: bool = Field(
        default=False, description="Mark every pixel that a polygon touches, not only those whose centre lies in it."
    )


def open_mask(options: Options, source: Source, resolve: Resolve) -> DrawnMask:
    """Read the shapes and bring them onto the image's grid.

    Raises:
        ConfigError: the extra for the format is not installed, a layer is to be named, or `crs` is none.
        SourceError: unreadable; the image is a volume or has no reference system; a shape has no place on its grid.
    """
    layers = (options.layer,) if options.layer is not None else ()
    path = resolve(options.path)
    return open_drawn(path, source, layers, crs=options.crs, all_touched=options.all_touched)
