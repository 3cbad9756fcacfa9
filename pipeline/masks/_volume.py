"""NIfTI masks: gzip cannot be read window by window, so the file is read once and kept as one bit a voxel."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.formats._files import missing, require_file, untrusted
from pipeline.formats._gzip import open_inflated
from pipeline.formats._image import knows_sides, require_place
from pipeline.formats._nifti_header import (
    OtherMatrix,
    grid,
    on_other_matrix,
    other_matrix,
    read_header,
    sides_unknown,
)
from pipeline.formats._view import turn_text
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.orientation import Orientation, turned_space
from pipeline.geometry.space import ROUNDED, Space
from pipeline.masks._values import Marks, Tally, value_notices
from pipeline.masks.base import states_from
from pipeline.system.meter import lap
from pipeline.system.paths import is_address, kind_of, state_of

_READ_ONCE = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMask:
    """FILL where the NIfTI file has one of the values marked; without a choice where it is neither 0 nor NaN."""

    path: str
    marks: Marks
    stamp: tuple[int, ...]
    shape: tuple[int, ...]
    """Extent of its own grid, `(z, y, x)`."""
    turn: Orientation
    """How that is turned to lie on the image's."""
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return FILL/KEEP, shape `(1 or t, *box.shape)`.

        Raises:
            SourceError: the file is damaged.
        """
        bits, width, _ = self._content()
        own = self.turn.stored_box(box, self.shape)
        planes = bits[(slice(None), *own.slices[:-1])]
        hole = np.unpackbits(planes, axis=-1, count=width)[..., own.slices[-1]].astype(bool)
        return states_from(self.turn.canonical(hole))

    def examine(self) -> tuple[str, ...]:
        """Say if the values of the file are not what a mask holds.

        Raises:
            SourceError: the file is damaged.
        """
        return value_notices(self.path, self._content()[2], self.marks)

    def _content(self) -> tuple[NDArray[np.uint8], int, Tally]:
        with _READ_ONCE:
            return _bits(self.path, self.marks, self.stamp)


def open_volume_mask(path: str, source: Source, marks: Marks) -> VolumeMask:
    """Compare the grid of a NIfTI mask with the image's; reads the header only.

    Raises:
        SourceError: missing, no NIfTI file, another grid, another number of volumes, or bits of fractions.
    """
    header = _load(path)
    with untrusted(path, "damaged mask header", "repair it, or copy the file again"):
        full = tuple(int(n) for n in header.get_data_shape())
        own = grid(path, header)
        other = other_matrix(header, own)
        dtype, slope, inter = _stored(header)
        stated = (int(header["qform_code"]), int(header["sform_code"])) != (0, 0)
    require_place(path, own)
    marks.require_fits(path, dtype if (slope, inter) == (1.0, 0.0) else np.dtype(np.float64))
    turn = _turn(path, own, other, source, stated=stated)
    volumes = math.prod(full[3:])
    if volumes not in (1, source.n_channels):
        raise SourceError(f"{path}: has {volumes} volumes, the image has {source.n_channels}; give 1 or as many")
    said = [turn_text(own, source.space)] if turn.changes else []
    said += [off] if (off := source.space.offset_text(turned_space(own, turn))) else []
    return VolumeMask(
        path=path,
        marks=marks,
        stamp=state_of(path),
        shape=own.shape,
        turn=turn,
        notices=tuple(f"{path}: {what}" for what in said),
    )


def _turn(path: str, own: Space, other: OtherMatrix | None, source: Source, *, stated: bool) -> Orientation:
    """Return how the voxels of a mask are turned against the image's.

    Args:
        path: the mask.
        own: its grid.
        other: the matrix of its header that is not used.
        source: the image.
        stated: the header of the mask says how it lies in the body.

    Raises:
        SourceError: it lies on another grid, or nothing says how it would have to be turned.
    """
    turn = Orientation.between(own, source.space)
    if turn is None:
        mismatch = source.space.mismatch(own, tolerance=ROUNDED)
        raise SourceError(
            f"{path}: the mask does not lie on the image's grid ({mismatch})\n"
            f"  mask:  {own.describe()}\n  image: {source.space.describe()}\n"
            + (
                on_other_matrix([("the image", getattr(source, "other", None), source.space), ("the mask", other, own)])
                or "bring it onto the image's grid, e.g. with nibabel.processing.resample_from_to(mask, image, order=0)"
            )
        )
    if turn.changes and not (stated and knows_sides(source)):
        axes = f"({own.axis_codes} against {source.space.axis_codes})"
        bare = source.paths[0] if stated else path
        raise SourceError(
            f"{path}: the voxel axes of the mask run other ways than the image's {axes}, and {sides_unknown(bare)}"
        )
    return turn


@lru_cache(maxsize=8)
def _bits(path: str, marks: Marks, _stamp: tuple[int, ...]) -> tuple[NDArray[np.uint8], int, Tally]:
    """Return the mask as bits packed along x, shape `(t, z, y, ceil(x / 8))`, the extent in x, and the file's values.

    The stamp (see `state_of`) keeps a new file of the same name from being taken for the old one.
    """
    header = _load(path)
    i, j, k, *rest = (*(int(n) for n in header.get_data_shape()), 1, 1, 1)
    t = math.prod(rest)
    packed, tally = np.zeros((t, k, j, -(-i // 8)), dtype=np.uint8), Tally()
    with lap("read"):
        for index, plane in enumerate(_planes(header, path, i * j, k * t)):
            hole = marks.of(plane).reshape(j, i)
            tally.add(plane, hole)
            packed[index // k, index % k] = np.packbits(hole, axis=-1)
    packed.setflags(write=False)
    return packed, i, tally


def _planes(header: Any, path: str, size: int, count: int) -> Iterator[NDArray[Any]]:
    """Yield the stored planes one by one with the file's slope applied, reading straight through."""
    dtype, slope, inter = _stored(header)
    with untrusted(path, "mask cannot be read", "copy the file again"), open_inflated(path) as file:
        file.seek(int(header.get_data_offset()))
        for index in range(count):
            data = file.read(size * dtype.itemsize)
            if len(data) < size * dtype.itemsize:
                raise SourceError(f"{path}: mask ends in plane {index} of {count}; the file is truncated")
            plane = np.frombuffer(data, dtype=dtype)
            yield plane if (slope, inter) == (1.0, 0.0) else plane * slope + inter


def _stored(header: Any) -> tuple[np.dtype[Any], float, float]:
    """Return `(dtype, slope, intercept)` of the voxels; without a slope they are as they are stored.

    Raises:
        ValueError: the voxels are no numbers.
    """
    slope, inter = header.get_slope_inter()
    dtype = np.dtype(header.get_data_dtype())
    if dtype.kind not in "iuf":
        raise ValueError(f"voxels of type {header.get_value_label('datatype')} are no real numbers")
    return dtype, 1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter)


def _load(path: str) -> Any:
    from pipeline.formats._remarks import remarks

    if not is_address(path) and not kind_of(path):
        raise missing(path, "mask file not found")
    require_file(path, local=True)
    try:
        # of the image's header people hear; a mask is only looked at
        with remarks():
            return read_header(path)
    except SourceError as error:
        raise SourceError(f"{path}: mask for a volume must be NIfTI (.nii, .nii.gz): {error}") from error
