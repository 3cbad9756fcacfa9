"""`<stem>.failure.json`: what an image that failed was asked for, how far it came and what went wrong.

It lies beside the folder of the results, never in it, so what an earlier run published stays as it is; it goes when the
image is finished.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.blocks import journal
from pipeline.config.batch import SourceSpec
from pipeline.config.schema import RunConfig, config_hash, resolved
from pipeline.errors import IntegrityError, Interrupted, OutputConflict, PipelineError
from pipeline.orders import Order
from pipeline.plan.plan import load_plan
from pipeline.provenance.published import published_summary
from pipeline.provenance.summary import is_error_log
from pipeline.system.facts import hardware, software
from pipeline.system.files import read_json, remove_made, write_json

_SUFFIX = ".failure.json"
LOG = ".error.log"
"""What follows the stem in the name of the file with the traceback of an error that nobody foresaw."""


def failure(config: RunConfig, spec: SourceSpec, order: Order | None, error: PipelineError) -> dict[str, Any]:
    """Return the account of an image that failed, its paths as `output.paths` says.

    Args:
        config: of the run.
        spec: the image.
        order: what was asked for; None if that could not even be said.
        error: what went wrong.
    """
    entry = {"stem": spec.stem, "state": "failed", "error": str(error), "exit_code": error.exit_code}
    facts = {"sources": [entry], "config": resolved(config), "config_sha256": config_hash(config)}
    published = published_summary(facts, config, [spec])
    (said,) = published.pop("sources")
    return {
        **said,
        **_reached(order),
        "created": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "request": order.request if order else None,
        "software": software(),
        "hardware": hardware(),
        **published,
    }


def _reached(order: Order | None) -> dict[str, Any]:
    """Return the stage that a run was in, and of how many blocks how many are done."""
    if order is None:
        return {"stage": "opening"}
    try:
        plan = load_plan(order.work)
    except IntegrityError:
        return {"stage": "survey"}
    total = len(plan.blocks)
    done = len(journal.numbers(order.work.journal, plan.digest, total))
    return {"stage": "blocks" if done < total else "files", "blocks": total, "blocks_done": done}


def note_failure(config: RunConfig, spec: SourceSpec, order: Order | None, error: PipelineError) -> None:
    """Write the account of an image that failed into the output folder.

    Not of one that was interrupted, nor of one whose place is taken: nothing was tried, and what is there is of others.
    What cannot be written, or said of a run that is wrong in a way nobody foresaw, is left out: the error itself is
    said in any case.
    """
    if isinstance(error, Interrupted | OutputConflict):
        return
    directory = config.folder
    path = directory / f"{spec.stem}{_SUFFIX}"
    with suppress(Exception):
        directory.mkdir(parents=True, exist_ok=True)
        if not path.exists() or _read(path) is not None:
            # shares of a run may fail at the same time
            write_json(path, failure(config, spec, order, error), shared=True)


def forget_failure(directory: Path, stem: str) -> None:
    """Remove the account of an earlier failure, and the log that it names: the image is finished."""
    path, log = (directory / f"{stem}{suffix}" for suffix in (_SUFFIX, LOG))
    facts = _read(path) if path.exists() else None
    if facts is None:
        return
    if log.name in str(facts["error"]) and is_error_log(log):
        remove_made(log)
    remove_made(path)


def failures(directory: Path) -> list[dict[str, Any]]:
    """Return the accounts of all images of an output folder that failed and were not finished since."""
    return [facts for path in sorted(directory.glob(f"*{_SUFFIX}")) if (facts := _read(path)) is not None]


def _read(path: Path) -> dict[str, Any] | None:
    """Return an account; None for a file of that name that is not ours, or damaged."""
    try:
        facts = read_json(path)
    except IntegrityError:
        return None
    return facts if facts is not None and {"stem", "error", "exit_code", "stage"} <= set(facts) else None
