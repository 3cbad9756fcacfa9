"""Write a raster with its header as a cloud-optimised GeoTIFF: tiles first, then GDAL's COG driver copies them."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from pipeline.formats._categories import SIDECAR, name_categories
from pipeline.formats._drivers import require_drivers
from pipeline.formats._gdal import gdal_env, quiet, window_of
from pipeline.formats._image import pulled, windows
from pipeline.formats._nodata import creating
from pipeline.formats._photometric import mark_white_is_zero
from pipeline.formats._raster_header import RasterHeader, apply_header
from pipeline.formats.base import Layer, Pull, WriteOptions
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space
from pipeline.system.files import publish
from pipeline.system.meter import lap

_TILE = 512
# level 9 took twice as long as 3 and saved 5 % on a real scene
_ZSTD_LEVEL = 3
_PARKED = "inpaint-pipeline.default"
"""Domain that the default tags of bands lie in while GDAL copies: with domains of other names it drops those."""
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """What stands in a raster: finished values of a box, and its mask (255 = valid) or None if there is none."""

    pull: Pull
    mask: Callable[[Box], NDArray[np.uint8] | None] | None
    options: WriteOptions


def write_cog(layer: Layer, path: Path, header: RasterHeader, space: Space, pixels: Pixels, folder: Path) -> None:
    """Write the file by way of the scratch `folder`; what TIFF keys cannot hold goes to a file beside it (SIDECAR).

    Raises:
        PlanRefused: GDAL cannot write such files on this machine.
    """
    require_drivers("GTiff", "COG")
    tiled, finished = folder / "tiled.tif", folder / "cog.tif"
    apart = bool(header.domains) or any(band.domains for band in header.bands)
    with gdal_env(writing=True):
        with lap("write"):
            _write_tiled(tiled, layer, _with_parked_tags(header) if apart else header, space, pixels)
        with lap("encode"):
            _copy_cog(tiled, finished, "NEAREST" if layer.role in ("source", "doubt") else "AVERAGE", apart=apart)
    if apart:
        _unpark_tags(finished, sum(len(band.tags) for band in header.bands))
    if header.white_is_zero:
        mark_white_is_zero(finished)
    sidecar = finished.with_name(finished.name + SIDECAR)
    if layer.categories:
        name_categories(sidecar, layer.categories, layer.n_channels)
    if sidecar.exists():
        publish(sidecar, path.with_name(path.name + SIDECAR))
    publish(finished, path)


def _write_tiled(path: Path, layer: Layer, header: RasterHeader, space: Space, pixels: Pixels) -> None:
    rows, cols = space.shape
    colours = tuple(band.colorinterp for band in header.bands[:3])
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": layer.dtype,
        "count": layer.n_channels,
        "height": rows,
        "width": cols,
        "crs": header.crs,
        "transform": header.transform,
        "nodata": header.nodata,
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": _TILE,
        "interleave": "band",
        "compress": "ZSTD",
        "zstd_level": 1,
        "bigtiff": "IF_SAFER",
        "photometric": "RGB" if colours == _RGB else "MINISBLACK",
    }
    with quiet():
        dataset = creating(path, profile)
    with dataset:
        apply_header(dataset, header)
        pixel_bytes = layer.n_channels * layer.dtype.itemsize + 1
        for box in windows(space.shape, (_TILE, _TILE), pixel_bytes, pixels.options.memory_bytes):
            dataset.write(pulled(pixels.pull, layer, box), window=window_of(box))
            mask = pixels.mask(box) if pixels.mask else None
            if mask is not None:
                dataset.write_mask(mask, window=window_of(box))


def _with_parked_tags(header: RasterHeader) -> RasterHeader:
    bands = (replace(b, tags={}, domains={**b.domains, **({_PARKED: b.tags} if b.tags else {})}) for b in header.bands)
    return replace(header, bands=tuple(bands))


def _unpark_tags(path: Path, count: int) -> None:
    """Blank the name of the domain in the XML of the file's metadata: no byte moves, so the layout stays as it is."""
    name = f' domain="{_PARKED}"'.encode()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        for _ in range(count):
            at = content.find(name)
            if at < 0:
                break
            content[at : at + len(name)] = b" " * len(name)


def _copy_cog(tiled: Path, finished: Path, resampling: str, *, apart: bool) -> None:
    # overviews go to a file of GDAL's own first, at level 9 if none is named, which took more than all the rest
    with (
        quiet(),
        rasterio.Env(ZSTD_LEVEL_OVERVIEW=_ZSTD_LEVEL),
        # tiles are unpacked by threads, too, or all others wait for one
        rasterio.open(tiled, num_threads="ALL_CPUS") as source,
    ):
        rasterio.shutil.copy(
            source,
            finished,
            driver="COG",
            blocksize=_TILE,
            compress="ZSTD",
            level=_ZSTD_LEVEL,
            predictor="YES",
            bigtiff="IF_SAFER",
            overview_resampling=resampling,
            num_threads="ALL_CPUS",
            copy_src_mdd="YES" if apart else "AUTO",
        )
