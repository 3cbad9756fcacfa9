"""Which of 0 and the largest value is white in a TIFF: GDAL writes cloud-optimised ones with a black 0 only."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_BIG, _PHOTOMETRIC = 43, 262
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1


def mark_white_is_zero(path: Path) -> None:
    """Say in every image of a TIFF, its reduced ones too, that 0 is white; no byte moves, so the layout stays as it is.

    Masks have a mark of their own and keep it. TIFF 6.0, sections 2 and 4
    (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf), and BigTIFF
    (https://www.awaresystems.be/imaging/tiff/bigtiff.html).
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        order = "<" if content[:2] == b"II" else ">"
        short = struct.Struct(f"{order}H")
        big = short.unpack_from(content, 2)[0] == _BIG
        count, offset = (struct.Struct(order + kind) for kind in ("QQ" if big else "HI"))
        entry_bytes, value_at = (20, 12) if big else (12, 8)
        (at,) = offset.unpack_from(content, 8 if big else 4)
        while at:
            (entries,) = count.unpack_from(content, at)
            first = at + count.size
            end = first + entries * entry_bytes
            for entry in range(first, end, entry_bytes):
                value = short.unpack_from(content, entry + value_at)[0]
                if (short.unpack_from(content, entry)[0], value) == (_PHOTOMETRIC, _BLACK_IS_ZERO):
                    short.pack_into(content, entry + value_at, _WHITE_IS_ZERO)
            (at,) = offset.unpack_from(content, end)
