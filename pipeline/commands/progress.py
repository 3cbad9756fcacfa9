"""Progress for people on stderr: a bar on a terminal, one plain line every 30 s in a log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from pipeline.blocks.events import Events
from pipeline.system.redact import redacted

if TYPE_CHECKING:
    from pipeline.blocks.block import BlockResult


_LINE_EVERY_SECONDS = 30.0


class Lines(Events):
    """Plain lines, for logs."""

    def __init__(self) -> None:
        self._done = self._total = 0
        self._last = 0.0

    def stage(self, stem: str, name: str) -> None:
        """Say which stage begins."""
        self._say(f"{stem}: {name}")

    def notice(self, stem: str, text: str) -> None:
        """Pass on what the user should know."""
        self._say(f"{stem}: note: {text}")

    def blocks(self, stem: str, *, done: int, total: int) -> None:
        """Say how many blocks there are."""
        self._done, self._total, self._last = done, total, time.monotonic()
        self._say(f"{stem}: {total} blocks to restore, {done} of them done before")

    def block_done(self, stem: str, result: BlockResult) -> None:  # noqa: ARG002
        """Count, and say so every 30 s."""
        self._done += 1
        if time.monotonic() - self._last >= _LINE_EVERY_SECONDS:
            self._last = time.monotonic()
            self._say(f"{stem}: {self._done} of {self._total} blocks")

    def already_done(self, stem: str) -> None:
        """Say that nothing needs doing."""
        self._say(f"{stem}: finished by an earlier run with the same config, nothing to do")

    def failed(self, stem: str, error: Exception) -> None:
        """Say what failed."""
        self._say(f"{stem}: FAILED: {error}")

    def _say(self, text: str) -> None:
        sys.stderr.write(redacted(text) + "\n")
        sys.stderr.flush()


class Bar(Lines):
    """A rich progress bar, for terminals."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def stage(self, stem: str, name: str) -> None:
        """Show the stage beside the bar."""
        self._progress.update(self._task, description=f"{stem}: {name}")

    def blocks(self, stem: str, *, done: int, total: int) -> None:
        """Set the length of the bar."""
        self._progress.update(self._task, description=f"{stem}: blocks", completed=done, total=max(total, 1))

    def block_done(self, stem: str, result: BlockResult) -> None:  # noqa: ARG002
        """Move the bar."""
        self._progress.advance(self._task)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def _say(self, text: str) -> None:
        self._progress.console.print(redacted(text), markup=False, highlight=False)


def progress() -> Events:
    """Return the listener that fits stderr."""
    return Bar() if sys.stderr.isatty() else Lines()
