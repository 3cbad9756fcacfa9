"""What blocks leave for their neighbours: patches over a seam are computed once, and nothing depends on it."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import zarr

from pipeline.blocks import block as blocks
from pipeline.blocks.block import process_block
from pipeline.blocks.store import LAYERS, create_store
from pipeline.image.workspace import open_workspace
from pipeline.plan.plan import Plan, patches_with_holes
from pipeline.survey.survey import outline
from pipeline.system.files import remove_made
from pipeline.system.meter import PROCESSOR
from tests.helpers import order_of, run_config, smooth, write_image

_EDGE = 64
_CHANNELS = 2


def _plan(folder, monkeypatch) -> tuple[Plan, list[int]]:
    """Plan four blocks with holes on their seams; returns with it a list that grows by each window estimated."""
    rng = np.random.default_rng(0)
    image = write_image(folder / "image.tif", smooth((_CHANNELS, _EDGE, _EDGE)) + rng.normal(0, 9, (_EDGE, _EDGE)))
    hole = rng.random((1, _EDGE, _EDGE)) < 0.1
    hole[:, 30:34] = hole[:, :, 29:36] = True
    mask = write_image(image.with_stem("mask"), hole.astype(np.uint8))
    config = run_config(folder, image, mask, model={"kind": "tension"}, patch={"size": 16, "overlap": 4},
                        compute={"block": _EDGE // 2})  # fmt: skip
    plan = replace(outline(order_of(config).job).plan, guess_factor=2)
    zarr.create_array(plan.work.coarse, data=np.full((_CHANNELS, _EDGE // 2, _EDGE // 2), 1000, np.float32))
    plan.save()
    create_store(plan, _CHANNELS)
    assert len(plan.blocks) == 4
    estimated: list[int] = []
    whole = blocks.estimate
    monkeypatch.setattr(blocks, "estimate", lambda *given: estimated.append(len(given[2])) or whole(*given))
    return plan, estimated


def _layers(plan: Plan) -> bytes:
    return b"".join(np.asarray(zarr.open_array(plan.work.layer(name), mode="r")[:]).tobytes() for name in LAYERS)


def _computed(plan: Plan, *, order: tuple[int, ...] = (0, 1, 2, 3)) -> list[int]:
    return [process_block(plan.workdir, plan.digest, block).patches for block in order]


def test_a_patch_over_a_seam_is_computed_once(tmp_path, monkeypatch):
    """The second block takes it from the first, whichever that is, and the bytes are those of blocks on their own."""
    plan, estimated = _plan(tmp_path, monkeypatch)
    with monkeypatch.context() as apart:
        apart.setattr(blocks.Seams, "take", lambda *_: None)
        alone = _computed(plan)
    assert alone == [row.patches for row in plan.blocks]
    expected = _layers(plan)
    touched = set().union(*(_touching(plan, block) for block in range(4)))
    assert len(touched) < sum(alone)
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        remove_made(plan.work.seams)
        estimated.clear()
        found = _computed(plan, order=order)
        assert _layers(plan) == expected
        assert found[0] == alone[order[0]]
        assert sum(found) == sum(estimated) == len(touched)


def _touching(plan: Plan, block: int) -> set[tuple[int, ...]]:
    box = plan.block_box(block)
    return set(patches_with_holes(plan.lattice, box, open_workspace(plan.workdir, plan.digest).image.holes(box)))


@pytest.mark.parametrize("harm", ["cut off", "flipped", "gone", "of other holes"])
def test_a_damaged_file_is_as_good_as_none(tmp_path, monkeypatch, harm):
    """What cannot be read is computed again, to the same bytes."""
    plan, _ = _plan(tmp_path, monkeypatch)
    first = _computed(plan)
    expected = _layers(plan)
    (left,) = plan.work.seams.glob("*/0_0.npz")
    for other in left.parent.glob("*.npz"):
        if other != left:
            other.unlink()
    content = left.read_bytes()
    if harm == "cut off":
        left.write_bytes(content[: len(content) // 2])
    elif harm == "flipped":
        left.write_bytes(bytes(~np.frombuffer(content, np.uint8)[:-200]) + content[-200:])
    elif harm == "gone":
        left.unlink()
    else:
        with np.load(left) as file:
            fewer = {name: values[..., 1:] for name, values in file.items()}
        np.savez(left, **fewer)
    assert _computed(plan, order=(1,)) == [plan.blocks[1].patches]
    assert plan.blocks[1].patches > first[1]
    assert _layers(plan) == expected


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    """Where there is no room for what is left, every block computes all of its patches."""
    plan, _ = _plan(tmp_path, monkeypatch)
    plan.work.seams.write_text("in the way")
    assert _computed(plan) == [row.patches for row in plan.blocks]


def test_processor_time_of_a_block_counts_what_it_stores(tmp_path, monkeypatch):
    """Else a run that writes much passes for one that waits: the time by the clock counts it, too."""
    plan, _ = _plan(tmp_path, monkeypatch)
    now, plain = [0.0], blocks.store

    def stored(*given):
        now[0] += 100
        return plain(*given)

    monkeypatch.setattr(blocks, "store", stored)
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    assert process_block(plan.workdir, plan.digest, 0).work[PROCESSOR][0] == 100
