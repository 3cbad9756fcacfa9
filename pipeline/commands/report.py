"""The reports of finished images, written again from what is published and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.commands.progress import heartbeat
from pipeline.config.names import RECORD
from pipeline.errors import OutputConflict, PipelineError, SourceError
from pipeline.output.folder import undisturbed
from pipeline.output.results import (
    finished_folders,
    kept_plan,
    nothing_in,
    of_record,
    record_of,
    work_folder,
    write_record,
)
from pipeline.provenance.index import update_index
from pipeline.provenance.renderings import render
from pipeline.report.build import write_report
from pipeline.system.facts import output_facts
from pipeline.system.room import what_to_do


def rebuild_reports(directory: Path) -> Iterator[Path]:
    """Write report.html of each finished image again, and the page of all images where there are several.

    What is wrong with one image is raised after the others are done.

    Raises:
        SourceError: nothing finished there, or its work folder is gone.
        OutputConflict: the folder cannot be written, a run works for it, or another version of the program wrote the
            results.
    """
    folders = finished_folders(directory)
    if not folders:
        raise nothing_in(directory, f"no finished image here (no {RECORD})")
    failed: list[PipelineError] = []
    for folder in folders:
        try:
            with heartbeat(f"{folder.name}: makes its pictures again"), undisturbed(folder):
                path = _rebuilt(folder)
            yield path
        except PipelineError as error:
            failed.append(error)
    if folders != [directory]:
        index, _ = update_index(directory, several=len(folders) > 1)
        yield from [index] if index else []
    if failed:
        raise type(failed[0])("\n".join(str(error) for error in failed)) if failed[1:] else failed[0]


def _rebuilt(folder: Path) -> Path:
    """Write the report of a finished image again, and what the record says of it; returns its path."""
    record = record_of(folder)
    work = work_folder(folder, record)
    if not work.plan.exists():
        raise SourceError(f"{work.plan} is gone, the report cannot be made again; run again with --overwrite")
    try:
        with of_record(folder):
            plan = kept_plan(work, record)
            shown = write_report(plan, record, folder)
            made = [output_facts(role, path, folder) for role, path in shown]
            again = {output["path"] for output in made}
            record["outputs"] = [o for o in record["outputs"] if o["path"] not in again] + made
            render(record, plan.space, folder)
        write_record(folder, record)
    except PipelineError:
        raise
    except OSError as error:
        todo = what_to_do(folder, error)
        raise OutputConflict(f"{folder}: cannot write the report ({error.strerror or error}); {todo}") from error
    return next(path for role, path in shown if role == "report")
