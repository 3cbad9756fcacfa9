"""Relative paths of `--set` start from the working folder; those of a config, from the config's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.system import yaml_files
from pipeline.system.paths import is_address, kind_of

_PATH_KEYS = {"source", "path", "references", "auxiliary", "weights"}
_FOLDER_KEYS = {"directory", "scratch", "bids"}


def anchored(value: Any, key: str) -> Any:
    """Make the relative paths in a value of a config absolute, as seen from the working folder.

    Args:
        value: as YAML or JSON gives it.
        key: the name that it has in the config. Of keys that take names, too, only what is there is taken as a path.
    """
    if isinstance(value, dict):
        return {k: anchored(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [anchored(v, key) for v in value]
    if not isinstance(value, str) or key not in _PATH_KEYS | _FOLDER_KEYS:
        return value
    text = yaml_files.expand_environment(value, key)
    if is_address(text):
        return value
    here = Path.cwd() / text
    return str(here) if key in _FOLDER_KEYS or _is_image(here, text) else value


def from_working_folder(document: yaml_files.Document) -> Any:
    """Make relative paths of `--set` absolute: on a command line they start from the working folder."""

    def walk(value: Any, loc: yaml_files.Loc) -> Any:
        if document.origins.get(loc, "").startswith("--set"):
            keys = [part for part in loc if isinstance(part, str)]
            return anchored(value, keys[-1])
        if isinstance(value, dict):
            return {k: walk(v, (*loc, k)) for k, v in value.items()}
        return [walk(v, (*loc, i)) for i, v in enumerate(value)] if isinstance(value, list) else value

    return walk(document.data, ())


def _is_image(path: Path, text: str) -> bool:
    """Return True for what is no name of the catalog: a file, files, the folder of a scene or a zarr."""
    if set(path.name) & set("*?["):
        try:
            return any(path.parent.glob(path.name))
        except (OSError, ValueError):
            return False
    is_folder = path.suffix == ".zarr" or (kind_of(path) == "folder" and ("/" in text or path.suffix == ".SAFE"))
    return is_folder or kind_of(path) == "file"
