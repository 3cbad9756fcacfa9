"""Blocks as tasks of a dask scheduler, whoever started its workers: a bounded window of large tasks.

The scheduler never sees more than a few tasks a worker, however many blocks there are, and a task is as many blocks as
take a moment together; a worker opens files and loads the model once (plugin), and computes one block at a time: open
files are not for several threads.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client, WorkerPlugin, wait
from distributed.client import Future
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from pipeline.blocks.block import BlockResult
from pipeline.blocks.store import created
from pipeline.errors import ClusterGone
from pipeline.execute.base import Failures, Work, attempt, silence
from pipeline.image.workspace import open_workspace
from pipeline.plan.facts import all_there
from pipeline.plan.workdir import WorkFolder
from pipeline.system.late import seen_in_time
from pipeline.system.process import settle

_TASKS_PER_WORKER = 2
_POLL_SECONDS = 1.0
_TASK_SECONDS = 0.25
"""What the blocks of a task take together, if one alone takes less: the scheduler needs milliseconds for any task."""
_LEAST_SECONDS = 1e-3
"""No block takes less; a test may say so."""
_SHARES = 16
"""Tasks that would be left for each worker if all were as large as the next (guided self-scheduling: Polychronopoulos
and Kuck 1987, doi:10.1109/TC.1987.5009495): all end at about the same time, and a stop leaves most of the rest."""
_MEMORY = 16
"""Blocks over which the pace is smoothed."""
ONE_AT_A_TIME = threading.Lock()
"""Held by a worker while it computes: open files are not for several threads."""


class Warm(WorkerPlugin):  # type: ignore[misc]
    """Open the plan's files and model when a worker starts, so that no task pays for it.

    As long as there is no plan (`digest` is empty), the worker only imports what it will need. One that is the run's
    `own` says nothing on its stderr and ends at once when it is closed.
    """

    def __init__(self, workdir: str, digest: str, *, own: bool) -> None:
        self.workdir, self.digest, self.own = workdir, digest, own

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        """Be called by a worker that starts."""
        settle()
        if self.own:
            # what fails comes back as a future; what libraries say when a process is ended is not for our user
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        if not self.digest:
            return
        work = WorkFolder(Path(self.workdir))
        # if something is missing in the end, opening says what
        seen_in_time(lambda: all_there(work) and created(work))
        with ONE_AT_A_TIME:
            open_workspace(self.workdir, self.digest)

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        """Be called by a worker that closes."""
        if self.own:
            # what counts is on disk; to take a process apart takes a third of a second of a core, and all wait for it
            os._exit(0)


def drive(
    client: Client,
    work: Work,
    on_done: Callable[[BlockResult], None],
    should_stop: Callable[[], bool],
    *,
    patience_s: float,
    own: bool = False,
) -> Failures:
    """Run the blocks on the workers of a client; see `execute.base`.

    Args:
        client: of the scheduler.
        work: the blocks.
        on_done: hears of each block.
        should_stop: turns true when nothing new may start.
        patience_s: seconds without any worker after which none is expected any more.
        own: workers are processes of this run alone, see `Warm`.

    Raises:
        ClusterGone: the scheduler does not answer, or all workers are gone; the journal is intact and a rerun
            continues.
    """
    try:
        return _run(client, work, on_done, should_stop, patience_s, own=own)
    except (CommClosedError, TimeoutError) as error:
        raise ClusterGone(f"{work.workdir}: the dask scheduler does not answer; run again to continue") from error


def _run(
    client: Client,
    work: Work,
    on_done: Callable[[BlockResult], None],
    should_stop: Callable[[], bool],
    patience_s: float,
    *,
    own: bool,
) -> Failures:
    failures: Failures = {}
    if should_stop():
        return failures
    with suppress(CommClosedError):
        # raised where a worker is lost meanwhile; the one that takes its place gets the plugin when it comes
        client.register_plugin(Warm(work.workdir, work.digest, own=own))
    queue, pending = _Queue(work.blocks), dict[Future, tuple[int, ...]]()
    heard = queue.heard_by(on_done)
    suspects: list[int] = []
    tried_alone: set[int] = set()
    lonely_since: float | None = None
    while True:
        workers = _workers(client)
        if not should_stop():
            expected = max(work.workers, workers)
            while len(pending) < expected * _TASKS_PER_WORKER and (blocks := queue.following(expected)):
                pending[_submitted(client, work, blocks)] = blocks
            if suspects and not pending:
                # which of the blocks that a lost worker held has ended it shows when each is tried alone
                alone = suspects.pop(0)
                tried_alone.add(alone)
                pending[_submitted(client, work, (alone,))] = (alone,)
        if not pending:
            return failures
        for block, text in _collect(pending, heard).items():
            if text is None and block not in tried_alone:
                suspects.append(block)
            else:
                failures[block] = text or f"block {block}: it ends every worker that tries it (killed, or crashed)"
        lonely_since = None if workers else lonely_since or time.monotonic()
        if lonely_since is not None and should_stop():
            return failures
        if lonely_since is not None and time.monotonic() - lonely_since > patience_s:
            raise ClusterGone(f"{work.workdir}: all dask workers are gone; run again to continue")


@dataclass(slots=True)
class _Queue:
    """Blocks that nobody has yet, and how long those before them took."""

    blocks: tuple[int, ...]
    given: int = 0
    pace_s: float | None = None

    def following(self, workers: int) -> tuple[int, ...]:
        """Return the next blocks for one of so many workers, nothing at the end."""
        most = (len(self.blocks) - self.given) // (workers * _SHARES)
        of_time = 1 if self.pace_s is None else int(_TASK_SECONDS / max(self.pace_s, _LEAST_SECONDS))
        blocks = self.blocks[self.given : self.given + max(1, min(most, of_time))]
        self.given += len(blocks)
        return blocks

    def heard_by(self, on_done: Callable[[BlockResult], None]) -> Callable[[BlockResult], None]:
        """Return what hears of each block for `on_done`, and keeps the pace."""

        def heard(result: BlockResult) -> None:
            seconds = sum(result.seconds.values())
            before = seconds if self.pace_s is None else self.pace_s
            self.pace_s = before + (seconds - before) / _MEMORY
            on_done(result)

        return heard


def _submitted(client: Client, work: Work, blocks: tuple[int, ...]) -> Future:
    # a worker lost while it runs a task costs a retry, not the run
    key = f"block-{work.digest[:8]}-{blocks[0]}-{uuid4().hex[:8]}"
    told = replace(work, blocks=blocks, cluster={}, notice=silence)
    return client.submit(_each, told, key=key, retries=2, pure=False)


def _each(work: Work) -> list[BlockResult | str]:
    return [_one(work, block) for block in work.blocks]


def _one(work: Work, block: int) -> BlockResult | str:
    with ONE_AT_A_TIME:
        return attempt(work, block)


def _workers(client: Client) -> int:
    return len(client.nthreads()) if client.status == "running" else 0


def _collect(pending: dict[Future, tuple[int, ...]], on_done: Callable[[BlockResult], None]) -> dict[int, str | None]:
    """Wait for blocks to end; returns what went wrong with those that failed, None where workers were lost with it.

    Raises:
        ClusterGone: the scheduler has dropped a block.
    """
    failed: dict[int, str | None] = {}
    try:
        done = wait(list(pending), timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return failed
    for future in done:
        blocks = pending[future]
        if future.cancelled():
            raise ClusterGone(f"block {blocks[0]} was cancelled: the dask scheduler is gone; run again to continue")
        outcome = _outcome(future)
        if outcome is None:
            continue
        del pending[future]
        if isinstance(outcome, KilledWorker):
            failed |= dict.fromkeys(blocks)
            continue
        if isinstance(outcome, Exception):
            outcome = [f"block {block}: {type(outcome).__name__}: {outcome}" for block in blocks]
        for block, result in zip(blocks, outcome, strict=True):
            if isinstance(result, str):
                failed[block] = result
            else:
                on_done(result)
    return failed


def _outcome(future: Future) -> list[BlockResult | str] | Exception | None:
    """Return what a task that has ended gave back, or why it gave nothing; None if it is to be made again.

    It is if its result was lost with its worker before it was fetched: another worker makes it, unless there is none.
    """
    outcome: list[BlockResult | str] | Exception
    try:
        outcome = future.exception() if future.status == "error" else future.result(timeout=_POLL_SECONDS)
    except TimeoutError:
        return None
    except KilledWorker as lost:
        outcome = lost
    return outcome
