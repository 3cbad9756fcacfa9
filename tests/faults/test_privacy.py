"""Nothing gets out: no credentials of an address in any file or message, no folder names in what is passed on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import rasterio.shutil

from pipeline.plan.plan import load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.provenance.published import Publisher
from pipeline.system.redact import hidden_in, is_redacted, put_back, redacted, redacted_facts
from tests.helpers import Outcome, blobs, command, layer, pixels, run_config, smooth, write_image
from tests.web import serving

SHAPE = (40, 44)
SECRETS = ("s3cr3tpw", "S1GNATURE", "T0KEN")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder with an image and its mask, and the address it is served at, with user and password."""
    folder = tmp_path / "served"
    folder.mkdir()
    write_image(folder / "image.tif", smooth((1, *SHAPE)), nodata=0)
    write_image(folder / "mask.tif", blobs(SHAPE)[None])
    with serving(folder) as address:
        yield folder, f"http://me:{SECRETS[0]}@{address}"


def _config(folder: Path, address: str, mask: str = "mask.tif") -> Path:
    entry = {"kind": "raster", "path": f"{address}/{mask}?token={SECRETS[2]}"}
    return run_config(folder, f"{address}/image.tif?X-Amz-Signature={SECRETS[1]}&b=1", None, mask=[entry])


def _leaks(folder: Path, outcome: Outcome) -> list[str]:
    """Return where a secret stands: files of a folder (also in its bytes), their names, the command's output."""
    texts = {"stdout": outcome.out.encode(), "stderr": outcome.err.encode()}
    for path in folder.rglob("*"):
        texts[str(path)] = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
    return [name for name, text in texts.items() for secret in SECRETS if secret.encode() in text]


def test_no_credentials_in_results_or_messages(served, tmp_path):
    """An image and a mask behind signed addresses are restored; no file and no line holds what opens them."""
    _, address = served
    config = _config(tmp_path, address)
    outcome = command("run", config, "--json")
    assert outcome.code == 0, outcome.err
    out = tmp_path / "out"
    assert (out / "image" / ".work" / "plan.json").is_file()
    assert _leaks(out, outcome) == []
    record = json.loads((out / "image" / "record.json").read_text())
    assert record["inputs"][0]["path"].endswith("/image.tif?***")
    assert record["config"]["mask"][0]["path"].endswith("/mask.tif?***")
    assert pixels(layer(out / "image", "source"))[0][blobs(SHAPE) == 1].all()


def test_a_finished_run_says_what_cannot_be_opened_again(served, tmp_path):
    """`verify` still checks hashes, `report` says why it cannot look at the image again; `run` is done."""
    _, address = served
    config = _config(tmp_path, address)
    assert command("run", config).code == 0
    checked = command("verify", tmp_path / "out")
    assert checked.code == 0, checked.err
    assert "kept without user, password and query" in checked.out
    again = command("report", tmp_path / "out")
    assert again.code == 4
    assert "not kept with the results" in again.err
    assert "finished by an earlier run" in command("run", config).err


def test_a_stopped_run_can_open_its_addresses_again(served, tmp_path):
    """While a run goes on only its owner can read the addresses; the next run goes on with them, then they are gone."""
    _, address = served
    config = _config(tmp_path, address)
    with mock.patch("pipeline.run.compute", side_effect=KeyboardInterrupt):
        stopped = command("run", config)
    assert stopped.code == 130
    work = WorkFolder.running(tmp_path / "out", "image")
    assert work.addresses.stat().st_mode & 0o777 == 0o600
    assert set(_leaks(tmp_path / "out", stopped)) == {str(work.addresses)}
    assert SECRETS[1] in load_plan(work).source.paths[0]
    key = load_plan(work).key
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert "its plan is used" in outcome.err
    assert _leaks(tmp_path / "out", outcome) == []
    assert load_plan(WorkFolder.of(tmp_path / "out" / "image")).key == key


