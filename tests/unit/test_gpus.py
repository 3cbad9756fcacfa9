"""Networks on GPUs: one process a GPU, what fits is known before, and a full GPU makes smaller passes, no crash.

No GPU is needed: torch is told what it finds, and networks say that memory is full where a test wants it.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import PlanRefused
from pipeline.execute import _checks, _processes
from pipeline.execute._choose import choose_executor
from pipeline.execute._processes import cluster
from pipeline.execute._workers import work_of
from pipeline.execute.base import Work
from pipeline.models import autoencoder
from pipeline.models._choice import ModelChoice
from pipeline.models._unet import ResidualUNet
from pipeline.plan.gpu_memory import GpuMemory
from pipeline.restore.network import _predicted
from pipeline.survey.survey import outline
from pipeline.system import gpu
from pipeline.testing.models import random_patch
from tests.helpers import blobs, command, layer, order_of, pixels, run_config, smooth, tiny_weights, use_everything
from tests.helpers import write_image as write

FULL = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
WORDS = RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")


@pytest.fixture
def full_above(monkeypatch):
    """Let a pass of more channels than this find no memory; passes have eight, as on a GPU."""
    forward, limit = ResidualUNet.forward, SimpleNamespace(channels=8, error=FULL)

    def limited(network, x):
        if x.shape[0] > limit.channels:
            raise limit.error
        return forward(network, x)

    monkeypatch.setitem(autoencoder._PASS, "cpu", 8)
    monkeypatch.setattr(ResidualUNet, "forward", limited)
    return limit


@pytest.mark.parametrize("error", [FULL, WORDS], ids=["torch", "cudnn"])
def test_a_full_gpu_makes_passes_smaller(tmp_path, full_above, error):
    """Halved until they fit, and kept so; the predictions are those of large passes but for rounding."""
    weights = tiny_weights(tmp_path)
    patches = [random_patch(2)] * 4
    calm = autoencoder.open_model(weights, ndim=2, device="cpu", options={})
    expected = calm.predict(patches)
    assert calm.reduced_to is None
    full_above.channels, full_above.error = 3, error
    model = autoencoder.open_model(weights, ndim=2, device="cpu", options={})
    for found, wanted in zip(model.predict(patches), expected, strict=True):
        np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-5)
    assert (model.channels_a_pass, model.reduced_to) == (2, 2)


def test_a_gpu_without_memory_for_one_channel_is_said(tmp_path, full_above):
    """With the size of the patch and what to do."""
    model = autoencoder.open_model(tiny_weights(tmp_path), ndim=2, device="cpu", options={})
    full_above.channels = 0
    with pytest.raises(PlanRefused, match=r"one channel of a patch of 16x16 pixels; set a smaller patch\.size"):
        model.predict([random_patch(2)])


def test_other_errors_of_a_network_are_not_taken_for_a_full_gpu(tmp_path, full_above):
    """They come through as they are."""
    model = autoencoder.open_model(tiny_weights(tmp_path), ndim=2, device="cpu", options={})
    full_above.channels, full_above.error = 0, RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        model.predict([random_patch(2)])


def test_patches_that_do_not_fit_together_are_predicted_in_halves():
    """By any model; one that does not fit alone is an error."""
    seen = []

    def predict(patches):
        if len(patches) > most:
            raise FULL
        seen.append(len(patches))
        return patches

    model, most = SimpleNamespace(predict=predict), 2
    assert _predicted(model, [1, 2, 3, 4, 5]) == [1, 2, 3, 4, 5]
    assert seen == [2, 1, 2]
    most = 0
    with pytest.raises(torch.cuda.OutOfMemoryError):
        _predicted(model, [1, 2])


def test_a_run_on_a_full_gpu_ends_well_and_says_so(tmp_path, monkeypatch, full_above):
    """Notice, record and run.json have it; the plan is the same, and so is the result but for rounding."""
    use_everything(monkeypatch)
    image = write(tmp_path / "image.tif", smooth((3, 48, 48)))
    mask = write(tmp_path / "mask.tif", blobs((48, 48))[None])
    weights = str(tiny_weights(tmp_path / "weights"))
    plans, values = [], []
    for channels in (8, 1):
        full_above.channels = channels
        folder = tmp_path / f"at-most-{channels}"
        folder.mkdir()
        config = run_config(folder, image, mask, model={"weights": weights}, compute={"block": 32})
        outcome = command("run", config)
        assert outcome.code == 0, outcome.err
        results = folder / "out" / "image"
        record = json.loads((results / "record.json").read_text())
        (entry,) = json.loads((folder / "out" / "run.json").read_text())["sources"]
        plans.append(record["plan"])
        values.append(pixels(layer(results, "restored")).astype(int))
        if channels == 8:
            assert record["model"]["gpu_full"] is None
            assert "gpu_full" not in entry
            assert "GPU was full" not in outcome.err
        else:
            assert record["model"]["gpu_full"] == {"blocks": record["plan"]["blocks"], "channels_a_pass": 1}
            assert entry["gpu_full"] == record["model"]["gpu_full"]
            assert "GPU was full" in outcome.err
            assert any("takes 1 channels a pass" in notice for notice in record["notices"])
            # what was done with small passes counts as done
            (status,) = json.loads(command("status", folder / "out", "--json").out)["images"]
            assert (status["state"], status["done"]) == ("done", status["blocks"])
    assert plans[0]["block"] == plans[1]["block"]
    assert abs(values[0] - values[1]).max() <= 1


def _on_gpus(monkeypatch, count: int, visible: str | None = None) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv(gpu.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(gpu.VISIBLE, visible)


@pytest.mark.parametrize(
    ("count", "visible", "names"),
    [
        (0, None, ()),
        (2, None, ("0", "1")),
        (2, "3,5", ("3", "5")),
        (1, "GPU-8932f937, MIG-4", ("GPU-8932f937",)),
        (0, "", ()),
    ],
)
def test_gpus_are_named_as_a_process_of_their_own_must_see_them(monkeypatch, count, visible, names):
    """By the batch system's names where it gave some; only those that are there."""
    _on_gpus(monkeypatch, count, visible)
    assert gpu.gpus() == names


