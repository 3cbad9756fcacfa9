"""The cube of a series whose results lie in object storage, by a server on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray

from pipeline.blocks.events import Events
from pipeline.config.catalog import resolve_sources
from pipeline.config.schema import load_config
from pipeline.errors import OutputConflict, Unreachable
from pipeline.output.cube import Cube, cubes_of, make_cube
from pipeline.system import lease
from pipeline.system.facts import file_facts
from tests.helpers import blobs, command, run_config, smooth, write_image
from tests.objects import BUCKET, SECRETS, Server

DATES = ("20240601", "20240611")
STEMS = [f"S2_{date}" for date in DATES]
OUT = "out/cube.zarr/"


@pytest.fixture(scope="module")
def config(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a series of two dates whose results and cube went to the bucket."""
    folder = tmp_path_factory.mktemp("series")
    values = smooth((1, 24, 26))
    for at, stem in enumerate(STEMS):
        hole = blobs((24, 26), seed=at, n=2, radius=3)
        write_image(folder / f"{stem}.tif", values + np.uint16(20 * at))
        write_image(folder / f"{stem}_mask.tif", hole[None])
    images = {"source": [f"{stem}.tif" for stem in STEMS], "series": True}
    path = run_config(
        folder,
        "",
        None,
        mask=[{"kind": "raster", "path": "{stem}_mask.tif"}],
        input=images,
        output={"directory": f"s3://{BUCKET}/out", "cube": True},
        compute={"scratch": str(folder / "scratch")},
    )
    outcome = command("run", path)
    assert outcome.code == 0, outcome.err
    assert f"2 dates in one cube: s3://{BUCKET}/out/cube.zarr" in outcome.err
    return path


@pytest.fixture(scope="module")
def sent(config: Path, server: Server) -> dict[str, bytes]:
    """What that run has sent."""
    return server.objects("out/")


@pytest.fixture
def cube(config: Path, server: Server, sent: dict[str, bytes], tmp_path: Path) -> Iterator[Cube]:
    """That cube for a run that knows nothing of the one before; what lies in the bucket is put back afterwards."""
    before = _marks(server, "out/")
    loaded = load_config(config, [f"compute.scratch={tmp_path / 'scratch'}"])
    (one,) = cubes_of(loaded, resolve_sources(loaded))
    yield one
    server.fault = lambda *_: None
    after = _marks(server, "out/")
    for key in after.keys() - before.keys():
        server.client.delete_object(Bucket=BUCKET, Key=key)
    for key in {key for key, mark in before.items() if after.get(key) != mark}:
        server.put(key, sent[key])


def _marks(server: Server, prefix: str = OUT) -> dict[str, str]:
    """Return the marks of objects, by key: those of this server are hashes of the content."""
    listed = server.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {item["Key"]: item["ETag"] for item in listed}


def _made(cube: Cube, done: list[str] = STEMS, *, overwrite: bool = False) -> str:
    return str(make_cube(cube, done, Events(), overwrite=overwrite)["state"])


def _fetched(sent: dict[str, bytes], folder: Path) -> Path:
    for key, data in sent.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / "out"


def test_it_is_that_of_a_folder(config: Path, cube: Cube, sent: dict[str, bytes], tmp_path: Path) -> None:
    """The bytes of a cube that is made in a folder of the same results; nothing is left, no secret and no folder."""
    out = _fetched(sent, tmp_path)
    store = out / "cube.zarr"
    assert xarray.open_zarr(store).attrs["dates"] == STEMS
    expected = file_facts(store)
    store.rename(out / "sent.zarr")
    assert _made(replace(cube, path=store, address="")) == "done"
    assert file_facts(store) == expected
    work = {path.relative_to(out).as_posix() for path in (out / ".work").rglob("*") if path.is_file()}
    assert work == {".work/cube.zarr/objects.json"}
    (row,) = json.loads((out / "run.json").read_text())["cubes"]
    assert row == {"path": "cube.zarr", "dates": 2, "missing": [], "state": "done"}
    content = b"".join(data for key, data in sent.items() if key.startswith(OUT))
    assert not [secret for secret in (*SECRETS, str(config.parent)) if secret.encode() in content]
    assert not (config.parent / "scratch" / "s3" / BUCKET / "out" / ".work").exists()


