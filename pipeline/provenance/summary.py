"""run.json: how each image of a run ended, one entry an image."""

from __future__ import annotations

import errno
import json
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.config.names import SUMMARY
from pipeline.config.schema import RunConfig, config_hash, resolved
from pipeline.errors import BlockFailed, Interrupted, OutputConflict, PipelineError, PlanRefused
from pipeline.orders import Order
from pipeline.report.judgement import judged, judgement_text
from pipeline.system.bounds import is_used_up, used_up_message
from pipeline.system.facts import peak_rss_bytes
from pipeline.system.files import unreplaceable, write_json, write_text
from pipeline.system.paths import describe, existing
from pipeline.system.room import what_to_do

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE)
"""What the system says where something can no longer be written, or a disk fails."""


_LOG_HEAD = "inpaint-pipeline met an error that nobody foresaw; please report it with this file\n"


def is_error_log(path: Path) -> bool:
    """Say whether `explained` has written a file: another one of that name is the user's."""
    try:
        return path.is_file() and path.read_bytes().startswith(_LOG_HEAD.encode())
    except OSError:
        return False


def entry_of(order: Order, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a finished image, from its order and record."""
    stem = order.stem
    entry: dict[str, Any] = {"stem": stem, "state": "done", "directory": stem}
    entry |= {key: record[key] for key in ("holes", "seconds", "patches", "peak_rss_bytes")}
    entry["space"] = {key: record["space"][key] for key in ("kind", "shape", "channels")}
    if gpu_full := (record["model"] or {}).get("gpu_full"):
        entry["gpu_full"] = gpu_full
    # a record of an older version has none
    entry["roofline"] = record.get("roofline")
    if record["holes"]["pixels"]:
        entry["judgement"] = {"level": judged(record).level, "said": judgement_text(record)}
    entry["outputs"] = [f"{stem}/{o['path']}" for o in record["outputs"]]
    if order.bids is not None:
        entry["derivative"] = (order.bids.image.folder / order.bids.name("restored")).as_posix()
    return entry


def failed_entry(error: PipelineError, **known: str) -> dict[str, Any]:
    """Return the entry of an image, or the row of a cube, that failed or was interrupted; `known` says which it is."""
    state = "interrupted" if isinstance(error, Interrupted) else "failed"
    return {**known, "state": state, "error": str(error), "exit_code": error.exit_code}


def summary_of(
    config: RunConfig, entries: list[dict[str, Any]], cubes: list[dict[str, Any]], started: float
) -> dict[str, Any]:
    """Return the content of run.json, its paths as they are; `started` is by a clock that never jumps, in s."""
    failed = [e for e in entries if e["state"] != "done"]
    code = next((cube["exit_code"] for cube in cubes if "exit_code" in cube), 0)
    if failed:
        code = failed[0]["exit_code"] if len(entries) == 1 else BlockFailed.exit_code
    return {
        "sources": entries,
        **({"cubes": cubes} if cubes else {}),
        "exit_code": code,
        "seconds": time.monotonic() - started,
        "peak_rss_bytes": peak_rss_bytes(),
        "config": resolved(config),
        "config_sha256": config_hash(config),
    }


def require_summary_free(directory: Path) -> None:
    """Refuse an output folder in which the summary cannot be written, or is something else, before anything is done.

    Raises:
        OutputConflict: names it.
    """
    path = directory / SUMMARY
    if not (there := existing(directory)).is_dir():
        raise OutputConflict(f"{there} is {describe(there)}, no folder for results; choose another output.directory")
    if why := unreplaceable(path):
        raise OutputConflict(f"{path}: {why}; choose another output.directory")
    try:
        ours = not path.exists() or (path.is_file() and is_summary(path.read_bytes()))
    except OSError as error:
        raise OutputConflict(f"{path}: cannot be read ({error.strerror}); see to its disk, or move it away") from error
    if not ours:
        raise OutputConflict(f"{path} was not written by this program, or is damaged; move it away")


def is_summary(content: bytes) -> bool:
    """Return True for the content of a file that `write_summary` has written."""
    try:
        facts = json.loads(content)
    except ValueError:
        return False
    return isinstance(facts, dict) and {"sources", "config_sha256"} <= set(facts)


def write_summary(directory: Path, summary: Mapping[str, Any]) -> Path:
    """Write run.json into the output folder, and return its path.

    Raises:
        OutputConflict: it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # jobs of an array may end at the same time
        write_json(directory / SUMMARY, summary, shared=True)
        return directory / SUMMARY
    except OSError as error:
        raise OutputConflict(
            f"{directory}: cannot write {SUMMARY} ({error.strerror or error}); "
            + what_to_do(directory, error, "choose another output.directory")
        ) from error


def failure_of_run(
    last: PipelineError | None, entries: Sequence[Mapping[str, Any]], directory: Path
) -> PipelineError | None:
    """Return the error that a run ends with, by that of the image that failed `last`; of a batch one for all."""
    if last is None or len(entries) == 1:
        return last
    bad = [e["stem"] for e in entries if e["state"] != "done"]
    others = f", the others are finished in {directory}" if len(bad) < len(entries) else ""
    return BlockFailed(
        f"{len(bad)} of {len(entries)} images failed: {', '.join(bad)}; why stands in {directory / SUMMARY}{others}"
    )


def explained(error: Exception, log: Path) -> PipelineError:
    """Return an error that says what happened; one that nobody foresaw leaves its traceback in the file `log`."""
    if isinstance(error, PipelineError):
        return error
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        failed = OutputConflict(
            f"{error.filename or log.parent}: {error.strerror}; see to the folder or its disk and run again to continue"
        )
        failed.__cause__ = error
        return failed
    if is_used_up(error):
        refused = PlanRefused(used_up_message(error))
        refused.__cause__ = error
        return refused
    details, where = "".join(traceback.format_exception(error)), ""
    with suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        if not log.exists() or is_error_log(log):
            # shares of a run may fail at the same time
            write_text(log, _LOG_HEAD + details, shared=True)
            where = f"the details are in {log}"
    found = PipelineError(
        f"an unexpected {type(error).__name__} ({error}): a bug, please report it; {where or details}"
    )
    # who calls from Python sees it below this one, also if the file was in a temporary folder
    found.__cause__ = error
    return found
