"""Write files so that a reader, or a crash, sees the old content or the new, never a part."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a path to write a file to; after the block it has the name `path`, durably, in one step.

    If the block fails, nothing is left of it, and what `path` held before stays.

    Args:
        path: final name; its folder exists.
        shared: other processes may be writing the same file.
    """
    owner = f".{os.getpid()}" if shared else ""
    partial = path.with_name(f".{path.name}{owner}.partial")
    try:
        yield partial
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all; not-a-number and infinity become null."""
    write_text(path, json.dumps(_finite(facts), indent=1, allow_nan=False) + "\n")


def publish(finished: Path, path: Path) -> None:
    """Give a finished file or folder its final name: forced to disk first, then renamed in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if finished.is_dir():
        _publish_folder(finished, path)
    else:
        sync(finished)
        finished.replace(path)
    sync(path.parent)


def sync_files(paths: Iterable[Path]) -> None:
    """Force files and the folders that name them to disk."""
    folders = set()
    for path in paths:
        sync(path)
        folders.add(path.parent)
    for folder in sorted(folders):
        sync(folder)


def sync(path: Path) -> None:
    """Force the content of a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish_folder(finished: Path, path: Path) -> None:
    for item in finished.rglob("*"):
        sync(item)
    if path.is_dir():
        # a folder cannot be replaced in one step: the old one steps aside before the new one takes its name
        aside = finished.with_name(finished.name + ".old")
        path.rename(aside)
    finished.rename(path)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
