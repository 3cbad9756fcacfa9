"""Look through the boxes of a JPEG 2000 file before GDAL does, which goes round in circles on a box without length.

Format: ISO/IEC 15444-1, annex I. A box is its length (4 bytes), its type (4 bytes) and its content.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from pipeline.errors import SourceError
from pipeline.formats._archive import opened_in_archive

_MAGIC = b"\0\0\0\x0cjP  "
_NESTED = (b"asoc", b"jp2h", b"res ")
_DEPTH = 16


def require_sound_boxes(path: str) -> None:
    """Check that every box of a local JPEG 2000 file leads on to the next; a bare code stream has none.

    Raises:
        SourceError: a box is shorter than its own head; names its place.
    """
    with Path(path).open("rb") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            _walk(path, file, (0, Path(path).stat().st_size), 0)


def require_sound_boxes_in_archive(path: str) -> None:
    """Check the same of a file in a zip archive, named as GDAL does: `/vsizip/ARCHIVE/FILE`.

    Raises:
        SourceError: as `require_sound_boxes`, or the archive has no such file, or is damaged.
    """
    with opened_in_archive(path) as (file, length):
        if file.read(len(_MAGIC)) == _MAGIC:
            _walk(path, file, (0, length), 0)


def _walk(path: str, file: IO[bytes], span: tuple[int, int], depth: int) -> None:
    at, end = span
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        length, kind, own = int.from_bytes(head[:4]), head[4:8].lower(), 8
        if length == 1:
            length, own = int.from_bytes(head[8:16]), 16
        if length == 0 and depth == 0:
            return  # the last box, up to the end of the file
        if length < own or depth > _DEPTH:
            raise SourceError(f"{path}: box {kind!r} at byte {at} has a length of {length}; copy the file again")
        if kind in _NESTED:
            _walk(path, file, (at + own, min(at + length, end)), depth + 1)
        at += length
