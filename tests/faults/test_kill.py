"""Kill the whole process group at random moments; a rerun finishes with the same bytes (promise P5)."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.blocks import journal
from tests.helpers import blobs, command, result_hash, run_config, smooth, start, write_image

KILLS = {"serial": 14, "local": 6}
DEADLINE_S = 120.0


def _config(folder: Path) -> Path:
    """An image with holes all over, cut into some 150 small blocks."""
    shape = (120, 112)
    image = write_image(folder / "image.tif", smooth((2, *shape)))
    mask = write_image(folder / "mask.tif", blobs(shape, n=160, radius=2)[None])
    return run_config(folder, image, mask, compute={"block": 8, "workers": 2})


def _committed(workdir: Path) -> list[int]:
    """Blocks of all complete journal lines, repetitions included."""
    lines = [line for f in (workdir / journal.FOLDER).glob("*.jsonl") for line in f.read_bytes().split(b"\n")]
    found = []
    for line in lines:
        try:
            found.append(int(json.loads(line)["block"]))
        except ValueError:
            continue
    return found


def _wait(process: subprocess.Popen[str], reached) -> bool:
    """Poll until `reached()` or the process ends; True if it was reached first."""
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None:
        if reached():
            return True
        assert time.monotonic() < deadline, "no progress within the deadline"
        select.select([], [], [], 0.005)
    return False


def _kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The hash of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    outcome = command("run", _config(folder), "--quiet")
    assert outcome.code == 0, outcome.err
    return result_hash(folder / "out" / "image")


@pytest.mark.slow
def test_twenty_kills_and_the_same_bytes(tmp_path, expected):
    """SIGKILL to the group during survey, blocks and between; each committed block is computed once only."""
    config, draw = _config(tmp_path), random.Random(7)
    workdir = tmp_path / "out" / "image" / ".work"
    executors = [name for name, n in KILLS.items() for _ in range(n)]
    draw.shuffle(executors)
    killed_with_progress = 0
    for k, executor in enumerate(executors):
        before = len(_committed(workdir))
        wanted = draw.randint(0, 5)
        process = start("run", config, "--set", f"compute.executor={executor}", "--quiet")
        if k == 0:
            reached = _wait(process, (workdir / "state.zarr").exists)
        else:
            reached = _wait(process, lambda b=before, w=wanted: len(_committed(workdir)) >= b + w)
        assert reached, f"the run ended after {k} kills: {process.communicate()[1]}"
        _kill(process)
        killed_with_progress += len(_committed(workdir)) > before
        left = {p.name for p in (tmp_path / "out" / "image").iterdir()}
        assert left <= {".work"}, "a file appeared under its final name"
    assert killed_with_progress >= 10
    (status,) = json.loads(command("status", tmp_path / "out", "--json").out)["images"]
    assert (status["state"], status["done"]) == ("interrupted", len(set(_committed(workdir))))
    outcome = command("run", config, "--quiet")
    assert outcome.code == 0, outcome.err
    assert result_hash(tmp_path / "out" / "image") == expected
    counts = Counter(_committed(workdir))
    plan = json.loads((workdir / "plan.json").read_text())
    assert sorted(counts) == list(range(len(plan["blocks"])))
    assert set(counts.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
@pytest.mark.parametrize("executor", ["serial", "local"])
def test_a_polite_stop_is_130_and_resumable(tmp_path, expected, executor, number, group):
    """SIGTERM (a scheduler) and Ctrl-C (the whole group) end in order: exit 130, nothing published, then the same."""
    config = _config(tmp_path)
    workdir = tmp_path / "out" / "image" / ".work"
    process = start("run", config, "--set", f"compute.executor={executor}")
    assert _wait(process, lambda: len(_committed(workdir)) >= 3), process.communicate()[1]
    (os.killpg if group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, err
    assert "again to continue" in err
    assert "Traceback" not in err
    assert {p.name for p in (tmp_path / "out" / "image").iterdir()} == {".work"}
    done = len(_committed(workdir))
    outcome = command("run", config, "--quiet")
    assert outcome.code == 0, outcome.err
    assert result_hash(tmp_path / "out" / "image") == expected
    counts = Counter(_committed(workdir))
    assert set(counts.values()) == {1}
    assert done < len(counts)


@pytest.mark.slow
def test_a_kill_while_files_are_written(tmp_path, expected):
    """Killed after the last block: the rerun computes nothing and publishes the same files."""
    config = _config(tmp_path)
    workdir = tmp_path / "out" / "image" / ".work"
    process = start("run", config, "--quiet")
    reached = _wait(process, (workdir / "ready").exists)
    assert reached, process.communicate()[1]
    _kill(process)
    assert not (tmp_path / "out" / "image" / "record.json").exists()
    before = sorted(_committed(workdir))
    outcome = command("run", config, "--quiet")
    assert outcome.code == 0, outcome.err
    assert result_hash(tmp_path / "out" / "image") == expected
    assert sorted(_committed(workdir)) == before


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path, expected):
    """SIGKILL to one worker process: its nanny starts another, the run ends by itself with the same bytes."""
    config = _config(tmp_path)
    workdir = tmp_path / "out" / "image" / ".work"
    process = start("run", config, "--set", "compute.executor=local", "--quiet")
    assert _wait(process, lambda: len(_committed(workdir)) >= 3), process.communicate()[1]
    victim = int(next((workdir / journal.FOLDER).glob("*.jsonl")).stem.rsplit("-", 1)[1])
    assert victim != process.pid
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert result_hash(tmp_path / "out" / "image") == expected
    workers = {path.stem for path in (workdir / journal.FOLDER).glob("*.jsonl")}
    assert len(workers) >= 2
