"""Write files so that a reader, or a crash, sees the old content or the new, never a part."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import shutil
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import IntegrityError

_SEAL = "sha256_of_the_rest"
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a path to write a file to; after the block it has the name `path`, durably, in one step.

    If the block fails, nothing is left of it, and what `path` held before stays.

    Args:
        path: final name; its folder exists.
        shared: other processes may be writing the same file.
    """
    # containers on two machines may have the same process numbers
    owner = f".{socket.gethostname()}.{os.getpid()}" if shared else ""
    partial = path.with_name(f".{path.name}{owner}.partial")
    try:
        yield partial
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, private: bool = False, shared: bool = False) -> None:
    """Write a text file, UTF-8, whole or not at all; a private one can be read by its owner only.

    Other processes may be writing the same file if it is `shared`.
    """
    with replacing(path, shared=shared) as partial:
        if private:
            partial.touch(mode=0o600)
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, facts: Mapping[str, Any], *, shared: bool = False) -> None:
    """Write JSON whole or not at all, see `write_text`; not-a-number and infinity become null."""
    write_text(path, json.dumps(finite(facts), indent=1, allow_nan=False) + "\n", shared=shared)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file of our own; None if there is no such file.

    Raises:
        IntegrityError: the file is damaged: cut off, empty, or not what this program writes.
    """
    try:
        if path.exists() and not path.is_file():
            # a pipe would be waited for without end
            raise IntegrityError(f"{path}: is damaged (it is no file)")
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise IntegrityError(f"{path}: is damaged ({error})") from error
    if not isinstance(facts, dict):
        raise IntegrityError(f"{path}: is damaged (no object in it)")
    return facts


def write_sealed(path: Path, facts: Mapping[str, Any], *, private: bool = False) -> str:
    """Write JSON with a hash of itself, which is returned, whole or not at all; `unsealed` tells what was changed."""
    whole = sealed(facts)
    write_text(path, json.dumps(whole, sort_keys=True) + "\n", private=private)
    return seal_of(whole)


def seal_of(facts: Mapping[str, Any]) -> str:
    """Return the hash that sealed JSON values hold of themselves; empty if they hold none."""
    return str(facts.get(_SEAL, ""))


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values with a hash of them, for a file that others read, too; `unsealed` takes it off."""
    plain = _plain(facts)
    return {**plain, _SEAL: _hash(plain)}


def unsealed(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what `write_sealed` was given, from what `read_json` found.

    Raises:
        IntegrityError: the file was changed since.
    """
    plain = _plain(facts)
    if facts.get(_SEAL) != _hash(plain):
        raise IntegrityError(f"{path}: is damaged (its content does not have its own hash)")
    return plain


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key != _SEAL}


def _hash(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def remove_made(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, that this program itself made; gone already is fine.

    The only place that removes whole folders: every call names a path that no user puts anything into.
    """
    # renamed first: what is only half removed must not pass for whole; what a kill left of that goes, too
    doomed = path.with_name(removed_name(path.name))
    if doomed.is_dir():
        shutil.rmtree(doomed)
    if path.is_dir() and not path.is_symlink():
        path.rename(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def removed_name(name: str) -> str:
    """Return what a folder is called while `remove_made` removes it."""
    return f".{name}.removed"


def publish(finished: Path, path: Path) -> None:
    """Give a finished file or folder its final name: forced to disk first, then renamed in one step.

    A folder that had the name has that of `finished` then, or lies beside it as `<name>.old`: see `replace_folder`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if finished.is_dir():
        sync_tree(finished)
        replace_folder(path, finished, finished.with_name(finished.name + ".old"))
    else:
        sync(finished)
        finished.replace(path)
        sync(path.parent)


def unreplaceable(path: Path) -> str:
    """Say why this user may not read or replace a file; empty if nothing speaks against it, or it is not there."""
    try:
        file, folder = path.stat(), path.parent.stat()
    except OSError:
        return ""
    if not os.access(path, os.R_OK):
        return "no permission to read it"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return "no permission to write to its folder"
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in (0, file.st_uid, folder.st_uid):
        return f"belongs to user {file.st_uid}, and in this folder (sticky) only the owner of a file may replace it"
    return ""


def sync_files(paths: Iterable[Path]) -> None:
    """Force files and the folders that name them to disk."""
    folders = set()
    for path in paths:
        sync(path)
        folders.add(path.parent)
    for folder in sorted(folders):
        sync(folder)


def sync(path: Path) -> None:
    """Force the content of a file, or the entries of a folder, to disk; some file systems do the former only.

    Shares of Windows (CIFS) and file systems in user space may know no such thing for folders; PostgreSQL's
    `fsync_fname` takes the same two answers for that.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.EBADF)):
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Force all files and folders in a folder to disk."""
    for item in folder.rglob("*"):
        # a pipe would be waited for without end
        if item.is_file() or item.is_dir():
            sync(item)
    sync(folder)


def replace_folder(path: Path, new: Path, aside: Path) -> None:
    """Rename the folder `new`, which is on disk, to `path`; the names are on disk at the end.

    What had the name is in `new` then: both are exchanged in one step. Where system or file system cannot, it is in
    `aside`, as it steps aside first; whoever is ended between these two steps finds it there and nothing in its place.

    Args:
        path: final name.
        new: on the same file system.
        aside: a name there that nothing has.

    Raises:
        OSError: one of them may not be moved, or a file has the name.
    """
    if not path.is_dir():
        new.rename(path)
    elif not _exchanged(new, path):
        path.rename(aside)
        new.rename(path)
    sync(path.parent)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step (renameat2, Linux 3.15); False where system or file system cannot.

    Raises:
        OSError: one of them is not there, or may not be moved.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code))


def finite(value: Any) -> Any:
    """Return JSON values with null in place of numbers that JSON does not have, and text in place of other keys."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value
