"""Blocks in jobs of PBS, SGE, LSF and others: see `_jobs`; `compute.jobqueue` says which and how."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.blocks.block import BlockResult
from pipeline.errors import ConfigError
from pipeline.execute._jobs import on_jobs
from pipeline.execute.base import Failures, Work


def execute(work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures:
    """Run the blocks in jobs of a batch system; see `execute.base` and `_jobs.on_jobs`.

    Raises:
        ConfigError: no batch system is named.
    """
    kind = work.cluster.get("kind")
    if not kind:
        raise ConfigError("executor jobqueue: set compute.jobqueue.kind to the batch system, e.g. pbs")
    return on_jobs(kind, work, on_done, should_stop)
