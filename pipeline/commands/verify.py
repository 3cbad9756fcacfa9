"""The checks of finished images, again, and whether all promises hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.commands.progress import heartbeat
from pipeline.config.names import RECORD
from pipeline.errors import IntegrityError, SourceError
from pipeline.output.cube import check_cubes
from pipeline.output.results import finished_folders, nothing_in, of_one_run
from pipeline.output.verify import Check, verify
from pipeline.system.facts import inputs_hashed_once


def verify_table(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the checks of each finished image of a folder, and of the cube of a series.

    Raises:
        SourceError: there is none.
    """
    folders = finished_folders(directory)
    if not folders:
        raise nothing_in(directory, f"no finished image here (no {RECORD})")
    with inputs_hashed_once():
        checks = {folder.name: _verified(folder) for folder in folders} | check_cubes(directory)
    return {name: [asdict(check) for check in found] for name, found in checks.items()}


def _verified(folder: Path) -> list[Check]:
    """Return the checks of an image, of one run even if another replaces its results meanwhile."""
    said = f"{folder}: its results are replaced all the time; verify again when nothing writes to it"
    return of_one_run(folder, _checked) or [Check(name="record", held=None, detail=said, unread=True)]


def _checked(folder: Path) -> list[Check]:
    """Return the checks of an image; what is wrong with its record is told as one, so that others are checked, too."""
    try:
        with heartbeat(f"{folder.name}: reads every pixel of image and results again"):
            return verify(folder)
    except SourceError as error:
        return [Check(name="record", held=None, detail=str(error), unread=True)]


def require_held(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Check that all promises hold, by what `verify_table` found.

    Raises:
        IntegrityError: names the images of which one is broken.
        SourceError: none is, but files of some images are damaged, gone, or others than their runs had.
    """
    broken = [name for name, checks in results.items() if any(check["held"] is False for check in checks)]
    if broken:
        raise IntegrityError(f"promises broken in: {', '.join(broken)}")
    unread = [f"{name}: {check['detail']}" for name, found in results.items() for check in found if check["unread"]]
    if unread:
        raise SourceError("not checked: " + "\n".join(unread))
