"""Workers that are jobs of a batch system: one job is one worker process, lost ones are replaced (dask-jobqueue)."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
from distributed import Client, Security

from pipeline.errors import ClusterGone, ConfigError, Interrupted, PlanRefused
from pipeline.execute._crew import crew_of
from pipeline.execute._processes import ROLES, UNWATCHED, credentials, quiet, reason
from pipeline.execute._watch import Watch, log_hint, watched
from pipeline.execute.base import Crew, Work
from pipeline.plan.workdir import WorkFolder

_OURS = ("kind", "start_timeout", "tls", "shared_temp_directory")
"""Keys of the config that dask-jobqueue is not told."""


_SUBMITTED = r"(?s)(?:.*Submitted batch job )?(?P<job_id>\d+)"
"""What sbatch says of a job: wrappers of a site print other numbers before, and jobs are cancelled by their number."""

_POLL_S = 1.0
_SAY_EVERY_S = 30.0
_LEAVE_S = 300
"""How long before its walltime a worker leaves, seconds; a quarter of it, if that is less."""

_LOST_WORKER = "2s"
"""How long a lost worker is waited for before its job is replaced."""


@contextmanager
def jobs_of(kind: str, work: Work, should_stop: Callable[[], bool]) -> Iterator[Crew]:
    """Give `work.workers` jobs, the first of which has started; none is left at the end of the block.

    Args:
        kind: batch system, as dask-jobqueue names it.
        work: see `execute.base`.
        should_stop: turns true when nothing new may start.

    Raises:
        ConfigError: dask-jobqueue is not installed, or an option is not one of this batch system.
        PlanRefused: the batch system refuses the job, or the jobs cannot do the work.
        ClusterGone: no job started in time, too many ended at once, or all are gone; the journal is intact and a rerun
            continues.
        Interrupted: a stop was requested before a job had started.
    """
    if not work.cluster.get("tls", True):
        work.notice("tls: false lets everybody who reaches the scheduler's port run code as you")
    with quiet(), _settings(), cluster_of(kind, work.cluster, work.memory_bytes, work.workdir) as cluster:
        _check_accepted(kind, cluster.job_script())
        with _client(cluster) as client:
            cluster.adapt(minimum_jobs=work.workers, maximum_jobs=work.workers, interval="1s")
            with watched(kind, cluster, work.workers) as watch:
                _wait_for_one(kind, client, work, should_stop, watch)
                logs = _logs(kind, work)
                patience_s = work.cluster.get("start_timeout", 3600.0)
                with crew_of(client, work, patience_s=patience_s, check=partial(watch.check, logs)) as crew:
                    yield crew


@contextmanager
def cluster_of(kind: str, config: Mapping[str, Any], memory_bytes: int, workdir: str) -> Iterator[Any]:
    """Give a cluster without jobs yet, and close it with all that it started.

    Args:
        kind: batch system.
        config: section of the config.
        memory_bytes: bound of one worker.
        workdir: folder of the plan, which the nodes see.

    Raises:
        ConfigError: as `jobs_of`.
    """
    cluster = _class(kind)
    folder = WorkFolder(Path(workdir)).jobs
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with _written_credentials(config, folder) as security:
        try:
            opened = cluster(**_options(kind, config, memory_bytes, folder), security=security)
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            raise ConfigError(f"compute.{kind}: {reason(error)}") from error
        try:
            yield opened
        finally:
            # a cluster whose jobs were refused cannot be closed in good order; what it started ends with this process
            with suppress(Exception):
                opened.close(timeout=10)


@contextmanager
def _written_credentials(config: Mapping[str, Any], folder: Path) -> Iterator[Security | None]:
    """Make credentials of this run in files that only the owner can read, on every node; they go with the cluster.

    Raises:
        ConfigError: they cannot be written where the config says.
    """
    if not config.get("tls", True):
        yield None
        return
    where = Path(config.get("shared_temp_directory") or folder)
    made = credentials().get_tls_config_for_role("worker")
    files: dict[str, Path] = {}
    try:
        try:
            for name in ("ca_file", "cert", "key"):
                handle, path = tempfile.mkstemp(prefix="inpaint-", suffix=f".{name}.pem", dir=where)
                files[name] = Path(path)
                with os.fdopen(handle, "w") as stream:
                    stream.write(made[name])
        except OSError as error:
            raise ConfigError(
                f"{where}: credentials of the jobs cannot be written ({error.strerror or error}); set "
                "shared_temp_directory of the jobs to a folder that this machine and all nodes see"
            ) from error
        roles = {f"tls_{role}_{part}": str(files[part]) for role in ROLES for part in ("cert", "key")}
        yield Security(tls_ca_file=str(files["ca_file"]), require_encryption=True, **roles)
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)


def _class(kind: str) -> Any:
    try:
        # the import takes Ctrl-C, to end the process at once; in threads other than the main one that makes it fail
        with patch.object(signal, "signal"):
            import dask_jobqueue
    except ImportError as error:
        raise ConfigError(
            f"executor {kind} needs dask-jobqueue ({error}); pip install 'inpaint-pipeline[slurm]'"
        ) from error
    names = {name.lower(): name for name in dir(dask_jobqueue)}
    found = getattr(dask_jobqueue, names[f"{kind}cluster"])
    if kind != "slurm":
        return found
    job = type(found.job_cls.__name__, (found.job_cls,), {"job_id_regexp": _SUBMITTED})
    return type(found.__name__, (found,), {"job_cls": job})


def _options(kind: str, config: Mapping[str, Any], memory_bytes: int, folder: Path) -> dict[str, Any]:
    given = {key: value for key, value in config.items() if value is not None and key not in _OURS}
    ours = {
        "cores": 1,
        "memory": f"{int(memory_bytes * 1.25 / 2**20)} MiB",
        "log_directory": str(folder),
    }
    # the site's own configuration comes before ours, and what the user says before both
    usual = {key: value for key, value in ours.items() if _of_site(kind, key) is None}
    options = {"job_name": "inpaint-worker", **usual, **given, "processes": 1}
    asked = {**(_of_site(kind, "scheduler-options") or {}), **given.get("scheduler_options", {})}
    if "dashboard_address" not in asked:
        # no status pages; what a scheduler serves all the same stays on this machine, at a free port
        asked |= {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    options["scheduler_options"] = asked
    if "worker_extra_args" not in given:
        options["worker_extra_args"] = ["--no-dashboard", *_lifetime(kind, config)]
    return options


def _of_site(kind: str, key: str) -> Any:
    return dask.config.get(f"jobqueue.{kind}.{key}", None)


def _lifetime(kind: str, config: Mapping[str, Any]) -> list[str]:
    """Return how workers are told to leave before their walltime is up: not all at once, and with what they hold."""
    said = config.get("walltime") or _of_site(kind, "walltime") or ""
    days, _, clock = said.rpartition("-")
    try:
        parts = [int(days or 0), *(int(part) for part in clock.split(":"))]
    except ValueError:
        return []
    if len(parts) != 4:
        return []
    seconds = ((parts[0] * 24 + parts[1]) * 60 + parts[2]) * 60 + parts[3]
    early = min(_LEAVE_S, seconds // 4)
    return ["--lifetime", f"{seconds - early}s", "--lifetime-stagger", f"{early // 3}s"]


@contextmanager
def _settings() -> Iterator[None]:
    with dask.config.set({**UNWATCHED, "distributed.deploy.lost-worker-timeout": _LOST_WORKER}):
        yield


@contextmanager
def _client(cluster: Any) -> Iterator[Client]:
    try:
        client = Client(cluster)
    except (OSError, TimeoutError, RuntimeError) as error:
        raise ClusterGone(f"the scheduler of the jobs does not answer ({reason(error)}); run again") from error
    try:
        yield client
    finally:
        with suppress(Exception):
            client.close()


_PASSES = (
    "unable to contact slurm controller",
    "socket timed out",
    "zero bytes",
    "standby",
    "temporarily",
    "partition not available",
)
"""What Slurm says, in lower case, where its controller is away or starts, or a partition is closed: nothing against the
job."""
_NO_NODE = "node configuration is not available"
"""What it says where no node could ever run the job, and also as long as all nodes are away."""
_AWAY = ("unk", "down", "drain", "fail", "maint", "error")
"""How the states of nodes begin that take no jobs now; a star behind a state says that the node does not answer."""


def _check_accepted(kind: str, script: str) -> None:
    """Ask the batch system whether it would take the job, where it can say so without taking it.

    Raises:
        PlanRefused: what it says against the job.
        ClusterGone: it does not answer, or takes none now.
    """
    if kind != "slurm":
        return
    try:
        asked = subprocess.run(
            ["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False, timeout=60
        )
    except FileNotFoundError:
        raise PlanRefused("sbatch is not there: this machine has no Slurm; run on its login node") from None
    except subprocess.TimeoutExpired:
        raise ClusterGone("sbatch does not answer within a minute; try again later") from None
    if asked.returncode:
        said = " ".join(asked.stderr.split()) or f"exit {asked.returncode}"
        if any(words in said.lower() for words in _PASSES) or (_NO_NODE in said.lower() and _all_away(script)):
            raise ClusterGone(f"Slurm does not take jobs now: {said}; run again to continue when it does")
        raise PlanRefused(f"Slurm refuses the job: {said}; `plan --show-job-script` prints it, see compute.slurm")


def _all_away(script: str) -> bool:
    """Say whether all nodes that a job may run on are away, as for some time after the controller has started again."""
    partition = re.search(r"^#SBATCH\s+(?:-p|--partition)[ =]*(\S+)", script, re.MULTILINE)
    command = ["sinfo", "--noheader", "--format", "%T", *(["--partition", partition[1]] if partition else [])]
    with suppress(OSError, subprocess.TimeoutExpired):
        states = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout.split()
        return bool(states) and all(state.startswith(_AWAY) or state.endswith("*") for state in states)
    return False


def _wait_for_one(kind: str, client: Client, work: Work, should_stop: Callable[[], bool], watch: Watch) -> None:
    """Wait until a job has started, and say what the queue does.

    Raises:
        ClusterGone, Interrupted: as `jobs_of`.
    """
    started = said = time.monotonic()
    while not client.nthreads():
        if should_stop():
            raise Interrupted("stopped before a job had started; run again to continue")
        watch.check(_logs(kind, work))
        now = time.monotonic()
        if now - started > work.cluster.get("start_timeout", 3600.0):
            raise ClusterGone(
                f"no job started within {now - started:.0f} s ({_queue(kind)}); {log_hint(_logs(kind, work))}; run "
                "again to continue, or raise start_timeout"
            )
        if now - said > _SAY_EVERY_S:
            said = now
            work.notice(f"no job has started yet: {_queue(kind)}")
        time.sleep(_POLL_S)


def _logs(kind: str, work: Work) -> Path:
    """Return the folder of the jobs' logs."""
    elsewhere = work.cluster.get("log_directory") or _of_site(kind, "log_directory")
    return Path(elsewhere) if elsewhere else WorkFolder(Path(work.workdir)).jobs


def _queue(kind: str) -> str:
    """Return what the batch system says of this user's jobs."""
    if kind != "slurm":
        return "see the queue of the batch system"
    command = ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i %T %r"]
    with suppress(OSError, subprocess.TimeoutExpired):
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
        lines = [line for line in found.splitlines() if line.strip()]
        return "; ".join(lines[:3]) if lines else "the queue is empty: jobs end at once"
    return f"`{shlex.join(command)}` does not answer"
