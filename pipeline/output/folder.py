"""The folder of one image: made, refused, found finished, tidied."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pipeline.errors import OutputConflict
from pipeline.image.workspace import BLOCKS
from pipeline.orders import Order
from pipeline.system.files import write_atomic
from pipeline.system.lock import held, locked


def work_folder(folder: Path, record: dict[str, Any]) -> Path:
    """Return where the run of a finished image worked: in its folder, or in `compute.scratch`."""
    scratch = record["config"]["compute"].get("scratch")
    return Path(scratch) / record["stem"] / ".work" if scratch else folder / ".work"


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
    request = order.workdir / "request"
    known = request.read_text().strip() if request.exists() else None
    occupied = order.folder.is_file() or any(p.name != order.workdir.name for p in order.folder.glob("*"))
    # a run that was refused before it had a plan left nothing that another config could spoil
    begun = occupied or (order.workdir / "plan.json").exists() or held(order.workdir / "lock")
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
            with locked(order.workdir / "lock") if order.workdir.exists() else nullcontext():
                shutil.rmtree(order.folder)
                shutil.rmtree(order.workdir, ignore_errors=True)
        order.folder.mkdir(parents=True, exist_ok=True)
        order.workdir.mkdir(parents=True, exist_ok=True)
        write_atomic(request, order.request + "\n")
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
    if (order.workdir / BLOCKS).exists():
        # renamed first: a store that is only half deleted must not pass for a whole one
        (order.workdir / BLOCKS).rename(order.workdir / f"{BLOCKS}.partial")
    for name in (f"{BLOCKS}.partial", "staged"):
        shutil.rmtree(order.workdir / name, ignore_errors=True)
    work = order.folder / ".work"
    shutil.rmtree(work / "ready" if work == order.workdir else work, ignore_errors=True)
