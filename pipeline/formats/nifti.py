"""NIfTI-1 and NIfTI-2, `.nii` and `.nii.gz`, 3-D and 4-D; the result has the input's own header bytes.

Files store voxels x-fastest, `(i, j, k, t)` in Fortran order, which is `(c, z, y, x)` in C order: transposing
is a matter of naming the axes, done here and nowhere else. Nothing is ever reoriented.
Spec: https://nifti.nimh.nih.gov/nifti-1/ and https://nifti.nimh.nih.gov/nifti-2/
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, Self

import nibabel
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.formats._files import first_bytes, require_file, scratch_folder, untrusted, writing
from pipeline.formats._gzip import MOST_INFLATED, deflate_file, inflate_file, inflate_range, open_inflated
from pipeline.formats._image import (
    Image,
    pulled,
    require_channels,
    require_once,
    require_plausible,
    unobserved,
    windows,
)
from pipeline.formats._nifti_header import OtherMatrix, grid, of_part, other_matrix, read_header, version_of
from pipeline.formats._remarks import remarks
from pipeline.formats._view import box_of, whole_of
from pipeline.formats.base import FOR_LOOKING_AT, Layer, Pull, Source, WriteOptions
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space
from pipeline.system.files import publish
from pipeline.system.meter import lap, reads
from pipeline.system.paths import kind_of

SUFFIXES = (".nii.gz", ".nii")
SPACE_KINDS = ("volume",)
_CIFTI_INTENTS = range(3000, 3100)
_LABEL_INTENTS = {1002: "label", 1003: "NeuroNames label"}


def sniff(path: str) -> bool:
    """Return True if the first (inflated) bytes are those of a NIfTI header."""
    if kind_of(path) != "file":
        return False
    try:
        with open_inflated(path) as file:
            return version_of(file.read(348)) != 0
    except (OSError, EOFError, zlib.error):
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Nifti(Image):
    """An opened volume or series of volumes; see `base.Source`.

    Attributes:
        data_path: where the voxels are read from: the file itself, or its inflated copy after `stage`.
        stored: dtype with the file's byte order.
        offset: first byte of the voxels in the inflated file.
        disk_shape: the header's own `dim`, `(i, j, k, ...)`.
        volumes: which volumes of the file the channels are, counted from 0.
        other: the matrix that is not used, if it says another place.
    """

    data_path: str
    stored: np.dtype[Any]
    offset: int
    disk_shape: tuple[int, ...]
    volumes: tuple[int, ...]
    other: OtherMatrix | None = None

    @property
    def expected_bytes(self) -> int:
        """Length of the inflated file: header, extensions and voxels."""
        return self.offset + math.prod(self.disk_shape) * self.stored.itemsize

    @reads
    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return stored voxels, unscaled, shape `(c, *box.shape)`, native byte order.

        On `.nii.gz` each call inflates everything before the window: `stage` first.

        Raises:
            SourceError: the file is truncated or damaged; says how many bytes were found and expected.
            ValueError: the box reaches out of the image.
        """
        self.require_inside(box)
        chosen = self.volumes[channels]
        values = np.empty((len(chosen), *box.shape), dtype=self.dtype)
        for at, volume in enumerate(chosen):
            values[at] = self._slab(volume, box)[(slice(None), *box.slices[1:])]
        return values

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return True where nothing was observed: NaN or infinity (or nodata, if one was given).

        Shape `(1, *box.shape)` if nothing of the kind can occur, else `(c, *box.shape)`.
        """
        self.require_inside(box)
        if self.nodata[0] is None and not np.issubdtype(self.dtype, np.floating):
            return np.zeros((1, *box.shape), dtype=np.bool_)
        return unobserved(self.read(box), self.nodata[0])

    def stage(self, directory: Path) -> Self:
        """Return this image with its `.nii.gz` inflated once into `directory`, to be memory-mapped.

        A complete copy of the same file (path, size, times) is used again; an incomplete one never has the
        final name. Who makes the copy is told in `notices` if something follows the compressed image in its file.

        Raises:
            SourceError: truncated or damaged.
        """
        if not self.compressed:
            return self
        stat = Path(self.data_path).stat()
        identity = f"{Path(self.data_path).resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        name = f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.nii"
        staged, said = directory / name, self.notices
        if not staged.exists() or staged.stat().st_size != self.expected_bytes:
            with lap("read"), scratch_folder(directory) as folder:
                if inflate_file(self.data_path, folder / name, self.expected_bytes):
                    said += (f"{self.data_path}: other bytes follow the compressed image, which is whole: left out",)
                publish(folder / name, staged)
        return replace(self, data_path=str(staged), notices=said)

    def space_of(self, box: Box) -> Space:
        """Return the grid of a part of the image, in the numbers of its header."""
        return grid(self.paths[0], of_part(read_header(self.data_path), box))

    @property
    def compressed(self) -> bool:
        """True if every window costs inflating the file from its start."""
        return _is_packed(self.data_path)

    def prefix(self) -> bytes:
        """Return the inflated file's bytes before the voxels: header and extensions."""
        if self.compressed:
            return inflate_range(self.data_path, 0, self.offset)
        with Path(self.data_path).open("rb") as file:
            return file.read(self.offset)

    def _slab(self, volume: int, box: Box) -> NDArray[Any]:
        """Return whole slices `box.start[0]:box.stop[0]` of one volume, stored byte order, `(z, y, x)`."""
        depth, rows, cols = self.space.shape
        plane = rows * cols * self.stored.itemsize
        start = self.offset + (volume * depth + box.start[0]) * plane
        shape = (box.shape[0], rows, cols)
        if self.compressed:
            raw = inflate_range(self.data_path, start, start + shape[0] * plane)
            return np.frombuffer(raw, dtype=self.stored).reshape(shape)
        _require_complete(self.data_path, self.expected_bytes)
        try:
            return np.memmap(self.data_path, dtype=self.stored, mode="r", offset=start, shape=shape)
        except OSError:
            # some file systems in user space map no files
            return np.fromfile(self.data_path, self.stored, math.prod(shape), offset=start).reshape(shape)


