"""Group level: one table of all images of a data set, what became of each and how well."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.commands.bids.images import Choice, images_of
from pipeline.commands.bids.participant import DerivativePaths, without_images
from pipeline.config.bids import RESULTS, Derivation, read_object
from pipeline.config.names import REPORT
from pipeline.errors import ConfigError, OutputConflict, PipelineError
from pipeline.output.dataset import ignore, require_ours
from pipeline.output.results import read_record
from pipeline.report.group import finished_row, is_foreign, rows_of, write_group
from pipeline.report.judgement import judged
from pipeline.system.files import write_json, write_text
from pipeline.system.room import what_to_do
from pipeline.system.words import counted

TABLE = "group_inpainting.tsv"
_COLUMNS: dict[str, dict[str, Any]] = {
    "participant_id": {"Description": "Participant"},
    "session_id": {"Description": "Session, n/a where the data set has none"},
    "image": {"Description": "Image, below the top of the source data set"},
    "state": {
        "Description": "What became of it",
        "Levels": {
            "restored": "all that was to be restored was",
            "partly": "some voxels were left, see verdict",
            "nothing to restore": "the masks mark no voxel that may be changed, or the series lost no slice",
            "failed": "it could not be restored, see verdict",
            "no mask": "nothing says what is to be restored, see verdict",
            "no image": "the participant has no image that is chosen",
            "not run": "the participant level did not come to it yet",
        },
    },
    "verdict": {"Description": "The same in a sentence"},
    "judgement": {
        "Description": "How far to trust it, by its self-test; why stands in the report",
        "Levels": {"sound": "nothing speaks against it", "look": "look at it", "poor": "do not rely on it"},
    },
    "filled_voxels": {"Description": "Voxels that were restored; in a series counted in each volume"},
    "filled_percent": {"Description": "Their share of the image", "Units": "percent"},
    "left_voxels": {"Description": "Voxels that were to be restored and were not"},
    "expected_error": {
        "Description": "Root mean square of the standard errors of restored voxels, in the units of the image"
    },
    "expected_error_percent": {
        "Description": "The same as a share of the mean restored value", "Units": "percent"
    },
    "coverage_90": {"Description": "Share of hidden test voxels that the 90 % interval held, 0 to 1; 0.9 is ideal"},
    "restored": {"Description": "Restored image, below the top of this data set"},
    "report": {"Description": "Report with pictures, below the top of this data set"},
}  # fmt: skip


def group(choice: Choice, target: Path) -> dict[str, Any]:
    """Write the table and its description, and return its path and rows.

    Raises:
        ConfigError: nothing was run there, or the data set has nothing that is chosen.
        OutputConflict: the table cannot be written, or `target` is the data set of something else.
    """
    require_ours(target)
    if not (target / RESULTS).is_dir():
        raise ConfigError(f"{target}: no results are there; run the participant level first")
    images = images_of(choice)
    rows = [_row(DerivativePaths(target=target, image=image)) for image in images]
    for entry in without_images(choice, images):
        rows.append({"participant_id": entry["image"], "state": entry["state"], "verdict": entry["error"]})
    text = io.StringIO()
    # tables of BIDS know no quotes
    how: dict[str, Any] = {"delimiter": "\t", "lineterminator": "\n", "quoting": csv.QUOTE_NONE, "quotechar": None}
    writer = csv.DictWriter(text, list(_COLUMNS), restval="n/a", **how)
    writer.writeheader()
    writer.writerows(rows)
    path = target / TABLE
    try:
        write_text(path, text.getvalue(), shared=True)
        write_json(path.with_suffix(".json"), _COLUMNS, shared=True)
        ignore(target, [f"{path.stem}.*"])
    except OSError as error:
        todo = what_to_do(path, error)
        raise OutputConflict(f"{path}: cannot be written ({error.strerror or error}); {todo}") from error
    page = _page(target / RESULTS, [DerivativePaths(target=target, image=image) for image in images])
    return {"table": str(path), "page": page and str(page), "rows": rows}


def _page(folder: Path, results: Sequence[DerivativePaths]) -> Path | None:
    """Write the page of all images among their results; None where one of somebody else lies.

    Raises:
        OutputConflict: it cannot be written.
    """
    finished, failed = [], []
    for paths in results:
        record = read_record(paths.results)
        if record is not None:
            finished.append(finished_row(paths.results, record, folder))
        elif "exit_code" in (entry := _outcome(paths)):
            failed.append({"stem": paths.results.name, **entry})
    if is_foreign(folder):
        return None
    try:
        return write_group(folder, rows_of(finished, failed))
    except OSError as error:
        todo = what_to_do(folder, error)
        raise OutputConflict(f"{folder}: cannot write the page ({error.strerror or error}); {todo}") from error


def group_text(facts: Mapping[str, Any]) -> str:
    """Return how many images ended how, and where the table is."""
    states = [row["state"] for row in facts["rows"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    page = f", page {facts['page']}" if facts["page"] else ""
    return f"{counted(len(states), 'image')}: {counts}; table {facts['table']}{page}"


def _row(paths: DerivativePaths) -> dict[str, Any]:
    image = paths.image
    labels = image.name.entities
    row = {"participant_id": f"sub-{labels['sub']}", "image": image.within}
    if "ses" in labels:
        row["session_id"] = f"ses-{labels['ses']}"
    record = read_record(paths.results)
    if record is None:
        return row | _without_results(paths)
    holes = record["holes"]
    left = sum(holes["left"].values())
    derivation = Derivation(target=paths.target, image=image, metadata={}, reads=())
    state = "partly" if left else "restored" if holes["filled"] else "nothing to restore"
    facts = {
        "state": state,
        "verdict": holes["account"],
        "judgement": judged(record).level,
        "filled_voxels": holes["filled"],
        "filled_percent": f"{100 * holes['fraction']:.4g}",
        "left_voxels": left,
        "coverage_90": _number((record["self_test"] or {}).get("coverage_90")),
        "restored": (image.folder / derivation.name("restored")).as_posix(),
        "report": (paths.results / REPORT).relative_to(paths.target).as_posix(),
    }
    return row | facts | _errors(derivation.folder / derivation.name("restored", ".json"))


def _errors(sidecar: Path) -> dict[str, str]:
    """Return what the sidecar of the restored image says of its error."""
    with suppress(PipelineError, KeyError):
        facts = read_object(sidecar)["Inpainting"]
        error, mean = facts["ExpectedError"], facts["MeanRestored"]
        share = {"expected_error_percent": f"{100 * error / abs(mean):.3g}"} if error is not None and mean else {}
        return {"expected_error": _number(error), **share}
    return {}


def _without_results(paths: DerivativePaths) -> dict[str, str]:
    """Return what the participant level said of an image that it could not restore."""
    with suppress(PipelineError, LookupError, TypeError):
        entry = _outcome(paths)
        return {"state": str(entry["state"]), "verdict": " ".join(str(entry["error"]).split())}
    return {"state": "not run", "verdict": "no results"}


def _outcome(paths: DerivativePaths) -> dict[str, Any]:
    """Return what the participant level wrote down of an image; empty without."""
    try:
        return read_object(paths.outcome)
    except PipelineError:
        return {}


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
