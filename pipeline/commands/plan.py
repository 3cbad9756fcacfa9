"""What a run would take, image by image, and the script of its jobs; nothing is restored."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.commands.temporary import temporary_job
from pipeline.config.catalog import resolve_sources
from pipeline.config.schema import load_config
from pipeline.errors import ConfigError
from pipeline.execute._choose import choose_executor
from pipeline.orders import Order, cluster_settings, order_of
from pipeline.output.cube import cubes_of
from pipeline.plan.disk import disk_bytes
from pipeline.plan.memory import process_bytes, worker_bytes
from pipeline.run import rehearsed_survey
from pipeline.selftest.windows import PLACEMENTS
from pipeline.survey.survey import Survey, outline
from pipeline.system.redact import redacted
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
                "peak_GiB": _peak_bytes(order, found) / 2**30,
                "disk_GiB": disk_bytes(plan, channels, display=order.job.display) / 2**30,
                "executor": executor,
                "workers": workers,
                **_gpu_row(found),
                "seconds": asdict(found.cost.total(workers)) if found.cost else None,
                "notices": list(found.notices),
            }
        )
    return {"images": rows, "notices": notices}


def _peak_bytes(order: Order, found: Survey) -> int:
    at_once = min(max(1, order.job.threads), PLACEMENTS)
    held = {"doubt": found.doubt_bytes, "tested": found.tested, "at_once": at_once}
    return process_bytes(found.plan, order.n_file_channels, **held, display=order.job.display)


def _outlines(config_path: Path, overrides: Sequence[str]) -> list[tuple[Order, Survey]]:
    config = load_config(config_path, overrides)
    found = []
    specs = resolve_sources(config)
    cubes_of(config, specs)
    for spec in specs:
        order = order_of(config, spec)
        with temporary_job(order) as job, Stop() as stop, stoppable(stop.requested):
            found.append((order, rehearsed_survey(order, job, outline)))
    return found


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
