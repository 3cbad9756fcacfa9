"""Results appear in one step: ended anywhere, run again, nothing is half visible and nothing of the user's is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.output import publication
from pipeline.output.verify import verify
from pipeline.system import files
from pipeline.system.files import sealed
from tests.helpers import blobs, command, result_hash, run_config, smooth, write_image

SHAPE = (24, 30)
NOTES = {"notes.txt": "mine", "sub/more.txt": "mine, too"}


class Ended(BaseException):
    """Stands for a kill: nothing in the program takes it up."""


@pytest.fixture
def scene(tmp_path):
    """A small raster with its mask, a config, and the hashes of its results for two values of the constant."""
    image = write_image(tmp_path / "image.tif", smooth((1, *SHAPE)))
    mask = write_image(tmp_path / "mask.tif", blobs(SHAPE, n=2, radius=3)[None])
    return run_config(tmp_path, image, mask, model={"kind": "constant", "options": {"value": 7}})


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The output folder of a finished run; tests change copies of it."""
    folder = tmp_path_factory.mktemp("published")
    image = write_image(folder / "image.tif", smooth((1, *SHAPE)))
    mask = write_image(folder / "mask.tif", blobs(SHAPE, n=2, radius=3)[None])
    config = run_config(folder, image, mask, model={"kind": "constant", "options": {"value": 7}})
    assert command("run", config).code == 0
    return folder / "out"


def _with_notes(folder: Path) -> None:
    for name, text in NOTES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _whole(folder: Path) -> bool:
    """Say whether what is visible is complete: a record and all that it lists, or nothing of ours."""
    if not (folder / "record.json").exists():
        return not any(p.name.startswith("image_") or p.name == "report.html" for p in folder.glob("*"))
    record = json.loads((folder / "record.json").read_text())
    return all((folder / output["path"]).exists() for output in record["outputs"])


def _steps(patch, ending: int) -> None:
    """End the program at step number `ending` of bringing a publication to its end."""
    gone: list[str] = []

    def counted(name, plain):
        def step(*arguments, **options):
            if len(gone) == ending:
                raise Ended
            gone.append(name)
            return plain(*arguments, **options)

        return step

    for name in ("remove_made", "replace_folder", "_retire", "sync"):
        patch.setattr(publication, name, counted(name, getattr(publication, name)))
    patch.setattr(files, "_exchanged", counted("exchange", files._exchanged))
    patch.setattr(publication.shutil, "move", counted("move", shutil.move))
    for name in ("rename", "rmdir", "unlink"):
        patch.setattr(Path, name, counted(name, getattr(Path, name)))


@pytest.mark.parametrize("two_steps", [False, True], ids=["exchange", "no exchange"])
def test_ended_at_any_step_of_the_publication(scene, monkeypatch, two_steps):
    """With results of another config and files of the user's in the folder; a rerun brings it to the same end."""
    folder, kept = scene.parent / "out" / "image", scene.parent / "kept"
    if two_steps:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    assert command("run", scene).code == 0
    new = result_hash(folder)
    assert command("run", scene, "--set", "model.options.value=9", "--overwrite").code == 0
    old = result_hash(folder)
    _with_notes(folder)
    with monkeypatch.context() as patch:
        patch.setattr(publication, "finish_publication", _ended)
        with pytest.raises(Ended):
            command("run", scene, "--overwrite")
    assert result_hash(folder) == old
    shutil.copytree(folder.parent, kept)
    for ending in range(200):
        shutil.rmtree(folder.parent)
        shutil.copytree(kept, folder.parent)
        with monkeypatch.context() as patch:
            _steps(patch, ending)
            try:
                assert command("run", scene).code == 0
                ended = False
            except Ended:
                ended = True
        assert two_steps or folder.exists()
        assert not folder.exists() or (_whole(folder) and result_hash(folder) in {old, new})
        outcome = command("run", scene)
        assert outcome.code == 0, outcome.err
        assert result_hash(folder) == new != old
        assert {name: (folder / name).read_text() for name in NOTES} == NOTES
        assert _names(folder.parent) == {"image", "run.json"}
        if not ended:
            break
    assert ending > 10
    assert command("verify", folder).code == 0


