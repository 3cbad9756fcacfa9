"""Tables for people: a plan, the state of an output folder, an image, this machine."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.blocks import journal
from pipeline.commands.progress import heartbeat
from pipeline.commands.temporary import temporary_job
from pipeline.config.catalog import check, list_entries, presence, resolve_sources
from pipeline.config.fetched import copied
from pipeline.config.products import open_product
from pipeline.config.products.base import metres_text
from pipeline.config.schema import load_config
from pipeline.errors import ConfigError, IntegrityError, OutputConflict, PipelineError, SourceError
from pipeline.execute._choose import choose_executor
from pipeline.formats import open_any
from pipeline.formats.base import Source
from pipeline.orders import Order, cluster_settings, orders
from pipeline.output.cube import check_cubes, cubes_of
from pipeline.output.results import (
    RECORD,
    changed,
    finished_folders,
    folders_of_runs,
    kept_plan,
    nothing_in,
    of_record,
    read_record,
    record_of,
    work_folder,
    write_record,
)
from pipeline.output.verify import Check, verify
from pipeline.plan.memory import disk_bytes, process_bytes, worker_bytes
from pipeline.plan.plan import OtherVersion, load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.provenance.failure import failures
from pipeline.provenance.index import update_index
from pipeline.provenance.renderings import render
from pipeline.report.build import write_report
from pipeline.run import rehearsed_survey
from pipeline.survey.survey import Survey, outline
from pipeline.system.facts import inputs_hashed_once, output_facts, software
from pipeline.system.lock import held
from pipeline.system.redact import redacted
from pipeline.system.room import free_bytes
from pipeline.system.signals import Stop, stoppable


def plan_table(config_path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Find the holes of every image in a temporary folder and return the numbers of its plan; computes no value.

    Raises:
        PlanRefused: with the numbers; nothing was computed.
    """
    rows, notices = [], []
    for order, found in _outlines(config_path, overrides):
        notices += [{"image": order.stem, "notice": redacted(text)} for text in found.notices]
        plan = found.plan
        channels = order.n_file_channels
        executor, workers = choose_executor(order, plan, max(1, len(plan.blocks)))
        rows.append(
            {
                "image": order.stem,
                "shape": list(plan.space.shape),
                "channels": len(plan.channels),
                "unit": plan.space.unit,
                "holes": found.states.holes,
                "holes_fraction": found.states.holes / (math.prod(plan.space.shape) * plan.n_state),
                "patches_total": math.prod(plan.lattice.counts),
                "patches_touching_holes": found.patches_touching_holes,
                "forwards": plan.forwards,
                "blocks": len(plan.blocks),
                "block": list(plan.block),
                "worker_GiB": worker_bytes(plan, channels) / 2**30,
                "peak_GiB": process_bytes(plan, channels, display=order.job.display) / 2**30,
                "disk_GiB": disk_bytes(plan, channels, display=order.job.display) / 2**30,
                "executor": executor,
                "workers": workers,
                **_gpu_row(found),
                "seconds": asdict(found.cost.total(workers)) if found.cost else None,
                "notices": list(found.notices),
            }
        )
    return {"images": rows, "notices": notices}


def _gpu_row(found: Survey) -> dict[str, Any]:
    """Return what the network needs of a GPU, by channels a pass, and what is free; nothing where it uses none."""
    if found.gpu is None:
        return {}
    needed = {f"gpu_GiB_for_{channels}_a_pass": need / 2**30 for channels, need in found.gpu.needed.items()}
    return {**needed, "gpu_free_GiB": found.gpu.free / 2**30}


def job_scripts(config_path: Path, overrides: Sequence[str]) -> str:
    """Return the script of the jobs that a run of a config would ask for; starts none.

    Raises:
        ConfigError: its executor uses no jobs, or an option is not one of the batch system.
    """
    from pipeline.execute._jobs import cluster_of

    config = load_config(config_path, overrides)
    kind = {"slurm": "slurm", "jobqueue": config.compute.jobqueue and config.compute.jobqueue.kind}.get(
        config.compute.executor
    )
    if not kind:
        raise ConfigError("--show-job-script: set compute.executor to slurm, or to jobqueue with compute.jobqueue.kind")
    with (
        tempfile.TemporaryDirectory(prefix="inpaint-plan-") as folder,
        cluster_of(kind, cluster_settings(config), config.compute.memory_per_worker, folder) as cluster,
    ):
        script: str = cluster.job_script()
    return script


def status_table(directory: Path) -> dict[str, Any]:
    """Return how far each image in an output folder is.

    Raises:
        SourceError: no run was started there.
    """
    running = [path for one in folders_of_runs(directory) for path in sorted((one / WorkFolder.NAME).glob("*/request"))]
    rows = [_running(WorkFolder(path.parent)) for path in running]
    known = {row["image"] for row in rows}
    rows += [_finished(folder) for folder in finished_folders(directory) if folder.name not in known]
    for failure in failures(directory):
        _failed(rows, failure)
    if not rows:
        raise nothing_in(directory, "no run was started here")
    return {"images": sorted(rows, key=lambda row: str(row["image"]))}


def _failed(rows: list[dict[str, Any]], failure: dict[str, Any]) -> None:
    """Say of an image that its last run failed, unless another one works on it now."""
    row = next((row for row in rows if row["image"] == failure["stem"]), None)
    if row is None:
        rows.append({"image": failure["stem"], "state": "failed", "what": failure["error"]})
    elif row["state"] == "interrupted":
        row |= {"state": "failed", "what": failure["error"]}
    elif row["state"] == "done":
        row["what"] = f"a later run failed: {failure['error']}"


