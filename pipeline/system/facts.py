"""record.json: the one account of a restored image from which all other metadata are rendered."""

from __future__ import annotations

import hashlib
import platform
import resource
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline import __version__

_PACKAGES = (
    "torch",
    "monai",
    "numpy",
    "scipy",
    "rasterio",
    "nibabel",
    "zarr",
    "dask",
    "distributed",
    "pyamg",
)


def file_facts(path: Path) -> dict[str, Any]:
    """Return `{bytes, sha256}` of a file; of a folder (zarr), of its files in sorted order."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.relative_to(path).as_posix()}\0{_sha256(file)}\n".encode())
        return {"bytes": sum(f.stat().st_size for f in files), "sha256": digest.hexdigest()}
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def input_facts(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Return one entry per input file: path, bytes, SHA-256; remote inputs have their URL only."""
    facts = []
    for text in paths:
        path = Path(text)
        facts.append({"path": text, **(file_facts(path) if path.exists() else {"bytes": None, "sha256": None})})
    return facts


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
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return int(max(own, children)) * unit


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
