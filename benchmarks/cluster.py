"""What a cluster costs beside the work: `python -m benchmarks.cluster [--only NAME] [--blocks N] [--workers N] ...`.

Two measurements need no cluster. A simulated one: the real client loop and the real dask scheduler give blocks to
workers that only wait as long as a block takes, drawn from a log-normal distribution; efficiency is the waiting of all
blocks over workers times wall time. And a resume: how long it takes to load a plan and see in the journal what is done,
how long to sum a finished run up, and the memory of that.

The third lets two workers do nothing: what is left is the processor time of client and scheduler, told for each patch.

The fourth starts a Slurm on this machine: one of two jobs is cancelled (`scancel`) while they compute. How long until
another job runs, and until its worker has finished a block? The fifth lets the same run go over
one job and over two.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import numpy as np
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from pipeline.blocks import journal
from pipeline.blocks.block import BlockResult
from pipeline.execute import _drive
from pipeline.execute._processes import UNWATCHED
from pipeline.execute.base import Work
from pipeline.fills.base import FillSpec
from pipeline.geometry.lattice import Lattice
from pipeline.plan.plan import BlockRow, Plan, load_plan
from pipeline.plan.refs import SourceRef
from pipeline.plan.workdir import WorkFolder
from pipeline.restore.recipe import Recipe
from pipeline.system.facts import peak_rss_bytes
from pipeline.testing import raster_space

ROOT = Path(__file__).resolve().parents[1]
_LARGE = (160, 160)
_LONGEST_S = 600.0
"""A run on a busy machine."""
_SPREAD = 0.5
"""Standard deviation of the logarithm of block times."""
_PATCHES = 21
"""Patches of 256 x 256 pixels, 224 apart, for each block of 1024 x 1024."""


def efficiency(blocks: int, workers: int, block_s: float) -> float:
    """Return the share of the workers' time that blocks take, starts of workers not counted."""
    times = np.random.default_rng(0).lognormal(np.log(block_s), _SPREAD, blocks)
    return float(times.sum() / (workers * driven(times, workers)[0]))


def scheduling_ms(blocks: int) -> float:
    """Return the processor time of client, scheduler and idle workers for each patch of blocks that are all hole."""
    return 1000 * driven(np.zeros(blocks), workers=2)[1] / (blocks * _PATCHES)


def driven(times: NDArray[np.float64], workers: int) -> tuple[float, float]:
    """Return wall and processor seconds of giving blocks to workers that only wait so long for each."""

    def wait(_: Work, block: int) -> BlockResult:
        if times[block]:
            time.sleep(times[block])
        return BlockResult(block=block, patches=0, by_source={}, seconds={"compute": times[block]}, peak_rss_bytes=0)

    done: list[BlockResult] = []
    work = Work(workdir="nowhere", digest="", blocks=tuple(np.argsort(-times).tolist()), workers=workers)
    options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "processes": False}
    with (
        dask.config.set(UNWATCHED),
        LocalCluster(**options, dashboard_address=None, memory_limit=0, silence_logs=50) as cluster,
        Client(cluster) as client,
        mock.patch.object(_drive, "_one", wait),
        mock.patch.object(_drive, "open_workspace"),
        mock.patch.object(_drive, "seen_in_time"),
    ):
        started = time.perf_counter(), time.process_time()
        _drive.drive(client, work, done.append, lambda: False, patience_s=60)
        used = time.perf_counter() - started[0], time.process_time() - started[1]
    assert len(done) == len(times)
    return used


def resume(blocks: int, folder: Path) -> dict[str, float]:
    """Return what a process needs to see where another one ended, and to sum up a finished run; see `looked`."""
    side = int(blocks**0.5)
    shape = (side * 1024,) * 2
    grid = [(i, j) for i in range(side) for j in range(side)]
    plan = Plan(
        workdir=str(folder), source=SourceRef(kind="geotiff", paths=("image.tif",)), space=raster_space(shape),
        recipe=Recipe(fill=FillSpec("tension"), floor=(1.0,), typical=(1.0,), low=(0.0,), high=(1.0,)),
        channels=(0,), n_state=1, dtype="<u2", nodata=(None,), refused=(None,), centre=(0.0,), spread=(1.0,),
        lattice=Lattice(shape=shape, patch=(256, 256), overlap=(32, 32)), spacing=(1.0, 1.0), guess_factor=8,
        block=(1024, 1024), config={}, blocks=tuple(BlockRow(index=index, holes=9, patches=3) for index in grid),
    )  # fmt: skip
    plan.save()
    hashes = dict.fromkeys(("restored", "uncertainty", "origin"), "a" * 64)
    said = {"sha256": hashes, "by_source": {"0": 9}, "seconds": {"read": 0.1}, "patches": 3, "peak_rss_bytes": 1}
    plan.work.journal.mkdir()
    lines = (json.dumps({"block": b, "plan": plan.digest, **said}, sort_keys=True) for b in range(len(grid)))
    whole = b"\n".join(journal.sealed(line.encode()) for line in lines)
    (plan.work.journal / "worker.jsonl").write_bytes(whole + b"\n")
    command = [sys.executable, "-m", "benchmarks.cluster", "--look", str(folder)]
    found: dict[str, float] = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    assert found.pop("blocks") == len(grid)
    return found


