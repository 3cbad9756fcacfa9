"""Processes that work ahead of a training: they end with it, and are ended by it alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import popen_fork
from multiprocessing.context import ForkContext, ForkProcess
from typing import TypeVar

from threadpoolctl import threadpool_limits

from pipeline.errors import ClusterGone, Interrupted
from pipeline.system.signals import HEARD, Stop

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_WAITING = 4
"""Tasks a process may have waiting: what they are about lies in memory."""
_LOOK_SECONDS = 0.5
_GROUP_SECONDS = 1.0
_DEATHS = ("is killed by signal", "exited unexpectedly")


class _Child(popen_fork.Popen):
    """The operating system's side of a process, ended by a signal that it cannot ignore."""

    def terminate(self) -> None:
        self.kill()


class _Process(ForkProcess):
    """A process that never hears of requests to stop, and is always ended by a signal that it cannot ignore.

    Where a process of a pool dies, and at its own end, Python ends the others by SIGTERM and then waits for them; a job
    that is stopped sends SIGTERM to all of them, too, and they are to finish what they have in hand.
    """

    _Popen = staticmethod(_Child)

    def start(self) -> None:
        # what is blocked here is blocked there from its first instruction on: until it ignores the signals, it would
        # do with them what the training does
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Forked(ForkContext):
    """How processes of a training are started."""

    Process = _Process


def mapped(
    function: Callable[[_Task], _Result], tasks: Iterable[_Task], processes: int, stop: Stop
) -> Iterator[_Result]:
    """Yield the results of all tasks in their order, computed in processes with one arithmetic thread each.

    Raises:
        Interrupted: a stop was requested; tasks in hand are waited for.
        ClusterGone: a process died.
    """
    pending: deque[Future[_Result]] = deque()
    with _pool(processes) as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(_alone, function, task))
                while len(pending) > _WAITING * processes:
                    yield _awaited(pending.popleft(), stop)
            while pending:
                yield _awaited(pending.popleft(), stop)
        except BrokenProcessPool as error:
            raise ClusterGone(
                "a process that fills holes died, most likely for want of memory; set fewer loaders or a smaller tile; "
                "entries of the config that are complete are kept"
            ) from error


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool that finishes what its processes have in hand; one that is interrupted ends them at once.

    A pool's own context manager would wait a second time, but Python 3.11 takes a thread whose `join` was interrupted
    for one that has ended (bpo-45274 in its `threading`): the pool would close the pipe that this thread listens to,
    and nobody would end the processes.
    """
    pool = ProcessPoolExecutor(processes, Forked(), initializer=begin)
    try:
        yield pool
    except Exception:
        _close(pool)
        raise
    except BaseException:
        _end_all()
        raise
    _close(pool)


def _close(pool: ProcessPoolExecutor) -> None:
    try:
        pool.shutdown(cancel_futures=True)
    except BaseException:
        _end_all()
        raise


def _end_all() -> None:
    ours = [child for child in multiprocessing.active_children() if isinstance(child, _Process)]
    for process in ours:
        process.kill()
    for process in ours:
        process.join()


def _alone(function: Callable[[_Task], _Result], task: _Task) -> _Result:
    with threadpool_limits(limits=1):
        return function(task)


def _awaited(future: Future[_Result], stop: Stop) -> _Result:
    while not stop.requested():
        if wait([future], timeout=_LOOK_SECONDS).done:
            return future.result()
    raise Interrupted("stopped while holes were filled; entries of the config that are complete are kept")


def begin(_: int = 0) -> None:
    """Leave signals to the training, whose group gets them too, and end when it does."""
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)
    _end_with_parent()


def _end_with_parent() -> None:
    """Start watching the parent of this process, and leave at once when it is gone, whatever queue is still full."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _soon(stop: Stop) -> bool:
    """Say whether a stop is requested now or at once: a signal to a group may reach its processes before its leader."""
    deadline = time.monotonic() + _GROUP_SECONDS
    while not stop.requested() and time.monotonic() < deadline:
        time.sleep(0.01)
    return stop.requested()


@contextmanager
def loaders_watched(stop: Stop) -> Iterator[None]:
    """Say what it means when a process of torch's `DataLoader` is gone; torch raises that wherever the program is.

    Raises:
        Interrupted: a stop was requested: whoever stops a whole job stops its processes, too.
        ClusterGone: it died by itself.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or not any(how in str(error) for how in _DEATHS):
            raise
        if _soon(stop):
            raise Interrupted("stopped; --resume continues from the last checkpoint") from error
        raise ClusterGone(
            f"a process that cuts batches died ({str(error).splitlines()[0]}); set fewer loaders or allow more memory; "
            "--resume continues from the last checkpoint"
        ) from error
