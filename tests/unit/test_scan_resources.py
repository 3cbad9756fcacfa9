"""What the survey measures does not depend on how it reads; what a plan needs is known before it runs."""

from __future__ import annotations

import errno
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from pipeline.errors import OutputConflict, PlanRefused, SourceError
from pipeline.formats._image import unobserved
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.image import scan
from pipeline.image.lone import piled_ends
from pipeline.image.scan import block_sum, scan_states, scan_values
from pipeline.image.window import OpenImage
from pipeline.masks.base import DOUBT, FILL, HAZY, KEEP, NEVER
from pipeline.plan.disk import check_disk, check_room, disk_bytes
from pipeline.plan.memory import auto_block, check_fits, worker_bytes
from pipeline.plan.plan import BlockRow
from pipeline.survey import cells
from pipeline.survey.cells import coarse_values
from pipeline.system.room import explain_full_disk
from pipeline.testing import ArraySource, raster_space
from tests.helpers import smooth
from tests.unit.test_block_values import _plan

SHAPE = (70, 90)
MiB = 2**20


class StateMask:
    """A mask over an array of states `(1 or c, *spatial)`."""

    notices = ()

    def __init__(self, states: np.ndarray) -> None:
        self.states = states

    def read(self, box: Box) -> np.ndarray:
        """Return a window."""
        return self.states[(slice(None), *box.slices)]


def _states(planes: int = 1) -> np.ndarray:
    draw = np.random.default_rng(2).random((planes, *SHAPE))
    return np.where(draw < 0.1, FILL, np.where(draw < 0.2, NEVER, KEEP)).astype(np.uint8)


def _source(dtype: str = "uint16", channels: int = 2) -> Source:
    return ArraySource(values=smooth((channels, *SHAPE), dtype), space=raster_space(SHAPE))


def _open(source: Source, stored, haze=None) -> OpenImage:
    return OpenImage(
        source=source, state=stored, guides=(), channels=(0, 1), centre=(0.0, 0.0), spacing=(1.0, 1.0), haze=haze
    )


@pytest.fixture(params=[(1024, 1024), (32, 16)])
def boxes(request, monkeypatch):
    """Scan at once, and in many small windows."""
    for module in (scan, cells):
        monkeypatch.setattr(module, "SCAN_EXTENT", {2: request.param, 3: (8, 8, 8)})


@pytest.mark.usefixtures("boxes")
def test_states_are_counted_exactly(tmp_path):
    """Counts, cells and the stored states equal the mask, however the image is cut."""
    states = _states()
    found, stored = scan_states(_source(), StateMask(states), (0, 1), tmp_path)
    assert (found.holes, found.kept, found.never) == tuple(int((states == s).sum()) for s in (FILL, KEEP, NEVER))
    assert np.array_equal(stored[...], states)
    assert found.hole_cells.sum() == found.holes
    assert found.kept_cells.sum() == found.kept


@pytest.mark.usefixtures("boxes")
def test_equal_planes_become_one(tmp_path):
    """A mask that says the same for every band is stored and counted once; different planes stay apart."""
    same = np.repeat(_states(), 2, axis=0)
    found, stored = scan_states(_source(), StateMask(same), (0, 1), tmp_path)
    assert (found.n_state, stored.shape[0]) == (1, 1)
    assert found.holes == found.hole_cells.sum() == int((same[0] == FILL).sum())
    assert found.kept == found.kept_cells.sum()
    assert np.array_equal(stored[...], same[:1])
    different = _states(2)
    found, stored = scan_states(_source(), StateMask(different), (0, 1), tmp_path)
    assert (found.n_state, found.holes) == (2, int((different == FILL).sum()))
    assert np.array_equal(stored[...], different)


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize("planes", [1, 2])
def test_where_all_is_kept_nothing_is_stored_and_all_is_counted(tmp_path, monkeypatch, planes):
    """Cells of windows without a hole count what others do; the cells say where no hole is; so do those of the fill."""
    monkeypatch.setattr(scan, "_MAX_CELLS", 200)
    states = np.full((planes, *SHAPE), KEEP, dtype=np.uint8)
    states[:, 40:45, 21:40], states[-1, 60:, :9] = FILL, NEVER
    source = _source()
    found, stored = scan_states(source, StateMask(states), (0, 1), tmp_path)
    assert found.cell > 1
    assert np.array_equal(stored[...], states)
    assert np.array_equal(found.hole_cells, sum(block_sum(plane == FILL, found.cell) for plane in states))
    assert np.array_equal(found.kept_cells, sum(block_sum(plane == KEEP, found.cell) for plane in states))
    assert found.near_holes(Box((44, 39), (50, 50)))
    assert not found.near_holes(Box((0, 0), (30, 90)))
    cells = coarse_values(_open(source, stored), 4)
    assert np.array_equal(cells.count[0], block_sum(states[0] == KEEP, 4))
    assert np.array_equal(cells.usable[-1], block_sum(states[-1] != NEVER, 4) > 0)


