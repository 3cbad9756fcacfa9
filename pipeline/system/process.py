"""What a process of the program's own sets for itself: a command or a worker, never the Python of somebody else."""

from __future__ import annotations

import os

from pipeline.system.garbage import collect_seldom
from pipeline.system.heap import keep_freed

_CACHE_MB = 16
"""What GDAL may keep of tiles. Stages read a pixel once, but overviews of several bands are made band by band in tiles
that hold all of them: without any, each was packed anew for every band, which took a quarter of an assembly."""


def settle() -> None:
    """Set how this process deals with memory; to be called before GDAL is used.

    GDAL keeps few tiles, unless the user's environment says how many. The size is set once, as GDAL loses tiles that a
    thread has not written yet when another thread sets it: 7 of 10 files of 2048 x 2048 x 4 had lost some.
    """
    keep_freed()
    collect_seldom()
    os.environ.setdefault("GDAL_CACHEMAX", str(_CACHE_MB))