def open_source(
    paths: Sequence[str], *, bands: Sequence[int | str] | None = None, nodata: float | None = None
) -> Nifti:
    """Open one NIfTI file.

    Args:
        paths: exactly one file.
        bands: volumes of a 4-D file to use, by 1-based index or name (`volume_1`); None = all.
        nodata: stored value that means "nothing observed"; None = only non-finite voxels.

    Raises:
        SourceError: missing or damaged file; RGB, complex or label image; a shape that is no series.
    """
    if len(paths) != 1:
        raise SourceError(f"{len(paths)} NIfTI files given as one image; give one 3-D or 4-D file per source")
    path = str(paths[0])
    require_file(path, local=True)
    with untrusted(path, "damaged NIfTI header", "repair it, or copy the file again"):
        with remarks() as said:
            header = read_header(path)
        result = _describe(path, header, bands, nodata)
    if said:
        result = replace(result, attributes={**result.attributes, "remarks": said})
    require_plausible(result)
    return result


def _describe(path: str, header: Any, bands: Sequence[int | str] | None, nodata: float | None) -> Nifti:
    _refuse_unsuitable(path, header)
    stored = header.get_data_dtype()
    disk_shape = tuple(int(n) for n in header.get_data_shape())
    space = grid(path, header)
    other = other_matrix(header, space)
    expected = int(header.get_data_offset()) + math.prod(disk_shape) * stored.itemsize
    _require_complete(path, expected, packed=_is_packed(path))
    count = require_channels(path, math.prod(disk_shape[3:]))
    volumes = _select(path, count, bands)
    slope, inter = header.get_slope_inter()
    scale_offset = (1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter))
    return Nifti(
        kind="nifti",
        paths=(path,),
        space=space,
        n_channels=len(volumes),
        dtype=stored.newbyteorder("="),
        channel_names=tuple(f"volume_{v + 1}" for v in volumes) if count > 1 else ("volume",),
        nodata=(nodata,) * len(volumes),
        scale_offset=(scale_offset,) * len(volumes),
        native_chunk=(1, *space.shape[1:]),
        attributes=_attributes(header),
        notices=(f"{path}: {other.sentence()}",) if other else (),
        other=other,
        data_path=path,
        stored=stored,
        offset=int(header.get_data_offset()),
        disk_shape=disk_shape,
        volumes=volumes,
    )


