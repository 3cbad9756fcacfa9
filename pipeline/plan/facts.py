"""What the survey found beside the plan, kept in the work folder with the hashes of the survey's arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import IntegrityError
from pipeline.plan.workdir import WorkFolder
from pipeline.system.facts import file_facts
from pipeline.system.files import finite, read_json, unsealed, write_sealed
from pipeline.system.redact import redacted_facts

_ARRAYS, _FILES = "arrays_sha256", "arrays_files"


def save_facts(work: WorkFolder, facts: Mapping[str, Any]) -> None:
    """Write what the record needs of the survey, and the hashes of its arrays as they lie on disk."""
    about_arrays = {_ARRAYS: _hashes(work), _FILES: _n_files(work)}
    write_sealed(work.survey, finite({**redacted_facts(facts), **about_arrays}))


def load_facts(work: WorkFolder) -> dict[str, Any]:
    """Return what `save_facts` was given.

    Raises:
        IntegrityError: the file, or an array of the survey, is gone or no longer what was written.
    """
    found = read_json(work.survey)
    if found is None:
        raise IntegrityError(f"{work.survey}: no such file")
    facts = unsealed(work.survey, found)
    facts.pop(_FILES, None)
    now = _hashes(work)
    arrays = facts.pop(_ARRAYS, None)
    if not isinstance(arrays, dict):
        raise IntegrityError(f"{work.survey}: is damaged (it lacks the hashes of the survey's arrays)")
    for name, sha256 in arrays.items():
        if now.get(name) != sha256:
            raise IntegrityError(f"{work.path / name}: is gone or damaged (not what the survey wrote)")
    return facts


def all_there(work: WorkFolder) -> bool:
    """Say whether plan and survey are there with all files of their arrays; what is in those is not looked at.

    On a network file system what another machine has written may be seen bit by bit, and a part of an array that is not
    seen reads as empty.
    """
    try:
        found = read_json(work.survey)
    except IntegrityError:
        return False
    return found is not None and work.plan.exists() and _n_files(work) == found.get(_FILES, _n_files(work))


def _written(work: WorkFolder) -> tuple[Path, ...]:
    """Return the survey's arrays that are there: not all images need all of them."""
    return tuple(path for path in (work.state, work.coarse, work.beyond, work.haze, work.samples) if path.exists())


def _n_files(work: WorkFolder) -> int:
    """Return how many files the survey's arrays consist of."""
    return sum(path.is_file() for array in _written(work) for path in (array, *array.rglob("*")))


def _hashes(work: WorkFolder) -> dict[str, str]:
    return {path.name: str(file_facts(path)["sha256"]) for path in _written(work)}
