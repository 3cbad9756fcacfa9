"""Whether the shipped weights have seen a scene: read from the training configs, not from memory."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath

from ruamel.yaml import YAML

from benchmarks.quality.scenes import Scene

ROOT = Path(__file__).resolve().parents[2]
Part = tuple[float, ...]


def seen(scene: Scene) -> str:
    """Return `yes` if a training set holds pixels of the scene, `other part` of its file or folder, else `no`."""
    entries = _entries("train")
    if _among(scene, entries):
        return "yes"
    folders = {PurePosixPath(pattern).parent for pattern, _ in entries}
    return "other part" if any(PurePosixPath(file).parent in folders for file in scene.files) else "no"


def validates(scene: Scene) -> bool:
    """Say whether the step at which training stopped was chosen on pixels of the scene, among others."""
    return _among(scene, _entries("validate_on"))


def _among(scene: Scene, entries: tuple[tuple[str, Part], ...]) -> bool:
    return any(
        fnmatchcase(file, pattern) and _overlap(part, scene.part) for file in scene.files for pattern, part in entries
    )


@cache
def _entries(role: str) -> tuple[tuple[str, Part], ...]:
    """Return pattern and part `(low, ..., high, ...)` of everything that has the role; no numbers = all of it."""
    found = []
    for config in sorted((ROOT / "configs").glob("train_*.yaml")):
        for entry in YAML(typ="safe").load(config.read_text()).get(role, ()):
            part = tuple(entry.get("region", ()))
            found += [(path.removeprefix("${INPAINT_DATA}/"), part) for path in entry.get("paths", ())]
    return tuple(found)


def _overlap(one: Part, other: Part) -> bool:
    ndim = min(len(one), len(other)) // 2
    return all(max(one[a], other[a]) < min(one[a + ndim], other[a + ndim]) for a in range(ndim))
