"""Write one layer as a zarr v3 store that others open by its top folder: xarray and GDAL, or readers of OME-Zarr."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from pipeline.formats import _zarr_conventions as conventions
from pipeline.formats._files import writing
from pipeline.formats._image import knows_sides, pulled, representable, windows
from pipeline.formats.base import Layer, Pull, Source, WriteOptions
from pipeline.geometry.box import Box
from pipeline.geometry.orientation import Orientation, canonical_space
from pipeline.geometry.space import Space
from pipeline.system.files import publish
from pipeline.system.meter import lap

_CODES = ("source", "doubt")
"""Layers of codes: they have no units and no scale."""
_CHUNKS = {2: (1024, 1024), 3: (128, 128, 128)}


def write_store(layer: Layer, path: Path, like: Source, pull: Pull, options: WriteOptions) -> None:
    """Write one layer on the grid of `like` as a zarr v3 store, which appears under its name when complete.

    Uncertainty is in stored units for rasters and in physical units for volumes, as in the native formats. Chunks are
    unsharded and compressed with zstd, because GDAL does not open sharded arrays; it opens these from 3.11 on.

    Args:
        layer: what to write.
        path: folder to make; an existing one is replaced.
        like: the input.
        pull: gives the finished pixels of a box, in the order of the input.
        options: scratch folder and memory bound.

    Raises:
        OutputConflict: the store cannot be written.
    """
    with writing(path, options.scratch) as folder:
        building = folder / "product.zarr"
        root = zarr.open_group(building, mode="w", zarr_format=3)
        root.attrs[conventions.OWN] = {"role": layer.role, "tags": dict(layer.tags)}
        if like.space.kind == "raster":
            _write_raster(root, layer, like, pull, options)
        else:
            _write_volume(root, layer, like, pull, options)
        finish(building, complete=True)
        publish(building, path)


def finish(building: Path, **attributes: Any) -> None:
    """Consolidate the metadata of a store, then add the attributes that say that it is complete."""
    with warnings.catch_warnings():
        # consolidated metadata is no part of the v3 specification yet, but every reader knows it
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(building, zarr_format=3)
    zarr.open_group(building, mode="r+", zarr_format=3).attrs.update(attributes)


def _write_raster(root: Any, layer: Layer, like: Source, pull: Pull, options: WriteOptions) -> None:
    space = like.space
    names = _names(layer, like)
    root.attrs.update({"Conventions": conventions.CF, **conventions.raster_attributes(space)})
    write_coordinates(root, space, names)
    # xarray makes coordinates of what is named here, so the reference system is there without an option
    attributes = _array_attributes(layer, like, Orientation.none(2)) | {
        "long_name": names[0] if len(names) == 1 else list(names),
        "grid_mapping": "spatial_ref",
        "coordinates": "spatial_ref",
        **conventions.raster_attributes(space),
    }
    array = _create(root, layer.role, layer, (layer.n_channels, *space.shape), attributes)
    for box in windows(space.shape, array.chunks[1:], _pixel_bytes(layer), options.memory_bytes):
        values = pulled(pull, layer, box)
        with lap("encode"):
            array[(slice(None), *box.slices)] = values


def write_coordinates(root: Any, space: Space, bands: Sequence[str]) -> None:
    """Write the variables that say where the pixels of a raster lie, and what its bands are called."""
    reference = conventions.grid_mapping(space)
    root.create_array(
        "spatial_ref", data=np.int32(0).reshape(()), dimension_names=(), attributes=reference, compressors=None
    )
    for axis, values in conventions.pixel_centres(space).items():
        on_axis = conventions.coordinate_attributes(axis, space)
        root.create_array(axis, data=values, dimension_names=(axis,), attributes=on_axis)
    said = {"long_name": "band", "band_names": list(bands)}
    root.create_array("band", data=np.arange(1, len(bands) + 1), dimension_names=("band",), attributes=said)


def _write_volume(root: Any, layer: Layer, like: Source, pull: Pull, options: WriteOptions) -> None:
    turn, levels = Orientation.of(like.space), _levels(canonical_space(like.space))
    series = layer.n_channels > 1
    root.attrs["ome"] = conventions.ome_attributes(layer.role, levels, series=series, sides=knows_sides(like))
    lead = (layer.n_channels,) if series else ()
    attributes = _array_attributes(layer, like, turn)
    array = _create(root, "0", layer, (*lead, *levels[0].shape), attributes)
    for box in windows(levels[0].shape, array.chunks[-3:], _pixel_bytes(layer), options.memory_bytes):
        values = turn.canonical(pulled(pull, layer, turn.stored_box(box, like.space.shape)))
        with lap("encode"):
            array[(slice(None), *box.slices) if series else box.slices] = values if series else values[0]
    for number, (finer, level) in enumerate(pairwise(levels), start=1):
        factor = tuple(round(b / a) for a, b in zip(finer.spacing, level.spacing, strict=True))
        coarser = _create(root, str(number), layer, (*lead, *level.shape), {"long_name": layer.role})
        pixel_bytes = _pixel_bytes(layer) * 8 * 8
        for box in windows(level.shape, coarser.chunks[-3:], pixel_bytes, options.memory_bytes):
            fine = Box(*(tuple(v * f for v, f in zip(ends, factor, strict=True)) for ends in (box.start, box.stop)))
            region = (fine & Box.whole(finer.shape)).slices
            with lap("encode"):
                coarser[(..., *box.slices)] = _thinned(array[(..., *region)], factor, layer)
        array = coarser


def _levels(space: Space) -> list[Space]:
    """Return the grids of all levels: axes with the finest step are halved until one chunk holds the image."""
    levels = [space]
    while any(n > chunk for n, chunk in zip(levels[-1].shape, _CHUNKS[3], strict=True)):
        last = levels[-1]
        finest = min(step for n, step in zip(last.shape, last.spacing, strict=True) if n > 1)
        factor = [2 if n > 1 and s < 2 * finest else 1 for n, s in zip(last.shape, last.spacing, strict=True)]
        rows = np.reshape(last.affine, (3, 4)).copy()
        # a voxel lies in the middle of those it stands for
        rows[:, 3] += rows[:, :3] @ ((np.asarray(factor[::-1]) - 1) / 2)
        rows[:, :3] *= factor[::-1]
        shape = tuple(-(-n // f) for n, f in zip(last.shape, factor, strict=True))
        affine = tuple(rows.ravel().tolist())
        levels.append(Space(kind="volume", shape=shape, affine=affine, crs=space.crs, units=space.units))
    return levels


def _thinned(values: NDArray[Any], factor: tuple[int, ...], layer: Layer) -> NDArray[Any]:
    """Return cells of `factor` voxels: the mean of what is known, of codes the largest, so that thin holes stay."""
    ends = [(0, -n % f) for n, f in zip(values.shape[-3:], factor, strict=True)]
    padded = np.pad(values, [(0, 0)] * (values.ndim - 3) + ends, mode="edge")
    (nz, fz), (ny, fy), (nx, fx) = ((n // f, f) for n, f in zip(padded.shape[-3:], factor, strict=True))
    cells = padded.reshape(*values.shape[:-3], nz, fz, ny, fy, nx, fx)
    if layer.role in _CODES:
        return np.asarray(cells.max(axis=(-5, -3, -1)))
    nodata = representable(layer.nodata, layer.dtype)
    unknown = ~np.isfinite(cells) | (cells == (np.nan if nodata is None else layer.dtype.type(nodata)))
    mean = np.ma.masked_array(cells, unknown, dtype=np.float64).mean(axis=(-5, -3, -1))
    whole = mean if layer.dtype.kind == "f" else mean.round()
    # a cell of which nothing is known keeps what its first voxel says
    first, known = cells[..., 0, :, 0, :, 0], whole.filled(0).astype(layer.dtype)
    return np.where(np.ma.getmaskarray(mean), first, known)


def _create(root: Any, name: str, layer: Layer, shape: tuple[int, ...], attributes: dict[str, Any]) -> Any:
    raster = "band" in root
    ndim = 2 if raster else 3
    chunks = tuple(min(a, b) for a, b in zip(_CHUNKS[ndim], shape[-ndim:], strict=True))
    nodata = representable(layer.nodata, layer.dtype)
    if nodata is not None:
        attributes = attributes | {"_FillValue": conventions.fill_value_attribute(nodata, layer.dtype)}
    lead = len(shape) - ndim
    return root.create_array(
        name,
        shape=shape,
        chunks=(1,) * lead + chunks,
        dtype=layer.dtype,
        compressors=ZstdCodec(level=3, checksum=True),
        fill_value=0 if nodata is None else layer.dtype.type(nodata),
        dimension_names=(("band",) if raster else ("t",))[:lead] + ("z", "y", "x")[-ndim:],
        attributes=attributes,
    )


def _array_attributes(layer: Layer, like: Source, turn: Orientation) -> dict[str, Any]:
    scales = _scales(layer, like)
    restored = layer.is_image
    names = _names(layer, like)
    nodata = like.nodata if restored else (representable(layer.nodata, layer.dtype),) * len(names)
    own: dict[str, Any] = {
        "role": layer.role,
        "space": conventions.own_fields(like.space, turn),
        "channel_names": list(names),
        "nodata": [None if v is None else repr(v) for v in nodata],
        "scale_offset": [list(pair) for pair in scales],
        "fixed_channels": list(like.fixed_channels) if restored else [],
        "sides_stated": knows_sides(like),
    }
    if restored:
        own |= {name: like.attributes[name] for name in ("tags", "domains", "band_tags") if name in like.attributes}
    header = getattr(like, "prefix", None)
    if restored and header is not None:
        own["file_header"] = base64.b64encode(header()).decode()
    attributes: dict[str, Any] = {"long_name": layer.role, conventions.OWN: own}
    if len(set(scales)) == 1 and scales[0] != (1.0, 0.0):
        attributes["scale_factor"], attributes["add_offset"] = scales[0]
    if layer.categories:
        attributes |= conventions.flags(layer.categories)
    units = set(like.attributes.get("units", ())) if layer.role not in _CODES else set()
    if len(units) == 1 and "" not in units:
        attributes["units"] = units.pop()
    return attributes


def _names(layer: Layer, like: Source) -> tuple[str, ...]:
    return layer.channel_names or like.channel_names[: layer.n_channels]


def _scales(layer: Layer, like: Source) -> list[tuple[float, float]]:
    plain = layer.role in _CODES or (layer.role == "uncertainty" and like.space.kind == "volume")
    known = {} if plain else dict(zip(like.channel_names, like.scale_offset, strict=True))
    pairs = [known.get(name, (1.0, 0.0)) for name in _names(layer, like)]
    return [(scale, offset if layer.is_image else 0.0) for scale, offset in pairs]


def _pixel_bytes(layer: Layer) -> int:
    return layer.n_channels * layer.dtype.itemsize
