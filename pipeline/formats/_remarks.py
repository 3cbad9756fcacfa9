"""What nibabel says of a header that it mends while it reads; it logs that, for each time the file is opened."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGER = logging.getLogger("nibabel.global")
_alone = threading.RLock()
"""Handlers are global to the process."""


class _Kept(logging.Handler):
    """Keeps the messages, each once."""

    def __init__(self) -> None:
        super().__init__(level=logging.INFO)
        self.messages: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.messages.setdefault(record.getMessage())


@contextmanager
def remarks() -> Iterator[list[str]]:
    """Collect what nibabel logs inside, instead of letting it out on stderr; the list is filled at the end."""
    said: list[str] = []
    kept = _Kept()
    with _alone:
        before, propagates = _LOGGER.handlers, _LOGGER.propagate
        _LOGGER.handlers, _LOGGER.propagate = [kept], False
        try:
            yield said
        finally:
            _LOGGER.handlers, _LOGGER.propagate = before, propagates
            said += kept.messages
