"""`executor: cluster`: schedulers that run already, are not there, lose their workers, or cannot do the work."""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from distributed import Client
from distributed.comm import CommClosedError
from numpy.typing import NDArray

from pipeline.errors import ConfigError, PlanRefused
from pipeline.execute import _checks, _jobs
from pipeline.execute._crew import crew_of
from pipeline.execute._watch import log_hint
from pipeline.execute.base import Work
from pipeline.plan.workdir import WorkFolder
from tests.cluster.scheduler import running
from tests.faults.test_kill import _calm, _config
from tests.helpers import command, result_hash


def _sets(**settings: str) -> list[str]:
    return [part for key, value in settings.items() for part in ("--set", f"compute.{key}={value}")]


@pytest.mark.slow
def test_workers_of_a_running_scheduler_give_the_same_bytes(tmp_path):
    """One hash with a run in one process, self-test included; an open scheduler and idle threads are said."""
    (tmp_path / "calm").mkdir()
    config = _config(tmp_path)
    with running(workers=2, threads=2) as address:
        outcome = command("run", config, *_sets(executor="cluster", scheduler=address))
        _lose_a_worker(tmp_path, address)
    assert outcome.code == 0, outcome.err
    record = json.loads((tmp_path / "out" / "image" / "record.json").read_text())
    assert record["self_test"]["computed_by"] == {"executor": "cluster", "workers": 2}
    assert "is not protected" in outcome.err
    assert "start workers with --nthreads 1" in outcome.err
    assert result_hash(tmp_path / "out" / "image") == _calm(tmp_path / "calm")


def _lose_a_worker(folder: Path, address: str) -> None:
    """Have a worker end in the middle of a window: another one does what it had, also what it had done."""
    work = Work(workdir=str(folder), digest="", blocks=())
    WorkFolder(folder).state.mkdir()
    with Client(address) as client, crew_of(client, work, patience_s=300) as crew:
        given = [(np.full(20_000, k), folder / "lost" if k == 3 else None) for k in range(6)]
        assert [int(some[0]) for some in crew.each(_ends_once, given)] == list(range(0, 12, 2))
    assert (folder / "lost").exists()
    assert not WorkFolder(folder).parcels.exists()


def _ends_once(given: tuple[NDArray[np.int64], Path | None]) -> NDArray[np.int64]:
    values, mark = given
    if mark is not None and not mark.exists():
        mark.touch()
        os._exit(1)
    return 2 * values


def test_no_scheduler_is_named(tmp_path):
    """Exit 2, and which key to set."""
    outcome = command("run", _config(tmp_path), *_sets(executor="cluster"))
    assert outcome.code == 2
    assert "compute.scheduler" in outcome.err


def test_a_scheduler_file_that_is_not_there(tmp_path):
    """Exit 2, with its name."""
    outcome = command("run", _config(tmp_path), *_sets(executor="cluster", scheduler="nowhere.json"))
    assert outcome.code == 2
    assert "nowhere.json" in outcome.err


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer(tmp_path):
    """Exit 75: it may come; the blocks that are done stay."""
    outcome = command("run", _config(tmp_path), *_sets(executor="cluster", scheduler="tcp://127.0.0.1:9"))
    assert outcome.code == 75
    assert "no dask scheduler answers" in outcome.err


@pytest.mark.slow
def test_workers_without_the_program(tmp_path):
    """Exit 3 before anything is computed, with what to install."""
    hidden = tmp_path / "hidden.py"
    hidden.write_text("import sys\nsys.modules['pipeline'] = None\n")
    with running(workers=1, options=["--preload", str(hidden)]) as address:
        outcome = command("run", _config(tmp_path), *_sets(executor="cluster", scheduler=address))
    assert outcome.code == 3, outcome.err
    assert "install inpaint-pipeline" in outcome.err


@pytest.mark.slow
def test_a_scheduler_without_workers(tmp_path):
    """Exit 75, and how to start some."""
    with running(workers=0) as address:
        outcome = command("run", _config(tmp_path), *_sets(executor="cluster", scheduler=address))
    assert outcome.code == 75
    assert "no workers" in outcome.err


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"plan": False}, "does not see /shared/work"),
        ({"writes": False}, "may not write to /shared/work"),
        ({"version": "0.0.1"}, "has inpaint-pipeline 0.0.1"),
        ({"packages": {"numpy": "1.0"}}, "numpy 1.0"),
    ],
)
def test_workers_that_cannot_do_the_work_are_named(found, said):
    """Before anything is computed, with what to do."""
    own = _checks._here("/shared/work") | {"plan": True, "writes": True}
    answer = own | found | {"packages": own["packages"] | found.get("packages", {})}
    client = SimpleNamespace(run=lambda *_, **__: {"tcp://10.0.0.7:1234": answer})
    with pytest.raises(PlanRefused, match=said) as caught:
        _checks.check_workers(client, Work(workdir="/shared/work", digest="", blocks=()))
    assert "10.0.0.7" in str(caught.value)


def test_workers_that_can_are_not_complained_about():
    """Same versions, and the plan is there; one that is lost while it is asked counts as any that is lost."""
    own = _checks._here("/shared/work") | {"plan": True, "writes": True}
    answers = {"a": own, "b": CommClosedError("Stream is closed")}
    client = SimpleNamespace(run=lambda *_, **__: answers)
    _checks.check_workers(client, Work(workdir="/shared/work", digest="", blocks=()))


