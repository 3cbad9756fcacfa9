"""The house keeps its order: few entries, files one can read in one sitting, no circles, a map that is true."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from pipeline import registry

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pipeline"
FILES = sorted(PACKAGE.rglob("*.py"))
CHAPTERS = sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py"))
ENGINE = ("blocks", "execute", "image", "numerics", "output", "plan", "references", "restore", "selftest", "survey")


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.Module, modules: set[str]) -> set[str]:
    """Return the modules of the package that a file imports, but for what only the type checker sees."""
    typing = {id(node) for top in tree.body if isinstance(top, ast.If) for node in ast.walk(top)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else node.module for name in names}
    return found & modules


def test_no_module_imports_itself_on_a_detour():
    """Imports inside functions count, too."""
    trees = {_name(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
    graph = {name: _imported(tree, set(trees)) - {name} for name, tree in trees.items()}
    assert len(graph["pipeline.run"]) > 10
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError with the circle


def test_the_top_floor_is_small():
    """At most 35 entries, 14 of them loose modules."""
    entries = [p for p in PACKAGE.iterdir() if p.name != "__pycache__"]
    assert len(entries) <= 35
    assert len([p for p in entries if p.suffix == ".py"]) <= 14


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_files_can_be_read_in_one_sitting(file):
    """450 lines at most, 350 in the engine."""
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= (350 if file.parent.name in ENGINE else 450)


def test_a_name_of_a_kind_of_array_means_one_kind():
    """Wherever a module gives one: `Field` is float64, `Array` float32, `Mask` bool."""
    kinds: dict[str, set[str]] = {}
    for file in FILES:
        for name, kind in re.findall(r"^_?(\w+) = (NDArray\[.*\])$", file.read_text(encoding="utf-8"), re.MULTILINE):
            kinds.setdefault(name, set()).add(kind)
    assert kinds["Mask"] == {"NDArray[np.bool_]"}
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_says_what_it_answers(chapter):
    """Its `__init__` says it in a few lines, names only modules that exist, and binds no submodule's name."""
    init = PACKAGE / chapter / "__init__.py"
    tree = ast.parse(init.read_text(encoding="utf-8"))
    said = ast.get_docstring(tree)
    assert said is not None
    assert len(said.splitlines()) >= 3
    modules = {p.stem for p in init.parent.glob("*.py")}
    bound = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert not bound & modules
    named = set(re.findall(r"`(\w+)`", said.split("Read", 1)[-1]))
    assert named - bound <= modules | {"auto"}


def test_the_map_has_every_chapter():
    """docs/architecture.md names every folder and loose module of the package."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for entry in PACKAGE.iterdir():
        if entry.suffix == ".py" and entry.stem != "__init__":
            assert f"`{entry.name}`" in text
        elif entry.is_dir() and entry.name != "__pycache__":
            assert f"`{entry.name}/`" in text


def test_the_map_leads_to_what_is_there():
    """Every file that it names exists, and so does what it names in that file."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    ways = re.findall(r"`([\w/]+\.py)`(?: `(\w+)`)?", text)
    assert len(ways) > 40
    for path, name in ways:
        files = [root / path for root in (PACKAGE, ROOT, *PACKAGE.glob("*/")) if (root / path).exists()]
        assert files, path
        assert not name or re.search(rf"(def|class) {name}\b", files[0].read_text(encoding="utf-8")), f"{path} {name}"


@pytest.mark.parametrize("folder", ["fills", "models", "masks", "execute"])
def test_other_words_for_a_part_mean_no_other_part(folder: str) -> None:
    """What a docstring says a part is also known as is the name of none, nor known by two."""
    words = [word for kind in registry.kinds(folder) for word in _also_known(folder, kind)]
    assert len(words) == len(set(words))
    assert not set(words) & {*registry.kinds("fills"), *registry.kinds("models"), *registry.kinds(folder)}
    for word in words:
        assert registry.meant(word, folder).startswith(" - did you mean '")


def _also_known(folder: str, kind: str) -> list[str]:
    doc = registry.load(folder, kind).__doc__ or ""
    found = re.search(r"^Also known as: ([^.]*)\.", doc, re.MULTILINE)
    return [word.strip() for word in found[1].split(",")] if found else []