@pytest.mark.parametrize("name", ["image.tif", "gone.tif", "mask.tif"])
def test_no_credentials_in_errors(served, tmp_path, name):
    """A file that is not there, or is no image: the message names the address without what opens it."""
    folder, address = served
    (folder / name).unlink(missing_ok=True)
    if name == "image.tif":
        (folder / name).write_bytes(b"no image at all")
    config = _config(tmp_path, address)
    if name == "gone.tif":
        config = run_config(tmp_path, f"{address}/gone.tif?sig={SECRETS[1]}", None, mask=[{"kind": "nodata"}])
    outcome = command("run", config)
    assert outcome.code == 4, outcome.err
    assert f"{name}?***" in outcome.err
    assert _leaks(tmp_path / "out", outcome) == []
    assert "***" in (tmp_path / "out" / "run.json").read_text()
    assert _leaks(tmp_path / "out", command("inspect", f"{address}/{name}?sig={SECRETS[1]}")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/a.tif?sig=S: not there", "https://h/a.tif?***: not there"),
        ("'/vsicurl/https://u:p@h:8/a.tif?a=1&b=2' is bad", "'/vsicurl/https://***@h:8/a.tif?***' is bad"),
        ("s3://key:se/cret@bucket/a", "s3://key:se/cret@bucket/a"),
        ("https://u:p@ss@h/a", "https://***@h/a"),
        ("(https://h/a?x=1), https://h/b?y=2.", "(https://h/a?***), https://h/b?***."),
        ("{'a': \"https://h/a?x='S\"}", "{'a': \"https://h/a?***\"}"),
        ("/vsicurl?header=S&url=x", "/vsicurl?***"),
        ("why? because/so: a@b", "why? because/so: a@b"),
        ("/data/what?/me@home.tif", "/data/what?/me@home.tif"),
        ("https://h/me@home.tif", "https://h/me@home.tif"),
    ],
)
def test_what_is_left_of_addresses(text, expected):
    """Users, passwords and queries go, and nothing else; a second time changes nothing."""
    assert redacted(text) == expected
    assert redacted(expected) == expected


def test_hidden_texts_come_back():
    """What redacting takes out of JSON values can be put back, also where two addresses look alike without it."""
    facts = {"a": ["https://h/get?file=1", "https://h/get?file=2", "plain"], "b": {"c": "https://u:p@h/x"}, "d": 1}
    public = redacted_facts(facts)
    assert public["a"][0] == public["a"][1] == "https://h/get?***"
    assert all(is_redacted(text) for text in (*public["a"][:2], public["b"]["c"]))
    put_back(public, json.loads(json.dumps(hidden_in(facts))))
    assert public == facts


def _patient(folder: Path) -> tuple[Path, Path]:
    """Write an image and its mask into a folder with a name that must not leave, outside the config's folder."""
    data = folder / "Doe Jane 1970"
    data.mkdir(parents=True)
    image = write_image(data / "scan.nii.gz", smooth((1, 10, 18, 20), "int16"))
    hole = np.zeros((1, 10, 18, 20), np.uint8)
    hole[:, 4:6, 6:10, 6:10] = 1
    return image, write_image(data / "lesions.nii.gz", hole)


def _published(out: Path) -> dict[str, bytes]:
    """Return the bytes of everything that is passed on: all but the work folder."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and ".work" not in p.parts}


def test_no_folder_names_in_results(tmp_path):
    """By default results name files outside the config's folder by their last name; `verify`, `report` work on."""
    image, mask = _patient(tmp_path / "data")
    study = tmp_path / "study"
    study.mkdir()
    config = run_config(study, image, mask)
    assert command("run", config).code == 0
    assert command("report", study / "out").code == 0
    checked = command("verify", study / "out")
    assert checked.code == 0, checked.err
    assert "not checked" not in checked.out
    published = _published(study / "out")
    assert {"run.json", "scan/record.json", "scan/report.html"} <= set(published)
    assert [name for name, data in published.items() if b"Doe" in data or str(tmp_path).encode() in data] == []
    record = json.loads(published["scan/record.json"])
    assert record["inputs"][0]["path"] == "scan.nii.gz"
    assert record["masks"][0]["files"][0]["path"] == "lesions.nii.gz"
    assert record["config"]["output"]["directory"] == "out"


def test_paths_below_the_config_are_relative(tmp_path):
    """What lies beside the config is named so that it can be found from the record, and as it stands in the config."""
    image = write_image(tmp_path / "image.tif", smooth((1, *SHAPE)))
    mask = write_image(tmp_path / "mask.tif", blobs(SHAPE)[None])
    assert command("run", run_config(tmp_path, image, mask)).code == 0
    folder = tmp_path / "out" / "image"
    record = json.loads((folder / "record.json").read_text())
    assert (folder / record["inputs"][0]["path"]).samefile(image)
    assert (folder / record["masks"][0]["files"][0]["path"]).samefile(mask)
    assert record["config"]["input"]["source"] == "image.tif"
    assert record["config"]["mask"][0]["path"] == "mask.tif"
    assert str(tmp_path) not in (folder / "record.json").read_text() + (tmp_path / "out" / "run.json").read_text()


