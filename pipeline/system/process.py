"""What a process of the program's own sets for itself: a command or a worker, never the Python of somebody else."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from pipeline.system.words import visible

_CACHE_MB = 16
"""What GDAL may keep of tiles. Stages read a pixel once, but overviews of several bands are made band by band in tiles
that hold all of them: without any, each was packed anew for every band, which took a quarter of an assembly."""

_CONVOLUTIONS = 2048
"""Prepared convolutions that oneDNN keeps, about 170 KB each. A network has 25, and meets parts of a patch in hundreds
of shapes; with 1024, its default, a whole tile takes 5 % longer, and no number keeps all of a tile."""


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Numbers of the parameters in `malloc.h` of glibc; see `man mallopt`."""
_KEPT_BYTES = 64 * 2**20
"""What may lie free at the end of the heap."""
_OWN_PAGES_BYTES = 4 * 2**20
"""Arrays from here on get pages of their own, large ones where the kernel has them (numpy asks for that from 4 MiB on),
and give them back when they are freed."""

_GARBAGE = (100_000, 50, 50)
"""New objects, and rounds of the younger generations, after which Python looks through a generation for garbage. With
its own numbers it looks a thousand times while libraries make 600,000 objects that stay, which took 0.8 of 16 seconds
of a small run. Objects that nothing refers to go at once as ever; only those that refer to themselves wait."""


def settle() -> None:
    """Set how this process deals with memory; to be called before GDAL or PyTorch is used.

    GDAL keeps few tiles and oneDNN many convolutions, unless the user's environment says how many. The size is set
    once, as GDAL loses tiles that a thread has not written yet when another thread sets it: 7 of 10 files of
    2048 x 2048 x 4 had lost some. PyTorch asks for large pages from 2 MiB on, as numpy does by itself from 4 MiB on: a
    pass over a volume makes and frees 17 MB for each of its layers.
    """
    keep_freed()
    gc.set_threshold(*_GARBAGE)
    os.environ.setdefault("GDAL_CACHEMAX", str(_CACHE_MB))
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_CONVOLUTIONS))
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def leave() -> None:
    """Let Python end without looking for garbage; to be called last.

    While it takes modules apart it would look through all objects for rings of them, again and again: 0.9 s of a core
    once PyTorch and MONAI are loaded. Handlers that wait for the end are called as ever and streams flushed, but what
    stands in a module is not closed for it, so who writes has to close.
    """
    gc.freeze()


def keep_freed() -> None:
    """Let the C library keep freed memory for the next arrays, in one place for all threads; nothing if not glibc.

    Arrays of half a megabyte to some tens are made and freed all the time. By default glibc returns what lies free at
    the end of its heap beyond 128 KiB (later beyond twice the largest array), and dask asks its workers to return it
    beyond 64 KiB: restoring 2048 x 2048 x 4 with the spline took three and five million page faults so, 13 and 22 s of
    the kernel beside 33 s of arithmetic. As set here it takes 0.4 million and 5 s. glibc also gives each thread memory
    of its own that others cannot use: runs of large, nearly empty images took 314 or 336 MiB by how many threads zarr
    had, and now 265.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES_BYTES)
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Give the kernel back what lies free anywhere in the heap; nothing if not glibc.

    For where one stage ends and the next one makes arrays that have pages of their own: the self-test of a head of
    12.6 million voxels left 130 of 720 MiB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


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
        """Write a text, names of files and bands in it, as `visible`, if that is possible; returns its length."""
        with suppress(OSError, ValueError):
            self._stream.write(visible(text))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class Drawings(Remarks):
    """The same for what moves the cursor of a terminal, such as a progress bar: who writes makes names visible."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(getattr(stream, "_stream", stream))

    def write(self, text: str) -> int:
        """Write a text as it is, if that is possible; returns its length."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)


class Answers(Remarks):
    """A text stream for what programs may read: one that went away (`| head`) has what it wanted; all else fails."""

    def write(self, text: str) -> int:
        """Write a text as `visible` as long as somebody reads; returns its length."""
        with self._heard():
            self._stream.write(visible(text))
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
