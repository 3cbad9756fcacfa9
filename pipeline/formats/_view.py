"""See an image by another index: a part of it, or its axes in another order. No value is computed.

Masks are opened on the whole image as its file has it, and seen through the same view: slice numbers, buffers and gaps
mean there what they mean without one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.formats._image import Image, knows_sides
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.orientation import Orientation, turned_space
from pipeline.geometry.space import ROUNDED, Space

_Kind = TypeVar("_Kind", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Image):
    """A part of an image, turned; see `base.Source`.

    Attributes:
        whole: the image as its file has it.
        turn: how it is turned, before the part is cut out.
        start: first pixel of the part, in the turned image.
    """

    whole: Source
    turn: Orientation
    start: tuple[int, ...]

    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return stored values, shape `(c, *box.shape)`.

        Raises:
            SourceError: the file is damaged; names the file and the window in it.
            ValueError: the box reaches out of the part.
        """
        self.require_inside(box)
        return self.seen(self.whole.read(self.place(box), channels))

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return True where nothing was observed, shape `(1 or c, *box.shape)`."""
        self.require_inside(box)
        return self.seen(self.whole.never(self.place(box)))

    def stage(self, directory: Path) -> Self:
        """Return the same view of the staged file."""
        staged = self.whole.stage(directory)
        return self if staged is self.whole else replace(self, whole=staged)

    def close(self) -> None:
        """Release file handles."""
        self.whole.close()

    def place(self, box: Box) -> Box:
        """Return where a box of the view lies in the whole image."""
        return self.turn.stored_box(box.shift(self.start), self.whole.space.shape)

    def seen(self, values: NDArray[_Kind]) -> NDArray[_Kind]:
        """Return what was read of the whole image in `place(box)`, `(c, *spatial)`, as the view shows it."""
        return np.ascontiguousarray(self.turn.canonical(values)) if self.turn.changes else values


def cropped(source: Source, box: Box) -> Source:
    """Return a part of an image; the whole one as it is."""
    if box == Box.whole(source.space.shape):
        return source
    space = source.space_of(box) if isinstance(source, Image) else source.space.part(box)
    if isinstance(source, View):
        chunk = tuple(min(n, size) for n, size in zip(source.native_chunk, box.shape, strict=True))
        start = tuple(a + b for a, b in zip(source.start, box.start, strict=True))
        return replace(source, space=space, native_chunk=chunk, start=start)
    return _view(source, space, Orientation.none(space.ndim), box.start)


def turned(source: Source, target: Space) -> Source:
    """Return an image whose pixels are those of the grid `target` along other axes, turned onto it; others as they are.

    A pixel of it may lie off that of `target` by what rounding moves it, which its `space` says.
    """
    turn = Orientation.between(source.space, target)
    if turn is None or not turn.changes:
        return source
    return _view(source, turned_space(source.space, turn), turn, (0,) * target.ndim)


def misfit(source: Source, image: Source) -> str:
    """Say how an image lies on another grid than `image`; empty if it is the same, if need be along other axes."""
    turn = Orientation.between(source.space, image.space)
    if turn is not None and (not turn.changes or (knows_sides(source) and knows_sides(image))):
        return ""
    return image.space.mismatch(source.space, tolerance=ROUNDED)


def whole_of(source: Source) -> Source:
    """Return the image that a source is a view of; itself if it is none."""
    return source.whole if isinstance(source, View) else source


def box_of(source: Source) -> Box | None:
    """Return which part of the image of its file a source is; None for all of it."""
    if not isinstance(source, View):
        return None
    turned_shape = source.turn.canonical_shape(source.whole.space.shape)
    box = Box(source.start, tuple(a + n for a, n in zip(source.start, source.space.shape, strict=True)))
    return None if box == Box.whole(turned_shape) else box


def turn_text(space: Space, target: Space) -> str:
    """Say in words how an image on `space` was turned onto `target`."""
    if space.kind == "volume":
        how = f"its voxel axes are {space.axis_codes}, the image's {target.axis_codes}"
    else:
        how = "its rows and columns run other ways than the image's"
    return f"{how}; turned onto the image's grid, {space.unit} by {space.unit}, without interpolation"


def _view(source: Source, space: Space, turn: Orientation, start: tuple[int, ...]) -> View:
    chunk = turn.canonical_shape(source.native_chunk)
    return View(
        kind=source.kind,
        paths=source.paths,
        space=space,
        n_channels=source.n_channels,
        dtype=source.dtype,
        channel_names=source.channel_names,
        nodata=source.nodata,
        scale_offset=source.scale_offset,
        native_chunk=tuple(min(n, size) for n, size in zip(chunk, space.shape, strict=True)),
        attributes=source.attributes,
        fixed_channels=source.fixed_channels,
        notices=tuple(getattr(source, "notices", ())),
        whole=source,
        turn=turn,
        start=start,
    )
