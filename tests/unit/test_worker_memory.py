"""The memory that a plan says a worker needs, against what a process that computes one of its blocks really takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine
from rasterio.windows import Window

from pipeline.blocks.block import process_block
from pipeline.blocks.store import create_store
from pipeline.image.workspace import Workspace
from pipeline.numerics.situation import flat
from pipeline.plan.facts import save_survey
from pipeline.plan.memory import _asked_bytes, _patch_bytes, _test_bytes, base_bytes, process_bytes, worker_bytes
from pipeline.plan.plan import Plan
from pipeline.plan.refs import GuideRef
from pipeline.references.consult import consult
from pipeline.survey.survey import outline, survey
from tests.helpers import blobs, order_of, run_config, smooth, write_image
from tests.unit.test_references import everywhere, fitted, hide, texture

_COARSE = 2
"""Cells of the coarse fill in pixels: above 1, so that a block fills its windows itself."""

_ONE_BLOCK = """
import json, sys
from pathlib import Path
from pipeline.blocks.block import one_thread, process_block
from pipeline.image.workspace import open_workspace
from pipeline.plan.plan import load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.system.process import settle

def peak():
    # not getrusage: its peak includes that of the process which started this one
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) * 1024

settle()
plan = load_plan(WorkFolder(Path(sys.argv[1])))
open_workspace(plan.workdir, plan.digest)
one_thread(plan)
before = peak()
process_block(plan.workdir, plan.digest, 0)
print(json.dumps([before, peak()]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Bytes of one worker."""

    planned: int
    """What `worker_bytes` says."""
    base: int
    """Of that, a process that has not read a pixel."""
    before: int
    """Peak of the process with everything open, before the block."""
    peak: int
    """Peak of the process after the block."""


def _plan(folder: Path, shape: tuple[int, ...], channels: int, model: str, patch: int) -> Plan:
    """Plan one block as large as the image, with a hole in the middle of a patch, without a self-test."""
    image = write_image(folder / ("image.tif" if len(shape) == 2 else "image.nii"), smooth((channels, *shape)))
    hole = np.zeros(shape, np.uint8)
    hole[tuple(slice(patch // 4, patch // 4 + patch // 8) for _ in shape)] = 1
    # pixels along the diagonal: estimates are made from whole patches
    hole[(np.arange(0, shape[0], patch // 8),) * len(shape)] = 1
    mask = write_image(image.with_stem("mask"), hole[None])
    settings = {"model": {"kind": model}, "patch": {"size": patch, "overlap": patch // 4}}
    config = run_config(folder, image, mask, **settings, compute={"block": max(shape)})
    plan = outline(order_of(config).job).plan
    network = flat(0.5 if model == "autoencoder" else 0.0)
    plan = replace(plan, guess_factor=_COARSE, recipe=replace(plan.recipe, network=network))
    cells = tuple(-(-n // _COARSE) for n in shape)
    zarr.create_array(plan.work.coarse, data=np.full((channels, *cells), 1000, np.float32))
    plan.save()
    create_store(plan, channels)
    assert len(plan.blocks) == 1
    return plan


def _measure(plan: Plan, channels: int) -> Measured:
    done = subprocess.run(
        [sys.executable, "-c", _ONE_BLOCK, plan.workdir],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    before, peak = json.loads(done.stdout)
    return Measured(planned=worker_bytes(plan, channels), base=base_bytes(plan), before=before, peak=peak)


@pytest.mark.parametrize(
    ("shape", "channels", "model", "patch"),
    [
        pytest.param((1024, 1024), 4, "tension", 256, id="fill"),
        pytest.param((128, 128, 128), 1, "tension", 64, id="fill of a volume"),
        pytest.param((1024, 1024), 4, "autoencoder", 256, id="network", marks=pytest.mark.slow),
        pytest.param(
            (96, 96, 96), 1, "autoencoder", 64, id="network in a volume",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_worker_stays_within_what_the_plan_says(tmp_path, shape, channels, model, patch):
    """The peak is below the plan's, and what the block adds to an idle process is neither far above nor below it."""
    plan = _plan(tmp_path, shape, channels, model, patch)
    found = _measure(plan, channels)
    assert found.peak < found.planned
    counted = found.planned - found.base
    # allocators and libraries differ from machine to machine; where this was written the share is 0.66 to 0.82
    assert counted / 3 < found.peak - found.before < 1.2 * counted


@pytest.mark.parametrize(("channels", "bands"), [(1, 1), (6, 6), (4, 12)])
def test_what_it_takes_to_ask_references_is_planned(channels, bands):
    """No more than is counted, and most of that, however many bands they have together."""
    truth, hole = texture(channels, (160, 160), 1), np.zeros((160, 160), bool)
    hole[40:100, 50:120] = True
    window, base = hide(truth, hole)
    reference = np.concatenate([truth + texture(channels, (160, 160), k) for k in range(bands // channels)])
    relation = fitted(window, reference)
    shown = reference, everywhere((160, 160))
    tracemalloc.start()
    try:
        consult(window, shown, relation, base, np.full_like(base, 0.5))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    planned = _asked_bytes(hole.size, channels, bands)
    assert 0.6 * planned < peak < 1.1 * planned


def test_references_have_been_asked_when_the_network_begins(tmp_path):
    """What they take is not added up; of the self-test several add what one does."""
    plan = _plan(tmp_path, (96, 96, 96), 1, "autoencoder", 64)
    one = replace(plan, guides=(GuideRef(source=plan.source),))
    assert _patch_bytes(one) == _patch_bytes(plan)
    assert _patch_bytes(replace(one, model=None)) > _patch_bytes(replace(plan, model=None))
    tested = [_test_bytes(replace(plan, guides=n * one.guides), 40**3, 1) for n in range(4)]
    assert tested[0] < tested[1] == tested[2] == tested[3]


_WHOLE_RUN = """
import sys
from pathlib import Path
from pipeline.run import run
from pipeline.system.process import settle

settle()
run(Path(sys.argv[1]))
status = Path("/proc/self/status").read_text().split()
print(int(status[status.index("VmHWM:") + 1]) * 1024)
"""


def _sparse(folder: Path, edge: int) -> Path:
    """Write an image of which little is stored, with four small holes; returns its config."""
    folder.mkdir()
    options = {
        "driver": "GTiff", "width": edge, "height": edge, "count": 1, "tiled": True, "blockxsize": 512,
        "blockysize": 512, "compress": "deflate", "SPARSE_OK": True, "transform": Affine(10, 0, 0, 0, -10, 0),
        "crs": "EPSG:32633",
    }  # fmt: skip
    values, hole = smooth((1, 512, 512))[0], np.zeros((512, 512), np.uint8)
    hole[200:220, 200:230] = 1
    paths = folder / "image.tif", folder / "mask.tif"
    for path, piece in zip(paths, (values, hole), strict=True):
        with rasterio.open(path, "w", dtype=piece.dtype, **options) as sink:
            for row, column in product((0, edge // 1024 * 512), repeat=2):
                sink.write(piece, 1, window=Window(column, row, 512, 512))
    return run_config(folder, *paths, patch=None)


@pytest.mark.slow
def test_memory_of_a_run_is_flat_and_as_planned(tmp_path):
    """Survey, blocks, assembly and report of a four times larger image take the same memory, the one of the plan."""
    peaks, planned = [], []
    for edge in (4096, 8192):
        config = _sparse(tmp_path / str(edge), edge)
        order = order_of(config)
        found = outline(order.job)
        planned.append(process_bytes(found.plan, order.n_file_channels, doubt=found.doubt_bytes, tested=found.tested))
        done = subprocess.run(
            [sys.executable, "-c", _WHOLE_RUN, str(config)],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.1 * peaks[0]
    assert 0.85 < peaks[1] / planned[1] < 1.15


def test_the_windows_of_a_volume_are_counted_as_large_as_they_are(tmp_path, monkeypatch):
    """Not as whole patches: blocks read no larger one, and one as large; rasters are counted as patches."""
    shape = (40, 44, 48)
    image = write_image(tmp_path / "image.nii.gz", smooth((1, *shape)))
    mask = write_image(tmp_path / "mask.nii.gz", blobs(shape, n=3, radius=2)[None])
    order = order_of(run_config(tmp_path, image, mask, patch={"size": 40, "overlap": 10}))
    found = survey(order.job)
    save_survey(found.plan, found.facts())
    create_store(found.plan, order.n_file_channels)
    read, task = [], Workspace.task
    monkeypatch.setattr(
        Workspace, "task", lambda self, index, box, *rest: read.append(box) or task(self, index, box, *rest)
    )
    for block in range(len(found.plan.blocks)):
        process_block(found.plan.workdir, found.plan.digest, block)
    assert max(box.size for box in read) == found.plan.window < 40**3
    assert 0 < found.plan.seen <= found.plan.window
    whole = replace(found.plan, window=0, seen=0)
    assert worker_bytes(found.plan, 1) < worker_bytes(whole, 1)
    raster = order_of(_sparse(tmp_path / "raster", 1024))
    assert (outline(raster.job).plan.window, outline(raster.job).plan.seen) == (0, 0)
