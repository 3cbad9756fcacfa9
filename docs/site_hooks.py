"""What `make site` needs beside mkdocs: files from outside `docs/`, and a place for pages that nobody listed.

mkdocs calls the functions by their names: https://www.mkdocs.org/user-guide/configuration/#hooks
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
OUTSIDE = {"README.md": "first-steps.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
"""Pages of the repository, and their names in the site; what pages link to beside them keeps its name."""
UNLISTED = "How to"
"""Section that takes the pages that are not in `nav`."""
_OUTWARD = re.compile(r"\]\((?P<up>(?:\.\./)+)(?P<path>[^)#\s]+)")
_LINK = re.compile(r"\]\((?P<path>[^)#:\s]+)")


def on_config(config: Any) -> Any:
    """Replace patterns in `nav` by the pages they stand for, and list the pages that are missing in it."""
    pages = sorted(path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md"))
    named = {entry for section in config.nav for entry in _entries(section) if "*" not in entry}
    for section in config.nav:
        for title, entries in section.items():
            if isinstance(entries, list):
                section[title] = [
                    page
                    for entry in entries
                    for page in (
                        [p for p in pages if fnmatch(p, entry) and p not in named] if "*" in entry else [entry]
                    )
                ]
    listed = {entry for section in config.nav for entry in _entries(section)}
    next(section for section in config.nav if UNLISTED in section)[UNLISTED] += [p for p in pages if p not in listed]
    return config


def _entries(section: dict[str, Any]) -> Iterator[str]:
    for entries in section.values():
        yield from [entries] if isinstance(entries, str) else entries


def on_files(files: Any, config: Any) -> Any:
    """Add what pages link to outside `docs/`."""
    wanted = {*OUTSIDE, "LICENSE"}
    for file in files.documentation_pages():
        wanted |= {found["path"] for found in _OUTWARD.finditer(file.content_string) if _leaves(file, found["up"])}
    for path in sorted(wanted):
        if (ROOT / path).is_file():
            files.append(File.generated(config, OUTSIDE.get(path, path), abs_src_path=str(ROOT / path)))
    return files


def _from_root(path: str) -> str:
    """Return what a link of a page of the repository's root is in the site."""
    return path.removeprefix("docs/") if path.startswith("docs/") else OUTSIDE.get(path, path)


def _leaves(file: Any, up: str) -> bool:
    """Say whether a link that goes so far up leaves `docs/`."""
    return up.count("../") > file.src_uri.count("/")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Let links to files outside `docs/` lead to their copies in the site; a file that is not there stays broken."""
    if page.file.src_uri in OUTSIDE.values():
        return _LINK.sub(lambda link: f"]({_from_root(link['path'])}", markdown)

    def inward(link: re.Match[str]) -> str:
        if not _leaves(page.file, link["up"]):
            return link[0]
        return f"]({link['up'].removesuffix('../')}{OUTSIDE.get(link['path'], link['path'])}"

    return _OUTWARD.sub(inward, markdown)