def test_only_restored_channels_count(tmp_path):
    """The plane of an alpha band takes no part."""
    states = _states(3)
    found, stored = scan_states(_source(channels=3), StateMask(states), (0, 2), tmp_path)
    assert found.holes == int((states[[0, 2]] == FILL).sum())
    assert np.array_equal(stored[...], states[[0, 2]])


def test_a_mask_with_other_channels_is_refused(tmp_path):
    """Three planes for two bands: says both numbers."""
    with pytest.raises(SourceError, match="3 channels, the image 2"):
        scan_states(_source(), StateMask(_states(3)), (0, 1), tmp_path)


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize("dtype", ["uint16", "int32", "float64"])
def test_values_are_those_of_observed_pixels(tmp_path, dtype):
    """Range and robust range of what was kept, holes and never-touched pixels left out; wide types are centred."""
    source, states = _source(dtype), _states()
    source.values[:, states[0] != KEEP] = 60_000
    _, stored = scan_states(source, StateMask(states), (0, 1), tmp_path)
    found = scan_values(source, stored, (0, 1))
    kept = source.values[:, states[0] == KEEP].astype(float)
    assert np.array_equal(found.low, kept.min(axis=1))
    assert np.array_equal(found.high, kept.max(axis=1))
    assert np.allclose(np.stack([found.p1, found.p99]), np.quantile(kept, (0.01, 0.99), axis=1))
    assert found.quantum == (0.0 if dtype == "float64" else 1.0)
    assert found.centre == ((0.0, 0.0) if dtype == "uint16" else tuple(np.median(kept, axis=1)))


RAIN = np.maximum(np.random.default_rng(5).standard_normal(2000), 0)


@pytest.mark.parametrize(
    ("values", "piled"),
    [
        (RAIN, (True, False)),
        (np.minimum(100 * RAIN, 100).astype(np.uint8), (True, True)),
        (np.r_[np.zeros(19), np.arange(1, 1982)], (False, False)),
        (np.r_[np.zeros(20), np.arange(1, 1981)], (True, False)),
        (np.arange(50.0), (False, False)),
        (np.repeat(np.arange(20.0), 36), (False, False)),
        (np.random.default_rng(6).standard_normal(2000).round(), (False, False)),
        (np.full(2000, 3.0), (False, False)),
    ],
)
def test_where_values_pile_up(values, piled):
    """Rain, cover and a rare floor do; few values, repeated ones, coarse steps and a single value do not."""
    assert piled_ends(values) == piled


def test_holes_that_avoid_the_sample_grid(tmp_path, monkeypatch):
    """Where the thin sample sees nothing, everything is looked at."""
    monkeypatch.setattr(scan, "_SAMPLE", 60)
    states = np.full((1, *SHAPE), FILL, dtype=np.uint8)
    states[0, 1, 1:5] = KEEP
    source = _source()
    _, stored = scan_states(source, StateMask(states), (0, 1), tmp_path)
    assert scan_values(source, stored, (0, 1)).low[0] == source.values[0, 1, 1:5].min()


