"""From blended sums to stored values: rounding, clipping, nodata, refusal, the three layers of a block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zarr

from pipeline.blocks import journal
from pipeline.blocks import store as blocks_of_a_run
from pipeline.blocks.block import process_block
from pipeline.blocks.composite import Blended, composite, to_stored
from pipeline.blocks.store import create_store, damaged, store
from pipeline.errors import IntegrityError, OutputConflict
from pipeline.fills.base import FillSpec
from pipeline.geometry.box import Box
from pipeline.geometry.lattice import Lattice
from pipeline.masks.base import FILL, KEEP, NEVER
from pipeline.plan.plan import PLAN_VERSION, BlockRow, Plan, load_plan
from pipeline.plan.refs import ModelRef, SourceRef
from pipeline.plan.workdir import WorkFolder
from pipeline.restore.codes import CLASSICAL, NETWORK, NEVER_TOUCHED, OBSERVED, REFUSED
from pipeline.restore.recipe import Recipe
from pipeline.system.threads import threaded
from pipeline.testing import raster_space

SHAPE = (2, 3)


def _plan(folder: str = "nowhere", dtype: str = "uint8", **changes) -> Plan:
    plan = Plan(
        workdir=folder,
        source=SourceRef(kind="geotiff", paths=("image.tif",), staged="somewhere"),
        recipe=Recipe(fill=FillSpec("tension", {"t": 0.5}), floor=(1.0,), typical=(1.0,), low=(0.0,), high=(255.0,)),
        space=raster_space(SHAPE),
        channels=(0,),
        n_state=1,
        dtype=np.dtype(dtype).str,
        nodata=(None,),
        refused=(None,),
        centre=(0.0,),
        spread=(100.0,),
        lattice=Lattice(shape=SHAPE, patch=(4, 4), overlap=(2, 2)),
        spacing=(1.0, 1.0),
        guess_factor=1,
        block=(2, 2),
        blocks=(BlockRow.of((0, 0, 3, 1)), BlockRow.of((0, 1, 1, 2))),
        config={"seed": 0},
    )
    return replace(plan, **changes)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("uint8", 3.5, 4), ("uint8", 2.5, 2), ("uint8", -7.0, 0), ("uint8", 300.0, 255), ("int16", -40000.0, -32768),
        ("int64", 1e30, 2**63 - 1024), ("uint64", 1e30, 2**64 - 2048), ("uint64", -1.0, 0), ("float32", 0.1, 0.1),
    ],
)  # fmt: skip
def test_values_are_rounded_and_clipped(dtype, value, expected):
    """Half to even, and never past the range of the stored type."""
    result = to_stored(np.full((1, *SHAPE), value), _plan(dtype=dtype))
    assert result.dtype == np.dtype(dtype)
    assert (result == np.asarray(expected, dtype=dtype)).all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "expected"),
    [("uint8", 0.0, 1), ("uint8", 255.0, 254), ("int16", -9999.0, -9998), ("float32", 4.0, 4 + 2**-21)],
)  # fmt: skip
def test_an_estimate_is_never_nodata(dtype, nodata, expected):
    """One quantum beside it: a restored pixel must not look unobserved."""
    result = to_stored(np.full((1, *SHAPE), nodata), _plan(dtype=dtype, nodata=(nodata,)))
    assert (result == expected).all()


def test_nan_nodata_needs_no_step():
    """Nothing equals NaN, so no estimate has to move."""
    result = to_stored(np.full((1, *SHAPE), 5.0), _plan(dtype="float32", nodata=(float("nan"),)))
    assert (result == 5).all()


STATE = np.array([[[KEEP, FILL, NEVER], [FILL, FILL, KEEP]]], dtype=np.uint8)
STORED = np.arange(10, 16, dtype=np.uint8).reshape(1, *SHAPE)


def _blended(mean: float = 99.0, sigma: float = 2.0, origin: int = NETWORK) -> Blended:
    full = np.ones((1, np.count_nonzero(STATE == FILL)))
    return Blended(mean=mean * full, sigma=sigma * full, origin=np.full(full.shape, origin, np.uint8), patches=1)


def test_composite_moves_what_was_observed():
    """Holes get the estimate, everything else the stored bytes; the other layers follow the states."""
    layers = composite(_plan(), STORED, STATE, _blended())
    assert np.array_equal(layers["restored"], np.where(STATE == FILL, 99, STORED))
    expected = {KEEP: OBSERVED, FILL: NETWORK, NEVER: NEVER_TOUCHED}
    assert np.array_equal(layers["origin"], np.vectorize(expected.get)(STATE))
    sigma = layers["uncertainty"]
    assert sigma.dtype == np.float32
    assert np.allclose(sigma[STATE == FILL], 2 + 12**-0.5)
    assert (sigma[STATE == KEEP] == 0).all()
    assert np.isnan(sigma[STATE == NEVER]).all()


def test_channels_that_are_not_restored_are_moved():
    """An alpha band beside the data comes back as it was, holes or not."""
    stored = np.concatenate([STORED, STORED + 100])
    layers = composite(_plan(channels=(1,)), stored, STATE, _blended())
    assert np.array_equal(layers["restored"][0], STORED[0])
    assert np.array_equal(layers["restored"][1], np.where(STATE[0] == FILL, 99, STORED[0] + 100))


@pytest.mark.parametrize(("sigma", "refused"), [(9.0, False), (30.0, True)])
def test_too_uncertain_pixels_are_refused(sigma, refused):
    """Above the share of the value range a hole keeps its refusal code and value; nothing else changes."""
    plan = _plan(refuse_above=0.2, refused=(7.0,), nodata=(7.0,))
    layers = composite(plan, STORED, STATE, _blended(sigma=sigma, origin=CLASSICAL))
    assert (layers["restored"][STATE == FILL] == (7 if refused else 99)).all()
    assert (layers["origin"][STATE == FILL] == (REFUSED if refused else CLASSICAL)).all()
    assert np.array_equal(layers["restored"][STATE != FILL], STORED[STATE != FILL])


def test_blocks_own_their_objects(tmp_path):
    """A block of zeros leaves its objects too, and no object of a neighbour changes."""
    plan = _plan(str(tmp_path))
    create_store(plan, 1)
    first = store(plan, 0, _layers((2, 2), 0))
    names = {p: p.read_bytes() for p in tmp_path.rglob("c/0/0/*")}
    assert len(names) == 3
    second = store(plan, 1, _layers((2, 1), 5))
    assert {p: p.read_bytes() for p in names} == names
    assert len(list(tmp_path.rglob("c/0/0/*"))) == 6
    assert first["restored"] != second["restored"]


def test_blocks_go_to_a_store_that_was_made_again(tmp_path):
    """Layers are opened once a process; what is opened serves a store of the same plan that takes the place of one."""
    plan = _plan(str(tmp_path))
    create_store(plan, 1)
    store(plan, 0, _layers((2, 2), 7))
    create_store(plan, 1)
    store(plan, 1, _layers((2, 1), 5))
    found = zarr.open_array(plan.work.layer("restored"), mode="r")[0, :2]
    assert found.tolist() == [[0, 0, 5], [0, 0, 5]]


def _layers(shape: tuple[int, int], value: int) -> dict[str, np.ndarray]:
    kinds = {"restored": "uint8", "uncertainty": "float32", "origin": "uint8"}
    return {name: np.full((1, *shape), value, dtype=kind) for name, kind in kinds.items()}


def test_a_plan_survives_its_file(tmp_path):
    """What is loaded equals what was saved: dtype, tuples, nodata that is not a number, model."""
    model = ModelRef(kind="constant", weights=None, sha256="x", options={"value": 2.5})
    plan = _plan(str(tmp_path), nodata=(float("nan"),), model=model, refuse_above=0.5)
    # a work folder may move: its staged copies are found where it lies
    plan = replace(plan, source=replace(plan.source, staged=str(tmp_path / "staged")))
    plan.save()
    loaded = load_plan(WorkFolder(tmp_path))
    assert (loaded.key, loaded.digest) == (plan.key, plan.digest)
    assert np.isnan(loaded.nodata[0])
    assert replace(loaded, nodata=(None,)) == replace(plan, nodata=(None,))
    assert (loaded.n_holes, loaded.forwards, loaded.ndim) == (4, 3, 2)


def test_where_it_runs_is_no_part_of_the_key(tmp_path):
    """Folder, staged copy, block and batch: same key; the cut is part of the digest only."""
    plan = _plan()
    moved = replace(plan, workdir="b", source=replace(plan.source, staged="elsewhere"))
    assert (moved.key, moved.digest) == (plan.key, plan.digest)
    cut = replace(plan, batch=9)
    assert cut.key == plan.key
    assert cut.digest != plan.digest
    assert replace(plan, centre=(1.0,)).key != plan.key


def test_a_plan_of_another_version_is_refused(tmp_path):
    """Exit 6 and what to do: its numbers may mean something else."""
    path = _plan(str(tmp_path)).save()
    path.write_text(path.read_text().replace(f'"version": {PLAN_VERSION}', '"version": 99'))
    with pytest.raises(OutputConflict, match=r"version 99.*--overwrite"):
        load_plan(WorkFolder(tmp_path))


def test_boxes_of_blocks_are_clipped():
    """The last block ends with the image; a read box reaches as far as patches see."""
    plan = _plan()
    assert plan.block_box(1) == Box((0, 2), (2, 3))
    assert plan.read_box(Box((0, 0), (1, 1))) == Box((0, 0), (2, 3))


def test_a_block_of_another_plan_is_not_computed(tmp_path):
    """A worker that finds another plan in the folder stops."""
    plan = _plan(str(tmp_path))
    plan.save()
    with pytest.raises(IntegrityError, match="changed"):
        process_block(str(tmp_path), "0" * 64, 0)


@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_that_were_changed_are_found_among_many(tmp_path, monkeypatch, threads):
    """However few are looked at together, and whoever looks; those that cannot be read are among them."""
    monkeypatch.setattr(blocks_of_a_run, "_LOOKED_AT", 2)
    space, rows = raster_space((2, 14)), tuple(BlockRow.of((0, k, 1, 1)) for k in range(7))
    plan = _plan(str(tmp_path), space=space, blocks=rows)
    create_store(plan, 1)
    for block in range(len(rows)):
        layers = {"restored": "uint8", "uncertainty": "float32", "origin": "uint8"}
        hashes = store(plan, block, {name: np.full((1, 2, 2), block, dtype) for name, dtype in layers.items()})
        facts = {"patches": 1, "peak_rss_bytes": 1, "by_source": {}, "seconds": {}, "sha256": hashes}
        journal.commit(plan.work.journal, plan.digest, block, facts)
    done = journal.committed(plan.work.journal, plan.digest)
    with threaded(threads):
        assert damaged(plan, done) == []
        (plan.work.layer("origin") / "c/0/0/3").write_bytes(b"")
        other = (plan.work.layer("restored") / "c/0/0/0").read_bytes()
        (plan.work.layer("restored") / "c/0/0/6").write_bytes(other)
        assert damaged(plan, done) == [3, 6]
