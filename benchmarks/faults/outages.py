"""What a cluster does to runs, at random moments: every kind of loss in turn, on a real Slurm started for it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psutil

from benchmarks.faults.attacks import Tally
from benchmarks.faults.scenes import Attacked, attacked
from pipeline.errors import ClusterGone, PlanRefused
from pipeline.plan.workdir import WorkFolder
from tests import slurm
from tests.cluster import scheduler
from tests.faults.test_kill import _committed
from tests.helpers import command
from tests.processes import Nursery, Running

_SHARES = 3
_WORKERS = 2
_IN_FLIGHT = 2 * _WORKERS
"""Blocks that workers may have in hand: what may be computed again for each process that took another's place."""
_HANG_S = 300.0
_PATIENCE_S = 60.0
"""Jobs of a client that was killed are gone by then."""
_SLURM = {
    "executor": "slurm",
    "workers": str(_WORKERS),
    "memory_per_worker": "1 GiB",
    "slurm.interface": "lo",
    "slurm.death_timeout": "15",
    "slurm.start_timeout": "90",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a loss happens: a scene, the Slurm, and what is drawn."""

    scene: Attacked
    conf: Path
    nursery: Nursery
    draw: random.Random

    def start(self, *arguments: str, **settings: str) -> Running:
        """Start a command on the scene's config with keys of `compute` set."""
        sets = [part for key, value in settings.items() for part in ("--set", f"compute.{key}={value}")]
        errors = self.scene.config.parent / f"err-{time.monotonic_ns()}"
        return self.nursery.start(*arguments, self.scene.config, "--quiet", *sets, errors=errors)

    def on_jobs(self, directives: str = "[--gres=gpu:1]", **more: str) -> Running:
        """Start a run on two jobs, each with a GPU."""
        return self.start("run", **{**_SLURM, "slurm.job_extra_directives": directives, **more})

    def later(self, process: Running, most: float) -> bool:
        """Wait for a random time up to `most` seconds; says whether the process still runs then."""
        until = time.monotonic() + self.draw.uniform(0, most)
        return process.wait_for(lambda: time.monotonic() > until)

    def jobs(self) -> list[str]:
        """Return the numbers of the jobs that run."""
        return slurm.ask(self.conf, "squeue", "--noheader", "--states=R", "--format", "%i").split()

    def workers(self) -> set[str]:
        """Return the processes that have finished a block."""
        return {path.stem for path in WorkFolder.running(self.scene.out, "image").journal.glob("*.jsonl")}

    def done(self) -> int:
        """Return how many blocks are committed."""
        return len(_committed(self.scene.out / ".work" / "image"))

    def midway(self, process: Running) -> bool:
        """Wait until jobs run, or until they compute, and a random time more."""
        reached, most = self.draw.choice(((self.jobs, 6.0), (self.done, 2.0)))
        return process.wait_for(reached) and self.later(process, most)


Outage = Callable[[Stage], "str | None"]
"""Makes one loss; returns what was wrong, "" if nothing was, None if the run was through before."""


def _expect(process: Running, *codes: int) -> str:
    try:
        code = process.end()
    except AssertionError:
        _killed(process, group=True)
        return f"no end within {_HANG_S:.0f} s: {process.err.strip()[-300:]}"
    return "" if code in codes else f"exit {code} instead of {codes}: {process.err.strip()[-300:]}"


def _local_worker(stage: Stage) -> str | None:
    process = stage.start("run", executor="local", workers=str(_WORKERS))
    if not process.wait_for(lambda: _workers_of(process)) or not stage.later(process, 3.0):
        return None
    before = stage.done()
    for victim in _workers_of(process)[:1]:
        _kill(victim)
    # before the first block the cluster may be given up, which says so
    return _expect(process, 0, *(() if before else (ClusterGone.exit_code,)))


def _workers_of(process: Running) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [c for c in psutil.Process(process.pid).children() if "spawn_main" in " ".join(c.cmdline())]
    return []


def _job_worker(stage: Stage) -> str | None:
    process = stage.on_jobs()
    if not stage.midway(process):
        return None
    victims = [found for found in psutil.process_iter() if "dask_worker" in _words(found) and _is_of(found, stage)]
    if not victims:
        return None if process.poll() is not None else _expect(process, 0)
    _kill(stage.draw.choice(victims))
    return _expect(process, 0)


def _client(stage: Stage) -> str | None:
    process = stage.on_jobs()
    return _killed(process, group=False) if stage.later(process, 10.0) else None


def _group(stage: Stage) -> str | None:
    process = stage.start("run", executor="local", workers=str(_WORKERS))
    return _killed(process, group=True) if stage.later(process, 5.0) else None


def _scheduler(stage: Stage) -> str | None:
    with scheduler.running(workers=_WORKERS) as address:
        process = stage.start("run", executor="cluster", scheduler=address)
        if not stage.later(process, 8.0):
            return None
        found = psutil.Process().children(recursive=True)
        for name in ("dask_scheduler", "dask_worker"):
            # workers would look for their scheduler for long; the client has to see that it is gone, before they are
            for child in found:
                if name in _words(child):
                    _kill(child)
            wrong = _expect(process, ClusterGone.exit_code, 0)
        return wrong


def _scancel(stage: Stage) -> str | None:
    process = stage.on_jobs()
    if not stage.midway(process) or not (jobs := stage.jobs()):
        return None
    slurm.ask(stage.conf, "scancel", stage.draw.choice(jobs))
    return _expect(process, 0)


def _signalled(stage: Stage) -> str | None:
    """A signal that somebody sends to a job by hand, to all of its processes."""
    process = stage.on_jobs()
    if not stage.midway(process) or not (jobs := stage.jobs()):
        return None
    name = stage.draw.choice(("USR1", "USR2", "TERM", "INT", "HUP", "KILL"))
    slurm.ask(stage.conf, "scancel", f"--signal={name}", "--full", stage.draw.choice(jobs))
    wrong = _expect(process, 0)
    return f"{name}: {wrong}" if wrong else ""


def _requeued(stage: Stage) -> str | None:
    """A job is put back into the queue, as for one of more importance, and starts again from its beginning."""
    process = stage.on_jobs()
    if not stage.midway(process) or not (jobs := stage.jobs()):
        return None
    slurm.ask(stage.conf, "scontrol", "requeue", stage.draw.choice(jobs))
    return _expect(process, 0)


def _controller(stage: Stage) -> str | None:
    """The controller ends, and is back after some seconds."""
    process = stage.on_jobs()
    if not stage.later(process, 10.0):
        return None
    slurm.lose_controller(stage.conf)
    stage.later(process, 8.0)
    slurm.start_controller(stage.conf)
    # until the nodes have come back to it, it refuses jobs as too large for what it has
    return _expect(process, 0, ClusterGone.exit_code, PlanRefused.exit_code)


def _node(stage: Stage) -> str | None:
    """One node goes with all that runs on it, and is back after some seconds."""
    process = stage.on_jobs("[--gres=gpu:2]")
    if not stage.midway(process):
        return None
    number = stage.draw.randint(1, slurm.NODES)
    slurm.lose_node(stage.conf, number)
    stage.later(process, 8.0)
    slurm.start_node(stage.conf, number)
    return _expect(process, 0)


def _walltime(stage: Stage) -> str | None:
    """All jobs are told that their time is up at the same moment, and killed some seconds later."""
    process = stage.on_jobs()
    if not stage.midway(process) or not (jobs := stage.jobs()):
        return None
    # what Slurm does at the end of the time: SIGTERM, then SIGKILL
    slurm.ask(stage.conf, "scancel", *jobs)
    return _expect(process, 0)


def _asked_to_stop(stage: Stage, number: signal.Signals, code: int) -> str | None:
    process = stage.on_jobs() if stage.draw.random() < 0.5 else stage.start("run", executor="local", workers="2")
    if not stage.later(process, 8.0):
        return None
    os.kill(process.pid, number)
    # the last blocks may be through; before the program listens, a signal does what it always does
    begun = (stage.scene.out / ".work").exists()
    return _expect(process, code, 0, *(() if begun else (-number,)))


def _sigterm(stage: Stage) -> str | None:
    return _asked_to_stop(stage, signal.SIGTERM, 130)


def _sigusr1(stage: Stage) -> str | None:
    return _asked_to_stop(stage, signal.SIGUSR1, 75)


def _share(stage: Stage) -> str | None:
    """One of the shares of an array, also the one that surveys; it is run again, then the files are made."""
    numbers = range(1, _SHARES + 1)
    shares = [stage.start("shard", f"{number}/{_SHARES}", executor="serial") for number in numbers]
    victim = stage.draw.randrange(_SHARES)
    hit = stage.later(shares[victim], 2.0)
    if hit:
        os.killpg(shares[victim].pid, signal.SIGKILL)
    wrong = [_expect(share, 0) for k, share in enumerate(shares) if not (hit and k == victim)]
    shares[victim].end()
    again = command("shard", f"{victim + 1}/{_SHARES}", stage.scene.config, "--quiet")
    files = command("assemble", stage.scene.config, "--quiet")
    wrong += [outcome.err for outcome in (again, files) if outcome.code]
    return "; ".join(filter(None, wrong)) if hit else None


KINDS: dict[str, Outage] = {
    "`kill -9` of a local worker": _local_worker,
    "`kill -9` of a job's worker": _job_worker,
    "`kill -9` of the client of jobs": _client,
    "`kill -9` of the whole group of a local run": _group,
    "`kill -9` of a dask scheduler": _scheduler,
    "`scancel` of a job": _scancel,
    "a signal to a job": _signalled,
    "a job put back into the queue": _requeued,
    "`kill -9` of `slurmctld`, and back": _controller,
    "a node lost with all that runs on it, and back": _node,
    "walltime of all jobs at once": _walltime,
    "SIGTERM to the client": _sigterm,
    "SIGUSR1 to the client": _sigusr1,
    "`kill -9` of a share of an array": _share,
}


def outages(folder: Path, n: int, seed: int, say: Callable[[str], None]) -> Tally:
    """Let `n` losses happen, each to a run of its own, all kinds in turn; then run again until it is through.

    Harm is: a run that does not outlive what it should outlive or ends with a wrong exit code, something half visible,
    other bytes, a file of the user lost, or more blocks computed again than were in flight.
    """
    tally, draw = Tally(), random.Random(seed)
    scene = attacked(folder / "scene", older_result=False)
    untouched = folder / "untouched"
    shutil.copytree(scene.out, untouched)
    with slurm_here() as conf, Nursery() as nursery, mock.patch("tests.processes.DEADLINE_S", _HANG_S):
        stage = Stage(scene=scene, conf=conf, nursery=nursery, draw=draw)
        names = list(KINDS)
        while tally.struck < n:
            name = names[tally.struck % len(names)]
            shutil.rmtree(scene.out)
            shutil.copytree(untouched, scene.out)
            started = time.monotonic()
            found = KINDS[name](stage)
            if found is None:
                continue
            repeated, wrong = _judged(stage, found)
            tally.note(name, repeated=repeated, wrong=wrong)
            say(f"{tally.struck} of {n}: {name}, {time.monotonic() - started:.0f} s, {wrong or 'right'}")
    return tally


@contextlib.contextmanager
def slurm_here() -> Iterator[Path]:
    """Start a Slurm that is found by what this process starts."""
    if absent := slurm.missing():
        raise SystemExit(f"{', '.join(absent)} are not installed: apt install slurmctld slurmd slurm-client munge")
    # sockets have short names
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with slurm.running(Path(folder)) as conf, mock.patch.dict(os.environ, SLURM_CONF=str(conf)):
            yield conf


def _judged(stage: Stage, found: str) -> tuple[int, str]:
    """Run to the end; returns how many blocks were computed again, and what was wrong."""
    scene, wrong = stage.scene, [found]
    if not scene.whole():
        wrong.append("half visible")
    until = time.monotonic() + _PATIENCE_S
    while stage.jobs():
        if time.monotonic() > until:
            wrong.append(f"jobs are left after {_PATIENCE_S:.0f} s")
            slurm.ask(stage.conf, "scancel", "--user", str(os.getuid()))
            break
        time.sleep(0.2)
    slurm.wait_until_ready(stage.conf)
    outcome = command("run", scene.config, "--quiet", "--set", "compute.executor=serial")
    if outcome.code:
        wrong.append(f"the run after it ends with {outcome.code}: {outcome.err.strip()[-300:]}")
        return 0, "; ".join(filter(None, wrong))
    kept = scene.results / WorkFolder.NAME
    repeated = sum(Counter(_committed(kept)).values()) - len(set(_committed(kept)))
    replaced = len(list(WorkFolder(kept).journal.glob("*.jsonl"))) - _WORKERS
    if repeated > _IN_FLIGHT * max(1, replaced):
        wrong.append(f"{repeated} blocks computed again")
    if not scene.right():
        wrong.append("other bytes")
    if scene.lost():
        wrong.append(f"{scene.lost()} files of the user lost")
    return repeated, "; ".join(filter(None, wrong))


def _killed(process: Running, *, group: bool) -> str:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.end()
    return _expect(process, -signal.SIGKILL, 0)


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.kill()


def _words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _is_of(process: psutil.Process, stage: Stage) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("SLURM_CONF") == str(stage.conf)
    return False
