"""Tables for people: a plan, the state of an output folder, an image, this machine, an evaluation."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.blocks import journal
from pipeline.config.catalog import list_entries, presence, resolve_sources
from pipeline.config.fetched import copied
from pipeline.config.schema import load_config
from pipeline.errors import ConfigError, IntegrityError, OutputConflict, PipelineError, SourceError
from pipeline.execute._choose import choose_executor
from pipeline.formats import open_any
from pipeline.formats.base import Source
from pipeline.orders import Order, cluster_settings, orders
from pipeline.output.results import RECORD, changed, finished_folders, read_record, record_of, work_folder
from pipeline.plan.job import Job
from pipeline.plan.memory import disk_bytes, process_bytes, worker_bytes
from pipeline.plan.plan import load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.provenance.renderings import render
from pipeline.report.build import write_report
from pipeline.run import looked_at
from pipeline.survey.survey import Survey, outline, survey
from pipeline.system.facts import output_facts, software
from pipeline.system.files import write_json
from pipeline.system.lock import held
from pipeline.system.redact import redacted
from pipeline.system.signals import Stop, stoppable


def plan_table(config_path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Find the holes of every image in a temporary folder and return the numbers of its plan; computes no value.

    Raises:
        PlanRefused: with the numbers; nothing was computed.
    """
    rows, notices = [], []
    for order, found in _surveys(config_path, overrides, outline):
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
                "peak_GiB": process_bytes(plan, channels) / 2**30,
                "disk_GiB": disk_bytes(plan, channels) / 2**30,
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


def evaluate_table(config_path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Run the self-test of every image and return its table: what each method scores on hidden observed pixels."""
    rows: list[dict[str, Any]] = []
    for order, found in _surveys(config_path, overrides, survey):
        facts = found.facts()["self_test"]
        if facts is None:
            rows.append({"image": order.stem, "note": "no holes, so no hole shapes to test with"})
            continue
        for method in facts["methods"]:
            rows.append({"image": order.stem, **{k: v for k, v in method.items() if k != "families"}})
        known = ("placements", "hidden_pixels", "decisions", "coverage_90", "coverage_90_by_channel", "note")
        rows.append({"image": order.stem, **{key: facts[key] for key in known}})
    return {"evaluation": rows}


def status_table(directory: Path) -> dict[str, Any]:
    """Return how far each image in an output folder is.

    Raises:
        SourceError: no run was started there.
    """
    running = sorted((directory / WorkFolder.NAME).glob("*/request"))
    rows = [_running(WorkFolder(path.parent)) for path in running]
    known = {row["image"] for row in rows}
    rows += [_finished(folder) for folder in finished_folders(directory) if folder.name not in known]
    if not rows:
        raise SourceError(f"{directory}: no run was started here")
    return {"images": sorted(rows, key=lambda row: str(row["image"]))}


def _running(work: WorkFolder) -> dict[str, Any]:
    row: dict[str, Any] = {"image": work.path.name, "state": "running" if held(work.lock) else "interrupted"}
    try:
        plan = load_plan(work)
    except IntegrityError:
        return row | ({"state": "survey"} if held(work.lock) else {})
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


def image_table(file: str) -> dict[str, Any]:
    """Return the header facts of an image; reads no pixels."""
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
        "free_disk_GiB": shutil.disk_usage(Path.cwd()).free / 2**30,
        "slurm": shutil.which("sbatch") or "none",
    }


def rebuild_reports(directory: Path) -> list[Path]:
    """Write report.html of each finished image again.

    Raises:
        SourceError: nothing finished there, or its work folder is gone.
        OutputConflict: the folder cannot be written.
    """
    folders = finished_folders(directory)
    if not folders:
        raise SourceError(f"{directory}: no finished image here (no record.json)")
    written = []
    for folder in folders:
        record = record_of(folder)
        work = work_folder(folder, record)
        if not work.plan.exists():
            raise SourceError(f"{work.plan} is gone, the report cannot be made again")
        try:
            plan = load_plan(work)
            report = write_report(plan, record, folder)
            facts = output_facts("report", report, folder)
            record["outputs"] = [facts if o["role"] == "report" else o for o in record["outputs"]]
            render(record, plan.space, folder)
            write_json(folder / RECORD, record)
        except PipelineError:
            raise
        except OSError as error:
            raise OutputConflict(f"{folder}: cannot write the report ({error.strerror or error})") from error
        written.append(report)
    return written


def _surveys(config_path: Path, overrides: Sequence[str], look: Callable[[Job], Survey]) -> list[tuple[Order, Survey]]:
    config = load_config(config_path, overrides)
    found = []
    for order in orders(config, resolve_sources(config)):
        with tempfile.TemporaryDirectory(prefix="inpaint-plan-") as folder, Stop() as stop, stoppable(stop.requested):
            job = order.job
            staged = replace(job.source, staged=folder)
            guides = tuple(replace(g, source=replace(g.source, staged=folder)) for g in job.guides)
            job = replace(job, work=WorkFolder(Path(folder)), source=staged, guides=guides)
            found.append((order, looked_at(order, job, look)))
    return found
