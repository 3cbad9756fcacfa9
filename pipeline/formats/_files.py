"""File-system habits shared by all formats: say what is missing, publish whole files only."""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from pipeline.errors import OutputConflict, PipelineError, PlanRefused, SourceError
from pipeline.system.bounds import is_used_up, used_up_message
from pipeline.system.files import remove_made
from pipeline.system.objects import is_object
from pipeline.system.paths import barred, dangling, is_address, kind_of, looks_alike
from pipeline.system.room import full_disk_message, no_room
from pipeline.system.words import keep_in_line


def suffix_matches(path: str, suffixes: Sequence[str]) -> bool:
    """Return True if the file name ends in one of `suffixes` (lower case); a URL's query is ignored."""
    name = path.split("?", 1)[0] if is_address(path) else path
    return name.lower().endswith(tuple(suffixes))


def first_bytes(path: str, count: int = 16) -> bytes:
    """Return the first bytes of a local file; empty for URLs, folders, devices and files that cannot be read."""
    if kind_of(path) != "file":
        return b""
    try:
        with Path(path).open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def how_it_starts(path: str) -> str:
    """Say with which bytes a local file begins, for a message on a file of another kind."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(12)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return f"it starts with {start!r}" if start else "it is empty"


def require_file(path: str, *, folder: bool = False, local: bool = False) -> None:
    """Check that a local input is there and is a file.

    Args:
        path: what is to be read; URLs are not looked at.
        folder: a folder will do, too.
        local: the format cannot be read from an address.

    Raises:
        SourceError: an address if it has to be local, no such file (with the nearest names of its folder), a device,
            pipe or socket, a folder where none is wanted, or it cannot be read.
    """
    if is_address(path):
        _require_address(path, local=local)
        return
    file = Path(path)
    keep_in_line(path)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{path!r}: the name is not UTF-8, which most readers need; rename the file") from None
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise missing(path) from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{path!r}: cannot be read: {error}; check the path") from error
    if not stat.S_ISREG(mode) and not (folder and stat.S_ISDIR(mode)):
        if file.name.lower().endswith(".zarr"):
            raise SourceError(
                f"{path}: is zarr, and a file is asked for here: write a raster as GeoTIFF (rioxarray: "
                "`array.rio.to_raster('image.tif')`), a volume as NIfTI"
            )
        raise SourceError(f"{path}: is {_kind(mode)}, not a file; give the file that holds the image")
    if not os.access(file, os.R_OK):
        raise SourceError(f"{path}: no permission to read it; change its mode or owner")


def _require_address(path: str, *, local: bool) -> None:
    """Check that an address can be read from, see `require_file`; nothing is asked of its server."""
    if is_object(path):
        raise SourceError(
            f"{path}: lies in object storage; `run`, `plan` and `inspect` fetch it, anything else needs a file: "
            "fetch it first"
        )
    if local:
        raise SourceError(f"{path}: is an address; only GeoTIFF and its kin are read from one, so fetch it first")


def _kind(mode: int) -> str:
    tests = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe (FIFO)",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for test, name in tests.items() if test(mode)), "something else")


def missing(path: str, what: str = "no such file") -> SourceError:
    """Return the error of a file that is not there: where a link leads, or what else in its folder is called alike."""
    file = Path(path)
    if folder := barred(file):
        return SourceError(f"{file}: no permission to look into {folder}; change its mode or owner")
    if leads := dangling(file):
        return SourceError(f"{file}: {what}; it is a link to {leads}, which is not there")
    if not file.parent.is_dir():
        return SourceError(f"{file}: {what}, and no folder {file.parent}; check the path")
    near: list[str] = []
    with suppress(OSError):
        names = sorted(p.name for p in islice(file.parent.iterdir(), 10_000))
        if said := looks_alike(file.name, names):
            return SourceError(f"{file}: {what}; {said}")
        near = difflib.get_close_matches(file.name, names, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "check the path"
    return SourceError(f"{file}: {what}; {hint}")


@contextmanager
def untrusted(path: str, problem: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises over the bytes of a file into an error that names file, value and remedy.

    What a damaged or hostile file makes a library raise is not documented anywhere: GDAL's own classes beside
    rasterio's, arithmetic on not-a-number, lookups of unknown codes, memory that no machine has.

    Raises:
        SourceError: the library raised something.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        raise SourceError(f"{path}: {problem}: {cause or type(cause).__name__}; {remedy}") from error


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
        PlanRefused: there is no memory for it.
    """
    try:
        with scratch_folder(scratch) as folder:
            try:
                yield folder
            except errors as error:
                # asked while what was written takes its room
                number = no_room(folder, error)
                if number is None:
                    raise
                raise OutputConflict(full_disk_message(path, number)) from error
    except PipelineError:
        raise
    except errors as error:
        if (number := no_room(scratch, error)) is not None:
            # removing what was written may need room, too
            raise OutputConflict(full_disk_message(path, number)) from error
        cause = error.__cause__ or error
        if is_used_up(cause):
            raise PlanRefused(f"{path}: {used_up_message(cause)}") from error
        raise OutputConflict(
            f"{path}: cannot be written: {cause}; check space, quota, permissions and limits (ulimit -f)"
        ) from error
