"""Kill the whole process group at random moments; a rerun finishes with the same bytes (promise P5)."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest

from pipeline.plan.workdir import WorkFolder
from tests.helpers import blobs, command, result_hash, run_config, smooth, write_image
from tests.processes import Hold, Running, blocks_held, outlived

KILLS = {"serial": 16, "local": 4}


ONE, MANY = (64, 72), (136, 120)
"""Images of some 70 and 180 blocks: enough to be ended once, and twenty times."""


def _config(folder: Path, shape: tuple[int, int] = ONE) -> Path:
    """An image with holes all over, cut into small blocks."""
    image = write_image(folder / "image.tif", smooth((2, *shape)))
    mask = write_image(folder / "mask.tif", blobs(shape, n=shape[0] * shape[1] // 84, radius=2)[None])
    return run_config(folder, image, mask, compute={"block": 8, "workers": 2})


def _committed(workdir: Path) -> list[int]:
    """Blocks of all complete journal lines, repetitions included."""
    lines = [line for f in WorkFolder(workdir).journal.glob("*.jsonl") for line in f.read_bytes().split(b"\n")]
    found = []
    for line in lines:
        try:
            found.append(int(json.loads(line)["block"]))
        except ValueError:
            continue
    return found


def _kill(process: Running) -> None:
    group = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.end()
    # what one of them was just writing is written first
    assert not outlived(group)


def _calm(folder: Path, shape: tuple[int, int] = ONE) -> str:
    """Return the hash of a run that nobody disturbs."""
    outcome = command("run", _config(folder, shape), "--quiet")
    assert outcome.code == 0, outcome.err
    return result_hash(folder / "out" / "image")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The hash of a run of the smaller image that nobody disturbed."""
    return _calm(tmp_path_factory.mktemp("calm"))


@pytest.mark.slow
def test_twenty_kills_and_the_same_bytes(tmp_path, tmp_path_factory, nursery):
    """SIGKILL to the group during survey, blocks and between; each committed block is computed once only."""
    config, draw = _config(tmp_path, MANY), random.Random(7)
    workdir = tmp_path / "out" / ".work" / "image"
    executors = [name for name, n in KILLS.items() for _ in range(n)]
    draw.shuffle(executors)
    killed_with_progress = 0
    for k, executor in enumerate(executors):
        before = len(_committed(workdir))
        wanted = draw.randint(0, 5)
        setting = f"compute.executor={executor}"
        # what is left lasts for the other kills, even if this process is not looked at for a while
        hold = blocks_held(executor, wanted + 3)
        process = nursery.start("run", config, "--set", setting, "--quiet", errors=tmp_path / "err", hold=hold)
        if k == 0:
            reached = process.wait_for((workdir / "state.zarr").exists)
        else:
            reached = process.wait_for(lambda b=before, w=wanted: len(_committed(workdir)) >= b + w)
        assert reached, f"the run ended after {k} kills: {process.err}"
        _kill(process)
        killed_with_progress += len(_committed(workdir)) > before
        assert not (tmp_path / "out" / "image").exists(), "results appeared before they were complete"
    assert killed_with_progress >= 10
    (status,) = json.loads(command("status", tmp_path / "out", "--json").out)["images"]
    assert (status["state"], status["done"]) == ("interrupted", len(set(_committed(workdir))))
    outcome = command("run", config, "--quiet")
    assert outcome.code == 0, outcome.err
    assert result_hash(tmp_path / "out" / "image") == _calm(tmp_path_factory.mktemp("calm"), MANY)
    kept = tmp_path / "out" / "image" / ".work"
    counts = Counter(_committed(kept))
    plan = json.loads((kept / "plan.json").read_text())
    assert sorted(counts) == list(range(len(plan["blocks"])))
    assert set(counts.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True), (signal.SIGHUP, True)])
