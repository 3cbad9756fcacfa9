"""Windows of the survey on workers: the verdict of one process, whatever happens to them, and nothing left behind."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker

from pipeline.errors import ClusterGone, IntegrityError, Interrupted, PlanRefused
from pipeline.execute import cluster, local, serial
from pipeline.execute._crew import DaskCrew, crew_of
from pipeline.execute._parcels import Depot, packed, unpacked
from pipeline.execute.base import Work
from pipeline.models import autoencoder
from pipeline.models.base import Portable, reduced_to, take_fewer
from pipeline.output.assemble import assemble
from pipeline.plan.refs import ModelRef
from pipeline.plan.workdir import WorkFolder
from pipeline.registry import load
from pipeline.selftest.setup import self_test
from pipeline.system.meter import lap, metered
from pipeline.system.signals import stoppable
from tests.helpers import blobs, command, result_hash, run_config, smooth, tiny_weights, write_image

SHAPE = (48, 56)


@contextmanager
def _in_process(workers: int) -> Iterator[Client]:
    """Workers in this process: what they are given and give back goes through a scheduler all the same."""
    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": None, "protocol": "inproc://"}
    free_port = {"dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=workers, scheduler_kwargs=free_port, **options) as some, Client(some) as one:
        yield one


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers."""
    with _in_process(2) as one:
        yield one


@pytest.fixture
def crew(client: Client, tmp_path: Path) -> Iterator[DaskCrew]:
    """The two workers, for one image whose holes are known."""
    WorkFolder(tmp_path).state.mkdir()
    with crew_of(client, Work(workdir=str(tmp_path), digest="", blocks=()), patience_s=60) as one:
        yield one


