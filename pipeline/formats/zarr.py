"""zarr v3: one store a layer, for science; and plain zarr v3 arrays as input.

The store of a raster is a group that xarray opens: the layer `(band, y, x)` beside its coordinates `band`, `y`, `x` and
`spatial_ref`. That of a volume is an OME-Zarr 0.5 image, in canonical order whatever the order of the input was, and
read in the input's order again. `complete: true` is the last thing written; how it is written: `_zarr_write`.
Spec: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.formats import _zarr_conventions as conventions
from pipeline.formats._cf_validity import ANYTHING, Validity, number_of, validity_of
from pipeline.formats._files import require_file, untrusted
from pipeline.formats._image import Image, representable, require_channels, require_once, require_plausible, unobserved
from pipeline.formats._zarr_codecs import reading_metadata
from pipeline.formats._zarr_write import write_store
from pipeline.formats.base import Layer, Pull, Source, WriteOptions
from pipeline.geometry.box import Box
from pipeline.geometry.orientation import Orientation
from pipeline.geometry.space import Space
from pipeline.system.meter import reads

SUFFIXES = (".ome.zarr", ".zarr")
SPACE_KINDS = ("raster", "volume")
_MAX_CHUNK_BYTES = 2**30
_SHOWN = 5
"""Arrays that a message names."""
_LOOKED_FOR = 256
"""Chunks that are looked for on disk when an array is opened: each may take a while on a folder of a network."""


def sniff(path: str) -> bool:
    """Return True if the folder holds zarr v3 metadata."""
    return (Path(path) / "zarr.json").is_file()


@dataclass(frozen=True, slots=True, kw_only=True)
class Zarr(Image):
    """An opened array, `(y, x)`, `(c, y, x)`, `(z, y, x)` or `(c, z, y, x)`; see `base.Source`.

    Attributes:
        array: zarr's own array: picklable, thread-safe, lazy.
        selected: which channels of the array are used, counted from 0.
        turn: how the array was turned when it was written; reading turns it back.
        validity: what the attributes of the array rule out.
    """

    array: Any = field(repr=False, compare=False)
    selected: tuple[int, ...]
    turn: Orientation
    validity: Validity = ANYTHING

    @reads
    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return stored values, shape `(c, *box.shape)`.

        Raises:
            SourceError: a chunk is damaged; names array and window.
            ValueError: the box reaches out of the image.
        """
        self.require_inside(box)
        chosen = self.selected[channels]
        values = np.empty((len(chosen), *box.shape), dtype=self.dtype)
        lone = self.array.ndim == box.ndim
        inside = self.turn.canonical_box(box, self.space.shape)
        problem, remedy = f"cannot read window {box.start}-{box.stop}", "a chunk is damaged, copy the store again"
        with untrusted(self.paths[0], problem, remedy):
            for at, channel in enumerate(chosen):
                region = inside.slices if lone else (slice(channel, channel + 1), *inside.slices)
                _require_files(self.array, region)
                stored = self.array[region].reshape(inside.shape)
                if stored.dtype.kind != self.dtype.kind:
                    # other numbers for the same bits
                    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False).view(self.dtype)
                values[at] = self.turn.stored(stored)
        return values

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return True where nothing was observed: nodata, NaN or infinity; shape `(c or 1, *box.shape)`."""
        self.require_inside(box)
        declared = any(v is not None for v in self.nodata) or self.validity
        if not np.issubdtype(self.dtype, np.floating) and not declared:
            return np.zeros((1, *box.shape), dtype=np.bool_)
        found = zip(self.read(box), self.nodata, strict=True)
        return np.stack([unobserved(values, nodata) | self.validity.violated(values) for values, nodata in found])


def open_source(paths: Sequence[str], *, bands: Sequence[int | str] | None = None, nodata: float | None = None) -> Zarr:
    """Open one zarr v3 array, or the `restored` (or only) image array of a group.

    Args:
        paths: exactly one folder; `group.zarr/uncertainty` names an array inside.
        bands: channels to use, by 1-based index or by name; None = all.
        nodata: overrides `_FillValue`.

    Raises:
        SourceError: no zarr v3, not finished, or no array with the axes of an image.
    """
    if len(paths) != 1:
        raise SourceError(f"{len(paths)} zarr stores given as one image; give one store per source")
    path = str(paths[0])
    require_file(path, folder=True, local=True)
    node = _open_node(path)
    with reading_metadata(path):
        image = _describe(path, node, bands, nodata)
    require_plausible(image)
    chunk = math.prod(image.array.chunks) * image.dtype.itemsize
    if chunk > _MAX_CHUNK_BYTES:
        raise SourceError(f"{path}: one chunk has {chunk} bytes, and is decoded whole; rewrite it in smaller chunks")
    return image


def _describe(path: str, node: Any, bands: Sequence[int | str] | None, nodata: float | None) -> Zarr:
    array, parent, multiscale = _image_array(path, node)
    if array.dtype.kind not in "iuf":
        raise SourceError(f"{path}: values of type {array.dtype} cannot be restored; use integer or float")
    if 0 in array.chunks:
        raise SourceError(f"{path}: its chunks, {array.chunks}, hold no pixel; copy the store again")
    own: Mapping[str, Any] = array.attrs.get(conventions.OWN, {})
    space, turn, said = _space(path, array, parent, multiscale, own)
    dtype = conventions.dtype_of(array)
    channels = _channels(path, array, parent, own, space.ndim, nodata)
    chosen = _select(path, channels.names, bands)
    fixed = tuple(at for at, channel in enumerate(chosen) if channel in own.get("fixed_channels", ()))
    values = [channels.nodata[c] for c in chosen]
    attributes = _attributes(array, own, chosen, len(channels.names))
    if space.kind == "volume":
        stated = "space" in own or conventions.states_sides(multiscale)
        attributes["sides_stated"] = bool(own.get("sides_stated", stated))
    return Zarr(
        kind="zarr",
        paths=(path,),
        space=space,
        n_channels=len(chosen),
        dtype=dtype,
        channel_names=tuple(channels.names[c] for c in chosen),
        nodata=tuple(None if i in fixed else representable(v, dtype) for i, v in enumerate(values)),
        scale_offset=tuple(channels.scale_offset[c] for c in chosen),
        native_chunk=turn.stored_shape(tuple(array.chunks[-space.ndim :])),
        attributes=attributes,
        fixed_channels=fixed,
        notices=(
            *said,
            *_notices_of_others(path, node),
            *([channels.validity.said(path)] if channels.validity else []),
            *(() if own else _notices_of_unwritten(path, array, values)),
        ),
        array=array,
        selected=chosen,
        turn=turn,
        validity=channels.validity,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Channels:
    """What is said of each channel of an array, whether it is used or not."""

    names: tuple[str, ...]
    nodata: tuple[float | None, ...]
    scale_offset: tuple[tuple[float, float], ...]
    validity: Validity = ANYTHING


def _channels(path: str, array: Any, parent: Any, own: Mapping[str, Any], ndim: int, nodata: float | None) -> _Channels:
    """Return what this program wrote of the channels (`own`), else what CF says; `nodata` overrules both.

    Raises:
        SourceError: there are too many channels, names for another number of them, or attributes that are no numbers.
    """
    count = require_channels(path, math.prod(array.shape[: array.ndim - ndim]))
    names = tuple(map(str, own.get("channel_names", ()))) or conventions.foreign_names(array, parent, ndim, count)
    if len(names) != count:
        raise SourceError(f"{path}: {len(names)} names for {count} channels; copy the store again")
    cf = (number_of(path, array.attrs, "scale_factor", 1.0), number_of(path, array.attrs, "add_offset", 0.0))
    scales = tuple((float(s), float(o)) for s, o in own.get("scale_offset", ())) or (cf,) * count
    if nodata is not None:
        return _Channels(names=names, nodata=(nodata,) * count, scale_offset=scales)
    declared = tuple(conventions.number(v) for v in own.get("nodata", ()))
    if declared:
        return _Channels(names=names, nodata=declared, scale_offset=scales)
    dtype = conventions.dtype_of(array)
    meaningless = conventions.declared_nodata(path, array.attrs, dtype)
    ruled_out = validity_of(path, array.attrs, dtype, meaningless)
    return _Channels(names=names, nodata=(meaningless,) * count, scale_offset=scales, validity=ruled_out)


def _attributes(array: Any, own: Mapping[str, Any], chosen: Sequence[int], count: int) -> dict[str, Any]:
    """Return units and tags of the image, and of the channels that were chosen among `count`."""
    band_tags = own.get("band_tags")
    cf_units = [array.attrs["units"]] * count if "units" in array.attrs else []
    return {
        "zarr_format": 3,
        "units": list(map(str, own.get("units", cf_units))),
        "tags": own.get("tags", {}),
        "domains": own.get("domains", {}),
        "band_tags": [band_tags[c] for c in chosen] if band_tags else [],
    }


def _notices_of_others(path: str, node: Any) -> tuple[str, ...]:
    """Say that a group of OME-Zarr has more images than the one that is read."""
    images = node.attrs.get("ome", {}).get("multiscales", ()) if isinstance(node, zarr.Group) else ()
    if len(images) < 2:
        return ()
    first, *others = (f"{path}/{image['datasets'][0]['path']}" for image in images)
    return (f"{path}: holds {len(images)} images; {first} is read, the others are {', '.join(others[:_SHOWN])}",)


def _notices_of_unwritten(path: str, array: Any, nodata: Sequence[float | None]) -> tuple[str, ...]:
    """Say that chunks of an array are not stored: they hold its fill value, though perhaps nothing was observed there.

    Chunks that hold nothing else are left out by most writers, so a value it is. Of many chunks some all over the array
    are looked for.
    """
    fill = array.fill_value
    if not np.isfinite(fill) or fill in nodata:
        return ()
    sizes = array.shards or array.chunks
    grid = [-(-n // size) for n, size in zip(array.shape, sizes, strict=True)]
    places = np.unique(np.linspace(0, math.prod(grid) - 1, min(math.prod(grid), _LOOKED_FOR)).astype(np.int64))
    folder = Path(array.store.root, array.path)
    names = (
        array.metadata.encode_chunk_key(tuple(map(int, at))) for at in zip(*np.unravel_index(places, grid), strict=True)
    )
    unwritten = sum(not (folder / name).exists() for name in names)
    if not unwritten:
        return ()
    share = f"{100 * unwritten / len(places):.3g} % of its chunks are not stored and hold its fill value {fill}"
    return (f"{path}: {share}, which counts as observed; if it means nothing, write `input.nodata: {fill}`",)


def _open_node(path: str) -> Any:
    if (Path(path) / ".zgroup").exists() or (Path(path) / ".zarray").exists():
        raise SourceError(f"{path}: this is zarr v2; convert it to v3 (`zarr migrate v3`)")
    if not sniff(path):
        raise SourceError(f"{path}: no zarr.json in it, so it is no zarr v3 group or array; check the path")
    with reading_metadata(path):
        # what is consolidated may be of an earlier state: arrays say themselves how long they are
        return zarr.open(path, mode="r", zarr_format=3, use_consolidated=False)


def _require_files(array: Any, region: tuple[slice, ...]) -> None:
    """Check that the chunks of a region are files: reading a pipe would never end.

    Raises:
        SourceError: names the one that is none.
    """
    sizes = array.shards or array.chunks
    ranges = [range(s.start // n, -(-s.stop // n)) for s, n in zip(region, sizes, strict=True)]
    folder = Path(array.store.root, array.path)
    for place in product(*ranges):
        chunk = folder / array.metadata.encode_chunk_key(place)
        if chunk.exists():
            require_file(str(chunk))


def _image_array(path: str, node: Any) -> tuple[Any, Any, Any]:
    """Return `(array, its group or None, its OME multiscale or None)`; the level that is used is the first of it."""
    if isinstance(node, zarr.Array):
        above = Path(path).parent
        parent = zarr.open_group(above, mode="r", use_consolidated=False) if sniff(str(above)) else None
        return node, parent, conventions.ome_level(parent, Path(path).name)
    if conventions.OWN in node.attrs and not node.attrs.get("complete"):
        raise SourceError(f"{path}: this product was never finished; run its job again")
    if "ome" in node.attrs:
        level, multiscale = conventions.ome_image(path, node)
        return level, node, multiscale
    # an early product of this program held its layers as groups
    if "restored" in node:
        inner = node["restored"]
        return (inner, node, None) if isinstance(inner, zarr.Array) else _image_array(path, inner)
    images = [name for name, array in node.arrays() if array.ndim >= 2]
    if not images:
        raise SourceError(f"{path}: a group without an image; {_below(path, node)}")
    if len(images) != 1:
        raise SourceError(f"{path}: {len(images)} image arrays ({', '.join(images)}); name one: {path}/NAME")
    return node[images[0]], node, None


def _below(path: str, group: Any) -> str:
    """Say which arrays lie deeper in a group, as their paths are given."""
    deeper = sorted(name for name, member in group.members(max_depth=None) if isinstance(member, zarr.Array))
    if not deeper:
        return "there is no array in it"
    shown = ", ".join(f"{path}/{name}" for name in deeper[:_SHOWN])
    return f"give one of its arrays: {shown}" + (f" and {len(deeper) - _SHOWN} more" if deeper[_SHOWN:] else "")


def _space(
    path: str, array: Any, parent: Any, multiscale: Any, own: Mapping[str, Any]
) -> tuple[Space, Orientation, tuple[str, ...]]:
    """Return the grid of the image as it is read, how the array is turned against it, and what is to be said of it."""
    if "space" in own:
        return *conventions.own_space(path, own["space"], array.shape), ()
    dims = tuple(array.metadata.dimension_names or ())
    if multiscale is not None:
        dims = tuple(axis["name"] for axis in multiscale["axes"])
    if dims[-3:] == ("z", "y", "x") and array.ndim <= 4:
        space = conventions.ome_space(path, array.shape[-3:], multiscale or {"datasets": [{}], "axes": []})
        return space, Orientation.none(3), ()
    if dims[-2:] in conventions.PLANES and array.ndim <= 3:
        space, said = conventions.foreign_raster_space(path, array.shape[-2:], dims[-2:], parent, dict(array.attrs))
        return space, Orientation.none(2), said
    if not any(dims):
        raise SourceError(
            f"{path}: the dimensions of shape {array.shape} have no names, so it is not known which of them are space; "
            "write it with xarray, or with `dimension_names`: (y, x), (band, y, x), (z, y, x) or (t, z, y, x)"
        )
    if dims[-2:] in conventions.PLANES:
        raise SourceError(
            f"{path}: dimensions {dims} are those of a cube, and one image is (band, y, x); take one out, e.g. "
            f"`xarray.open_zarr(...).isel({dims[0]}=0).to_zarr(...)`"
        )
    raise SourceError(
        f"{path}: dimensions {dims} are not those of an image; name and order them (y, x), (band, y, x), (z, y, x) or "
        "(t, z, y, x); (lat, lon) and (latitude, longitude) do for (y, x)"
    )


def _select(path: str, names: tuple[str, ...], bands: Sequence[int | str] | None) -> tuple[int, ...]:
    if bands is None:
        return tuple(range(len(names)))
    known: dict[int | str, int] = {name: at for at, name in enumerate(names)}
    known |= {at + 1: at for at in range(len(names))}
    unknown = [band for band in bands if band not in known]
    if unknown or not bands:
        raise ConfigError(f"{path}: no band {unknown}; use 1-{len(names)} or one of: {', '.join(names)}")
    chosen = tuple(known[band] for band in bands)
    require_once(path, bands, chosen)
    return chosen


def write(layer: Layer, path: Path, like: Source, pull: Pull, options: WriteOptions) -> None:
    """Write one layer as a zarr v3 store; see `_zarr_write.write_store`."""
    write_store(layer, path, like, pull, options)
