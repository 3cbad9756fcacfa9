"""What was given in the place of a config, and what to type instead."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

from pipeline.config.catalog_file import list_entries
from pipeline.config.names import RECORD, SUMMARY
from pipeline.config.schema import RunConfig
from pipeline.errors import ConfigError
from pipeline.formats import is_image
from pipeline.system import yaml_files
from pipeline.system.paths import kind_of
from pipeline.system.words import listed

_TRAINING = {"train", "validate_on", "start"}
"""Keys of which the config of a training has one, and that of a run none."""
_WRITE_ONE = "`inpaint-pipeline config new IMAGE -o my.yaml` writes one"


def require_config(path: Path) -> None:
    """Refuse what is no config of a run: an image, a folder, a name of the catalog, YAML of another kind.

    A file that is missing or damaged is left to what reads it.

    Raises:
        ConfigError: says what it is and what to type.
    """
    keys, known = _keys(path) if kind_of(path) == "file" else set(), set(RunConfig.model_fields)
    if keys & known:
        return
    said = _other_yaml(path, keys, known) if keys else _no_text(path)
    if said:
        raise ConfigError(f"{path}: {said}")


def require_training(path: Path) -> None:
    """Refuse what is no config of a training.

    Raises:
        ConfigError: says what it is and what to type.
    """
    if kind_of(path) and is_image(str(path)):
        start = "t1" if path.name.endswith((".nii", ".nii.gz")) else "optical"
        raise ConfigError(
            f"{path}: is an image, not a config; write one of four lines for a training, e.g. train_mine.yaml:\n"
            f"  name: mine\n  start: {start}\n  train: [{{paths: [{path.resolve()}]}}]\n  output: mine.safetensors"
        )
    keys = _keys(path) if kind_of(path) == "file" else set()
    if keys and not keys & _TRAINING and keys & set(RunConfig.model_fields):
        raise ConfigError(
            f"{path}: is the config of a run, not of a training; use it with: inpaint-pipeline run "
            f"{shlex.quote(str(path))}"
        )


def _keys(path: Path) -> set[str]:
    try:
        return set(yaml_files.read_yaml(path).data)
    except ConfigError:
        return set()


def _no_text(path: Path) -> str:
    """Return what lies at `path` if it is no text file; empty where nothing better can be said."""
    text, what = str(path), kind_of(path)
    if what and is_image(text):
        name = shlex.quote(path.name.split(".")[0] + ".yaml")
        return (
            "is an image, not a config; write a config for it, then run that:\n"
            f"  inpaint-pipeline config new {shlex.quote(text)} -o {name}\n  inpaint-pipeline run {name}"
        )
    if what == "folder":
        return _folder(path)
    if not what and text in list_entries():
        return (
            "is a name of the catalog, not a config; write a config for it, then run that:\n"
            f"  inpaint-pipeline config new {text} -o {text}.yaml\n  inpaint-pipeline run {text}.yaml"
        )
    return ""


def _folder(path: Path) -> str:
    try:
        inside = sorted(path.iterdir())
    except OSError:
        return ""
    text = shlex.quote(str(path))
    if {one.name for one in inside} & {SUMMARY, RECORD}:
        return f"is a folder of results, not a config; look at it with: inpaint-pipeline status {text}"
    configs = [one for one in inside if one.suffix in (".yaml", ".yml") and kind_of(one) == "file"]
    if configs:
        return f"is a folder, not a config; name one of the files in it: {listed([str(one) for one in configs])}"
    if any(is_image(str(one)) for one in inside):
        return (
            "is a folder of images, not a config; write a config for them, then run that:\n"
            f"  inpaint-pipeline config new {text} -o my.yaml\n  inpaint-pipeline run my.yaml"
        )
    return f"is a folder, and holds neither a config nor an image; {_WRITE_ONE}"


def _other_yaml(path: Path, keys: Collection[str], known: Collection[str]) -> str:
    if "catalog_version" in keys:
        return "is a catalog, not a config; use one of its names as `input.source` of a config"
    if _TRAINING & set(keys):
        return f"is the config of a training; use it with: inpaint-pipeline train {shlex.quote(str(path))}"
    near = "".join({yaml_files.nearest(str(key), known) for key in sorted(map(str, keys))})
    if near:
        # a slip of the pen: what checks the keys names the line
        return ""
    return (
        f"is no config of this program: none of its keys ({listed(sorted(map(str, keys)))}) is one of "
        f"{', '.join(sorted(known))}; {_WRITE_ONE}"
    )
