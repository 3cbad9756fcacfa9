"""Stop in good order: the first signal finishes what is in flight, the second ends the program at once.

Ctrl-C and SIGTERM say that somebody wants an end (exit 130), SIGHUP that the terminal or the connection is gone (130,
too; ignored under `nohup`), the others that a job's time is nearly up (exit 75: submit it again). Slurm sends
SIGUSR1 to a batch script with `--signal=B:USR1@300`; Grid Engine (`-notify`) and LSF send SIGUSR2, and whoever counts
processor time (`ulimit -S -t`, `s_cpu`) SIGXCPU.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import Any, TypeVar

from pipeline.errors import Interrupted, TimeIsUp

_Error = TypeVar("_Error", bound=BaseException)

TIME_IS_UP = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""What a batch system, or the kernel, sends before it ends a job for its time."""
HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *TIME_IS_UP)
"""What asks for a stop."""
_NEVER_AGAIN = (signal.SIGHUP, *TIME_IS_UP)
"""What ends nothing at once: a terminal that closes says so twice, by its shell and by the kernel, and whose processor
time is up hears it every second."""

_STOPPING = (
    "inpaint-pipeline: stopping: what is in flight is finished first and everything finished is kept; "
    "press Ctrl-C again to end at once\n"
)


def heard() -> tuple[signal.Signals, ...]:
    """Return what asks this process for a stop: all of HEARD, without SIGHUP where `nohup` lets it be ignored."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return tuple(number for number in HEARD if number != signal.SIGHUP or not ignored)


class Stop:
    """While in context, turn the first stop signal into a request that can be asked for, and say so on stderr.

    The second one does what the first would have done without it: it ends the command, or interrupts a notebook.
    """

    def __init__(self) -> None:
        # no `threading.Event`: a signal that comes while another one sets it would wait for its lock for ever
        self._requested = False
        self._time_is_up = False
        self._previous: dict[int, Any] = {}

    def told(self, error: _Error) -> _Error | TimeIsUp:
        """Return an error as it is, or, where the time is nearly up, what it then is if it says that work stopped."""
        if self._time_is_up and isinstance(error, Interrupted) and not isinstance(error, TimeIsUp):
            return TimeIsUp(f"the time is nearly up: {error}")
        return error

    def requested(self) -> bool:
        """Return True once a stop signal has come."""
        return self._requested

    def __enter__(self) -> Stop:
        # handlers can only be set in the main thread; elsewhere (a notebook's worker) signals stay as they are
        if threading.current_thread() is threading.main_thread():
            for number in heard():
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        # whatever command it is, and wherever it stopped: a scheduler is told to submit it again
        if error is not None and (told := self.told(error)) is not error:
            raise told from error

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested and number not in _NEVER_AGAIN:
            previous = self._previous.get(number)
            if callable(previous):
                previous(number, frame)
            raise KeyboardInterrupt
        if not self._requested:
            self._requested = True
            self._time_is_up = number in TIME_IS_UP
            _say(_STOPPING)


NEVER = Stop()
"""Not in any context: never requested."""


_asked: ContextVar[Callable[[], bool]] = ContextVar("asked", default=NEVER.requested)


@contextmanager
def stoppable(requested: Callable[[], bool]) -> Iterator[None]:
    """While in context, let `stop_if_asked` end the work: for stages that leave nothing half done.

    A context variable carries the question, so that what is asked deep inside needs no parameter on the way there, and
    worker processes and other threads, whose work is always finished, never stop by it.

    Args:
        requested: says whether to stop.
    """
    token = _asked.set(requested)
    try:
        yield
    finally:
        _asked.reset(token)


def stop_if_asked() -> None:
    """Come by here about once a second in long work.

    Raises:
        Interrupted: the work is in a `stoppable` context, and a stop was requested.
    """
    if _asked.get()():
        raise Interrupted("stopped; run again to continue")


def _say(text: str) -> None:
    # not through `sys.stderr`: a handler may have interrupted it in the middle of a line, and it cannot be re-entered
    with suppress(OSError):
        os.write(2, text.encode())
