"""Find the parts of one kind: a module's file name in its folder is the `kind:` of the config.

Third parties add parts through entry points in the group `inpaint_pipeline.<folder>`
(`formats`, `masks`, `fills`, `models`, `execute`).

Other words for a part stand in its docstring, in a sentence `Also known as: spline, thin plate.`, and lead to it.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Collection
from functools import lru_cache
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

from pipeline.errors import ConfigError

_NOT_PARTS = {"base", "__init__"}
_GROUP = "inpaint_pipeline."
_LONGEST = 100
"""Of a word of which similar ones are looked for."""


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
        raise ConfigError(f"unknown kind '{kind}' in {folder}{meant(kind, folder)} (known: {', '.join(kinds(folder))})")
    try:
        return import_module(f"pipeline.{folder}.{kind}")
    except ValueError as error:
        # a config of the user's or the site's, in ~/.config/dask, /etc/dask or DASK_CONFIG
        if "dask config file" not in str(error):
            raise
        raise ConfigError(f"{' '.join(str(error).split())}; correct that file, or move it away") from None


def meant(word: str, *folders: str, extra: Collection[str] = ()) -> str:
    """Return ` - did you mean 'x'?` of the part, or `extra`, that is nearest to a word or known by it; else nothing."""
    known = [*extra, *(kind for folder in folders for kind in kinds(folder))]
    word = word[:_LONGEST].lower()
    called = {other: kind for folder in folders for other, kind in _other_words(folder).items()}
    near = difflib.get_close_matches(word, known, n=1) or [one for one in known if word and one.startswith(word)]
    found = called.get(re.sub(r"\W|_", "", word)) or (near[0] if len(near) == 1 else "")
    return f" - did you mean '{found}'?" if found else ""


@lru_cache
def _other_words(folder: str) -> dict[str, str]:
    """Return what parts are also known as, without spaces, and the part each word means; imports nothing."""
    found: dict[str, str] = {}
    for kind in sorted(_own(folder)):
        text = (Path(__file__).parent / folder / f"{kind}.py").read_text(encoding="utf-8")
        if match := re.search(r"^Also known as: ([^.]*)\.", ast.get_docstring(ast.parse(text)) or "", re.MULTILINE):
            found |= {re.sub(r"\W", "", other.lower()): kind for other in match[1].split(",")}
    return found


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
