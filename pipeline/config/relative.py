"""Relative paths of `--set` start from the working folder; those of a config, from the config's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.system import yaml_files
from pipeline.system.paths import is_address, kind_of

_PATH_KEYS = {"source", "path", "references", "auxiliary", "weights"}
_FOLDER_KEYS = {"directory", "scratch", "bids"}


def from_working_folder(document: yaml_files.Document) -> Any:
    """Make relative paths of `--set` absolute: on a command line they start from the working folder."""

    def anchored(value: Any, key: str | int) -> Any:
        if isinstance(value, dict):
            return {k: anchored(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [anchored(v, key) for v in value]
        if not isinstance(value, str) or key not in _PATH_KEYS | _FOLDER_KEYS:
            return value
        text = yaml_files.expand_environment(value, str(key))
        if is_address(text):
            return value
        here = Path.cwd() / text
        return str(here) if key in _FOLDER_KEYS or _is_file(here) else value

    def walk(value: Any, loc: yaml_files.Loc) -> Any:
        if document.origins.get(loc, "").startswith("--set"):
            keys = [part for part in loc if isinstance(part, str)]
            return anchored(value, keys[-1])
        if isinstance(value, dict):
            return {k: walk(v, (*loc, k)) for k, v in value.items()}
        return [walk(v, (*loc, i)) for i, v in enumerate(value)] if isinstance(value, list) else value

    return walk(document.data, ())


def _is_file(path: Path) -> bool:
    if set(path.name) & set("*?["):
        try:
            return any(path.parent.glob(path.name))
        except (OSError, ValueError):
            return False
    return kind_of(path) == "file" or path.suffix == ".zarr"