@pytest.mark.parametrize(("workers", "count", "working"), [("auto", 3, 4), ("auto", 0, 4), (2, 3, 2), (9, 1, 9)])
def test_workers_are_dealt_out_to_gpus(tmp_path, monkeypatch, workers, count, working):
    """As many as cores, or as were asked for: several share a GPU. Jobs have one each, which their nodes give them."""
    _on_gpus(monkeypatch, count)
    monkeypatch.setattr("pipeline.execute._choose.cores", lambda: 4)
    image = write(tmp_path / "image.tif", smooth((1, 48, 48)))
    mask = write(tmp_path / "mask.tif", blobs((48, 48), n=9)[None])
    config = run_config(tmp_path, image, mask, compute={"block": 8, "executor": "local", "memory_per_worker": "1 GiB"})
    order = order_of(config, f"compute.workers={workers}")
    plan = outline(order.job).plan
    order = replace(order, job=replace(order.job, model=ModelChoice(device="cuda")))
    executor, work = work_of(order, plan, range(9), SimpleNamespace())
    assert (executor, work.workers, work.gpus) == ("local", working, tuple("012"[:count]))
    assert choose_executor(replace(order, executor="slurm", workers=9), plan, 9) == ("slurm", 9)


def test_few_workers_share_a_gpu_by_default(monkeypatch):
    """Each takes memory of it."""
    _on_gpus(monkeypatch, 2)
    monkeypatch.setattr("pipeline.execute._choose.cores", lambda: 64)
    order: Any = SimpleNamespace(
        executor="local",
        workers="auto",
        job=SimpleNamespace(memory_bytes=1, model=SimpleNamespace(device="cuda")),
    )
    assert choose_executor(order, SimpleNamespace(), 10**6) == ("local", 16)


def test_workers_see_their_own_gpu_and_so_does_what_takes_their_place(monkeypatch):
    """In turn, whichever starts first; on a busy machine as late as the test waits for them."""
    monkeypatch.setattr(_processes, "_START_SECONDS", 300)
    with cluster(2, 2**30, ("7", "GPU-5")) as client:
        client.wait_for_workers(2, timeout=300)
        seen = client.run(os.getenv, gpu.VISIBLE)
        assert sorted(seen.values()) == ["7", "GPU-5"]
        client.restart_workers(list(seen), timeout=300)
        client.wait_for_workers(2, timeout=300)
        assert sorted(client.run(os.getenv, gpu.VISIBLE).values()) == ["7", "GPU-5"]


@pytest.mark.parametrize(
    ("free", "said"), [(2000, ""), (900, "8 channels a pass may need"), (700, "if they do not fit")]
)
def test_what_the_network_needs_is_compared_with_what_is_free(free, said):
    """Smaller passes are announced with numbers."""
    memory = GpuMemory(needed={8: 1400 * 2**20, 4: 1000 * 2**20, 2: 800 * 2**20, 1: 700 * 2**20}, free=free * 2**20)
    assert said in memory.check("image.tif")
    assert bool(memory.check("image.tif")) == bool(said)


@pytest.mark.parametrize("free_mib", [100_000, 620])
def test_the_plan_has_the_memory_of_the_gpu(tmp_path, monkeypatch, free_mib):
    """For each number of channels a pass, and what is free; too little is refused with both numbers."""
    opened = ModelChoice.open
    monkeypatch.setattr(ModelChoice, "open", lambda self, *a: opened(replace(self, device="cpu"), *a))
    monkeypatch.setitem(autoencoder._PASS, "cpu", 8)
    _on_gpus(monkeypatch, 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_mib * 2**20, 2**37))
    image = write(tmp_path / "image.tif", smooth((1, 300, 300)))
    mask = write(tmp_path / "mask.tif", blobs((300, 300))[None])
    settings = {"model": {"weights": str(tiny_weights(tmp_path / "weights"))}, "patch": {"size": 256, "overlap": 64}}
    config = run_config(tmp_path, image, mask, compute={"device": "cuda"}, **settings)
    outcome = command("plan", config, "--json")
    if free_mib == 620:
        assert outcome.code == 3
        assert "0.67 GiB of GPU memory for one channel of a patch, 0.61 GiB are free" in outcome.err
        return
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)["images"]
    assert row["gpu_free_GiB"] == pytest.approx(free_mib / 1024)
    needed = [row[f"gpu_GiB_for_{channels}_a_pass"] for channels in (8, 4, 2, 1)]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] - needed[1] == pytest.approx(4 * 256 * 256 * 1400 / 2**30)


def test_workers_without_a_gpu_are_named():
    """Before anything is computed, with how jobs ask for one."""
    own = _checks._here("/shared/work") | {"plan": True, "writes": True}
    client = SimpleNamespace(run=lambda *_, **__: {"tcp://10.0.0.7:1234": own})
    work = Work(workdir="/shared/work", digest="", blocks=(), device="cuda")
    with pytest.raises(PlanRefused, match=r"10\.0\.0\.7.* sees no GPU.*--gres=gpu:1"):
        _checks.check_workers(client, work)
