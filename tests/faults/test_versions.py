"""Results and unfinished runs of another version of the program, and of a project whose folder was moved."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.plan.plan import PLAN_VERSION
from tests.helpers import blobs, command, pixels, run_config, smooth, write_image

SHAPE = (40, 46)


@pytest.fixture
def config(tmp_path) -> Path:
    """A config in a folder `project` with two images, whose paths are relative to it."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("a", "b"):
        write_image(folder / f"{name}.tif", smooth((1, *SHAPE), seed=ord(name)))
    write_image(folder / "mask.tif", blobs(SHAPE, n=2, radius=4)[None])
    path = run_config(folder, "a.tif", None, mask=[{"kind": "raster", "path": "mask.tif"}], output={"directory": "out"})
    content = json.loads(path.read_text()) | {"model": {"kind": "constant", "options": {"value": 7}}}
    content["input"]["source"] = [["a.tif"], ["b.tif"]]
    path.write_text(json.dumps(content))
    return path


def _of_another_version(plan: Path) -> None:
    facts = json.loads(plan.read_text())
    plan.write_text(json.dumps(facts | {"version": PLAN_VERSION - 1}))


def test_results_of_another_version(config):
    """`verify` compares their hashes, `report` leaves theirs alone; both go on to other images, and `run` keeps all."""
    out = config.parent / "out"
    assert command("run", config).code == 0
    _of_another_version(out / "a" / ".work" / "plan.json")
    report = (out / "a" / "report.html").read_bytes()
    outcome = command("verify", out)
    assert outcome.code == 0, outcome.err
    assert "a: files: ok" in outcome.out
    assert "a: pixels: not checked" in outcome.out
    assert f"another version of this program (plan version {PLAN_VERSION - 1}, here {PLAN_VERSION})" in outcome.out
    assert "b: recomputed: ok" in outcome.out
    outcome = command("report", out)
    assert (outcome.code, str(out / "a" / ".work" / "plan.json") in outcome.err) == (6, True)
    assert str(out / "b" / "report.html") in outcome.out
    assert str(out / "index.html") in outcome.out
    assert (out / "a" / "report.html").read_bytes() == report
    assert command("run", config).code == 0
    (out / "a" / "a_restored.tif").write_bytes(b"changed")
    assert command("verify", out).code == 1


def _stop(config: Path) -> None:
    with mock.patch("pipeline.run.assemble", side_effect=PipelineError("stopped here")):
        assert command("run", config).code == 5


def test_an_unfinished_run_of_another_version(config):
    """`status` says so and lists the others; `run` ends with 6, and `--overwrite` starts afresh."""
    out = config.parent / "out"
    _stop(config)
    _of_another_version(out / ".work" / "a" / "plan.json")
    outcome = command("status", out, "--json")
    rows = {row["image"]: row for row in json.loads(outcome.out)["images"]}
    assert (outcome.code, sorted(rows), "blocks" in rows["b"]) == (0, ["a", "b"], True)
    outcome = command("run", config)
    assert (outcome.code, "another version of this program" in outcome.err) == (5, True)
    assert command("run", config, "--overwrite").code == 0


def test_a_project_that_was_moved(config):
    """Results are known again, an unfinished run is surveyed again, and what lies at the old place is not read."""
    old = config.parent
    _stop(config)
    new = old.rename(old.parent / "moved")
    # somebody else's image at the old place
    write_image(old.parent / "a.tif", np.full((1, *SHAPE), 9, "uint16"))
    old.mkdir()
    (old.parent / "a.tif").rename(old / "a.tif")
    outcome = command("run", new / config.name)
    assert outcome.code == 0, outcome.err
    assert f"reads {old / 'a.tif'}, which lies elsewhere now; the survey is made again" in outcome.err
    values, made = pixels(new / "a.tif"), pixels(new / "out" / "a" / "a_restored.tif")
    hole = pixels(new / "mask.tif")[0] != 0
    assert (values[0] == made[0])[~hole].all()
    assert (made[0] == 7)[hole].all()
    record = (new / "out" / "a" / "record.json").read_bytes()
    again = new.rename(old.parent / "again")
    outcome = command("verify", again / "out")
    assert outcome.code == 4, outcome.err
    assert "a: files: ok" in outcome.out
    assert f"{new / 'a.tif'}" in outcome.out
    assert command("run", again / config.name).code == 0
    assert (again / "out" / "a" / "record.json").read_bytes() == record
