"""Workers of a dask scheduler that are there for a whole image: for windows of the self-test, then for blocks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from distributed import Client, wait
from distributed.client import Future
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker
from threadpoolctl import threadpool_limits

from pipeline.blocks.block import BlockResult
from pipeline.errors import ClusterGone
from pipeline.execute._checks import check_workers
from pipeline.execute._drive import ONE_AT_A_TIME, drive
from pipeline.execute._parcels import Depot, Parcel, packed, unpacked
from pipeline.execute.base import Failures, Work
from pipeline.plan.workdir import WorkFolder
from pipeline.system.meter import as_facts, metered, taken_over
from pipeline.system.signals import stop_if_asked

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_POLL_S = 0.5
_FETCH_S = 60.0
"""Seconds in which a result comes over; one that does not was lost with its worker, and is made again."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What a worker gives back for an item."""

    value: Parcel
    work: dict[str, list[float]]
    """What was counted, see `system.meter`."""


def _nothing() -> None:
    """Have nothing to check."""


class DaskCrew:
    """Workers of a client; see `execute.base.Crew`."""

    def __init__(self, client: Client, work: Work, *, patience_s: float, check: Callable[[], None] = _nothing) -> None:
        self._client, self._work, self._patience_s, self._check = client, work, patience_s, check
        self._depot = Depot(WorkFolder(Path(work.workdir)).parcels)
        self._lonely_since: float | None = None
        self.workers = 0

    def each(self, function: Callable[[_In], _Out], items: Sequence[_In], /) -> list[_Out]:
        """Return the results of all items; see `execute.base.Crew`."""
        what, futures = self._depot.packed(function), list[Future]()
        try:
            futures += [self._submitted(what, item) for item in items]
            return [self._result(future) for future in futures]
        except (CommClosedError, CancelledError, TimeoutError) as error:
            raise ClusterGone(
                f"{self._work.workdir}: the dask scheduler does not answer; run again to continue"
            ) from error
        finally:
            with suppress(Exception):
                self._client.cancel(futures)

    def execute(self, work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures:
        """Run blocks; see `execute.base.Crew`."""
        self._depot.close()
        check_workers(self._client, work)
        return drive(self._client, work, on_done, should_stop, patience_s=self._patience_s)

    def close(self) -> None:
        """Leave nothing in the work folder."""
        self._depot.close()

    def _submitted(self, what: Parcel, item: Any) -> Future:
        stop_if_asked()
        task = (_compute, str(self._depot.folder), what, self._depot.packed(item))
        return self._client.submit(*task, key=f"window-{uuid4().hex}", pure=False)

    def _result(self, future: Future) -> Any:
        while True:
            self._wait(future)
            error = future.exception(timeout=_FETCH_S) if future.status == "error" else None
            if isinstance(error, KilledWorker):
                raise ClusterGone(
                    f"{self._work.workdir}: a window of the self-test ended every worker that had it (killed, or "
                    "out of memory?); raise compute.memory_per_worker and run again"
                ) from error
            if error is not None:
                raise error
            try:
                done: _Done = future.result(timeout=_FETCH_S)
            except TimeoutError:
                continue
            taken_over(done.work)
            return unpacked(done.value)

    def _wait(self, future: Future) -> None:
        """Wait for the end of a task.

        Raises:
            Interrupted: a stop was requested.
            ClusterGone: nobody is left who could do it.
        """
        while not future.done():
            stop_if_asked()
            workers = len(self._client.nthreads()) if self._client.status == "running" else 0
            self.workers = max(self.workers, workers)
            self._lonely_since = None if workers else self._lonely_since or time.monotonic()
            if not workers:
                self._check()
            if self._lonely_since and time.monotonic() - self._lonely_since > self._patience_s:
                raise ClusterGone(f"{self._work.workdir}: all dask workers are gone; run again to continue")
            with suppress(TimeoutError):
                wait([future], timeout=_POLL_S)


@contextmanager
def crew_of(
    client: Client, work: Work, *, patience_s: float, check: Callable[[], None] = _nothing
) -> Iterator[DaskCrew]:
    """Give the workers of a client, once it is clear that they can do the work.

    Args:
        client: has workers.
        work: without blocks and digest if there is no plan yet.
        patience_s: seconds without any worker after which none is expected any more.
        check: raises if it is known that none will come.

    Raises:
        PlanRefused: see `check_workers`.
    """
    if not work.digest:
        check_workers(client, work)
    crew = DaskCrew(client, work, patience_s=patience_s, check=check)
    try:
        yield crew
    finally:
        crew.close()


def _compute(folder: str, function: Parcel, item: Parcel) -> _Done:
    """Be what a worker does for an item, as one thread of the client would do it."""
    with ONE_AT_A_TIME, threadpool_limits(limits=1), metered() as uses:
        where = Path(folder)
        call, given = unpacked(function, where), unpacked(item, where)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
        value = packed(call(given))
    return _Done(value, as_facts(uses))
