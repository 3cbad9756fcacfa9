"""Room on a disk: how much is free, and whether an error says that none is left."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from pipeline.system.paths import existing

_FULL_BYTES = 2**20
"""Free bytes below which a disk counts as full."""
_NO_ROOM = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "see to what limits the size of files (ulimit -f, the limits of a job, the file system)",
}
"""What the system says where no more can be written, and what to do."""


def free_bytes(folder: str | Path) -> int | None:
    """Return what is free where a folder lies, or will lie; None if its file system does not say.

    Some that are served over a network cannot be asked, or say that they hold nothing at all.
    """
    try:
        disk = shutil.disk_usage(existing(Path(folder)))
    except OSError:
        return None
    return disk.free if disk.total else None


def is_full(folder: str | Path) -> bool:
    """Return True if hardly anything can be written where a folder lies."""
    free = free_bytes(folder)
    return free is not None and free < _FULL_BYTES


def no_room(folder: str | Path, error: Exception) -> int | None:
    """Return the number of the error by which no more can be written to a folder; None if it is another."""
    number = error.errno if isinstance(error, OSError) else None
    # numpy says how much it could write, and no number of an error; GDAL that a file it has written is none
    silent = number is None and (isinstance(error, OSError) or type(error).__module__.startswith("rasterio"))
    if silent and is_full(folder):
        return errno.ENOSPC
    return number if number in _NO_ROOM else None


def number_told(text: str) -> int | None:
    """Return the number of the error that a text tells, if no more can be written; None if it tells none."""
    return next((number for number in _NO_ROOM if os.strerror(number) in text), None)


def full_disk_message(path: str | Path, number: int) -> str:
    """Return what is said where nothing more can be written, and what to do."""
    return f"{path}: {os.strerror(number)}; {_NO_ROOM[number]} and run again to continue"