def _refuse_unsuitable(path: str, header: Any) -> None:
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise SourceError(
            f"{path}: voxels of type {header.get_value_label('datatype')} cannot be restored; "
            "convert to integer or float of at most 64 bits"
        )
    intent = int(header["intent_code"])
    if intent in _CIFTI_INTENTS:
        raise SourceError(
            f"{path}: this is CIFTI (intent code {intent}), whose values lie on surfaces, not on a grid; "
            "take the volume out of it: `wb_command -cifti-separate ... -volume-all image.nii.gz`"
        )
    if intent in _LABEL_INTENTS:
        raise SourceError(
            f"{path}: intent code {intent} ({_LABEL_INTENTS[intent]}) says that the values are class codes, "
            "which cannot be restored; give the anatomical image, or use this file as a mask"
        )


def _select(path: str, count: int, bands: Sequence[int | str] | None) -> tuple[int, ...]:
    if bands is None:
        return tuple(range(count))
    names = {f"volume_{v + 1}": v for v in range(count)} | {v + 1: v for v in range(count)}
    unknown = [band for band in bands if band not in names]
    if unknown or not bands:
        raise ConfigError(f"{path}: no volume {unknown}; use 1-{count} or volume_1 ... volume_{count}")
    chosen = tuple(names[band] for band in bands)
    require_once(path, bands, chosen)
    return chosen


def _attributes(header: Any) -> dict[str, Any]:
    return {
        "nifti_version": 2 if int(header["sizeof_hdr"]) == 540 else 1,
        "byte_order": "big" if header.endianness == ">" else "little",
        "datatype": str(header.get_value_label("datatype")),
        "dim": [int(n) for n in header["dim"]],
        "pixdim": [float(v) for v in header["pixdim"]],
        "xyzt_units": int(header["xyzt_units"]),
        "qform_code": int(header["qform_code"]),
        "sform_code": int(header["sform_code"]),
        "intent_code": int(header["intent_code"]),
        "descrip": bytes(header["descrip"].tobytes()).rstrip(b"\0").decode("latin-1"),
        "extensions": [int(extension.get_code()) for extension in header.extensions],
    }


def _is_packed(path: str) -> bool:
    return first_bytes(path, 2) == b"\x1f\x8b"


def _require_complete(path: str, expected: int, *, packed: bool = False) -> None:
    found = Path(path).stat().st_size if Path(path).exists() else 0
    if found * (MOST_INFLATED if packed else 1) < expected:
        raise SourceError(f"{path}: truncated: {found} bytes found, {expected} expected from its header; copy it again")


def write(layer: Layer, path: Path, like: Source, pull: Pull, options: WriteOptions) -> None:
    """Write one layer as NIfTI of the same version and byte order as `like`; gzipped if `path` ends in .gz.

    `restored` and `display` start with the input's own bytes (header, extensions) and stay in stored units;
    `uncertainty` is pulled in physical units and has slope 1; `source` holds codes. Slabs go to an
    uncompressed temporary file, so that a series, stored volume by volume, is pulled only once.

    Args:
        layer: what to write.
        path: final name, replaced in one step.
        like: the input.
        pull: gives the finished voxels of a box.
        options: scratch folder and memory bound.

    Raises:
        OutputConflict: the file cannot be written.
    """
    prefix = _image_prefix(layer, like) if layer.is_image else _layer_prefix(layer, like)
    order: Literal["<", ">"] = ">" if like.attributes.get("byte_order") == "big" else "<"
    dtype = layer.dtype.newbyteorder(order)
    shape, pixel_bytes = like.space.shape, layer.n_channels * dtype.itemsize
    with writing(path, options.scratch) as folder:
        raw, packed = folder / "volume.nii", folder / "volume.nii.gz"
        with raw.open("wb") as file:
            file.write(prefix)
            for slab in windows(shape, (1, *shape[1:]), pixel_bytes, options.memory_bytes):
                values = pulled(pull, layer, slab).astype(dtype, copy=False)
                with lap("write"):
                    _write_slab(file, len(prefix), shape[0], slab, values)
        if path.name.endswith(".gz"):
            with lap("encode"):
                deflate_file(raw, packed)
        publish(packed if packed.exists() else raw, path)


