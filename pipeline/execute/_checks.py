"""Whether the workers of a cluster that somebody else set up can do the work: same program, same files."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from distributed import Client

from pipeline import __version__
from pipeline.errors import PlanRefused
from pipeline.execute.base import Work
from pipeline.plan.facts import all_there
from pipeline.plan.workdir import WorkFolder
from pipeline.system.bfloat16 import has_bfloat16
from pipeline.system.gpu import gpus
from pipeline.system.late import seen_in_time

_MATTER = ("dask", "distributed", "numpy", "scipy", "torch", "zarr", "rasterio", "nibabel")
"""Packages of which another version may give other bytes, or does not understand what is sent."""


def check_workers(client: Client, work: Work) -> None:
    """Compare what the workers have with what there is here, before they get anything to do.

    Raises:
        PlanRefused: says which worker lacks what.
    """
    planned = bool(work.digest)
    own = _here(work.workdir, planned=planned)
    asked = {"planned": planned, "look_for_gpus": work.device.startswith("cuda"), "look_for_bfloat16": work.in_bfloat16}
    for address, found in client.run(_here, work.workdir, **asked, on_error="return").items():
        if isinstance(found, OSError):
            # lost meanwhile: as at any other time, what takes its place is made like it
            continue
        if isinstance(found, Exception):
            # what a worker cannot import it reports as text
            if "No module named" not in str(found):
                raise found
            raise PlanRefused(
                f"worker {address} says: {found}; install inpaint-pipeline {own['version']} there"
            ) from found
        if problem := next(_problems(found, own, work), ""):
            raise PlanRefused(f"worker {address} {problem}")


def _problems(found: Mapping[str, Any], own: Mapping[str, Any], work: Work) -> Iterator[str]:
    """Yield what keeps a worker from doing the work and what to do about it, by what `_here` says there and here."""
    here = f"on {found['host']}"
    if not found["plan"]:
        yield (
            f"{here} does not see {work.workdir}; set output.directory (or compute.scratch) to a folder that all nodes "
            "share, under the same path"
        )
    if not found["writes"]:
        yield (
            f"{here} may not write to {work.workdir}; see to the permissions of that folder, and that it is not "
            "mounted read-only there"
        )
    if found["version"] != own["version"]:
        yield f"has inpaint-pipeline {found['version']}, here it is {own['version']}; install the same version on both"
    if work.device.startswith("cuda") and not found["gpus"]:
        yield (
            f'{here} sees no GPU; ask for one a job, e.g. job_extra_directives: ["--gres=gpu:1"], or set '
            "compute.device: cpu"
        )
    if work.in_bfloat16 and not found["bfloat16"]:
        yield (
            f"{here} has a processor that does not compute in bfloat16, as here the network may; ask for nodes of one "
            "kind, or set model.options: {precision: float32} and run again with --overwrite"
        )
    there, ours = found["packages"], own["packages"]
    other = [name for name in _MATTER if there.get(name) != ours.get(name)]
    if other:
        which = ", ".join(f"{name} {there.get(name)} (here {ours.get(name)})" for name in other)
        yield f"has other packages: {which}; use one environment for all"


def _here(
    workdir: str, *, planned: bool = True, look_for_gpus: bool = False, look_for_bfloat16: bool = False
) -> dict[str, Any]:
    """Return what a process has; runs on the workers, too.

    Args:
        workdir: work folder.
        planned: there is a plan to be seen in it; before that, the states of the pixels.
        look_for_gpus: name them.
        look_for_bfloat16: say whether the processor computes in it.
    """
    work = WorkFolder(Path(workdir))
    packages: dict[str, str | None] = {}
    for name in _MATTER:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "plan": work.path.is_dir() and seen_in_time(lambda: all_there(work) if planned else work.state.exists()),
        "writes": os.access(work.path, os.W_OK),
        "version": __version__,
        "packages": packages,
        "host": socket.gethostname(),
        "gpus": gpus() if look_for_gpus else (),
        "bfloat16": look_for_bfloat16 and has_bfloat16(),
    }
