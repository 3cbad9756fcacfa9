"""What a training says while it runs: to its log file, and to people on stderr."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from pipeline.errors import OutputConflict, PipelineError

_LOGGER = logging.getLogger("pipeline.training")
_EVERY_SECONDS = 30.0
_OPENING = "inpaint-pipeline training"
_OURS = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (inpaint-pipeline training|.+ for (training|validation): )")
"""How a log of this program starts; before it had an opening, with what was cut."""


class _File(logging.FileHandler):
    """A log file that ends no training, nor fills stderr with tracebacks, where its disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Leave a line out."""


@contextmanager
def logged(path: Path, *, append: bool, quiet: bool) -> Iterator[None]:
    """Write what `pipeline.training` says to a file and to stderr.

    Args:
        path: log file; its folder is made.
        append: keep what an earlier run wrote there.
        quiet: nothing but warnings on stderr.

    Raises:
        OutputConflict: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _File(path, mode="a" if append else "w", encoding="utf-8")
    except OSError as error:
        raise OutputConflict(f"{path}: cannot be written ({error.strerror}); set another output") from error
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    people = logging.StreamHandler(sys.stderr)
    people.setLevel(logging.WARNING if quiet else logging.INFO)
    before = _LOGGER.level
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.addHandler(file)
    _LOGGER.info(_OPENING)
    _LOGGER.addHandler(people)
    try:
        yield
    except PipelineError as error:
        # the command line says it on stderr
        _LOGGER.removeHandler(people)
        _LOGGER.error("%s", error)
        raise
    finally:
        for handler in (file, people):
            _LOGGER.removeHandler(handler)
        with suppress(OSError):
            file.close()
        _LOGGER.setLevel(before)


def is_log(path: Path) -> bool:
    """Return True for a file that `logged` has written, or an empty one."""
    try:
        with path.open("rb") as file:
            start = file.readline(1000)
    except OSError:
        return False
    return not start or _OURS.match(start) is not None


class Pace:
    """Tells when another line is due, and how long the rest will take."""

    def __init__(self, done: int = 0) -> None:
        self._started = self._last = time.monotonic()
        self._first = done

    def due(self) -> bool:
        """Return True once in 30 seconds."""
        if time.monotonic() - self._last < _EVERY_SECONDS:
            return False
        self._last = time.monotonic()
        return True

    def left(self, done: int, total: int) -> str:
        """Return seconds a step and time left, in words."""
        each = (time.monotonic() - self._started) / max(done - self._first, 1)
        return f"{each:.2g} s a step, {timedelta(seconds=round(each * (total - done)))} left"
