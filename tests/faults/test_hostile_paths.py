"""Paths and images that a config cannot mean: pipes, devices, names no file has, images it does not suit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.commands.template import config_template
from pipeline.config.catalog import resolve_sources
from pipeline.config.catalog_file import list_entries
from pipeline.config.schema import load_config
from pipeline.errors import PipelineError
from tests.helpers import blobs, command, run_config, smooth, write_image

SHAPE = (24, 28)


def _config(folder: Path, text: str) -> Path:
    path = folder / "hostile.yaml"
    path.write_text(text)
    return path


# --- paths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("~nouser/a.tif", 2),
        ("~.tif", 4),
        ("x" * 300 + ".tif", 2),
        ("x/" * 3000 + "a.tif", 2),
        ("a\0.tif", 2),
        ("   ", 2),
        ("**x/*.tif", 2),
        ("http://[a.tif", 2),
        ("pipe.tif", 4),
        ("/dev/zero", 4),
    ],
)
def test_sources_that_are_no_image(tmp_path, source, code):
    """Each is said to be what it is; none is waited for."""
    os.mkfifo(tmp_path / "pipe.tif")
    text = "input: {source: " + '"' + source.replace("\0", "\\0") + '"}\nmask: [{kind: nodata}]\n'
    path = _config(tmp_path, text)
    with pytest.raises(PipelineError) as error:
        resolve_sources(load_config(path))
    assert error.value.exit_code == code
    assert len(str(error.value)) < 1500


def test_a_file_with_a_tilde(tmp_path):
    """`~.tif` is a name like any other."""
    image = write_image(tmp_path / "~.tif", smooth((1, *SHAPE)))
    path = _config(tmp_path, "input: {source: ~.tif}\n")
    assert resolve_sources(load_config(path))[0].paths == (str(image),)


@pytest.mark.parametrize("name", ["~.tif", "~other.tif"])
@pytest.mark.parametrize("role", ["image", "mask", "reference"])
def test_a_run_with_a_tilde(tmp_path, monkeypatch, name, role):
    """Its record names it as the config does, also where nothing says which folder is the home."""
    files = {"image": "image.tif", "mask": "mask.tif", "reference": "reference.tif"} | {role: name}
    for number, one in enumerate(("image", "reference")):
        write_image(tmp_path / files[one], smooth((1, *SHAPE), seed=number))
    write_image(tmp_path / files["mask"], blobs(SHAPE, n=1, radius=3)[None])
    given = {
        "input": {"source": files["image"], "references": [files["reference"]]},
        "mask": [{"kind": "raster", "path": files["mask"]}],
        "model": {"kind": "harmonic"},
        "compute": {"executor": "serial"},
    }
    config = _config(tmp_path, json.dumps(given | {"output": {"directory": "out"}}))
    # no home folder is known: no variable, and a number of a user that the machine does not list
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert command("run", config).code == 0
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir() and path.name != ".work")
    stated = json.loads((folder / "record.json").read_text())["config"]
    assert stated["input"]["source"] == files["image"]
    assert stated["mask"][0]["path"] == files["mask"]
    assert stated["input"]["references"][0]["source"] == files["reference"]
    assert command("verify", folder).code == 0
    (tmp_path / name).write_bytes(b"")
    outcome = command("run", config, "--overwrite")
    assert outcome.code == 4, outcome.err
    assert name in json.loads(next((tmp_path / "out").glob("*.failure.json")).read_text())["error"]


@pytest.mark.parametrize("mask", ["/", "folder", "pipe.tif", "/dev/zero"])
def test_masks_that_are_no_file(tmp_path, mask):
    """Exit 4 without a look inside: a folder would be hashed with all that is in it."""
    image = write_image(tmp_path / "image.tif", smooth((1, *SHAPE)))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    outcome = command("run", run_config(tmp_path, image, Path(mask)))
    assert outcome.code == 4, outcome.err
    assert "no mask file" in outcome.err


def test_a_mask_beside_an_image_with_a_long_name(tmp_path):
    """Looking for a mask whose name would be too long finds none."""
    image = write_image(tmp_path / ("i" * 245 + ".tif"), smooth((1, *SHAPE)))
    text = f"input: {{source: {image}, references: [{image}]}}\nmask: []\n"
    (spec,) = resolve_sources(load_config(_config(tmp_path, text)))
    assert spec.references[0].mask == ()


def test_catalogs_made_to_harm(tmp_path, monkeypatch):
    """A name of a data set is no way out of the cache, a hash is not taken of a device, a pipe is no catalog."""
    monkeypatch.setenv("INPAINT_CACHE", str(tmp_path / "cache"))
    catalog = tmp_path / "data_catalog.yaml"
    catalog.write_text(
        "catalog_version: 1\nsources:\n"
        "  ../../out: {license: x, path: sentinel.tif, generator: {kind: demo_nothing}}\n"
        f"  zero: {{license: x, path: hostile.yaml, sha256: {{../../../../../../../../dev/zero: '{'0' * 64}'}}}}\n"
    )
    config = _config(tmp_path, "input: {source: ../../out}\nmask: []\n")
    with pytest.raises(PipelineError, match="no generator 'demo_nothing'"):
        resolve_sources(load_config(config))
    monkeypatch.chdir(tmp_path)
    outcome = command("catalog", "check", "zero")
    assert outcome.code in (0, 4)
    assert "named pipe, device or socket" in outcome.out
    catalog.unlink()
    os.mkfifo(catalog)
    assert "zero" not in list_entries(tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    """Exit 6 names the entry, the folder and the variable to set."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INPAINT_CACHE", str(tmp_path / "file"))
    outcome = command("run", _config(tmp_path, "input: {source: demo-sentinel}\n"))
    assert outcome.code == 6, outcome.err
    assert "INPAINT_CACHE" in outcome.err


