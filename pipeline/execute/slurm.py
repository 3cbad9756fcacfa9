"""Blocks in jobs of Slurm: see `_jobs`; `compute.slurm` says how they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from pipeline.execute._jobs import jobs_of
from pipeline.execute.base import Crew, Work


def opened(work: Work, should_stop: Callable[[], bool]) -> AbstractContextManager[Crew]:
    """Give Slurm jobs; see `execute.base` and `_jobs.jobs_of`."""
    return jobs_of("slurm", work, should_stop)
