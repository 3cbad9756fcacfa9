"""Progress for people on stderr: a bar on a terminal, one plain line every 30 s in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TextIO, cast

from pipeline.blocks.events import STAGES, Events
from pipeline.system.process import Drawings
from pipeline.system.redact import redacted
from pipeline.system.words import in_words, visible

if TYPE_CHECKING:
    from rich.progress import Task
    from rich.text import Text

    from pipeline.blocks.block import BlockResult
    from pipeline.plan.cost import Cost


_LINE_EVERY_SECONDS = 30.0
_SILENT_SECONDS = 5.0
"""After which people wonder whether anything goes on."""
_FORESEEN_BLOCKS = 8
"""Blocks that the pace which the plan foretells counts like: of 64, the first alone told 2.7 times what was left."""
_OPENS = "opens its files and hashes them"
_SAID = {
    "survey": "looks for the holes and tests on hidden pixels what restores them best",
    "blocks": "restores the holes",
    "files": "writes the results, checks them and makes the report",
    "cube": "puts the restored dates into one zarr with a time axis and reads it back",
    "upload": "sends the results to object storage and reads them back",
    "continue": "an earlier run had surveyed the image; its plan is used",
}


class RemainingTime:
    """How long the image at hand will still take: by the plan, then by the pace of its own blocks."""

    def __init__(self) -> None:
        self._end: float | None = None
        self._files_s = 0.0
        self._blocks_s: float | None = None
        self._first = self._done = self._total = 0
        self._began = 0.0

    def expect(self, cost: Cost, workers: int) -> None:
        """Take what the survey says is left from now on."""
        self._files_s = cost.files.likely
        self._blocks_s = cost.blocks.over(workers).likely
        self._end = time.monotonic() + cost.to_go(workers).likely

    def blocks(self, done: int, total: int) -> None:
        """Begin with the blocks, of which `done` are done."""
        self._first = self._done = done
        self._total, self._began = total, time.monotonic()

    def block_done(self) -> None:
        """Count a block, and from now on go by the pace, at first by what the plan says of it, too."""
        self._done += 1
        took, counted = time.monotonic() - self._began, self._done - self._first
        if self._blocks_s is not None:
            took += _FORESEEN_BLOCKS * self._blocks_s / self._total
            counted += _FORESEEN_BLOCKS
        each = took / counted
        self._end = time.monotonic() + each * (self._total - self._done) + self._files_s

    def __str__(self) -> str:
        """Return it in words, empty if nothing is known."""
        if self._end is None:
            return ""
        seconds = self._end - time.monotonic()
        return f"about {in_words(seconds)} to go" if seconds > 0 else f"{in_words(-seconds)} longer than foreseen"


class Lines(Events):
    """Plain lines, for logs; every 30 s one says where the run is, so that nobody takes work for a standstill."""

    def __init__(self) -> None:
        self._done = self._total = 0
        self._of = self._at = ""
        self._over: threading.Event | None = None
        self._foretold = False
        self._to_go = RemainingTime()

    def image(self, stem: str, *, number: int, count: int) -> None:
        """Note which image it is; large files take long to hash before the first stage begins."""
        self._of = f" (image {number} of {count})" if count > 1 else ""
        self._to_go, self._foretold = RemainingTime(), False
        self._at = f"{stem}{self._of}: {_OPENS}"
        self._keep_telling()

    def stage(self, stem: str, name: str) -> None:
        """Say which stage begins."""
        self._at = f"{stem}{self._of}: {_numbered(name)}"
        self._say(self._at + (f": {_SAID[name]}" if name in _SAID else ""))
        self._keep_telling()

    def _keep_telling(self) -> None:
        if self._over is None:
            self._over = threading.Event()
            threading.Thread(target=self._keep_saying, args=(self._over,), daemon=True).start()

    def expected(self, stem: str, cost: Cost, workers: int) -> None:
        """Say how long it will take in all when that is told first; what is told later is left."""
        self._to_go.expect(cost, workers)
        if not self._foretold:
            on = f" with {workers} workers" if workers > 1 else ""
            self._say(f"{stem}{self._of}: takes {cost.total(workers)}{on}")
        self._foretold = True

    def notice(self, stem: str, text: str) -> None:
        """Pass on what the user should know."""
        self._say(f"{stem}: note: {text}")

    def blocks(self, stem: str, *, done: int, total: int) -> None:
        """Say how many blocks there are."""
        self._done, self._total = done, total
        self._to_go.blocks(done, total)
        self.stage(stem, "blocks")
        count = f"{total} block{'' if total == 1 else 's'} to restore"
        before = f"{done} of them done before" if done else ""
        self._say(", ".join(filter(None, [f"{stem}: {count}", before, str(self._to_go)])))
        self._at = self._counted(stem)

    def block_done(self, stem: str, result: BlockResult) -> None:  # noqa: ARG002
        """Count."""
        self._done += 1
        self._to_go.block_done()
        self._at = self._counted(stem)

    def already_done(self, stem: str) -> None:
        """Say that nothing needs doing."""
        self._say(f"{stem}{self._of}: finished by an earlier run with the same config, nothing to do")

    def failed(self, stem: str, error: Exception) -> None:
        """Say what failed."""
        self._at = ""
        self._say(f"{stem}: FAILED: {error}")

    def close(self) -> None:
        """Say no more."""
        if self._over is not None:
            self._over.set()

    def _keep_saying(self, over: threading.Event) -> None:
        if not over.wait(_SILENT_SECONDS) and self._at.endswith(_OPENS):
            self._say(self._at)
        while not over.wait(_LINE_EVERY_SECONDS):
            if self._at:
                self._say(", ".join(filter(None, [self._at, str(self._to_go)])))

    def _counted(self, stem: str) -> str:
        return f"{stem}{self._of}: {self._done} of {self._total} blocks"

    def _say(self, text: str) -> None:
        sys.stderr.write(redacted(text) + "\n")
        sys.stderr.flush()


def _numbered(name: str) -> str:
    return f"stage {STAGES.index(name) + 1} of {len(STAGES)}, {name}" if name in STAGES else name


class Bar(Lines):
    """A rich progress bar, for terminals."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
        from rich.text import Text

        bar = self

        class Left(ProgressColumn):
            """The time to go, counted down between two blocks, too."""

            def render(self, task: Task) -> Text:  # noqa: ARG002
                return Text(str(bar._to_go))

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            Left(),
            console=Console(file=cast("TextIO", Drawings(sys.stderr))),
        )
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def _keep_telling(self) -> None:
        """Show that files are opened; the bar tells all the rest."""
        self._progress.update(self._task, description=self._at)

    def stage(self, stem: str, name: str) -> None:
        """Show the stage beside the bar."""
        where = f"{STAGES.index(name) + 1}/{len(STAGES)} {name}" if name in STAGES else name
        self._progress.update(self._task, description=f"{stem}{self._of}: {where}", completed=0, total=None)

    def blocks(self, stem: str, *, done: int, total: int) -> None:
        """Set the length of the bar."""
        self._done, self._total = done, total
        self._to_go.blocks(done, total)
        self._progress.update(self._task, description=self._counted(stem), completed=done, total=max(total, 1))

    def block_done(self, stem: str, result: BlockResult) -> None:  # noqa: ARG002
        """Move the bar."""
        self._done += 1
        self._to_go.block_done()
        self._progress.update(self._task, description=self._counted(stem), completed=self._done)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def _counted(self, stem: str) -> str:
        return f"{stem}{self._of}: {STAGES.index('blocks') + 1}/{len(STAGES)} blocks, {self._done} of {self._total}"

    def _say(self, text: str) -> None:
        self._progress.console.print(visible(redacted(text)), markup=False, highlight=False)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Events]:
    """Give the listener that fits stderr, or one that says nothing; it is closed at the end."""
    events = Events() if quiet else Bar() if sys.stderr.isatty() else Lines()
    try:
        yield events
    finally:
        events.close()


@contextmanager
def heartbeat(doing: str) -> Iterator[None]:
    """While in context, say on stderr what takes so long, after 5 s and then every 30 s: for commands without stages.

    Args:
        doing: what is done, to what.
    """
    over = threading.Event()

    def keep_saying() -> None:
        seconds = _SILENT_SECONDS
        while not over.wait(seconds):
            sys.stderr.write(redacted(f"{doing} ...\n"))
            sys.stderr.flush()
            seconds = _LINE_EVERY_SECONDS

    threading.Thread(target=keep_saying, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def loading(*, quiet: bool = False) -> AbstractContextManager[None]:
    """While in context, say that libraries are loaded: seconds, but a minute on a slow shared disk."""
    return nullcontext() if quiet else heartbeat("loads the libraries")
