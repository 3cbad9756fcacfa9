"""Several things at a time in the threads of one process, for stages whose arithmetic leaves Python's lock alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_pool: ContextVar[ThreadPoolExecutor | None] = ContextVar("pool", default=None)


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def threaded(threads: int) -> Iterator[None]:
    """While in context, let `each` use so many threads.

    A context variable carries them, so that what is done deep inside needs no parameter on the way there.
    """
    if threads < 2:
        yield
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="each") as pool:
        token = _pool.set(pool)
        try:
            yield
        finally:
            _pool.reset(token)


def each(function: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
    """Return `[function(item) for item in items]`, made in the threads of `threaded` if there are any.

    What one of them calls has no threads of its own: those would wait for one another. The first exception is raised,
    in the order of the items, once all that have begun have ended.

    Args:
        function: gives the same whatever else runs beside it.
        items: of the calls.
    """
    pool = _pool.get()
    if pool is None or len(items) < 2:
        return [function(item) for item in items]

    def alone(item: _In) -> _Out:
        _pool.set(None)
        return function(item)

    # what a context variable says here (whether a stop is asked for) holds there, too
    futures = [pool.submit(copy_context().run, alone, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
