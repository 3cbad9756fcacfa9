"""A folder of results: whose it is, and what may be replaced in it."""

from __future__ import annotations

import json
import os
import re
import shutil
from importlib import import_module
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import pipeline.run
from pipeline.commands import report
from pipeline.errors import PipelineError
from pipeline.provenance import index
from pipeline.provenance.summary import write_summary
from pipeline.system import files
from pipeline.system.lock import held
from tests.faults.conftest import SHAPE
from tests.helpers import Outcome, blobs, command, order_of, pixels, run_config, smooth, write_image


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


def test_a_summary_of_somebody_else_is_not_replaced(scene):
    """A `run.json` that no run wrote ends the run before it begins, also with `--overwrite`."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    summary = folder / "out" / "run.json"
    summary.parent.mkdir()
    for content in ('{"mine": 1}', "mine"):
        summary.write_text(content)
        for extra in ((), ("--overwrite",)):
            outcome = command("run", config, *extra)
            assert (outcome.code, str(summary) in outcome.err, summary.read_text()) == (6, True, content)
    assert [path.name for path in summary.parent.iterdir()] == ["run.json"]


@pytest.mark.parametrize("reads", ["source", "reference", "mask"])
def test_an_image_of_a_batch_reads_no_result_of_another(scene, reads):
    """What it reads would depend on which comes first, and on what `--overwrite` replaces."""
    folder, image, mask = scene
    other = write_image(folder / "other.tif", smooth((2, *SHAPE), seed=1))
    made = write_image(folder / "made.tif", smooth((2, *SHAPE)))
    (folder / "out" / "image").mkdir(parents=True)
    result = made.rename(folder / "out" / "image" / "image_restored.tif")
    config = _constant(folder, image, result if reads == "mask" else mask)
    content = json.loads(config.read_text())
    content["input"] = {"source": [[str(image)], [str(result if reads == "source" else other)]]}
    content["input"] |= {"references": [str(result)]} if reads == "reference" else {}
    config.write_text(json.dumps(content))
    outcome = command("run", config, "--overwrite")
    assert (outcome.code, f"reads {result}, a result of image" in outcome.err) == (6, True), outcome.err
    assert [path.name for path in (folder / "out").iterdir()] == ["image"]


def test_a_glob_leaves_out_what_its_run_has_written(scene):
    """Run again it continues, and does not restore its results; where nothing else matches, that is said."""
    folder, image, mask = scene
    config = _constant(folder, f"{folder}/**/*.tif", mask)
    given = ("--set", "input.exclude=mask.tif", "--set", f"output.directory={folder}")
    for _ in range(2):
        outcome = command("run", config, *given)
        assert outcome.code == 0, outcome.err
        assert [one["stem"] for one in json.loads((folder / "run.json").read_text())["sources"]] == [image.stem]
    outcome = command("run", config, *given, "--set", f"input.source={folder}/image/*.tif")
    assert (outcome.code, "but results of this config" in outcome.err) == (4, True), outcome.err


def test_results_that_nobody_may_write_to_can_be_verified(tmp_path):
    """What `verify` inflates lies elsewhere then; nothing is left, there or in the results."""
    image = write_image(tmp_path / "image.nii.gz", smooth((1, 10, 12, 14)))
    mask = write_image(tmp_path / "mask.nii.gz", blobs((10, 12, 14), n=1, radius=2.5)[None])
    assert command("run", _constant(tmp_path, image, mask)).code == 0
    before = sorted(tmp_path.rglob("*"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    access = os.access
    with (
        mock.patch("os.access", side_effect=lambda path, mode: mode != os.W_OK and access(path, mode)),
        mock.patch("tempfile.tempdir", str(elsewhere)),
        mock.patch("pipeline.formats.nifti.publish", side_effect=lambda made, path: made.rename(path)) as staged,
    ):
        outcome = command("verify", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert staged.call_args.args[1].is_relative_to(elsewhere)
    assert sorted(set(tmp_path.rglob("*")) - {elsewhere}) == before


def test_verify_goes_on_after_what_it_cannot_read(scene):
    """An image of a batch is damaged, or what it was made of is another: it is named, and the others are checked."""
    folder, image, mask = scene
    other = write_image(folder / "other.tif", smooth((2, *SHAPE), seed=1))
    guide = write_image(folder / "guide.tif", smooth((2, *SHAPE)) + np.uint16(20))
    hidden = write_image(folder / "hidden.tif", blobs(SHAPE, n=1, seed=3)[None])
    config = _constant(folder, image, mask)
    content = json.loads(config.read_text())
    guides = [{"path": str(guide), "mask": {"kind": "raster", "path": str(hidden)}}]
    content["input"] = {"source": [[str(image)], [str(other)]], "references": guides}
    config.write_text(json.dumps(content))
    assert command("run", config).code == 0
    result = folder / "out" / "image" / "image_restored.tif"

    def verified(path: Path, content: bytes | None) -> Outcome:
        before = path.read_bytes()
        path.write_bytes(content) if content is not None else path.unlink()
        outcome = command("verify", folder / "out")
        path.write_bytes(before)
        assert re.search(r"^image: (pixels|record): not checked", outcome.out, re.MULTILINE), outcome.out
        checked = "not checked" if path == hidden else "ok"
        assert re.search(rf"^other: ((observed )?pixels|recomputed): {checked} ", outcome.out, re.MULTILINE), (
            outcome.out
        )
        return outcome

    outcome = verified(result, result.read_bytes()[:3000])
    assert (outcome.code, f"{result.name} was changed" in outcome.out) == (1, True)
    for path, content in ((image, other.read_bytes()), (hidden, mask.read_bytes()), (image, None)):
        outcome = verified(path, content)
        assert (outcome.code, str(path) in outcome.err, "FAILED" in outcome.out) == (4, True, False), outcome.err
    outcome = verified(result.parent / "record.json", b"{")
    assert (outcome.code, "record.json: is damaged" in outcome.err) == (4, True)
    assert command("verify", folder / "out").code == 0


@pytest.mark.parametrize(("which", "stage"), [("image", "assemble"), ("mask", "compute"), ("guide", "compute")])
def test_an_input_that_changes_while_the_run_goes_on(scene, which, stage):
    """Nothing of two states is published, and none is left to continue from; the old result stays."""
    folder, image, mask = scene
    guide = write_image(folder / "guide.tif", smooth((2, *SHAPE)) + np.uint16(20))
    files = {"image": image, "mask": mask, "guide": guide}
    config = _constant(folder, image, mask)
    given = ("--set", "input.references=[guide.tif]")
    assert command("run", config, *given, "--set", "seed=1").code == 0
    result = folder / "out" / "image" / "image_restored.tif"
    before, first = result.read_bytes(), files[which].read_bytes()
    done = getattr(pipeline.run, stage)

    def changes(*arguments: object, **named: object) -> object:
        write_image(files[which], pixels(files[which])[:, ::-1])
        return done(*arguments, **named)

    with mock.patch(f"pipeline.run.{stage}", changes):
        outcome = command("run", config, *given, "--overwrite")
    assert (outcome.code, f"{files[which]}: was changed while the run went on" in outcome.err) == (4, True), outcome.err
    assert result.read_bytes() == before
    assert not (folder / "out" / ".work" / "image" / "plan.json").exists()
    files[which].write_bytes(first)
    assert command("run", config, *given, "--overwrite").code == 0
    assert command("verify", folder / "out").code == 0


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


@pytest.mark.parametrize("scratch", [False, True])
def test_a_work_folder_that_leads_elsewhere_is_refused(scene, scratch):
    """What an overwriting run drops in it was dropped in the folder that the link leads to."""
    folder, image, mask = scene
    mine = folder / "mine" / "journal" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    config = _constant(folder, image, mask)
    given = ("--set", "compute.scratch=fast") if scratch else ()
    work = order_of(config, *given[1:]).work.path
    work.rmdir()
    work.symlink_to(folder / "mine")
    outcome = command("run", config, "--overwrite", *given)
    key = "compute.scratch" if scratch else "output.directory"
    assert outcome.code == 6, outcome.err
    assert f"{work} is a link; remove it, or choose another {key}" in outcome.err
    assert mine.read_text() == "mine"
    work.unlink()
    assert command("run", config, "--overwrite", *given).code == 0


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
    assert "holds a run of another config, input or version of this program that is not finished" in outcome.err
    for way_out in ("--set", f"output.directory={folder / 'other'}"), ("--overwrite",):
        outcome = command("run", config, *way_out)
        assert outcome.code == 0, outcome.err
    for name in ("out", "other"):
        assert command("verify", folder / name).code == 0


@pytest.mark.parametrize("before", ["assemble", "publish"])
@pytest.mark.parametrize("what", ["moved", "removed"])
def test_a_folder_that_is_moved_while_the_run_goes_on(scene, before, what):
    """Exit 6 with the folder, no bug and no broken promise; the next run starts afresh."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    done = getattr(pipeline.run, before)

    def later(*given, **named):
        (folder / "out").rename(folder / "moved") if what == "moved" else shutil.rmtree(folder / "out")
        return done(*given, **named)

    with mock.patch(f"pipeline.run.{before}", later):
        outcome = command("run", config)
    assert outcome.code == 6, outcome.err
    assert f"{folder / 'out' / '.work' / 'image'}: was moved or removed while the run went on" in outcome.err
    assert command("run", config).code == 0
    assert command("verify", folder / "out").code == 0


