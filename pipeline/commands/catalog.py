"""What the catalog names, and whether its files are there and the right ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.config.catalog import entry_images, other_content
from pipeline.config.catalog_file import Entry, list_entries
from pipeline.errors import ConfigError, OutputConflict, SourceError
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
        state, wanted = _presence(entry)
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
    return [checked(entry) for name, entry in entries.items() if not names or name in names]


def checked(entry: Entry) -> dict[str, str]:
    """Return `name`, `state` (`ok`, `absent`, `remote` or `wrong`) and `message` of an entry; fetches nothing."""
    state, message = _found(entry)
    return {"name": entry.name, "state": state, "message": message}


def _found(entry: Entry) -> tuple[Literal["ok", "absent", "remote", "wrong"], str]:
    if entry.remote:
        return "remote", "not fetched; read over the network when used"
    try:
        images = entry_images(entry)
        folder = Path(images[0].paths[0]).parent
        others = (other_content(folder / name, expected) for name, expected in entry.config.sha256.items())
        if wrong := next(filter(None, others), ""):
            return "wrong", wrong
    except (SourceError, ConfigError, OutputConflict) as error:
        return "absent", str(error)
    return "ok", f"{len(images)} image(s), {sum(len(one.paths) for one in images)} file(s)"


def _presence(entry: Entry) -> tuple[Literal["there", "missing", "made on use", "over network"], str]:
    """Say whether the files of an entry are there, and what is looked for; makes, fetches and hashes nothing."""
    if entry.remote:
        return "over network", ""
    if entry.config.generator:
        return "made on use", ""
    try:
        entry_images(entry)
    except (ConfigError, SourceError):
        first = entry.config.path
        while not isinstance(first, str):
            first = first[0]
        return "missing", first
    return "there", ""


def require_right(rows: Sequence[Mapping[str, Any]]) -> None:
    """Check that no file of the catalog is another one than it says, by what `check_rows` found.

    Raises:
        SourceError: one is.
    """
    if any(row["state"] == "wrong" for row in rows):
        raise SourceError("some catalog entries are wrong, see above")
