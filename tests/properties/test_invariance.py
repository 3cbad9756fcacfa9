"""One result hash over block size, batch size, executor, workers, order and interruption (promise P3)."""

from __future__ import annotations

import json
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline.blocks.block import process_block
from pipeline.blocks.store import create_store
from pipeline.fills import tension
from pipeline.plan.facts import save_survey
from pipeline.plan.plan import load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.survey.survey import survey
from pipeline.system.files import remove_made
from tests.helpers import (
    blobs,
    command,
    layer,
    order_of,
    pixels,
    result_hash,
    run_config,
    smooth,
    tiny_weights,
    use_everything,
    write_image,
)
from tests.unit.test_evidence_doubt import clouds, ground, ring


@pytest.fixture
def _everything_is_used(monkeypatch):
    """Give references and network a fixed part in the result, whatever the self-test says."""
    use_everything(monkeypatch)


def _scene(folder: Path, ndim: int) -> Path:
    """Write an image with a cloudy reference and an untrained network; return the config."""
    folder.mkdir(parents=True, exist_ok=True)
    shape, suffix = ((61, 83), ".tif") if ndim == 2 else ((14, 20, 17), ".nii.gz")
    patch = {"size": 32, "overlap": 8} if ndim == 2 else {"size": 12, "overlap": 4}
    values = smooth((2, *shape))
    image = write_image(folder / f"image{suffix}", values)
    mask = write_image(folder / f"mask{suffix}", blobs(shape, n=6, radius=7 - ndim)[None])
    other = (values * 0.7 + 100 + np.random.default_rng(5).normal(0, 4, values.shape)).astype(values.dtype)
    reference = write_image(folder / f"other{suffix}", other)
    cloud = write_image(folder / f"cloud{suffix}", blobs(shape, n=2, radius=11 - 2 * ndim)[None])
    entry = {"path": str(reference), "mask": [{"kind": "raster", "path": str(cloud)}]}
    weights = tiny_weights(folder, ndim)
    model = {"kind": "autoencoder", "weights": str(weights)}
    return run_config(folder, image, mask, input={"references": [entry]}, model=model, patch=patch)


def _run(config: Path, *settings: str) -> str:
    """Run into a fresh folder and return the result hash."""
    target = config.parent / f"out-{abs(hash(settings))}"
    outcome = command("run", config, "--quiet", "--set", f"output.directory={target}", *_sets(*settings))
    assert outcome.code == 0, outcome.err
    return result_hash(target / "image")


