"""Facts for the record: hashes of files, what a web server says of one, versions, the machine, memory that was used."""

from __future__ import annotations

import errno
import hashlib
import platform
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.errors import SourceError
from pipeline.system.paths import barred, state_of

_ANSWER_S = 10.0
_FAILING = (errno.EIO, errno.ESTALE, errno.EBADMSG, errno.EUCLEAN, errno.ENOTCONN, errno.ETIMEDOUT)
"""What the system says of a disk or a server of files that fails."""
_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "rasterio",
    "nibabel",
    "zarr",
    "dask",
    "distributed",
    "pyamg",
)


_known: ContextVar[dict[tuple[int, ...], str] | None] = ContextVar("known", default=None)


@contextmanager
def inputs_hashed_once() -> Iterator[None]:
    """While in context, an input that nobody touches is hashed once: each date of a series is a guide of the others."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def sha256_of_input(path: Path) -> str:
    """Return the sha256 (hex) of a file that a run reads; see `inputs_hashed_once`.

    Raises:
        SourceError: the disk fails.
        OSError: it cannot be read for another reason.
    """
    known = _known.get()
    if known is None:
        return _sha256(path)
    key = state_of(path)
    if key not in known:
        known[key] = _sha256(path)
    return known[key]


def file_facts(path: Path) -> dict[str, Any]:
    """Return `{bytes, sha256}` of a file; of a folder (zarr), of its files in sorted order.

    Raises:
        SourceError: the disk fails.
        OSError: it cannot be read for another reason.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of_input(file)}\n".encode())
        return {"bytes": sum(f.stat().st_size for f in files), "sha256": digest.hexdigest()}
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def input_facts(paths: Iterable[str], belonging: Callable[[str], Iterable[str]] | None = None) -> list[dict[str, Any]]:
    """Return one entry per input file.

    Args:
        paths: files, folders or URLs, as given.
        belonging: names the files that belong to an input without being named, such as masks beside it.

    Returns:
        `path`, `bytes` and `sha256` of each; if there are any, `files` with the same of what belongs to it. An
        address has no `sha256` but what its server says of its content: `bytes` (or None), `etag`, `last_modified`.

    Raises:
        SourceError: one of them is there and cannot be read.
    """
    facts = []
    for text in paths:
        entry = _one_input(text)
        files = [_one_input(name) for name in (belonging(text) if belonging else ())]
        facts.append({**entry, "files": files} if files else entry)
    return facts


def content_of(fact: Mapping[str, Any]) -> Any:
    """Return what of an entry of `input_facts` changes when the content does, for hashing: its SHA-256 if it has one.

    An address and an input with files that belong to it have more than one word for it; where the
    files lie says nothing.
    """
    files = [[Path(file["path"]).name, content_of(file)] for file in fact.get("files", ())]
    said = [fact["bytes"], fact.get("etag"), fact.get("last_modified")]
    own = said if fact["sha256"] is None and any(v is not None for v in said) else fact["sha256"]
    return [own, *files] if files else own


def _one_input(text: str) -> dict[str, Any]:
    path = Path(text)
    try:
        if path.is_file():
            return {"path": text, "bytes": path.stat().st_size, "sha256": sha256_of_input(path)}
        if path.exists():
            return {"path": text, **file_facts(path)}
    except SourceError:
        raise
    except OSError as error:
        named = error.filename or text
        folder = barred(named)
        why = f"no permission to look into {folder}" if folder else f"cannot be read ({error.strerror or error})"
        raise SourceError(f"{named}: {why}; see to its mode or disk") from error
    return {"path": text, "bytes": None, "sha256": None, **_remote_facts(text)}


def _remote_facts(address: str) -> dict[str, Any]:
    """Return what a web server says of a file without sending it; nothing if it does not answer."""
    from urllib.request import Request, urlopen

    address = address.removeprefix("/vsicurl/")
    if not address.startswith(("http://", "https://")):
        return {}
    # a signed address is good for reading only: the server then says the same beside the first byte
    for ask in ({"method": "HEAD"}, {"headers": {"Range": "bytes=0-0"}}):
        # what servers do is no reason to stop: without an answer the address alone is recorded
        with suppress(Exception), urlopen(Request(address, **ask), timeout=_ANSWER_S) as answer:
            return _answered(answer.headers)
    return {}


def _answered(headers: Mapping[str, str]) -> dict[str, Any]:
    size = (headers.get("Content-Range") or headers.get("Content-Length") or "").rpartition("/")[2]
    said = {"bytes": int(size) if size.isdecimal() else None}
    tags = {"etag": headers.get("ETag"), "last_modified": headers.get("Last-Modified")}
    return {**said, **{name: value for name, value in tags.items() if value}}


def output_facts(role: str, path: Path, folder: Path) -> dict[str, Any]:
    """Return an entry of `outputs`; the path is relative to the record."""
    return {"role": role, "path": path.relative_to(folder).as_posix(), **file_facts(path)}


def software() -> dict[str, str]:
    """Return versions of this program, Python and the libraries that decide about values."""
    versions = {"inpaint-pipeline": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """Return what decides the determinism class: machine type, CPU name, operating system."""
    cpu = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(":")[2].strip() if lines else ""
    return {"machine": platform.machine(), "cpu": cpu, "system": f"{platform.system()} {platform.release()}"}


def peak_rss_bytes() -> int:
    """Return the largest resident size so far of this process or any finished child, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = _high_water_kib() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return int(max(own, children)) * unit


def _high_water_kib() -> int | None:
    """Return Linux's own count of this process; that of getrusage begins with the peak of the one that started it."""
    try:
        words = Path("/proc/self/status").read_text().split()
        return int(words[words.index("VmHWM:") + 1])
    except (OSError, ValueError):
        return None


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        if error.errno not in _FAILING:
            raise
        # what fails while it is read names no file
        raise SourceError(f"{path}: cannot be read ({error.strerror}); see to its disk") from error
