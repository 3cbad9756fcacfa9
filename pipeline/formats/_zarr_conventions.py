"""Metadata conventions of zarr products: CF and `spatial:`/`proj:` for rasters, OME-Zarr 0.5 for volumes.

The identifiers of the GeoZarr conventions still move between organisations: they live in this file only.
CF: https://cfconventions.org/ - spatial: https://github.com/zarr-conventions/spatial -
proj: https://github.com/zarr-conventions/geo-proj - OME-Zarr: https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from pipeline.errors import SourceError
from pipeline.formats._cf_time import moments
from pipeline.formats._cf_validity import number_of, numbers
from pipeline.formats._raster_header import crs_units
from pipeline.geometry.orientation import Orientation
from pipeline.geometry.places import known_crs
from pipeline.geometry.space import ROUNDED, Space
from pipeline.numerics.number import exact

OWN = "inpaint_pipeline"
CF = "CF-1.11"
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
_MM = {"millimeter": 1.0, "meter": 1000.0, "micrometer": 0.001, "centimeter": 10.0, "nanometer": 1e-6}
_ANATOMICAL = {
    "left-to-right": (0, 1.0),
    "right-to-left": (0, -1.0),
    "posterior-to-anterior": (1, 1.0),
    "anterior-to-posterior": (1, -1.0),
    "inferior-to-superior": (2, 1.0),
    "superior-to-inferior": (2, -1.0),
}
"""Words of OME-Zarr (RFC-4) for where an axis runs: axis of RAS+ and sign."""
_CANONICAL_WORDS = {"z": "inferior-to-superior", "y": "posterior-to-anterior", "x": "left-to-right"}


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
    """Return `x` `(columns,)` and `y` `(rows,)` of pixel centres; empty if the grid is rotated (there are none)."""
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


def flags(names: Mapping[int, str]) -> dict[str, Any]:
    """Return the CF attributes of a layer of codes; CF's words have no spaces.

    >>> flags({2: "other channels", 0: "observed"})
    {'flag_values': [0, 2], 'flag_meanings': 'observed other_channels'}
    """
    codes = sorted(names)
    return {"flag_values": codes, "flag_meanings": " ".join(names[code].replace(" ", "_") for code in codes)}


def fill_value_attribute(nodata: float, dtype: np.dtype[Any]) -> Any:
    """Return CF `_FillValue` as JSON: a number for integers, base64 of the double for floats, like xarray."""
    if np.issubdtype(dtype, np.floating):
        return base64.standard_b64encode(struct.pack("<d", nodata)).decode()
    return int(nodata)


def dtype_of(array: Any) -> np.dtype[Any]:
    """Return the type of an array's values: netCDF's `_Unsigned` says that whole numbers lack a sign, or have one."""
    dtype = np.dtype(array.dtype).newbyteorder("=")
    kind = {"true": "u", "false": "i"}.get(str(array.attrs.get("_Unsigned", "")).lower(), dtype.kind)
    return np.dtype(f"{kind}{dtype.itemsize}") if dtype.kind in "iu" else dtype


def declared_nodata(path: str, attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> float | None:
    """Return the stored value that means nothing, as CF says it; None if none is named.

    Raises:
        SourceError: what is named is no number.
    """
    if attributes.get("_FillValue") is not None:
        return number_of(path, attributes, "_FillValue", 0.0, dtype)
    missing = attributes.get("missing_value")
    # others of several values are ruled out by `validity_of`
    return None if missing is None else next(iter(numbers(path, "missing_value", missing, dtype)), None)


def number(value: Any) -> float | None:
    """Return a JSON number, or one written as text, as it is: whole numbers of 64 bits would not survive a float."""
    if value is None:
        return None
    try:
        return exact(int(value) if isinstance(value, str) else value)
    except ValueError:
        return float(value)


def ome_attributes(name: str, levels: Sequence[Space], *, series: bool, sides: bool) -> dict[str, Any]:
    """Return the `ome` attribute of an image group whose levels are the arrays `0`, `1`, ... on the grids `levels`.

    All grids are in canonical order, so scales are positive and x, y, z run to the right, the front and the head; the
    axes say so, too, if the file does (`sides`). OME-Zarr 0.5 has scale and translation only: an oblique volume keeps
    its spacing and the place of its middle; its whole affine stands in this project's own attribute, and NIfTI remains
    its canonical format.
    """
    unit = {"unit": _UNIT_WORDS[levels[0].units]} if levels[0].units in _UNIT_WORDS else {}
    axes: list[dict[str, Any]] = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    if sides:
        axes = [a | {"orientation": {"type": "anatomical", "value": _CANONICAL_WORDS[a["name"]]}} for a in axes]
    lead: tuple[list[float], list[float]] = ([], [])
    if series:
        axes, lead = [{"name": "t", "type": "time"}, *axes], ([1.0], [0.0])
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                {"type": "scale", "scale": lead[0] + list(level.spacing)},
                {"type": "translation", "translation": lead[1] + _straightened_origin(level)},
            ],
        }
        for number, level in enumerate(levels)
    ]
    return {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}


def _straightened_origin(space: Space) -> list[float]:
    """Return z, y, x of the first voxel of a canonical grid that is turned about its middle until it is not oblique."""
    rows = np.reshape(space.affine, (3, 4))
    middle = (np.asarray(space.shape[::-1]) - 1) / 2
    origin = rows[:, 3] + (rows[:, :3] - np.diag(space.spacing[::-1])) @ middle
    return [float(v) for v in origin[::-1]]


def ome_level(group: Any, name: str) -> dict[str, Any] | None:
    """Return the OME multiscale of a group with the level `name` as its only one; None if it has no such level."""
    for multiscale in group.attrs.get("ome", {}).get("multiscales", ()) if group is not None else ():
        found = [level for level in multiscale["datasets"] if level["path"] == name]
        if found:
            return {**multiscale, "datasets": found}
    return None


def own_fields(space: Space, turn: Orientation) -> dict[str, Any]:
    """Return the grid of the input and how it was turned, for `own_space`."""
    return {
        "kind": space.kind,
        "shape": space.shape,
        "affine": space.affine,
        "crs": space.crs,
        "units": space.units,
        "turned": {"axes": turn.axes, "backwards": turn.backwards},
    }


def own_space(path: str, fields: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[Space, Orientation]:
    """Return the grid that this project wrote beside an array of `shape`, and how that array is turned against it.

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
    # early products were not turned
    turned = fields.get("turned")
    turn = Orientation(tuple(turned["axes"]), tuple(turned["backwards"])) if turned else Orientation.none(ndim)
    sound = len(space.shape) == ndim == len(turn.backwards) and sorted(turn.axes) == list(range(ndim))
    if not sound or turn.canonical_shape(space.shape) != shape[len(shape) - ndim :] or len(space.affine) != numbers:
        raise SourceError(f"{path}: its grid {dict(fields)} is not that of an array of shape {shape}")
    if kind == "raster" and space.crs:
        CRS.from_wkt(space.crs)
    return space, turn


