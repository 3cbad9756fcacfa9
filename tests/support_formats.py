"""Makes small rasters and volumes for the tests of the formats."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from pipeline.formats._image import Image, unobserved
from pipeline.formats.base import Layer, WriteOptions
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space

UTM33 = rasterio.crs.CRS.from_epsg(32633).to_wkt()
DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryImage(Image):
    """An image that lives in an array `(c, *spatial)`: the oracle for readers and writers."""

    values: NDArray[Any] = field(repr=False, compare=False)

    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return a copy of the window."""
        return self.values[channels][(slice(None), *box.slices)].copy()

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return True at nodata and non-finite values."""
        return np.stack([unobserved(v, n) for v, n in zip(self.read(box), self.nodata, strict=True)])


def space_of(shape: tuple[int, ...]) -> Space:
    """Return a UTM grid for two axes, an oblique RAS+ grid for three; all numbers are exact in float32."""
    if len(shape) == 2:
        return Space(kind="raster", shape=shape, affine=(10, 0, 5e5, 0, -10, 5e6), crs=UTM33, units="m")
    affine = (1.0, 0.25, 0.0, -90.0, -0.25, 1.0, 0.0, -126.0, 0.0, 0.0, 2.5, -72.0)
    return Space(kind="volume", shape=shape, affine=affine, crs="RAS+", units="mm")


def random_values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray[Any]:
    """Return values over the whole range of `dtype`, with NaN, -0.0, infinity and extremes."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    raw = rng.integers(0, 256, size=int(np.prod(shape)) * kind.itemsize, dtype=np.uint8)
    values = raw.view(kind).reshape(shape).copy()
    if kind.kind == "f":
        # arbitrary bits hold NaNs with payloads, which must travel untouched
        keep = rng.random(shape) < 0.05
        values = np.where(keep, values, rng.normal(size=shape).astype(kind))
        awkward = np.array([np.nan, -0.0, np.inf, -np.inf, np.finfo(kind).max], dtype=kind)
        values.flat[: min(5, values.size)] = awkward[: min(5, values.size)]
    return values


def memory_image(shape: tuple[int, ...], dtype: str, *, channels: int = 1, seed: int = 0) -> MemoryImage:
    """Return a random image on a plausible grid; rasters declare nodata and a scale, volumes a slope."""
    space = space_of(shape)
    raster = space.kind == "raster"
    nodata = (float("nan") if np.dtype(dtype).kind == "f" else 0.0) if raster else None
    bands, volumes = (tuple(f"{word}{i + 1}" for i in range(channels)) for word in ("B", "volume_"))
    return MemoryImage(
        kind="memory",
        paths=("memory",),
        space=space,
        n_channels=channels,
        dtype=np.dtype(dtype),
        channel_names=bands if raster else volumes if channels > 1 else ("volume",),
        nodata=(nodata,) * channels,
        scale_offset=((0.5, -1.0),) * channels,
        native_chunk=shape,
        values=random_values((channels, *shape), dtype, seed),
    )


def layer_of(source: Any, role: str = "restored", **changes: Any) -> Layer:
    """Return the layer that keeps everything of `source`."""
    fields = {
        "role": role,
        "n_channels": source.n_channels,
        "dtype": source.dtype,
        "nodata": source.nodata[0],
        "channel_names": source.channel_names,
    }
    return Layer(**{**fields, **changes})


def options(tmp_path: Path, memory_bytes: int = 256 * 2**20) -> WriteOptions:
    """Return write options with a scratch folder in `tmp_path`."""
    return WriteOptions(scratch=tmp_path / "scratch", memory_bytes=memory_bytes)


def whole(source: Any) -> Box:
    """Return the box of the whole image."""
    return Box.whole(source.space.shape)


def digest(path: Path) -> str:
    """Return one hash over a file, or over names and bytes of all files in a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        total.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def same_bytes(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Return True if shape, dtype and every bit agree (NaN payloads and the sign of zero included)."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def write_tiff(path: Path, values: NDArray[Any], *, setup: Any = None, **profile: Any) -> Path:
    """Write a plain GeoTIFF with rasterio; `setup(dataset)` adds header fields before the pixels."""
    defaults = {"crs": UTM33, "transform": Affine(10, 0, 5e5, 0, -10, 5e6), "driver": "GTiff"}
    count, height, width = values.shape
    fields = {**defaults, "count": count, "height": height, "width": width, "dtype": values.dtype, **profile}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **fields) as dataset:
            if setup:
                setup(dataset)
            dataset.write(values)
    return path


def write_nifti(path: Path, values: NDArray[Any], *, setup: Any = None, version: int = 1, order: str = "<") -> Path:
    """Write `values` (i, j, k, ...) with nibabel, unscaled; `setup(header)` changes the header first."""
    kinds = {1: (nibabel.Nifti1Image, nibabel.Nifti1Header), 2: (nibabel.Nifti2Image, nibabel.Nifti2Header)}
    image_kind, header_kind = kinds[version]
    header = header_kind(endianness=order)
    header.set_data_dtype(values.dtype.newbyteorder(order))
    header.set_xyzt_units("mm", "sec")
    affine = np.array([[1, 0.25, 0, -90], [-0.25, 1, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]], dtype=float)
    image = image_kind(values, affine, header, dtype=values.dtype)
    image.set_sform(affine, code=1)
    if setup:
        setup(image.header)
    nibabel.save(image, path)
    return path
