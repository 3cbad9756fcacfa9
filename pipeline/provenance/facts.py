"""record.json: the one account of a restored image from which all other metadata are rendered."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import resource
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline import __version__

RECORD_VERSION = 1
DISCLAIMER = (
    "Restored pixels are estimates for analysis, not observations. This software is not a medical device and its "
    "results must not be used for diagnosis."
)
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


def tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the short provenance tags written into rasters (default domain); the record is the truth."""
    model = record.get("model") or {}
    return {
        "PROCESSING_SOFTWARE": "inpaint-pipeline",
        "PROCESSING_VERSION": __version__,
        "INPAINT_MODEL": str(model.get("name", "classical")),
        "INPAINT_MODEL_SHA256": str(model.get("sha256", "")),
        "INPAINT_CONFIG_SHA256": str(record.get("config_sha256", "")),
        "INPAINT_SOURCE_SHA256": str(record["inputs"][0]["sha256"] or ""),
        "INPAINT_FILLED_FRACTION": f"{record['holes']['fraction']:.6f}",
        "INPAINT_RECORD": "record.json",
    }


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write JSON atomically; not-a-number and infinity become null."""
    from pipeline.journal import sync_files

    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(_finite(facts), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    sync_files([partial])
    partial.replace(path)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