@pytest.mark.parametrize("executor", ["serial", "local"])
def test_a_polite_stop_is_130_and_resumable(tmp_path, expected, nursery, executor, number, group):
    """A scheduler's SIGTERM, Ctrl-C and a closed terminal end in order: exit 130, nothing published, then the same."""
    config = _config(tmp_path)
    workdir = tmp_path / "out" / ".work" / "image"
    setting, hold = f"compute.executor={executor}", blocks_held(executor, 20)
    process = nursery.start("run", config, "--set", setting, errors=tmp_path / "err", hold=hold)
    assert process.wait_for(lambda: len(_committed(workdir)) >= 3), process.err
    (os.killpg if group else os.kill)(process.pid, number)
    process.release()
    assert process.end() == 130, process.err
    assert "again to continue" in process.err
    assert "Traceback" not in process.err
    assert not (tmp_path / "out" / "image").exists()
    done = len(_committed(workdir))
    outcome = command("run", config, "--quiet")
    assert outcome.code == 0, outcome.err
    assert result_hash(tmp_path / "out" / "image") == expected
    counts = Counter(_committed(tmp_path / "out" / "image" / ".work"))
    assert set(counts.values()) == {1}
    assert done < len(counts)


@pytest.mark.slow
def test_a_kill_while_files_are_written(tmp_path, expected, nursery):
    """Killed after the last block: the rerun computes nothing and publishes the same files."""
    config = _config(tmp_path)
    workdir = tmp_path / "out" / ".work" / "image"
    hold = Hold(function="pipeline.run.publish")
    process = nursery.start("run", config, "--quiet", errors=tmp_path / "err", hold=hold)
    assert process.wait_for((workdir / "ready").exists), process.err
    _kill(process)
    assert not (tmp_path / "out" / "image" / "record.json").exists()
    before = sorted(_committed(workdir))
    outcome = command("run", config, "--quiet")
    assert outcome.code == 0, outcome.err
    assert result_hash(tmp_path / "out" / "image") == expected
    assert sorted(_committed(tmp_path / "out" / "image" / ".work")) == before


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path, expected, nursery):
    """SIGKILL to the worker process: its nanny starts another, the run ends by itself with the same bytes."""
    config = _config(tmp_path)
    workdir = tmp_path / "out" / ".work" / "image"
    # one worker: without another the run would not end
    settings = ("--set", "compute.executor=local", "--set", "compute.workers=1")
    hold = blocks_held("local", 20)
    process = nursery.start("run", config, *settings, "--quiet", errors=tmp_path / "err", hold=hold)
    assert process.wait_for(lambda: len(_committed(workdir)) >= 3), process.err
    victim = int(next(WorkFolder(workdir).journal.glob("*.jsonl")).stem.rsplit("-", 1)[1])
    assert victim != process.pid
    os.kill(victim, signal.SIGKILL)
    process.release()
    assert process.end() == 0, process.err
    assert result_hash(tmp_path / "out" / "image") == expected
    workers = {path.stem for path in WorkFolder(tmp_path / "out" / "image" / ".work").journal.glob("*.jsonl")}
    assert len(workers) >= 2


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_second_stop_while_workers_start_ends_at_once(tmp_path, expected, nursery, number, group):
    """Exit 130 where the survey stands; no worker is left, half started or not, and the rerun is the run."""
    config, send = _config(tmp_path), os.killpg if group else os.kill
    hold = Hold(function="pipeline.survey.survey.self_test")
    process = nursery.start("run", config, "--set", "compute.executor=local", errors=tmp_path / "err", hold=hold)
    leader = psutil.Process(process.pid)
    # the first child is Python's own, the others are the two workers, which import for seconds
    assert process.wait_for(lambda: process.held and len(leader.children(recursive=True)) > 2), process.err
    send(process.pid, number)
    assert process.wait_for(lambda: "press Ctrl-C again" in process.err), process.err
    workers = leader.children(recursive=True)
    send(process.pid, number)
    assert process.end() == 130, process.err
    assert not outlived(workers)
    assert "again to continue" in process.err
    assert "Traceback" not in process.err
    assert not (tmp_path / "out" / "image").exists()
    outcome = command("run", config, "--quiet")
    assert outcome.code == 0, outcome.err
    assert result_hash(tmp_path / "out" / "image") == expected
