"""A file system that shows files of others late, as network file systems do: for the process that asks for it.

A file that the process has not written itself is not there, neither by name nor in a listing, until nobody has changed
it for some time. Workers get it by `dask worker --preload`, or by `hide` as the first thing that they call.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_SPARED = ("ready", ".writing-")
"""How folders begin that only one process writes to, also through libraries whose writing Python does not see."""

_real_stat = os.stat


class _Late:
    """What is hidden: regular files below a folder that others have changed less than `seconds` ago."""

    def __init__(self, folder: str, seconds: float) -> None:
        self.folder, self.seconds = os.path.realpath(folder), seconds
        self.own: set[str] = set()
        self.on = True
        # what this process writes it sees; a hook cannot be taken out again, only told to do nothing
        sys.addaudithook(self._note)

    def _note(self, event: str, facts: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(facts[0], str | bytes) and facts[2] and facts[2] & _WRITES:
            self.own.add(os.path.realpath(os.fsdecode(facts[0])))
        elif event == "os.rename":
            self.own.add(os.path.realpath(os.fsdecode(facts[1])))

    def hides(self, path: Any) -> bool:
        """Say whether a path is that of a hidden file."""
        if not self.on or isinstance(path, int):
            return False
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links stay
        if not name.startswith(self.folder + os.sep) or any(part.startswith(_SPARED) for part in Path(name).parts):
            return False
        try:
            facts = _real_stat(name)
        except OSError:
            return False
        if not stat.S_ISREG(facts.st_mode) or time.time() - facts.st_ctime > self.seconds:
            return False
        return not any(name == own or name.startswith(own + os.sep) for own in self.own)

    def guarded(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of a path that does not find hidden files; to write one finds it, as a server would."""

        def find(path: Any, *arguments: Any, **options: Any) -> Any:
            writes = bool(arguments) and (
                arguments[0] & _WRITES if isinstance(arguments[0], int) else set(str(arguments[0])) & set("wax+")
            )
            if not writes and self.hides(path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(path))
            return real(path, *arguments, **options)

        return find

    def listed(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return `os.listdir` without hidden files."""

        def names(path: Any = ".") -> Any:
            return [name for name in real(path) if not self.hides(Path(os.fsdecode(path)) / os.fsdecode(name))]

        return names

    def scanned(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return `os.scandir` without hidden files."""
        return lambda path=".": _Seen(self, real(path))


class _Seen:
    """Entries of a folder as `os.scandir` gives them, without hidden files."""

    def __init__(self, late: _Late, found: Any) -> None:
        self._late, self._found = late, found

    def __iter__(self) -> _Seen:
        return self

    def __next__(self) -> Any:
        return next(entry for entry in self._found if not self._late.hides(entry.path))

    def __enter__(self) -> _Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder."""
        self._found.close()


def hide(folder: str, seconds: float) -> _Late:
    """Show files of others below `folder` late from now on."""
    late = _Late(folder, seconds)
    opened = late.guarded(io.open)
    for module, name, changed in (
        (os, "stat", late.guarded(os.stat)),
        (os, "open", late.guarded(os.open)),
        (io, "open", opened),
        (builtins, "open", opened),
        (os, "listdir", late.listed(os.listdir)),
        (os, "scandir", late.scanned(os.scandir)),
    ):
        setattr(module, name, changed)
    return late


@contextmanager
def shown_late(folder: str, seconds: float) -> Iterator[None]:
    """While in context, show files of others below `folder` late to this process."""
    before = (os.stat, os.open, io.open, builtins.open, os.listdir, os.scandir)
    late = hide(folder, seconds)
    try:
        yield
    finally:
        late.on = False
        os.stat, os.open, io.open, builtins.open, os.listdir, os.scandir = before
