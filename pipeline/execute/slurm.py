"""Blocks in jobs of Slurm: see `_jobs`; `compute.slurm` says how they are asked for."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.blocks.block import BlockResult
from pipeline.execute._jobs import on_jobs
from pipeline.execute.base import Failures, Work


def execute(work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures:
    """Run the blocks in Slurm jobs; see `execute.base` and `_jobs.on_jobs`."""
    return on_jobs("slurm", work, on_done, should_stop)
