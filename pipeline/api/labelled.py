"""Arrays of xarray: where their coordinates lie, and back with the same coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.errors import CRSError

from pipeline.api.base import Keep
from pipeline.api.rasters import Raster, is_image
from pipeline.errors import SourceError
from pipeline.formats._image import representable
from pipeline.geometry.places import known_crs

_UNEVEN = 1e-3
"""Share of a step that coordinates of a regular grid may be off by, as they were rounded when they were written."""
_X = {"x", "lon", "longitude", "easting", "projection_x_coordinate"}
_Y = {"y", "lat", "latitude", "northing", "projection_y_coordinate"}
_NODATA = ("_FillValue", "missing_value", "fill_value", "nodata")
"""Attributes that say which stored value means nothing, in the order in which rioxarray asks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A `xarray.DataArray`: its last two dimensions are space."""

    array: Any
    raster: Raster

    def saved(self, keep: Keep, stem: str) -> str:
        """Return the path of a GeoTIFF with the grid that coordinates and `spatial_ref` say."""
        return self.raster.saved(keep, stem)

    def entry(self, holes: Any, keep: Keep) -> dict[str, Any]:
        """Return the mask entry of holes; see `Raster`.

        Raises:
            SourceError: they are a DataArray that lies elsewhere, or the other way round.
        """
        if hasattr(holes, "dims") and hasattr(holes, "coords"):
            self._require_same_place(holes)
        return self.raster.entry(holes, keep)

    def layer(self, path: Path) -> Any:
        """Return a layer with the coordinates of the image; what its attributes say holds for values alone."""
        values, array = self.raster.layer(path), self.array
        like = array if values.ndim == array.ndim else array.isel({array.dims[0]: 0}, drop=True)
        return like.copy(data=values) if is_image(path) else like.copy(data=values).drop_attrs(deep=False)

    def _require_same_place(self, holes: Any) -> None:
        if holes.dims[-2:] != self.array.dims[-2:]:
            raise SourceError(
                f"holes have the dimensions {holes.dims}, the image {self.array.dims}; transpose the holes to the "
                "order of the image"
            )
        for dim in holes.dims[-2:]:
            if dim not in holes.coords or dim not in self.array.coords or holes.sizes[dim] != self.array.sizes[dim]:
                continue
            theirs, ours = (np.asarray(one.coords[dim].to_numpy()) for one in (holes, self.array))
            step = _start_and_step(self.array, dim)
            near = np.abs(theirs - ours) <= _UNEVEN * abs(step[1]) if step else theirs == ours
            if not np.all(near):
                raise SourceError(
                    f"holes and image have other coordinates '{dim}' (from {theirs[0]} to {theirs[-1]} against "
                    f"{ours[0]} to {ours[-1]}); bring the holes onto the image's, e.g. holes.reindex_like(image)"
                )


def labelled(array: Any) -> Labelled:
    """Return a DataArray with its grid, as CF conventions and rioxarray write it.

    Raises:
        SourceError: it is no raster, its last two dimensions are not y and x, or what it says of its grid or of
            nodata cannot be.
    """
    if len(array.dims) < 2:
        raise SourceError(f"an array of dimensions {array.dims} is no raster: give (y, x) or (band, y, x)")
    _require_order(array.dims)
    name = array.attrs.get("grid_mapping") or array.encoding.get("grid_mapping") or "spatial_ref"
    mapping: Mapping[str, Any] = array.coords[name].attrs if name in array.coords else {}
    grid: dict[str, Any] = {}
    if crs := mapping.get("crs_wkt") or mapping.get("spatial_ref"):
        try:
            grid["crs"] = known_crs(crs)
        except CRSError as error:
            raise SourceError(f"coordinate '{name}': its reference system cannot be read ({error})") from error
    if transform := _transform(array, name, mapping):
        grid["transform"] = transform
    return Labelled(array=array, raster=Raster(values=array.to_numpy(), grid=grid, nodata=_nodata(array)))


def _require_order(dims: tuple[Any, ...]) -> None:
    names = [str(dim).lower() for dim in dims]
    y, x = ([k for k, one in enumerate(names) if one in known] for known in (_Y, _X))
    if y and x and (y[-1], x[-1]) != (len(names) - 2, len(names) - 1):
        raise SourceError(
            f"dimensions {dims}: the last two must be y and x; use array.transpose(..., {dims[y[-1]]!r}, "
            f"{dims[x[-1]]!r})"
        )


def _transform(array: Any, name: str, mapping: Mapping[str, Any]) -> Affine | None:
    """Return the affine: that of the attribute where coordinates do not say another one, as in a part cut out."""
    said = _affine_of(name, str(mapping["GeoTransform"])) if "GeoTransform" in mapping else None
    y, x = _start_and_step(array, array.dims[-2]), _start_and_step(array, array.dims[-1])
    if not (y and x):
        return said
    # coordinates are those of the middles of pixels
    found = Affine(x[1], 0, x[0] - x[1] / 2, 0, y[1], y[0] - y[1] / 2)
    height, width = array.shape[-2:]
    return said if said is not None and _agree(said, found, width, height) else found


def _agree(one: Affine, other: Affine, width: int, height: int) -> bool:
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    apart = (np.reshape(one, (3, 3)) - np.reshape(other, (3, 3))) @ corners
    return bool(np.abs(apart).max() <= _UNEVEN * min(abs(other.a), abs(other.e)))


def _affine_of(name: str, text: str) -> Affine:
    try:
        return Affine.from_gdal(*(float(part) for part in text.split()))
    except (TypeError, ValueError) as error:
        raise SourceError(f"coordinate '{name}': GeoTransform must be six numbers, found '{text}'") from error


def _nodata(array: Any) -> float | int | None:
    """Return the stored value that means nothing; None if no pixel could have it."""
    key = next((key for key in _NODATA if array.attrs.get(key) is not None), None)
    if key is None:
        return None
    given, dtype = np.asarray(array.attrs[key]), array.dtype
    if given.size != 1 or given.dtype.kind not in "iuf":
        raise SourceError(f"attribute {key} must be one number, found {array.attrs[key]!r}")
    value: float | int = given.reshape(-1)[0].item()
    if dtype.kind == "f":
        return float(value)
    held = representable(value, dtype) if dtype.kind in "iu" else None
    return None if held is None else int(held)


def _start_and_step(array: Any, dim: Any) -> tuple[float, float] | None:
    """Return the first coordinate and the step between coordinates; None without coordinates.

    Raises:
        SourceError: they are no regular grid.
    """
    if dim not in array.coords or array.sizes[dim] < 2:
        return None
    values = array.coords[dim].to_numpy()
    if values.dtype.kind not in "iuf":
        raise SourceError(
            f"coordinate '{dim}' holds {values.dtype}, no numbers; the last two dimensions must be y and x"
        )
    values = values.astype(np.float64)
    step = (values[-1] - values[0]) / (len(values) - 1)
    if step == 0 or not np.abs(np.diff(values) - step).max() <= _UNEVEN * abs(step):
        raise SourceError(f"coordinate '{dim}' is no regular grid; interpolate the array to one")
    return float(values[0]), float(step)
