"""Runs on a real Slurm, and what happens to them every day: jobs refused, cancelled, stopped, clients killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import slurm as daemons
from tests.faults.test_kill import _committed
from tests.helpers import blobs, command, result_hash, run_config, smooth, write_image
from tests.processes import DEADLINE_S, Running, blocks_held

pytestmark = pytest.mark.slow

JOBS = {
    "executor": "slurm",
    "workers": 2,
    "memory_per_worker": "1 GiB",
    "slurm": {"interface": "lo", "job_extra_directives": ["--gres=gpu:1"], "start_timeout": 400},
}


def _config(folder: Path, suffix: str = ".tif", **jobs) -> Path:
    """An image with holes all over in 100 blocks and more, computed by two jobs."""
    folder.mkdir(exist_ok=True)
    shape = (100, 100) if suffix == ".tif" else (30, 30, 30)
    image = write_image(folder / f"image{suffix}", smooth((2 if suffix == ".tif" else 1, *shape)))
    mask = write_image(folder / f"mask{suffix}", blobs(shape, n=120, radius=2)[None])
    return run_config(folder, image, mask, compute={"block": 10, **jobs})


@pytest.fixture
def start(nursery, slurm) -> Callable[..., Running]:
    """What runs a config with jobs; while it is held, workers get no more than so many blocks."""

    def started(config: Path, *, blocks: int | None = None) -> Running:
        hold = None if blocks is None else blocks_held("local", blocks + 1)
        environment = {"SLURM_CONF": str(slurm)}
        return nursery.start("run", config, errors=config.with_suffix(".err"), hold=hold, environment=environment)

    return started


def _jobs(conf: Path) -> list[str]:
    return daemons.ask(conf, "squeue", "--noheader", "--states=R", "--format", "%i").split()


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> str:
    """The hash of a run in one process."""
    folder = tmp_path_factory.mktemp("calm")
    assert command("run", _config(folder, executor="serial")).code == 0
    return result_hash(folder / "out" / "image")


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz"])
def test_two_jobs_give_the_bytes_of_one_process(tmp_path, slurm, start, suffix):
    """GeoTIFF and NIfTI, each job with a GPU of its own; no job and no credential is left."""
    serial = _config(tmp_path / "serial", suffix, executor="serial")
    assert command("run", serial).code == 0
    process = start(_config(tmp_path / "jobs", suffix, **JOBS))
    assert process.end() == 0, process.err
    (stem,) = [path.parent for path in (tmp_path / "jobs" / "out").glob("*/record.json")]
    assert result_hash(stem) == result_hash(tmp_path / "serial" / "out" / stem.name)
    assert "Traceback" not in process.err
    assert not (tmp_path / "jobs" / "out" / ".work").exists()
    record = json.loads((stem / "record.json").read_text())
    assert record["self_test"]["computed_by"]["executor"] == "slurm"
    hosts = {path.name for path in (stem / ".work" / "journal").glob("*.jsonl")}
    assert len(hosts) == 2
    assert _eventually_empty(slurm)


def _eventually_empty(conf: Path) -> bool:
    until = time.monotonic() + DEADLINE_S
    while _jobs(conf) and time.monotonic() < until:
        time.sleep(0.2)
    return not _jobs(conf)


def test_a_cancelled_job_is_replaced(tmp_path, slurm, start, expected):
    """`scancel` of one of two: a new job comes within 30 s, at most the blocks in flight are repeated, same bytes."""
    process = start(_config(tmp_path, **JOBS, block=5), blocks=60)
    workdir = tmp_path / "out" / ".work" / "image"
    assert process.wait_for(lambda: len(_committed(workdir)) >= 3 and len(_jobs(slurm)) == 2), process.err
    victim = _jobs(slurm)[0]
    daemons.ask(slurm, "scancel", victim)
    started = time.monotonic()
    assert process.wait_for(lambda: len(set(_jobs(slurm)) - {victim}) == 2), process.err
    assert time.monotonic() - started < 30
    process.release()
    # the journal moves away with the results
    assert process.end() == 0, process.err
    kept = Counter(_committed(tmp_path / "out" / "image" / ".work"))
    assert sum(kept.values()) - len(kept) <= 4
    assert result_hash(tmp_path / "out" / "image") == expected


def test_jobs_cancelled_before_their_worker_has_come_are_replaced(tmp_path, slurm, start, expected):
    """All of them, which no worker tells anybody."""
    process = start(_config(tmp_path, **JOBS))
    assert process.wait_for(lambda: len(_jobs(slurm)) == 2), process.err
    daemons.ask(slurm, "scancel", *_jobs(slurm))
    assert process.end() == 0, process.err
    assert result_hash(tmp_path / "out" / "image") == expected


def test_all_jobs_cancelled_at_once_are_replaced(tmp_path, slurm, start, expected):
    """In the middle of the work, as at the end of a walltime of all of them."""
    process = start(_config(tmp_path, **JOBS), blocks=20)
    workdir = tmp_path / "out" / ".work" / "image"
    assert process.wait_for(lambda: len(_committed(workdir)) >= 3), process.err
    daemons.ask(slurm, "scancel", *_jobs(slurm))
    process.release()
    assert process.end() == 0, process.err
    assert result_hash(tmp_path / "out" / "image") == expected


def test_jobs_that_always_end_at_once_are_given_up_soon(tmp_path, slurm, start):
    """Exit 75 long before start_timeout, and where their logs are."""
    settings = {**JOBS["slurm"], "job_script_prologue": ["exit 1"], "start_timeout": 600}
    process = start(_config(tmp_path, **{**JOBS, "workers": 1, "slurm": settings}))
    assert process.end() == 75, process.err
    assert "5 jobs ended before a worker of theirs had come" in process.err
    assert str(tmp_path / "out" / ".work" / "image" / "jobs") in process.err
    assert _eventually_empty(slurm)


def test_a_lost_node_costs_the_blocks_in_flight(tmp_path, slurm, start, expected):
    """One of two nodes ends with its worker: the other one's goes on, and the bytes are the same."""
    spread = {**JOBS["slurm"], "job_extra_directives": ["--gres=gpu:2"]}
    process = start(_config(tmp_path, **{**JOBS, "slurm": spread}), blocks=20)
    workdir = tmp_path / "out" / ".work" / "image"
    assert process.wait_for(lambda: len(_committed(workdir)) >= 3 and len(_jobs(slurm)) == 2), process.err
    daemons.lose_node(slurm, 1)
    process.release()
    try:
        assert process.end() == 0, process.err
        kept = Counter(_committed(tmp_path / "out" / "image" / ".work"))
        assert sum(kept.values()) - len(kept) <= 4
        assert result_hash(tmp_path / "out" / "image") == expected
    finally:
        daemons.bring_back(slurm, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_or_killed_client_goes_on_where_it_was(tmp_path, slurm, start, expected, number):
    """SIGTERM ends with 130 when the blocks in flight are done; after SIGKILL the jobs end by themselves, too."""
    jobs = {**JOBS, "slurm": {**JOBS["slurm"], "death_timeout": 10}}
    process = start(_config(tmp_path, **jobs), blocks=20)
    workdir = tmp_path / "out" / ".work" / "image"
    assert process.wait_for(lambda: len(_committed(workdir)) >= 3), process.err
    os.kill(process.pid, number)
    process.release()
    assert process.end() == (130 if number == signal.SIGTERM else -number), process.err
    assert _eventually_empty(slurm)
    before = _committed(workdir)
    assert 3 <= len(before) < 90
    assert command("run", tmp_path / "run.yaml", "--set", "compute.executor=serial").code == 0
    after = Counter(_committed(tmp_path / "out" / "image" / ".work"))
    assert max(after.values()) == 1
    assert result_hash(tmp_path / "out" / "image") == expected


def test_workers_that_leave_before_their_time_is_up_are_replaced(tmp_path, slurm, start, expected):
    """The first jobs last 6 seconds: new ones come until all is done, and the bytes are the same."""
    taken = [f"mkdir {tmp_path}/job-{k} 2>/dev/null" for k in range(3)]
    # on a slow machine jobs of 6 seconds would never do anything
    lasts = f"if {' || '.join(taken)}; then lasts=6s; else lasts=3600s; fi"
    arguments = ["--lifetime", "$lasts", "--lifetime-stagger", "1s"]
    settings = {**JOBS["slurm"], "job_script_prologue": [lasts], "worker_extra_args": arguments}
    process = start(_config(tmp_path, **{**JOBS, "slurm": settings}))
    assert process.end() == 0, process.err
    assert result_hash(tmp_path / "out" / "image") == expected


def test_a_run_whose_own_time_is_up_says_so(tmp_path, slurm, start):
    """SIGUSR1, as `--signal=USR1@300` sends it: exit 75 with what is done kept."""
    process = start(_config(tmp_path, **JOBS), blocks=20)
    workdir = tmp_path / "out" / ".work" / "image"
    assert process.wait_for(lambda: len(_committed(workdir)) >= 3), process.err
    os.kill(process.pid, signal.SIGUSR1)
    process.release()
    assert process.end() == 75, process.err
    assert "time is nearly up" in process.err
    assert _eventually_empty(slurm)


def test_a_refused_job_is_said_at_once(tmp_path, slurm, start):
    """Exit 3 with Slurm's own reason; the plan stays, and nothing is left in the queue."""
    process = start(_config(tmp_path, **{**JOBS, "slurm": {"queue": "nosuch", "interface": "lo"}}))
    assert process.end() == 3, process.err
    assert "invalid partition" in process.err.lower()
    assert "Traceback" not in process.err
    assert not _jobs(slurm)


def test_a_job_that_never_runs_is_given_up(tmp_path, slurm, start):
    """More GPUs than are free: exit 75 with the queue's reason after start_timeout."""
    settings = {"interface": "lo", "job_extra_directives": ["--begin=now+1hour"], "start_timeout": 4}
    process = start(_config(tmp_path, **{**JOBS, "slurm": settings}))
    assert process.end() == 75, process.err
    assert "BeginTime" in process.err
    assert daemons.ask(slurm, "squeue", "--noheader").split() == []


EXAMPLES = Path(__file__).parents[2] / "examples" / "slurm"
SUBMITTING = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def _submitted(folder: Path, conf: Path, *command: str) -> str:
    """Submit a script from `folder` and return what the command says."""
    environment = {**SUBMITTING, "SLURM_CONF": str(conf)}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _until(reached, conf: Path, folder: Path) -> None:
    until = time.monotonic() + DEADLINE_S
    while not reached():
        said = "".join(path.read_text() for path in folder.glob("slurm-*.out"))
        assert time.monotonic() < until, said + daemons.ask(conf, "squeue")
        time.sleep(0.2)


def _end_of(job: str, conf: Path) -> str:
    """Return state and exit code of a job, e.g. `FAILED 75:0`; empty while it runs."""
    facts = dict(
        part.split("=", 1) for part in daemons.ask(conf, "scontrol", "show", "job", job).split() if "=" in part
    )
    over = facts.get("JobState") not in ("PENDING", "RUNNING", "COMPLETING")
    return f"{facts['JobState']} {facts['ExitCode']}" if over else ""


@pytest.mark.parametrize(
    ("script", "options"),
    [("run.sbatch", ["--mem=2G"]), ("node.sbatch", ["--cpus-per-task=2", "--mem-per-cpu=2G", "--gres=gpu:2"])],
)
def test_a_submitted_run_ends_with_75_before_its_time_and_goes_on(tmp_path, slurm, expected, script, options):
    """Each ready script: SIGUSR1 to it alone, as `--signal=B:USR1@300` sends it; a second job goes on to the end."""
    config = _config(tmp_path, **JOBS)
    workdir = tmp_path / "out" / ".work" / "image"
    submit = ("sbatch", "--parsable", *options, str(EXAMPLES / script), str(config))
    first = _submitted(tmp_path, slurm, *submit)
    _until(lambda: len(_committed(workdir)) >= 3, slurm, tmp_path)
    daemons.ask(slurm, "scancel", "--signal=USR1", "--batch", first)
    _until(lambda: _end_of(first, slurm), slurm, tmp_path)
    said = (tmp_path / f"slurm-{first}.out").read_text()
    assert _end_of(first, slurm) == "FAILED 75:0", said
    assert "time is nearly up" in said
    before = set(_committed(workdir))
    assert len(before) >= 3
    assert _eventually_empty(slurm)
    second = _submitted(tmp_path, slurm, *submit)
    _until(lambda: _end_of(second, slurm), slurm, tmp_path)
    assert _end_of(second, slurm) == "COMPLETED 0:0", (tmp_path / f"slurm-{second}.out").read_text()
    computed = Counter(_committed(tmp_path / "out" / "image" / ".work"))
    assert {computed[block] for block in before} == {1}
    assert result_hash(tmp_path / "out" / "image") == expected


def test_the_array_script_gives_the_same_bytes(tmp_path, slurm, expected):
    """`examples/slurm/array.sh`: four shares at once, then the files, in jobs that depend on each other."""
    config = _config(tmp_path)
    _submitted(tmp_path, slurm, "bash", str(EXAMPLES / "array.sh"), str(config), "4")
    record = tmp_path / "out" / "image" / "record.json"
    _until(record.exists, slurm, tmp_path)
    assert json.loads(record.read_text())["holes"]["pixels"] > 0
    assert result_hash(tmp_path / "out" / "image") == expected