def _running(work: WorkFolder) -> dict[str, Any]:
    row: dict[str, Any] = {"image": work.path.name, "state": "running" if held(work.lock) else "interrupted"}
    try:
        plan = load_plan(work)
    except IntegrityError:
        return row | ({"state": "survey"} if held(work.lock) else {})
    except OtherVersion as error:
        return row | {"what": str(error)}
    return row | {"blocks": len(plan.blocks), "done": len(journal.numbers(work.journal, plan.digest))}


def _finished(folder: Path) -> dict[str, Any]:
    record = read_record(folder)
    if record is None:
        return {"image": folder.name, "state": "damaged", "what": f"{RECORD} cannot be read"}
    missing, other = changed(folder, record)
    blocks = record["plan"]["blocks"]
    if missing or other:
        what = ", ".join([*(f"{name} is missing" for name in missing), *(f"{name} was changed" for name in other)])
        return {"image": folder.name, "state": "damaged", "what": what}
    return {"image": folder.name, "state": "done", "blocks": blocks, "done": blocks}


def catalog_rows(folder: Path | None) -> list[dict[str, Any]]:
    """Return what the catalog says of each data set seen from a folder, and whether its files are there."""
    rows = []
    for name, entry in list_entries(folder).items():
        state, wanted = presence(entry)
        rows.append({"name": name, "state": state, "wanted": wanted, **entry.config.model_dump(mode="json")})
    return rows


def check_rows(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return whether the files of some data sets, all without any, are there and have their checksum.

    Raises:
        ConfigError: there is no such data set.
    """
    entries = list_entries()
    unknown = [name for name in names if name not in entries]
    if unknown:
        raise ConfigError(f"no catalog entry {', '.join(unknown)} (names: {', '.join(entries)})")
    found = check([entry for name, entry in entries.items() if not names or name in names])
    return [{"name": one.name, "state": one.state, "message": one.message} for one in found]


def require_right(rows: Sequence[Mapping[str, Any]]) -> None:
    """Check that no file of the catalog is another one than it says, by what `check_rows` found.

    Raises:
        SourceError: one is.
    """
    if any(row["state"] == "wrong" for row in rows):
        raise SourceError("some catalog entries are wrong, see above")


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


def image_table(file: str) -> dict[str, Any]:
    """Return the header facts of an image, or the bands of a delivered scene; reads no pixels."""
    if (product := open_product(file)) is not None:
        return {
            "file": redacted(file),
            "scene": product.name,
            "product": product.what,
            "date": product.date,
            "bands": [
                {
                    "name": band.name,
                    "range": ", ".join(band.common),
                    "size": metres_text(band.metres),
                    "offset": band.offset,
                }
                for band in product.bands
            ],
            "mask": [redacted(path) for entry in product.mask for path in entry.reads()],
        }
    with tempfile.TemporaryDirectory(prefix="inpaint-inspect-") as folder:
        return _header(file, open_any(copied(file, Path(folder))))


def _header(file: str, source: Source) -> dict[str, Any]:
    return {
        "file": redacted(file),
        "format": source.kind,
        "grid": source.space.describe(),
        "channels": source.n_channels,
        "names": list(source.channel_names),
        "dtype": str(source.dtype),
        "nodata": list(source.nodata),
        "scale_offset": [list(p) for p in source.scale_offset],
        "native_chunk": list(source.native_chunk),
        **dict(source.attributes),
        "notices": [redacted(text) for text in getattr(source, "notices", ())],
    }


def machine_table() -> dict[str, Any]:
    """Return versions and resources of this machine."""
    import rasterio
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        **software(),
        "gdal": rasterio.__gdal_version__,
        "jp2_driver": "JP2OpenJPEG" in rasterio.drivers.raster_driver_extensions().values(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "cores": len(os.sched_getaffinity(0)),
        "memory_GiB": memory / 2**30,
        "free_disk_GiB": "unknown" if (free := free_bytes(Path.cwd())) is None else free / 2**30,
        "slurm": shutil.which("sbatch") or "none",
    }


def rebuild_reports(directory: Path) -> Iterator[Path]:
    """Write report.html of each finished image again, and the page of all images where there are several.

    What is wrong with one image is raised after the others are done.

    Raises:
        SourceError: nothing finished there, or its work folder is gone.
        OutputConflict: the folder cannot be written, or another version of the program wrote the results.
    """
    folders = finished_folders(directory)
    if not folders:
        raise nothing_in(directory, f"no finished image here (no {RECORD})")
    failed: list[PipelineError] = []
    for folder in folders:
        try:
            with heartbeat(f"{folder.name}: makes its pictures again"):
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
        raise SourceError(f"{work.plan} is gone, the report cannot be made again")
    try:
        plan = kept_plan(work)
        with of_record(folder):
            shown = write_report(plan, record, folder)
            made = [output_facts(role, path, folder) for role, path in shown]
            again = {output["path"] for output in made}
            record["outputs"] = [o for o in record["outputs"] if o["path"] not in again] + made
            render(record, plan.space, folder)
        write_record(folder, record)
    except PipelineError:
        raise
    except OSError as error:
        raise OutputConflict(f"{folder}: cannot write the report ({error.strerror or error})") from error
    return next(path for role, path in shown if role == "report")


def _outlines(config_path: Path, overrides: Sequence[str]) -> list[tuple[Order, Survey]]:
    config = load_config(config_path, overrides)
    found = []
    specs = resolve_sources(config)
    cubes_of(config, specs)
    for order in orders(config, specs):
        with temporary_job(order) as job, Stop() as stop, stoppable(stop.requested):
            found.append((order, rehearsed_survey(order, job, outline)))
    return found