@pytest.mark.parametrize("name", ["record.json", "run.json", "index.html"])
def test_an_image_with_the_name_of_a_file_of_a_run(tmp_path, name):
    """Its folder has another name: one of its own would be taken for that file."""
    image = write_image(tmp_path / f"{name}.tif", smooth((1, *SHAPE)))
    hole = write_image(tmp_path / "hole.tif", blobs(SHAPE, n=1, radius=3)[None])
    assert command("run", run_config(tmp_path, image, hole)).code == 0
    assert (tmp_path / "out" / f"{name}-2" / "record.json").is_file()
    for verb in ("status", "verify", "report"):
        assert command(verb, tmp_path / "out").code == 0


# --- what only the image can deny -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sections", "words"),
    [
        ("i.tif", {"compute": {"block": [1, 2, 3]}}, "compute.block: [1, 2, 3] has 3 numbers"),
        ("i.tif", {"patch": {"size": [32, 32, 32]}}, "patch.size: [32, 32, 32] has 3 numbers"),
        ("i.nii", {"patch": {"size": 16, "overlap": [4, 4]}}, "patch.overlap: [4, 4] has 2 numbers"),
        ("i.zarr", {"output": {"format": ["same", "zarr"]}}, "'same' and 'zarr' are one file"),
        ("i.nii", {"model": {"kind": "exemplar"}}, "'exemplar' does not fill images of 3 axes"),
        ("i.tif", {"model": {"kind": "through"}}, "'through' does not fill images of 2 axes"),
        ("i.tif", {"model": {"kind": "exemplar", "options": {"size": 4}}}, "patch size 4 must be odd"),
        ("i.tif", {"model": {"kind": "kriging", "options": {"reach": [1, 1, 1]}}}, "reach"),
        ("i.tif", {"model": {"kind": "constant", "options": {"value": "x"}}}, "value 'x' is no number"),
        ("i.tif", {"model": {"kind": "constant", "options": {"value": 10**30 * 10**30}}}, "is no number"),
        ("i.tif", {"model": {"kind": "constant", "options": {"scale": []}}}, "scale [] is not positive"),
        ("i.tif", {"model": {"kind": "identity", "options": {"x": 1}}}, "unknown option 'x'; it takes none"),
    ],
)
def test_what_does_not_suit_the_image(tmp_path, name, sections, words, monkeypatch):
    """Exit 2 before the survey computes anything, in `plan` as in `run`."""
    shape = (6, 7, 8) if name.endswith(".nii") else SHAPE
    image = write_image(tmp_path / name, smooth((1, *shape)))
    hole = write_image(tmp_path / ("hole.nii" if len(shape) == 3 else "hole.tif"), blobs(shape, n=1, radius=2)[None])

    def computed(*_: object, **__: object) -> None:
        pytest.fail("something was computed")

    monkeypatch.setattr("pipeline.survey.survey.self_test", computed)
    for verb in ("plan", "run"):
        outcome = command(verb, run_config(tmp_path, image, hole, **sections))
        assert outcome.code == 2, outcome.err
        assert words in outcome.err


# --- config new -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "missing", "empty"])
def test_a_start_config_for_no_image(tmp_path, kind):
    """Exit 4; nothing is written."""
    path = tmp_path / "image.tif"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "empty":
        path.write_bytes(b"")
    outcome = command("config", "new", path, "-o", tmp_path / "new.yaml")
    assert outcome.code == 4, outcome.err
    assert str(path) in outcome.err
    assert not (tmp_path / "new.yaml").exists()


@pytest.mark.parametrize(
    "name",
    [
        "~.tif",
        "~nouser.tif",
        "a\nb.tif",
        "a: #b.tif",
        "1e5",
        "'\".tif",
        "{x}.tif",
        "x*.tif",
        "&a.tif",
        "null",
        "a\x7fb.tif",
        "a\x85.tif",
    ],
)
def test_a_start_config_holds_for_any_name(tmp_path, name):
    """Whatever a file is called, its config is valid and finds it again."""
    image = write_image(tmp_path / "plain.tif", smooth((1, *SHAPE))).rename(tmp_path / name)
    path = _config(tmp_path, config_template(image, tmp_path).text)
    assert resolve_sources(load_config(path))[0].paths == (str(image),)
