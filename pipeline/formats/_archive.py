"""Files in zip archives, named as GDAL does: `/vsizip/ARCHIVE/FILE`."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import SourceError

ZIP = "/vsizip/"
"""Before the path of an archive, in GDAL's name of a file in it."""


def on_disk(path: str) -> Path | None:
    """Return the file of this machine that a path means: itself, or the archive it lies in; None if there is none."""
    if path.startswith(ZIP):
        return next((up for up in Path(path.removeprefix(ZIP)).parents if up.is_file()), None)
    return Path(path) if Path(path).exists() else None


@contextmanager
def opened_in_archive(path: str) -> Iterator[tuple[IO[bytes], int]]:
    """Yield a file in an archive, and its length in bytes.

    Raises:
        SourceError: there is no such archive or file, or it is damaged.
    """
    archive = on_disk(path)
    if archive is None:
        raise SourceError(f"{path}: no such archive; check the path")
    name = Path(path.removeprefix(ZIP)).relative_to(archive).as_posix()
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(name) as file:
            yield file, opened.getinfo(name).file_size
    except (OSError, KeyError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read from the archive ({error}); unpack it, or copy it again") from None
