"""Blocks in jobs of PBS, SGE, LSF and others: see `_jobs`; `compute.jobqueue` says which and how.

Also known as: pbs, torque, lsf, sge, grid engine, htcondor, moab, oar.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from pipeline.errors import ConfigError
from pipeline.execute._jobs import jobs_of
from pipeline.execute.base import Crew, Work


def opened(work: Work, should_stop: Callable[[], bool]) -> AbstractContextManager[Crew]:
    """Give jobs of a batch system; see `execute.base` and `_jobs.jobs_of`.

    Raises:
        ConfigError: no batch system is named.
    """
    kind = work.cluster.get("kind")
    if not kind:
        raise ConfigError("executor jobqueue: set compute.jobqueue.kind to the batch system, e.g. pbs")
    return jobs_of(kind, work, should_stop)
