"""Freed memory is kept for the next arrays, in one place for all threads: less work for the kernel, and less of it.

Arrays of half a megabyte to some tens are made and freed all the time. By default glibc returns what lies free at the
end of its heap beyond 128 KiB (later beyond twice the largest array), and dask asks its workers to return it beyond
64 KiB: restoring 2048 x 2048 x 4 with the spline took three and five million page faults so, 13 and 22 s of the kernel
beside 33 s of arithmetic. As set here it takes 0.4 million and 5 s. glibc also gives each thread memory of its own that
others cannot use: runs of large, nearly empty images took 314 or 336 MiB by how many threads zarr had, and now 265.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Numbers of the parameters in `malloc.h` of glibc; see `man mallopt`."""
_KEPT_BYTES = 64 * 2**20
"""What may lie free at the end of the heap."""
_OWN_PAGES_BYTES = 4 * 2**20
"""Arrays from here on get pages of their own, large ones where the kernel has them (numpy asks for that from 4 MiB on),
and give them back when they are freed."""


def keep_freed() -> None:
    """Let the C library of this process keep some freed memory; nothing where it is not glibc.

    For processes of the program's own: to set it is to change how memory is handed out in all of a process.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES_BYTES)
        mallopt(_M_ARENA_MAX, 1)
