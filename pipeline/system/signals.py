"""Stop in good order: the first Ctrl-C or SIGTERM finishes what is in flight, the second stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """While in context, turn the first stop signal into a request that can be asked for."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._previous: dict[int, Any] = {}

    def requested(self) -> bool:
        """Return True once a stop signal has come."""
        return self._event.is_set()

    def __enter__(self) -> Stop:
        # handlers can only be set in the main thread; elsewhere (a notebook's worker) signals stay as they are
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._event.is_set():
            raise KeyboardInterrupt
        self._event.set()


NEVER = Stop()
"""Not in any context: never requested."""
