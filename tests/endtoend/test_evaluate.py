"""`evaluate`, as typed: what it prints, what it writes, what it refuses, and that nothing else changes a number."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.api import evaluate
from tests.helpers import Outcome, blobs, command, run_config, smooth, write_image

SHAPE = (48, 64)
FAMILIES = ("--family", "own", "--family", "points")
NAMES = {"evaluate.html", "evaluate.csv", "evaluate.json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    folder: Path
    config: Path
    outcome: Outcome
    before: dict[str, bytes]

    @property
    def results(self) -> Path:
        return self.folder / "out" / "image_evaluation"

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.results / "evaluate.json").read_text())


def _image(folder: Path, *, stem: str = "image") -> Path:
    image = write_image(folder / f"{stem}.tif", smooth((3, *SHAPE)))
    write_image(folder / f"{stem}_mask.tif", blobs(SHAPE, n=3, radius=4)[None])
    return image


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Three bands with three holes, evaluated once."""
    folder = tmp_path_factory.mktemp("evaluated")
    image = _image(folder)
    config = run_config(folder, image, folder / "image_mask.tif")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    return Evaluated(folder=folder, config=config, outcome=command("evaluate", config, *FAMILIES), before=before)


def test_it_ends_with_words(done: Evaluated) -> None:
    """A table a family, what a run would use in it, where the page is, and in the last line what to use."""
    assert done.outcome.code == 0, done.outcome.err
    out = done.outcome.out
    for title in ("holes like its own", "single pixels, 30 % of them"):
        assert re.search(rf"^image: {title}: [\d,]+ holes, [\d,]+ hidden values in \d windows?$", out, re.MULTILINE)
    assert re.search(r"^run( <- use)?  ", out, re.MULTILINE)
    assert re.search(r"^image: a run would use in .*tension", out, re.MULTILINE)
    assert out.count("<- use") == 2
    *_, where, said = out.splitlines()
    assert where == f"image: all intervals and pictures: {done.results / 'evaluate.html'}"
    assert re.match(r"image: use .*expect an error of [\d.]+ % of the image's range", said)
    assert "(1 of 2)" in done.outcome.err


def test_inputs_stay_and_only_an_evaluation_is_written(done: Evaluated) -> None:
    """No image, no work folder."""
    assert {path.name: path.read_bytes() for path in done.folder.iterdir() if path.is_file()} == done.before
    assert [path.name for path in (done.folder / "out").iterdir()] == ["image_evaluation"]
    assert {path.name for path in done.results.iterdir()} == NAMES


def test_files_say_the_same(done: Evaluated) -> None:
    """CSV and JSON have the same rows; the page is one file with the sentence, a bar a method and three pictures."""
    rows = done.facts["rows"]
    with (done.results / "evaluate.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(r["family"], r["method"], r["psnr_db"]) for r in table] == [
        (r["family"], r["method"], repr(r["psnr_db"])) for r in rows
    ]
    page = (done.results / "evaluate.html").read_text()
    assert done.facts["sentence"][1:] in page.replace("&#39;", "'")
    assert page.count('role="img"') == len(rows)
    assert page.count("data:image/webp") == 6
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_scores_are_those_of_such_an_image(done: Evaluated) -> None:
    """A smooth image: a spline is far better than the nearest pixel, intervals hold the values, errors are in units."""
    rows = {(row["family"], row["method"]): row for row in done.facts["rows"]}
    for family in ("own", "points"):
        run, nearest = rows[family, "run"], rows[family, "nearest"]
        assert run["psnr_db"] > nearest["psnr_db"] + 3
        assert run["sam_deg"] < nearest["sam_deg"]
        assert nearest["ssim"] < run["ssim"] <= 1
        assert run["psnr_db_low"] <= run["psnr_db"] <= run["psnr_db_high"]
        assert 0.6 < run["coverage_90"] <= 1
        assert nearest["coverage_90"] is None
        expected = np.sqrt(np.mean((np.array(run["rmse"]) / np.array(done.facts["range"])) ** 2))
        assert run["rmse_share"] == pytest.approx(expected)
    assert rows["own", "run"]["pixels"] > 64
    assert max(row["gain_db"] for row in rows.values() if row["method"] != "run") == 0


def test_the_same_request_gives_what_is_there(done: Evaluated) -> None:
    """Nothing is computed again; another choice of families is refused unless told to replace."""
    stamp = (done.results / "evaluate.json").stat().st_mtime_ns
    again = command("evaluate", done.config, "--family", "points", "--family", "own", "--json")
    assert json.loads(again.out)["evaluation"] == [{"image": "image", **row} for row in done.facts["rows"]]
    assert "was evaluated before" in again.err
    other = command("evaluate", done.config, "--family", "own")
    assert (other.code, "--overwrite" in other.err) == (6, True)
    assert (done.results / "evaluate.json").stat().st_mtime_ns == stamp


def test_workers_and_python_change_nothing(done: Evaluated, tmp_path: Path) -> None:
    """Two threads, and the Python door: the same numbers."""
    there = ("--set", f"output.directory={tmp_path}", "--set", "compute.executor=local", "--set", "compute.workers=2")
    outcome = command("evaluate", done.config, "--family", "own", *there, "--json", "--quiet")
    assert outcome.err == ""
    own = [row for row in done.facts["rows"] if row["family"] == "own"]
    rows = json.loads(outcome.out)["evaluation"]
    assert [{k: v for k, v in row.items() if k != "image"} for row in rows] == own
    config = json.loads(done.config.read_text())
    sections = {name: config[name] for name in ("model", "patch", "compute", "mask")}
    assert evaluate(done.folder / "image.tif", families=["own"], **sections) == own