PLANES = {("y", "x"), ("lat", "lon"), ("latitude", "longitude")}
"""Names that the two dimensions of a raster have."""


def foreign_raster_space(
    path: str, shape: tuple[int, int], plane: tuple[str, str], group: Any, attributes: Any
) -> tuple[Space, tuple[str, ...]]:
    """Find the grid of a raster array that this project did not write, and what is to be said of it.

    Looks at `spatial:transform`, then the CF `spatial_ref` variable, then pixel centres in the coordinates of the
    `plane`, one of `PLANES`. Coordinates that lie a pixel or more beside what is stated count instead: xarray cuts them
    with the array, and leaves the statement as it was.
    """
    name = attributes.get("grid_mapping", "spatial_ref")
    mapping = dict(group[name].attrs) if _has(group, name) else {}
    crs = mapping.get("crs_wkt") or attributes.get("proj:wkt2") or attributes.get("proj:code") or ""
    try:
        # without an environment, PROJ writes to stderr by itself
        with rasterio.Env():
            parsed = known_crs(crs) if crs else None
    except CRSError as error:
        raise SourceError(f"{path}: its reference system cannot be read ({error}); correct it in '{name}'") from error
    key = ""
    affine: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    if "spatial:transform" in attributes:
        key, affine = "spatial:transform", _stated_affine(path, attributes)
    elif "GeoTransform" in mapping:
        key, affine = f"GeoTransform of '{name}'", _affine_of_geotransform(path, name, str(mapping["GeoTransform"]))
    wkt = parsed.to_wkt() if parsed else ""
    stated = Space(kind="raster", shape=shape, affine=affine, crs=wkt, units=crs_units(parsed))
    if not all(_has(group, axis) and group[axis].shape == (n,) for axis, n in zip(plane, shape, strict=True)):
        return stated, ()
    y, x = plane
    try:
        seen = replace(stated, affine=_affine_of_centres(path, group[x][:], group[y][:]))
    except SourceError:
        if key:
            return stated, ()
        raise
    if not key:
        return seen, ()
    turned = affine[1] or affine[3]
    if turned or not (apart := seen.mismatch(stated, tolerance=1 - ROUNDED)):
        return stated, ()
    return seen, (f"{path}: its coordinates {y} and {x} do not lie where {key} says ({apart}); they are used",)


def foreign_names(array: Any, group: Any, ndim: int, count: int) -> tuple[str, ...]:
    """Return names of the channels of an array that this project did not write: labels or dates of their coordinate."""
    numbered = tuple(f"band_{i + 1}" for i in range(count))
    name = (array.metadata.dimension_names or ("",))[0]
    if array.ndim == ndim or not name or not _has(group, name) or group[name].shape != (count,):
        return numbered
    values, said = group[name][:], group[name].attrs
    times = moments(values, str(said.get("units", "")), str(said.get("calendar", "")))
    if times is not None:
        days = times.astype("M8[D]")
        values = days if (days == times).all() else times.astype("M8[s]")
    elif values.dtype.kind not in "UTO":
        return numbered
    names = tuple(map(str, values))
    return names if len(set(names)) == count else numbered


