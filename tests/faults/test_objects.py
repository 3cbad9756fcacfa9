"""Images and results in object storage, by a server on this machine: what is sent, what goes wrong, what is kept."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.blocks.events import Events
from pipeline.config.fetched import copied, matching
from pipeline.errors import ConfigError, Interrupted, OutputConflict, Unreachable
from pipeline.orders import Order
from pipeline.output.delivery import delivered_before, make_and_deliver, send_summary
from pipeline.output.folder import claimed
from pipeline.provenance.summary import is_summary
from pipeline.system import lease, objects
from pipeline.system.lease import leased
from pipeline.system.objects import Address, Bucket
from pipeline.system.signals import stoppable
from tests.helpers import blobs, command, order_of, pixels, run_config, smooth, write_image
from tests.objects import BUCKET, SECRETS, Server

OUT = f"s3://{BUCKET}/out"
LOCK = Address(BUCKET, "locks/lock")


@pytest.fixture(autouse=True)
def _healthy(server: Server) -> Iterator[None]:
    server.asked.clear()
    yield
    server.fault = lambda *_: None


@pytest.fixture(scope="module")
def scene(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image and mask of one scene, on this machine and in the bucket."""
    folder = tmp_path_factory.mktemp("scene")
    hole = blobs((24, 26), n=2, radius=3)
    for name, values in (("image", smooth((2, 24, 26))), ("mask", hole[None])):
        path = write_image(folder / f"{name}.tif", values)
        server.put(f"in/{name}.tif", path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def local(scene: Path) -> Path:
    """The results of the same scene without any object storage."""
    config = _config(scene, "local", output={"directory": str(scene / "local")})
    assert command("run", config).code == 0
    return scene / "local" / "image"


@pytest.fixture(scope="module")
def done(server: Server, scene: Path) -> tuple[Path, Any, dict[str, bytes]]:
    """A run from the bucket to the bucket: its config, what it said, and what it sent."""
    config = _config(scene, "all", output={"directory": f"{OUT}/all", "format": ["same", "zarr"]})
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    return config, outcome, server.objects("out/all/")


def _config(folder: Path, name: str, **sections: Any) -> Path:
    home = folder / name
    home.mkdir(exist_ok=True)
    mask = [{"kind": "raster", "path": f"s3://{BUCKET}/in/mask.tif"}]
    given = {"output": {"directory": f"{OUT}/{name}"}, "compute": {"scratch": str(home / "scratch")}, **sections}
    return run_config(home, f"s3://{BUCKET}/in/image.tif", None, mask=mask, **given)


def _bucket(refusal: type = ConfigError) -> Bucket:
    return Bucket(name=BUCKET, where="output.directory", refusal=refusal)


def _left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_same_bytes_as_without(done, local, tmp_path):
    """Values do not depend on where an image lies; what is sent is complete."""
    _, outcome, sent = done
    assert f"result {OUT}/all/image/image_restored.tif" in outcome.err
    assert "upload: sends the results" in outcome.err
    for role in ("restored", "uncertainty", "source"):
        name = f"image_{role}.tif"
        (tmp_path / name).write_bytes(sent[f"out/all/image/{name}"])
        assert np.array_equal(pixels(tmp_path / name), pixels(local / name), equal_nan=True)
    record = json.loads(sent["out/all/image/record.json"])
    for output in record["outputs"]:
        single = sent.get(f"out/all/image/{output['path']}")
        if single is not None:
            assert hashlib.sha256(single).hexdigest() == output["sha256"]
    assert any(key.startswith("out/all/image/image_restored.zarr/") for key in sent)
    assert json.loads(sent["out/all/run.json"])["exit_code"] == 0


def test_nothing_else_is_left(done):
    """No lock, nothing on its way, no copies on this machine."""
    config, _, sent = done
    assert not [key for key in sent if key.startswith("out/all/.work")]
    assert _left(config.parent / "scratch") == [f"s3/{BUCKET}/out/all/run.json"]


def test_the_record_names_addresses_and_no_folders(done):
    """Inputs by address and hash; no folder of this machine and no credentials in any object or message."""
    config, outcome, sent = done
    record = json.loads(sent["out/all/image/record.json"])
    assert record["inputs"][0]["path"] == f"s3://{BUCKET}/in/image.tif"
    content = (config.parent.parent / "image.tif").read_bytes()
    assert record["inputs"][0]["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["masks"][0]["files"][0]["path"] == f"s3://{BUCKET}/in/mask.tif"
    assert record["config"]["output"]["directory"] == f"{OUT}/all"
    everything = b"".join(sent.values()) + (outcome.err + outcome.out).encode()
    for secret in (*SECRETS, str(config.parent)):
        assert secret.encode() not in everything


def test_again_there_is_nothing_to_do(done, server):
    """A finished run is believed by the server's marks: no result is fetched or sent again."""
    config, _, sent = done
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert "finished by an earlier run" in outcome.err
    assert {"image_restored.tif"}.isdisjoint(path.rsplit("/", 1)[-1] for _, path in server.asked)
    for arguments in (("shard", "1/2"), ("assemble",)):
        again = command(*arguments, config)
        assert again.code == 0, again.err
        assert "finished by an earlier run" in again.err
    after = server.objects("out/all/image/")
    assert after == {key: data for key, data in sent.items() if key in after}


def test_what_was_fetched_can_be_verified(done, tmp_path):
    """A copy of the results is checked by its hashes, and says that this is all."""
    _, _, sent = done
    for key, data in sent.items():
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    outcome = command("verify", tmp_path / "out" / "all")
    assert outcome.code == 0
    assert "files: ok" in outcome.out
    assert "only hashes could be checked" in outcome.out


def test_another_config_replaces_only_when_told(done, server):
    """Exit 6; with --overwrite the new results take the place of the old, and objects of others stay."""
    config, _, sent = done
    server.put("out/all/image/notes.txt", b"mine")
    other = ("run", config, "--set", "model.kind=nearest", "--set", "output.format=same")
    refused = command(*other)
    assert refused.code == 6
    assert "holds results of another config" in refused.err
    assert server.objects("out/all/image/") == {
        **{key: data for key, data in sent.items() if key.startswith("out/all/image/")},
        "out/all/image/notes.txt": b"mine",
    }
    assert command(*other, "--overwrite").code == 0
    after = server.objects("out/all/")
    assert after["out/all/image/notes.txt"] == b"mine"
    assert json.loads(after["out/all/image/record.json"])["config"]["model"]["kind"] == "nearest"
    assert not any(".zarr/" in key or key.startswith("out/all/.work") for key in after)


def _lost(method: str, part: str, *, after: int = 0) -> Callable[[str, str], str | None]:
    """Return a fault: from the request number `after` of a kind on, every connection is dropped."""
    seen = 0

    def fault(asked: str, path: str) -> None:
        nonlocal seen
        if asked == method and part in path:
            seen += 1
            if seen > after:
                raise ConnectionError

    return fault


class _Prepared:
    """A run whose results are made already: what is left is to send them."""

    def __init__(self, config: Path, local: Path, *overrides: str) -> None:
        self.order = order_of(config, *overrides)
        self._local = local

    def send(self, *, overwrite: bool = False) -> dict[str, Any]:
        with claimed(self.order, overwrite=overwrite):
            return make_and_deliver(self.order, self._make, Events(), overwrite=overwrite)

    def _make(self) -> dict[str, Any]:
        folder = self.order.folder
        if not folder.exists():
            shutil.copytree(self._local, folder)
        record = json.loads((folder / "record.json").read_text()) | {"request": self.order.request}
        (folder / "record.json").write_text(json.dumps(record))
        return record


def test_a_lost_connection_in_the_middle(server, scene, local):
    """Exit 75, the old results stay; the next run sends what is missing, and nothing twice."""
    config = _config(scene, "lost")
    _Prepared(config, local).send()
    before = server.objects("out/lost/image/")
    new = _Prepared(config, local, "seed=1")
    server.fault = _lost("PUT", "/new/", after=3)
    with pytest.raises(Unreachable, match=r"output\.directory: s3://.* does not answer .* run again") as error:
        new.send(overwrite=True)
    assert error.value.exit_code == 75
    server.fault = lambda *_: None
    assert server.objects("out/lost/image/") == before
    arrived = {key.rsplit("/", 1)[-1] for key in server.objects("out/lost/.work/image/new/")}
    assert arrived
    server.asked.clear()
    # told once to overwrite, it goes on without being told again
    assert new.send()["request"] == new.order.request
    sent = {path.rsplit("/", 1)[-1] for method, path in server.asked if method == "PUT" and "/new/" in path}
    assert sent
    assert not sent & arrived
    _require_complete(server, "lost", new.order)


def test_lost_while_it_publishes(server, scene, local, monkeypatch):
    """From the note on a run goes forward: no half record is ever seen, and whoever comes next ends it."""
    config = _config(scene, "step")
    _Prepared(config, local).send()
    # a lock without a sign of life, and a machine where nothing is known of the run
    monkeypatch.setattr(lease, "DEAD_S", -1.0)
    for seed, step in enumerate(("image_source.tif", ".work/objects.json", "record.json"), start=1):
        new = _Prepared(config, local, f"seed={seed}")
        server.fault = _lost("PUT", f"/out/step/image/{step}")
        with pytest.raises(Unreachable):
            new.send(overwrite=True)
        server.fault = lambda *_: None
        assert "out/step/image/record.json" not in server.objects("out/step/image/")
        other = _Prepared(config, local, f"seed={seed}", f"compute.scratch={scene / 'step' / f'elsewhere-{seed}'}")
        monkeypatch.setattr(other, "_make", None)
        assert other.send()["request"] == new.order.request
        _require_complete(server, "step", new.order)


def test_another_run_has_taken_the_lock(server, scene, local):
    """A run that was taken for dead publishes nothing when it comes back, and leaves the other's lock."""

    def fault(method: str, path: str) -> None:
        if method == "PUT" and "/new/" in path:
            server.fault = lambda *_: None
            server.put("out/fenced/.work/image/lock", b'{"host": "other", "pid": 7, "token": "t"}')

    server.fault = fault
    with pytest.raises(OutputConflict, match="another run has taken the place of this one"):
        _Prepared(_config(scene, "fenced"), local).send()
    assert not server.objects("out/fenced/image/")
    assert "out/fenced/.work/image/lock" in server.objects("out/fenced/")


def test_a_stop_while_it_is_sent(server, scene, local):
    """Exit 130 before all is sent; nothing is published, and the next run goes on."""
    run = _Prepared(_config(scene, "stop"), local)
    asked = threading.Event()

    def fault(method: str, path: str) -> None:
        if method == "PUT" and "/new/" in path:
            asked.set()

    server.fault = fault
    with pytest.raises(Interrupted), stoppable(asked.is_set):
        run.send()
    assert not server.objects("out/stop/image/")
    run.send()
    _require_complete(server, "stop", run.order)


def test_what_arrives_damaged(server, scene, local, monkeypatch):
    """What is read back is compared with what was sent; exit 75, and nothing was published."""
    run = _Prepared(_config(scene, "damaged"), local)
    monkeypatch.setattr(Bucket, "facts", lambda *_: {"bytes": 1, "sha256": "0"})
    with pytest.raises(Unreachable, match="was sent, but"):
        run.send()
    assert not server.objects("out/damaged/image/")


def test_a_changed_result_is_no_finished_one(server, scene, local):
    """Somebody wrote over a result: exit 6 with its name. One that is gone is made again."""
    run = _Prepared(_config(scene, "changed"), local)
    run.send()
    assert delivered_before(run.order)["request"] == run.order.request
    server.client.delete_object(Bucket=BUCKET, Key="out/changed/image/image_source.tif")
    assert delivered_before(run.order) is None
    run.send()
    _require_complete(server, "changed", run.order)
    server.put("out/changed/image/image_source.tif", b"other")
    with pytest.raises(OutputConflict, match=r"image_source\.tif was changed since it was written"):
        run.send()


def _require_complete(server: Server, name: str, order: Order) -> None:
    """Check that the results of an order are there as its record says, and nothing that is on its way."""
    after = server.objects(f"out/{name}/")
    record = json.loads(after[f"out/{name}/image/record.json"])
    assert record["request"] == order.request
    for output in record["outputs"]:
        assert hashlib.sha256(after[f"out/{name}/image/{output['path']}"]).hexdigest() == output["sha256"]
    assert not [key for key in after if key.startswith(f"out/{name}/.work")]


def test_an_image_that_cannot_be_fetched(server, scene):
    """A connection that is lost while an image comes: exit 75, and nothing half fetched is taken for it."""
    config = _config(scene, "half")
    server.fault = _lost("GET", "/in/mask.tif")
    outcome = command("run", config)
    assert outcome.code == 75
    assert f"s3://{BUCKET}/in/mask.tif: the server does not answer" in outcome.err
    copies = scene / "half" / "scratch" / ".work"
    assert [Path(name).name for name in _left(copies)] == ["image.tif"]
    server.fault = lambda *_: None
    order_of(config)
    assert sorted(Path(name).name for name in _left(copies)) == ["image.tif", "mask.tif"]


@pytest.mark.parametrize(
    ("sections", "code", "words"),
    [
        ({"output": {"directory": "s3://nowhere/out"}}, 2, "output.directory: s3://nowhere/.* no bucket 'nowhere'"),
        ({"input": {"source": "s3://nowhere/a.tif"}}, 4, "s3://nowhere/a.tif: there is no bucket 'nowhere'"),
        ({"input": {"source": f"s3://{BUCKET}/in/gone.tif"}}, 4, "gone.tif: no such object"),
        ({"input": {"source": f"s3://{BUCKET}/in/*.nii"}}, 4, "no object matches"),
        ({"output": {"directory": f"s3://{BUCKET}/in/.."}}, 2, "is no address of object storage"),
        ({"output": {"directory": f"s3://{BUCKET}"}, "compute": {}}, 2, "compute.scratch"),
        ({"output": {"directory": f"s3://me:key@{BUCKET}/x"}}, 2, "without user or query"),
        (
            {"input": {"source": [f"s3://{BUCKET}/in/image.tif", f"s3://{BUCKET}/in/mask.tif"]}},
            2,
            r"\[\[a\], \[b\]\] are two images",
        ),
    ],
)
def test_what_is_not_there(server, scene, sections, code, words):
    """The key or the address, and how it is written."""
    outcome = command("run", _config(scene, "wrong", **sections))
    assert outcome.code == code, outcome.err
    assert re.search(words, outcome.err), outcome.err


def test_no_permission(server, scene):
    """403: exit 4 for an image, 2 for results; the settings are named, keys are not."""
    config = _config(scene, "denied")
    for method, code in (("GET", 4), ("PUT", 2)):
        server.fault = lambda asked, _, method=method: "403 Forbidden" if asked == method else None
        outcome = command("run", config)
        assert outcome.code == code, outcome.err
        assert "AWS_PROFILE or AWS_ACCESS_KEY_ID" in outcome.err
        assert not [secret for secret in SECRETS if secret in outcome.err]


def test_no_credentials(server, scene, monkeypatch):
    """Exit 4, with the names of the settings."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    outcome = command("run", _config(scene, "nobody"))
    assert outcome.code == 4, outcome.err
    assert "no credentials" in outcome.err
    assert "AWS_SECRET_ACCESS_KEY" in outcome.err


def test_without_the_library(scene, monkeypatch):
    """Exit 2: how it is installed."""
    monkeypatch.setitem(sys.modules, "boto3.exceptions", None)
    outcome = command("run", _config(scene, "bare"))
    assert outcome.code == 2
    assert "pip install 'inpaint-pipeline[s3]'" in outcome.err


def test_a_slow_or_overloaded_server(server, scene, monkeypatch):
    """It is asked again, then exit 75."""
    config = _config(scene, "slow")
    # a client of its own: the others wait long for a server that is slow only because this machine is
    monkeypatch.setattr(objects, "_clients", [])
    monkeypatch.setattr(objects, "ANSWER_S", 0.5)
    given_up = threading.Event()
    for fault, words in ((given_up, "does not answer"), ("503 Slow Down", r"cannot answer now \(SlowDown\)")):
        server.asked.clear()
        server.fault = lambda *_, fault=fault: fault
        outcome = command("run", config)
        given_up.set()
        assert outcome.code == 75, outcome.err
        assert re.search(words, outcome.err)
        assert server.asked == [("GET", f"/{BUCKET}")] * objects.ATTEMPTS


def test_a_passing_fault_is_not_seen(server):
    """One lost connection, one overloaded answer: the second attempt gets it."""
    for fault in ("503 Slow Down", ConnectionError()):
        server.fault = _once(server, fault)
        assert "in/image.tif" in _bucket().listed("in/")


def test_in_use_by_another_run(server, scene):
    """Exit 6 with who it is, before anything is computed; what the other has is left alone."""
    server.put("out/held/.work/image/lock", b'{"host": "node7", "pid": 4242, "token": "t"}')
    outcome = command("run", _config(scene, "held"))
    assert outcome.code == 6
    assert "in use by process 4242 on node7" in outcome.err
    assert "survey" not in outcome.err
    assert list(server.objects("out/held/")) == ["out/held/.work/image/lock", "out/held/run.json"]


def test_files_of_others(server, scene):
    """An object with the name of a result that no run has written is never replaced, also with --overwrite."""
    server.put("out/theirs/image/image_restored.tif", b"theirs")
    server.put("out/theirs/run.json", b"theirs, too")
    outcome = command("run", _config(scene, "theirs"), "--overwrite")
    assert outcome.code == 6
    assert "image_restored.tif was not written by this program" in outcome.err
    assert server.objects("out/theirs/image/") == {"out/theirs/image/image_restored.tif": b"theirs"}
    with pytest.raises(OutputConflict, match=r"out/theirs/run\.json was not written by this program"):
        send_summary(f"s3://{BUCKET}/out/theirs", scene / "run.json", ours=is_summary)
    assert server.objects("out/theirs/run.json") == {"out/theirs/run.json": b"theirs, too"}


def test_an_image_where_its_results_would_go(server, scene):
    """Exit 6, also for object storage."""
    server.put("out/self/image/image.tif", (scene / "image.tif").read_bytes())
    config = _config(scene, "self", input={"source": f"{OUT}/self/image/image.tif"})
    outcome = command("run", config, "--overwrite")
    assert outcome.code == 6
    assert "which the run reads" in outcome.err


def _once(server: Server, fault: str | Exception) -> Callable[[str, str], str]:
    def wrong(*_: str) -> str:
        server.fault = lambda *_: None
        if isinstance(fault, Exception):
            raise fault
        return fault

    return wrong


def test_a_raster_and_what_belongs_to_it(server, tmp_path):
    """Sidecars come along, other names that begin alike do not; a changed object is another copy."""
    for name in ("a.tif", "a.tif.msk", "a.tif.aux.xml", "a.tif.txt", "a.tiff"):
        server.put(f"files/{name}", name.encode())
    path = copied(f"s3://{BUCKET}/files/a.tif", tmp_path)
    assert Path(path).read_bytes() == b"a.tif"
    assert [p.name for p in sorted(Path(path).parent.iterdir())] == ["a.tif", "a.tif.aux.xml", "a.tif.msk"]
    server.put("files/a.tif", b"other")
    assert Path(copied(f"s3://{BUCKET}/files/a.tif", tmp_path)).read_bytes() == b"other"
    assert Path(path).read_bytes() == b"a.tif"


@pytest.mark.parametrize("name", ["v.nii.gz", "v.zarr"])
def test_formats_that_are_read_from_files_only(server, tmp_path, name):
    """NIfTI and zarr, values bit for bit; a zarr is a folder of objects."""
    made = write_image(tmp_path / name, smooth((1, 9, 10, 11)) if name.endswith("gz") else smooth((2, 20, 21)))
    for path in [made] if made.is_file() else [p for p in made.rglob("*") if p.is_file()]:
        server.put(f"vols/{path.relative_to(tmp_path).as_posix()}", path.read_bytes())
    assert np.array_equal(pixels(copied(f"s3://{BUCKET}/vols/{name}", tmp_path / "copy")), pixels(made))


def test_names_that_lead_out_of_the_folder(server, tmp_path):
    """A key is no path: what would be written elsewhere is not fetched."""
    server.put("vols/x.zarr/zarr.json", b"{}")
    server.put("vols/x.zarr/../../../../escaped", b"no")
    copied(f"s3://{BUCKET}/vols/x.zarr", tmp_path / "copy")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["zarr.json"]
    with pytest.raises(ConfigError, match="no address"):
        copied(f"s3://{BUCKET}/../x.tif", tmp_path)


def test_wildcards(server):
    """As in a folder: `*` stays within a name."""
    for name in ("a1.tif", "a2.tif", "b1.tif", "deep/a3.tif"):
        server.put(f"globs/{name}", b"")
    assert matching(f"s3://{BUCKET}/globs/a*.tif") == [f"s3://{BUCKET}/globs/a{n}.tif" for n in (1, 2)]
    assert matching(f"s3://{BUCKET}/globs/*/a*.tif") == [f"s3://{BUCKET}/globs/deep/a3.tif"]


def test_a_large_file_goes_in_parts(server, tmp_path, monkeypatch):
    """Sent, copied by the server and fetched in parts, and the same bytes."""
    monkeypatch.setattr(objects, "_PART", 5 * 2**20)
    data = np.random.default_rng(0).bytes(11 * 2**20)
    (tmp_path / "big").write_bytes(data)
    bucket = _bucket()
    bucket.upload(tmp_path / "big", "parts/big")
    bucket.copy("parts/big", "parts/big2")
    assert bucket.facts("parts/big2") == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    bucket.download("parts/big2", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert any(method == "POST" for method, _ in server.asked)


def test_one_at_a_time(tmp_path):
    """While one has it another is refused; then it is gone."""
    with (
        leased(_bucket(), LOCK, tmp_path / "a") as held,
        pytest.raises(OutputConflict, match="in use by process"),
        leased(_bucket(), LOCK, tmp_path / "b"),
    ):
        pass
    assert held is not None
    assert _bucket().read(LOCK.key) is None


def test_the_same_run_goes_on_with_its_own(tmp_path, server):
    """A run that was killed left its lock: run again it has it at once, by the note in its work folder."""
    first = lease.Lease(_bucket(), LOCK, lease._token(tmp_path / "note"))
    first.take()
    with (
        leased(_bucket(), LOCK, tmp_path / "note"),
        pytest.raises(OutputConflict, match="in use"),
        leased(_bucket(), LOCK, tmp_path / "other"),
    ):
        pass
    assert _bucket().read(LOCK.key) is None


def test_the_dead_are_replaced(tmp_path, monkeypatch):
    """A lock without a sign of life is taken over, and its owner notices."""
    dead = lease.Lease(_bucket(), LOCK, "dead")
    dead.take()
    monkeypatch.setattr(lease, "DEAD_S", -1.0)
    with leased(_bucket(), LOCK, tmp_path / "a"):
        with pytest.raises(OutputConflict, match="taken the place"):
            dead.renew()
        dead.release()
        assert _bucket().read(LOCK.key) is not None


def test_a_sign_of_life(server, tmp_path, monkeypatch):
    """While it is held it is written anew."""
    monkeypatch.setattr(lease, "BEAT_S", 0.01)
    with leased(_bucket(), LOCK, tmp_path / "a"):
        server.asked.clear()
        while not any(method == "PUT" for method, _ in server.asked):
            time.sleep(0.01)


def test_an_answer_that_was_lost(server):
    """The server has written and its answer was lost, so the second attempt is refused: it was had."""
    data = b"mine"
    etag = _bucket().write_over("locks/lost", data, None)
    assert _bucket().write_over("locks/lost", data, None) == etag
    assert _bucket().write_over("locks/lost", b"other", None) is None


def test_a_server_on_which_no_lock_holds(server, tmp_path, monkeypatch):
    """It writes over what is there although it was told not to: refused, and nothing is left."""
    monkeypatch.setattr(server, "conditions", False)
    with pytest.raises(OutputConflict, match="ignores conditions of writes"), leased(_bucket(), LOCK, tmp_path / "a"):
        pass
    assert _bucket().read(LOCK.key) is None


def test_commands_beside_a_run(server, scene, tmp_path):
    """`inspect` fetches what it looks at; what needs a folder or a file says so."""
    outcome = command("inspect", f"s3://{BUCKET}/in/image.tif", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["channels"] == 2
    for name in ("status", "verify", "report"):
        refused = command(name, OUT)
        assert refused.code == 4
        assert "is an address; fetch the results" in refused.err
    refused = command("config", "new", f"s3://{BUCKET}/in/image.tif")
    assert refused.code == 4
    assert "lies in object storage" in refused.err
