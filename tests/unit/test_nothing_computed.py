"""`plan` computes no value, and looking at an image reads no pixel: forbidden here, so that it shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline.blocks.store import create_store
from pipeline.commands.inspect import image_table
from pipeline.execute.base import Work
from pipeline.fills.base import FillSpec, Window
from pipeline.formats import open_any
from pipeline.image.open import open_source
from pipeline.image.scene import Clock, open_scene
from pipeline.plan.job import Job
from pipeline.plan.plan import Plan
from pipeline.registry import kinds, load
from pipeline.selftest.setup import self_test, start_recipe
from pipeline.survey import survey as surveying
from pipeline.survey.coarse import coarse_fill
from pipeline.survey.survey import find_model, outline, survey
from pipeline.testing import no_pixels_read, nothing_computed, pixels_read, random_image
from pipeline.testing.formats import options
from pipeline.testing.images import layer_of
from tests.helpers import blobs, command, order_of, run_config, smooth, write_image

SHAPE = (64, 72)


def _config(folder: Path, model: str = "tension") -> Path:
    """An image with a reference, a network to look for, and holes."""
    image = write_image(folder / "image.tif", smooth((2, *SHAPE)))
    other = write_image(folder / "other.tif", smooth((2, *SHAPE), seed=1))
    mask = write_image(folder / "mask.tif", blobs(SHAPE)[None])
    references = {"references": [{"path": str(other)}]}
    return run_config(folder, image, mask, input=references, model={"kind": model})


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """The job of a small image."""
    return order_of(_config(tmp_path)).job


@pytest.mark.parametrize("model", ["tension", "autoencoder", "constant"])
def test_plan_computes_nothing_whatever_the_model(tmp_path: Path, model: str) -> None:
    """No window is cut out and no executor is called, with references and with a network that could be used."""
    with nothing_computed():
        outcome = command("plan", _config(tmp_path, model), "--json")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)["images"]
    assert row["holes"] == int(blobs(SHAPE).sum())
    assert row["blocks"] > 0


def test_plan_reads_the_image_once_and_no_reference(job: Job) -> None:
    """Statistics need its values, and codes of classes are looked for in windows; references wait for what computes."""
    with pixels_read(type(open_source(job.source))) as counts:
        outline(job)
    windows = min(SHAPE[0], 192) * min(SHAPE[1], 192)
    assert counts == {job.source.paths[0]: SHAPE[0] * SHAPE[1] + windows}


def _executed(plan: Plan) -> None:
    create_store(plan, 2)
    work = Work(workdir=plan.workdir, digest=plan.digest, blocks=(0,))
    load("execute", "serial").execute(work, lambda _: None, lambda: False)


def _asked(plan: Plan) -> None:
    work = Work(workdir=plan.workdir, digest="", blocks=())
    with load("execute", "local").opened(work, lambda: False):
        pass


def _process(plan: Plan) -> None:
    from pipeline.blocks.block import process_block

    create_store(plan, 2)
    process_block(plan.workdir, plan.digest, 0)


@pytest.mark.parametrize("compute", [_executed, _asked, _process])
def test_a_block_would_not_pass_unseen(job: Job, compute) -> None:
    """Not by an executor, by its workers, or without one: what the test of `plan` forbids is what a block does."""
    plan = outline(job).plan
    zarr.create_array(plan.work.coarse, data=np.zeros((2, *SHAPE), np.float32))
    plan.save()
    with nothing_computed(), pytest.raises(AssertionError, match=r"to be computed|to compute with"):
        compute(plan)


def test_steps_of_the_survey_would_not_pass_unseen(job: Job) -> None:
    """Nor do the self-test, the coarse fill, or the survey as a whole."""
    scene, _ = open_scene(job, Clock())
    assert scene is not None
    model, _ = find_model(scene)
    steps = (lambda: self_test(scene, model), lambda: coarse_fill(scene, start_recipe(scene), 1), lambda: survey(job))
    for step in steps:
        with nothing_computed(), pytest.raises(AssertionError, match="to compute with"):
            step()


def test_everything_works_again_afterwards(job: Job) -> None:
    """What was forbidden is forbidden inside only, also after a failure."""
    values = np.ones((1, 4, 4), np.float32)
    facts = {"values": values, "valid": values > 0, "hole": values < 0, "spacing": (1.0, 1.0)}
    with nothing_computed(), pytest.raises(AssertionError):
        Window(**facts)
    assert np.array_equal(FillSpec("nearest")(Window(**facts)), values)


# --- looking at a raster reads no pixel ------------------------------------------------------------------------------

_IMAGES = [(kind, space) for kind in kinds("formats") for space in load("formats", kind).SPACE_KINDS]


@pytest.mark.parametrize(("kind", "space"), _IMAGES)
def test_inspect_reads_no_pixel_of_a_raster(tmp_path: Path, kind: str, space: str) -> None:
    """Header, table and command work without any; a volume is looked through once, for slices that it lost."""
    image = random_image((12, 10) if space == "raster" else (6, 5, 4), "int16")
    module = load("formats", kind)
    path = tmp_path / f"image{module.SUFFIXES[0]}"
    module.write(layer_of(image), path, image, image.read, options(tmp_path))
    source = type(open_any(str(path)))
    with no_pixels_read(source) if space == "raster" else pixels_read(source) as counts:
        assert image_table(str(path))["dtype"] == "int16"
        outcome = command("inspect", path, "--json")
    assert outcome.code == 0, outcome.err
    assert counts is None or counts == {str(path): 2 * 6 * 5 * 4}
    assert json.loads(outcome.out)["format"] == kind


def test_the_order_of_an_image_reads_no_pixel(tmp_path: Path) -> None:
    """From config to job: headers and hashes of files only."""
    config = _config(tmp_path)
    with no_pixels_read(type(open_any(str(tmp_path / "image.tif")))):
        job = order_of(config).job
        assert open_source(job.source).space.shape == SHAPE


def test_pixels_would_not_be_read_unseen(job: Job) -> None:
    """What is forbidden is what finding the holes does."""
    with no_pixels_read(type(open_source(job.source))), pytest.raises(AssertionError, match="pixels were read"):
        outline(job)


def test_workers_are_asked_for_before_thin_cloud_is_looked_for(tmp_path, monkeypatch):
    """That look leaves a core idle for half of its time, and processes take long to start."""

    class Looking(Exception):
        pass

    def look(scene: object) -> None:
        raise Looking

    monkeypatch.setattr(surveying, "with_doubt", look)
    asked: list[Plan] = []
    with pytest.raises(Looking):
        survey(order_of(_config(tmp_path)).job, hire=asked.append)
    assert len(asked[0].blocks) == 1