def test_one_that_is_there_stays(cube: Cube, server: Server) -> None:
    """Nothing is fetched or sent for it but records; with a date that is missing now it stays as it was."""
    server.asked.clear()
    assert _made(cube) == "done"
    assert not [path for _, path in server.asked if path.endswith(".tif") or "/new/" in path]
    assert _made(cube, STEMS[:1]) == "kept"
    assert _made(cube, []) == "none"
    assert not cube.work.exists()


def test_one_that_somebody_changed_stays(cube: Cube, server: Server, sent: dict[str, bytes]) -> None:
    """An attribute, an array of ours or one of theirs: exit 6, and all of it stays; --overwrite makes it again."""
    before = _marks(server)
    for key in ("zarr.json", "restored/zarr.json", "ndvi/zarr.json"):
        changed = json.loads(sent.get(OUT + key, b'{"attributes": {}}'))
        changed["attributes"]["mine"] = True
        server.put(OUT + key, json.dumps(changed).encode())
        with pytest.raises(OutputConflict, match=rf"s3://{BUCKET}/out/cube\.zarr is not what was written"):
            _made(cube)
        assert json.loads(server.objects(OUT + key)[OUT + key]) == changed
        if key in ("zarr.json", "restored/zarr.json"):
            server.put(OUT + key, sent[OUT + key])
    assert _made(cube, overwrite=True) == "done"
    assert _marks(server) == before


def test_what_is_no_cube_is_never_replaced(cube: Cube, server: Server) -> None:
    """Something else under its name: exit 6, with --overwrite, too."""
    for key in _marks(server):
        server.client.delete_object(Bucket=BUCKET, Key=key)
    server.put(OUT + "notes.txt", b"mine")
    with pytest.raises(OutputConflict, match="is no cube of this program"):
        _made(cube, overwrite=True)
    assert server.objects(OUT) == {OUT + "notes.txt": b"mine"}


@pytest.mark.parametrize("step", ["/new/", "/out/cube.zarr/zarr.json"])
def test_lost_on_the_way(cube: Cube, server: Server, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before all has arrived the old one is there; after that readers find none until a later run has ended it."""
    before = _marks(server)

    def fault(method: str, path: str) -> None:
        if method == "PUT" and step in path:
            raise ConnectionError

    server.fault = fault
    with pytest.raises(Unreachable):
        _made(cube, overwrite=True)
    server.fault = lambda *_: None
    assert (OUT + "zarr.json" in _marks(server)) == (step == "/new/")
    if step == "/new/":
        assert _marks(server) == before
    # a lock without a sign of life, and a machine where nothing is known of the run
    monkeypatch.setattr(lease, "DEAD_S", -1.0)
    shutil.rmtree(cube.work)
    elsewhere = replace(cube, path=cube.path.parent / "elsewhere" / "cube.zarr")
    assert _made(elsewhere) == "done"
    assert _marks(server) == before
    assert not [key for key in _marks(server, "out/.work/cube.zarr/") if "objects.json" not in key]


def test_a_result_that_is_not_that_of_its_record(cube: Cube, server: Server, sent: dict[str, bytes]) -> None:
    """A layer that somebody changed, or a record that names another file, gets into no cube; what was there stays."""
    before = _marks(server)
    key = f"out/{STEMS[0]}/{STEMS[0]}_restored.tif"
    server.put(key, sent[key] + b" ")
    with pytest.raises(OutputConflict, match=rf"{STEMS[0]}_restored\.tif is not what its record says"):
        _made(cube, overwrite=True)
    record = f"out/{STEMS[0]}/record.json"
    server.put(record, sent[record].replace(f'"{STEMS[0]}_restored.tif"'.encode(), b'"../../mine.tif"'))
    with pytest.raises(OutputConflict, match="outside of its folder"):
        _made(cube, overwrite=True)
    assert _marks(server) == before
