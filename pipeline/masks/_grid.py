"""Read codes of a mask raster on the grid of an image, whatever grid the mask lies on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.formats._files import missing, untrusted
from pipeline.formats._image import require_place
from pipeline.formats._raster_header import crs_units
from pipeline.formats._several import has_pages, require_one_image, require_real
from pipeline.formats._view import turn_text
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.orientation import Orientation
from pipeline.geometry.places import TURN, bounds_in, in_degrees, moved_points
from pipeline.geometry.space import Space
from pipeline.system.meter import reads
from pipeline.system.paths import is_address, kind_of

_MAX_WINDOW_BYTES = 2**30
"""A mask on another grid may be much finer than its image."""
_PROBES = 512
"""Places an axis at which it is asked whether a mask covers the image; smaller images are asked at every pixel."""
_LOOKED_AT = 1 << 26
"""Pixels of the image at which the values of a mask are counted."""
_WINDOW = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterCodes:
    """Nearest-neighbour view of a raster's bands on the grid of an image.

    Attributes:
        path: the mask file.
        bands: 1-based bands to read.
        dtype: type of the codes.
        nodata: value that says nothing is known, None if there is none.
        target: grid of the image.
        own: grid of the mask.
        aligned: both grids are one, so windows are read as they are.
        blank: a mask or an alpha band of the file says where it has no value.
        count: how many bands the file has.
        lossy: the file is compressed so that values near those that were drawn come back.
        notices: what the user should know.

    The file is opened for every read: block reads are few and large, and so no handle crosses a thread.
    """

    path: str
    bands: tuple[int, ...]
    dtype: np.dtype[Any]
    nodata: float | None
    target: Space
    own: Space
    aligned: bool
    blank: bool = False
    count: int = 1
    lossy: bool = False
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return `(codes, inside)` for `box` of the image: `(len(bands), *box.shape)` and `(1, *box.shape)`.

        `inside` is False outside the mask file, where codes are 0, and where its own mask or alpha band is 0.

        Raises:
            SourceError: the file is damaged; names the file and the window.
        """
        if self.aligned:
            return self._window(box), self._known(box)[None]
        with _reading(self.path):
            rows, cols, inside = self._places(*(np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True)))
        codes = np.zeros((len(self.bands), *box.shape), dtype=self.dtype)
        if inside.any():
            rows, cols = rows[inside], cols[inside]
            start = (int(rows.min()), int(cols.min()))
            needed = Box(start, (int(rows.max()) + 1, int(cols.max()) + 1))
            if needed.size * len(self.bands) * self.dtype.itemsize > _MAX_WINDOW_BYTES:
                raise SourceError(
                    f"{self.path}: {needed.shape} pixels of the mask lie in one window of the image; bring it nearer "
                    "to the resolution of the image (gdalwarp)"
                )
            rows, cols = rows - start[0], cols - start[1]
            codes[:, inside] = self._window(needed)[:, rows, cols]
            inside[inside] = self._known(needed)[rows, cols]
        return codes, inside[None]

    def looked_at(self) -> list[Box]:
        """Return the windows of the image in which the values of a mask are counted: all, of a large image some."""
        windows = list(Box.whole(self.target.shape).tiles((_WINDOW, _WINDOW)))
        return windows[:: -(-len(windows) * _WINDOW**2 // _LOOKED_AT)]

    def covered(self) -> float:
        """Return the share of the image that the file covers, from 0 to 1; counted at up to 512 places an axis."""
        if self.aligned:
            return 1.0
        axes = (np.unique(np.linspace(0, n - 1, min(n, _PROBES)).astype(np.int64)) for n in self.target.shape)
        with _reading(self.path):
            return float(self._places(*axes)[2].mean())

    def _places(
        self, y: NDArray[np.int64], x: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return row, column and presence in the file of the image's pixels in rows `y` and columns `x`."""
        rows, cols = np.meshgrid(y + 0.5, x + 0.5, indexing="ij")
        east, north = _transform(Affine(*self.target.affine), cols, rows)
        if self.target.crs and self.own.crs and self.target.crs != self.own.crs:
            flat = moved_points(self.target.crs, self.own.crs, east.ravel(), north.ravel())
            east, north = flat.reshape(2, *east.shape)
        if in_degrees(self.own.crs):
            west = bounds_of(self.own)[0]
            beyond = (east < west) | (east >= west + TURN)
            east = np.where(beyond, west + (east - west) % TURN, east)
        col, row = _transform(~Affine(*self.own.affine), east, north)
        height, width = self.own.shape
        inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
        row, col = np.where(inside, row, 0), np.where(inside, col, 0)
        return np.floor(row).astype(np.int64), np.floor(col).astype(np.int64), inside

    @reads
    def _window(self, box: Box) -> NDArray[Any]:
        from pipeline.formats._gdal import window_of

        with _opened(self.path, inspected=True) as dataset:
            codes: NDArray[Any] = dataset.read(list(self.bands), window=window_of(box))
        return codes

    def _known(self, box: Box) -> NDArray[np.bool_]:
        """Return where the file has a value of its own, `box.shape`."""
        from pipeline.formats._gdal import window_of

        if not self.blank:
            return np.ones(box.shape, dtype=bool)
        with _opened(self.path, inspected=True) as dataset:
            return np.asarray(dataset.read_masks(self.bands[0], window=window_of(box)) > 0)


def open_codes(
    path: str, source: Source, bands: tuple[int, ...] | None = (1,), outside: Literal["keep"] | None = None
) -> RasterCodes:
    """Open a mask raster for an image.

    Args:
        path: the file.
        source: the image.
        bands: 1-based; None takes one band a channel.
        outside: `keep` takes a file that covers less than half of the image, or nothing of it.

    Raises:
        SourceError: the file is missing or no raster, lacks a band, lies elsewhere or covers too little of the image;
            names both grids.
    """
    with _opened(path) as dataset:
        crs = dataset.crs.to_wkt() if dataset.crs else ""
        affine = tuple(float(v) for v in dataset.transform)[:6]
        units = crs_units(dataset.crs) if crs else source.space.units
        own = Space(kind="raster", shape=dataset.shape, affine=affine, crs=crs, units=units)
        wanted = bands or tuple(range(1, source.n_channels + 1))
        count = dataset.count
        if min(own.shape) < 1 or max(wanted) > count:
            raise SourceError(f"{path}: has {count} band(s), band {max(wanted)} is asked for")
        if bands is None and count != source.n_channels:
            raise SourceError(
                f"{path}: has {count} bands, and {source.n_channels} of the image are restored; `band: all` needs one "
                f"for each: name one (`band: {count}`), or take the right ones out (gdal_translate -b)"
            )
        # the bands of a VRT may be of several types
        dtype = np.result_type(*(dataset.dtypes[band - 1] for band in wanted))
        nodata, blank = dataset.nodatavals[wanted[0] - 1], _may_be_blank(dataset, wanted)
        lossy = _is_lossy(dataset)
        pages = [f"{path}: holds several images (pages); the first is the mask"] if has_pages(dataset) else []
    aligned, notice = _alignment(path, own, source, outside)
    codes = RasterCodes(
        path=path,
        bands=wanted,
        dtype=dtype,
        nodata=nodata,
        target=source.space,
        own=own,
        aligned=aligned,
        blank=blank,
        count=count,
        lossy=lossy,
    )
    return replace(codes, notices=(*pages, *notice, *_cover_notices(codes, outside)))


def _alignment(path: str, own: Space, source: Source, outside: Literal["keep"] | None) -> tuple[bool, tuple[str, ...]]:
    """Return whether the grids of mask and image are one, and what to say if not; arguments as in `open_codes`.

    Raises:
        SourceError: the mask lies nowhere, elsewhere, or the image is a volume; names both grids.
    """
    require_place(path, own)
    if source.space.kind != "raster":
        raise SourceError(f"{path}: is a raster, but {source.paths[0]} is a volume; give a NIfTI mask")
    with _reading(path):
        aligned, notice = _relation(path, own, source.space)
        apart = not aligned and not _overlap(own, source.space)
    if apart and outside is None:
        raise SourceError(f"{path}: does not overlap the image\n{_both(own, source.space)}")
    return aligned, notice


def _is_lossy(dataset: Any) -> bool:
    """Return True if GDAL says that a file does not keep the values that were written to it."""
    said = dataset.tags(ns="IMAGE_STRUCTURE")
    jpeg = dataset.driver == "JPEG" or "JPEG" in said.get("COMPRESSION", "")
    return jpeg or said.get("COMPRESSION_REVERSIBILITY") == "LOSSY"


def _may_be_blank(dataset: Any, wanted: tuple[int, ...]) -> bool:
    """Return True if a file says by a mask or an alpha band where it has no value, not by nodata alone.

    An alpha band that is asked for is a mask like the others: GDAL marks the fourth of four bands of bytes so.
    """
    from rasterio.enums import ColorInterp, MaskFlags

    own = any(dataset.colorinterp[band - 1] == ColorInterp.alpha for band in wanted)
    return not own and any(MaskFlags.per_dataset in flags for flags in dataset.mask_flag_enums)


def _cover_notices(codes: RasterCodes, outside: Literal["keep"] | None) -> tuple[str, ...]:
    """Return what to say of a file that does not cover the whole image.

    Raises:
        SourceError: it covers less than half, and nobody said that this is right.
    """
    covered = codes.covered()
    if covered == 1:
        return ()
    missing = f"{100 * (1 - covered):.3g} % of the image"
    if covered < 0.5 and outside is None:
        raise SourceError(
            f"{codes.path}: does not cover {missing}, which would count as observed\n{_both(codes.own, codes.target)}\n"
            "Give a mask of the whole image, or, if nothing is hidden there, write `outside: keep` on this entry"
        )
    return (f"{codes.path}: does not cover {missing}: what lies outside counts as observed",)


def _relation(path: str, own: Space, target: Space) -> tuple[bool, tuple[str, ...]]:
    same_crs = _same_crs(own.crs, target.crs)
    mismatch = own.mismatch(target)
    if not mismatch and (same_crs or not own.crs or not target.crs):
        return True, ()
    if mismatch and (turn := Orientation.between(own, target)) is not None and turn.changes:
        return False, (f"{path}: {turn_text(own, target)}",)
    if own.crs and target.crs:
        return False, (f"{path}: mask taken to the image grid by nearest neighbour ({mismatch or 'other CRS'})",)
    if own.shape == target.shape:
        return True, (f"{path}: mask or image has no reference system; same shape, so taken pixel by pixel",)
    if own.crs == target.crs and _is_georeferenced(own) and _is_georeferenced(target):
        return False, (f"{path}: mask taken to the image grid by nearest neighbour ({mismatch})",)
    raise SourceError(
        f"{path}: lies on another grid and one of the two has no reference system\n{_both(own, target)}\n"
        "give both the same grid, or a CRS"
    )


def _same_crs(a: str, b: str) -> bool:
    from rasterio.crs import CRS

    return a == b or (bool(a and b) and CRS.from_wkt(a) == CRS.from_wkt(b))


def _is_georeferenced(space: Space) -> bool:
    return tuple(space.affine) != (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def _both(own: Space, target: Space) -> str:
    return f"  mask:  {own.describe()}\n  image: {target.describe()}"


def _overlap(own: Space, target: Space) -> bool:
    """Return False if no pixel of the image may lie in the file."""
    a, b = bounds_of(own), bounds_of(target)
    if own.crs and target.crs and not _same_crs(own.crs, target.crs):
        # of a small area in the system of a large one: most projections have no place for the whole earth
        try:
            b = bounds_in(target, own.crs)
        except ValueError:
            return False
    turns = (-TURN, 0.0, TURN) if in_degrees(own.crs) else (0.0,)
    return any(a[0] + turn < b[2] and b[0] < a[2] + turn for turn in turns) and a[1] < b[3] and b[1] < a[3]


def bounds_of(space: Space) -> tuple[float, float, float, float]:
    """Return the smallest and largest coordinates of a raster grid: `(x0, y0, x1, y1)`."""
    rows, cols = space.shape
    corners_x, corners_y = np.array([0.0, cols, 0.0, cols]), np.array([0.0, 0.0, rows, rows])
    x, y = _transform(Affine(*space.affine), corners_x, corners_y)
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _transform(
    affine: Affine, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


@contextmanager
def _opened(path: str, *, inspected: bool = False) -> Iterator[Any]:
    """Open a mask file: other than an image it may be a PNG, a JPEG or have a colour table."""
    from pipeline.formats._complete import require_complete
    from pipeline.formats._gdal import MASK_DRIVERS, gdal_env, open_dataset

    if not is_address(path) and not kind_of(path):
        raise missing(path, "mask file not found")
    try:
        dataset = open_dataset(path, MASK_DRIVERS, inspected=inspected)
    except SourceError as error:
        raise SourceError(f"{path}: mask cannot be read: {error}") from error
    with _reading(path), gdal_env(remote=is_address(path)), dataset:
        if not inspected:
            require_one_image(path, dataset)
            require_real(path, dataset, "a mask holds real numbers; convert it (gdal_translate)")
            require_complete(dataset, path)
        yield dataset


def _reading(path: str) -> AbstractContextManager[None]:
    return untrusted(path, "mask cannot be read", "it is damaged or lies nowhere; copy or make it again")
