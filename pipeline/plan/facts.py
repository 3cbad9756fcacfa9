"""What the survey found: the plan, what the record needs beside it, and the hashes of the survey's arrays.

Plan and facts name one another, so that neither can be another than the one that was written with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from pipeline.errors import IntegrityError
from pipeline.plan.bounds import require_bounds
from pipeline.plan.plan import Plan, load_plan, survey_named_by
from pipeline.plan.workdir import WorkFolder
from pipeline.system.facts import file_facts
from pipeline.system.files import finite, read_json, seal_of, unsealed, write_sealed
from pipeline.system.redact import redacted_facts

_ARRAYS, _FILES, _PLAN = "arrays_sha256", "arrays_files", "plan_digest"

_Count = Annotated[int, Field(ge=0, strict=True)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[FiniteFloat, Field(ge=0)]


class _Family(BaseModel):
    family: str
    pixels: _Count
    gain_db: FiniteFloat | None
    weight: _Share | None
    comparison: dict[str, Any] | None


class _Method(BaseModel):
    method: str
    psnr_db: FiniteFloat | None
    gain_db: FiniteFloat | None
    weight: _Share | None
    seconds: FiniteFloat | None
    windows: _Count | None
    chosen: bool
    families: list[_Family]


class _Rim(BaseModel):
    tested_px: _Count
    wider_px: _Count
    ring_px: _Count
    excess: list[FiniteFloat | None]
    carried: list[FiniteFloat | None]
    seen_in: str
    advice: str


class _SelfTest(BaseModel):
    placements: _Count
    hidden_pixels: _Count
    coverage_90: _Share | None
    coverage_90_by_channel: list[_Share | None]
    predicted_rmse: list[_Positive | None]
    calibration: Literal["fitted", "stored"]
    decisions: list[str]
    rim: _Rim
    note: str
    methods: list[_Method]


class _States(BaseModel):
    holes: _Count
    kept: _Count
    never: _Count
    left: _Count
    wide: _Count
    marked_empty: _Count


class _Doubt(BaseModel):
    reach_px: FiniteFloat
    reach: str


class _Facts(BaseModel):
    """What record and report read of the facts; a number that JSON does not have is null."""

    # before 2.10 pydantic warned of names like `model_name`
    model_config = ConfigDict(protected_namespaces=())

    self_test: _SelfTest | None
    states: _States
    doubt: _Doubt | None
    patches_touching_holes: _Count
    model_name: str
    seconds: dict[str, _Positive]
    notices: list[str]
    work: dict[str, tuple[FiniteFloat, FiniteFloat, FiniteFloat]] = {}
    windows_by: dict[str, Any] | None = None


def save_survey(plan: Plan, facts: Mapping[str, Any]) -> None:
    """Write a plan, what the record needs beside it, and the hashes of the survey's arrays as they lie on disk."""
    work = plan.work
    about = {_ARRAYS: _hashes(work), _FILES: _n_files(work), _PLAN: plan.digest}
    plan.save(survey=write_sealed(work.survey, finite({**redacted_facts(facts), **about})))


def load_survey(work: WorkFolder) -> tuple[Plan, dict[str, Any]]:
    """Return what `save_survey` was given.

    Raises:
        OtherVersion: another version of the program wrote it.
        IntegrityError: a file, or an array of the survey, is gone or no longer what was written.
    """
    plan, facts = survey_but_arrays(work)
    now = _hashes(work)
    for name, sha256 in facts.pop(_ARRAYS).items():
        if now.get(name) != sha256:
            raise IntegrityError(f"{work.path / name}: is gone or damaged (not what the survey wrote)")
    return plan, facts


def survey_but_arrays(work: WorkFolder) -> tuple[Plan, dict[str, Any]]:
    """Return the same, and the hashes of the arrays with it, without a look at these.

    Raises:
        OtherVersion, IntegrityError: as `load_survey`.
    """
    plan, found = load_plan(work), read_json(work.survey)
    if found is None:
        raise IntegrityError(f"{work.survey}: no such file")
    facts = unsealed(work.survey, found)
    if facts.pop(_PLAN, None) != plan.digest:
        raise IntegrityError(f"{work.plan}: is not the plan that {work.survey.name} was written with")
    if survey_named_by(work) != seal_of(found):
        raise IntegrityError(f"{work.survey}: is not the survey that {work.plan.name} was written with")
    facts.pop(_FILES, None)
    if not isinstance(facts.get(_ARRAYS), dict):
        raise IntegrityError(f"{work.survey}: is damaged (it lacks the hashes of the survey's arrays)")
    try:
        _Facts.model_validate(facts)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise IntegrityError(f"{work.survey}: is damaged (no survey writes such {where})") from error
    require_bounds(plan, facts["states"]["holes"])
    return plan, facts


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
