"""How an image in memory becomes a file that the pipeline reads, and how a result comes back in its kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import nibabel
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from pipeline.errors import SourceError
from pipeline.formats import open_any
from pipeline.geometry.box import Box

_UNEVEN = 1e-3
"""Share of a step that coordinates of a regular grid may be off by, as they were rounded when they were written."""


Keep = Callable[[str, Callable[[Path], None]], Path]
"""Keeps a file of this name that the function writes, and returns where."""


class Kind(Protocol):
    """An image of one kind."""

    def saved(self, keep: Keep, stem: str) -> str:
        """Return the path of the image as a file."""

    def entry(self, holes: Any, keep: Keep) -> dict[str, Any]:
        """Return the mask entry of holes in memory, which lie on the grid of the image."""

    def layer(self, path: Path) -> Any:
        """Return a layer of the result in the kind of the image."""


def kind_of(image: Any) -> Kind:
    """Return the image as one of the kinds that are known.

    Raises:
        TypeError: it is none of them.
        SourceError: it has another number of axes, or coordinates that are no regular grid.
    """
    if isinstance(image, str | Path):
        return File(path=str(image) if "://" in str(image) else str(Path(image).resolve()))
    if hasattr(image, "dataobj") and hasattr(image, "header"):
        return Volume(image=image)
    if hasattr(image, "dims") and hasattr(image, "coords"):
        return Labelled(array=image, raster=_raster_of(image))
    if isinstance(image, np.ndarray):
        return Raster(values=image)
    raise TypeError(f"{type(image).__name__}: give a numpy array, xarray.DataArray, nibabel image or path")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An image that lies in a file; layers are arrays of stored values, `(c, *spatial)`."""

    path: str

    def saved(self, _keep: Keep, _stem: str) -> str:
        """Return the path."""
        return self.path

    def entry(self, holes: Any, _keep: Keep) -> dict[str, Any]:
        """Refuse holes in memory: nothing says which way they lie on the grid of a file."""
        raise TypeError(
            f"{self.path}: holes of an image in a file are a path or mask entries, found {type(holes).__name__}"
        )

    def layer(self, path: Path) -> NDArray[Any]:
        """Return all values of a layer."""
        return _values(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """An array `(y, x)` or `(band, y, x)`, with its place on earth if that is known."""

    values: NDArray[Any]
    grid: Mapping[str, Any] = field(default_factory=dict)
    """`crs` and `transform` as rasterio takes them, as far as they are known."""
    nodata: float | None = None

    def __post_init__(self) -> None:
        """Check what a raster can be."""
        if self.values.ndim not in (2, 3) or not self.values.size:
            raise SourceError(
                f"an array of shape {self.values.shape} is no raster: give (y, x) or (band, y, x); volumes come as "
                "nibabel images"
            )
        if self.values.dtype.kind not in "iuf" or not rasterio.dtypes.check_dtype(self.values.dtype.name):
            raise SourceError(f"an array of {self.values.dtype} cannot be restored; convert it to integers or floats")

    def saved(self, keep: Keep, stem: str) -> str:
        """Return the path of a plain GeoTIFF."""
        return str(keep(f"{stem}.tif", partial(_geotiff, self.values, {**self.grid, "nodata": self.nodata})))

    def entry(self, holes: Any, keep: Keep) -> dict[str, Any]:
        """Return the mask entry of holes `(y, x)`, or `(band, y, x)` for each band its own.

        Raises:
            SourceError: they have another shape than the image.
        """
        marked = np.asarray(holes) != 0
        if marked.shape not in (self.values.shape, self.values.shape[-2:]):
            raise SourceError(f"holes of shape {marked.shape} do not fit an image of shape {self.values.shape}")
        path = keep("holes.tif", partial(_geotiff, marked.astype(np.uint8), self.grid))
        return {"kind": "raster", "path": str(path), "band": "all" if marked.ndim == 3 else 1}

    def layer(self, path: Path) -> NDArray[Any]:
        """Return a layer: one plane as `(y, x)`, unless the image has an axis for its one band."""
        values = _values(path)
        return values[0] if len(values) == 1 and self.values.shape[:-2] != (1,) else values


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A `xarray.DataArray`: its last two dimensions are space."""

    array: Any
    raster: Raster

    def saved(self, keep: Keep, stem: str) -> str:
        """Return the path of a GeoTIFF with the grid that coordinates and `spatial_ref` say."""
        return self.raster.saved(keep, stem)

    def entry(self, holes: Any, keep: Keep) -> dict[str, Any]:
        """Return the mask entry of holes; see `Raster`."""
        return self.raster.entry(holes, keep)

    def layer(self, path: Path) -> Any:
        """Return a layer with the coordinates of the image; what its attributes say holds for values alone."""
        values, array = self.raster.layer(path), self.array
        like = array if values.ndim == array.ndim else array.isel({array.dims[0]: 0}, drop=True)
        return like.copy(data=values) if path.name.endswith("_restored.tif") else like.copy(data=values).drop_attrs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A nibabel image, 3-D or 4-D; layers are images of the same class, in memory."""

    image: Any

    def saved(self, keep: Keep, stem: str) -> str:
        """Return the path of a NIfTI file as nibabel writes it."""
        return str(keep(f"{stem}.nii", partial(nibabel.save, self.image)))

    def entry(self, holes: Any, keep: Keep) -> dict[str, Any]:
        """Return the mask entry of an image on the same grid, or of an array of its shape or that of one volume.

        Raises:
            SourceError: an array of another shape.
        """
        if not hasattr(holes, "dataobj"):
            marked = np.asarray(holes) != 0
            if marked.shape not in (self.image.shape, self.image.shape[:3]):
                raise SourceError(f"holes of shape {marked.shape} do not fit an image of shape {self.image.shape}")
            header = self.image.header.copy()
            header.set_data_dtype(np.uint8)
            header.set_slope_inter(1, 0)
            holes = type(self.image)(marked.astype(np.uint8), self.image.affine, header)
        return {"kind": "raster", "path": str(keep("holes.nii", partial(nibabel.save, holes)))}

    def layer(self, path: Path) -> Any:
        """Return a layer as an image whose file is held in memory."""
        return type(self.image).from_bytes(path.read_bytes())


def _geotiff(values: NDArray[Any], profile: Mapping[str, Any], path: Path) -> None:
    planes = values.reshape(-1, *values.shape[-2:])
    native = np.ascontiguousarray(planes, dtype=planes.dtype.newbyteorder("="))
    size = dict(zip(("count", "height", "width"), native.shape, strict=True))
    with warnings.catch_warnings():
        # an image without a place on earth is nothing to warn of
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", dtype=native.dtype.name, **size, **profile) as file:
            file.write(native)


def _values(path: Path) -> NDArray[Any]:
    source = open_any(str(path))
    return source.read(Box.whole(source.space.shape))


def _raster_of(array: Any) -> Raster:
    """Return the values of a DataArray with its grid, as CF conventions and rioxarray write it."""
    name = array.attrs.get("grid_mapping") or array.encoding.get("grid_mapping") or "spatial_ref"
    mapping: Mapping[str, Any] = array.coords[name].attrs if name in array.coords else {}
    grid: dict[str, Any] = {}
    if crs := mapping.get("crs_wkt") or mapping.get("spatial_ref"):
        grid["crs"] = crs
    if "GeoTransform" in mapping:
        grid["transform"] = Affine.from_gdal(*(float(part) for part in str(mapping["GeoTransform"]).split()))
    elif (y := _start_and_step(array, array.dims[-2])) and (x := _start_and_step(array, array.dims[-1])):
        # coordinates are those of the middles of pixels
        grid["transform"] = Affine(x[1], 0, x[0] - x[1] / 2, 0, y[1], y[0] - y[1] / 2)
    return Raster(values=array.to_numpy(), grid=grid, nodata=array.attrs.get("_FillValue"))


def _start_and_step(array: Any, dim: str) -> tuple[float, float] | None:
    """Return the first coordinate and the step between coordinates; None without coordinates.

    Raises:
        SourceError: they are no regular grid.
    """
    if dim not in array.coords or array.sizes[dim] < 2:
        return None
    values = array.coords[dim].to_numpy().astype(np.float64)
    step = (values[-1] - values[0]) / (len(values) - 1)
    if step == 0 or np.abs(np.diff(values) - step).max() > _UNEVEN * abs(step):
        raise SourceError(f"coordinate '{dim}' is no regular grid; interpolate the array to one")
    return float(values[0]), float(step)
