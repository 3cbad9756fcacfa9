"""Several things at a time: in threads of this process, where arithmetic leaves Python's lock alone, or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Protocol, TypeVar

from pipeline.system.bounds import may_be_refused

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Each(Protocol):
    """Who makes `[function(item) for item in items]`, in whatever order and wherever."""

    def __call__(self, function: Callable[[_In], _Out], items: Sequence[_In], /) -> list[_Out]:
        """Return the results in the order of the items; the first exception in that order is raised."""
        ...


_by: ContextVar[Each | None] = ContextVar("by", default=None)


@contextmanager
def threaded(threads: int) -> Iterator[None]:
    """While in context, let `each` use so many threads.

    A context variable carries them, so that what is done deep inside needs no parameter on the way there. Where memory
    may be refused there are none: OpenBLAS takes a buffer a thread, and asks for it without end if it gets none.
    """
    if threads < 2 or may_be_refused():
        yield
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="each") as pool, computed_by(partial(_in_threads, pool)):
        yield


@contextmanager
def computed_by(others: Each) -> Iterator[None]:
    """While in context, let `each` hand everything to others."""
    token = _by.set(others)
    try:
        yield
    finally:
        _by.reset(token)


def each(function: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
    """Return `[function(item) for item in items]`, made by those that a context around names, else one by one here.

    What one of them calls has nobody to share with: it would wait for those who wait for it. The first exception is
    raised, in the order of the items, once all that have begun have ended.

    Others may be processes of other machines: what a call is to bring about is what it returns, as it works on a copy
    of the item then.

    Args:
        function: gives the same whatever else runs beside it.
        items: of the calls.
    """
    by = _by.get()
    if by is None or not items:
        return [function(item) for item in items]
    return by(function, items)


def _in_threads(pool: ThreadPoolExecutor, function: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
    if len(items) < 2:
        return [function(item) for item in items]

    def alone(item: _In) -> _Out:
        _by.set(None)
        return function(item)

    # what a context variable says here (whether a stop is asked for) holds there, too
    futures = [pool.submit(copy_context().run, alone, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
