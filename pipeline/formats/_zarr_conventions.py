"""Metadata conventions of zarr products: CF and `spatial:`/`proj:` for rasters, OME-Zarr 0.5 for volumes.

The identifiers of the GeoZarr conventions still move between organisations: they live in this file only.
CF: https://cfconventions.org/ - spatial: https://github.com/zarr-conventions/spatial -
proj: https://github.com/zarr-conventions/geo-proj - OME-Zarr: https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from pipeline.errors import SourceError
from pipeline.formats._raster_header import crs_units
from pipeline.geometry.space import Space

OWN = "inpaint_pipeline"
_SPATIAL = {
    "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
    "name": "spatial:",
    "description": "Spatial coordinate information",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/spatial/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/spatial/blob/v1/README.md",
}
_PROJ = {
    "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "name": "proj:",
    "description": "Coordinate reference system information for geospatial data",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/geo-proj/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/geo-proj/blob/v1/README.md",
}
_UNIT_WORDS = {"mm": "millimeter", "m": "meter"}
_MM = {"millimeter": 1.0, "meter": 1000.0, "micrometer": 0.001, "centimeter": 10.0}


def raster_attributes(space: Space) -> dict[str, Any]:
    """Return the `spatial:` and `proj:` attributes of an array or group on the raster grid `space`."""
    attributes: dict[str, Any] = {
        "zarr_conventions": [_SPATIAL],
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(space.shape),
        "spatial:transform": list(space.affine),
        "spatial:transform_type": "affine",
        "spatial:registration": "pixel",
    }
    if space.crs:
        attributes["zarr_conventions"] = [_SPATIAL, _PROJ]
        authority = CRS.from_wkt(space.crs).to_authority()
        if authority:
            attributes["proj:code"] = ":".join(authority)
        else:
            attributes["proj:wkt2"] = CRS.from_wkt(space.crs).to_wkt(version="WKT2_2019")
    return attributes


def grid_mapping(space: Space) -> dict[str, Any]:
    """Return the attributes of the CF `spatial_ref` variable, as GDAL and rioxarray read them."""
    a, b, c, d, e, f = space.affine
    mapping: dict[str, Any] = {"GeoTransform": " ".join(repr(v) for v in (c, a, b, f, d, e))}
    if space.crs:
        mapping |= {"crs_wkt": space.crs, "spatial_ref": space.crs}
    return mapping


def pixel_centres(space: Space) -> dict[str, NDArray[np.float64]]:
    """Return 1-D `x` and `y` of pixel centres; empty if the grid is rotated (there are none)."""
    a, b, c, d, e, f = space.affine
    if b or d:
        return {}
    rows, cols = (np.arange(n, dtype=np.float64) + 0.5 for n in space.shape)
    return {"y": f + e * rows, "x": c + a * cols}


def coordinate_attributes(axis: str, space: Space) -> dict[str, str]:
    """Return the CF attributes of the coordinate variable `x` or `y`."""
    if space.units == "deg":
        name, unit = {"x": ("longitude", "degrees_east"), "y": ("latitude", "degrees_north")}[axis]
        return {"standard_name": name, "units": unit}
    attributes = {"standard_name": f"projection_{axis}_coordinate"}
    return attributes if space.units == "unknown" else {**attributes, "units": space.units}


def fill_value_attribute(nodata: float, dtype: np.dtype[Any]) -> Any:
    """Return CF `_FillValue` as JSON: a number for integers, base64 of the double for floats, like xarray."""
    if np.issubdtype(dtype, np.floating):
        return base64.standard_b64encode(struct.pack("<d", nodata)).decode()
    return int(nodata)


def decode_fill_value(value: Any) -> float | None:
    """Invert `fill_value_attribute`; plain JSON numbers of other writers are taken as they are."""
    if isinstance(value, str):
        return float(struct.unpack("<d", base64.standard_b64decode(value))[0])
    return None if value is None else float(value)


def ome_attributes(name: str, space: Space, *, series: bool) -> dict[str, Any]:
    """Return the `ome` attribute of an image group whose only level is the array `0`.

    OME-Zarr 0.5 has scale and translation only, so an oblique affine keeps its spacing and origin here; the
    whole affine stands in this project's own attribute, and the NIfTI file remains the canonical product.
    """
    unit = {"unit": _UNIT_WORDS[space.units]} if space.units in _UNIT_WORDS else {}
    axes: list[dict[str, Any]] = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    scale = [float(v) for v in space.spacing]
    origin = [float(v) for v in space.affine[3::4]][::-1]
    if series:
        axes, scale, origin = [{"name": "t", "type": "time"}, *axes], [1.0, *scale], [0.0, *origin]
    transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": origin}]
    level = {"path": "0", "coordinateTransformations": transforms}
    return {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": [level]}]}


def own_space(path: str, fields: Mapping[str, Any], shape: tuple[int, ...]) -> Space:
    """Return the grid that this project wrote beside an array of `shape`.

    Raises:
        SourceError: it is not the grid of such an array.
    """
    kind = fields["kind"]
    space = Space(
        kind=kind,
        shape=tuple(fields["shape"]),
        affine=tuple(float(v) for v in fields["affine"]),
        crs=str(fields.get("crs", "")),
        units=str(fields.get("units", "unknown")),
    )
    ndim, numbers = {"raster": (2, 6), "volume": (3, 12)}.get(kind, (0, 0))
    if space.shape != shape[len(shape) - ndim :] or len(space.affine) != numbers:
        raise SourceError(f"{path}: its grid {dict(fields)} is not that of an array of shape {shape}")
    if kind == "raster" and space.crs:
        CRS.from_wkt(space.crs)
    return space


def foreign_raster_space(path: str, shape: tuple[int, int], group: Any, attributes: Any) -> Space:
    """Find the grid of a raster array that this project did not write.

    Looks at `spatial:transform`, then the CF `spatial_ref` variable, then `x`/`y` pixel centres.
    """
    name = attributes.get("grid_mapping", "spatial_ref")
    mapping = dict(group[name].attrs) if _has(group, name) else {}
    crs = mapping.get("crs_wkt") or attributes.get("proj:wkt2") or attributes.get("proj:code") or ""
    parsed = CRS.from_user_input(crs) if crs else None
    affine: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    if "spatial:transform" in attributes:
        affine = tuple(float(v) for v in attributes["spatial:transform"])
    elif "GeoTransform" in mapping:
        c, a, b, f, d, e = (float(v) for v in str(mapping["GeoTransform"]).split())
        affine = (a, b, c, d, e, f)
    elif _has(group, "x") and _has(group, "y"):
        affine = _affine_of_centres(path, group["x"][:], group["y"][:])
    wkt = parsed.to_wkt() if parsed else ""
    return Space(kind="raster", shape=shape, affine=affine, crs=wkt, units=crs_units(parsed))


def _affine_of_centres(path: str, x: Any, y: Any) -> tuple[float, ...]:
    steps = [(float(v[-1]) - float(v[0])) / (len(v) - 1) if len(v) > 1 else 1.0 for v in (x, y)]
    for name, values, step in (("x", x, steps[0]), ("y", y, steps[1])):
        worst = float(np.abs(values - (values[0] + step * np.arange(len(values)))).max())
        if worst > 1e-3 * abs(step):
            raise SourceError(f"{path}: {name} is not evenly spaced (off by {worst:.3g}); resample it first")
    a, e = steps
    return (a, 0.0, float(x[0]) - a / 2, 0.0, e, float(y[0]) - e / 2)


def ome_space(shape: tuple[int, ...], multiscale: Any) -> Space:
    """Return the grid of the first level of an OME-Zarr image: axis-aligned, in mm where a unit is given."""
    transforms = multiscale["datasets"][0].get("coordinateTransformations", [])
    found = {t["type"]: t[t["type"]] for t in transforms if t["type"] in {"scale", "translation"}}
    unit = next((a.get("unit", "") for a in multiscale["axes"] if a.get("type") == "space"), "")
    factor = _MM.get(unit, 1.0)
    scale = [factor * float(v) for v in found.get("scale", [1.0] * 3)[-3:]]
    origin = [factor * float(v) for v in found.get("translation", [0.0] * 3)[-3:]]
    rows = np.hstack([np.diag(scale[::-1]), np.reshape(origin[::-1], (3, 1))])
    return Space(
        kind="volume",
        shape=shape,
        affine=tuple(rows.ravel().tolist()),
        crs="RAS+",
        units="mm" if unit in _MM else "unknown",
    )


def _has(group: Any, name: str) -> bool:
    return group is not None and name in group
