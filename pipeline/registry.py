"""Find the parts of one kind: a module's file name in its folder is the `kind:` of the config.

Third parties add parts through entry points in the group `inpaint_pipeline.<folder>`
(`formats`, `masks`, `fills`, `models`, `execute`).
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

from pipeline.errors import ConfigError

_NOT_PARTS = {"base", "__init__"}
_GROUP = "inpaint_pipeline."


def kinds(folder: str) -> tuple[str, ...]:
    """Return the sorted names of all parts in `pipeline/<folder>` and its entry points; imports nothing."""
    return tuple(sorted(_own(folder) | {e.name for e in _entry_points().get(folder, ())}))


def load(folder: str, kind: str) -> ModuleType:
    """Import the part `kind` of `folder`.

    Raises:
        ConfigError: no such part, with the nearest name; or a config of dask, which executors import, cannot be read.
    """
    for entry in _entry_points().get(folder, ()):
        if entry.name == kind:
            module = entry.load()
            assert isinstance(module, ModuleType)
            return module
    if kind not in kinds(folder):
        near = difflib.get_close_matches(kind, kinds(folder), n=1)
        hint = f" - did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"unknown kind '{kind}' in {folder}{hint} (known: {', '.join(kinds(folder))})")
    try:
        return import_module(f"pipeline.{folder}.{kind}")
    except ValueError as error:
        # a config of the user's or the site's, in ~/.config/dask, /etc/dask or DASK_CONFIG
        if "dask config file" not in str(error):
            raise
        raise ConfigError(f"{' '.join(str(error).split())}; correct that file, or move it away") from None


@lru_cache
def _own(folder: str) -> frozenset[str]:
    here = Path(__file__).parent / folder
    return frozenset(p.stem for p in here.glob("*.py") if p.stem not in _NOT_PARTS and not p.stem.startswith("_"))


@lru_cache
def _entry_points() -> dict[str, tuple[metadata.EntryPoint, ...]]:
    """Return the parts of other packages by folder: to look for those of one takes as long as for all."""
    found = metadata.entry_points()
    groups = [group for group in found.groups if group.startswith(_GROUP)]
    return {group.removeprefix(_GROUP): tuple(found.select(group=group)) for group in groups}
