"""Everything a raster file says beside its pixels, as one value that can be written again.

GDAL's data model is the reference: https://gdal.org/en/stable/user/raster_data_model.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from pipeline.formats._nodata import declared_nodata
from pipeline.formats.base import Layer, Source
from pipeline.geometry.box import Box
from pipeline.system.units import unit_of

_DERIVED = {
    "DERIVED_SUBDATASETS", "IMAGE_STRUCTURE", "LocationInfo", "OVERVIEWS", "RPC", "SUBDATASETS", "TIFF",
    "new_vrt_sources", "vrt_sources", "xml:VRT",
}  # fmt: skip
"""Domains of what GDAL says of a file, of where it lies, and of what the header has fields for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Header of one band; `nodata` is None if the file declares none."""

    description: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    nodata: float | None = None
    colorinterp: ColorInterp = ColorInterp.undefined
    tags: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterHeader:
    """Header of one file.

    Attributes:
        transform: six numbers, pixel corner to world; None if control points or nothing locate the file.
        gcps: `(points, CRS)` or None.
        tags: default domain of the dataset, AREA_OR_POINT included.
        domains: tags in domains of their own, by domain.
        white_is_zero: 0 is white, and the largest value black (`MINISWHITE`).
    """

    crs: CRS | None = None
    transform: Affine | None = None
    gcps: tuple[Any, CRS] | None = None
    rpcs: Any = None
    bands: tuple[Band, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    white_is_zero: bool = False

    @property
    def nodata(self) -> float | None:
        """The one nodata value a TIFF can hold: that of the first band which has one."""
        return next((band.nodata for band in self.bands if band.nodata is not None), None)

    def part(self, box: Box) -> RasterHeader:
        """Return the header of a part of the raster: what locates it is moved."""
        top, left = box.start
        points = self.gcps and tuple(
            GroundControlPoint(p.row - top, p.col - left, p.x, p.y, p.z, p.id, p.info) for p in self.gcps[0]
        )
        rpcs = copy(self.rpcs)
        if rpcs is not None:
            rpcs.line_off, rpcs.samp_off = rpcs.line_off - top, rpcs.samp_off - left
        return replace(
            self,
            transform=self.transform and _moved(self.transform, top, left),
            gcps=self.gcps and (list(points or ()), self.gcps[1]),
            rpcs=rpcs,
        )


def _moved(transform: Affine, top: int, left: int) -> Affine:
    """Return where pixels lie that are counted from row `top` and column `left`."""
    a, b, c, d, e, f = transform[:6]
    return Affine(a, b, a * left + b * top + c, d, e, d * left + e * top + f)


def read_header(dataset: Any, indexes: tuple[int, ...]) -> RasterHeader:
    """Read the header of `dataset` for the 1-based bands `indexes`.

    Statistics are left out: they no longer hold once pixels are restored.
    """
    points, gcp_crs = dataset.gcps
    located = dataset.transform != Affine.identity()
    return RasterHeader(
        crs=dataset.crs,
        transform=dataset.transform if located else None,
        gcps=(points, gcp_crs) if points else None,
        rpcs=dataset.rpcs,
        bands=tuple(_read_bands(dataset, indexes)),
        tags=dataset.tags(),
        domains=domains(dataset),
        white_is_zero=white_is_zero(dataset),
    )


def white_is_zero(dataset: Any) -> bool:
    """Return True if 0 is white in a file of more than black and white: GDAL gives it a colour table of its own."""
    two = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "1"
    return dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES" and not two


def domains(dataset: Any, index: int = 0) -> dict[str, dict[str, str]]:
    """Return the tags of a dataset (0) or band in domains other than the default one, by domain.

    Left out is what GDAL itself derives from the file, what stands elsewhere in the header, and what rasterio cannot
    write.
    """
    return {name: dict(dataset.tags(index, ns=name)) for name in _own_domains(dataset, index) if _kept(name)}


def unkept_domains(dataset: Any) -> list[str]:
    """Return the domains of a dataset and its bands that somebody made and that cannot be written again."""
    return [name for at in range(dataset.count + 1) for name in _own_domains(dataset, at) if not _kept(name)]


def _own_domains(dataset: Any, index: int) -> list[str]:
    return sorted(name for name in dataset.tag_namespaces(index) if name and name not in _DERIVED)


def _kept(name: str) -> bool:
    return not name.startswith("json:")


def _read_bands(dataset: Any, indexes: tuple[int, ...]) -> Iterator[Band]:
    # each is a list of all bands, so they are asked for once
    names, scales, offsets = dataset.descriptions, dataset.scales, dataset.offsets
    units, nodata, colours = dataset.units, declared_nodata(dataset), dataset.colorinterp
    if white_is_zero(dataset):
        colours = tuple(ColorInterp.gray if colour == ColorInterp.palette else colour for colour in colours)
    for index in indexes:
        at = index - 1
        yield Band(
            description=names[at],
            scale=scales[at],
            offset=offsets[at],
            unit=units[at] or "",
            nodata=nodata[at],
            colorinterp=colours[at],
            tags={k: v for k, v in dataset.tags(index).items() if not k.startswith("STATISTICS_")},
            domains=domains(dataset, index),
        )


def merge_headers(headers: list[RasterHeader], names: tuple[str, ...]) -> RasterHeader:
    """Join the headers of one-file-a-band inputs: bands in order, dataset tags that all files agree on.

    A dataset tag that differs between files says something about its band and moves there.
    """
    first = headers[0]
    if len(headers) == 1:
        return first
    common = {k: v for k, v in first.tags.items() if all(h.tags.get(k) == v for h in headers)}
    shared = {k: v for k, v in first.domains.items() if all(h.domains.get(k) == v for h in headers)}
    bands = []
    for header in headers:
        own = {k: v for k, v in header.tags.items() if k not in common}
        apart = {k: v for k, v in header.domains.items() if k not in shared}
        bands += [replace(b, tags={**own, **b.tags}, domains={**apart, **b.domains}) for b in header.bands]
    named = tuple(replace(b, description=name) for b, name in zip(bands, names, strict=True))
    white = all(header.white_is_zero for header in headers)
    return replace(first, bands=named, tags=common, domains=shared, white_is_zero=white)


def header_of_space(like: Source) -> RasterHeader:
    """Make a header for a source that is no GDAL raster (e.g. zarr) from its own facts."""
    pairs = zip(like.channel_names, like.scale_offset, like.nodata, strict=True)
    tags = list(like.attributes.get("band_tags", ())) or [{} for _ in like.channel_names]
    return RasterHeader(
        crs=CRS.from_wkt(like.space.crs) if like.space.crs else None,
        transform=Affine(*like.space.affine),
        bands=tuple(
            Band(description=n, scale=s, offset=o, nodata=v, tags=t.get("", {}), domains={k: t[k] for k in t if k})
            for (n, (s, o), v), t in zip(pairs, tags, strict=True)
        ),
        tags=like.attributes.get("tags", {}),
        domains=like.attributes.get("domains", {}),
    )


def header_of_layer(header: RasterHeader, layer: Layer, like: Source) -> RasterHeader:
    """Return what a layer of a run inherits from the header of `like`, with the layer's own tags added.

    `restored` and `display` keep everything; `uncertainty` keeps the grid, and scale and unit of the bands of the same
    name (an error has no offset); `source` keeps the grid alone.
    """
    if layer.is_image:
        return replace(header, tags={**header.tags, **layer.tags})
    names = layer.channel_names or like.channel_names[: layer.n_channels]
    known = dict(zip(like.channel_names, header.bands, strict=True)) if layer.role == "uncertainty" else {}
    bands = []
    for name in names:
        their = known.get(name, Band())
        bands.append(Band(description=name, nodata=layer.nodata, scale=their.scale, unit=their.unit))
    grid = {k: v for k, v in header.tags.items() if k == "AREA_OR_POINT"}
    return replace(header, bands=tuple(bands), tags={**grid, **layer.tags}, domains={}, white_is_zero=False)


def apply_header(dataset: rasterio.io.DatasetWriter, header: RasterHeader) -> None:
    """Write a header into a dataset opened for writing; location and nodata were given on creation."""
    if header.gcps:
        points, crs = header.gcps
        # rasterio asks a reference system that is not there for its text
        dataset.gcps = (points, crs or CRS())
    if header.rpcs:
        dataset.rpcs = header.rpcs
    bands = header.bands
    # an unscaled file must not come back with explicit 1 and 0 in it
    if any(b.scale != 1.0 or b.offset != 0.0 for b in bands):
        dataset.scales = [b.scale for b in bands]
        dataset.offsets = [b.offset for b in bands]
    for index, band in enumerate(bands, start=1):
        if band.description:
            dataset.set_band_description(index, band.description)
        if band.unit:
            dataset.set_band_unit(index, band.unit)
        if band.tags:
            dataset.update_tags(index, **band.tags)
        _update_domains(dataset, index, band.domains)
    if any(b.colorinterp != ColorInterp.undefined for b in bands):
        dataset.colorinterp = [b.colorinterp for b in bands]
    dataset.update_tags(**header.tags)
    _update_domains(dataset, 0, header.domains)


def _update_domains(dataset: Any, index: int, named: Mapping[str, Mapping[str, str]]) -> None:
    for name, found in named.items():
        if not name.startswith("xml:"):
            dataset.update_tags(index, ns=name, **found)
            continue
        for document in found.values():
            # such a domain is one document, which rasterio writes only as `KEY=VALUE`: it is cut at an equals sign
            key, equals, value = document.partition("=")
            if equals:
                dataset.update_tags(index, ns=name, **{key: value})


def crs_units(crs: CRS | None) -> str:
    """Return the world unit of a CRS as `Space` names it: `deg`, a length such as `m` or `us-ft`, or `unknown`."""
    if not crs:
        return "unknown"
    if crs.is_geographic:
        return "deg"
    if crs.is_projected:
        return unit_of(crs.linear_units_factor[1])
    return "m" if crs.linear_units.lower() in {"metre", "meter", "m"} else "unknown"
