"""NIfTI masks: gzip cannot be read window by window, so the file is read once and kept as one bit a voxel."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.formats._files import require_file, untrusted
from pipeline.formats._gzip import open_inflated
from pipeline.formats._image import require_place
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space
from pipeline.masks._grid import selected
from pipeline.masks.base import states_from
from pipeline.system.meter import lap

_READ_ONCE = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMask:
    """FILL where the NIfTI file has one of `values`; without values where it is neither 0 nor NaN."""

    path: str
    values: tuple[float, ...] | None
    stamp: tuple[int, int, int]
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return FILL/KEEP, shape `(1 or t, *box.shape)`.

        Raises:
            SourceError: the file is damaged.
        """
        with _READ_ONCE:
            bits, width = _bits(self.path, self.values, self.stamp)
        planes = bits[(slice(None), *box.slices[:-1])]
        return states_from(np.unpackbits(planes, axis=-1, count=width)[..., box.slices[-1]].astype(bool))


def open_volume_mask(path: str, source: Source, values: tuple[float, ...] | None) -> VolumeMask:
    """Compare the grid of a NIfTI mask with the image's; reads the header only.

    Raises:
        SourceError: missing, no NIfTI file, another grid, or another number of volumes.
    """
    header = _load(path)
    with untrusted(path, "damaged mask header", "repair it, or copy the file again"):
        full = tuple(int(n) for n in header.get_data_shape())
        affine = tuple(float(v) for v in np.asarray(header.get_best_affine(), dtype=np.float64)[:3].ravel())
        _stored(header)
    shape = full[:3] + (1,) * (3 - len(full[:3]))
    own = Space(kind="volume", shape=tuple(reversed(shape)), affine=affine, crs="RAS+", units="mm")
    require_place(path, own)
    mismatch = source.space.mismatch(own)
    if mismatch:
        raise SourceError(
            f"{path}: the mask does not lie on the image's grid ({mismatch})\n"
            f"  mask:  {own.describe()}\n  image: {source.space.describe()}\n"
            "resample the mask to the image with your neuroimaging tool (nearest neighbour)"
        )
    volumes = math.prod(full[3:])
    if volumes not in (1, source.n_channels):
        raise SourceError(f"{path}: has {volumes} volumes, the image has {source.n_channels}; give 1 or as many")
    facts = Path(path).stat()
    return VolumeMask(path=path, values=values, stamp=(facts.st_ino, facts.st_size, facts.st_mtime_ns))


@lru_cache(maxsize=8)
def _bits(path: str, values: tuple[float, ...] | None, _stamp: tuple[int, int, int]) -> tuple[NDArray[np.uint8], int]:
    """Return the mask as bits packed along x, shape `(t, z, y, ceil(x / 8))`, and the extent in x.

    The stamp (inode, bytes, time of change) keeps a new file of the same name from being taken for the old one.
    """
    header = _load(path)
    i, j, k, *rest = (*(int(n) for n in header.get_data_shape()), 1, 1, 1)
    t = math.prod(rest)
    packed = np.zeros((t, k, j, -(-i // 8)), dtype=np.uint8)
    with lap("read"):
        for index, plane in enumerate(_planes(header, path, i * j, k * t)):
            hole = selected(plane, values).reshape(j, i)
            packed[index // k, index % k] = np.packbits(hole, axis=-1)
    packed.setflags(write=False)
    return packed, i


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
    if dtype.kind not in "iufc":
        raise ValueError(f"voxels of type {header.get_value_label('datatype')} are no numbers")
    return dtype, 1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter)


def _load(path: str) -> Any:
    from pipeline.formats._files import is_remote
    from pipeline.formats.nifti import read_header

    if is_remote(path):
        require_file(path, local=True)
    if not Path(path).exists():
        raise SourceError(f"{path}: mask file not found")
    require_file(path)
    try:
        return read_header(path)
    except SourceError as error:
        raise SourceError(f"{path}: mask for a volume must be NIfTI (.nii, .nii.gz): {error}") from error
