"""One run at a time per output: a lock file held by the kernel, so a dead owner never keeps it.

The lock is `flock(2)`: it ends with the process, whatever ends that. It holds between processes of one machine on every
local file system; on which network file systems it holds between machines stands in
`docs/decisions/0009-publication.md`. Where the file system knows no locks the run is refused and told to work
elsewhere.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import OutputConflict
from pipeline.system import late

_Does = Callable[[], None]
_GLANCE_S = 1.0
"""Longer than anybody takes to ask who holds a lock (see `held`)."""
_UNKNOWN = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}
_HELD = {errno.EWOULDBLOCK, errno.EACCES}


class NoLocks(OutputConflict):
    """The file system has no locks."""


@contextmanager
def locked(path: Path, *, what: str = "") -> Iterator[None]:
    """Hold the lock file `path` for the duration of the block; it is gone afterwards.

    Args:
        path: lock file.
        what: what a message calls that which is held; empty = the folder of the lock file.

    Raises:
        OutputConflict: another living run holds it (the message says which).
        NoLocks: the file system has no locks.
    """
    descriptor = _acquired(path, what or str(path.parent))
    try:
        _sign(descriptor)
        yield
    finally:
        _let_go(path, descriptor)


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock file `path` as `locked` does, but wait for it: for what takes moments.

    Where the file system has no locks nobody waits: what is written must appear in one step.

    Raises:
        OutputConflict: the folder cannot be written.
    """
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _UNKNOWN:
                os.close(descriptor)
                raise
        if _is_file_of(descriptor, path):
            break
        # the owner before has just removed it
        os.close(descriptor)
    try:
        yield
    finally:
        _let_go(path, descriptor)


def _let_go(path: Path, descriptor: int) -> None:
    try:
        # removed while it is still held: whoever opens it later finds that it is no longer the file of that name
        with suppress(OSError):
            path.unlink()
    finally:
        os.close(descriptor)


@contextmanager
def joined(path: Path, begin: _Does, begun: Callable[[], bool], wait: _Does) -> Iterator[None]:
    """Hold the lock file `path` together with others that work on the same thing; the first of them begins it alone.

    Args:
        path: lock file.
        begin: called while nobody else holds the lock, unless it has `begun`; what it raises ends the attempt.
        begun: says whether the common work can be joined.
        wait: called now and then while somebody holds the lock alone; may raise to give up.

    Raises:
        OutputConflict: what others have begun is not seen here.
        NoLocks: the file system has no locks.
    """
    unseen_since: float | None = None
    while True:
        descriptor = _opened(path)
        try:
            if _tried(descriptor, path, fcntl.LOCK_EX):
                if _is_file_of(descriptor, path):
                    if not begun():
                        _sign(descriptor)
                        begin()
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
                    # whoever came between has removed the file: its work is done or was never begun
                    if _is_file_of(descriptor, path) and begun():
                        break
            elif not _tried(descriptor, path, fcntl.LOCK_SH) or not _is_file_of(descriptor, path):
                unseen_since = None
            elif begun():
                break
            else:
                # those who work together have all that they need, and this process should see it, too
                unseen_since = unseen_since or time.monotonic()
                if time.monotonic() - unseen_since > late.LONGEST_S:
                    raise OutputConflict(
                        f"{path.parent}: others work here, but what they have made is not seen on this machine after "
                        f"{late.LONGEST_S:.0f} s; use a folder that all machines share, and run again"
                    )
        except BaseException:
            _released(descriptor, path)
            raise
        os.close(descriptor)
        wait()
    try:
        yield
    finally:
        _released(descriptor, path)


def _released(descriptor: int, path: Path) -> None:
    """Give a lock back; the last one removes the file."""
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file_of(descriptor, path):
                path.unlink()
    finally:
        os.close(descriptor)


def _tried(descriptor: int, path: Path, kind: int) -> bool:
    """Return True if a lock of this kind is held now.

    Raises:
        NoLocks: the file system has no locks.
        OutputConflict: it fails.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNKNOWN:
            raise NoLocks(_without_locks(path, error)) from error
        if error.errno in _HELD:
            return False
        raise OutputConflict(
            f"{path}: cannot be locked ({error.strerror}); see to the folder or its disk and run again to continue"
        ) from error
    return True


def held(path: Path) -> bool:
    """Return True if a living run holds the lock file `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _HELD
    finally:
        os.close(descriptor)
    return False


def _sign(descriptor: int) -> None:
    """Write into a lock file who holds it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)


def _opened(path: Path) -> int:
    try:
        # the owner before may just have removed its empty folder
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputConflict(
            f"{path.parent}: cannot write ({error.strerror}); choose another folder for the output"
        ) from error


def _acquired(path: Path, what: str) -> int:
    until = time.monotonic() + _GLANCE_S
    while True:
        descriptor = _opened(path)
        try:
            if _tried(descriptor, path, fcntl.LOCK_EX):
                # else the owner before has just removed it: a lock on a file without a name keeps nobody out
                if _is_file_of(descriptor, path):
                    return descriptor
            elif not _tried(descriptor, path, fcntl.LOCK_SH) or time.monotonic() > until:
                raise OutputConflict(_in_use(path, what))
            else:
                # nobody has it alone: somebody may only be asking who holds it
                time.sleep(_GLANCE_S / 100)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_file_of(descriptor: int, path: Path) -> bool:
    """Return True if the file that is open still has the name.

    Raises:
        OutputConflict: this cannot be told, and whoever waits for the same number waits without end.
    """
    own = os.fstat(descriptor)
    try:
        if os.path.samestat(own, path.stat()):
            return True
    except FileNotFoundError:
        return False
    if not os.path.samestat(own, os.fstat(descriptor)):
        raise OutputConflict(numbers_made_up(path.parent))
    return False


def numbers_made_up(folder: Path) -> str:
    """Say that nothing can be locked, nor a folder removed, where files have no numbers of their own.

    Some file systems in user space are such; Python removes no folder there, as it takes it for a link.
    """
    return (
        f"{folder}: this file system gives one and the same file another number (inode) each time, so runs cannot be "
        "kept apart; choose a folder on another one"
    )


def _without_locks(path: Path, error: OSError) -> str:
    return (
        f"{path.parent}: this file system has no locks ({error.strerror}), so two runs could write the same files; "
        "set compute.scratch to a folder on another one, e.g. a local disk"
    )


def _in_use(path: Path, what: str) -> str:
    owner = {}
    with suppress(OSError, ValueError):
        owner = json.loads(path.read_text())
    known = isinstance(owner, dict) and "pid" in owner
    who = f"process {owner['pid']} on {owner.get('host')}" if known else "another process"
    return f"{what} is in use by {who}; wait for it, end it, or choose another folder for the output"
