"""Room on a disk: how much is free, and whether an error says that none is left."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import OutputConflict, PipelineError
from pipeline.system.paths import existing

_FULL_BYTES = 2**20
"""Free bytes below which a disk counts as full."""
_FEW_FILES = 1000
"""Files that can still be made below which a disk counts as full of files."""
_NO_ROOM = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota (of bytes, or of files)",
    errno.EFBIG: "see to what limits the size of files (ulimit -f, the limits of a job, the file system)",
}
"""What the system says where no more can be written, and what to do."""
_SEE_TO = "see to the folder or its disk and run again"


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
    return f"{path}: {os.strerror(number)}; {_remedy(path, number)}"


def what_to_do(path: str | Path, error: OSError, otherwise: str = _SEE_TO) -> str:
    """Return what to do about an error of writing: more room if that is what lacks, else what else is said of it.

    Another folder would do for a full disk, too, but lose what a run has computed.
    """
    number = no_room(path, error)
    return otherwise if number is None else _remedy(path, number)


def _remedy(path: str | Path, number: int) -> str:
    remedy = _NO_ROOM[number]
    if number == errno.ENOSPC and _is_full_of_files(path):
        remedy = "there is space, but hardly another file can be made (`df -i`): remove files there"
    return f"{remedy} and run again to continue"


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn "no space left" of any write inside the block into an error with exit code 6.

    Raises:
        OutputConflict: the disk or a quota is full, or a file as large as it may be.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        number = no_room(folder, error)
        if number is None:
            raise
        raise OutputConflict(full_disk_message(folder, number)) from error


def _is_full_of_files(path: str | Path) -> bool:
    """Return True where bytes are free, but file systems that count their files (inodes) have hardly one left."""
    try:
        counts = os.statvfs(existing(Path(path)))
    except OSError:
        return False
    return 0 <= counts.f_favail < min(_FEW_FILES, counts.f_files) and not is_full(path)