def test_files_of_the_user_are_in_sight_though_old_results_cannot_be_removed(scene, monkeypatch):
    """They lay in the work folder until the next run, and whoever removed that lost them."""
    folder = scene.parent / "out" / "image"
    assert command("run", scene).code == 0
    _with_notes(folder)
    plain = publication.remove_made

    def failing(path: Path) -> None:
        if path.parent.name == "exchange":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        plain(path)

    again = ("run", scene, "--set", "model.options.value=9", "--overwrite")
    with monkeypatch.context() as patch:
        patch.setattr(publication, "remove_made", failing)
        outcome = command(*again)
    assert outcome.code == 6, outcome.err
    assert {name: (folder / name).read_text() for name in NOTES} == NOTES
    assert command(*again).code == 0
    assert {name: (folder / name).read_text() for name in NOTES} == NOTES
    assert _names(folder.parent) == {"image", "run.json"}


def _ended(*_: object) -> None:
    raise Ended


@pytest.mark.parametrize("named", ["..", "", "../other", "/etc", "image/../../other", 7])
def test_a_note_removes_nothing_outside_of_the_old_results(scene, monkeypatch, named):
    """Whoever may write to the output folder may write a note of a publication, hash and all."""
    other = scene.parent / "out" / "other"
    assert command("run", scene).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(publication, "finish_publication", _ended)
        with pytest.raises(Ended):
            command("run", scene, "--overwrite", "--set", "model.options.value=9")
    other.mkdir()
    (other / "mine.txt").write_text("a")
    path = scene.parent / "out" / ".work" / "image" / "publishing.json"
    note = json.loads(path.read_text())
    path.write_text(json.dumps(files.sealed(note | {"replaces": [*note["replaces"], named]})))
    outcome = command("run", scene, "--overwrite", "--set", "model.options.value=9")
    assert outcome.code == 0, outcome.err
    assert (other / "mine.txt").read_text() == "a"


def test_the_old_result_stays_until_the_new_one_is_complete(scene):
    """A plan that is refused, and a mask that cannot be read, cost nothing that was there before."""
    folder = scene.parent / "out" / "image"
    assert command("run", scene).code == 0
    old = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert command("run", scene, "--overwrite", "--set", "compute.memory_per_worker=1 MiB").code == 3
    mask = scene.parent / "mask.tif"
    whole = mask.read_bytes()
    mask.write_bytes(whole[:200])
    assert command("run", scene, "--overwrite").code == 4
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == old


def test_files_of_others_with_names_of_results_are_not_replaced(scene):
    """Exit 6 even with `--overwrite`: no record says that this program wrote it."""
    folder = scene.parent / "out" / "image"
    folder.mkdir(parents=True)
    (folder / "image_restored.tif").write_text("not yours")
    for extra in ((), ("--overwrite",)):
        outcome = command("run", scene, *extra)
        assert outcome.code == 6
        assert "image_restored.tif was not written by this program; move it away" in outcome.err
    assert (folder / "image_restored.tif").read_text() == "not yours"
    (folder / "image_restored.tif").rename(scene.parent / "mine.tif")
    assert command("run", scene).code == 0


def test_a_changed_result_is_no_finished_one(scene):
    """One flipped bit: `status`, `run` and `verify` name the file, each in its way; `--overwrite` makes it again."""
    folder = scene.parent / "out" / "image"
    assert command("run", scene).code == 0
    restored = folder / "image_restored.tif"
    content = bytearray(restored.read_bytes())
    content[-1] ^= 1
    restored.write_bytes(content)
    (row,) = json.loads(command("status", folder.parent, "--json").out)["images"]
    assert row["state"] == "damaged"
    assert "image_restored.tif" in row["what"]
    outcome = command("run", scene)
    assert outcome.code == 6
    assert "image_restored.tif" in outcome.err
    outcome = command("verify", folder)
    assert outcome.code == 1
    assert "image_restored.tif was changed" in outcome.out + outcome.err
    assert command("run", scene, "--overwrite").code == 0
    assert command("verify", folder).code == 0


