"""How much memory and disk a plan needs, known before it runs; a plan that cannot fit is refused with the numbers."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.errors import OutputConflict, PipelineError, PlanRefused
from pipeline.geometry.box import Box
from pipeline.plan.plan import Plan

_BASE_BYTES = 450 * 2**20
"""Python, torch, GDAL and zarr in one process before any pixel is read (measured 380-430 MiB)."""
_ACTIVATION_BYTES = {2: 900, 3: 700}
"""Network activations per patch pixel and channel in flight, bytes (measured on the shipped autoencoders)."""
_UNKNOWN_BYTES = 1300
"""Peak of the spline solver per unknown (measured 1.2 kB)."""
_COARSE_BYTES = 24
"""Copies of the coarse values held while they are filled: mean, valid, usable, float64 sums."""
_BLOCK_SIZES = {2: (1024, 768, 512, 384, 256), 3: (192, 128, 96, 64)}


def worker_bytes(plan: Plan, n_file_channels: int) -> int:
    """Return the peak memory one worker needs for one block, in bytes."""
    c, ndim = len(plan.channels), plan.ndim
    write = math.prod(min(b, n) for b, n in zip(plan.block, plan.space.shape, strict=True))
    read = plan.read_box(Box((0,) * ndim, plan.block).shift(_middle(plan))).size
    patch = math.prod(plan.lattice.patch)
    item = np.dtype(plan.dtype).itemsize
    guides = sum(8 for _ in plan.guides)
    held = read * (c * (4 + item + 1) + 3 * plan.n_state + c * guides)
    sums = write * (c * (8 + 8 + 1) + 8)
    composite = write * (3 * n_file_channels * item + c * (8 + 8 + 8) + 4 * plan.n_state)
    window = patch * c * 110
    at_once = c if plan.guides else int(plan.n_state > 1)
    reference = patch * (450 + 230 * at_once) if at_once else 0
    network = patch * min(c, 16) * _ACTIVATION_BYTES[ndim] // 8 if plan.model is not None else 0
    return _BASE_BYTES + held + sums + composite + plan.batch * (window + network) + reference


def disk_bytes(plan: Plan, n_file_channels: int) -> int:
    """Return an upper bound on work store plus results, in bytes (nothing compressed)."""
    c, item = len(plan.channels), np.dtype(plan.dtype).itemsize
    pixels = math.prod(plan.space.shape)
    return 3 * pixels * (n_file_channels * item + 4 * c + plan.n_state)


def auto_block(plan: Plan, n_file_channels: int, memory_bytes: int) -> tuple[int, ...]:
    """Return the largest standard block whose worker fits the memory; the smallest if none does."""
    from dataclasses import replace

    for size in _BLOCK_SIZES[plan.ndim]:
        block = (size,) * plan.ndim
        if worker_bytes(replace(plan, block=block), n_file_channels) <= memory_bytes:
            return block
    return (_BLOCK_SIZES[plan.ndim][-1],) * plan.ndim


def check_fits(plan: Plan, n_file_channels: int, memory_bytes: int) -> None:
    """Refuse a plan that does not fit memory or disk.

    Raises:
        PlanRefused: with needed and given bytes, and what to change.
    """
    need = worker_bytes(plan, n_file_channels)
    if need > memory_bytes:
        block = "x".join(map(str, plan.block))
        raise PlanRefused(
            f"{plan.source.paths[0]}: a block of {block} pixels x {len(plan.channels)} channels needs "
            f"{need / 2**30:.2f} GiB, compute.memory_per_worker is {memory_bytes / 2**30:.2f} GiB. Raise it to "
            f"at least {need / 2**30:.1f} GiB, or set a smaller compute.block or patch.size"
        )
    free = shutil.disk_usage(_existing(Path(plan.workdir))).free
    disk = disk_bytes(plan, n_file_channels)
    if disk > free:
        raise PlanRefused(
            f"{plan.workdir}: the run may write {disk / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free. "
            "Choose another output.directory or free some space"
        )


def check_survey(path: str, n_values: int, n_unknowns: int, memory_bytes: int) -> None:
    """Refuse an image whose coarse fill would not fit; its size is bounded, so only small limits are ever hit.

    Raises:
        PlanRefused: with needed and given bytes.
    """
    need = _BASE_BYTES + n_values * _COARSE_BYTES + n_unknowns * _UNKNOWN_BYTES
    if need > memory_bytes:
        raise PlanRefused(
            f"{path}: the survey's coarse fill ({n_unknowns} unknowns) needs {need / 2**30:.2f} GiB, "
            f"compute.memory_per_worker is {memory_bytes / 2**30:.2f} GiB; raise it to at least {need / 2**30:.1f} GiB"
        )


def check_disk(folder: str, reasons: Iterable[str]) -> None:
    """Explain blocks that failed because the disk is full; `reasons` are their error texts.

    Raises:
        OutputConflict: the disk is full.
    """
    free = shutil.disk_usage(_existing(Path(folder))).free
    if free < 2**20 or any(os.strerror(errno.ENOSPC) in reason for reason in reasons):
        raise OutputConflict(_full(folder))


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn "no space left" of any write inside the block into an error with exit code 6.

    Raises:
        OutputConflict: the disk is full.
    """
    try:
        yield
    except PipelineError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputConflict(_full(folder)) from error


def _full(folder: str | Path) -> str:
    return f"{folder}: {os.strerror(errno.ENOSPC)}; free some space and run again to continue"


def _middle(plan: Plan) -> tuple[int, ...]:
    """Origin of a block in the middle of the image, where its read box is widest."""
    return tuple(max(0, (n - b) // 2) for n, b in zip(plan.space.shape, plan.block, strict=True))


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
