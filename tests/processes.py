"""Commands in processes that tests may end, forked from one that has imported everything: a start takes no seconds.

Each is what `python -m pipeline ...` is after its imports: an interpreter with a group, signals and an end of its own.
It can be told where to wait: whoever ends it in the middle of something then finds it there, however slow the machine.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

DEADLINE_S = 400.0
"""Nothing takes so long on any machine; below the timeout of a test, as this one tells what the process said."""
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Where a command waits until it is released; signals are heard there."""

    function: str
    """Full name, by which the program calls it."""
    call: int = 1
    """The number of the call that waits."""


_EACH_BLOCK = {"serial": "pipeline.execute.serial.attempt", "local": "pipeline.execute._drive.uuid4"}
"""What an executor calls in the leading process before a block, or a task of several short ones, is computed."""


def blocks_held(executor: str, number: int) -> Hold:
    """Return a hold before a block or task: those before it are computed, it and those after it are not."""
    return Hold(function=_EACH_BLOCK[executor], call=number)


class Nursery:
    """Forks processes of the command; a context manager, in which they can be started."""

    def __enter__(self) -> Nursery:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.communicate()

    def ask(self, **question: Any) -> Any:
        """Return the parent's answer to a question: see `_serve`."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(question) + "\n")
        self._parent.stdin.flush()
        return json.loads(self._parent.stdout.readline())

    def start(
        self,
        *arguments: Path | str,
        errors: Path,
        hold: Hold | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Running:
        """Start `inpaint-pipeline ...` as a process group of its own; its stderr goes to the file `errors`."""
        for path in (_held(errors), _released(errors)):
            path.unlink(missing_ok=True)
        where = hold and [hold.function, hold.call]
        more = {"hold": where, "environment": dict(environment)}
        pid = self.ask(arguments=[str(a) for a in arguments], errors=str(errors), **more)
        return Running(self, pid, errors)


class Running:
    """A command at work; `pid` is also the number of its process group."""

    def __init__(self, nursery: Nursery, pid: int, errors: Path) -> None:
        self.pid, self.code = pid, None
        self._nursery, self._errors = nursery, errors

    @property
    def err(self) -> str:
        """What it has said on stderr so far."""
        return self._errors.read_text() if self._errors.exists() else ""

    @property
    def held(self) -> bool:
        """True once it has come to where it was told to wait."""
        return _held(self._errors).exists()

    def release(self) -> None:
        """Let it go on, or not wait at all."""
        _released(self._errors).touch()

    def poll(self) -> int | None:
        """Return the exit code, minus the signal's number if one ended it; None while it runs."""
        if self.code is None:
            self.code = self._nursery.ask(pid=self.pid)
        return self.code

    def wait_for(self, reached: Callable[[], object]) -> bool:
        """Wait until `reached()` or the end of the process; True if it was reached first."""
        deadline = time.monotonic() + DEADLINE_S
        while self.poll() is None:
            if reached():
                return True
            assert time.monotonic() < deadline, f"no progress within the deadline: {self.err}"
            select.select([], [], [], _LOOK_S)
        return False

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        self.wait_for(lambda: False)
        assert self.code is not None
        return self.code


def outlived(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those of some processes that do not end; one that only nobody has waited for yet has ended."""
    left, deadline = list(processes), time.monotonic() + DEADLINE_S
    while (left := [process for process in left if _lives(process)]) and time.monotonic() < deadline:
        select.select([], [], [], _LOOK_S)
    return left


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def import_everything() -> None:
    """Import all that a command may need, without starting a thread: what is forked afterwards starts at once."""
    # the first optimiser of a process imports the compiler
    import torch._dynamo  # noqa: F401

    import pipeline.run
    import pipeline.shards
    import pipeline.training.loop  # noqa: F401
    from pipeline import registry

    for chapter in ("execute", "fills", "formats", "masks", "models"):
        for kind in registry.kinds(chapter):
            registry.load(chapter, kind)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"imports started {threads - 1} threads, and threads do not survive a fork"


def _serve() -> None:
    """Answer `{"arguments", "errors"}` with the number of a new process, `{"pid"}` with its exit code or null."""
    import_everything()
    for line in sys.stdin:
        question = json.loads(line)
        if "arguments" in question:
            answer = os.fork()
            if answer == 0:
                os.setpgid(0, 0)
                # tests may run under nohup, whose children ignore it
                signal.signal(signal.SIGHUP, signal.SIG_DFL)
                os.environ.update(question["environment"])
                if question["hold"]:
                    _wait_at(*question["hold"], Path(question["errors"]))
                _become(question["arguments"], question["errors"])
                return
            # here, too: whoever asks may send a signal to the group at once
            os.setpgid(answer, answer)
        else:
            pid, status = os.waitpid(question["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)  # noqa: T201


def _held(errors: Path) -> Path:
    return errors.with_name(f"{errors.name}.held")


def _released(errors: Path) -> Path:
    return errors.with_name(f"{errors.name}.released")


def _wait_at(function: str, call: int, errors: Path) -> None:
    """Have a function of the program wait when it is called for the `call`-th time."""
    module, _, name = function.rpartition(".")
    real, calls, parent = getattr(importlib.import_module(module), name), count(1), os.getppid()

    def waits(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            _held(errors).touch()
            # nobody releases what a failed test has left
            while not _released(errors).exists() and os.getppid() == parent:
                select.select([], [], [], _LOOK_S)
        return real(*arguments, **options)

    setattr(sys.modules[module], name, waits)


def _become(arguments: list[str], errors: str) -> None:
    for number, path, mode in ((0, os.devnull, os.O_RDONLY), (1, os.devnull, os.O_WRONLY), (2, errors, os.O_WRONLY)):
        opened = os.open(path, mode | os.O_CREAT | (os.O_TRUNC if number == 2 else 0), 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["inpaint-pipeline", *arguments]
    runpy.run_module("pipeline", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve()
