"""Processes that are killed, stopped or attacked: an error with its exit code; no hang, no traceback, no way in."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import popen_spawn_posix, spawn
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from cryptography import x509
from distributed import Client, Security

from pipeline.errors import ClusterGone, ConfigError, Interrupted, PlanRefused, TimeIsUp
from pipeline.execute import _processes
from pipeline.execute._choose import choose_executor
from pipeline.execute._processes import cluster, credentials, private_folder, without_main
from pipeline.survey.survey import outline, survey
from pipeline.system.signals import HEARD, NEVER, TIME_IS_UP, Stop, stop_if_asked, stoppable
from pipeline.system.threads import each, threaded
from pipeline.training.workers import mapped
from tests.helpers import blobs, command, order_of, run_config, smooth, write_image
from tests.processes import blocks_held, outlived

SHAPE = (64, 72)


def _config(folder: Path, **compute: object) -> Path:
    image = write_image(folder / "image.tif", smooth((2, *SHAPE)))
    mask = write_image(folder / "mask.tif", blobs(SHAPE, n=55, radius=2)[None])
    return run_config(folder, image, mask, compute={"block": 8, **compute})


def _number(task: int) -> int:
    return task


def _tasks_with_a_death() -> Iterator[int]:
    """Yield tasks, and end a process of the pool while all of them wait for the next one."""
    yield 0
    (_, second) = (child for child in multiprocessing.active_children() if isinstance(child, ForkProcess))
    os.kill(second.pid, signal.SIGKILL)
    second.join()
    yield from range(1, 1000)


def test_a_pool_that_loses_a_waiting_process_ends():
    """SIGKILL while it waits for work: the others, which ignore SIGTERM, are ended, and none is waited for forever."""
    with pytest.raises(ClusterGone, match=r"died.*fewer loaders"):
        list(mapped(_number, _tasks_with_a_death(), 2, NEVER))
    assert not multiprocessing.active_children()


def _deaf_to(_: int) -> set[int]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_processes_of_a_pool_are_deaf_from_the_start():
    """A stop of the whole group may come before they ignore it; the training itself hears as before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    (there,) = mapped(_deaf_to, [0], 1, NEVER)
    assert there >= set(HEARD)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _interrupt_once_it_closes(main: int) -> None:
    while "shutdown" not in (frame.name for frame in traceback.extract_stack(sys._current_frames()[main])):
        threading.Event().wait(0.01)
    _interrupt()


def _interrupted_twice(stop: Stop, *, closing: bool) -> Iterator[int]:
    yield 0
    _interrupt()
    assert stop.requested()
    if closing:
        threading.Thread(target=_interrupt_once_it_closes, args=(threading.get_ident(),), daemon=True).start()
    else:
        _interrupt()
    yield 1


def _never_done(task: int) -> None:
    threading.Event().wait()


@pytest.mark.parametrize("closing", [True, False], ids=["while it closes", "before it closes"])
def test_a_pool_that_is_interrupted_again_ends(capfd, closing):
    """A second Ctrl-C in a notebook, with tasks in hand: an exception, and no process stays."""
    before = set(psutil.Process().children())
    with Stop() as stop, pytest.raises(KeyboardInterrupt):
        list(mapped(_never_done, _interrupted_twice(stop, closing=closing), 2, stop))
    assert set(psutil.Process().children()) <= before
    assert "press Ctrl-C again" in capfd.readouterr().err