@pytest.fixture
def calls(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What becomes of the workers of `executor: cluster`, which are those of `client`."""
    told: list[str] = []

    @contextmanager
    def opened(work: Work, _: Callable[[], bool]) -> Iterator[DaskCrew]:
        told.append("opened")
        try:
            with crew_of(client, work, patience_s=60) as one:
                yield one
        finally:
            told.append("closed")

    monkeypatch.setattr(cluster, "opened", opened)
    return told


def _config(folder: Path, **sections: Any) -> Path:
    """An image whose bands have holes of their own, with a reference and a network."""
    image = write_image(folder / "image.tif", smooth((2, *SHAPE)))
    other = write_image(folder / "other.tif", smooth((2, *SHAPE), seed=1))
    holes = np.stack([blobs(SHAPE, seed=k, n=4, radius=3) for k in range(2)])
    mask = write_image(folder / "mask.tif", holes)
    weights = {"kind": "autoencoder", "weights": str(tiny_weights(folder / "weights"))}
    return run_config(folder, image, mask, input={"references": [{"path": str(other)}]}, model=weights, **sections)


def test_workers_come_to_the_verdict_of_one_process(tmp_path, calls):
    """The same plan and bytes; the record says who computed, what they counted is there, and no file is left."""
    config = _config(tmp_path, compute={"scheduler": "tcp://127.0.0.1:1"})
    found = []
    for executor in ("serial", "cluster"):
        folder = tmp_path / executor
        outcome = command("run", config, "--set", f"output.directory={folder}", "--set", f"compute.executor={executor}")
        assert outcome.code == 0, outcome.err
        record = json.loads((folder / "image" / "record.json").read_text())
        found.append((record["plan"], result_hash(folder / "image")))
        by = record["self_test"]["computed_by"]
        assert record["roofline"]["work"]["network"]["took_s"] > 0
        assert not (folder / ".work").exists()
        assert not WorkFolder.of(folder / "image").parcels.exists()
    assert found[0] == found[1]
    assert by == {"executor": "cluster", "workers": 2}
    assert calls == ["opened", "closed"]


def test_a_refused_plan_leaves_no_worker(tmp_path, calls, monkeypatch):
    """Exit 3: what is known before windows are computed asks for nobody, what shows later sends all away."""
    config = _config(tmp_path, compute={"executor": "cluster", "scheduler": "tcp://127.0.0.1:1"})
    assert command("run", config, "--set", "compute.memory_per_worker=40MiB").code == 3
    assert calls == []

    def refuses(*_: object) -> None:
        raise PlanRefused("the GPU has no memory")

    monkeypatch.setattr("pipeline.survey.survey._gpu", refuses)
    assert command("run", config).code == 3
    assert calls == ["opened", "closed"]
    assert not list((tmp_path / "out" / ".work").glob("*/parcels"))


def test_processes_of_this_machine_start_beside_the_self_test(tmp_path, monkeypatch):
    """They are asked for before it, not by a run that is refused for what is known then, and gone before the files."""
    config, told = _config(tmp_path, compute={"executor": "local", "workers": 2}), []

    @contextmanager
    def opened(work: Work, _: Callable[[], bool]) -> Iterator[Any]:
        told.append(("opened", work.workers, work.digest))
        yield SimpleNamespace(execute=partial(_serially, told), workers=0)
        told.append("closed")

    def tested(*arguments: Any) -> Any:
        told.append("self-test")
        return self_test(*arguments)

    def assembled(*arguments: Any, **options: Any) -> Any:
        told.append("files")
        return assemble(*arguments, **options)

    monkeypatch.setattr(local, "opened", opened)
    monkeypatch.setattr("pipeline.survey.survey.self_test", tested)
    monkeypatch.setattr("pipeline.run.assemble", assembled)
    assert command("run", config, "--set", "compute.memory_per_worker=40MiB").code == 3
    assert told == []
    # two blocks, so that two workers are worth while
    outcome = command("run", config, "--set", "compute.block=[48, 28]")
    assert outcome.code == 0, outcome.err
    assert told == [("opened", 2, ""), "self-test", "blocks", "closed", "files"]
    record = json.loads((tmp_path / "out" / "image" / "record.json").read_text())
    assert record["self_test"]["computed_by"] == {"executor": "here", "threads": 2}


def _serially(told: list[Any], work: Work, on_done: Callable[[Any], None], should_stop: Callable[[], bool]) -> Any:
    told.append("blocks")
    return serial.execute(work, on_done, should_stop)


def test_results_come_in_order_with_what_was_counted(crew):
    """Laps of the workers are laps of whoever asked; the first error in order is raised."""

    def looked(values: np.ndarray) -> np.ndarray:
        with lap("read") as done:
            done.amount = float(values.size)
        if values[0] > 3:
            raise ValueError(str(values[0]))
        return values[::-1]

    with metered() as uses:
        found = crew.each(looked, [np.arange(k, 20_000 + k) for k in range(4)])
    assert [int(some[-1]) for some in found] == [0, 1, 2, 3]
    assert uses["read"].amount == 80_000
    assert crew.workers == 2
    with pytest.raises(ValueError, match=r"^4$"):
        crew.each(looked, [np.arange(k, 20_000 + k) for k in range(6)])


_BEGUN: list[int] = []
_GO_ON = threading.Event()


def _waits(k: int) -> None:
    _BEGUN.append(k)
    _GO_ON.wait(60)


def test_a_stop_ends_the_waiting(crew, client):
    """While windows are computed; what nobody has begun is never begun."""
    try:
        with stoppable(lambda: bool(_BEGUN)), pytest.raises(Interrupted):
            crew.each(_waits, range(9))
    finally:
        _GO_ON.set()
    # what is asked now comes after all that was left: one that is computed and one that waits at each worker
    assert client.submit(int, 7).result(timeout=60) == 7
    assert len(_BEGUN) <= 4


def test_nobody_is_waited_for_for_ever(tmp_path):
    """Without workers, when the time is over or it is known that none come."""
    with _in_process(0) as alone:
        crew = DaskCrew(alone, Work(workdir=str(tmp_path), digest="", blocks=()), patience_s=0.01, check=lambda: None)
        with pytest.raises(ClusterGone, match="all dask workers are gone"):
            crew.each(abs, [-1])


def test_a_scheduler_that_drops_windows_is_gone(crew, client, monkeypatch):
    """As when it ends while they are computed: exit 75, a rerun begins again."""

    def dropped(*_: object) -> Any:
        future = client.submit(abs, -1, pure=False)
        future.cancel()
        return future

    monkeypatch.setattr(crew, "_submitted", dropped)
    with pytest.raises(ClusterGone, match="does not answer"):
        crew.each(abs, [-1])


def test_a_window_that_ends_every_worker_is_said(crew):
    """Not who comes next: it would end them, too."""
    lost = KilledWorker("window", None, 3)
    future = SimpleNamespace(done=lambda: True, status="error", exception=lambda **_: lost)
    with pytest.raises(ClusterGone, match="ended every worker that had it"):
        crew._result(future)


def _shown(array: np.ndarray) -> tuple[Any, ...]:
    return array.shape, array.strides, array.dtype.str, array.tobytes()


def test_arrays_keep_their_layout(tmp_path):
    """Sums round by it; repetitions take no room, and arrays that were sent are not sent again."""
    rng = np.random.default_rng(0)
    plain = rng.random((3, 40, 90)).astype(np.float32)
    arrays = [
        plain,
        np.asfortranarray(plain),
        np.broadcast_to(plain[:1], (50, 40, 90)),
        np.broadcast_to(plain[:, None, :, :1].copy(), (3, 2, 40, 90)),
        plain.transpose(1, 0, 2),
        plain[:, [2, 0]].transpose(2, 1, 0).repeat(60, axis=0),
    ]
    for array in arrays:
        assert _shown(unpacked(packed(array))) == _shown(array)
    depot = Depot(tmp_path / "parcels")
    whole = depot.packed({"some": arrays, "again": [plain, plain.copy()]})
    for got, array in zip(unpacked(whole, depot.folder)["some"], arrays, strict=True):
        assert _shown(got) == _shown(array)
        assert got.strides == array.strides
    files = sorted(path.stat().st_size for path in depot.folder.iterdir())
    depot.packed((plain, "another head"))
    assert sorted(path.stat().st_size for path in depot.folder.iterdir()) == files
    assert files.count(plain.nbytes) <= 3
    assert len(whole.head) < 20_000
    depot.close()
    assert not depot.folder.exists()


def test_a_file_that_is_not_what_was_written_is_an_error(tmp_path, monkeypatch):
    """Named, after it was waited for as long as a network file system may hide what is new."""
    monkeypatch.setattr("pipeline.system.late.LONGEST_S", 0.0)
    depot = Depot(tmp_path / "parcels")
    parcel = depot.packed(np.arange(9000))
    (file,) = depot.folder.iterdir()
    file.write_bytes(b"short")
    with pytest.raises(IntegrityError, match=file.name):
        unpacked(parcel, depot.folder)


def test_a_network_travels_as_what_it_is_opened_by(tmp_path, monkeypatch):
    """Once a process, with the weights that the plan names; a full GPU there makes passes smaller here."""
    monkeypatch.setitem(autoencoder._PASS, "cpu", 8)
    path = tiny_weights(tmp_path)
    model = load("models", "autoencoder").open_model(path, ndim=2, device="cpu", options={})
    ref = ModelRef(kind="autoencoder", weights=str(path), sha256=model.sha256, options={})
    carried = Portable(model, ref.opening(2))
    parcel = packed(carried)
    assert len(parcel.head) < 1000
    there = unpacked(parcel)
    assert there is unpacked(packed(carried))
    assert (there.sha256, there.views, there.channels_a_pass) == (model.sha256, model.views, model.channels_a_pass)
    for said, kept in ((4, 4), (2, 2), (4, 2)):
        take_fewer(carried, said)
        assert reduced_to(carried) == reduced_to(model) == kept
    with pytest.raises(IntegrityError, match="the weights changed"):
        replace(ref.opening(2), sha256="0" * 64).open()
