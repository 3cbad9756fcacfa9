"""How much disk a plan needs, known before it runs; what cannot fit is refused with the numbers."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.errors import OutputConflict, PlanRefused
from pipeline.plan.plan import Plan
from pipeline.system.room import free_bytes, full_disk_message, is_full, number_told
from pipeline.system.units import told_bytes

_LOSSY = 10
"""A file that was compressed with loss is at most this much larger when it is written without."""
_OVERVIEWS = 4 / 3
"""A file with its overviews over one without."""
_OUTLINE_BYTES = 1 / 16
"""Outside of blocks, per pixel and plane: outlines of what is never touched, compressed (clouds took up to 1/20)."""


def disk_bytes(plan: Plan, n_file_channels: int, *, display: bool = False) -> int:
    """Return what work store and results may take, in bytes; `display`: with the display product.

    Blocks count as if nothing compressed them, in the store, in a file and in the scratch copy that it is made of. What
    lies outside of blocks is moved: it takes about what it takes in the input. An image that is all holes needs three
    times its layers.
    """
    c, item = len(plan.channels), np.dtype(plan.dtype).itemsize
    pixels, layers = math.prod(plan.space.shape), n_file_channels * item + 4 * c + plan.n_state
    everything = pixels * layers
    blocks = min(everything, len(plan.blocks) * math.prod(plan.block) * layers)
    moved = pixels * n_file_channels * item
    lies = _bytes_on_disk(plan.source.paths)
    if lies is not None:
        moved = min(moved, _LOSSY * lies)
    outline = pixels * _OUTLINE_BYTES
    results = min(everything, blocks + moved + outline * (plan.n_state + c))
    # one more image, and the scratch copy that it is made of, go with the others
    again = pixels * n_file_channels * item if display else 0
    return min(3 * everything, int(blocks + outline * plan.n_state + 2 * _OVERVIEWS * results)) + 2 * again


def _bytes_on_disk(paths: Iterable[str]) -> int | None:
    """Return the bytes of files and folders; None if one lies elsewhere, or only names others."""
    total = 0
    for path in map(Path, paths):
        if not path.exists() or path.suffix.lower() == ".vrt":
            return None
        files = path.rglob("*") if path.is_dir() else (path,)
        total += sum(file.stat().st_size for file in files if file.is_file())
    return total


def check_room(plan: Plan, n_file_channels: int, *, display: bool = False) -> None:
    """Refuse a plan, with its blocks, whose files do not fit the disk; `display`: with the display product.

    Raises:
        PlanRefused: with needed and free bytes, and what to change.
    """
    free = free_bytes(plan.workdir)
    disk = disk_bytes(plan, n_file_channels, display=display)
    if free is not None and disk > free:
        raise PlanRefused(
            f"{plan.workdir}: the run may write {told_bytes(disk)}, {told_bytes(free)} are free. "
            "Choose another output.directory or free some space"
        )


def check_disk(folder: str, reasons: Iterable[str]) -> None:
    """Explain blocks that failed because the disk is full; `reasons` are their error texts.

    Raises:
        OutputConflict: the disk is full.
    """
    found = number_told(" ".join(reasons))
    if found or is_full(folder):
        raise OutputConflict(full_disk_message(folder, found or errno.ENOSPC))
