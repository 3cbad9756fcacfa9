"""A newcomer's hour: what is typed first, what is said while a run goes on, and what the tables say at the end."""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from pipeline.commands.progress import Lines, RemainingTime, heartbeat, loading
from pipeline.plan.cost import Cost, Span
from pipeline.plan.workdir import WorkFolder
from pipeline.report.judgement import LEVEL_WORDS, judged, judgement_text
from pipeline.system.words import in_words
from tests.helpers import Outcome, blobs, command, pixels, run_config, smooth, write_image

SHAPE = (40, 44)
SCENE = "LC08_L2SP_008059_20191201_20200825_02_T1"


def _image(path: Path, bands: int = 1, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_image(path, smooth((bands, *shape), seed=seed))


def _volume(folder: Path, stem: str) -> Path:
    path = _image(folder / f"{stem}.nii.gz", shape=(12, 14, 16))
    write_image(folder / f"{stem}_mask.nii.gz", blobs((12, 14, 16), n=1, radius=3)[None])
    return path


def _advised(outcome: Outcome) -> list[str]:
    """Return the commands that a message says to type."""
    return [line.strip() for line in outcome.err.splitlines() if line.strip().startswith("inpaint-pipeline ")]


# --- what is typed in the place of a folder, or of a name -------------------------------------------------------------


@pytest.mark.parametrize("name", ["status", "verify", "report"])
def test_a_file_in_the_place_of_results(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config, a layer or a folder that is not there: what it is, and what to name."""
    monkeypatch.chdir(tmp_path)
    config = run_config(tmp_path, _image(Path("scene.tif")), None, mask=[{"kind": "nodata"}])
    outcome = command(name, config)
    assert outcome.code == 4
    assert f"{config}: is a file, and results are a folder: name the folder that `output.directory`" in outcome.err
    assert command(name, "nowhere").err.startswith("inpaint-pipeline: nowhere: no such folder; name the one")
    for folder in ("out/first", "out/second"):
        Path(folder).mkdir(parents=True)
        Path(folder, "run.json").write_text("{}")
    assert "; name a folder in it: out/first, out/second" in command(name, "out").err
    Path("scene").mkdir()
    Path("scene/record.json").write_text("{}")
    assert (
        "scene/record.json: is a file, and results are a folder: name scene" in command(name, "scene/record.json").err
    )


def test_names_of_the_catalog_with_a_slip(tmp_path: Path) -> None:
    """The nearest name is said; a folder that is not there is no reason to show another catalog."""
    outcome = command("catalog", "check", "demo-sentinl")
    assert outcome.code == 2
    assert "demo-sentinl - did you mean 'demo-sentinel'?" in outcome.err
    outcome = command("catalog", "list", "--folder", tmp_path / "nowhere")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{tmp_path / 'nowhere'}: no such folder" in outcome.err


# --- what is typed in the place of a config ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scene.tif", "scans", "demo"])
def test_what_to_type_is_said_and_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image, a folder of images and a name of the catalog: the first line that is advised writes a config."""
    monkeypatch.chdir(tmp_path)
    _image(Path("scene.tif"))
    _volume(Path("scans"), "head")
    Path("data_catalog.yaml").write_text(
        "catalog_version: 1\nsources:\n  demo: {license: CC0-1.0, path: scene.tif, mask: [{kind: nodata}]}\n"
    )
    outcome = command("run", name)
    assert outcome.code == 2
    assert outcome.out == ""
    new, *_ = (line for line in outcome.err.splitlines() if "config new" in line)
    words = shlex.split(new.strip())[1:]
    assert command(*words).code == 0
    assert command("config", "show", words[-1]).code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 2\nservices: {}\n", "none of its keys (services, version) is one of compute, input"),
        ("name: a\nstart: optical\ntrain: []\n", "inpaint-pipeline train other.yaml"),
        ("catalog_version: 1\nsources: {}\n", "use one of its names as `input.source`"),
        ("imput: {source: a.tif}\n", "did you mean 'input'?"),
    ],
)
def test_yaml_of_another_kind_is_named(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of something else, of a training or a catalog says so; a slip of the pen still gets its line."""
    monkeypatch.chdir(tmp_path)
    Path("other.yaml").write_text(text)
    outcome = command("plan", "other.yaml")
    assert outcome.code == 2
    assert said in outcome.err


def test_folders_that_hold_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of results leads to `status`, one with configs to these, an empty one to `config new`."""
    monkeypatch.chdir(tmp_path)
    for folder, file in (("out", "run.json"), ("configs", "mine.yaml"), ("empty", "")):
        Path(folder).mkdir()
        if file:
            Path(folder, file).write_text("{}")
    assert "inpaint-pipeline status out" in command("run", "out").err
    assert "configs/mine.yaml" in command("run", "configs").err
    assert "config new" in command("run", "empty").err


def test_an_image_is_no_training(tmp_path: Path) -> None:
    """`train scene.tif` shows the lines that a training needs; the config of a run leads to `run`."""
    outcome = command("train", _image(tmp_path / "scene.tif"))
    assert outcome.code == 2
    assert "start: optical" in outcome.err
    config = run_config(tmp_path, tmp_path / "scene.tif", None, mask=[{"kind": "nodata"}])
    assert "inpaint-pipeline run" in command("train", config).err


# --- config new -------------------------------------------------------------------------------------------------------


def _new(*names: Path | str) -> dict[str, object]:
    outcome = command("config", "new", *names, "-o", "my.yaml")
    assert outcome.code == 0, outcome.err
    shown = command("config", "show", "my.yaml")
    assert shown.code == 0, shown.err
    facts: dict[str, object] = json.loads(shown.out)
    return facts | {"said": outcome.err}


@pytest.mark.parametrize("given", [f"{SCENE}_SR_B4.TIF", "."])
def test_bands_and_quality_of_a_scene_are_found(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One band, or the folder, of a USGS scene: its other bands on the same grid, in order, and QA_PIXEL."""
    monkeypatch.chdir(tmp_path)
    for band in (10, 2, 4, 3):
        _image(Path(f"{SCENE}_SR_B{band}.TIF"))
    _image(Path(f"{SCENE}_SR_B8.TIF"), shape=(80, 88))
    _image(Path(f"{SCENE}_ST_B10.TIF"))
    write_image(Path(f"{SCENE}_QA_PIXEL.TIF"), np.full((1, *SHAPE), 21824, np.uint16))
    facts = _new(given)
    assert facts["input"]["source"] == [[f"{SCENE}_SR_B{band}.TIF" for band in (2, 3, 4, 10)]]
    (entry,) = facts["mask"]
    assert (entry["kind"], entry["path"]) == ("qa_pixel", f"{SCENE}_QA_PIXEL.TIF")
    assert "one image of 4 files" in facts["said"]


def test_several_volumes_with_masks_are_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and a folder give the same batch: masks are no images of their own, and are named by `{stem}`."""
    monkeypatch.chdir(tmp_path)
    names = [str(_volume(Path("scans"), stem)) for stem in ("p1", "p2")]
    for given in (["scans"], names, ["scans/*.nii.gz"]):
        facts = _new(*given)
        assert facts["input"]["source"] == names
        assert [entry["path"] for entry in facts["mask"]] == ["scans/{stem}_mask.nii.gz"]
        Path("my.yaml").unlink()


def test_what_is_called_like_a_mask_is_no_image_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a mask that is named after no image; named by itself, or where all are called so, it is one."""
    monkeypatch.chdir(tmp_path)
    for name in ("a_input", "a_mask", "rois/roi_1", "rois/roi_2"):
        _image(Path(f"scenes/{name}.tif"), bands=2)
    for name in ("b", "b_mask"):
        _image(Path(f"others/{name}.tif"), bands=2)
        _image(Path(f"others/a_{name}.tif"), bands=2)
    told = command("config", "new", "scenes")
    assert "scenes/a_input.tif" in told.out.partition("mask:")[0]
    assert "a_mask" not in told.out.partition("mask:")[0]
    assert "{kind: raster, path: scenes/a_mask.tif}   # lies beside it" in told.out
    _image(Path("others/c.tif"), bands=2)
    assert "b_mask.tif" not in command("config", "new", "others/c.tif").out
    named = command("config", "new", "scenes/a_input.tif", "scenes/a_mask.tif").out
    assert "- scenes/a_mask.tif" in named.partition("mask:")[0]
    assert "- scenes/rois/roi_2.tif" in command("config", "new", "scenes/rois").out.partition("mask:")[0]


def test_a_batch_without_masks_shows_one_for_each_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples follow the names of the images: one mask for all of them is hardly meant."""
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        _image(Path("scenes", f"{name}.tif"), bands=2, seed=k)
    text = command("config", "new", "scenes").out
    assert '{kind: raster, path: "{stem}_mask.tif"}' in text
    assert "path: SCL.tif" not in text


@pytest.mark.parametrize(("names", "series"), [(("L8_20190708", "L8_20190724"), True), (("north", "south"), False)])
def test_dates_of_one_place_are_a_series(
    names: tuple[str, ...], series: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rasters of one grid whose names say a day each help one another; others are a batch."""
    monkeypatch.chdir(tmp_path)
    Path("scenes").mkdir()
    place = {"crs": "EPSG:32633", "transform": (30.0, 0.0, 600000.0, 0.0, -30.0, 5000000.0)}
    for k, name in enumerate(names):
        write_image(Path("scenes") / f"{name}.tif", smooth((2, *SHAPE), seed=k), **place)
        write_image(Path("scenes") / f"{name}_mask.tif", blobs(SHAPE, n=2, radius=4, seed=k)[None], **place)
    facts = _new("scenes")
    assert facts["input"]["series"] == series
    assert ("2 dates of one place" in facts["said"]) == series


def test_a_mask_beside_the_image_is_named_where_none_is_given(tmp_path: Path) -> None:
    """Who forgets `mask:` is told what lies there, not only what could be written."""
    image = _image(tmp_path / "scene.tif")
    write_image(tmp_path / "scene_mask.tif", blobs(SHAPE, n=2, radius=4)[None])
    outcome = command("plan", run_config(tmp_path, image, None, mask=None))
    assert outcome.code == 2
    assert "scene_mask.tif lies beside it: `mask: auto` takes it" in outcome.err


def test_gaps_are_asked_for_and_nothing_says_which_value_they_have(tmp_path: Path) -> None:
    """No pixel is nodata, but one value stands far from all others: what to write is said."""
    values = smooth((1, *SHAPE)).astype(np.int32)
    values[:, 10:14] = -9999
    image = write_image(tmp_path / "scene.tif", values)
    outcome = command("plan", run_config(tmp_path, image, None, mask=[{"kind": "nodata", "max_gap": None}]))
    assert outcome.code == 0
    assert "every pixel of the image has a value: none is NaN or nodata" in outcome.out
    assert "write `input.nodata: -9999`" in outcome.out


def test_what_a_header_does_not_say_is_no_line(tmp_path: Path) -> None:
    """`inspect` shows what is there; the empty rest stays in `--json`."""
    outcome = command("inspect", _image(tmp_path / "a.tif", bands=2))
    assert "names" in outcome.out
    assert "band_tags" not in outcome.out
    assert all(line.strip() for line in outcome.out.splitlines())


def test_a_family_that_is_not_there_is_told_before_anything_else(tmp_path: Path) -> None:
    """Not that another evaluation lies there, nor that the image is missing."""
    config = run_config(tmp_path, tmp_path / "none.tif", None, mask=[{"kind": "nodata"}])
    outcome = command("evaluate", config, "--family", "cloud")
    assert outcome.code == 2
    assert "no family of holes 'cloud' - did you mean 'clouds'?" in outcome.err


def test_what_cannot_be_one_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rasters with volumes, nothing at all, a name of the catalog with a file: each is refused with a reason."""
    monkeypatch.chdir(tmp_path)
    _image(Path("scene.tif"))
    _volume(Path(), "head")
    assert command("config", "new", "scene.tif", "head.nii.gz").code == 4
    Path("empty").mkdir()
    assert command("config", "new", "empty").code == 4
    assert command("config", "new", "demo-brain", "scene.tif").code == 2


def test_without_a_mask_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume without a mask: no entry is made up; the next step is said, and files like masks are named."""
    monkeypatch.chdir(tmp_path)
    _image(Path("head.nii.gz"), shape=(12, 14, 16))
    write_image(Path("lesions.nii.gz"), blobs((12, 14, 16), n=1, radius=3)[None])
    facts = _new("head.nii.gz")
    assert facts["mask"] is None
    assert "say under `mask:`" in facts["said"]
    assert "# - {kind: raster, path: lesions.nii.gz}   # lies beside it" in Path("my.yaml").read_text()
    assert "nothing says which pixels to restore" in command("plan", "my.yaml").err


# --- while it runs, and at the end ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Outcome]:
    """Two images run as a batch with a cheap fill: folder, config, outcome."""
    folder = tmp_path_factory.mktemp("batch")
    for k, name in enumerate(("a", "b")):
        _image(folder / f"{name}.tif", seed=k)
        write_image(folder / f"{name}_mask.tif", blobs(SHAPE, n=2, radius=4, seed=k)[None])
    config = run_config(folder, "?.tif", None, mask=[{"kind": "raster", "path": "{stem}_mask.tif"}])
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    return folder, config, outcome


def test_progress_names_stage_image_and_time(batch: tuple[Path, Path, Outcome]) -> None:
    """Each image is counted, each stage is, and a time is known before the self-test begins."""
    lines = batch[2].err.splitlines()
    for number, name in enumerate(("a", "b"), start=1):
        own = [line for line in lines if line.startswith(f"{name} (image {number} of 2): ")]
        found = [re.search(r"stage (\d) of 3", line) for line in own]
        assert [int(match[1]) for match in found if match] == [1, 2, 3]
        assert any(re.search(r"takes about \d+ s \(\d+ s to \d+ s\)", line) for line in own)


class _Log(io.StringIO):
    """A log that tells when a text has come again."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text, self.again = text, threading.Event()

    def write(self, text: str) -> int:
        """Take a text."""
        written = super().write(text)
        if self.getvalue().count(self._text) > 1:
            self.again.set()
        return written


def test_a_log_says_now_and_then_where_the_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """In stages without blocks, too, which take minutes in large images; on and on, until the run is over."""
    monkeypatch.setattr("pipeline.commands.progress._LINE_EVERY_SECONDS", 0.001)
    monkeypatch.setattr("pipeline.commands.progress._SILENT_SECONDS", 0.001)
    for begin, said in (
        (lambda _: None, "scene: opens its files and hashes them"),
        (lambda lines: lines.stage("scene", "survey"), "scene: stage 1 of 3, survey"),
        (lambda lines: lines.blocks("scene", done=0, total=7), "scene: 0 of 7 blocks"),
    ):
        log = _Log(said)
        monkeypatch.setattr("sys.stderr", log)
        lines = Lines()
        lines.image("scene", number=1, count=1)
        begin(lines)
        assert log.again.wait(60)
        lines.close()


def test_a_command_without_stages_says_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than once; a quick one says nothing."""
    monkeypatch.setattr("pipeline.commands.progress._LINE_EVERY_SECONDS", 0.001)
    log = _Log("scene: reads ...\n")
    monkeypatch.setattr("sys.stderr", log)
    with heartbeat("scene: reads"):
        pass
    assert not log.getvalue()
    monkeypatch.setattr("pipeline.commands.progress._SILENT_SECONDS", 0.001)
    with heartbeat("scene: reads"):
        assert log.again.wait(60)
    log = _Log("loads the libraries ...\n")
    monkeypatch.setattr("sys.stderr", log)
    with loading():
        assert log.again.wait(60)


def test_a_time_that_was_foretold_too_short_is_told_by_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks, the first in 10 s: 10 s are left; 30 s after these no line is the same as the one before."""
    now = [0.0]
    monkeypatch.setattr("pipeline.commands.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    left = RemainingTime()
    assert str(left) == ""
    left.blocks(0, 2)
    now[0] = 10.0
    left.block_done()
    assert str(left) == "about 10 s to go"
    now[0] = 50.0
    assert str(left) == "30 s longer than foreseen"


def test_a_slow_first_block_does_not_tell_the_pace_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as one beside eight as fast as the plan says; when many are done, their own pace is what counts."""
    now = [0.0]
    monkeypatch.setattr("pipeline.commands.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    left = RemainingTime()
    left.expect(Cost(survey=Span(), blocks=Span.around(100.0, 1.4), files=Span()), 1)
    left.blocks(0, 100)
    now[0] = 10.0
    left.block_done()
    assert str(left) == f"about {in_words(99 * (10 + 8) / 9)} to go"
    for _ in range(91):
        now[0] += 3.0
        left.block_done()
    assert str(left) == f"about {in_words(8 * (10 + 91 * 3 + 8) / (92 + 8))} to go"


def test_what_is_left_is_told_anew_as_the_survey_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was over when the first was told is part of the whole and not of what is to go; the whole is said once."""
    now, log = [0.0], io.StringIO()
    monkeypatch.setattr("pipeline.commands.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("sys.stderr", log)
    lines = Lines()
    first = Cost(opened=Span.around(5, 1.4), survey=Span.around(20, 1.4), blocks=Span.around(40, 1.4), files=Span())
    lines.expected("scene", first, 2)
    assert f"takes {first.total(2)} with 2 workers" in log.getvalue()
    assert str(lines._to_go) == "about 40 s to go"
    # the look for thin cloud took twice as long as foreseen, and found haze
    now[0] = 20.0
    assert str(lines._to_go) == "about 20 s to go"
    lines.expected("scene", replace(first, survey=Span.around(10, 1.4), blocks=Span.around(60, 1.4)), 2)
    assert str(lines._to_go) == "about 40 s to go"
    assert log.getvalue().count("takes") == 1


def test_the_last_lines_say_where_everything_is(batch: tuple[Path, Path, Outcome]) -> None:
    """Absolute paths of the result and of the report of each image; both are there."""
    said = [line for line in batch[2].err.splitlines() if ": done; result " in line]
    assert len(said) == 2
    for line in said:
        result, report = re.search(r"result (.*), report (.*)", line).groups()
        for path in (Path(result), Path(report)):
            assert path.is_absolute()
            assert path.is_file()
    assert str(batch[0] / "out") in batch[2].err.splitlines()[-1]


def test_the_last_lines_say_how_far_to_trust_it(batch: tuple[Path, Path, Outcome]) -> None:
    """The same judgement as the page of the batch, with its reasons; run.json has it, too."""
    folder = batch[0] / "out"
    entries = json.loads((folder / "run.json").read_text())["sources"]
    page = (folder / "index.html").read_text()
    for entry in entries:
        record = json.loads((folder / entry["stem"] / "record.json").read_text())
        judgement = judged(record)
        assert entry["judgement"]["level"] == judgement.level
        (line,) = (
            line for line in batch[2].err.splitlines() if line == f"{entry['stem']}: {entry['judgement']['said']}"
        )
        assert line.startswith(f"{entry['stem']}: {judgement.words}")
        assert all(reason in line for reason in judgement.reasons)
        assert judgement.words in page
    levels = [entry["judgement"]["level"] for entry in entries]
    words = [f"{levels.count(one)} {said}" for one, said in reversed(LEVEL_WORDS.items()) if one in levels]
    assert f"({', '.join(words)})" in batch[2].err.splitlines()[-1]


def test_what_needs_a_look_is_said_with_its_reason() -> None:
    """Each level of a record has its words; what the account says already is not repeated."""
    test = {"coverage_90": 0.9, "predicted_rmse": [1.0], "value_range": [100.0], "note": ""}
    record = {"holes": {"pixels": 9, "left": {}, "account": "all"}, "self_test": test}
    assert judgement_text(record) == "sound by its self-test, the error to expect is 1.0 % of the range of the values"
    poor = judgement_text(record | {"self_test": test | {"predicted_rmse": [40.0]}})
    assert poor.startswith("do not rely on it: the error to expect, 40 % of the range of the values, is very large")
    left = judgement_text(record | {"holes": {"pixels": 9, "left": {"refused": 1}, "account": "8 of 9 were filled"}})
    assert left == "look at it: not all that was asked for was restored"


def test_status_is_a_table_with_a_sentence(batch: tuple[Path, Path, Outcome]) -> None:
    """Columns are aligned; the last line counts."""
    head, *rows, said = command("status", batch[0] / "out").out.splitlines()
    for row in rows:
        assert row[head.index("state") :].startswith("done")
    assert said == "2 of 2 images done"


def test_a_batch_that_failed_in_part_names_run_json(tmp_path: Path) -> None:
    """The error says which images failed, where it is written why, and where the others are."""
    _image(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(b"no image")
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}_mask.tif", blobs(SHAPE, n=2, radius=4)[None])
    config = run_config(tmp_path, "?.tif", None, mask=[{"kind": "raster", "path": "{stem}_mask.tif"}])
    outcome = command("run", config)
    assert outcome.code == 5
    assert str(tmp_path / "out" / "run.json") in outcome.err


def test_evaluation_ends_with_words(batch: tuple[Path, Path, Outcome]) -> None:
    """A table for each image, which tools a run would take, and at the end which method to use and what to expect."""
    out = command("evaluate", batch[1], "--family", "own").out
    for name in ("a", "b"):
        assert re.search(rf"^{name}: holes like its own: .*[\d,]+ hidden values in \d windows?$", out, re.MULTILINE)
        assert re.search(rf"^{name}: a run would use in wide holes .*tension", out, re.MULTILINE)
    assert "over best fill, dB" in out
    assert re.match(r"b: use .*expect an error of .*the 90 % interval of a run held", out.splitlines()[-1])


def test_plan_says_that_nothing_is_marked(tmp_path: Path) -> None:
    """A mask without a hole: the notice of the run, and a last line that says so."""
    image = _image(tmp_path / "image.tif")
    mask = write_image(tmp_path / "mask.tif", np.zeros((1, *SHAPE), np.uint8))
    out = command("plan", run_config(tmp_path, image, mask)).out
    assert "image: note: nothing to restore" in out
    assert "nothing to restore" in out.splitlines()[-1]


def test_the_catalog_says_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, to be made, over the network, to be fetched and from where; makes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INPAINT_DATA", raising=False)
    monkeypatch.setenv("INPAINT_CACHE", str(tmp_path / "cache"))
    _image(Path("scene.tif"))
    Path("data_catalog.yaml").write_text(
        "catalog_version: 1\nsources:\n  own: {license: CC0-1.0, path: scene.tif}\n"
        "  gone: {license: CC0-1.0, path: '${INPAINT_DATA}/x.tif', url: 'https://example.org/x'}\n"
    )
    out = command("catalog", "list").out
    states = dict(line.split()[:2] for line in out.splitlines() if line.startswith(("own ", "gone ")))
    assert states == {"own": "there", "gone": "https://example.org/x"}
    rows = json.loads(command("catalog", "list", "--json").out)
    assert {name: rows[name]["state"] for name in ("own", "gone", "demo-brain", "sentinel-cogs-remote")} == {
        "own": "there",
        "gone": "missing",
        "demo-brain": "made on use",
        "sentinel-cogs-remote": "over network",
    }
    assert re.search(r"\d+ data sets: 1 there; ", out.splitlines()[-1])
    assert not (tmp_path / "cache").exists()


def test_models_are_listed_with_their_use() -> None:
    """Aligned, and how weights are chosen."""
    head, *rows, said = command("models", "list").out.splitlines()
    assert {row[head.index("images") :][:3] for row in rows} == {"2-D", "3-D"}
    assert "by itself" in said


# --- words and numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "line", "key"),
    [
        ("input: {source: image.tif,\n  bands: [B9]}", 2, "input.bands"),
        (
            "input:\n  source: image.tif\n  references:\n    - {path: image.tif, bands: [no]}",
            4,
            "input.references.0.bands",
        ),
        ("input: {source: image.tif}\npatch: {size: [8, 8, 8]}", 2, "patch.size"),
        ("input: {source: image.tif}\n\nmodel: {kind: through}", 3, "model.kind"),
    ],
)
def test_what_the_image_has_not_names_file_line_and_key(extra: str, line: int, key: str, tmp_path: Path) -> None:
    """A band, a size or a fill that does not suit the image is exit 2, wherever in the config it stands."""
    _image(tmp_path / "image.tif")
    config = tmp_path / "my.yaml"
    config.write_text(f"{extra}\nmask: [{{kind: nodata}}]\n")
    outcome = command("plan", config)
    assert outcome.code == 2
    assert f"{config}:{line}: {key}: " in outcome.err


def test_remarks_on_a_header_reach_people_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What nibabel mends is a notice with the name of the file, not a line of its own for every opening."""
    _volume(tmp_path, "odd")
    for path in tmp_path.glob("odd*.nii.gz"):
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[254:256] = np.int16(9).tobytes()
        path.write_bytes(gzip.compress(raw))
    outcome = command("run", run_config(tmp_path, tmp_path / "odd.nii.gz", tmp_path / "odd_mask.nii.gz"))
    assert outcome.code == 0, outcome.err
    everything = outcome.err + "".join(capfd.readouterr())
    assert everything.count("sform_code 9 not valid") == 1
    assert f"odd: note: {tmp_path / 'odd.nii.gz'}: sform_code 9 not valid" in outcome.err
    record = json.loads((tmp_path / "out" / "odd" / "record.json").read_text())
    assert sum("sform_code" in notice for notice in record["notices"]) == 1


def test_what_is_kept_for_verify_is_small(tmp_path: Path) -> None:
    """The coarse fill is 0 where nothing is hidden, and stored compressed: far below the image that it belongs to."""
    noise = np.random.default_rng(0).integers(0, 60000, (2, 300, 300), dtype=np.uint16)
    image, hole = write_image(tmp_path / "image.tif", noise), blobs((300, 300), n=2, radius=8)
    config = run_config(tmp_path, image, write_image(tmp_path / "mask.tif", hole[None]), patch={"size": 512})
    assert command("run", config).code == 0
    work = WorkFolder.of(tmp_path / "out" / "image")
    guess = zarr.open_array(work.coarse, mode="r")[:]
    assert not guess[:, hole == 0].any()
    assert guess[:, hole == 1].all()
    kept = sum(path.stat().st_size for path in work.path.rglob("*") if path.is_file())
    assert kept < 0.2 * pixels(image).nbytes
    assert command("verify", tmp_path / "out").code == 0
