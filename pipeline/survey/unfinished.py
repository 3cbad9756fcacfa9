"""What an unfinished run goes on with: its plan and survey, once it is clear that this run would have made them, too.

What follows from the config and the headers of the files is made again and compared; the rest took the self-test, and
has bounds.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from pipeline.errors import IntegrityError
from pipeline.image.open import open_source
from pipeline.image.scene import lattice_of
from pipeline.plan.facts import load_survey, survey_but_arrays
from pipeline.plan.job import Job
from pipeline.plan.plan import Plan
from pipeline.plan.refs import GuideRef, SourceRef


def unfinished_survey(job: Job) -> tuple[Plan, dict[str, Any]]:
    """Return plan and facts of an unfinished run of a job.

    Raises:
        OtherVersion: they were written by another version of the program.
        IntegrityError: they, or the survey's arrays, are gone, damaged, or of another job or place.
    """
    plan, facts = load_survey(job.work)
    _require_own(plan, job)
    return plan, facts


def unfinished_plan(job: Job) -> Plan:
    """Return the plan alone, without a look at the survey's arrays.

    Raises:
        OtherVersion, IntegrityError: as `unfinished_survey`.
    """
    plan, _ = survey_but_arrays(job.work)
    _require_own(plan, job)
    return plan


def _require_own(plan: Plan, job: Job) -> None:
    """Check what of a plan follows from its job.

    Raises:
        IntegrityError: names what differs.
    """
    asked, planned = (_paths(one.source, *(g.source for g in one.guides)) for one in (job, plan))
    moved = next((old for old, new in zip(planned, asked, strict=False) if old != new), None)
    if moved is not None:
        raise IntegrityError(f"{plan.work.plan}: reads {moved}, which lies elsewhere now")
    expected = _made_of(job, plan)
    other = next((name for name, value in expected.items() if value != _json(getattr(plan, name))), None)
    if other is None and _other_model(plan, job):
        other = "model"
    if other is not None:
        raise IntegrityError(f"{plan.work.plan}: is not the plan of this image and config (its {other} is another)")


def _made_of(job: Job, plan: Plan) -> dict[str, Any]:
    """Return the fields of a plan that follow from its job, as JSON values."""
    # nothing of the image is read, so that nothing needs to be inflated
    source = open_source(replace(job.source, staged=""))
    space = source.space
    made = {
        "source": _at(plan.source, job.source),
        "config": job.config,
        "space": space,
        "lattice": lattice_of(job, space.shape),
        "spacing": space.spacing if space.kind == "volume" else (1.0,) * space.ndim,
        "dtype": source.dtype.newbyteorder("=").str,
        "nodata": tuple(source.nodata[c] for c in plan.channels if 0 <= c < source.n_channels),
    }
    # an image without holes needs neither
    if plan.blocks:
        made |= {"guides": tuple(map(_guide_at, plan.guides, job.guides)), "refuse_above": job.refuse_above}
    return {name: _json(value) for name, value in made.items()}


def _at(planned: SourceRef, asked: SourceRef) -> SourceRef:
    """Return a source as it is asked for, at the paths of a plan, which may name the same files by links."""
    return replace(asked, paths=planned.paths, staged=planned.staged)


def _guide_at(planned: GuideRef, asked: GuideRef) -> GuideRef:
    return replace(asked, source=_at(planned.source, asked.source), base=planned.base)


def _other_model(plan: Plan, job: Job) -> bool:
    """Say whether the model of a plan is none that the job asks for."""
    if plan.model is None or not plan.blocks:
        return bool(plan.blocks) and job.model.fill is None and job.model.traits.has_weights
    asked = job.model.network, _json(job.model.options)
    known = not job.model.traits.has_weights or plan.model.sha256 in job.config.get("weights", ())
    return (plan.model.kind, _json(plan.model.options)) != asked or not known


def _paths(*sources: SourceRef) -> list[str]:
    return [os.path.realpath(path) for source in sources for path in source.paths]


@cache
def _anything() -> TypeAdapter[Any]:
    return TypeAdapter(Any)


def _json(value: Any) -> Any:
    return _anything().dump_python(value, mode="json")
