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

from pipeline.errors import SourceError
from pipeline.formats import _zarr_conventions as conventions
from pipeline.formats._files import require_file, untrusted
from pipeline.formats._image import Image, representable, require_channels, require_plausible, unobserved
from pipeline.formats._zarr_write import write_store
from pipeline.formats.base import Layer, Pull, Source, WriteOptions
from pipeline.geometry.box import Box
from pipeline.geometry.orientation import Orientation
from pipeline.geometry.space import Space
from pipeline.system.meter import reads

SUFFIXES = (".ome.zarr", ".zarr")
SPACE_KINDS = ("raster", "volume")
_MAX_CHUNK_BYTES = 2**30


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
    """

    array: Any = field(repr=False, compare=False)
    selected: tuple[int, ...]
    turn: Orientation

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
                values[at] = self.turn.stored(self.array[region].reshape(inside.shape))
        return values

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return True where nothing was observed: nodata, NaN or infinity; shape `(c or 1, *box.shape)`."""
        self.require_inside(box)
        if not np.issubdtype(self.dtype, np.floating) and all(v is None for v in self.nodata):
            return np.zeros((1, *box.shape), dtype=np.bool_)
        values = self.read(box)
        return np.stack([unobserved(v, nodata) for v, nodata in zip(values, self.nodata, strict=True)])


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
    with untrusted(path, "unreadable zarr metadata", "copy the store again"):
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
    own: Mapping[str, Any] = array.attrs.get(conventions.OWN, {})
    space, turn = _space(path, array, parent, multiscale, own)
    count = require_channels(path, math.prod(array.shape[: array.ndim - space.ndim]))
    names = tuple(map(str, own.get("channel_names", ()))) or tuple(f"band_{i + 1}" for i in range(count))
    if len(names) != count:
        raise SourceError(f"{path}: {len(names)} names for {count} channels; copy the store again")
    chosen = _select(path, names, bands)
    declared = [conventions.number(v) for v in own.get("nodata", ())]
    if not declared:
        declared = [conventions.decode_fill_value(array.attrs.get("_FillValue"))] * count
    cf = (float(array.attrs.get("scale_factor", 1.0)), float(array.attrs.get("add_offset", 0.0)))
    scales = [(float(s), float(o)) for s, o in own.get("scale_offset", ())] or [cf] * count
    fixed = tuple(at for at, channel in enumerate(chosen) if channel in own.get("fixed_channels", ()))
    values = [declared[c] if nodata is None else nodata for c in chosen]
    facts = {"zarr_format": 3, "units": list(map(str, own.get("units", []))), "tags": own.get("tags", {})}
    if space.kind == "volume":
        facts["sides_stated"] = bool(own.get("sides_stated", "space" in own or conventions.states_sides(multiscale)))
    return Zarr(
        kind="zarr",
        paths=(path,),
        space=space,
        n_channels=len(chosen),
        dtype=np.dtype(array.dtype).newbyteorder("="),
        channel_names=tuple(names[c] for c in chosen),
        nodata=tuple(None if i in fixed else representable(v, array.dtype) for i, v in enumerate(values)),
        scale_offset=tuple(scales[c] for c in chosen),
        native_chunk=tuple(array.chunks[-space.ndim :]),
        attributes={
            "zarr_format": 3,
            "units": list(map(str, own.get("units", []))),
            "tags": own.get("tags", {}),
            "domains": own.get("domains", {}),
            "band_tags": [found[c] for c in chosen] if (found := own.get("band_tags")) else [],
        },
        fixed_channels=fixed,
        array=array,
        selected=chosen,
        turn=turn,
    )