def test_the_second_signal_does_what_it_did_before():
    """Stopping in good order hands the second one on; SIGTERM, which Python has no handler for, interrupts, too."""
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested()
            for number in (signal.SIGINT, signal.SIGTERM):
                with pytest.raises(KeyboardInterrupt):
                    os.kill(os.getpid(), number)
            assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_terminal_that_closes_is_heard_once_and_under_nohup_never():
    """Shell and kernel both say so, which must not end at once what is to be finished; `nohup` ignores it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with Stop() as stop:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGHUP)
            assert type(stop.told(Interrupted("stopped"))) is Interrupted
            assert stop.requested()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", TIME_IS_UP)
def test_a_job_whose_time_is_nearly_up_is_told_so_as_often_as_one_likes(number):
    """Slurm, Grid Engine, LSF and the kernel have a signal of their own for it; some send it every second."""

    def works(error: Exception | None) -> None:
        with Stop() as stop, stoppable(stop.requested):
            for _ in range(3):
                os.kill(os.getpid(), number)
            if error:
                raise error
            stop_if_asked()

    with pytest.raises(TimeIsUp, match="time is nearly up: stopped; run again") as caught:
        works(None)
    assert caught.value.exit_code == 75
    # what went wrong by itself stays what it is
    with pytest.raises(PlanRefused):
        works(PlanRefused("too large"))


_STAGES = {
    "run": "pipeline.run.survey",
    "evaluate": "pipeline.commands.evaluate.open_scene",
    "plan": "pipeline.commands.plan.outline",
    "shard": "pipeline.run.survey",
}
"""Of each command a stage that may be stopped."""


@pytest.mark.parametrize("verb", list(_STAGES))
@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 75), (signal.SIGTERM, 130)])
def test_every_command_says_why_it_stopped(tmp_path, monkeypatch, verb, number, code):
    """A scheduler submits again what ends with 75; what was stopped by a person is not."""

    def asked(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        stop_if_asked()
        raise AssertionError("went on")

    monkeypatch.setattr(_STAGES[verb], asked)
    outcome = command(verb, *(["1/2"] if verb == "shard" else []), _config(tmp_path))
    assert outcome.code == code, outcome.err
    assert ("time is nearly up" in outcome.err) == (code == 75)
    if verb == "run":
        (entry,) = json.loads((tmp_path / "out" / "run.json").read_text())["sources"]
        assert (entry["state"], entry["exit_code"]) == ("interrupted", code)


def test_only_work_that_may_stop_is_stopped():
    """Outside of a stage that may stop, and in other threads, the question is never asked."""
    stop_if_asked()
    with stoppable(lambda: True):
        with pytest.raises(Interrupted):
            stop_if_asked()
        elsewhere: list[object] = []
        thread = threading.Thread(target=lambda: elsewhere.append(stop_if_asked()))
        thread.start()
        thread.join()
        assert elsewhere == [None]
    stop_if_asked()


def test_the_survey_can_be_stopped_all_along(tmp_path):
    """It asks in every stage, self-test and coarse fill included, and ends wherever it is told to."""
    job = order_of(_config(tmp_path)).job
    places: list[str] = []

    def never() -> bool:
        frame = sys._getframe(2)
        places.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
        return False

    with stoppable(never):
        survey(job)
    wanted = {
        "scan.scan_states", "scan._sample", "scene.window", "site.fill", "errorbars.tested_on", "rim.check_rim",
        "solve.solve_planar", "cells.coarse_values", "survey._blocks", "touched.touched_patches",
    }  # fmt: skip
    assert wanted <= set(places)
    for stage in wanted:
        left = iter(range(places.index(stage)))
        with stoppable(lambda left=left: next(left, None) is None), pytest.raises(Interrupted, match="run again"):
            survey(job)


def test_ctrl_c_in_the_survey_ends_the_run_at_once(tmp_path, monkeypatch, capfd):
    """It says that it was heard, ends with 130 without finishing the survey, and the next run goes on."""
    config = _config(tmp_path)

    def interrupts(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        stop_if_asked()
        raise AssertionError("went on")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.survey.survey.self_test", interrupts)
        outcome = command("run", config)
    assert (outcome.code, "run again" in outcome.err or "again to continue" in outcome.err) == (130, True)
    assert "stopping: what is in flight is finished" in capfd.readouterr().err
    assert command("run", config, "--quiet").code == 0


def test_ctrl_c_in_evaluate_leaves_no_folder(tmp_path, monkeypatch):
    """What it wrote aside is removed, also if it is told to stop."""
    config, aside = _config(tmp_path), tmp_path / "aside"
    aside.mkdir()
    seen = []

    def interrupts(*_: object) -> None:
        seen.extend(aside.iterdir())
        os.kill(os.getpid(), signal.SIGINT)
        stop_if_asked()

    monkeypatch.setattr("tempfile.tempdir", str(aside))
    monkeypatch.setattr("pipeline.commands.evaluate.open_scene", interrupts)
    assert command("evaluate", config).code == 130
    assert len(seen) == 1
    assert not list(aside.iterdir())


_AS_A_PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup
class Signals:
    def find_spec(self, name, path=None, target=None):
        if name == {at!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Signals())
sys.argv = ["inpaint-pipeline", "run", {config!r}]
from pipeline.__main__ import program
program()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("at", ["pipeline.cli", "typer", "pipeline.run", "numpy"])
def test_a_signal_while_libraries_are_imported_is_no_traceback(tmp_path, at, number):
    """Before any command has taken the signals over: 130 and one line."""
    script = _AS_A_PROGRAM.format(at=at, number=int(number), config=str(tmp_path / "run.yaml"))
    (tmp_path / "run.yaml").write_text("{}")
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "inpaint-pipeline: interrupted; run again to continue\n")


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["serial", "local"])
def test_more_signals_end_a_run_at_once(tmp_path, nursery, executor):
    """The second Ctrl-C is 130 within a moment, the third does nothing worse, and no process is left."""
    config = _config(tmp_path, executor=executor, workers=2)
    hold = blocks_held(executor, 4)
    process = nursery.start("run", config, errors=tmp_path / "err", hold=hold)
    assert process.wait_for(lambda: process.held), process.err
    leader = psutil.Process(process.pid)
    children = leader.children()
    assert bool(children) == (executor == "local")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait_for(lambda: "press Ctrl-C again" in process.err), process.err
    os.killpg(process.pid, signal.SIGINT)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    assert process.end() == 130
    assert "Traceback" not in process.err
    assert not outlived(children)


def _refused(address: str, security: Security | None) -> bool:
    try:
        with Client(address, security=security, timeout="5s"):
            return False
    except (OSError, TypeError):
        return True


def _facts(dask_worker: Any = None) -> tuple[int, int, str]:
    return os.getppid(), dask_worker.http_server.port, dask_worker.local_directory


def test_nobody_else_can_use_a_local_cluster():
    """Neither without credentials nor with others of the same kind; it has no pages, and its folder is closed."""
    with cluster(1, 2**30) as client:
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        assert _refused(address.replace("tls://", "tcp://"), None)
        assert _refused(address, credentials())
        ((parent, port, folder),) = client.run(_facts).values()
        assert parent == os.getpid()
        for number in (port, client.cluster.scheduler.http_server.port):
            for page in ("", "status", "health", "metrics", "info/main/workers.html"):
                with pytest.raises(urllib.error.HTTPError, match="404"):
                    urllib.request.urlopen(f"http://127.0.0.1:{number}/{page}")
        private = next(p for p in Path(folder).parents if p.name.startswith("inpaint-workers-"))
        assert private.stat().st_mode & 0o777 == 0o700
    assert not private.exists()


def test_workers_whose_clock_is_wrong_are_let_in():
    """Nodes are minutes apart, clocks are set back: the certificate of a run ends with its key, not by a clock."""
    made = x509.load_pem_x509_certificate(credentials().tls_ca_file.encode())
    assert made.not_valid_before_utc.year <= 1970
    assert made.not_valid_after_utc.year == 9999
    assert credentials().tls_ca_file != credentials().tls_ca_file


def test_a_folder_that_an_ended_run_left_behind_is_removed(tmp_path, monkeypatch):
    """By the next run with workers; what is in use, new, a link, a file or a folder of the user's own stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    elsewhere = tmp_path / "mine"
    (tmp_path / "inpaint-workers-left" / "scratch").mkdir(parents=True)
    (tmp_path / "inpaint-workers-left" / ".made-by-inpaint-pipeline").touch()
    (tmp_path / "inpaint-workers-notes" / "of the user").mkdir(parents=True)
    elsewhere.mkdir()
    (tmp_path / "inpaint-workers-link").symlink_to(elsewhere)
    (tmp_path / "inpaint-workers-file").touch()
    with private_folder() as used:
        (tmp_path / "inpaint-workers-new").mkdir()
        for path in (Path(used), elsewhere, tmp_path / "inpaint-workers-left", tmp_path / "inpaint-workers-notes"):
            os.utime(path, (0, 0))
        with private_folder() as other:
            kept = {path.name for path in tmp_path.iterdir()}
    names = {f"inpaint-workers-{name}" for name in ("link", "file", "new", "notes")}
    assert kept == names | {"mine", Path(used).name, Path(other).name}
    assert {path.name for path in tmp_path.iterdir()} == names | {"mine"}


