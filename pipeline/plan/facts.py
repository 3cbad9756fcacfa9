"""What the survey found beside the plan, kept in the work folder with the hashes of the survey's arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import IntegrityError
from pipeline.plan.workdir import WorkFolder
from pipeline.system.facts import file_facts
from pipeline.system.files import finite, read_json, unsealed, write_sealed
from pipeline.system.redact import redacted_facts

_ARRAYS = "arrays_sha256"


def save_facts(work: WorkFolder, facts: Mapping[str, Any]) -> None:
    """Write what the record needs of the survey, and the hashes of its arrays as they lie on disk."""
    write_sealed(work.survey, finite({**redacted_facts(facts), _ARRAYS: _hashes(work)}))


def load_facts(work: WorkFolder) -> dict[str, Any]:
    """Return what `save_facts` was given.

    Raises:
        IntegrityError: the file, or an array of the survey, is gone or no longer what was written.
    """
    found = read_json(work.survey)
    if found is None:
        raise IntegrityError(f"{work.survey}: no such file")
    facts = unsealed(work.survey, found)
    now = _hashes(work)
    for name, sha256 in facts.pop(_ARRAYS).items():
        if now.get(name) != sha256:
            raise IntegrityError(f"{work.path / name}: is gone or damaged (not what the survey wrote)")
    return facts


def _hashes(work: WorkFolder) -> dict[str, str]:
    return {path.name: str(file_facts(path)["sha256"]) for path in (work.state, work.coarse) if path.exists()}
