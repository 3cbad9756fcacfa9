"""index.html of an output folder: kept up to date with what lies there, whichever run made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.names import INDEX
from pipeline.errors import OutputConflict, PipelineError
from pipeline.provenance.failure import failures
from pipeline.report.group import finished_rows, is_foreign, rows_of, write_group
from pipeline.system.lock import in_turn
from pipeline.system.room import what_to_do

_LOCK = f".{INDEX}.lock"


def update_index(
    directory: Path, entries: Iterable[Mapping[str, Any]] = (), *, several: bool
) -> tuple[Path | None, str]:
    """Write the page of all images of an output folder again, if it has one or is to have one.

    Args:
        directory: the output folder.
        entries: of this run, as in `run.json`; those that are not done count as failed.
        several: the folder is to have a page; else one that is there is updated.

    Returns:
        Its path, or None with a sentence that says why not (empty if none was wanted).

    Raises:
        OutputConflict: the folder cannot be written.
    """
    if is_foreign(directory):
        return None, f"{directory / INDEX} was not written by this program and stays as it is; no page of all images"
    if not several and not (directory / INDEX).exists():
        return None, ""
    try:
        # of two runs that end at the same time each would leave the other out of the page
        with in_turn(directory / _LOCK):
            failed = {failure["stem"]: failure for failure in failures(directory)}
            failed |= {entry["stem"]: entry for entry in entries if entry["state"] != "done"}
            return write_group(directory, rows_of(finished_rows(directory), failed.values())), ""
    except PipelineError:
        raise
    except OSError as error:
        todo = what_to_do(directory, error)
        raise OutputConflict(f"{directory}: cannot write {INDEX} ({error.strerror or error}); {todo}") from error
