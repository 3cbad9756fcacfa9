"""The attacks: each returns how often it struck, and what went wrong."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from benchmarks.faults.scenes import Attacked, attacked
from pipeline.errors import ClusterGone
from pipeline.plan.workdir import WorkFolder
from tests.helpers import command
from tests.processes import Nursery, Running


@dataclass(slots=True)
class Tally:
    """What an attack found."""

    struck: int = 0
    wrong: list[str] = field(default_factory=list)
    """One sentence for each strike that did harm."""
    kinds: dict[str, list[int]] = field(default_factory=dict)
    """If there are several kinds of strikes: strikes of each, harm among them, most blocks computed again by one."""

    def note(self, kind: str, *, repeated: int, wrong: str) -> None:
        """Add one strike."""
        self.struck += 1
        row = self.kinds.setdefault(kind, [0, 0, 0])
        row[:] = [row[0] + 1, row[1] + bool(wrong), max(row[2], repeated)]
        if wrong:
            self.wrong.append(f"strike {self.struck}, {kind}: {wrong}")


def kills(folder: Path, n: int, seed: int, say: Callable[[str], None]) -> Tally:
    """Kill runs with SIGKILL at random moments until they are through; every second run replaces older results.

    A kill hits the whole group, the client alone (the nannies are threads of it; its workers end by themselves) or, if
    there are any, one worker alone: such a run must end by itself, with its results or, before any block, with 75.
    """
    tally, draw = Tally(), random.Random(seed)
    with Nursery() as nursery:
        for number in range(1_000_000):
            scene = attacked(folder / f"kills-{number}", older_result=number % 2 == 1)
            executor = draw.choice(("serial", "serial", "local"))
            _kill_until_done(scene, nursery, executor, draw, tally, n)
            shutil.rmtree(scene.config.parent)
            say(f"kills: {tally.struck} of {n}, {len(tally.wrong)} wrong")
            if tally.struck >= n:
                return tally
    return tally


def _kill_until_done(
    scene: Attacked, nursery: Nursery, executor: str, draw: random.Random, tally: Tally, n: int
) -> None:
    arguments = ("run", scene.config, "--quiet", "--set", f"compute.executor={executor}")
    errors, span = scene.config.parent / "err", 4.0 if executor == "local" else 1.2
    for attempt in range(40):
        extra = ("--overwrite",) if attempt == 0 else ()
        process = nursery.start(*arguments, *extra, errors=errors)
        victim = draw.choice(("group", "client", *(("worker",) if executor == "local" else ())))
        moment = draw.uniform(0.0, span)
        if victim == "worker":
            # most of the time that there are workers they only start
            reached = draw.choice((_workers, partial(_at_work, scene=scene)))
            process.wait_for(partial(reached, process))
            moment /= 4
        stop = time.monotonic() + moment
        ended = not process.wait_for(lambda stop=stop: time.monotonic() > stop)
        if not ended:
            tally.struck += 1
            if victim == "worker":
                ended = _loses_a_worker(process, scene, draw, tally)
            else:
                _kill(process, group=victim == "group")
        if not scene.whole():
            tally.wrong.append(f"half visible after kill {tally.struck}")
        if ended or tally.struck >= n:
            break
    _complete(scene, tally)


def _complete(scene: Attacked, tally: Tally) -> None:
    """Run to the end, and count what is wrong with it."""
    outcome = _settled(("run", scene.config, "--quiet"))
    if outcome:
        tally.wrong.append(outcome)
    elif not scene.right():
        tally.wrong.append(f"other bytes after kill {tally.struck}")
    if scene.lost():
        tally.wrong.append(f"{scene.lost()} files of the user lost by kill {tally.struck}")


def _settled(arguments: tuple[Path | str, ...]) -> str:
    """Run to the end; workers of a killed client may hold on for a moment, and it may have died before it began."""
    for _ in range(200):
        outcome = command(*arguments)
        if outcome.code == 0:
            return ""
        if "use --overwrite" in outcome.err:
            arguments = (*arguments, "--overwrite")
        elif "in use" not in outcome.err:
            break
        time.sleep(0.1)
    return f"exit {outcome.code}: {outcome.err.strip()[-200:]}"


def _workers(process: Running) -> list[psutil.Process]:
    """Return the worker processes of a run, without those of Python itself."""
    try:
        return [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def _at_work(process: Running, scene: Attacked) -> bool:
    """Say whether one of the workers of a run has finished a block."""
    journal = WorkFolder.running(scene.out, "image").journal
    return any(path.stem.endswith(f"-{worker.pid}") for worker in _workers(process) for path in journal.glob("*.jsonl"))


def _loses_a_worker(process: Running, scene: Attacked, draw: random.Random, tally: Tally) -> bool:
    """Kill a worker, if there still is one, and wait for the end of the run; returns whether it came through."""
    at_work, workers = _at_work(process, scene), _workers(process)
    if workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            draw.choice(workers).kill()
    try:
        code = process.end()
    except AssertionError:
        _kill(process, group=True)
    else:
        if code == 0 or (code == ClusterGone.exit_code and not at_work):
            return code == 0
    tally.wrong.append(f"exit {process.code} after kill {tally.struck}, of a worker: {process.err.strip()[-200:]}")
    return False


def _kill(process: Running, *, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.end()


class _Ended(BaseException):
    """Stands for a kill before the files are made."""


def damage(folder: Path, n: int, seed: int, say: Callable[[str], None]) -> Tally:
    """Flip, cut or delete one file of an interrupted run's work folder, or of a finished run; then run again.

    Harm is: exit 0 with other bytes, a traceback, or a file of the user lost.
    """
    tally, draw = Tally(), random.Random(seed)
    scene = attacked(folder / "damage", older_result=True)
    finished, stopped = folder / "finished", folder / "stopped"
    from unittest import mock

    with mock.patch("pipeline.run.assemble", side_effect=_Ended), contextlib.suppress(_Ended):
        command("run", scene.config, "--quiet", "--overwrite")
    shutil.copytree(scene.out, stopped)
    assert command("run", scene.config, "--quiet").code == 0
    shutil.copytree(scene.out, finished)
    for _ in range(n):
        shutil.rmtree(scene.out)
        kept, inside = draw.choice(((stopped, ".work"), (stopped, ".work"), (finished, "image")))
        shutil.copytree(kept, scene.out)
        files = sorted(p for p in (scene.out / inside).rglob("*") if p.is_file() and p not in scene.foreign)
        path = draw.choice(files)
        how = _harm(path, draw)
        name = f"{how} {path.relative_to(scene.out)}"
        tally.struck += 1
        outcome = command("run", scene.config, "--quiet")
        if "Traceback" in outcome.err:
            tally.wrong.append(f"{name}: traceback")
        elif outcome.code == 0 and not scene.right():
            tally.wrong.append(f"{name}: exit 0 with other bytes")
        elif scene.lost():
            tally.wrong.append(f"{name}: {scene.lost()} files of the user lost")
        if tally.struck % 50 == 0:
            say(f"damage: {tally.struck} of {n}, {len(tally.wrong)} wrong")
    return tally


def _harm(path: Path, draw: random.Random) -> str:
    content = bytearray(path.read_bytes())
    how = draw.choice(("flipped", "cut", "deleted")) if content else "deleted"
    if how == "deleted":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: draw.randrange(len(content))])
    else:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    return how