def _open_node(path: str) -> Any:
    if (Path(path) / ".zgroup").exists() or (Path(path) / ".zarray").exists():
        raise SourceError(f"{path}: this is zarr v2; convert it to v3 (`zarr migrate v3`)")
    if not sniff(path):
        raise SourceError(f"{path}: no zarr.json in it, so it is no zarr v3 group or array; check the path")
    with untrusted(path, "unreadable zarr metadata", "copy the store again"):
        return zarr.open(path, mode="r", zarr_format=3)


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
        parent = zarr.open_group(above, mode="r") if sniff(str(above)) else None
        return node, parent, conventions.ome_level(parent, Path(path).name)
    if conventions.OWN in node.attrs and not node.attrs.get("complete"):
        raise SourceError(f"{path}: this product was never finished; run its job again")
    if "ome" in node.attrs:
        multiscale = node.attrs["ome"]["multiscales"][0]
        return node[multiscale["datasets"][0]["path"]], node, multiscale
    # an early product of this program held its layers as groups
    if "restored" in node:
        inner = node["restored"]
        return (inner, node, None) if isinstance(inner, zarr.Array) else _image_array(path, inner)
    images = [name for name, array in node.arrays() if array.ndim >= 2]
    if len(images) != 1:
        raise SourceError(f"{path}: {len(images)} image arrays ({', '.join(images)}); name one: {path}/NAME")
    return node[images[0]], node, None


def _space(path: str, array: Any, parent: Any, multiscale: Any, own: Mapping[str, Any]) -> tuple[Space, Orientation]:
    """Return the grid of the image as it is read, and how the array is turned against it."""
    if "space" in own:
        return conventions.own_space(path, own["space"], array.shape)
    dims = tuple(array.metadata.dimension_names or ())
    if multiscale is not None:
        dims = tuple(axis["name"] for axis in multiscale["axes"])
    if dims[-3:] == ("z", "y", "x") and array.ndim <= 4:
        space = conventions.ome_space(array.shape[-3:], multiscale or {"datasets": [{}], "axes": []})
        return space, Orientation.none(3)
    if dims[-2:] == ("y", "x") and array.ndim <= 3:
        space = conventions.foreign_raster_space(path, array.shape[-2:], parent, dict(array.attrs))
        return space, Orientation.none(2)
    raise SourceError(
        f"{path}: dimensions {dims or array.shape} are not those of an image; "
        "name them (y, x), (band, y, x), (z, y, x) or (t, z, y, x)"
    )


def _select(path: str, names: tuple[str, ...], bands: Sequence[int | str] | None) -> tuple[int, ...]:
    if bands is None:
        return tuple(range(len(names)))
    known: dict[int | str, int] = {name: at for at, name in enumerate(names)}
    known |= {at + 1: at for at in range(len(names))}
    unknown = [band for band in bands if band not in known]
    if unknown or not bands:
        raise SourceError(f"{path}: no band {unknown}; use 1-{len(names)} or one of: {', '.join(names)}")
    return tuple(known[band] for band in bands)


def write(layer: Layer, path: Path, like: Source, pull: Pull, options: WriteOptions) -> None:
    """Write one layer as a zarr v3 group; see `write_zarr_product`."""
    write_zarr_product(path, [(layer, pull)], like, options)


def write_zarr_product(path: Path, layers: Sequence[tuple[Layer, Pull]], like: Source, options: WriteOptions) -> None:
    """Write layers on the grid of `like` into one zarr v3 group, which appears under its name when complete.

    Uncertainty is in stored units for rasters and in physical units for volumes, as in the native formats.
    Chunks are unsharded because GDAL (3.12) does not open sharded arrays.

    Args:
        path: folder to make; an existing one is replaced.
        layers: what to write, each with the function that gives its pixels.
        like: the input.
        options: scratch folder and memory bound.

    Raises:
        OutputConflict: the store cannot be written.
    """
    with writing(path, options.scratch) as folder:
        building = folder / "product.zarr"
        root = zarr.open_group(building, mode="w", zarr_format=3)
        root.attrs.update(_root_attributes(like, layers))
        if like.space.kind == "raster":
            _write_coordinates(root, like.space)
        for layer, pull in layers:
            _write_layer(root, layer, like, pull, options)
        _finish(building)
        publish(building, path)


def _finish(building: Path) -> None:
    with warnings.catch_warnings():
        # consolidated metadata is no part of the v3 specification yet, but every reader knows it
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(building, zarr_format=3)
    zarr.open_group(building, mode="r+", zarr_format=3).attrs["complete"] = True


def _root_attributes(like: Source, layers: Sequence[tuple[Layer, Pull]]) -> dict[str, Any]:
    tags = {key: value for layer, _ in layers for key, value in layer.tags.items()}
    attributes = {conventions.OWN: {"layers": [layer.role for layer, _ in layers], "tags": tags}}
    if like.space.kind == "raster":
        return {"Conventions": "CF-1.11", **conventions.raster_attributes(like.space), **attributes}
    return attributes


