"""Blocks in worker processes of this machine: a dask `LocalCluster` with a bounded window of large tasks.

The scheduler never sees more than a few tasks a worker, however many blocks there are; a worker opens files and loads
the model once (plugin), runs single-threaded arithmetic, and is restarted by its nanny if it dies. See `_cluster` for
how the processes are started and who may talk to them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed import Client, WorkerPlugin, wait
from distributed.client import Future
from distributed.comm import CommClosedError

from pipeline.blocks.block import BlockResult
from pipeline.errors import ClusterGone
from pipeline.execute._cluster import cluster
from pipeline.execute.base import Failures, Work, attempt
from pipeline.image.workspace import open_workspace

_TASKS_PER_WORKER = 2
_POLL_SECONDS = 1.0
_LONELY_SECONDS = 50.0
"""Nannies restart a dead worker within seconds; without any worker for this long, none will come back."""


class _Warm(WorkerPlugin):  # type: ignore[misc]
    """Open the plan's files and model when a worker starts, so that no task pays for it."""

    def __init__(self, workdir: str, digest: str) -> None:
        self.workdir, self.digest = workdir, digest

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        # what fails comes back as a future; what libraries say when a process is ended is not for our user
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        open_workspace(self.workdir, self.digest)


def execute(work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures:
    """Run the blocks on `work.workers` processes; see `execute.base`.

    Raises:
        ClusterGone: the workers could not be started, or every one was lost; the journal is intact and a rerun
            continues.
        PlanRefused: this machine does not let the program have worker processes.
    """
    with cluster(work.workers, int(work.memory_bytes * 1.25)) as client:
        try:
            return _run(client, work, on_done, should_stop)
        except (CommClosedError, TimeoutError) as error:
            raise ClusterGone(f"{work.workdir}: the dask scheduler does not answer; run again to continue") from error


def _run(
    client: Client, work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]
) -> Failures:
    failures: Failures = {}
    if should_stop():
        return failures
    with suppress(CommClosedError):
        # raised where a worker is lost meanwhile; the one that takes its place gets the plugin when it comes
        client.register_plugin(_Warm(work.workdir, work.digest))
    queue = iter(work.blocks)
    pending: dict[Future, int] = {}
    lonely_since: float | None = None
    while True:
        if not should_stop():
            _refill(client, work, queue, pending)
        if not pending:
            return failures
        _collect(pending, on_done, failures)
        lonely_since = None if _has_workers(client) else lonely_since or time.monotonic()
        if lonely_since is not None and should_stop():
            return failures
        if lonely_since is not None and time.monotonic() - lonely_since > _LONELY_SECONDS:
            raise ClusterGone(f"{work.workdir}: all dask workers are gone; run again to continue")


def _refill(client: Client, work: Work, queue: Iterator[int], pending: dict[Future, int]) -> None:
    while len(pending) < work.workers * _TASKS_PER_WORKER:
        block = next(queue, None)
        if block is None:
            return
        # a worker lost while it runs a block costs a retry, not the run
        future = client.submit(attempt, work_slice(work), block, key=f"block-{work.digest[:8]}-{block}", retries=2)
        pending[future] = block


def work_slice(work: Work) -> Work:
    """Return the work without its list of blocks: what a task needs to know, small on the wire."""
    from dataclasses import replace

    return replace(work, blocks=())


def _has_workers(client: Client) -> bool:
    return client.status == "running" and bool(client.scheduler_info()["workers"])


def _collect(pending: dict[Future, int], on_done: Callable[[BlockResult], None], failures: Failures) -> None:
    try:
        done = wait(list(pending), timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return
    for future in done:
        block = pending.pop(future)
        if future.cancelled():
            raise ClusterGone(f"block {block} was cancelled: the dask scheduler is gone; run again to continue")
        error = future.exception() if future.status == "error" else None
        result = future.result() if error is None else f"block {block}: worker lost: {error}"
        if isinstance(result, str):
            failures[block] = result
        else:
            on_done(result)
