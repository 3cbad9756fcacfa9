"""What is given in Python as the values of a config: sections, mask entries, one thing or several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.relative import anchored
from pipeline.errors import ConfigError
from pipeline.system.paths import home_expanded, is_address, require_possible

_ARGUMENTS = {("input", "source"): "the image is the first argument", ("output", "directory"): "use folder="}
"""Keys of sections that are arguments of their own."""


def several(given: Any) -> Sequence[Any]:
    """Return one thing as a list of one, None as an empty one; lists and tuples stay."""
    if given is None:
        return ()
    return given if isinstance(given, list | tuple) else [given]


def path_of(path: str | Path, name: str) -> str:
    """Return an absolute path, `~` expanded; addresses stay as they are.

    Args:
        path: as it was given.
        name: of the argument, for the message.

    Raises:
        ConfigError: no file system could hold it, or there is no such home folder.
    """
    text = require_possible(path if isinstance(path, str) else str(Path(path)), name)
    return text if is_address(text) else str(Path(home_expanded(text, name)).resolve())


def sections_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections as JSON holds them, their relative paths as seen from the working folder.

    Raises:
        ConfigError: a key is an argument of its own, or a value is nothing that a config can hold.
    """
    for (section, key), instead in _ARGUMENTS.items():
        if isinstance(given.get(section), Mapping) and key in given[section]:
            raise ConfigError(f"{section}.{key}: {instead}; leave the key out")
    sections: dict[str, Any] = {
        name: anchored(_held(value, name), name) for name, value in given.items() if name != "mask"
    }
    return sections | ({"mask": _masks(given["mask"])} if given.get("mask") is not None else {})


def mask_entries(entries: Any) -> list[dict[str, Any]]:
    """Return mask entries as JSON holds them, their relative paths as seen from the working folder."""
    return [_entry(entry) for entry in several(entries)]


def _masks(given: Any) -> Any:
    if hasattr(given, "shape"):
        raise ConfigError("mask: is for entries as in a config; give an array or image as `holes`, the second argument")
    return given if isinstance(given, str) else mask_entries(given)


def _entry(entry: Any) -> Any:
    found = anchored(_held(entry, "mask"), "mask")
    path = found.get("path") if isinstance(found, dict) else None
    # a path with a placeholder is no file yet
    if not isinstance(path, str) or is_address(path) or path.startswith(("{folder}", "${")):
        return found
    return found | {"path": str(Path.cwd() / path)}


def _held(value: Any, key: str) -> Any:
    try:
        return _plain(value, key)
    except RecursionError:
        raise ConfigError(f"{key}: is nested without end; give plain values") from None


def _plain(value: Any, key: str) -> Any:
    """Return a value as JSON holds it: paths as text, numbers of numpy as numbers, NaN by name."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{key}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), key)
    if isinstance(value, float) and np.isnan(value):
        return "nan"
    if isinstance(value, Path):
        return str(value)
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{key}: a config cannot hold a {type(value).__name__}; give text, numbers or lists"
        ) from None
    return value
