"""The documents say what the program does: commands, links and configs in them are checked against it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.config.schema import load_config

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)")
_YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
CONFIGS = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(_YAML.findall(page.read_text(encoding="utf-8")))
    if text.startswith("input:")
]


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make_cli() -> ModuleType:
    """The script that writes `docs/cli.md`."""
    return _script("make_cli")


def test_every_page_stands_in_the_index() -> None:
    """docs/README.md leads to every page but those that the decisions have a list of their own for."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {target for target, _ in _LINK.findall(index)}
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert {page for page in pages if not page.startswith("decisions/")} - {"README.md"} <= linked


def test_config_page_is_fresh() -> None:
    """docs/config.md is what `make docs` would write now."""
    make_config = _script("make_config")
    assert make_config.PAGE.read_text(encoding="utf-8") == make_config.page(), "stale: run `make docs`"


def test_cli_page_is_fresh(make_cli: ModuleType) -> None:
    """docs/cli.md is what `make docs` would write now."""
    assert make_cli.PAGE.read_text(encoding="utf-8") == make_cli.page(), "stale: run `make docs`"


def test_every_command_has_help_and_an_example(make_cli: ModuleType) -> None:
    """A command without a sentence of help and an example to copy is not finished."""
    names = make_cli.command_names()
    groups = {words[:-1] for words in names if words}
    for words in names:
        help_text = make_cli.help_text(words)
        assert re.search(r"^  [A-Z].*\.", help_text, re.MULTILINE), f"{words}: no help"
        if words not in groups:
            assert f"Example: inpaint-pipeline {' '.join(words)}" in help_text, f"{words}: no example"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links and their anchors exist, those within the page, too."""
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name}: {target} is missing"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name}: {target}#{anchor} is no heading"


@pytest.mark.parametrize("text", CONFIGS)
def test_configs_in_the_documents_are_valid(text: str, tmp_path: Path) -> None:
    """Every YAML block that is a whole config is one."""
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_config(path).folder.is_absolute()


QUALITY = {
    "lost pixels, 30 %": "points 30 %",
    "stripes": "stripes",
    "clouds, nothing else known": "cloud and region, single image",
    "clouds, with a clear date": "one clear reference, over the best single-image fill",
    "lost slices of a volume": "slice drop 1-3, over the best of tension / cubic / linear",
    "voids in a T1": "blob in T1, over 3-D tension",
    "voids, with another contrast": "auxiliary contrast, blob, over the best single-volume fill",
}
"""Lines of README.md's table, and the lines of docs/quality.md that they repeat."""


def test_numbers_of_the_first_page_are_those_that_were_measured() -> None:
    """README.md repeats a column of docs/quality.md, in tenths of a decibel."""
    readme, quality = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/quality.md"))
    told = dict(re.findall(r"^\| ([^|]+) \| ([+-][\d.]+) dB \|$", readme, re.MULTILINE))
    assert set(told) == set(QUALITY)
    for line, row in QUALITY.items():
        measured = re.search(rf"^\| {re.escape(row)} \|[^|]*\|[^|]*\| ([+-][\d.]+) dB \|", quality, re.MULTILINE)
        assert measured, row
        assert abs(float(told[line]) - float(measured[1])) < 0.0501, f"README.md: {line}"
    held = re.search(
        r"^\| 90 % interval: files between 85 and 95 % \|[^|]*\|[^|]*\| ([\d.]+) % \|", quality, re.MULTILINE
    )
    assert held
    assert f"In {int(float(held[1]))} % of the files" in readme
    assert f"({re.search(r'All ([0-9]+) cases', quality)[1]} cases)" in readme