def test_a_worker_killed_while_the_cluster_starts_is_no_traceback(monkeypatch, capfd):
    """An error that says try again."""
    launched, killed = popen_spawn_posix.Popen._launch, []

    def launched_and_killed(self: Any, process: Any) -> None:
        launched(self, process)
        if not killed:
            killed.append(self.pid)
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(popen_spawn_posix.Popen, "_launch", launched_and_killed)
    with pytest.raises(ClusterGone, match=r"1 worker processes could not be started .*run again"), cluster(1, 2**30):
        pass
    assert killed
    assert "Traceback" not in capfd.readouterr().err


def test_workers_that_do_not_start_in_time_are_said_to_be_late(monkeypatch):
    """As on a machine with far more to do than it can, where the first cause is an empty queue."""
    monkeypatch.setattr(_processes, "_START_SECONDS", 0.01)
    with pytest.raises(ClusterGone, match=r"not there in time: this machine may be busy"), cluster(1, 2**30):
        pass


@pytest.mark.parametrize(
    ("name", "error", "code", "words"),
    [
        ("LocalCluster", OSError(24, "Too many open files"), 75, "Too many open files"),
        ("LocalCluster", RuntimeError("can't start new thread"), 75, "can't start new thread"),
        ("LocalCluster", MemoryError(), 75, "MemoryError"),
        ("tempfile.TemporaryDirectory", OSError(28, "No space left on device"), 75, "No space left.*TMPDIR"),
        ("multiprocessing.get_context", OSError(30, "Read-only file system"), 3, "/dev/shm.*Read-only"),
        ("_key_and_certificate", ImportError("No module named 'cryptography'"), 3, "cryptography.*serial"),
    ],
)
def test_a_cluster_that_cannot_start_says_why(tmp_path, monkeypatch, name, error, code, words):
    """Whatever the machine refuses: the code for now or for good, the reason and a way out."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(f"pipeline.execute._processes.{name}", fails)
    outcome = command("run", _config(tmp_path, executor="local", workers=1), "--quiet")
    assert (outcome.code, "Traceback" in outcome.err) == (code, False), outcome.err
    assert re.search(words, outcome.err)


def test_a_worker_of_a_pool_starts_no_workers(tmp_path, monkeypatch):
    """It may not: `auto` restores in the process itself, however large the image, and `local` says what to set."""
    order = order_of(_config(tmp_path, executor="local"))
    plan = outline(order.job).plan
    automatic = replace(order, executor="auto", workers=2)
    monkeypatch.setattr("pipeline.execute._choose.estimated_seconds", lambda _: 1e6)
    assert choose_executor(automatic, plan, 8)[0] == "local"
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert choose_executor(automatic, plan, 8)[0] == "serial"
    with pytest.raises(ConfigError, match="set it to serial"):
        choose_executor(order, plan, 8)


def test_more_workers_than_a_machine_can_start_are_refused(tmp_path):
    """Never more than there are blocks; and not hundreds on a few cores."""
    order = order_of(_config(tmp_path, executor="local", workers=60_000))
    plan = outline(order.job).plan
    assert choose_executor(order, plan, 3) == ("local", 3)
    with pytest.raises(PlanRefused, match=r"compute\.workers: 60000 .*cores"):
        choose_executor(order, plan, 60_000)
    assert choose_executor(replace(order, workers=2), plan, 60_000) == ("local", 2)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 GiB"),
        RuntimeError("can't start new thread"),
        OSError(12, "x: Cannot allocate memory"),
        RuntimeError("could not create a primitive"),
    ],
)
@pytest.mark.parametrize("where", ["load_config", "survey", "assemble", "write_report"])
def test_a_program_without_memory_says_so(tmp_path, monkeypatch, error, where):
    """Wherever it fails to get any (`ulimit -v`): exit code 3 and what to do; with enough of it the run goes on."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(f"pipeline.run.{where}", fails)
    outcome = command("run", _config(tmp_path))
    assert (outcome.code, "out of memory" in outcome.err) == (3, True), outcome.err
    assert not list((tmp_path / "out").glob("*.error.log"))
    monkeypatch.undo()
    assert command("run", tmp_path / "run.yaml").code == 0


