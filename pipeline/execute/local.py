"""Blocks in worker processes of this machine: a dask `LocalCluster`.

A worker runs single-threaded arithmetic and is restarted by its nanny if it dies; each sees one GPU if the network runs
on GPUs. They start beside the survey, which leaves cores idle at times. See `_processes` for how they are started and
who may talk to them, `_drive` for what they are given to do.

Also known as: multiprocessing, processes, parallel, threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from distributed import Client
from distributed.comm import CommClosedError

from pipeline.blocks.block import BlockResult
from pipeline.errors import ClusterGone
from pipeline.execute._crew import DaskCrew
from pipeline.execute._drive import Warm, drive
from pipeline.execute._processes import cluster
from pipeline.execute.base import Crew, Failures, Work
from pipeline.system.gpu import release

_In = TypeVar("_In")
_Out = TypeVar("_Out")

HERE = True
"""Workers are processes of this machine, see `execute.base`."""

_PATIENCE_S = 150.0
"""Nannies restart a dead worker within seconds, on slow machines within a minute or two; after this long none comes."""


_CLUSTERS = 2
"""A nanny whose worker ends in the moment of its start may not start another one; new nannies do."""


class _Processes:
    """Worker processes that begin to start at once, while the caller does something else; see `execute.base.Crew`."""

    def __init__(self, work: Work) -> None:
        self.workers = 0
        self._stack = ExitStack()
        self._begin(work)

    def each(self, function: Callable[[_In], _Out], items: Sequence[_In], /) -> list[_Out]:
        """Return the results of all items; see `execute.base.Crew`."""
        crew = DaskCrew(self._started(), self._work, patience_s=_PATIENCE_S)
        try:
            return crew.each(function, items)
        finally:
            crew.close()
            self.workers = max(self.workers, crew.workers)

    def execute(self, work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures:
        """Run blocks; see `execute.base.Crew`."""
        if work.gpus:
            # what the survey held on the first GPU is now for the worker that has it
            release()
        if work.workers > self._work.workers:
            # the outline of the plan had fewer blocks
            self.close()
            self._begin(work)
        left = dict.fromkeys(work.blocks)

        def finished(result: BlockResult) -> None:
            left.pop(result.block, None)
            on_done(result)

        gone: ClusterGone | None = None
        for attempt in range(_CLUSTERS):
            if attempt:
                self._begin(work)
            client, some = self._started(), replace(work, blocks=tuple(left))
            try:
                return drive(client, some, finished, should_stop, patience_s=_PATIENCE_S, own=True)
            except ClusterGone as error:
                gone = error
                self.close()
            if should_stop():
                break
        assert gone is not None, "a cluster returns what failed, or is gone"
        raise gone

    def close(self) -> None:
        """End the processes; those that are starting are waited for."""
        with suppress(Exception):
            self._client.result()
        self._stack.close()

    def _begin(self, work: Work) -> None:
        self._work = work
        starter = ThreadPoolExecutor(1, thread_name_prefix="workers")
        self._client = starter.submit(self._start, work)
        starter.shutdown(wait=False)

    def _start(self, work: Work) -> Client:
        client = self._stack.enter_context(cluster(work.workers, int(work.memory_bytes * 1.25), work.gpus))
        # what a worker imports for it takes most of its start
        with suppress(CommClosedError):
            client.register_plugin(Warm(work.workdir, "", own=True))
        return client

    def _started(self) -> Client:
        """Return the client of the processes, once they are there.

        Raises:
            ClusterGone, PlanRefused: see `_processes.cluster`.
        """
        return self._client.result()


@contextmanager
def opened(work: Work, should_stop: Callable[[], bool]) -> Iterator[Crew]:  # noqa: ARG001
    """Give `work.workers` processes, which begin to start; none is left at the end of the block.

    What keeps them from starting is raised when they are first needed:

    Raises:
        ClusterGone: the workers could not be started, or every one was lost; the journal is intact and a rerun
            continues.
        PlanRefused: this machine does not let the program have worker processes.
    """
    processes = _Processes(work)
    try:
        yield processes
    finally:
        processes.close()