def test_a_missing_result_is_no_finished_one(scene):
    """`status` names it; running again, without a word, makes the same."""
    folder = scene.parent / "out" / "image"
    assert command("run", scene).code == 0
    old = result_hash(folder)
    (folder / "image_source.tif").unlink()
    (row,) = json.loads(command("status", folder.parent, "--json").out)["images"]
    assert (row["state"], row["what"]) == ("damaged", "image_source.tif is missing")
    assert command("run", scene).code == 0
    assert result_hash(folder) == old


def test_an_input_behind_a_link_is_not_replaced(scene):
    """The folder of the results reached by another name is still the folder that the input lies in."""
    inside = scene.parent / "out" / "image"
    inside.mkdir(parents=True)
    (scene.parent / "image.tif").rename(inside / "image.tif")
    (scene.parent / "other").symlink_to(inside)
    outcome = command("run", scene, "--overwrite", "--set", f"input.source={scene.parent}/other/image.tif")
    assert outcome.code == 6
    assert (inside / "image.tif").exists()


@pytest.mark.parametrize("name", ["...tif", "..tif", ".work.tif", "a b\n.tif", "run.json.tif"])
def test_names_stay_inside_the_output_folder(scene, name):
    """Whatever a file is called, its results lie in one plain folder below `output.directory`."""
    named = scene.parent / name
    (scene.parent / "image.tif").rename(named)
    before = _names(scene.parent)
    outcome = command("run", scene, "--set", f"input.source={json.dumps(str(named))}", "--overwrite")
    assert outcome.code == 0, outcome.err
    assert _names(scene.parent) == before | {"out"}
    (folder,) = [path for path in (scene.parent / "out").iterdir() if path.is_dir()]
    assert (folder / "record.json").exists()
    assert not folder.name.startswith(".")


@pytest.mark.parametrize("key", ["plan", "outputs", "holes", "config", "request", "stem", "the image", "the end"])
def test_a_record_without_a_part_is_a_damaged_one(scene, key):
    """It may be JSON all the same: `status` says so, `verify` and `report` end with 4, `--overwrite` makes it again."""
    folder = scene.parent / "out" / "image"
    assert command("run", scene).code == 0
    text = (folder / "record.json").read_text()
    record = {name: value for name, value in json.loads(text).items() if name != key}
    if key == "the image":
        record["outputs"] = [output for output in record["outputs"] if output["role"] != "restored"]
    (folder / "record.json").write_text(text[:-9] if key == "the end" else json.dumps(record))
    (row,) = json.loads(command("status", folder.parent, "--json").out)["images"]
    assert row["state"] == "damaged"
    for verb in ("verify", "report"):
        outcome = command(verb, folder)
        assert outcome.code == 4
        assert "record.json: is damaged; run again with --overwrite" in outcome.err
    assert command("run", scene, "--overwrite").code == 0
    assert command("verify", folder).code == 0