_SOLVE_WITHOUT_MEMORY = """
import os, resource, sys
import numpy as np, scipy.sparse as sp
from pipeline.numerics.solve import solve_planar
from pipeline.system.bounds import is_used_up
line = sp.diags([-1, 2.01, -1], [-1, 0, 1], shape=(100, 100))
matrix = sp.kronsum(line, line, format="csr")
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]) * 2**20,) * 2)
try:
    solve_planar(matrix, np.ones((100 * 100, 1)))
except Exception as error:
    os._exit(3 if is_used_up(error) else 1)
os._exit(0)
"""


@pytest.mark.parametrize(("more", "code"), [(8, 3), (24, 3), (400, 0)])
def test_linear_algebra_without_memory_does_not_wait_for_it(more, code):
    """OpenBLAS asked for its buffer without end where `ulimit -v` refused it: there is an error instead."""
    command_line = [sys.executable, "-c", _SOLVE_WITHOUT_MEMORY, str(more)]
    assert subprocess.run(command_line, check=False, capture_output=True, timeout=150).returncode == code


def test_no_thread_asks_for_a_buffer_that_may_be_refused():
    """Where memory is limited what threads would share out is done one by one."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with threaded(2):
        assert threading.get_ident() not in each(lambda _: threading.get_ident(), [0, 1])
    resource.setrlimit(resource.RLIMIT_DATA, (2**50, before[1]))
    try:
        with threaded(2):
            assert each(lambda _: threading.get_ident(), [0, 1]) == [threading.get_ident()] * 2
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_a_block_without_memory_says_so(tmp_path, monkeypatch):
    """It is not tried again where it would fail again, and is kept apart from what nobody foresaw."""
    tried: list[int] = []

    def fails(workdir: str, digest: str, block: int) -> None:
        tried.append(block)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr("pipeline.execute.base.process_block", fails)
    outcome = command("run", _config(tmp_path))
    assert outcome.code == 5
    assert "out of memory (DefaultCPUAllocator" in outcome.err
    assert len(tried) == len(set(tried))


def test_a_script_that_calls_is_not_run_again_in_its_workers(monkeypatch):
    """Python would begin the file of the calling program anew in each process, with all that it does."""
    script = ModuleType("__main__")
    script.__file__ = __file__
    monkeypatch.setitem(sys.modules, "__main__", script)

    def file_of_main() -> set[str]:
        return {"init_main_from_name", "init_main_from_path"} & set(spawn.get_preparation_data("worker"))

    assert file_of_main()
    with without_main():
        assert not file_of_main()
    assert sys.modules["__main__"] is script
