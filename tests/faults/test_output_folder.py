"""A folder of results: whose it is, and what may be replaced in it."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from pipeline.errors import PipelineError
from tests.helpers import blobs, command, run_config, smooth, write_image

SHAPE = (40, 46)


@pytest.fixture
def scene(tmp_path):
    """A small raster with its mask; returns folder, image and mask."""
    image = write_image(tmp_path / "image.tif", smooth((2, *SHAPE)))
    mask = write_image(tmp_path / "mask.tif", blobs(SHAPE, n=3, radius=4)[None])
    return tmp_path, image, mask


def _constant(folder: Path, image: Path, hole: Path) -> Path:
    return run_config(folder, image, hole, model={"kind": "constant", "options": {"value": 7}})


@pytest.mark.parametrize("which", ["image.tif", "mask.tif"])
def test_what_is_read_is_never_replaced(scene, which):
    """Exit 6 even with `--overwrite`, which would delete the folder that the input lies in."""
    folder, image, mask = scene
    inside = folder / "out" / "image" / which
    inside.parent.mkdir(parents=True)
    moved = {path.name: path for path in (image, mask)} | {
        which: (image if which == image.name else mask).rename(inside)
    }
    config = _constant(folder, moved["image.tif"], moved["mask.tif"])
    for extra in ((), ("--overwrite",)):
        outcome = command("run", config, *extra)
        assert outcome.code == 6
        assert str(inside) in outcome.err
    assert inside.exists()


def test_an_overwrite_killed_half_way(scene):
    """Blocks and journal whose plan is gone count for nothing, even if the new plan is the same."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    stopped = PipelineError("stopped here")
    with mock.patch("pipeline.run.assemble", side_effect=stopped):
        assert command("run", config).code == 1
    work = folder / "out" / ".work" / "image"
    assert list((work / "journal").iterdir())
    (work / "plan.json").unlink()
    for chunk in (work / "blocks.zarr").glob("*/c/0/*/*"):
        chunk.unlink()
    # what a survey with a self-test or haze had found
    (work / "samples.npz").write_bytes(b"of another survey")
    (work / "haze.zarr").mkdir()
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert command("verify", folder / "out").code == 0
    assert not {"samples.npz", "haze.zarr"} & {path.name for path in (folder / "out" / "image" / ".work").iterdir()}


def test_a_refused_run_does_not_claim_its_folder(scene):
    """A config that was corrected after a refusal needs no `--overwrite`: nothing was made yet."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    assert command("run", config, "--set", "mask=[{kind: threshold, above: -1}]").code == 3
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("which", ["image.tif", "mask.tif"])
def test_an_input_that_changed_after_an_interruption(scene, which):
    """Exit 6: what is there is of other pixels; `--overwrite` drops it, another folder leaves it alone."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    with mock.patch("pipeline.run.assemble", side_effect=PipelineError("stopped here")):
        assert command("run", config).code == 1
    write_image(folder / which, smooth((2, *SHAPE), seed=1) if which == "image.tif" else blobs(SHAPE, seed=1)[None])
    outcome = command("run", config)
    assert outcome.code == 6
    assert "holds a run of another config or input that is not finished" in outcome.err
    for way_out in ("--set", f"output.directory={folder / 'other'}"), ("--overwrite",):
        outcome = command("run", config, *way_out)
        assert outcome.code == 0, outcome.err
    for name in ("out", "other"):
        assert command("verify", folder / name).code == 0
