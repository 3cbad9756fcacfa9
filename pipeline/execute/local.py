"""Blocks in worker processes of this machine: a dask `LocalCluster` with a bounded window of large tasks.

The scheduler never sees more than a few tasks a worker, however many blocks there are; a worker opens files and loads
the model once (plugin), runs single-threaded arithmetic, and is restarted by its nanny if it dies.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from distributed import Client, LocalCluster, WorkerPlugin, wait
from distributed.client import Future

from pipeline.blocks.block import BlockResult
from pipeline.errors import ClusterGone
from pipeline.execute.base import Failures, Work, attempt
from pipeline.image.workspace import open_workspace

_TASKS_PER_WORKER = 2
_POLL_SECONDS = 1.0
_LONELY_SECONDS = 60.0
"""Nannies restart a dead worker within seconds; without any worker for this long, none will come back."""


class _Warm(WorkerPlugin):  # type: ignore[misc]
    """Open the plan's files and model when a worker starts, so that no task pays for it."""

    def __init__(self, workdir: str, digest: str) -> None:
        self.workdir, self.digest = workdir, digest

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        if threading.current_thread() is threading.main_thread():
            # Ctrl-C reaches the whole process group; blocks in flight are to be finished
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        open_workspace(self.workdir, self.digest)


def execute(work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures:
    """Run the blocks on `work.workers` processes; see `execute.base`.

    Raises:
        ClusterGone: every worker was lost; the journal is intact and a rerun continues.
    """
    failures: Failures = {}
    with (
        LocalCluster(
            n_workers=work.workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=int(work.memory_bytes * 1.25),
            # a free port: another run on this machine may have the usual one
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            # workers that miss a heartbeat while the cluster closes print tracebacks; real failures come as futures
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(_Warm(work.workdir, work.digest))
        queue = iter(work.blocks)
        pending: dict[Future, int] = {}
        lonely_since: float | None = None
        while True:
            if not should_stop():
                _refill(client, work, queue, pending)
            if not pending:
                break
            _collect(pending, on_done, failures)
            lonely_since = None if _has_workers(client) else lonely_since or time.monotonic()
            if lonely_since is not None and (should_stop() or time.monotonic() - lonely_since > _LONELY_SECONDS):
                raise ClusterGone(f"{work.workdir}: all dask workers are gone; run again to continue")
    return failures


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