def _edited(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads((folder / "record.json").read_text())
    edit(record)
    (folder / "record.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("verb", "edit"),
    [
        ("verify", lambda record: record.pop("masks")),
        ("verify", lambda record: record["holes"].update(by_source={"1": "many"})),
        ("report", lambda record: record.update(software=None)),
        ("report", lambda record: record.update(notices=5)),
    ],
)
def test_a_record_that_was_edited_is_told_as_one(published, tmp_path, verb, edit):
    """What it lacks is no bug of the program: exit 4 with the file, and other images of the folder are looked at."""
    out = tmp_path / "out"
    shutil.copytree(published, out)
    _edited(out / "image", edit)
    outcome = command(verb, out)
    assert outcome.code == 4
    assert "record.json: does not hold what a run wrote" in outcome.err
    assert "run again with --overwrite" in outcome.err


def test_a_run_says_of_an_edited_record_that_it_is_one(scene):
    """Its own results are finished: what it tells of them is missing."""
    assert command("run", scene).code == 0
    _edited(scene.parent / "out" / "image", lambda record: record.pop("seconds"))
    outcome = command("run", scene)
    assert outcome.code == 4
    assert "record.json: does not hold what a run wrote" in outcome.err
    assert command("run", scene, "--overwrite").code == 0


def test_a_report_that_is_ended_half_way_is_made_again(scene, monkeypatch):
    """Its page is there and the record does not say so yet: the results are told to need a `report`, no new run."""
    folder = scene.parent / "out" / "image"
    assert command("run", scene).code == 0
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.commands.report.write_record", _ended)
        patch.setattr("pipeline.report.build._page", lambda *_: ("<html>another</html>", None))
        with pytest.raises(Ended):
            command("report", folder)
    outcome = command("run", scene)
    assert outcome.code == 6
    assert f"`inpaint-pipeline report {folder}` makes it again" in outcome.err
    assert command("report", folder).code == 0
    assert command("run", scene).code == command("verify", folder).code == 0


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("record.json", lambda record: record["self_test"].update(predicted_rmse=[0.0, 0.0])),
        ("record.json", lambda record: record.update(doubt=None, self_test=None)),
        ("record.json", lambda record: record["plan"].update(digest="0")),
        (".work/plan.json", lambda plan: plan.update(centre=[1e30] * len(plan["centre"]))),
        (".work/plan.json", lambda plan: plan["space"].update(affine=[])),
        (".work/survey.json", lambda facts: facts["self_test"].update(coverage_90=0.9)),
    ],
)
@pytest.mark.parametrize("verb", ["verify", "report"])
def test_what_was_edited_with_its_hash_contradicts_the_rest(published, tmp_path, verb, name, edit):
    """Record, plan and survey tell of one another: exit 4 with the file, no broken promise, no page of what is not."""
    out = tmp_path / "out"
    shutil.copytree(published, out)
    path = out / "image" / name
    facts = json.loads(path.read_text())
    edit(facts)
    path.write_text(json.dumps(sealed(facts)))
    before = (out / "image" / "report.html").read_bytes()
    outcome = command(verb, out)
    assert outcome.code == 4, outcome.err
    assert ".json: " in outcome.err
    assert "--overwrite" in outcome.err
    assert (out / "image" / "report.html").read_bytes() == before


def test_a_bug_is_not_blamed_on_the_record(published, monkeypatch):
    """A record that is as it was written holds its own hash."""
    monkeypatch.setattr("pipeline.output.verify._hashes", lambda *_: {}["bug"])
    with pytest.raises(KeyError, match="bug"):
        verify(published / "image")


@pytest.mark.parametrize("name", ["plan.json", "state.zarr/zarr.json"])
def test_damage_beside_the_results_is_no_broken_promise(published, tmp_path, name):
    """What `verify` needs is damaged, the results are not: exit 4 with the file, as `report`."""
    out = tmp_path / "out"
    shutil.copytree(published, out)
    (out / "image" / ".work" / name).write_bytes(b"")
    for verb in ("verify", "report"):
        outcome = command(verb, out)
        assert outcome.code == 4
        assert f"{out}/image/.work/{name.partition('/')[0]}" in outcome.err
        assert "run again with --overwrite" in outcome.err


@pytest.mark.parametrize("lacks", ["source", "guides", "space"])
def test_a_plan_that_lacks_a_part_is_a_damaged_one(published, tmp_path, lacks):
    """Also with the hash of what is left."""
    out = tmp_path / "out"
    shutil.copytree(published, out)
    path = out / "image" / ".work" / "plan.json"
    plan = {key: value for key, value in json.loads(path.read_text()).items() if key != lacks}
    path.write_text(json.dumps(files.sealed(plan)))
    outcome = command("verify", out)
    assert "Traceback" not in outcome.err
    assert (outcome.code, str(path) in outcome.out) == (0 if lacks == "space" else 4, True), outcome.out


@pytest.mark.parametrize("name", ["record.json", "image_restored.tif"])
def test_a_pipe_in_the_place_of_a_result_is_not_waited_for(published, tmp_path, name):
    """`status` says what is damaged."""
    out = tmp_path / "out"
    shutil.copytree(published, out)
    (out / "image" / name).unlink()
    os.mkfifo(out / "image" / name)
    outcome = command("status", out, "--json")
    (row,) = json.loads(outcome.out)["images"]
    assert (outcome.code, row["state"]) == (0, "damaged")
    assert name in row["what"]