def _write_slab(file: IO[bytes], offset: int, depth: int, slab: Box, values: NDArray[Any]) -> None:
    plane = math.prod(values.shape[2:]) * values.dtype.itemsize
    for channel, volume in enumerate(values):
        file.seek(offset + (channel * depth + slab.start[0]) * plane)
        file.write(np.ascontiguousarray(volume).data)


def _image_prefix(layer: Layer, like: Source) -> bytes:
    own = _own(like)
    if own is None:
        return _layer_prefix(layer, like, slope_inter=like.scale_offset[0])
    prefix = own.prefix()
    every = layer.n_channels == math.prod(own.disk_shape[3:])
    if every and layer.role == "restored" and own is like:
        return prefix
    header = _header(like)
    if not every:
        header["dim"] = _dim(like, layer.n_channels)
    if layer.role != "restored":
        header["descrip"] = _described(layer)
    block: bytes = header.binaryblock
    return block + prefix[len(block) :]


def _layer_prefix(layer: Layer, like: Source, *, slope_inter: tuple[float, float] = (1.0, 0.0)) -> bytes:
    """Return header bytes that keep the grid of `like` (matrices, codes, units) and nothing of its values."""
    header = _header(like)
    header.set_data_dtype(layer.dtype)
    header["dim"] = _dim(like, layer.n_channels)
    header["scl_slope"], header["scl_inter"] = slope_inter
    for name in ("cal_min", "cal_max", "intent_code", "intent_p1", "intent_p2", "intent_p3"):
        header[name] = 0
    header["intent_name"], header["aux_file"] = b"", b""
    header["descrip"] = _described(layer)
    block: bytes = header.binaryblock
    header["vox_offset"] = len(block) + 4
    # four zero bytes say that no extension follows
    return bytes(header.binaryblock) + b"\0\0\0\0"


def _own(like: Source) -> Nifti | None:
    """Return the NIfTI file that an image, or the part that it is, comes from; None for other formats."""
    whole = whole_of(like)
    return whole if isinstance(whole, Nifti) else None


def _header(like: Source) -> Any:
    """Return the header of an image or a part of one; made up where its format has none."""
    with remarks():
        own, part = _own(like), box_of(like)
        if own is None:
            return _header_of_space(like.space)
        header = read_header(own.data_path)
        return of_part(header, part) if part else header


def _described(layer: Layer) -> bytes:
    """Return the note of a header, at most 79 bytes: what the file is."""
    purpose = f", {FOR_LOOKING_AT}" if layer.role == "display" else ""
    return f"inpaint-pipeline {layer.role}{purpose}".encode()


def _dim(like: Source, channels: int) -> list[int]:
    own = _own(like)
    # a part has the axes of its file, also those of length 1
    shape = like.space.shape[::-1] if own is None else (*like.space.shape[::-1], *own.disk_shape[3:])
    shape = shape[: len(own.disk_shape)] if own is not None else shape
    if channels != math.prod(shape[3:]):
        spatial = (*shape[:3], 1, 1)[:3]
        shape = (*spatial, channels) if channels > 1 else spatial
    return [len(shape), *shape, *(1,) * (7 - len(shape))]


def _header_of_space(space: Space) -> Any:
    header = nibabel.Nifti1Header(endianness="<")
    affine = np.vstack([np.reshape(space.affine, (3, 4)), (0, 0, 0, 1)])
    header.set_data_shape(space.shape[::-1])
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header.set_xyzt_units("mm" if space.units == "mm" else None)
    return header
