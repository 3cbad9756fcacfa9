"""Arrays as rasters: a plain GeoTIFF, and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from pipeline.api.base import Keep, hole_mask, require_shape
from pipeline.errors import SourceError
from pipeline.formats import open_any
from pipeline.formats._nodata import creating
from pipeline.geometry.box import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """An array `(y, x)` or `(band, y, x)`, with its place on earth if that is known.

    What is masked in a `numpy.ma.MaskedArray` was not observed, and comes back masked unless it was restored.
    """

    values: NDArray[Any]
    grid: Mapping[str, Any] = field(default_factory=dict)
    """`crs` and `transform` as rasterio takes them, as far as they are known."""
    nodata: float | int | None = None

    def __post_init__(self) -> None:
        """Check what a raster can be."""
        if self.values.ndim not in (2, 3) or not self.values.size:
            raise SourceError(
                f"an array of shape {self.values.shape} is no raster: give (y, x) or (band, y, x); volumes come as "
                "nibabel images"
            )
        if self.values.dtype.kind not in "iuf" or not rasterio.dtypes.check_dtype(self.values.dtype.name):
            raise SourceError(
                f"an array of {self.values.dtype} cannot be restored; convert it to integers of 8 to 64 bits, to "
                "float32 or float64"
            )

    def saved(self, keep: Keep, stem: str) -> str:
        """Return the path of a plain GeoTIFF."""
        values, nodata = np.asarray(self.values), self.nodata
        unseen = np.ma.getmaskarray(self.values)
        if unseen.any():
            nodata = _spare(self.values)
            values = np.where(unseen, np.asarray(nodata, dtype=values.dtype), values)
        return str(keep(f"{stem}.tif", partial(_geotiff, values, {**self.grid, "nodata": nodata})))

    def entry(self, holes: Any, keep: Keep) -> dict[str, Any]:
        """Return the mask entry of holes `(y, x)`, or `(band, y, x)` for each band its own.

        Raises:
            SourceError: they have another shape than the image, or are no numbers.
        """
        found = hole_mask(holes)
        require_shape(found, self.values.shape, self.values.shape[-2:])
        path = keep("holes.tif", partial(_geotiff, found.astype(np.uint8), self.grid))
        return {"kind": "raster", "path": str(path), "band": "all" if found.ndim == 3 else 1}

    def layer(self, path: Path) -> NDArray[Any]:
        """Return a layer: one plane as `(y, x)`, unless the image has an axis for its one band."""
        values = values_of(path)
        plane = values[0] if len(values) == 1 and self.values.shape[:-2] != (1,) else values
        image = self.values
        if not (is_image(path) and isinstance(image, np.ma.MaskedArray)):
            return plane
        still = np.ma.getmaskarray(image)
        if still.any():
            spare = _spare(image)
            still = still & (np.isnan(plane) if np.isnan(spare) else plane == spare)
        whole = np.where(still, np.asarray(image), plane)
        return np.ma.MaskedArray(whole, mask=still, fill_value=image.fill_value)


def is_image(path: Path) -> bool:
    """Return True for the files that hold values of the image, restored or for looking at."""
    return path.stem.endswith(("_restored", "_display"))


def values_of(path: Path) -> NDArray[Any]:
    """Return all stored values of a file, `(c, *spatial)`."""
    source = open_any(str(path))
    return source.read(Box.whole(source.space.shape))


def _spare(values: Any) -> Any:
    """Return a value that no observed pixel has, to stand for what is masked.

    Raises:
        SourceError: there is none among those that are looked at.
    """
    if values.dtype.kind == "f":
        return np.nan
    seen, limits = values.compressed(), np.iinfo(values.dtype)
    wanted = int(values.fill_value)
    for spare in (limits.max, limits.min, wanted):
        if limits.min <= spare <= limits.max and spare not in seen:
            return spare
    raise SourceError(
        f"an array of {values.dtype} of which pixels are masked: no value is left to stand for them ({limits.min}, "
        f"{limits.max} and the fill value {wanted} are observed); set fill_value to one that no pixel has, or convert "
        "it to a wider type"
    )


def _geotiff(values: NDArray[Any], profile: Mapping[str, Any], path: Path) -> None:
    planes = values.reshape(-1, *values.shape[-2:])
    native = np.ascontiguousarray(planes, dtype=planes.dtype.newbyteorder("="))
    count, height, width = native.shape
    fields = {"driver": "GTiff", "dtype": native.dtype.name, "count": count, "height": height, "width": width}
    with warnings.catch_warnings():
        # an image without a place on earth is nothing to warn of
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with creating(path, fields | {"crs": None, "transform": None, "nodata": None} | dict(profile)) as file:
            file.write(native)
