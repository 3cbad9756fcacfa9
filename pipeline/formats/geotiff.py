"""GeoTIFF, cloud-optimised or not (and JPEG 2000 and VRT as input); the output is always a valid COG.

One file, or one file a band on the same grid. Stored values, header and mask come back as they were read.
Layout of the output: https://docs.ogc.org/is/21-026/21-026.html, made by GDAL's COG driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError

from pipeline.errors import ConfigError, SourceError
from pipeline.formats._band_names import band_stems, stem_of_file
from pipeline.formats._categories import unkept_tables
from pipeline.formats._cf_validity import ANYTHING, Validity, validity_of
from pipeline.formats._cog import Pixels, write_cog
from pipeline.formats._complete import require_complete
from pipeline.formats._files import first_bytes, suffix_matches, untrusted, writing
from pipeline.formats._gdal import MAGIC, DatasetPool, gdal_env, open_dataset, reading, window_of
from pipeline.formats._image import Image, representable, require_once, require_plausible, unobserved
from pipeline.formats._raster_header import (
    Band,
    RasterHeader,
    crs_units,
    domains,
    header_of_layer,
    header_of_space,
    merge_headers,
    read_header,
    unkept_domains,
    white_is_zero,
)
from pipeline.formats._several import has_pages, require_one_image, require_real
from pipeline.formats._view import View, box_of
from pipeline.formats.base import Layer, Pull, Source, WriteOptions
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space, same_crs
from pipeline.numerics.number import exact
from pipeline.system.meter import reads
from pipeline.system.paths import is_address

SUFFIXES = (".gtiff", ".tiff", ".gtif", ".tif", ".jp2", ".j2k", ".vrt", ".nc")
SPACE_KINDS = ("raster",)
_SILENT = "JP2OpenJPEG"
"""Driver of files that cannot say which value means nothing; what the config says of them is written to the result."""
_ATTRIBUTES = "netCDF"
"""Driver of files whose tags are the attributes of CF."""
_COLOURS = "SOURCE_COLOR_SPACE"
_MAGIC = tuple(start for driver in ("GTiff", "JP2OpenJPEG", "netCDF") for start in MAGIC[driver])


def sniff(path: str) -> bool:
    """Return True if the first bytes (for URLs: the name) are those of a TIFF, JPEG 2000 or classic netCDF file."""
    start = first_bytes(path)
    return start.startswith(_MAGIC) if start else suffix_matches(path, SUFFIXES)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Channel:
    """Where a channel lies: `file` counts from 0, `band` and `mask_band` from 1; 0 = the file has none."""

    file: int
    band: int
    mask_band: int
    alpha_bands: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoTiff(Image):
    """An opened raster; see `base.Source`."""

    channels: tuple[_Channel, ...]
    validity: Validity = ANYTHING
    """What the attributes of a netCDF rule out."""
    pool: DatasetPool = field(repr=False, compare=False)

    @reads
    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return stored values, shape `(c, *box.shape)`.

        Raises:
            SourceError: the file is damaged; names the file and the window.
            ValueError: the box reaches out of the image.
        """
        self.require_inside(box)
        chosen = self.channels[channels]
        values = np.empty((len(chosen), *box.shape), dtype=self.dtype)
        at = 0
        for file, group in groupby(chosen, key=lambda channel: channel.file):
            bands = [channel.band for channel in group]
            with reading(self.paths[file], box):
                self.pool.get(file).read(bands, window=window_of(box), out=values[at : at + len(bands)])
            at += len(bands)
        return values

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return True where nothing was observed: nodata, mask 0, alpha 0, NaN or infinity.

        Shape `(1, *box.shape)` if it is the same for all channels, else `(c, *box.shape)`.
        """
        self.require_inside(box)
        distinct = {_mask_key(c): c for c in self.channels}
        masked = {key: self._masked(c, box) for key, c in distinct.items()}
        if len(masked) == 1 and not self._values_matter:
            return next(iter(masked.values()))[np.newaxis]
        result = np.stack([masked[_mask_key(c)] for c in self.channels])
        if self._values_matter:
            values = self.read(box)
            for at, nodata in enumerate(self.nodata):
                result[at] |= unobserved(values[at], nodata) | self.validity.violated(values[at])
        return result

    def file_mask(self, box: Box) -> NDArray[np.uint8] | None:
        """Return the files' own mask band (255 = valid in any of several), `(y, x)`; None if there is none."""
        masks = [self._mask_band(c, box) for c in {_mask_key(c): c for c in self.channels}.values() if c.mask_band]
        return np.maximum.reduce(masks) if masks else None

    def header(self) -> RasterHeader:
        """Read the whole header again, for the writer."""
        headers = []
        for file, group in groupby(self.channels, key=lambda channel: channel.file):
            headers.append(read_header(self.pool.get(file), tuple(channel.band for channel in group)))
        header = merge_headers(headers, self.channel_names)
        unsaid = all(band.nodata is None for band in header.bands)
        apart = len(self.paths) > 1 or self.attributes["driver"] == _SILENT
        if len({str(band.nodata) for band in header.bands}) > 1 or (unsaid and apart):
            # the files disagree or cannot say it, so what opening asked for holds for all
            header = replace(header, bands=tuple(replace(b, nodata=self.nodata[0]) for b in header.bands))
        return header

    def close(self) -> None:
        """Release file handles."""
        self.pool.close()

    @property
    def _values_matter(self) -> bool:
        declared = any(v is not None for v in self.nodata) or bool(self.validity)
        return np.issubdtype(self.dtype, np.floating) or declared

    def _masked(self, channel: _Channel, box: Box) -> NDArray[np.bool_]:
        hidden = np.zeros(box.shape, dtype=np.bool_)
        if channel.mask_band:
            hidden |= self._mask_band(channel, box) == 0
        for band in channel.alpha_bands:
            with reading(self.paths[channel.file], box):
                hidden |= self.pool.get(channel.file).read(band, window=window_of(box)) == 0
        return hidden

    def _mask_band(self, channel: _Channel, box: Box) -> NDArray[np.uint8]:
        with reading(self.paths[channel.file], box):
            mask: NDArray[np.uint8] = self.pool.get(channel.file).read_masks(channel.mask_band, window=window_of(box))
        return mask


