"""Adapt the shipped weights to one's own image, restore it with them: the story of docs/training.md; stop and go on."""

from __future__ import annotations

import json
import os
import re
import select
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.helpers import blobs, command, layer, pixels, smooth, write_image
from tests.processes import Hold, Nursery, outlived

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
SHAPE = (112, 144)


@pytest.mark.slow
def test_weights_are_adapted_to_an_image_and_used_on_it(tmp_path):
    """The four lines of the page train; the run takes the weights, its self-test judges them, observed pixels stay."""
    grain = np.random.default_rng(1).integers(0, 200, (2, *SHAPE), dtype=np.uint16)
    truth = smooth((2, *SHAPE)) + grain
    hole = blobs(SHAPE, n=4, radius=5) > 0
    image = write_image(tmp_path / "scene.tif", np.where(hole, 0, truth).astype(truth.dtype))
    write_image(tmp_path / "clouds.tif", hole[None].astype(np.uint8))
    four = re.search(r"```yaml\n(name:.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert four is not None
    quick = "steps: 4\nvalidate_every: 2\ntile: 48\npatch: 32\nmasks_per_tile: 2\nbatch: 2\n"
    (tmp_path / "train_mine.yaml").write_text(four[1] + quick)
    trained = command("train", tmp_path / "train_mine.yaml", "--json")
    assert trained.code == 0, trained.err
    facts = json.loads(trained.out)
    assert facts["gain_db"]["mean"] >= facts["gain_db_at_start"]["mean"]
    # the last word, for people and in the card
    assert facts["verdict"].startswith("the training ")
    assert facts["verdict"] in " ".join((tmp_path / "mine.yaml").read_text().split())
    config = tmp_path / "run.yaml"
    config.write_text(
        "input: {source: scene.tif}\n"
        "mask: [{kind: raster, path: clouds.tif}]\n"
        "model: {kind: autoencoder, weights: mine.safetensors}\n"
        "compute: {executor: serial}\n"
        "output: {directory: out}\n"
    )
    ran = command("run", config)
    assert ran.code == 0, ran.err
    record = json.loads((tmp_path / "out" / "scene" / "record.json").read_text())
    assert any("mine" in row["method"] for row in record["self_test"]["methods"])
    restored = pixels(layer(tmp_path / "out" / "scene", "restored"))
    assert np.array_equal(restored[:, ~hole], pixels(image)[:, ~hole])
    assert command("verify", tmp_path / "out").code == 0


STOPPED = """
name: small
validate_on: [{synthetic: optical, count: 1, seed: 50}]
base_fill: {kind: tension, t: 0.5}
masks: {points: 1}
kriging: {}
tile: 64
patch: 32
masks_per_tile: 4
bands_per_mask: 2
network: {widths: [8, 12], bottom_units: 1}
batch: 4
steps: 150
validate_every: 5
checkpoint_every: 1000
bfloat16: false
device: cpu
loaders: 2
output: small.safetensors
cache: cache
"""
MANY, FEW = "train: [{synthetic: optical, count: 40}]\n", "train: [{synthetic: optical, count: 4}]\n"
FILLS, STEPS = "for training: cutting and filling", "step 5:"


def _ended(nursery: Nursery, config: Path, words: str, end: Callable[[int], None]) -> tuple[int, str]:
    """Train until stderr says the words and processes are at work, then end it; return exit code and rest of stderr."""
    # it is not done before it is ended, however slow this process is to do that
    hold = Hold(function="pipeline.training.loop._one_step", call=20)
    process = nursery.start("train", config, "--resume", errors=config.with_suffix(".err"), hold=hold)
    assert process.wait_for(lambda: words in process.err), f"ended before it said {words!r}: {process.err}"
    leader = psutil.Process(process.pid)
    assert process.wait_for(lambda: len(leader.children()) >= 2), process.err
    children = leader.children()
    end(process.pid)
    process.release()
    code = process.end()
    assert not outlived(children)
    return code, process.err.partition(words)[2]


def _term(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _term_group(pid: int) -> None:
    os.killpg(pid, signal.SIGTERM)


def _interrupt_group(pid: int) -> None:
    os.killpg(pid, signal.SIGINT)


def _hang_up_group(pid: int) -> None:
    os.killpg(pid, signal.SIGHUP)


def _interrupt_twice(pid: int) -> None:
    os.killpg(pid, signal.SIGINT)
    select.select([], [], [], 0.1)
    os.killpg(pid, signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "end", "code"),
    [
        (FILLS, _term, 130),
        (FILLS, _term_group, 130),
        (FILLS, _interrupt_twice, 130),
        (FILLS, _kill, -signal.SIGKILL),
        (STEPS, _term_group, 130),
        (STEPS, _interrupt_group, 130),
        (STEPS, _hang_up_group, 130),
        (STEPS, _kill, -signal.SIGKILL),
    ],
)
def test_no_process_outlives_a_training(tmp_path, nursery, words, end, code):
    """Whoever ends it, however, and whatever it does; nothing is left, and a polite end says so."""
    (tmp_path / "train.yaml").write_text(STOPPED + (MANY if words == FILLS else FEW))
    ended, rest = _ended(nursery, tmp_path / "train.yaml", words, end)
    assert ended == code, rest
    assert "Traceback" not in rest
    if code == 130:
        assert "inpaint-pipeline: " in rest
    if end in (_term, _term_group, _interrupt_group, _hang_up_group):
        assert "stopped" in (tmp_path / "small.log").read_text().splitlines()[-1]


@pytest.mark.slow
def test_a_training_told_to_stop_goes_on_where_it_was(tmp_path, nursery):
    """After SIGTERM while steps are taken `--resume` ends with the same bytes as a training that never stopped."""
    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.yaml").write_text(STOPPED + FEW)
    code, rest = _ended(nursery, tmp_path / "stopped" / "train.yaml", STEPS, _term)
    step = re.search(r"stopped at step (\d+); --resume continues", rest)
    assert code == 130, rest
    assert step is not None, rest
    assert 5 <= int(step[1]) < 150
    done = command("train", tmp_path / "stopped" / "train.yaml", "--resume")
    assert done.code == 0, done.err
    assert f"continued from step {step[1]}" in done.err
    straight = command("train", tmp_path / "straight" / "train.yaml", "--quiet")
    assert (straight.code, straight.err) == (0, "")
    first, second = ((tmp_path / name / "small.safetensors").read_bytes() for name in ("straight", "stopped"))
    assert first == second
