"""Paths that a user gave, looked at without waiting: named pipes, devices, folders, and names that cannot be."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.system.words import keep_in_line

Kind = Literal["", "file", "folder", "special"]

_LONGEST_NAME, _LONGEST_PATH = 255, 4095
"""Bytes that file systems take."""


def is_address(text: str) -> bool:
    """Return True for URLs and GDAL's virtual paths, which are no paths of this machine."""
    return "://" in text or text.startswith("/vsi")


def kind_of(path: str | Path) -> Kind:
    """Return what lies at a path; `special` is a named pipe, a device or a socket, "" nothing that can be seen."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - takes text that no Path could be made of
    except (OSError, ValueError):
        return ""
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "special"


def state_of(path: str | Path) -> tuple[int, ...]:
    """Return what of a file is another when it is written again or replaced: device, inode, bytes, times in ns.

    A program may set the time of the last change back, as copying does, but not that of the inode.

    Raises:
        OSError: it is not there.
    """
    facts = Path(path).stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def existing(path: Path) -> Path:
    """Return a path if something is there, else the nearest folder above it that is."""
    while not path.exists():
        path = path.parent
    return path


def dangling(path: str | Path) -> str:
    """Return where a link leads if nothing is there, else an empty text.

    >>> dangling("/dev/null")
    ''
    """
    try:
        return os.readlink(path) if os.path.islink(path) and not os.path.exists(path) else ""  # noqa: PTH110, PTH114, PTH115
    except (OSError, ValueError):
        return ""


def barred(path: str | Path) -> str:
    """Return the folder above a path that this user may not look into; an empty text if there is none.

    >>> barred("/dev/null")
    ''
    """
    for folder in reversed(Path(path).parents):
        # below such a folder nothing can be asked
        if folder.is_dir() and not os.access(folder, os.X_OK):
            return str(folder)
    return ""


def describe(path: str | Path) -> str:
    """Return what lies at a path in words, for a message that says why it is no file.

    >>> describe("/dev/null")
    'a named pipe, device or socket'
    """
    words = {"": "not there", "file": "a file", "folder": "a folder", "special": "a named pipe, device or socket"}
    return words[kind_of(path)]


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file without ever waiting for it or taking more than `most_bytes`.

    Raises:
        ConfigError: it is no file, or larger.
        OSError: it cannot be opened.
    """
    # a named pipe without a writer would block the opening itself
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path}: is {describe(path)}; give a file")
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ConfigError(f"{path}: is larger than {most_bytes // 2**10} KiB, so it is not the file that is meant")
    return content


def at_home(text: str) -> str:
    """Return a path with the home folder in place of a leading `~` or `~user`, as it is if there is no such folder."""
    return os.path.expanduser(text)  # noqa: PTH111 - Path's own fails where no home is known


def home_expanded(text: str, where: str) -> str:
    """Return a path with the home folder in place of a leading `~` or `~user`; a file may be called `~x.tif`.

    Raises:
        ConfigError: there is no such user.
    """
    expanded = at_home(text)
    first = text.split("/", 1)[0]
    if expanded == text and first.startswith("~") and "." not in first:
        who = f"user '{first[1:]}'" if first[1:] else "home folder"
        raise ConfigError(f"{where}: '{shortened(text)}': there is no {who} here; write './{first}' for that name")
    return expanded


def require_possible(text: str, where: str) -> str:
    """Return a path if a file system could hold it.

    Raises:
        ConfigError: it is empty, has a character that no path can have, or is too long.
    """
    if not text.strip():
        raise ConfigError(f"{where}: the path is empty; write the name of a file or folder")
    keep_in_line(text)
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise ConfigError(f"{where}: {shortened(text)!r} has a character that no path can have; correct it")
    longest = max(len(name) for name in encoded.split(b"/"))
    if "://" not in text and (longest > _LONGEST_NAME or len(encoded) > _LONGEST_PATH):
        raise ConfigError(
            f"{where}: '{shortened(text)}' is too long for a path ({len(encoded)} bytes, its longest name {longest}; "
            f"at most {_LONGEST_PATH} and {_LONGEST_NAME}); choose a shorter one"
        )
    return text


def same_name(name: str) -> str:
    """Return what two names have in common that a file system of a Mac, of Windows or on a share takes for the same.

    >>> same_name("Zu\u0308rich.tif") == same_name("Z\u00fcrich.TIF")
    True
    """
    return unicodedata.normalize("NFC", name).casefold()


def looks_alike(name: str, there: Iterable[str]) -> str:
    """Say that a file is there whose name only looks the same; empty if none is."""
    composed = unicodedata.normalize("NFC", name)
    if not any(one != name and unicodedata.normalize("NFC", one) == composed for one in there):
        return ""
    return f"a file is there whose name looks the same and has other characters ({name!a} is asked for); rename it"


def shortened(text: str, most: int = 200) -> str:
    """Return a text as a message can hold it: its start, if it is long.

    >>> shortened("abcdef", 3)
    'abc…'
    """
    return text if len(text) <= most else text[:most] + "…"