def test_a_channel_without_observed_pixels(tmp_path):
    """Named in the message: there is nothing to restore it from."""
    states = np.stack([np.full(SHAPE, KEEP), np.full(SHAPE, FILL)]).astype(np.uint8)
    source = _source()
    _, stored = scan_states(source, StateMask(states), (0, 1), tmp_path)
    with pytest.raises(SourceError, match=r"no observed pixel in channel B02"):
        scan_values(source, stored, (0, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("where", [np.s_[0, :20], np.s_[0, 12:13, 13:14]], ids=["many", "one pixel"])
def test_an_undeclared_fill_value_is_found(tmp_path, dtype, where):
    """-1.8e308 among the data is no measurement; the message says to declare it."""
    source, states = _source(dtype), _states()
    lowest = np.finfo(dtype).min
    source.values[where] = lowest
    _, stored = scan_states(source, StateMask(states), (0, 1), tmp_path)
    with pytest.raises(SourceError, match=r"B01 reach from .*input\.nodata") as refused:
        scan_values(source, stored, (0, 1))
    told = float(re.search(r"from (\S+) to", str(refused.value))[1])
    assert unobserved(source.values, told)[where].all(), "what is told, written as nodata, is the value"


def test_a_value_beyond_arithmetic_that_is_no_evidence_is_let_in(tmp_path):
    """Under the mask, or where nothing was observed, it spoils nothing."""
    source, states = _source("float64"), _states()
    source.values[0][states[0] != KEEP] = 1e300
    assert (states[0] != KEEP).any()
    _, stored = scan_states(source, StateMask(states), (0, 1), tmp_path)
    assert scan_values(source, stored, (0, 1)).high[0] < 1e300


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize("factor", [1, 4, 7])
def test_coarse_cells_are_means_of_observed_pixels(tmp_path, factor):
    """Each cell is the mean of its observed pixels, ragged edges included, however the image is cut."""
    source, states = _source(), _states()
    _, stored = scan_states(source, StateMask(states), (0, 1), tmp_path)
    found = coarse_values(_open(source, stored), factor)
    mean, valid, usable = found.mean, found.valid, found.usable
    for y, x in [(0, 0), (3, 5), (mean.shape[1] - 1, mean.shape[2] - 1)]:
        cell = (slice(y * factor, (y + 1) * factor), slice(x * factor, (x + 1) * factor))
        kept = states[0][cell] == KEEP
        assert valid[0, y, x] == kept.any()
        assert usable[0, y, x] == (states[0][cell] != NEVER).any()
        if kept.any():
            assert np.allclose(mean[:, y, x], source.values[:, *cell][:, kept].mean(axis=1), rtol=1e-6)
            assert np.allclose(found.variance[:, y, x], source.values[:, *cell][:, kept].var(axis=1), rtol=1e-4)


@pytest.mark.usefixtures("boxes")
def test_hazy_pixels_are_evidence_without_their_haze(tmp_path):
    """Windows, statistics and the coarse fill see what is stored less the haze; of doubted pixels they see nothing."""
    source, states = _source(), _states()
    states[0, 10:20, 30:50], states[0, 30:40, 30:50] = HAZY, DOUBT
    clear = source.values.copy()
    source.values[:, 10:20, 30:50] += np.array([400, 100], dtype=source.dtype)[:, None, None]
    source.values[:, 30:40, 30:50] = 60_000
    _, stored = scan_states(source, StateMask(states), (0, 1), tmp_path / "state")
    haze = zarr.create_array(
        tmp_path / "haze", shape=(1, *SHAPE), chunks=(1, 32, 32), dtype="float32", attributes={"spectrum": [200, 50]}
    )
    haze[0, 10:20, 30:50] = 2.0
    image = _open(source, stored, haze)
    told = np.isin(states[0], (KEEP, HAZY))
    box = Box((5, 25), (25, 60))
    window, _ = image.read(box).window(box)
    assert np.array_equal(window.valid[0], told[box.slices])
    assert np.array_equal(window.values, np.where(told, clear, 0)[:, *box.slices])
    assert np.array_equal(window.hole[0], np.isin(states[0], (FILL, DOUBT))[box.slices])
    found = scan_values(source, stored, (0, 1), haze)
    assert found.high.tolist() == clear[:, told].max(axis=1).tolist()
    found = coarse_values(image, 1)
    mean, valid = found.mean, found.valid
    assert np.array_equal(valid[0], told)
    assert np.array_equal(mean[:, told], clear[:, told])


def test_block_sum():
    """Ragged last cells are summed over what is there."""
    assert block_sum(np.ones((5, 4), dtype=int), 3).tolist() == [[9, 3], [6, 2]]


# --- memory and disk ----------------------------------------------------------------------------------------------


def _large(block: int):
    lattice = replace(_plan().lattice, shape=(20_000, 20_000), patch=(256, 256), overlap=(64, 64))
    return _plan(space=raster_space((20_000, 20_000)), lattice=lattice, block=(block, block))


def test_memory_is_set_by_the_block_not_by_the_image():
    """A larger block needs more; a larger image with the same block needs the same."""
    assert worker_bytes(_large(512), 1) < worker_bytes(_large(2048), 1)
    shape, plan = (90_000, 90_000), _large(512)
    larger = replace(plan, space=raster_space(shape), lattice=replace(plan.lattice, shape=shape))
    assert worker_bytes(larger, 1) == worker_bytes(_large(512), 1)


def test_disk_is_set_by_the_blocks_that_exist(tmp_path):
    """Eight blocks of a large sparse file need little; all blocks need what the whole image does."""
    image = tmp_path / "image.tif"
    image.write_bytes(bytes(5000))
    shape, plan = (60_000, 60_000), _large(1024)
    source = replace(plan.source, paths=(str(image),))
    plan = replace(plan, source=source, space=raster_space(shape), lattice=replace(plan.lattice, shape=shape))
    few, more = ([BlockRow(index=(0, k), holes=1, patches=1) for k in range(n)] for n in (8, 9))
    layers = np.dtype(plan.dtype).itemsize + 4 + 1
    assert disk_bytes(replace(plan, blocks=tuple(few)), 1) < 0.5 * 60_000**2
    added = disk_bytes(replace(plan, blocks=tuple(more)), 1) - disk_bytes(replace(plan, blocks=tuple(few)), 1)
    # in the store, in a file with overviews, and in the copy that this is made of
    assert added == pytest.approx(1024**2 * layers * (1 + 2 * 4 / 3), rel=1e-3)
    every = tuple(BlockRow(index=(0, k), holes=1, patches=1) for k in range(59**2))
    assert disk_bytes(replace(plan, blocks=every), 1) == 3 * 60_000**2 * layers


@pytest.mark.parametrize("name", ["image.vrt", "elsewhere.tif"])
def test_files_that_name_others_may_hold_anything(tmp_path, name):
    """The size of a VRT, or of a file that is not on this machine, says nothing: nothing counts as compressed."""
    (tmp_path / "image.vrt").write_text("<VRTDataset/>")
    plan = _large(1024)
    plan = replace(plan, source=replace(plan.source, paths=(str(tmp_path / name),)))
    assert disk_bytes(plan, 1) > 20_000**2 * np.dtype(plan.dtype).itemsize


def test_a_plan_that_fills_the_disk_is_refused_with_numbers(tmp_path, monkeypatch):
    """What is needed, what is free, and what to do."""
    full = shutil.disk_usage(tmp_path)._replace(free=10 * MiB)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    with pytest.raises(PlanRefused, match=r"may write 1\.16 GiB, 10 MiB are free.*output\.directory"):
        check_room(replace(_large(1024), blocks=(BlockRow(index=(0, 0), holes=1, patches=1),)), 1)


def test_the_largest_block_that_fits_is_taken():
    """More memory, larger blocks; with too little the smallest, for `check_fits` to refuse."""
    sizes = [auto_block(_large(1), 1, memory * MiB)[0] for memory in (100, 520, 600, 4096)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 1
    for memory in (600, 4096):
        block = auto_block(_large(1), 1, memory * MiB)
        assert worker_bytes(replace(_large(1), block=block), 1) <= memory * MiB


def test_a_plan_that_does_not_fit_is_refused_with_numbers():
    """Needed, given, and the keys to change."""
    with pytest.raises(PlanRefused, match=r"2048x2048 pixels.*needs 0\.\d\d GiB.*take 100 MiB.*compute\.block"):
        check_fits(_large(2048), 1, 100 * MiB)


def test_a_full_disk_is_told_from_other_failures(tmp_path):
    """Only "no space left" becomes exit 6; other reasons stay what they are."""
    check_disk(str(tmp_path / "not" / "yet"), ["block 3: ValueError: bad"])
    with pytest.raises(OutputConflict, match="run again"):
        check_disk(str(tmp_path), ["block 3: OSError: [Errno 28] No space left on device"])
    with pytest.raises(OutputConflict, match="No space left"), explain_full_disk(tmp_path):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(PermissionError), explain_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(SourceError), explain_full_disk(tmp_path):
        raise SourceError("bad file")


def test_an_error_of_numpy_on_a_full_disk(tmp_path, monkeypatch):
    """It has no number: whether the disk is full is asked of the disk; elsewhere it stays what it is."""
    with pytest.raises(OSError, match="requested"), explain_full_disk(tmp_path):
        raise OSError("100 requested and 7 written")
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    with pytest.raises(OutputConflict, match="No space left"), explain_full_disk(tmp_path):
        raise OSError("100 requested and 7 written")