def test_a_file_with_the_name_of_a_result_that_comes_while_the_run_goes_on(scene):
    """It is kept under another name: the work of hours is not refused for it."""
    folder, image, mask = scene
    result = folder / "out" / "image" / "image_restored.tif"
    done = pipeline.run.publish

    def later(*given, **named):
        result.parent.mkdir()
        result.write_text("mine")
        return done(*given, **named)

    with mock.patch("pipeline.run.publish", later):
        assert command("run", _constant(folder, image, mask)).code == 0
    assert result.with_name("image_restored.tif.kept").read_text() == "mine"
    assert command("verify", folder / "out").code == 0


def test_two_runs_that_end_at_the_same_time(tmp_path, monkeypatch):
    """Jobs of an array with one folder of results: each leaves a whole summary, and a page that has all of them."""
    publish, seen = files.publish, []

    def beside_another(partial: Path, path: Path) -> None:
        monkeypatch.setattr(files, "publish", publish)
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 1)
            write_summary(tmp_path, {"sources": ["other"] * 1000})
        seen.append(json.loads(path.read_text())["sources"][0])
        publish(partial, path)

    monkeypatch.setattr(files, "publish", beside_another)
    write_summary(tmp_path, {"sources": ["mine"]})
    seen.append(json.loads((tmp_path / "run.json").read_text())["sources"])
    assert seen == ["other", ["mine"]]
    monkeypatch.setattr(index, "finished_rows", lambda folder: seen.append(held(folder / ".index.html.lock")) or [])
    assert index.update_index(tmp_path, several=True)[0] == tmp_path / "index.html"
    assert seen[-1] is True
    assert not list(tmp_path.glob(".*"))


