"""The results of one image appear in one step: files, report and record together, or none of them.

Everything is made in a folder of its own, `ready`, complete and checked. A note (`publishing.json`) then says so, and
from here on there is no way back: a run that finds the note brings the publication to its end::

    note -> work files that `verify` needs move into the new folder -> the new folder takes the name of the results
         -> files of others that lay there come along -> the old results are removed, name by name

What is removed is what an earlier run wrote and listed in its record; whatever else lies in the folder stays there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.config.names import RECORD
from pipeline.errors import IntegrityError, OutputConflict
from pipeline.orders import Order
from pipeline.output.results import edited, own_names, read_record, write_record
from pipeline.plan.workdir import WorkFolder, working
from pipeline.system.facts import file_facts
from pipeline.system.files import (
    read_json,
    remove_made,
    removed_name,
    replace_folder,
    sync,
    sync_tree,
    unsealed,
    write_sealed,
)
from pipeline.system.room import what_to_do


def publish(order: Order, record: dict[str, Any]) -> None:
    """Give the finished files in `order.beside.ready` their final place, together with their record.

    Raises:
        OutputConflict: the folder cannot be written; what is ready stays, and a rerun goes on from here.
    """
    beside = order.beside
    try:
        write_record(beside.ready, record)
    except FileNotFoundError:
        raise OutputConflict(f"{beside.path}: was moved or removed while the run went on; run again") from None
    sync_tree(beside.ready)
    facts = {
        "record_sha256": file_facts(beside.ready / RECORD)["sha256"],
        # a style that somebody changed is theirs
        "replaces": sorted(own_names(order.folder, order.stem) - edited(order.folder, read_record(order.folder))),
    }
    write_sealed(beside.publishing, facts)
    finish_publication(order)


def finish_publication(order: Order) -> bool:
    """Bring a publication to its end that was begun, by this run or by one that was killed; False if none was.

    Raises:
        OutputConflict: the folder cannot be written.
        IntegrityError: the note of the publication is damaged.
    """
    beside, folder = order.beside, order.folder
    found = read_json(beside.publishing)
    if found is None:
        return False
    note = _checked(beside.publishing, unsealed(beside.publishing, found))
    try:
        if beside.ready.exists():
            work = working(beside)
            _keep(order.work if work == beside else work, WorkFolder.of(beside.ready))
            sync_tree(beside.ready)
            beside.ready.rename(beside.exchange)
        if not _is_record(folder / RECORD, note["record_sha256"]):
            replace_folder(folder, beside.exchange, beside.aside)
        if beside.aside.exists():
            beside.aside.rename(beside.exchange)
        if beside.exchange.exists():
            _retire(beside.exchange, folder, note["replaces"])
    except OSError as error:
        todo = what_to_do(folder, error, "run again")
        raise OutputConflict(f"{folder}: cannot publish the results ({error.strerror or error}); {todo}") from error
    sync(folder.parent)
    beside.publishing.unlink()
    return True


def _checked(path: Path, note: dict[str, Any]) -> dict[str, Any]:
    """Return a note if it names what may be removed by plain names: nothing outside of the old results.

    Raises:
        IntegrityError: it does not.
    """
    names = note.get("replaces")
    plain = isinstance(names, list) and all(isinstance(n, str) and Path(n).name == n not in ("", "..") for n in names)
    if not plain or not isinstance(note.get("record_sha256"), str):
        raise IntegrityError(f"{path}: is damaged (it holds what no run writes)")
    return note


def _is_record(path: Path, sha256: str) -> bool:
    return path.is_file() and file_facts(path)["sha256"] == sha256


def _keep(work: WorkFolder, kept: WorkFolder) -> None:
    """Move what `verify` needs of the work folder to the results; onto another file system it is copied."""
    kept.path.mkdir(exist_ok=True)
    for path in work.kept:
        if path.exists():
            target = kept.path / path.name
            remove_made(target)
            shutil.move(path, target)


def _retire(old: Path, folder: Path, ours: Iterable[str]) -> None:
    """Remove the old results by name; whatever else lay there goes to the new folder.

    That goes first: what is removed may fail, and nobody looks for his own files in a work folder.
    """
    names = list(ours)
    half = {removed_name(name) for name in names}
    for path in sorted(old.iterdir()):
        if path.name in names or (path.name in half and path.is_dir()):
            continue
        target = folder / path.name
        while target.exists() or target.is_symlink():
            target = target.with_name(target.name + ".kept")
        path.rename(target)
    for name in names:
        remove_made(old / name)
    old.rmdir()