def _sets(*settings: str) -> list[str]:
    return [part for one in settings for part in ("--set", one)]


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A raster scene and the hash of its plain run, with everything in use."""
    with pytest.MonkeyPatch.context() as patch:
        use_everything(patch)
        config = _scene(tmp_path_factory.mktemp("flat"), 2)
        return config, _run(config)


def test_everything_took_part(flat):
    """The scene of these tests uses spline, reference and network, or they would show nothing."""
    config, _ = flat
    folder = config.parent / f"out-{abs(hash(()))}" / "image"
    assert set(np.unique(pixels(layer(folder, "source")))) == {0, 2, 10}
    record = json.loads((folder / "record.json").read_text())
    assert record["recipe"]["network_weight"] == 0.6
    assert record["recipe"]["reference_weights"] == [0.6]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("compute.block=16",),
        ("compute.block=[25, 40]", "compute.batch_size=3"),
        ("compute.block=64", "compute.batch_size=8"),
        ("compute.block=20", "compute.executor=local", "compute.workers=2"),
    ],
)
@pytest.mark.usefixtures("_everything_is_used")
def test_cutting_and_executors_do_not_change_the_result(flat, settings):
    """Block and batch size, serial or worker processes: the same bytes in all three layers."""
    config, expected = flat
    assert _run(config, *settings) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("_everything_is_used")
def test_order_and_interruption_do_not_change_the_result(flat):
    """Some blocks in random order, some of them twice, one torn journal line: then `run` finishes to the same hash."""
    config, expected = flat
    target = config.parent / "out-interrupted"
    settings = (f"output.directory={target}", "compute.block=16")
    order = order_of(config, *settings)
    order.work.request.write_text(order.request)
    found = survey(order.job)
    create_store(found.plan, order.n_file_channels)
    save_survey(found.plan, found.facts())
    plan = load_plan(order.work)
    blocks = list(range(len(plan.blocks)))
    random.Random(4).shuffle(blocks)
    early = blocks[: len(blocks) // 2]
    for block in [*early, early[0]]:
        process_block(plan.workdir, plan.digest, block)
    with next(order.work.journal.iterdir()).open("ab") as stream:
        stream.write(b'{"block": 3, "pl')
    outcome = command("run", config, "--quiet", *_sets(*settings))
    assert outcome.code == 0, outcome.err
    assert result_hash(target / "image") == expected
    done = [json.loads(line)["block"] for line in _journal_lines(target / "image" / ".work") if line.endswith("}")]
    assert sorted(done) == sorted([*blocks, early[0]])


def _journal_lines(workdir: Path) -> list[str]:
    files = WorkFolder(workdir).journal.glob("*.jsonl")
    return [line for f in files for line in f.read_text().splitlines() if line]


@pytest.mark.slow
@pytest.mark.usefixtures("_everything_is_used")
def test_volumes_too(tmp_path):
    """Three dimensions: two block and batch sizes, one hash."""
    config = _scene(tmp_path, 3)
    assert _run(config) == _run(config, "compute.block=[6, 30, 9]", "compute.batch_size=4")


@pytest.mark.slow
def test_a_coarse_start_does_not_change_with_blocks(tmp_path, monkeypatch):
    """Where the image is too large for an exact base fill, patches start from the coarse one: still one hash."""
    for bound in ("_MAX_EXACT_VALUES", "_MAX_COARSE_VALUES"):
        monkeypatch.setattr(f"pipeline.survey.coarse.{bound}", 3000)
    shape = (70, 90)
    image = write_image(tmp_path / "image.tif", smooth((1, *shape)))
    mask = write_image(tmp_path / "mask.tif", blobs(shape, n=3, radius=14)[None])
    config = run_config(tmp_path, image, mask)
    hashes = {_run(config), _run(config, "compute.block=16"), _run(config, "compute.block=[33, 50]")}
    assert len(hashes) == 1
    record = json.loads((tmp_path / f"out-{abs(hash(()))}" / "image" / "record.json").read_text())
    assert record["recipe"]["coarse_cell_px"] > 1


@pytest.mark.usefixtures("_everything_is_used")
def test_two_surveys_give_one_key(flat):
    """The plan is a pure function of input and config; folder, block and batch are not part of its key."""
    config, _ = flat
    keys, digests = set(), set()
    for k, settings in enumerate([(), (), ("compute.block=16",), ("compute.batch_size=2",)]):
        target = config.parent / f"survey-{k}"
        shutil.rmtree(target, ignore_errors=True)
        order = order_of(config, f"output.directory={target}", *settings)
        plan = survey(order.job).plan
        keys.add(plan.key)
        digests.add(plan.digest)
    assert len(keys) == 1
    assert len(digests) == 3


def test_another_seed_or_patch_is_another_key(tmp_path):
    """What may change values changes the key."""
    shape = (40, 44)
    image = write_image(tmp_path / "image.tif", smooth((1, *shape)))
    mask = write_image(tmp_path / "mask.tif", blobs(shape, n=3)[None])
    config = run_config(tmp_path, image, mask, model={"kind": "constant", "options": {"value": 1}})
    plan = survey(order_of(config).job).plan
    others = [
        survey(order_of(config, one).job).plan
        for one in ("patch.overlap=4", "seed=1", "model.options={value: 2}", "mask=[{kind: threshold, above: 900}]")
    ]
    assert len({plan.key, *(p.key for p in others)}) == 5
    assert replace(plan, workdir="elsewhere", batch=7).key == plan.key


@pytest.mark.parametrize(("haze", "asks"), [(0.0, "pipeline.selftest.rim"), (500.0, "pipeline.evidence.shifts")])
def test_whatever_a_plan_draws_follows_the_seed(tmp_path, monkeypatch, haze, asks):
    """Hidden pixels, windows, and the shifts that tell haze from chance: with another seed all of them are others."""
    drawn, make = {}, np.random.default_rng

    def watched(seed=None):
        drawn.setdefault(sys._getframe(1).f_globals["__name__"], []).append(seed)
        return make(seed)

    hole = clouds(2)
    spectrum = np.array([1.0, 0.7, 0.3, 0.0])[:, None, None]
    values = ground(1) + haze * spectrum * ring(hole, 4.0)
    image = write_image(tmp_path / "image.tif", values.astype(np.float32))
    mask = write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    order = order_of(run_config(tmp_path, image, mask, patch=None, seed=7))
    monkeypatch.setattr(np.random, "default_rng", watched)
    survey(order.job)
    ours = {name: seeds for name, seeds in drawn.items() if name.startswith("pipeline.")}
    assert {"pipeline.selftest.placing", asks} <= set(ours)
    assert {name for name, seeds in ours.items() if any(np.atleast_1d(seed)[0] != 7 for seed in seeds)} == set()


@pytest.mark.slow
def test_wide_holes_with_fewer_unknowns_do_not_depend_on_blocks(tmp_path, monkeypatch):
    """Which pixels are unknowns deep inside follows from the patch, wherever a block begins."""
    # patches fill such holes themselves where the coarse fill is one of cells
    monkeypatch.setattr("pipeline.survey.coarse._MAX_EXACT_VALUES", 1000)
    made, thinned = [], tension.thinned
    monkeypatch.setattr(tension, "thinned", lambda *given: made.append(thinned(*given)) or made[-1])
    rows, columns = np.mgrid[:213, :241]
    hole = np.hypot(rows - 105, columns - 121) + 6 * np.sin(columns / 5) < 76
    image = write_image(tmp_path / "image.tif", smooth((1, *hole.shape), "float32"))
    mask = write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    order = order_of(run_config(tmp_path, image, mask, patch={"size": 288, "overlap": 72}))
    found = survey(order.job)
    restored = []
    for block in (50, 112, 256):
        plan = survey(replace(order.job, block=(block, block))).plan
        assert plan.key == found.plan.key
        save_survey(plan, found.facts())
        create_store(plan, order.n_file_channels)
        remove_made(order.work.seams)
        made.clear()
        for number in range(len(plan.blocks)):
            process_block(plan.workdir, plan.digest, number)
        assert any(one is not None for one in made)
        restored.append(zarr.open_array(order.work.blocks / "restored", mode="r")[:][:, hole])
    assert all(np.array_equal(one, restored[0]) for one in restored)
