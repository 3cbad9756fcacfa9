"""What lies in the folder of an image's results: its record, the names that are ours, whether all is as it was left."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pipeline.config.bids import RESULTS
from pipeline.config.names import CRATE, ITEM, RECORD, REPORT, THUMBNAIL
from pipeline.errors import IntegrityError, PipelineError, SourceError
from pipeline.formats.base import Role
from pipeline.orders import Order
from pipeline.plan.facts import load_survey
from pipeline.plan.plan import Plan
from pipeline.plan.refs import SourceRef
from pipeline.plan.workdir import WorkFolder
from pipeline.system.facts import file_facts
from pipeline.system.files import finite, read_json, sealed, unsealed, write_json
from pipeline.system.words import listed

REPORTS = (REPORT, THUMBNAIL)
"""What is made of the results for people to look at; images without holes have no thumbnail."""
RENDERINGS = (ITEM, CRATE)
"""What is rendered from the record for others; not every image has all of them."""
STYLE = ".qml"
"""Suffix of what says how a raster is shown in QGIS, in the place of its own."""
LOOKS = ("style", "categories")
"""Roles of files that say how a layer looks: colours in QGIS, names of codes."""
ROLES: tuple[Role, ...] = ("restored", "uncertainty", "source", "doubt", "display")
"""Layers that a run may write; `doubt` only where observed pixels are doubted or hazy, `display` if asked for."""
_BESIDE = ("value_range", "computed_by")
"""What a record tells of the self-test beside what the survey found."""
_TIMES = 3
"""How often results are looked at that are replaced meanwhile."""
_Seen = TypeVar("_Seen")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of the finished image in `folder`; None if there is none, or none that can be read."""
    try:
        record = read_json(folder / RECORD)
    except IntegrityError:
        return None
    return record if record is not None and _usable(record) else None


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of the finished image in `folder`, with a hash of itself."""
    write_json(folder / RECORD, sealed(finite(record)))


@contextmanager
def of_record(folder: Path) -> Iterator[None]:
    """Turn whatever a record that was edited makes the program do into an error that says so; a bug stays one.

    Raises:
        SourceError: the record of the finished image in `folder` is not what a run wrote.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        path = folder / RECORD
        with suppress(IntegrityError):
            unsealed(path, read_json(path) or {})
            raise
        raise SourceError(
            f"{path}: does not hold what a run wrote ({error or type(error).__name__}); was it edited? run again with "
            "--overwrite"
        ) from error


def kept_plan(work: WorkFolder, record: Mapping[str, Any]) -> Plan:
    """Return the plan of finished results, once it is clear that all that it needs is as the survey wrote it.

    Raises:
        SourceError: it is damaged, or the record of the results tells of another plan or another self-test.
        OtherVersion: another version of this program wrote it.
    """
    try:
        plan, facts = load_survey(work)
    except IntegrityError as error:
        raise SourceError(f"{error}; run again with --overwrite") from error
    if record["plan"].get("digest") != plan.digest:
        raise SourceError(f"{work.plan}: is not the plan that {RECORD} was written by; run again with --overwrite")
    told = record.get("self_test")
    # what is told beside what the survey found stands in the plan, or is about the run
    found = {key: value for key, value in told.items() if key not in _BESIDE} if isinstance(told, dict) else told
    if found != facts["self_test"] or record.get("doubt") != facts.get("doubt"):
        raise SourceError(
            f"{work.survey}: {RECORD} tells of another self-test, so one of them was edited; run again with --overwrite"
        )
    return plan


def _usable(record: dict[str, Any]) -> bool:
    """Say whether a record has all that is asked of it later: a damaged one may be JSON all the same."""
    kinds = {"stem": str, "request": str, "config": dict, "plan": dict, "holes": dict, "outputs": list}
    if not all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
        return False
    within = (
        isinstance(record["config"].get("compute"), dict)
        and isinstance(record["plan"].get("blocks"), int)
        and isinstance(record["holes"].get("by_source"), dict)
    )
    whole = all(
        isinstance(output, dict)
        and all(isinstance(output.get(key), str) for key in ("role", "path", "sha256"))
        and isinstance(output.get("bytes"), int)
        for output in record["outputs"]
    )
    # every run writes its image: without it nothing would be checked
    return within and whole and any(output["role"] == "restored" for output in record["outputs"])


def of_one_run(folder: Path, look: Callable[[Path], _Seen]) -> _Seen | None:
    """Return what a look at the finished results in `folder` finds, once more if a run has replaced them meanwhile.

    None if they are replaced each time.
    """
    for _ in range(_TIMES):
        before = _content(folder / RECORD)
        seen = look(folder)
        if _content(folder / RECORD) == before:
            return seen
    return None


def _content(path: Path) -> bytes:
    """Return what a file holds; empty where none can be read."""
    with suppress(OSError):
        # a pipe would be waited for without end
        return path.read_bytes() if path.is_file() else b""
    return b""


def record_of(folder: Path) -> dict[str, Any]:
    """Return the record of the finished image in `folder`.

    Raises:
        SourceError: there is none, or it is damaged.
    """
    record = read_record(folder)
    if record is None:
        there = (folder / RECORD).exists()
        raise SourceError(
            f"{folder / RECORD}: {'is damaged; run again with --overwrite' if there else 'no such file'}; "
            "the folder of a finished image has one"
        )
    return record