def open_source(
    paths: Sequence[str], *, bands: Sequence[int | str] | None = None, nodata: float | None = None
) -> GeoTiff:
    """Open one raster, or several on the same grid as one.

    Args:
        paths: files or URLs; the bands of all files follow one another.
        bands: bands to use, by 1-based index or by name; None = all.
        nodata: overrides what the files declare.

    Raises:
        SourceError: missing or damaged file, grids or dtypes that differ, palette or complex values, unknown
            band, no band at all.
    """
    files = tuple(str(path) for path in paths)
    if not files:
        raise SourceError("no raster given; name at least one file")
    with ExitStack() as stack:
        datasets = [stack.enter_context(open_dataset(path)) for path in files]
        remote = any(map(is_address, files))
        with untrusted(", ".join(files), "damaged header", "copy the file again"), gdal_env(remote=remote):
            for path, dataset in zip(files, datasets, strict=True):
                require_one_image(path, dataset)
                require_real(path, dataset, "use amplitude or dB")
                require_complete(dataset, path)
            image = _describe(files, datasets, bands, nodata)
    require_plausible(image)
    return image


def _describe(
    files: tuple[str, ...], datasets: list[Any], bands: Sequence[int | str] | None, nodata: float | None
) -> GeoTiff:
    channels = [channel for file, dataset in enumerate(datasets) for channel in _channels(file, dataset)]
    names = _names(files, datasets)
    chosen = _select(files, names, bands)
    channels, names = [channels[i] for i in chosen], [names[i] for i in chosen]
    space = _same_space(files, datasets)
    dtype = _dtype(files, datasets, channels)
    headers = _band_headers(datasets, channels)
    # what a header says of it is compared, so it has to read as it will from a file
    nodata = None if nodata is None else exact(nodata)
    if datasets[0].driver == _SILENT:
        headers = [replace(band, nodata=representable(nodata, dtype)) for band in headers]
    fixed = tuple(at for at, band in enumerate(headers) if band.colorinterp == ColorInterp.alpha)
    # what the config says of nodata goes before all that the file says
    ruled_out = _validity(files, datasets, dtype, headers[0].nodata) if nodata is None else ANYTHING
    declared = [band.nodata if nodata is None else nodata for band in headers]
    if len(set(map(str, declared))) > 1:
        raise SourceError(
            f"{', '.join(files)}: nodata differs between bands ({declared}), a GeoTIFF can hold only one; "
            "set `nodata` for this source"
        )
    return GeoTiff(
        kind="geotiff",
        paths=files,
        space=space,
        n_channels=len(channels),
        dtype=dtype,
        channel_names=tuple(names),
        nodata=tuple(None if i in fixed else representable(v, dtype) for i, v in enumerate(declared)),
        scale_offset=tuple((band.scale, band.offset) for band in headers),
        native_chunk=tuple(datasets[0].block_shapes[0]),
        attributes=_attributes(datasets, channels, headers),
        notices=_notices(files, datasets, channels) + ((ruled_out.said(files[0]),) if ruled_out else ()),
        fixed_channels=fixed,
        channels=tuple(channels),
        validity=ruled_out,
        pool=DatasetPool(files),
    )


