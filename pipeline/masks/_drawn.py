"""Shapes of a file drawn on the grid of an image.

Shapes are drawn in tiles at fixed places of the image, so a pixel never depends on the window it is read in.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.formats._archive import on_disk
from pipeline.formats._files import missing, untrusted
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.places import TURN, bounds_in, in_degrees, known_crs, moved_points
from pipeline.geometry.space import Space
from pipeline.masks._clip import clipped
from pipeline.masks._grid import bounds_of
from pipeline.masks._shapes import Points, Shapes, bounds, moved, read_shapes
from pipeline.masks.base import states_from
from pipeline.system.paths import state_of

_TILE = 1024
_PIECES = 64
"""Edges longer than this part of the image are cut before they are reprojected: a 4096th of their bend is left."""
_BESIDE_THE_CUT = 1e-6
"""Degrees, 10 cm at the equator."""
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnMask:
    """FILL under the shapes of a file, KEEP elsewhere; the file is read once a process."""

    path: str
    layers: tuple[str, ...]
    """Those to draw; all without any."""
    crs: str | None
    all_touched: bool
    target: Space
    stamp: tuple[int, ...]
    """Inode, bytes and time of change: a new file of the same name is not taken for the old one."""
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return FILL/KEEP, shape `(1, *box.shape)`."""
        hole = np.zeros((1, *box.shape), dtype=bool)
        for index in np.ndindex(*(-(-n // _TILE) for n in self.target.shape)):
            tile = Box.whole((_TILE, _TILE)).shift(tuple(i * _TILE for i in index))
            part = tile & box
            if not part.empty:
                with _ONE_AT_A_TIME:
                    drawn = _drawn(self, index)
                hole[part.at(of=box)] = np.unpackbits(drawn, axis=-1)[part.within(tile)].astype(bool)
        return states_from(hole)


def open_drawn(
    path: str, source: Source, layers: tuple[str, ...] = (), *, crs: str | None = None, all_touched: bool = False
) -> DrawnMask:
    """Read the shapes of a file and bring them onto the image's grid.

    Args:
        path: the file.
        source: the image.
        layers: names of layers, of masks of an agency those of their types; all without any.
        crs: reference system if the file does not say it.
        all_touched: polygons mark what they touch, not only pixels whose centre lies in them.

    Raises:
        ConfigError: the extra for the format is not installed, a layer is to be named, or `crs` is none.
        SourceError: unreadable; the image is a volume or has no reference system; a shape has no place on its grid.
    """
    if source.space.kind != "raster":
        raise SourceError(f"{path}: shapes have no place in a volume such as {source.paths[0]}; give a NIfTI mask")
    file = on_disk(path)
    if file is None:
        raise missing(path, "mask file not found")
    mask = DrawnMask(
        path=path,
        layers=layers,
        crs=crs,
        all_touched=all_touched,
        target=source.space,
        stamp=state_of(file),
    )
    with _ONE_AT_A_TIME:
        count, placed = _placed(mask)
    if placed:
        return mask
    said = f"none of its {count} shapes lies on the image" if count else "holds no shape"
    return replace(mask, notices=(f"{path}: {said}",))


@lru_cache(maxsize=128)
def _drawn(mask: DrawnMask, index: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return one tile of the image as bits packed along x, uint8 `(tile, tile / 8)`."""
    from rasterio.features import rasterize

    y, x = (i * _TILE for i in index)
    near = [
        geometry
        for geometry, (x0, y0, x1, y1) in _placed(mask)[1]
        if x0 <= x + _TILE and x1 >= x and y0 <= y + _TILE and y1 >= y
    ]
    hole = np.zeros((_TILE, _TILE), dtype=np.uint8)
    if near:
        with untrusted(mask.path, "its shapes cannot be drawn", "repair them, e.g. with ogr2ogr -makevalid"):
            rasterize(near, out=hole, transform=Affine.translation(x, y), all_touched=mask.all_touched)
    return np.packbits(hole, axis=-1)


_Placed = tuple[dict[str, Any], tuple[float, float, float, float]]


@lru_cache(maxsize=4)
def _placed(mask: DrawnMask) -> tuple[int, tuple[_Placed, ...]]:
    """Return the number of shapes of a file, and those near the image in its pixels (x = column), with their bounds."""
    shapes = read_shapes(mask.path, mask.layers)
    if not shapes.geometries:
        return 0, ()
    crs = _reference_system(mask, shapes)
    with untrusted(mask.path, "damaged coordinates, or of another reference system", "write it again, or set `crs`"):
        place = _Place(target=mask.target, crs=crs)
        found = [geometry for geometry in shapes.geometries if place.near(geometry)]
        drawn = [copy for geometry in found for copy in place.copies(geometry)]
        placed = tuple((geometry, bounds(geometry)) for geometry in drawn)
        rows, cols = mask.target.shape
        if not all(np.isfinite(edges).all() for _, edges in placed):
            raise SourceError(
                f"{mask.path}: a shape reaches where the image's reference system has no coordinates; cut it to the "
                "surroundings of the image (ogr2ogr -clipsrc)"
            )
        on_image = tuple(p for p in placed if p[1][0] < cols and p[1][2] > 0 and p[1][1] < rows and p[1][3] > 0)
    return len(shapes.geometries), on_image


def _reference_system(mask: DrawnMask, shapes: Shapes) -> str:
    """Return the reference system of the coordinates as WKT; empty if neither they nor the image have one.

    Raises:
        ConfigError: it is none that is known.
        SourceError: only one of file and image has one.
    """
    from rasterio.errors import CRSError

    text = mask.crs or shapes.crs
    if bool(text) != bool(mask.target.crs):
        lacking = "the image" if text else "the file"
        raise SourceError(f"{mask.path}: {lacking} has no reference system, so its shapes have no place; set one")
    try:
        crs = known_crs(text) if text else None
    except CRSError as error:
        raise ConfigError(f"{mask.path}: '{text}' is no reference system ({error}); set `crs` on the entry") from None
    wkt: str = crs.to_wkt() if crs else ""
    return wkt


class _Place:
    """Where coordinates of a file lie on the grid of an image."""

    def __init__(self, *, target: Space, crs: str) -> None:
        from rasterio.crs import CRS

        self._crs, self._target = crs, target.crs
        self._same = not crs or crs == target.crs or CRS.from_wkt(crs) == CRS.from_wkt(target.crs)
        self._turns = in_degrees(crs)
        self._to_pixels = ~Affine(*target.affine)
        self._edges = bounds_of(target) if self._same else bounds_in(target, crs)
        self._longest = max(self._edges[2] - self._edges[0], self._edges[3] - self._edges[1]) / _PIECES

    def near(self, geometry: dict[str, Any]) -> bool:
        """Return True if a shape may touch the image, by its bounds."""
        return bool(self._shifts(geometry))

    def copies(self, geometry: dict[str, Any]) -> list[dict[str, Any]]:
        """Return a shape in pixels of the image; of longitudes, which repeat, every copy that may touch it."""
        if self._same:
            return [moved(geometry, partial(self._pixels, shift), np.inf) for shift in self._shifts(geometry)]
        # what lies far away may have no place in the image's reference system, or come back on its other side
        west, south, east, north = self._edges
        across, along = east - west, north - south
        if self._turns and 3 * across > TURN:
            # a point on the cut of a projection would come to lie on either side of it
            middle, half = (west + east) / 2, TURN / 2 - _BESIDE_THE_CUT
            west, east, across = middle - half, middle + half, 0.0
        kept = []
        for shift in self._shifts(geometry):
            around = (west - across - shift, south - along, east + across - shift, north + along)
            if (near := clipped(geometry, around)) is not None:
                kept.append(moved(near, partial(self._pixels, shift), self._longest))
        return kept

    def _shifts(self, geometry: dict[str, Any]) -> list[float]:
        x0, y0, x1, y1 = bounds(geometry)
        west, south, east, north = self._edges
        if self._turns and (max(abs(x0), abs(x1)) > 2 * TURN or max(abs(y0), abs(y1)) > 90.001):
            raise ValueError(f"{x0:g}, {y0:g} is no longitude and latitude")
        margin = max(east - west, north - south) * 0.01
        turns = (-TURN, 0.0, TURN) if self._turns else (0.0,)
        across = [t for t in turns if x0 + t <= east + margin and x1 + t >= west - margin]
        return across if y0 <= north + margin and y1 >= south - margin else []

    def _pixels(self, shift: float, points: Points) -> Points:
        x, y = points[:, 0] + shift, points[:, 1]
        if not self._same:
            x, y = moved_points(self._crs, self._target, x, y)
        a, b, c, d, e, f = self._to_pixels[:6]
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)
