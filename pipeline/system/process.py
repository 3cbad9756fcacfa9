"""What a process of the program's own sets for itself: a command or a worker, never the Python of somebody else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from pipeline.system.garbage import collect_seldom
from pipeline.system.heap import keep_freed

_CACHE_MB = 16
"""What GDAL may keep of tiles. Stages read a pixel once, but overviews of several bands are made band by band in tiles
that hold all of them: without any, each was packed anew for every band, which took a quarter of an assembly."""

_CONVOLUTIONS = 4096
"""Prepared convolutions that oneDNN keeps, about 25 KB each. A network has 25, and meets parts of a patch in hundreds
of shapes; with 1024, its default, most were prepared anew, which took an eighth of the time of all passes."""


def settle() -> None:
    """Set how this process deals with memory; to be called before GDAL or PyTorch is used.

    GDAL keeps few tiles and oneDNN many convolutions, unless the user's environment says how many. The size is set
    once, as GDAL loses tiles that a thread has not written yet when another thread sets it: 7 of 10 files of
    2048 x 2048 x 4 had lost some.
    """
    keep_freed()
    collect_seldom()
    os.environ.setdefault("GDAL_CACHEMAX", str(_CACHE_MB))
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_CONVOLUTIONS))


def mind_streams() -> None:
    """See to it that nothing depends on who still listens, and that no file takes the number of a closed stream.

    A log on a full disk or a terminal that is gone must not end a run, and what libraries say must not land in a file
    that was opened in the place of stderr.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
    # Python has None for a stream that was closed when it began
    sys.stdout = cast("TextIO", Answers(sys.stdout or os.fdopen(os.dup(1), "w")))
    sys.stderr = cast("TextIO", Remarks(sys.stderr or os.fdopen(os.dup(2), "w")))


class Remarks:
    """A text stream for what people may read: where it can no longer be written to, nothing is said.

    Whatever else is asked of it is asked of the stream behind it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text if that is possible; returns its length."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class Answers(Remarks):
    """A text stream for what programs may read: one that went away (`| head`) has what it wanted; all else fails."""

    def write(self, text: str) -> int:
        """Write a text as long as somebody reads; returns its length."""
        with self._heard():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written as long as somebody reads."""
        with self._heard():
            self._stream.flush()

    @contextmanager
    def _heard(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # what is buffered would be tried again when Python ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
