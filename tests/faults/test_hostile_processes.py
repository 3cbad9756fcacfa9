"""Processes that are killed, stopped or attacked: an error with its exit code, never a hang, a traceback or a way in."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pipeline.errors import ClusterGone, Interrupted
from pipeline.system.signals import NEVER, Stop
from pipeline.training.workers import mapped


def _number(task: int) -> int:
    return task


def _tasks_with_a_death() -> Iterator[int]:
    """Yield tasks, and end a process of the pool while all of them wait for the next one."""
    yield 0
    (_, second) = multiprocessing.active_children()
    os.kill(second.pid, signal.SIGKILL)
    second.join()
    yield from range(1, 1000)


@pytest.mark.timeout(30)
def test_a_pool_that_loses_a_waiting_process_ends():
    """SIGKILL while it waits for work: the others, which ignore SIGTERM, are ended, and none is waited for forever."""
    with pytest.raises(ClusterGone, match="died.*fewer loaders"):
        list(mapped(_number, _tasks_with_a_death(), 2, NEVER))
    assert not multiprocessing.active_children()


def _interrupted_twice(stop: Stop) -> Iterator[int]:
    yield 0
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    yield 1


def _slow(task: int) -> int:
    threading.Event().wait(1.0)
    return task


@pytest.mark.timeout(30)
def test_a_pool_that_is_interrupted_while_it_closes_ends(capfd):
    """A second Ctrl-C in a notebook, while tasks in hand are waited for: an exception, and no process stays."""
    with Stop() as stop, pytest.raises((KeyboardInterrupt, Interrupted)):
        list(mapped(_slow, _interrupted_twice(stop), 2, stop))
    for child in multiprocessing.active_children():
        child.join()
    assert "press Ctrl-C again" in capfd.readouterr().err
