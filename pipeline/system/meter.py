"""What the parts of a run take, counted while they work: `with lap("read") as done: ...` wherever something is done.

Laps inside each other are told apart: the time of an inner lap is not that of the outer one. Where nobody measures
(`with metered()`), a lap costs next to nothing. Times are told to people only; no result depends on them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

from numpy.typing import NDArray

P = ParamSpec("P")


@dataclass(slots=True)
class Use:
    """What all laps of one name took together."""

    seconds: float = 0.0
    amount: float = 0.0
    """Bytes, pixels or whatever the name counts."""
    best: float = 0.0
    """Seconds per unit of the fastest lap; 0 before the first."""

    def add(self, other: Use) -> None:
        """Add what was measured elsewhere."""
        self.seconds += other.seconds
        self.amount += other.amount
        if other.best > 0:
            self.best = min(self.best, other.best) if self.best > 0 else other.best

    @property
    def mean(self) -> float:
        """Seconds per unit over all laps; 0 if nothing was counted."""
        return self.seconds / self.amount if self.amount else 0.0


Uses = dict[str, Use]

PROCESSOR = "processor"
"""The name under which `metered` counts processor time; laps are wall time."""


@dataclass(slots=True)
class _Open:
    name: str
    inside: float = 0.0
    """Seconds of the laps inside this one."""


class _Laps(threading.local):
    """The open laps of each thread, outermost first."""

    def __init__(self) -> None:
        self.open: list[_Open] = []


class _Meter:
    """Collects the laps of a thread, and of threads that take over its context; each has laps of its own."""

    def __init__(self) -> None:
        self.uses: Uses = {}
        self._laps = _Laps()
        self._lock = threading.Lock()

    def begin(self, name: str) -> None:
        self._laps.open.append(_Open(name))

    def close(self, amount: float, seconds: float) -> None:
        """End the innermost lap; one of the same name around it counts the amount itself."""
        around = self._laps.open
        lap = around.pop()
        own = max(0.0, seconds - lap.inside)
        counts = 0.0 if any(lap.name == outer.name for outer in around) else amount
        self.add(lap.name, Use(own, counts, own / counts if counts else 0.0))
        if around:
            around[-1].inside += seconds

    def add(self, name: str, use: Use) -> None:
        with self._lock:
            self.uses.setdefault(name, Use()).add(use)


_METER: ContextVar[_Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metered() -> Iterator[Uses]:
    """Collect the laps of this context, and of threads that copy it, until the end of the block.

    At its end `PROCESSOR` holds the processor seconds of the whole process meanwhile.
    """
    meter, started = _Meter(), time.process_time()
    before = _METER.set(meter)
    try:
        yield meter.uses
    finally:
        _METER.reset(before)
        meter.add(PROCESSOR, Use(time.process_time() - started))


@contextmanager
def lap(name: str) -> Iterator[Use]:
    """Count the time of a block under `name`; the block says in `amount` of what it is given how much it did."""
    done, meter = Use(), _METER.get()
    if meter is None:
        yield done
        return
    meter.begin(name)
    started = time.perf_counter()
    try:
        yield done
    finally:
        meter.close(done.amount, time.perf_counter() - started)


def counted(name: str, seconds: float) -> None:
    """Count what another clock has measured, such as that of a GPU."""
    meter = _METER.get()
    if meter is not None:
        meter.add(name, Use(seconds))


def taken_over(facts: Mapping[str, Any]) -> None:
    """Count what another process has measured, as `as_facts` gives it."""
    meter = _METER.get()
    if meter is not None:
        for name, numbers in facts.items():
            meter.add(name, Use(*numbers))


def reads(function: Callable[P, NDArray[Any]]) -> Callable[P, NDArray[Any]]:
    """Count a method that returns pixels of a file as `read`, in bytes as they lie in memory."""

    @wraps(function)
    def measured(*args: P.args, **kwargs: P.kwargs) -> NDArray[Any]:
        with lap("read") as done:
            values = function(*args, **kwargs)
            done.amount = float(values.nbytes)
        return values

    return measured


def as_facts(uses: Mapping[str, Use]) -> dict[str, list[float]]:
    """Return uses as JSON values: `[seconds, amount, best]` of each name."""
    return {name: [use.seconds, use.amount, use.best] for name, use in uses.items()}


def add(uses: Uses, facts: Mapping[str, Any]) -> None:
    """Add to `uses` what another part of the run took, as `as_facts` gives it."""
    for name, numbers in facts.items():
        uses.setdefault(name, Use()).add(Use(*numbers))
