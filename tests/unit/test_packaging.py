"""What is installed: exact versions for everything, and the files the code looks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pipeline import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None
    return match[0].lower().replace("_", "-").replace(".", "-")


def test_every_dependency_is_pinned() -> None:
    """An unpinned torch would pull gigabytes, and an unpinned anything would break a release one day."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_name(line) for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line)}
    wanted = [*PROJECT["project"]["dependencies"], *(r for g in PROJECT["dependency-groups"].values() for r in g)]
    assert {_name(requirement) for requirement in wanted} - pinned == set()


def test_constraints_name_no_machine() -> None:
    """Local builds, paths and addresses would not install elsewhere."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#") and re.search(r"[@+/:]", line)] == []


def test_version_is_one() -> None:
    """The package and the project file agree."""
    assert PROJECT["project"]["version"] == __version__


def test_change_log_names_the_version() -> None:
    """A release without an entry says nothing to its users."""
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_shipped_files_exist() -> None:
    """What the wheel is told to take along is there."""
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert [path for path in included if not (ROOT / path).exists()] == []
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").count("END OF TERMS AND CONDITIONS") == 1