def _validity(files: tuple[str, ...], datasets: list[Any], dtype: np.dtype[Any], nodata: float | None) -> Validity:
    """Return what the attributes of a netCDF rule out; its bands are those of one variable."""
    if [dataset.driver for dataset in datasets] != [_ATTRIBUTES]:
        return ANYTHING
    return validity_of(files[0], datasets[0].tags(1), dtype, nodata)


def _band_headers(datasets: list[Any], channels: list[_Channel]) -> list[Band]:
    # one pass a file: what GDAL says of a band is a list of all bands
    wanted: dict[int, list[int]] = {}
    for channel in channels:
        wanted.setdefault(channel.file, []).append(channel.band)
    read = {
        (file, band): header
        for file, bands in wanted.items()
        for band, header in zip(bands, read_header(datasets[file], tuple(bands)).bands, strict=True)
    }
    return [read[c.file, c.band] for c in channels]


def _channels(file: int, dataset: Any) -> Iterator[_Channel]:
    alpha = tuple(i for i, c in enumerate(dataset.colorinterp, start=1) if c == ColorInterp.alpha)
    for band, flags in enumerate(dataset.mask_flag_enums, start=1):
        # nodata is compared per band by ourselves, because GDAL stops reporting it beside a mask
        own = {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha}
        per_file = MaskFlags.per_dataset in flags and MaskFlags.nodata in flags
        has_mask = per_file or not own.intersection(flags)
        shared = 1 if MaskFlags.per_dataset in flags else band
        yield _Channel(file=file, band=band, mask_band=shared if has_mask else 0, alpha_bands=alpha)


def _names(files: tuple[str, ...], datasets: list[Any]) -> list[str]:
    names = []
    for stem, dataset in zip(band_stems(files), datasets, strict=True):
        for band, description in enumerate(dataset.descriptions, start=1):
            lone = stem if dataset.count == 1 else f"{stem}_band_{band}"
            names.append(description or (lone if len(files) > 1 else f"band_{band}"))
    if len(set(names)) == len(names):
        return names
    return [f"{name}_{at}" if names.count(name) > 1 else name for at, name in enumerate(names, start=1)]


def _select(files: tuple[str, ...], names: list[str], bands: Sequence[int | str] | None) -> list[int]:
    path, stems = files[0], [stem_of_file(file) for file in files]
    if not names:
        raise SourceError(f"{path}: the file has no raster band")
    if bands is None:
        return list(range(len(names)))
    chosen = []
    for band in bands:
        if isinstance(band, str) and band in names:
            chosen.append(names.index(band))
        elif isinstance(band, int) and 1 <= band <= len(names):
            chosen.append(band - 1)
        elif len(stems) == len(names) and band in stems:
            chosen.append(stems.index(str(band)))
        else:
            raise ConfigError(f"{path}: no band {band!r}; use 1-{len(names)} or one of: {', '.join(names)}")
    if not chosen:
        raise SourceError(f"{path}: an empty list of bands was asked for; leave it out to use all")
    require_once(path, bands, chosen)
    return chosen


def _same_space(files: tuple[str, ...], datasets: list[Any]) -> Space:
    spaces = [_space(dataset) for dataset in datasets]
    for path, space in zip(files, spaces, strict=True):
        difference = spaces[0].mismatch(space) or ("" if same_crs(space.crs, spaces[0].crs) else "reference system")
        if difference:
            raise SourceError(
                f"{files[0]} and {path} lie on different grids ({difference}): {spaces[0].describe()} / "
                f"{space.describe()}; resample one of them first, or restore them in separate runs"
            )
    return spaces[0]


def _space(dataset: Any) -> Space:
    crs = dataset.crs
    return Space(
        kind="raster",
        shape=(dataset.height, dataset.width),
        affine=tuple(float(v) for v in dataset.transform[:6]),
        crs=crs.to_wkt() if crs else "",
        units=crs_units(crs),
    )


def _dtype(files: tuple[str, ...], datasets: list[Any], channels: list[_Channel]) -> np.dtype[Any]:
    names = sorted({datasets[c.file].dtypes[c.band - 1] for c in channels})
    where = ", ".join(files)
    if any(_holds_codes(datasets[c.file], c.band) for c in channels):
        raise SourceError(
            f"{where}: the colour table says that the values are class codes, which cannot be restored; "
            "expand it to RGB first, or use the file as a mask"
        )
    if len(names) > 1:
        raise SourceError(f"{where}: bands have different types ({', '.join(names)}); select with `bands`")
    dtype: np.dtype[Any] = np.dtype(names[0])
    return dtype


def _holds_codes(dataset: Any, band: int) -> bool:
    return dataset.colorinterp[band - 1] == ColorInterp.palette and not white_is_zero(dataset)