def test_absolute_paths_on_request(tmp_path):
    """`output.paths: absolute` keeps them, and is another request: the old results do not pass for it."""
    image, mask = _patient(tmp_path / "data")
    config = run_config(tmp_path, image, mask)
    assert command("run", config).code == 0
    assert command("run", config, "--set", "output.paths=absolute").code == 6
    assert command("run", config, "--set", "output.paths=absolute", "--overwrite").code == 0
    record = json.loads((tmp_path / "out" / "scan" / "record.json").read_text())
    assert record["inputs"][0]["path"] == str(image)
    assert record["config"]["output"]["directory"] == str(tmp_path / "out")


def test_no_folder_names_in_the_errors_of_a_batch(tmp_path):
    """The message for the user has the whole path, the one in run.json has the name alone."""
    image, mask = _patient(tmp_path / "data")
    image.write_bytes(b"no volume")
    study = tmp_path / "study"
    study.mkdir()
    outcome = command("run", run_config(study, image, mask))
    assert outcome.code == 4
    assert str(image) in outcome.err
    summary = (study / "out" / "run.json").read_text()
    assert "Doe" not in summary
    assert "scan.nii.gz: " in json.loads(summary)["sources"][0]["error"]


def test_sentences_lose_their_folders():
    """Paths in a text: known ones with spaces, their folders, others up to the first space; what is no path stays."""
    publisher = Publisher(
        folder=Path("/study/out/a"), base=Path("/study"), known=("/data/Jane Doe/a.nii", "/study/in/b.nii")
    )
    assert publisher.text("/data/Jane Doe/a.nii: no such file") == "a.nii: no such file"
    assert publisher.text("/data/Jane Doe/c.nii and m/s, 1 / 2") == "c.nii and m/s, 1 / 2"
    assert publisher.text("no folder /data/Jane Doe; check") == "no folder (folder); check"
    assert publisher.text("'/study/in/b.nii' or /x/y/z.tif.") == "'../../in/b.nii' or z.tif."
    assert publisher.text("https://host/a/b is remote") == "https://host/a/b is remote"


@pytest.mark.parametrize("base", ["/", str(Path.home()), str(Path.home().parent)])
def test_the_home_folder_names_nothing(base):
    """A config in the home folder, or above it, does not allow to name the folders below."""
    publisher = Publisher(folder=Path(base) / "out" / "a", base=Path(base))
    assert publisher.path(str(Path(base) / "Jane" / "a.nii")) == "a.nii"


def test_paths_of_a_config_stay_as_typed():
    """Relative paths, names of the catalog and what is no path are left alone; what leads outside loses its folders."""
    publisher = Publisher(folder=Path("/study/out/a"), base=Path("/study"))
    config = {
        "input": {"source": ["demo-sentinel", "in/a.tif", "../Jane/b.tif", "~/Jane/c.tif"], "nodata": "auto"},
        "model": {"weights": "/study/w/x.safetensors", "kind": "/not/a/path"},
        "mask": [{"kind": "raster", "path": "/data/{stem}_m.tif"}],
    }
    assert publisher.config(config) == {
        "input": {"source": ["demo-sentinel", "in/a.tif", "b.tif", "c.tif"], "nodata": "auto"},
        "model": {"weights": "w/x.safetensors", "kind": "/not/a/path"},
        "mask": [{"kind": "raster", "path": "{stem}_m.tif"}],
    }


def test_files_that_belong_to_an_input_are_named_like_it(tmp_path):
    """What a VRT reads stands in the record without its folders, too, and its results may not go where it lies."""
    private = tmp_path / "Jane Doe"
    project = tmp_path / "project"
    for folder in (private, project):
        folder.mkdir()
    image = write_image(private / "scan.tif", smooth((1, *SHAPE)))
    mask = write_image(project / "mask.tif", blobs(SHAPE)[None])
    virtual = project / "scene.vrt"
    rasterio.shutil.copy(str(image), str(virtual), driver="VRT")
    config = run_config(project, virtual, mask)
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    record = (project / "out" / "scene" / "record.json").read_text()
    assert json.loads(record)["inputs"][0]["files"][0]["path"].endswith("scan.tif")
    published = _published(project / "out")
    assert {"run.json", "scene/report.html", "scene/scene_restored.tif"} <= set(published)
    assert [name for name, data in published.items() if b"Jane Doe" in data or str(project).encode() in data] == []
