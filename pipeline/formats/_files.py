"""File-system habits shared by all formats: say what is missing, publish whole files only."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import OutputConflict, PipelineError, SourceError
from pipeline.system.files import remove_made


def is_remote(path: str) -> bool:
    """Return True for URLs and GDAL virtual paths, which the local file system knows nothing about."""
    return "://" in path or path.startswith("/vsi")


def suffix_matches(path: str, suffixes: Sequence[str]) -> bool:
    """Return True if the file name ends in one of `suffixes` (lower case); a URL's query is ignored."""
    name = path.split("?", 1)[0] if is_remote(path) else path
    return name.lower().endswith(tuple(suffixes))


def first_bytes(path: str, count: int = 16) -> bytes:
    """Return the first bytes of a local file; empty for URLs, folders and files that cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def require_file(path: str) -> None:
    """Check that a local input is there.

    Raises:
        SourceError: no such file (with the nearest names of its folder), or it cannot be read.
    """
    file = Path(path)
    if is_remote(path) or (file.exists() and os.access(file, os.R_OK)):
        return
    if file.exists():
        raise SourceError(f"{path}: no permission to read it; change its mode or owner")
    if not file.parent.is_dir():
        raise SourceError(f"{path}: no such file, and no folder {file.parent}; check the path")
    near = difflib.get_close_matches(file.name, sorted(p.name for p in file.parent.iterdir()), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "check the path"
    raise SourceError(f"{path}: no such file; {hint}")


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder below `parent` for temporary files; it is removed whatever happens."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=parent))
    try:
        yield folder
    finally:
        remove_made(folder)


@contextmanager
def writing(path: Path, scratch: Path, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[Path]:
    """Yield a scratch folder in which `path` is made; low-level `errors` become one that names it.

    Raises:
        OutputConflict: the file cannot be written.
    """
    try:
        with scratch_folder(scratch) as folder:
            yield folder
    except PipelineError:
        raise
    except errors as error:
        cause = error.__cause__ or error
        raise OutputConflict(f"{path}: cannot be written: {cause}; check space and permissions") from error