def _affine_of_geotransform(path: str, name: str, text: str) -> tuple[float, ...]:
    try:
        c, a, b, f, d, e = (float(part) for part in text.split())
    except ValueError:
        raise SourceError(f"{path}: GeoTransform of '{name}' must be six numbers, found '{text}'; correct it") from None
    return a, b, c, d, e, f


def _stated_affine(path: str, attributes: Any) -> tuple[float, ...]:
    stated = attributes["spatial:transform"]
    try:
        a, b, c, d, e, f = (float(v) for v in stated)
    except (TypeError, ValueError):
        raise SourceError(f"{path}: its spatial:transform must be six numbers, found {stated!r}; correct it") from None
    if attributes.get("spatial:registration") == "node":
        # whole numbers are middles of pixels, not their corners
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return a, b, c, d, e, f


def _affine_of_centres(path: str, x: Any, y: Any) -> tuple[float, ...]:
    steps = [(float(v[-1]) - float(v[0])) / (len(v) - 1) if len(v) > 1 else 1.0 for v in (x, y)]
    for name, values, step in (("x", x, steps[0]), ("y", y, steps[1])):
        worst = float(np.abs(values - (values[0] + step * np.arange(len(values)))).max())
        # not a number is no even step, either
        if not worst <= 1e-3 * abs(step):
            raise SourceError(f"{path}: {name} is not evenly spaced (off by {worst:.3g}); resample it first")
    a, e = steps
    return (a, 0.0, float(x[0]) - a / 2, 0.0, e, float(y[0]) - e / 2)


def ome_image(path: str, group: Any) -> tuple[Any, dict[str, Any]]:
    """Return the array of the finest level of an OME-Zarr group's first image, and its multiscale.

    Raises:
        SourceError: it has none, as a plate or a collection of images has not, or its level is not there.
    """
    images = group.attrs["ome"].get("multiscales")
    if not images:
        there = ", ".join(sorted(group.attrs["ome"])) or "nothing"
        raise SourceError(f"{path}: OME-Zarr without an image of its own ({there}); give one of the images in it")
    level = str(images[0]["datasets"][0]["path"])
    if level not in group:
        raise SourceError(f"{path}: its finest level '{level}' is not there; copy the store again")
    return group[level], images[0]


def ome_space(path: str, shape: tuple[int, ...], multiscale: Any) -> Space:
    """Return the grid of the first level of an OME-Zarr image: axis-aligned, in mm where units are given.

    Axes that say where they run in the body (RFC-4) are believed; others run to the right, the front and the head.

    Raises:
        SourceError: it is no scale and translation, which are all that OME-Zarr 0.5 has.
    """
    units = [axis.get("unit", "") for axis in multiscale["axes"][-3:]]
    factors = np.array([_MM[unit] for unit in units if unit in _MM])
    known = len(factors) == len(shape)
    scale, origin = np.ones(3), np.zeros(3)
    # those of the whole image come after those of the level
    for one in (multiscale["datasets"][0], multiscale):
        for transform in one.get("coordinateTransformations", ()):
            kind = transform["type"]
            if kind not in ("identity", "scale", "translation") or "path" in transform:
                raise SourceError(f"{path}: a transformation of type {kind}, or in a file, is not read; resample it")
            numbers = np.asarray(transform.get(kind, [kind == "scale"] * 3)[-3:], dtype=np.float64)
            scale, origin = (scale * numbers, origin * numbers) if kind == "scale" else (scale, origin + numbers)
    if known:
        scale, origin = scale * factors, origin * factors
    rows = np.hstack([np.diag(scale[::-1]), np.reshape(origin[::-1], (3, 1))])
    if states_sides(multiscale):
        turned = np.zeros_like(rows)
        for row, (place, sign) in zip(rows, _anatomical_axes(multiscale), strict=True):
            turned[place] = sign * row
        rows = turned
    return Space(
        kind="volume",
        shape=shape,
        affine=tuple(rows.ravel().tolist()),
        crs="RAS+",
        units="mm" if known else "unknown",
    )


def states_sides(multiscale: Any) -> bool:
    """Return True if the axes of an OME-Zarr image say where right, front and head are."""
    return multiscale is not None and sorted(place for place, _ in _anatomical_axes(multiscale)) == [0, 1, 2]


def _anatomical_axes(multiscale: Any) -> list[tuple[int, float]]:
    """Return for x, y and z the axis of RAS+ that it is and its sign; -1 where it does not say."""
    words = [axis.get("orientation", {}).get("value") for axis in multiscale["axes"][-3:][::-1]]
    return [_ANATOMICAL.get(word, (-1, 1.0)) for word in words]


def _has(group: Any, name: str) -> bool:
    return group is not None and name in group