def _write_coordinates(root: Any, space: Space) -> None:
    root.create_array(
        "spatial_ref",
        data=np.int32(0).reshape(()),
        dimension_names=(),
        attributes=conventions.grid_mapping(space),
    )
    for axis, values in conventions.pixel_centres(space).items():
        root.create_array(
            axis,
            data=values,
            dimension_names=(axis,),
            attributes=conventions.coordinate_attributes(axis, space),
        )


def _write_layer(root: Any, layer: Layer, like: Source, pull: Pull, options: WriteOptions) -> None:
    space = like.space
    chunks = tuple(min(a, b) for a, b in zip(_CHUNKS[space.ndim], space.shape, strict=True))
    nodata = representable(layer.nodata, layer.dtype)
    series = space.kind == "raster" or layer.n_channels > 1
    lead = ("band",) if space.kind == "raster" else ("t",)
    parent, name = root, str(layer.role)
    if space.kind == "volume":
        ome = conventions.ome_attributes(layer.role, space, series=series)
        parent, name = root.create_group(layer.role, attributes={"ome": ome}), "0"
    array = parent.create_array(
        name,
        shape=(*((layer.n_channels,) if series else ()), *space.shape),
        chunks=(*((1,) if series else ()), *chunks),
        dtype=layer.dtype,
        compressors=ZstdCodec(level=3, checksum=True),
        fill_value=0 if nodata is None else layer.dtype.type(nodata),
        dimension_names=(*(lead if series else ()), *("z", "y", "x")[-space.ndim :]),
        attributes=_array_attributes(layer, like, nodata),
    )
    pixel_bytes = layer.n_channels * layer.dtype.itemsize
    for box in windows(space.shape, chunks, pixel_bytes, options.memory_bytes):
        values = pulled(pull, layer, box)
        array[(slice(None), *box.slices) if series else box.slices] = values if series else values[0]


def _array_attributes(layer: Layer, like: Source, nodata: float | None) -> dict[str, Any]:
    scales = _scales(layer, like)
    restored = layer.role == "restored"
    names = layer.channel_names or like.channel_names[: layer.n_channels]
    space = like.space
    own: dict[str, Any] = {
        "role": layer.role,
        "space": {
            "kind": space.kind,
            "shape": space.shape,
            "affine": space.affine,
            "crs": space.crs,
            "units": space.units,
        },
        "channel_names": list(names),
        "nodata": [None if v is None else repr(v) for v in (like.nodata if restored else (nodata,) * len(names))],
        "scale_offset": [list(pair) for pair in scales],
        "fixed_channels": list(like.fixed_channels) if restored else [],
    }
    if restored:
        own |= {name: like.attributes[name] for name in ("tags", "domains", "band_tags") if name in like.attributes}
    header = getattr(like, "prefix", None)
    if restored and header is not None:
        own["file_header"] = base64.b64encode(header()).decode()
    attributes: dict[str, Any] = {"long_name": layer.role, conventions.OWN: own}
    if nodata is not None:
        attributes["_FillValue"] = conventions.fill_value_attribute(nodata, layer.dtype)
    if len(set(scales)) == 1 and scales[0] != (1.0, 0.0):
        attributes["scale_factor"], attributes["add_offset"] = scales[0]
    units = set(like.attributes.get("units", ())) if layer.role not in _CODES else set()
    if len(units) == 1 and "" not in units:
        attributes["units"] = units.pop()
    if space.kind == "raster":
        attributes |= {"grid_mapping": "spatial_ref", **conventions.raster_attributes(space)}
    return attributes


def _scales(layer: Layer, like: Source) -> list[tuple[float, float]]:
    plain = layer.role in _CODES or (layer.role == "uncertainty" and like.space.kind == "volume")
    known = {} if plain else dict(zip(like.channel_names, like.scale_offset, strict=True))
    names = layer.channel_names or like.channel_names[: layer.n_channels]
    pairs = [known.get(name, (1.0, 0.0)) for name in names]
    return [(scale, offset if layer.role == "restored" else 0.0) for scale, offset in pairs]