def looked(folder: Path) -> dict[str, float]:
    """Return the seconds of loading a plan, of seeing what is done, and of summing it up, and the peak in MB."""
    work = WorkFolder(folder)
    clock = [time.perf_counter()]
    digest = load_plan(work).digest
    clock.append(time.perf_counter())
    blocks = len(journal.numbers(work.journal, digest))
    clock.append(time.perf_counter())
    assert journal.committed(work.journal, digest).totals().patches == 3 * blocks
    clock.append(time.perf_counter())
    seconds = dict(zip(("plan_s", "journal_s", "totals_s"), np.diff(clock).tolist(), strict=True))
    return {"blocks": blocks, **seconds, "peak_mb": peak_rss_bytes() / 1e6}


def replacement(times: int, folder: Path) -> dict[str, list[float]]:
    """Return for each cancelled job the seconds until another runs, and until that one has finished a block."""
    from benchmarks.faults.outages import Stage, slurm_here
    from benchmarks.faults.scenes import attacked
    from tests.processes import Nursery

    found: dict[str, list[float]] = {"running_s": [], "working_s": []}
    for number in range(times):
        # enough blocks for the other job until the new one works
        scene = attacked(folder / str(number), older_result=False, shape=_LARGE)
        with slurm_here() as conf, Nursery() as nursery:
            stage = Stage(scene=scene, conf=conf, nursery=nursery, draw=random.Random(number))
            process = stage.on_jobs()
            assert process.wait_for(lambda stage=stage: len(stage.workers()) == 2), process.err
            before = stage.workers()
            jobs = stage.jobs()
            subprocess.run(["scancel", jobs[0]], check=True)
            cancelled = time.perf_counter()
            running = working = 0.0
            while not working and process.poll() is None:
                now = time.perf_counter() - cancelled
                running = running or (now if set(stage.jobs()) - set(jobs) else 0.0)
                working = now if stage.workers() - before else 0.0
                time.sleep(0.05)
            assert working, f"the run was through before: {process.end()}, {process.err}"
            assert process.end() == 0, process.err
        found["running_s"].append(round(running, 1))
        found["working_s"].append(round(working, 1))
    return found


def jobs(times: int, folder: Path) -> dict[str, Any]:
    """Return the wall seconds of a whole run on one job and on two, in turn, and how busy the machine was."""
    from benchmarks.faults.outages import Stage, slurm_here
    from benchmarks.faults.scenes import attacked
    from tests.processes import Nursery

    found: dict[str, list[float]] = {"one_s": [], "two_s": [], "load": []}
    scene = attacked(folder / "scene", older_result=False, shape=_LARGE)
    with slurm_here() as conf, Nursery() as nursery, mock.patch("tests.processes.DEADLINE_S", _LONGEST_S):
        stage = Stage(scene=scene, conf=conf, nursery=nursery, draw=random.Random(0))
        for _ in range(times):
            for name, workers in (("one_s", "1"), ("two_s", "2")):
                started = time.perf_counter()
                process = stage.on_jobs(workers=workers)
                assert process.end() == 0, process.err
                found[name].append(round(time.perf_counter() - started, 1))
                found["load"].append(round(os.getloadavg()[0], 1))
                shutil.rmtree(scene.results)
    return found


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--blocks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--block-seconds", type=float, default=2.0, help="median")
    parser.add_argument("--journal", type=int, default=1_000_000, help="blocks of the journal")
    parser.add_argument(
        "--only",
        choices=("efficiency", "resume", "scheduling", "replacement", "jobs"),
        help="this one; default: the first two",
    )
    parser.add_argument("--times", type=int, default=3, help="cancelled jobs, or runs on one job and on two")
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look:
        print(json.dumps(looked(options.look)))
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        if options.only in (None, "efficiency"):
            found["efficiency"] = efficiency(options.blocks, options.workers, options.block_seconds)
        if options.only in (None, "resume"):
            found["resume"] = resume(options.journal, Path(folder))
        if options.only == "scheduling":
            found["scheduling_ms"] = scheduling_ms(options.blocks)
        if options.only == "replacement":
            found["replacement"] = replacement(options.times, Path(folder))
        if options.only == "jobs":
            found["jobs"] = jobs(options.times, Path(folder))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
