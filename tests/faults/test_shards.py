"""Shares of a run: started at once, killed, run again, and assembled to the same bytes as one run."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path
from types import MappingProxyType

import pytest

from pipeline.errors import ConfigError
from pipeline.plan.plan import load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.shards import Share
from pipeline.system import late
from tests.faults.test_kill import MANY, _calm, _committed, _config
from tests.helpers import command, result_hash
from tests.processes import Hold, blocks_held

SHARES = 8


@pytest.fixture(autouse=True)
def _files_come_at_once(monkeypatch):
    """All shares run on this machine: what is not there is not awaited."""
    monkeypatch.setattr(late, "LONGEST_S", 0.1)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The hash of one run that nobody disturbed."""
    return _calm(tmp_path_factory.mktemp("calm"), MANY)


def _start(nursery, config: Path, numbers, folder: Path, holds=MappingProxyType({})):
    return [
        nursery.start("shard", f"{k}/{SHARES}", config, errors=folder / f"err-{k}", hold=holds.get(k)) for k in numbers
    ]


@pytest.mark.slow
def test_eight_shares_at_once_one_killed_and_the_same_bytes(tmp_path, nursery, expected):
    """One survey, each block once but for the one in flight; the killed share is run again, then the files are made."""
    config, draw = _config(tmp_path, MANY), random.Random(3)
    workdir = tmp_path / "out" / ".work" / "image"
    # it is not done before it is killed
    shares = _start(nursery, config, range(1, SHARES + 1), tmp_path, {4: blocks_held("serial", draw.randint(2, 10))})
    assert shares[3].wait_for(lambda: shares[3].held)
    os.killpg(shares[3].pid, signal.SIGKILL)
    assert [share.end() for k, share in enumerate(shares) if k != 3] == [0] * (SHARES - 1)
    said = "".join(share.err for share in shares)
    assert said.count("survey: looks") == 1
    assert command("assemble", config).code == 75
    assert [share.end() for share in _start(nursery, config, [4], tmp_path)] == [0]
    repeated = [block for block, times in Counter(_committed(workdir)).items() if times > 1]
    assert len(repeated) <= 1
    outcome = command("assemble", config)
    assert outcome.code == 0, outcome.err
    assert result_hash(tmp_path / "out" / "image") == expected
    assert not (tmp_path / "out" / ".work").exists()


@pytest.mark.slow
def test_the_share_that_surveys_is_killed_and_another_takes_over(tmp_path, nursery, expected):
    """Those that wait for the survey go on by themselves."""
    config = _config(tmp_path, MANY)
    workdir = tmp_path / "out" / ".work" / "image"
    (surveying,) = _start(nursery, config, [1], tmp_path, {1: Hold(function="pipeline.survey.survey.self_test")})
    assert surveying.wait_for(lambda: surveying.held)
    assert (workdir / "state.zarr").exists()
    others = _start(nursery, config, range(2, SHARES + 1), tmp_path)
    for share in others:
        assert share.wait_for(lambda share=share: "waits for another process" in share.err)
    os.killpg(surveying.pid, signal.SIGKILL)
    assert [share.end() for share in others] == [0] * (SHARES - 1)
    assert command("shard", f"1/{SHARES}", config).code == 0
    assert command("assemble", config).code == 0
    assert result_hash(tmp_path / "out" / "image") == expected


def test_what_is_left_of_the_shares_a_run_computes(tmp_path):
    """`run` goes on where the shares ended, and a share finds nothing to do after it."""
    config = _config(tmp_path)
    workdir = tmp_path / "out" / ".work" / "image"
    assert command("shard", "1/3", config).code == 0
    plan = load_plan(WorkFolder(workdir))
    done = _committed(workdir)
    assert len(done) == len(set(done)) == -(-len(plan.blocks) // 3)
    refused = command("assemble", config)
    assert refused.code == 75
    assert f"{len(plan.blocks) - len(done)} of {len(plan.blocks)} blocks are not computed" in refused.err
    # no share of another config would ever complete it
    other = command("assemble", config, "--set", "seed=7")
    assert (other.code, "a run of another config" in other.err) == (6, True)
    assert command("run", config).code == 0
    (calm := tmp_path / "calm").mkdir()
    assert result_hash(tmp_path / "out" / "image") == _calm(calm)
    late = command("shard", "2/3", config)
    assert late.code == 0
    assert "finished before" in late.err
    assert command("assemble", config).code == 0


def test_a_share_of_a_config_for_jobs_asks_for_no_jobs(tmp_path):
    """It is one itself; and an image without holes has shares without blocks."""
    config = _config(tmp_path)
    settings = ("--set", "compute.executor=slurm")
    assert command("assemble", config, *settings).code == 75
    assert "image  failed" in command("status", tmp_path / "out").out
    assert command("shard", "1/1", config, *settings).code == 0
    # what went wrong before is overtaken, and nothing was interrupted
    assert "image  computed" in command("status", tmp_path / "out").out
    assert command("assemble", config, *settings).code == 0
    nothing = ("--set", "mask=[{kind: nodata}]")
    late = ("--set", f"output.directory={tmp_path / 'none'}")
    assert command("shard", "2/3", config, *nothing, *late).code == 0
    assert command("assemble", config, *nothing, *late).code == 0


def test_results_of_another_config_are_not_touched(tmp_path):
    """Exit 6 as in a run; with --overwrite the new ones take their place when they are complete."""
    config = _config(tmp_path)
    assert command("run", config).code == 0
    before = result_hash(tmp_path / "out" / "image")
    other = ("--set", "model.kind=nearest")
    assert command("shard", "1/2", config, *other).code == 6
    for share in ("1/2", "2/2"):
        assert command("shard", share, config, *other, "--overwrite").code == 0
        assert result_hash(tmp_path / "out" / "image") == before
    assert command("assemble", config, *other).code == 0
    assert result_hash(tmp_path / "out" / "image") != before


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "3/", "a/b", "-1/8", "1/0", "3 / 8"])
def test_what_is_no_share_is_said(tmp_path, text):
    """Exit 2, with how to write it."""
    with pytest.raises(ConfigError, match="I/N"):
        Share.of(text)


def test_shares_are_a_partition_and_take_alike():
    """Every block in exactly one share; long ones are spread."""
    blocks = [type("Block", (), {"patches": n})() for n in (9, 1, 1, 1, 9, 9, 1, 1)]
    plan = type("Plan", (), {"blocks": blocks})()
    shares = [Share(k, 3).blocks(plan) for k in (1, 2, 3)]
    assert sorted(block for share in shares for block in share) == list(range(8))
    assert all(sum(blocks[b].patches == 9 for b in share) == 1 for share in shares)
