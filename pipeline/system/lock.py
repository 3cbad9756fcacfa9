"""One run at a time per output: a lock file that names its owner, and that a dead owner does not keep.

No `flock`: shared file systems of clusters do not honour it everywhere. The file is created exclusively; an owner on
this host that no longer exists (or whose process number now belongs to another process) has lost its lock.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import OutputConflict


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the duration of the block.

    Raises:
        OutputConflict: another living run holds it; the message says which and how to remove it.
    """
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
    # signed first, then linked: a lock file that can be seen always names its owner
    signed = path.with_name(f"{path.name}.{owner['host']}-{owner['pid']}")
    try:
        signed.write_text(json.dumps(owner))
        _link(signed, path)
    except OutputConflict:
        raise
    except OSError as error:
        raise OutputConflict(
            f"{path.parent}: cannot write ({error.strerror}); choose another output.directory"
        ) from error
    finally:
        with suppress(OSError):
            signed.unlink()
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def _link(signed: Path, path: Path) -> None:
    while True:
        try:
            os.link(signed, path)
            return
        except FileExistsError:
            _evict_dead(path)


def held(path: Path) -> bool:
    """Return True if a living run holds the lock file `path` (one on another host is believed to live)."""
    try:
        return not _dead(json.loads(path.read_text()))
    except (OSError, ValueError):
        return False


def _dead(owner: Mapping[str, Any]) -> bool:
    here = owner.get("host") == socket.gethostname()
    return here and (owner.get("pid", -1) <= 0 or _started(int(owner["pid"])) != owner.get("started"))


def _evict_dead(path: Path) -> None:
    try:
        owner = json.loads(path.read_text())
    except FileNotFoundError:
        return
    except ValueError:
        # killed between creating and writing the file
        owner = {"host": socket.gethostname(), "pid": -1, "started": ""}
    if _dead(owner):
        with suppress(FileNotFoundError):
            path.unlink()
        return
    raise OutputConflict(
        f"{path.parent} is in use by process {owner.get('pid')} on {owner.get('host')}; wait for it, choose another "
        f"output.directory, or delete {path} if you are sure that it is gone"
    )


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