def test_an_evaluation_is_replaced_in_one_step(done: Evaluated, tmp_path: Path) -> None:
    """With --overwrite; one that stepped aside for a new one that never came is found; what is not ours is refused."""
    there = ("--family", "points", "--set", f"output.directory={tmp_path}", "--set", "seed=1")
    folder = tmp_path / "image_evaluation"
    assert command("evaluate", done.config, *there).code == 0
    first = (folder / "evaluate.json").read_bytes()
    folder.rename(tmp_path / ".image_evaluation.old")
    assert command("evaluate", done.config, *there).code == 0
    assert (folder / "evaluate.json").read_bytes() == first
    assert command("evaluate", done.config, *there[:-1], "seed=2").code == 6
    assert command("evaluate", done.config, *there[:-1], "seed=2", "--overwrite").code == 0
    assert json.loads((folder / "evaluate.json").read_text())["seed"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["image_evaluation"]
    (folder / "notes.txt").write_text("mine")
    for more in ((), ("--overwrite",)):
        outcome = command("evaluate", done.config, *there, *more)
        assert (outcome.code, "notes.txt" in outcome.err) == (6, True)
    assert {path.name for path in folder.iterdir()} == NAMES | {"notes.txt"}
    for name in ("notes.txt", "evaluate.json", "evaluate.html"):
        (folder / name).unlink()
    (folder / "evaluate.csv").write_text("mine")
    for more in ((), ("--overwrite",)):
        outcome = command("evaluate", done.config, *there, *more)
        assert (outcome.code, "evaluate.csv" in outcome.err) == (6, True)
    assert (folder / "evaluate.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--family", "slices"), 2, "no family of holes 'slices'"),
        (("--set", "model.kind=identity"), 2, "nothing can be hidden from it"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(done: Evaluated, tmp_path: Path, arguments, code, said) -> None:
    """With a message that says why; nothing is left."""
    outcome = command("evaluate", done.config, *arguments, "--set", f"output.directory={tmp_path}")
    assert (outcome.code, said in outcome.err) == (code, True), outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["/proc", "taken"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(
    done: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Where no file can be made, or a file is in the way of the folder; nothing of the image is looked at."""
    monkeypatch.setattr("pipeline.commands.evaluate.open_scene", None)
    (tmp_path / "taken").write_text("mine")
    outcome = command("evaluate", done.config, "--set", f"output.directory={tmp_path / place}/out")
    assert outcome.code == 6, outcome.err
    assert "cannot write the evaluation" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_batch_goes_on_after_a_failure(tmp_path: Path) -> None:
    """One is damaged, one has no hole: the first is named, the second is told."""
    (tmp_path / "a.tif").write_bytes(b"no image")
    write_image(tmp_path / "a_mask.tif", blobs(SHAPE)[None])
    _image(tmp_path, stem="b")
    write_image(tmp_path / "b_mask.tif", np.zeros((1, *SHAPE), np.uint8))
    config = run_config(tmp_path, "?.tif", None, mask=[{"kind": "raster", "path": "{stem}_mask.tif"}])
    outcome = command("evaluate", config)
    assert outcome.code == 5
    assert "1 of 2 images could not be evaluated (a: " in outcome.err
    assert "no holes" in json.loads((tmp_path / "out" / "b_evaluation" / "evaluate.json").read_text())["sentence"]


def test_volumes_with_a_reference_and_a_network(tmp_path: Path) -> None:
    """Blobs in a volume; the run without its other time point, and the network, have rows of their own."""
    shape = (16, 18, 20)
    image = write_image(tmp_path / "head.nii", smooth((1, *shape), "int16"))
    write_image(tmp_path / "other.nii", smooth((1, *shape), "int16") + np.int16(30))
    hole = write_image(tmp_path / "holes.nii", blobs(shape, n=2, radius=3)[None])
    sections = {"input": {"references": "other.nii"}, "patch": {"size": 20}}
    sections["model"] = {"kind": "autoencoder", "options": {"test_time_augmentation": False}}
    config = run_config(tmp_path, image, hole, **sections)
    outcome = command("evaluate", config, "--family", "blobs", "--json")
    assert outcome.code == 0, outcome.err
    rows = {row["method"]: row for row in json.loads(outcome.out)["evaluation"]}
    assert {"run", "run without references", "network t1", "through order=linear"} <= set(rows)
    assert rows["run"]["psnr_db"] > rows["run without references"]["psnr_db"] + 3
    assert rows["run"]["sam_deg"] is None
    facts = (tmp_path / "out" / "head_evaluation" / "evaluate.json").read_text()
    assert "other.nii: it has no mask" in facts
    assert str(tmp_path) not in facts


def test_bands_with_holes_of_their_own() -> None:
    """What is hidden in one band is restored from the others; where all bands are hidden there is no such help."""
    image = smooth((1, *SHAPE))[0]
    bands = np.stack([image, image + np.uint16(50), image + np.uint16(90)])
    holes = np.stack([blobs(SHAPE, seed, n=2, radius=4) for seed in (1, 2, 3)])
    config = {"model": {"kind": "tension"}, "patch": {"size": 32, "overlap": 8}, "compute": {"executor": "serial"}}
    rows = evaluate(bands, holes, families=["own", "region"], **config)
    gain = {row["family"]: row["gain_db"] for row in rows if row["method"] == "run"}
    assert gain["own"] > gain["region"] + 3
    assert {"own", "region"} == {row["family"] for row in rows if row["method"] == "run without references"}
