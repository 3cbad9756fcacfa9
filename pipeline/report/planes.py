"""Which part of an image a picture shows, how it lies in the world, and how its pixels are cut out of the files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.base import Pull
from pipeline.geometry.box import Box
from pipeline.geometry.orientation import ENDS, Orientation, canonical_space, coarsest_axis, tilts
from pipeline.geometry.space import Space
from pipeline.system.threads import each

_MAX_EDGE = 560
"""Pixels of a picture of a whole image; larger images are thinned out."""
_TILE = 1024
"""Extent of what is read of an image at once, in pixels."""
_DETAIL = {2: 256, 3: 96}
_SMALL_DETAIL = {2: 96, 3: 64}
"""Extent of a picture at full resolution, in the finest pixels; the small one for images that are small themselves."""
_PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """A part of an image to be shown, as one picture.

    Attributes:
        title: what it shows and where.
        box: the pixels, in the order of the file; volumes have one axis of extent 1.
        step: thinning on every axis.
        turn: brings a volume into canonical order.
        across: the canonical axis that the plane cuts; None for rasters.
        extent: width and height in world units.
        units: of the world.
        letters: what lies at the left, right, top and bottom edge (L, R, A, P, S, I); empty for rasters.
        north_up: the upper edge of the picture is north.
    """

    title: str
    box: Box
    step: int = 1
    turn: Orientation
    across: int | None = None
    extent: tuple[float, float]
    units: str
    letters: tuple[str, ...] = ()
    north_up: bool = False

    @property
    def scale_bar(self) -> tuple[float, str]:
        """Length of a bar as share of the picture's width, and what it stands for."""
        width = self.extent[0]
        longest = width / 3
        power = 10.0 ** math.floor(math.log10(longest))
        length = max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))
        return length / width, _length(length, self.units)

    def cut(self, pull: Pull) -> NDArray[Any]:
        """Return the pixels, thinned out, `(c, rows, columns)`, with the head or the front of a volume on top.

        `pull` is asked tile by tile, so never more than one tile a thread of a large image is held.
        """
        step, ndim = self.step, self.box.ndim
        edge = max(step, _TILE // step * step)

        def thin(tile: Box) -> NDArray[Any]:
            # a copy, as a view would hold the whole tile
            return pull(tile.shift(self.box.start))[(slice(None), *(slice(None, None, step),) * ndim)].copy()

        tiles = list(Box.whole(self.box.shape).tiles((edge,) * ndim))
        parts = each(thin, tiles)
        values = np.empty((len(parts[0]), *(-(-n // step) for n in self.box.shape)), dtype=parts[0].dtype)
        for tile, part in zip(tiles, parts, strict=True):
            at = (slice(a // step, a // step + n) for a, n in zip(tile.start, part.shape[1:], strict=True))
            values[(slice(None), *at)] = part
        if self.across is None:
            return values
        return self.turn.canonical(values).squeeze(axis=1 + self.across)[:, ::-1]


class Planes:
    """Makes the planes of one image.

    Args:
        space: its grid.
        sure: the file says how a volume lies; else the letters get a question mark.
    """

    def __init__(self, space: Space, *, sure: bool = True) -> None:
        self.space = space
        self.turn = Orientation.of(space)
        self.doubt = "" if sure else "?"

    def whole(self, centre: tuple[int, ...]) -> list[Plane]:
        """Return the whole raster, or the three planes of a volume that meet in the voxel `centre`."""
        if self.space.ndim == 2:
            return [self._raster("the whole image", Box.whole(self.space.shape))]
        return [self._volume(centre, across, Box.whole(self.space.shape)) for across in range(3)]

    def detail(self, centre: tuple[int, ...]) -> Plane:
        """Return a window at full resolution around a pixel; of a volume in the plane of its finest steps."""
        shape, steps = self.space.shape, self.space.spacing
        large = max(shape) > 1.5 * _DETAIL[self.space.ndim]
        reach = (_DETAIL if large else _SMALL_DETAIL)[self.space.ndim] * min(steps)
        edges = [min(n, max(1, round(reach / step))) for n, step in zip(shape, steps, strict=True)]
        start = tuple(max(0, min(c - e // 2, n - e)) for c, e, n in zip(centre, edges, shape, strict=True))
        box = Box(start, tuple(s + e for s, e in zip(start, edges, strict=True)))
        if self.space.ndim == 2:
            return self._raster(f"row {centre[0]}, column {centre[1]}", box)
        return self._volume(centre, self.coarsest, box)

    def part(self, box: Box) -> Plane:
        """Return a part of a raster, or of a volume one whose extent across the coarsest axis is 1, as a plane."""
        if self.space.ndim == 2:
            return self._raster(f"rows {box.start[0]} to {box.stop[0]}, columns {box.start[1]} to {box.stop[1]}", box)
        return self._volume(box.start, self.coarsest, box)

    @property
    def coarsest(self) -> int:
        """The canonical axis of the largest steps; 0 for rasters."""
        return coarsest_axis(self.space) if self.space.ndim == 3 else 0

    def _raster(self, title: str, box: Box) -> Plane:
        _, b, _, d, e, _ = self.space.affine
        rows, columns = box.shape
        height, width = self.space.spacing
        return Plane(
            title=title,
            box=box,
            step=max(1, -(-max(box.shape) // _MAX_EDGE)),
            turn=self.turn,
            extent=(columns * width, rows * height),
            units=self.space.units,
            north_up=bool(self.space.crs) and b == d == 0 and e < 0,
        )

    def _volume(self, centre: tuple[int, ...], across: int, box: Box) -> Plane:
        fixed = self.turn.axes[across]
        start = tuple(c if a == fixed else s for a, (c, s) in enumerate(zip(centre, box.start, strict=True)))
        stop = tuple(c + 1 if a == fixed else s for a, (c, s) in enumerate(zip(centre, box.stop, strict=True)))
        down, right = (axis for axis in range(3) if axis != across)
        shape = self.turn.canonical_shape(Box(start, stop).shape)
        steps = self.turn.canonical_shape(self.space.spacing)
        letters = (*ENDS[right], *ENDS[down][::-1])
        return Plane(
            title=self._where(Box(start, stop), across),
            box=Box(start, stop),
            step=max(1, -(-max(shape) // _MAX_EDGE)),
            turn=self.turn,
            across=across,
            extent=(shape[right] * steps[right], shape[down] * steps[down]),
            units=self.space.units,
            letters=tuple(letter + self.doubt for letter in letters),
        )

    def _where(self, box: Box, across: int) -> str:
        """Say which plane it is: its name, its world coordinate and how far it is off."""
        turned, space = self.turn.canonical_box(box, self.space.shape), canonical_space(self.space)
        middle = [(a + b - 1) / 2 for a, b in zip(turned.start, turned.stop, strict=True)][::-1]
        rows = np.reshape(space.affine, (3, 4))
        place = float((rows[:, :3] @ middle + rows[:, 3])[2 - across])
        angle = tilts(self.space)[across]
        unit = " mm" if self.space.units == "mm" else ""
        text = f"{_PLANES[across]}, {'zyx'[across]} = {place:.1f}{unit}"
        return f"{text} in its middle, oblique by {angle:.1f}°" if round(angle, 1) else text


def _length(value: float, units: str) -> str:
    if units == "m" and value >= 1000:
        return f"{value / 1000:g} km"
    return f"{value:g}" + {"deg": "°", "unknown": " units"}.get(units, f" {units}")