def finished_folders(folder: Path) -> list[Path]:
    """Return the folders of finished images: `folder` itself, its children, or those of a data set of derivatives.

    Raises:
        SourceError: it is an address.
    """
    if re.match(r"\w+:/", str(folder)) and not folder.exists():
        raise SourceError(f"{folder}: is an address; fetch the results, and name the folder that they are in")
    if (folder / RECORD).exists():
        return [folder]
    return sorted(p.parent for within in folders_of_runs(folder) for p in within.glob(f"*/{RECORD}"))


def nothing_in(folder: Path, what: str) -> SourceError:
    """Return the error of a folder in which nothing is found: it is none, or somebody else's may not be looked into."""
    if folder.is_file():
        home = next((str(one) for one in folder.parents if (one / RECORD).exists()), "")
        remedy = f"name {home}" if home else "name the folder that `output.directory` of the config says"
        return SourceError(f"{folder}: is a file, and results are a folder: {remedy}")
    if not folder.exists():
        return SourceError(f"{folder}: no such folder; name the one that `output.directory` of the config says")
    inside = [folder, *(sorted(folder.iterdir()) if os.access(folder, os.R_OK) and folder.is_dir() else ())]
    closed = next((one for one in inside if one.is_dir() and not os.access(one, os.R_OK | os.X_OK)), None)
    if closed is None:
        # `output.directory: out/scene` of several configs, and `out` is named
        runs = [
            str(one) for one in inside[1:] if one.is_dir() and (finished_folders(one) or (one / "run.json").exists())
        ]
        return SourceError(f"{folder}: {what}" + (f"; name a folder in it: {listed(runs)}" if runs else ""))
    return SourceError(f"{closed}: no permission to look into it; ask its owner, or see to its mode")


def folders_of_runs(folder: Path) -> list[Path]:
    """Return every `output.directory` that `folder` holds: itself, or one an image in a data set of derivatives."""
    inside = folder if folder.name == RESULTS else folder / RESULTS
    return [folder, *(one for one in sorted(inside.glob("*")) if one.is_dir())]


def work_folder(folder: Path, record: dict[str, Any]) -> WorkFolder:
    """Return what is kept of the run of a finished image; older versions left it in `compute.scratch`."""
    kept = WorkFolder.of(folder)
    scratch = record.get("config", {}).get("compute", {}).get("scratch")
    if scratch and not kept.plan.exists():
        return WorkFolder.of(Path(scratch) / record["stem"])
    return kept


def output_names(order: Order) -> set[str]:
    """Return the names that the results of an order will have in their folder."""
    suffixes = {output_suffix(wanted, order.job.source) for wanted in order.formats}
    suffixes |= {".tif.aux.xml", STYLE} if ".tif" in suffixes else set()
    return {f"{order.stem}_{role}{suffix}" for role in ROLES for suffix in suffixes} | {RECORD, *REPORTS, *RENDERINGS}


def output_suffix(wanted: str, source: SourceRef) -> str:
    """Return the suffix of a written file: `.nii` stays `.nii`, any raster becomes `.tif`, zarr is `.zarr`.

    Args:
        wanted: `same` or the name of a format.
        source: the input.
    """
    kind = source.kind if wanted == "same" else wanted
    if kind == "zarr":
        return ".zarr"
    if kind == "nifti":
        return ".nii.gz" if source.paths[0].lower().endswith(".gz") else ".nii"
    return ".tif"


def own_names(folder: Path, stem: str) -> set[str]:
    """Return the names in a folder of results that an earlier run wrote.

    They are those of its record. Where that is damaged or not written yet (older versions published file by file), they
    are the names that results have, if the folder holds a run's request.
    """
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    record = read_record(folder)
    if record is not None:
        listed = {str(output["path"]).split("/")[0] for output in record["outputs"]}
    elif WorkFolder.of(folder).request.exists():
        listed = {name for name in present if name.split(".")[0] in {f"{stem}_{role}" for role in ROLES}}
        listed |= {*REPORTS, *RENDERINGS}
    else:
        return set()
    return present & (listed | {RECORD, WorkFolder.NAME})


def edited(folder: Path, record: dict[str, Any] | None) -> set[str]:
    """Return the names of files that say how layers look and that are no longer as they were written: the user's now.

    Viewers save them when somebody changes a style, or when they count statistics.
    """
    outputs = record["outputs"] if record else ()
    looks = {output["path"]: output for output in outputs if output["role"] in LOOKS}
    return {name for name, output in looks.items() if (folder / name).exists() and _differs(folder / name, output)}


def changed(folder: Path, record: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return which outputs of a finished image are missing, and which have another size or hash than was written.

    What only says how layers look is left to the user (see `edited`).
    """
    missing, other = [], []
    for output in (output for output in record["outputs"] if output["role"] not in LOOKS):
        path = folder / output["path"]
        if not path.exists():
            missing.append(str(output["path"]))
        elif _differs(path, output):
            other.append(str(output["path"]))
    return missing, other


def _differs(path: Path, output: dict[str, Any]) -> bool:
    # a pipe would be waited for without end
    return not (path.is_file() or path.is_dir()) or file_facts(path) != {
        "bytes": output["bytes"],
        "sha256": output["sha256"],
    }
