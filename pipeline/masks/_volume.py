"""NIfTI masks: gzip cannot be read window by window, so the file is read once and kept as one bit a voxel."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space
from pipeline.masks._grid import selected
from pipeline.masks.base import states_from

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
    image = _load(path)
    shape = image.shape[:3] + (1,) * (3 - len(image.shape[:3]))
    affine = tuple(float(v) for v in np.asarray(image.affine)[:3].ravel())
    own = Space(kind="volume", shape=tuple(reversed(shape)), affine=affine, crs="RAS+", units="mm")
    mismatch = source.space.mismatch(own)
    if mismatch:
        raise SourceError(
            f"{path}: the mask does not lie on the image's grid ({mismatch})\n"
            f"  mask:  {own.describe()}\n  image: {source.space.describe()}\n"
            "resample the mask to the image with your neuroimaging tool (nearest neighbour)"
        )
    volumes = int(np.prod(image.shape[3:]))
    if volumes not in (1, source.n_channels):
        raise SourceError(f"{path}: has {volumes} volumes, the image has {source.n_channels}; give 1 or as many")
    facts = Path(path).stat()
    return VolumeMask(path=path, values=values, stamp=(facts.st_ino, facts.st_size, facts.st_mtime_ns))


@lru_cache(maxsize=8)
def _bits(path: str, values: tuple[float, ...] | None, _stamp: tuple[int, int, int]) -> tuple[NDArray[np.uint8], int]:
    """Return the mask as bits packed along x, shape `(t, z, y, ceil(x / 8))`, and the extent in x.

    The stamp (inode, bytes, time of change) keeps a new file of the same name from being taken for the old one.
    """
    image = _load(path)
    shape = tuple(image.shape) + (1,) * (4 - len(image.shape))
    i, j, k, t = (*shape[:3], int(np.prod(shape[3:])))
    packed = np.zeros((t, k, j, -(-i // 8)), dtype=np.uint8)
    for index, plane in enumerate(_planes(image, path, i * j, k * t)):
        hole = selected(plane, values).reshape(j, i)
        packed[index // k, index % k] = np.packbits(hole, axis=-1)
    packed.setflags(write=False)
    return packed, i


def _planes(image: Any, path: str, size: int, count: int) -> Any:
    """Yield the stored planes one by one with the file's slope applied, reading straight through."""
    from nibabel.openers import ImageOpener

    proxy = image.dataobj
    dtype = proxy.dtype
    slope, inter = float(proxy.slope), float(proxy.inter)
    try:
        with ImageOpener(image.file_map["image"].filename) as file:
            file.seek(proxy.offset)
            for index in range(count):
                data = file.read(size * dtype.itemsize)
                if len(data) < size * dtype.itemsize:
                    raise SourceError(f"{path}: mask ends in plane {index} of {count}; the file is truncated")
                plane = np.frombuffer(data, dtype=dtype)
                yield plane if (slope, inter) == (1.0, 0.0) else plane * slope + inter
    except (OSError, EOFError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: mask cannot be read: {error}") from error


def _load(path: str) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    if not Path(path).exists():
        raise SourceError(f"{path}: mask file not found")
    try:
        return nibabel.Nifti1Image.from_filename(path)
    except ImageFileError:
        pass
    try:
        return nibabel.Nifti2Image.from_filename(path)
    except (ImageFileError, OSError, EOFError) as error:
        raise SourceError(f"{path}: mask for a volume must be NIfTI (.nii, .nii.gz): {error}") from error
