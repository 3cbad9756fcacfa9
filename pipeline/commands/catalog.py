"""What the catalog names, and whether its files are there and the right ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config.catalog import check, presence
from pipeline.config.catalog_file import list_entries
from pipeline.errors import ConfigError, SourceError
from pipeline.system.yaml_files import nearest


def catalog_rows(folder: Path | None) -> list[dict[str, Any]]:
    """Return what the catalog says of each data set seen from a folder, and whether its files are there.

    Raises:
        ConfigError: there is no such folder.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; catalogs are looked for in a folder and those above it")
    rows = []
    for name, entry in list_entries(folder).items():
        state, wanted = presence(entry)
        rows.append({"name": name, "state": state, "wanted": wanted, **entry.config.model_dump(mode="json")})
    return rows


def check_rows(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return whether the files of some data sets, all without any, are there and have their checksum.

    Raises:
        ConfigError: there is no such data set.
    """
    entries = list_entries()
    unknown = [name for name in names if name not in entries]
    if unknown:
        near = ", ".join(f"{name}{nearest(name, entries)}" for name in unknown)
        raise ConfigError(f"no catalog entry {near} (names: {', '.join(entries)})")
    found = check([entry for name, entry in entries.items() if not names or name in names])
    return [{"name": one.name, "state": one.state, "message": one.message} for one in found]


def require_right(rows: Sequence[Mapping[str, Any]]) -> None:
    """Check that no file of the catalog is another one than it says, by what `check_rows` found.

    Raises:
        SourceError: one is.
    """
    if any(row["state"] == "wrong" for row in rows):
        raise SourceError("some catalog entries are wrong, see above")
