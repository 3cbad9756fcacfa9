"""How far each image of an output folder is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.blocks import journal
from pipeline.config.names import RECORD
from pipeline.errors import IntegrityError, SourceError
from pipeline.output.results import (
    changed,
    finished_folders,
    folders_of_runs,
    nothing_in,
    of_one_run,
    read_record,
)
from pipeline.plan.plan import OtherVersion, load_plan
from pipeline.plan.workdir import WorkFolder, working
from pipeline.provenance.failure import failures
from pipeline.system.lock import held


def status_table(directory: Path) -> dict[str, Any]:
    """Return how far each image in an output folder is.

    Raises:
        SourceError: no run was started there.
    """
    places = [path for one in folders_of_runs(directory) for path in sorted((one / WorkFolder.NAME).glob("*"))]
    folders = [WorkFolder(path) for path in places]
    rows = [_running(one) for one in folders if one.request.exists() or one.elsewhere.exists()]
    known = {row["image"] for row in rows}
    finished = [folder for folder in finished_folders(directory) if folder.name not in known]
    rows += [of_one_run(one, _finished) or {"image": one.name, "state": "running"} for one in finished]
    for failure in failures(directory):
        _failed(rows, failure)
    if not rows:
        raise nothing_in(directory, "no run was started here")
    return {"images": sorted(rows, key=lambda row: str(row["image"]))}


def _running(beside: WorkFolder) -> dict[str, Any]:
    """Return how far an unfinished run is, which works beside the results or in a scratch folder."""
    work = working(beside)
    at_work = held(beside.lock) or held(work.lock)
    row: dict[str, Any] = {"image": beside.path.name, "state": "running" if at_work else "interrupted"}
    if work != beside:
        seen = "" if work.path.exists() else ", which is not seen here"
        row["what"] = f"in compute.scratch: {work.path.parent.parent}{seen}"
    try:
        plan = load_plan(work)
    except IntegrityError:
        return row | ({"state": "survey"} if at_work and work.path.exists() else {})
    except OtherVersion as error:
        return row | {"what": str(error)}
    done = len(journal.numbers(work.journal, plan.digest, len(plan.blocks)))
    if done == len(plan.blocks) and not at_work:
        row["state"] = "computed"
    return row | {"blocks": len(plan.blocks), "done": done}


def _finished(folder: Path) -> dict[str, Any]:
    record = read_record(folder)
    if record is None:
        return {"image": folder.name, "state": "damaged", "what": f"{RECORD} cannot be read"}
    try:
        missing, other = changed(folder, record)
    except SourceError as error:
        return {"image": folder.name, "state": "damaged", "what": str(error)}
    blocks = record["plan"]["blocks"]
    if missing or other:
        what = ", ".join([*(f"{name} is missing" for name in missing), *(f"{name} was changed" for name in other)])
        return {"image": folder.name, "state": "damaged", "what": what}
    return {"image": folder.name, "state": "done", "blocks": blocks, "done": blocks}


def _failed(rows: list[dict[str, Any]], failure: dict[str, Any]) -> None:
    """Say of an image that its last run failed, unless another one works on it now."""
    row = next((row for row in rows if row["image"] == failure["stem"]), None)
    if row is None:
        rows.append({"image": failure["stem"], "state": "failed", "what": failure["error"]})
    elif row["state"] in ("interrupted", "computed"):
        row |= {"state": "failed", "what": failure["error"]}
    elif row["state"] == "done":
        row["what"] = f"a later run failed: {failure['error']}"