def _notices(files: tuple[str, ...], datasets: list[Any], channels: list[_Channel]) -> tuple[str, ...]:
    notices = []
    masks = {_mask_key(c) for c in channels if c.mask_band}
    if len(masks) > 1:
        notices.append(
            f"{files[0]}: the bands have {len(masks)} masks, a GeoTIFF holds one: in the result a pixel is valid if it "
            "is in any of them"
        )
    inked = [p for p, d in zip(files, datasets, strict=True) if d.tags(ns="IMAGE_STRUCTURE").get(_COLOURS) == "CMYK"]
    notices += [f"{path}: colours are stored as CMYK; they are read, restored and written as RGB" for path in inked]
    notices += [
        f"{path}: has no place that can be read: coordinates are missing, or their steps are uneven"
        for path, dataset in zip(files, datasets, strict=True)
        if dataset.driver == _ATTRIBUTES and dataset.transform.is_identity and not dataset.gcps[0]
    ]
    paged = [path for path, dataset in zip(files, datasets, strict=True) if has_pages(dataset)]
    notices += [f"{path}: holds several images (pages); only the first is restored and written" for path in paged]
    notices += [
        f"{path}: {' and '.join(tables)} cannot be written and are left out; copy {path}.aux.xml beside the result"
        for path, dataset in zip(files, datasets, strict=True)
        if (tables := unkept_tables(dataset))
    ]
    unkept = sorted({name for dataset in datasets for name in unkept_domains(dataset)})
    if unkept:
        notices.append(f"{files[0]}: metadata of {', '.join(unkept)} cannot be written to a GeoTIFF and are left out")
    return tuple(notices)


def _attributes(datasets: list[Any], channels: list[_Channel], bands: list[Band]) -> dict[str, Any]:
    """Header facts of the first file, and those of every chosen band."""
    dataset = datasets[0]
    masks = {_mask_key(c) for c in channels if c.mask_band}
    return {
        "driver": dataset.driver,
        "compression": dataset.compression.name if dataset.compression else "none",
        "interleaving": dataset.interleaving.name if dataset.interleaving else "unknown",
        "block_shape": list(dataset.block_shapes[0]),
        "colorinterp": [band.colorinterp.name for band in bands],
        "units": [band.unit for band in bands],
        "nodata_declared": [None if band.nodata is None else str(band.nodata) for band in bands],
        "validity": [*(["mask"] if masks else []), *(["alpha"] if any(c.alpha_bands for c in channels) else [])],
        "tags": dict(dataset.tags()),
        "domains": domains(dataset),
        "band_tags": [{**({"": dict(band.tags)} if band.tags else {}), **band.domains} for band in bands],
        "gcps": len(dataset.gcps[0]),
        "rpcs": dataset.rpcs is not None,
    }


def _mask_key(channel: _Channel) -> tuple[int, int]:
    return channel.file, channel.mask_band


def write(layer: Layer, path: Path, like: Source, pull: Pull, options: WriteOptions) -> None:
    """Write one layer as a cloud-optimised GeoTIFF on the grid of `like`.

    The pixels go window by window into a tiled temporary file, which GDAL's COG driver then copies; both lie
    in a scratch folder that is removed whatever happens. Bytes depend on pixels and header only. A reference system
    that the keys of a TIFF cannot hold stands in `PATH.aux.xml`, where GDAL looks for it.

    Args:
        layer: what to write; `restored` and `display` keep header and mask of `like`, with restored pixels valid.
        path: final name, replaced in one step.
        like: the input.
        pull: gives the finished pixels of a box.
        options: scratch folder and memory bound.

    Raises:
        OutputConflict: the file cannot be written.
    """
    whole, part = (like.whole, box_of(like)) if isinstance(like, View) else (like, None)
    mask = None
    if isinstance(whole, GeoTiff):
        own = whole.header().part(part) if part else whole.header()
        place = like.place if isinstance(like, View) else None
        mask = partial(_mask_of_result, whole, layer, place) if layer.is_image else None
    else:
        own = header_of_space(like)
    header = header_of_layer(own, layer, like)
    # GDAL's own classes come through where rasterio asks for a driver by itself
    with writing(path, options.scratch, (OSError, RasterioError, CPLE_BaseError)) as folder:
        write_cog(layer, path, header, like.space, Pixels(pull=pull, mask=mask, options=options), folder)


def _mask_of_result(
    whole: GeoTiff, layer: Layer, place: Callable[[Box], Box] | None, box: Box
) -> NDArray[np.uint8] | None:
    """Return the input's own mask, in which restored pixels are valid; `place` says where a box of a part lies."""
    mask = whole.file_mask(place(box) if place else box)
    if mask is None or layer.filled is None:
        return mask
    return np.where(layer.filled(box).any(axis=0), np.uint8(255), mask).astype(np.uint8)