def test_results_that_are_replaced_while_they_are_looked_at(scene, monkeypatch):
    """`verify` and `status` speak of one run, not of the record of one and the files of the next."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    assert command("run", config).code == 0

    def replaced_after(module: str, name: str) -> None:
        read, asked = getattr(import_module(module), name), []

        def reads(where: Path) -> object:
            record = read(where)
            if not asked:
                asked.append(command("run", config, "--overwrite").code)
            return record

        monkeypatch.setattr(f"{module}.{name}", reads)

    replaced_after("pipeline.output.verify", "record_of")
    outcome = command("verify", folder / "out")
    assert outcome.code == 0, outcome.err
    replaced_after("pipeline.commands.status", "read_record")
    assert "damaged" not in command("status", folder / "out").out


def test_no_run_replaces_results_whose_report_is_made(scene, monkeypatch):
    """The record that the report is of would take the place of the next run's."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    assert command("run", config).code == 0
    write, asked = report.write_report, []

    def writes(*arguments: object) -> object:
        asked.append(command("run", config, "--overwrite"))
        return write(*arguments)

    monkeypatch.setattr(report, "write_report", writes)
    assert command("report", folder / "out").code == 0
    assert asked[0].code == 6
    assert f"{folder / 'out' / '.work' / 'image'} is in use by process" in asked[0].err
    assert command("verify", folder / "out").code == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["image", "run.json"]
