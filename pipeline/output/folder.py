"""The folder of one image: made, refused, found finished, tidied."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pipeline.errors import OutputConflict
from pipeline.orders import Order
from pipeline.plan.workdir import WorkFolder, partial
from pipeline.system.files import write_text
from pipeline.system.lock import held, locked


def work_folder(folder: Path, record: dict[str, Any]) -> WorkFolder:
    """Return where the run of a finished image worked: in its folder, or in `compute.scratch`."""
    scratch = record["config"]["compute"].get("scratch")
    return WorkFolder.of(Path(scratch) / record["stem"] if scratch else folder)


def finished_folders(folder: Path) -> list[Path]:
    """Return the folders of finished images: `folder` itself or its children with a record."""
    if (folder / "record.json").exists():
        return [folder]
    return sorted(p.parent for p in folder.glob("*/record.json"))


def prepare_folder(order: Order, *, overwrite: bool) -> None:
    """Make the work folder, or refuse one that belongs to another plan.

    Raises:
        OutputConflict: the folder holds other results or a run with another config, or cannot be written.
    """
    work = order.work
    known = work.request.read_text().strip() if work.request.exists() else None
    occupied = order.folder.is_file() or any(p.name != WorkFolder.NAME for p in order.folder.glob("*"))
    # a run that was refused before it had a plan left nothing that another config could spoil
    begun = occupied or work.plan.exists() or held(work.lock)
    foreign = begun and known != order.request
    if foreign or overwrite:
        _refuse_to_replace_inputs(order)
    if foreign and not overwrite:
        raise OutputConflict(
            f"{order.folder} holds {'a run of another config or input' if known else 'files of something else'}; "
            "use --overwrite to replace it, or another output.directory"
        )
    try:
        if overwrite and order.folder.exists():
            with locked(work.lock) if work.path.exists() else nullcontext():
                shutil.rmtree(order.folder)
                shutil.rmtree(work.path, ignore_errors=True)
        order.folder.mkdir(parents=True, exist_ok=True)
        work.path.mkdir(parents=True, exist_ok=True)
        write_text(work.request, order.request + "\n")
    except OutputConflict:
        raise
    except OSError as error:
        raise OutputConflict(
            f"{order.folder}: cannot write ({error.strerror or error}); choose another output.directory"
        ) from error


def _refuse_to_replace_inputs(order: Order) -> None:
    files = (*order.inputs, *(file for mask in order.masks for file in mask["files"]))
    for file in files:
        if Path(file["path"]).absolute().is_relative_to(order.folder.absolute()):
            raise OutputConflict(
                f"{order.folder} is where the results would go, but {file['path']} lies there, which the run reads; "
                "choose another output.directory"
            )


def finished_record(order: Order) -> dict[str, Any] | None:
    """Return the record of a finished run of the same request whose files are all there, else None."""
    path = order.folder / "record.json"
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    complete = all((order.folder / o["path"]).exists() for o in record["outputs"])
    return record if complete and record.get("request") == order.request else None


def tidy(order: Order) -> None:
    """Drop what only an unfinished run needs; plan, journal and survey stay for `verify`."""
    work, beside = order.work, WorkFolder.of(order.folder)
    if work.blocks.exists():
        # renamed first: a store that is only half deleted must not pass for a whole one
        work.blocks.rename(partial(work.blocks))
    for path in (partial(work.blocks), work.staged):
        shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(beside.ready if beside == work else beside.path, ignore_errors=True)
