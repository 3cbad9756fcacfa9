"""Blocks in worker processes of this machine: a dask `LocalCluster`.

A worker runs single-threaded arithmetic and is restarted by its nanny if it dies; each sees one GPU if the network runs
on GPUs. See `_processes` for how they are started and who may talk to them, `_drive` for what they are given to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.blocks.block import BlockResult
from pipeline.errors import ClusterGone
from pipeline.execute._drive import drive
from pipeline.execute._processes import cluster
from pipeline.execute.base import Failures, Work
from pipeline.system.gpu import release

_PATIENCE_S = 150.0
"""Nannies restart a dead worker within seconds, on slow machines within a minute or two; after this long none comes."""


_CLUSTERS = 2
"""A nanny whose worker ends in the moment of its start may not start another one; new nannies do."""


def execute(work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures:
    """Run the blocks on `work.workers` processes; see `execute.base`.

    Raises:
        ClusterGone: the workers could not be started, or every one was lost; the journal is intact and a rerun
            continues.
        PlanRefused: this machine does not let the program have worker processes.
    """
    if work.gpus:
        # what the survey held on the first GPU is now for the worker that has it
        release()
    left = dict.fromkeys(work.blocks)

    def finished(result: BlockResult) -> None:
        left.pop(result.block, None)
        on_done(result)

    gone: ClusterGone | None = None
    for _ in range(_CLUSTERS):
        with cluster(work.workers, int(work.memory_bytes * 1.25), work.gpus) as client:
            some = replace(work, blocks=tuple(left))
            try:
                return drive(client, some, finished, should_stop, patience_s=_PATIENCE_S, silent=True)
            except ClusterGone as error:
                gone = error
        if should_stop():
            break
    assert gone is not None, "a cluster returns what failed, or is gone"
    raise gone
