"""What tasks are given and give back, as bytes: an array goes to the shared work folder once, however often it is sent.

Windows of the self-test are looked at again and again: by fills, references, the network. What changes between two
looks is little of what a look needs, so large arrays lie in files that are named by their content.

Arrays come out laid out in memory as they went in. Sums over another layout round differently, and what a worker
computes has to be what a thread of the client would have computed.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import IntegrityError
from pipeline.system.files import remove_made
from pipeline.system.late import seen_in_time

_LARGE = 2**15
"""Bytes from which an array is not sent with what refers to it."""

_Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A value whose large arrays lie elsewhere: as bytes beside it, or in files of these names."""

    head: bytes
    arrays: tuple[_Bytes | str, ...]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray and obj.nbytes >= _LARGE and not obj.flags.forc and not obj.dtype.hasobject:
            return _spread, _compact(obj)
        return super().reducer_override(obj)


def _compact(array: NDArray[Any]) -> tuple[NDArray[Any], tuple[int, ...], tuple[int, ...]]:
    """Return the values of an array without repetitions, in the order of memory, and what `_spread` needs beside."""
    once = array[tuple(slice(0, 1) if step == 0 else slice(None) for step in array.strides)]
    order = sorted(range(array.ndim), key=lambda axis: -abs(once.strides[axis]))
    return np.ascontiguousarray(once.transpose(order)), tuple(int(k) for k in np.argsort(order)), array.shape


def _spread(values: NDArray[Any], axes: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
    there = values.transpose(axes)
    return there if there.shape == shape else np.broadcast_to(there, shape)


def packed(value: Any) -> Parcel:
    """Return a value with its large arrays beside it."""
    buffers: list[_Bytes] = []

    def aside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _LARGE:
            return True
        buffers.append(np.frombuffer(raw, dtype=np.uint8))
        return False

    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=aside).dump(value)
    return Parcel(stream.getvalue(), tuple(buffers))


def unpacked(parcel: Parcel, folder: Path | None = None) -> Any:
    """Return the value of a parcel.

    Args:
        parcel: made here or elsewhere.
        folder: where its arrays are, if they lie in files.

    Raises:
        IntegrityError: a file is not seen in time, or is not what was written.
    """

    def bytes_of(array: _Bytes | str) -> _Bytes:
        if isinstance(array, str):
            assert folder is not None, "arrays in files have a folder"
            return _read(folder / array)
        # what came over the network may be read-only, and belong to what it came with
        return array.copy()

    return pickle.loads(parcel.head, buffers=[bytes_of(array) for array in parcel.arrays])


class Depot:
    """A folder that all workers see, with every array that was sent once; it is gone when it is closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._there: set[str] = set()

    def packed(self, value: Any) -> Parcel:
        """Return a value whose large arrays lie in the folder."""
        parcel = packed(value)
        return Parcel(parcel.head, tuple(self._kept(array) for array in parcel.arrays))

    def close(self) -> None:
        """Remove the folder."""
        self._there.clear()
        remove_made(self.folder)

    def _kept(self, array: _Bytes | str) -> str:
        assert not isinstance(array, str), "just packed"
        name = _name(array)
        if name not in self._there:
            self.folder.mkdir(exist_ok=True)
            array.tofile(self.folder / name)
            self._there.add(name)
        return name


def _name(array: _Bytes) -> str:
    return hashlib.blake2b(array.data, digest_size=20).hexdigest()


def _read(path: Path) -> _Bytes:
    found: list[_Bytes] = []

    def complete() -> bool:
        found[:] = [np.fromfile(path, dtype=np.uint8)] if path.exists() else []
        return bool(found) and _name(found[0]) == path.name

    if not seen_in_time(complete):
        raise IntegrityError(f"{path}: is not what was written there; check the disk, and that all machines share it")
    return found[0]