def test_what_to_install_for_jobs_is_said(monkeypatch):
    """Without dask-jobqueue."""
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ConfigError, match=r"inpaint-pipeline\[slurm\]"):
        _jobs._class("slurm")


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("Submitted batch job 77\n", "77"),
        ("Account 12: 3400 of 5000 hours are left\nSubmitted batch job 77 on cluster c2\n", "77"),
        ("77\n", "77"),
    ],
)
def test_the_number_of_a_job_is_that_of_its_submission(said, number):
    """What wrappers of a site print before is no job: by such a number one of somebody else's would be cancelled."""
    job = _jobs._class("slurm").job_cls
    assert job._job_id_from_submit_output(SimpleNamespace(job_id_regexp=job.job_id_regexp), said) == number


def test_what_makes_jobs_leaves_ctrl_c_to_the_run(monkeypatch):
    """The library takes SIGINT when it is imported: a run would end at once instead of finishing what is in flight."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)
    before = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(_jobs._class, "slurm").result()
    for name in [name for name in sys.modules if name.partition(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)
    again = _jobs._class("slurm")
    assert made.__base__ is not again.__base__, "imported twice: in a thread, and in the main one"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("kind", "more", "lines"),
    [
        (
            "slurm",
            {"queue": "gpu", "job_extra_directives": ["--gres=gpu:1"]},
            ["#SBATCH -p gpu", "#SBATCH --gres=gpu:1"],
        ),
        ("pbs", {"account": "x1", "walltime": "02:00:00"}, ["#PBS -A x1", "#PBS -l walltime=02:00:00"]),
        ("lsf", {"queue": "long"}, ["#BSUB -q long"]),
        ("sge", {"queue": "all.q", "resource_spec": "h_vmem=5G"}, ["#$ -q all.q", "#$ -l h_vmem=5G"]),
    ],
)
def test_job_scripts_ask_for_what_the_config_says(tmp_path, kind, more, lines):
    """In the words of each batch system, one worker of one thread a job, and no key in the script."""
    with _jobs.cluster_of(
        kind, {"interface": "lo", "walltime": "02:00:00", **more}, 2 * 2**30, str(tmp_path)
    ) as cluster:
        script = cluster.job_script()
        keys = list((tmp_path / "jobs").glob("*.key.pem"))
        assert [key.stat().st_mode & 0o777 for key in keys] == [0o600]
        assert keys[0].read_text().splitlines()[1] not in script
    for line in lines:
        assert line in script.splitlines()
    assert "--nthreads 1 " in script
    assert "--lifetime 6900s --lifetime-stagger 100s" in script
    assert "--protocol tls://" in script
    assert not list((tmp_path / "jobs").glob("*.pem"))


def test_two_runs_on_one_machine_do_not_meet(tmp_path):
    """Each scheduler serves HTTP at a port of its own, for its machine alone; a site may want another address."""
    asked = ({}, {}, {"scheduler_options": {"dashboard_address": "127.0.0.1:0"}})
    with ExitStack() as stack:
        for number, more in enumerate(asked):
            settings = {"interface": "lo", **more}
            cluster = stack.enter_context(_jobs.cluster_of("slurm", settings, 2**30, str(tmp_path / str(number))))
            assert cluster.scheduler.http_server.address == "127.0.0.1"
            assert cluster.scheduler.http_server.port not in (0, 8787)


def test_the_site_comes_before_our_defaults_and_the_user_before_the_site(tmp_path):
    """Memory and cores of `~/.config/dask/jobqueue.yaml`."""
    with dask.config.set({"jobqueue.slurm.memory": "7 GiB", "jobqueue.slurm.cores": 2}):
        for section, limit in (({}, "7.00GiB"), ({"memory": "9 GiB"}, "9.00GiB")):
            with _jobs.cluster_of("slurm", {"interface": "lo", **section}, 2**30, str(tmp_path)) as cluster:
                script = cluster.job_script()
            assert f"--memory-limit {limit}" in script
            assert "#SBATCH --cpus-per-task=2" in script


def test_plan_prints_the_job_script(tmp_path):
    """Without an image being opened; for other executors it says what to set."""
    config = _config(tmp_path)
    shown = command("plan", config, "--show-job-script", *_sets(executor="slurm"), "--set", "compute.slurm.queue=gpu")
    assert shown.code == 0, shown.err
    assert "#SBATCH -p gpu" in shown.out
    assert "pipeline" not in shown.err
    assert command("plan", config, "--show-job-script").code == 2


def test_credentials_that_cannot_be_written_are_the_config_s(tmp_path):
    """`shared_temp_directory` names no folder; it was called a bug."""
    config = _config(tmp_path)
    jobs = [*_sets(executor="slurm"), "--set", f"compute.slurm.shared_temp_directory={tmp_path}/none"]
    outcome = command("plan", config, "--show-job-script", *jobs)
    assert outcome.code == 2
    assert f"{tmp_path}/none: credentials of the jobs cannot be written" in outcome.err
    assert "shared_temp_directory" in outcome.err


def test_what_jobs_said_last_stands_in_the_message(tmp_path):
    """Of the newest log that says anything; a Python that is not there, say."""
    assert log_hint(tmp_path) == f"logs of jobs are in {tmp_path}"
    for number, text in enumerate(("old\n", "first\nNo such file: /x/python\n\n", "")):
        log = tmp_path / f"inpaint-worker-{number}.err"
        log.write_text(text)
        os.utime(log, (number, number))
    said = log_hint(tmp_path)
    assert said == f"logs of jobs are in {tmp_path}, inpaint-worker-1.err ends with: No such file: /x/python"


def test_the_logs_are_where_the_config_says(tmp_path):
    """And not in the work folder then."""
    work = Work(workdir=str(tmp_path), digest="", blocks=())
    assert _jobs._logs("slurm", work) == WorkFolder(tmp_path).jobs
    assert _jobs._logs("slurm", replace(work, cluster={"log_directory": "/logs"})) == Path("/logs")
