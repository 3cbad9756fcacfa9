"""Whether the shipped weights have seen a scene: read from the training configs, not from memory."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.quality.scenes import Scene, data_folder

ROOT = Path(__file__).resolve().parents[2]
Part = tuple[float, float, float, float]


def seen(scene: Scene) -> str:
    """Return `yes` if a training set holds pixels of the scene, `other part` of its file or folder, else `no`."""
    shares = _trained()
    folders = {Path(file).parent for file in shares}
    found = "no"
    for file in scene.files:
        if any(_overlap(part, scene.part) for part in shares.get(file, ())):
            return "yes"
        if Path(file).parent in folders:
            found = "other part"
    return found


@cache
def _trained() -> dict[str, list[Part]]:
    """Return the part of every file of the data folder that was trained on."""
    folder = data_folder()
    shares: dict[str, list[Part]] = {}
    for config in sorted((ROOT / "configs").glob("train_*.yaml")):
        for entry in YAML(typ="safe").load(config.read_text())["train"]:
            top, left, bottom, right = entry.get("region", (0, 0, 1, 1))
            for pattern in entry.get("paths", ()):
                relative = os.path.relpath(pattern.replace("${INPAINT_DATA}", str(folder)), folder)
                for path in folder.glob(relative):
                    shares.setdefault(str(path.relative_to(folder)), []).append((top, left, bottom, right))
    return shares


def _overlap(one: Part, other: Part) -> bool:
    return all(max(one[a], other[a]) < min(one[a + 2], other[a + 2]) for a in (0, 1))
