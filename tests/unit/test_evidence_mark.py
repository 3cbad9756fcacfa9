"""Which images are looked at for contaminated pixels: what a producer has screened, quantity by quantity, is not."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rasterio.io import DatasetWriter
from scipy import ndimage

from pipeline.errors import PlanRefused
from pipeline.evidence import mark
from pipeline.evidence.doubt import Doubt, Side
from pipeline.evidence.ground import Ground
from pipeline.evidence.mark import (
    bands_of,
    doubt_notice,
    looked_pixels,
    windows_of,
    with_doubt,
    with_doubted_filled,
)
from pipeline.image.scan import block_sum
from pipeline.image.scene import Clock, open_scene
from pipeline.masks.base import DOUBT, FILL
from pipeline.plan.memory import check_doubt, doubt_bytes
from tests.helpers import blobs, order_of, run_config, smooth, write_image, write_tiff
from tests.unit.test_evidence_doubt import clouds, ground, ring


@pytest.mark.parametrize(
    ("bands", "under_mask", "looked_at"), [(1, "nodata", False), (1, "values", True), (2, "nodata", True)]
)
def test_one_quantity_whose_holes_have_no_value_is_taken_as_observed(
    tmp_path: Path, bands: int, under_mask: str, looked_at: bool
) -> None:
    """What is warm beside the gaps of a temperature is no haze: of one quantity that was screened nothing is doubted.

    A cloud that is seen under the mask has edges to be looked for, and several bands tell haze from ground.
    """
    hole = clouds(2)
    values = (ground(1) + np.array([500, 400, 300, 50])[:, None, None] * ring(hole, 4.0))[:bands]
    if under_mask == "nodata":
        values[:, hole] = -9999
    image = write_tiff(tmp_path / "image.tif", values.astype(np.float32), nodata=-9999)
    mask = write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    assert _looked_at(tmp_path, image, mask) == looked_at


@pytest.mark.parametrize(
    ("apart", "names", "looked_at"),
    [
        (4, None, True),
        (40, None, False),
        (4, ("2017-05-14", "2017-05-15"), False),
        (4, ("20170514T0130", "20170515T0130"), False),
        (4, ("20170514", "B4"), True),
    ],
)
def test_dates_are_no_bands_of_one_look(
    tmp_path: Path, apart: int, names: tuple[str, ...] | None, looked_at: bool
) -> None:
    """Channels that lose pixels of their own, or are called by dates, have no spectrum: nothing of them is doubted."""
    hole = clouds(2)
    values = (ground(1) + np.array([500, 400, 300, 50])[:, None, None] * ring(hole, 4.0))[:2]
    both = np.stack([hole, hole])
    both[1, :apart] |= np.roll(hole, 30, axis=1)[:apart]
    values[both] = -9999

    def name(dataset: DatasetWriter) -> None:
        dataset.descriptions = names or (None, None)

    image = write_tiff(tmp_path / "image.tif", values.astype(np.float32), nodata=-9999, setup=name)
    mask = write_image(tmp_path / "mask.tif", both.any(axis=0)[None].astype(np.uint8))
    assert _looked_at(tmp_path, image, mask) == looked_at


def test_dates_of_a_netcdf_variable_are_no_bands_of_one_look(tmp_path: Path) -> None:
    """What GDAL took from a variable with a time axis says so in the tags of its bands."""
    hole = clouds(2)
    values = (ground(1) + np.array([500, 400, 300, 50])[:, None, None] * ring(hole, 4.0))[:2]
    values[:, hole] = -9999

    def tag(dataset: DatasetWriter) -> None:
        for band in (1, 2):
            dataset.update_tags(band, NETCDF_DIM_time=str(132 + band), NETCDF_VARNAME="SST")

    image = write_tiff(tmp_path / "image.tif", values.astype(np.float32), nodata=-9999, setup=tag)
    mask = write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    assert not _looked_at(tmp_path, image, mask)


def test_strong_haze_is_counted_apart(tmp_path: Path) -> None:
    """It falls from four deviations of the image at the mask to nothing, and what is hardly there is hazy, too."""
    hole = clouds(2)
    haze = np.array([500, 400, 300, 50])[:, None, None] * ring(hole, 4.0)
    image = write_tiff(tmp_path / "image.tif", (ground(1) + haze).astype(np.float32))
    mask = write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    states = with_doubt(open_scene(order_of(run_config(tmp_path, image, mask)).job, Clock())[0])[0].states
    strong = (haze[0] > 0.5 * ground(1)[0].std()) & ~hole
    assert states.strong == pytest.approx(strong.sum(), rel=0.2)
    assert states.strong < 0.8 * states.hazy


@pytest.mark.parametrize("fill", [True, False])
def test_what_is_doubted_becomes_a_hole_after_the_holes_of_the_mask_were_tested(tmp_path: Path, fill: bool) -> None:
    """Holes that have grown into one another fit nowhere, so the self-test must see those of the mask."""
    hole = clouds(2)
    values = ground(1) + np.array([500, 400, 300, 50])[:, None, None] * ring(hole, 4.0)
    image = write_tiff(tmp_path / "image.tif", values.astype(np.float32))
    mask = write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    job = order_of(run_config(tmp_path, image, mask, input={"fill_doubted": fill})).job
    scene, _ = with_doubt(open_scene(job, Clock())[0])
    tested = np.asarray(scene.image.state[0])
    assert np.array_equal(tested == FILL, hole)
    doubted = tested == DOUBT
    # haze is taken off what stays as it is
    assert doubted.any() == fill
    after = with_doubted_filled(scene)
    told = np.asarray(after.image.state[0])
    assert np.array_equal(told == FILL, hole | doubted if fill else hole)
    assert after.states.holes == (told == FILL).sum()
    assert np.array_equal(after.states.hole_cells, block_sum(told == FILL, after.states.cell))
    assert after.states.doubted == (0 if fill else doubted.sum())


def _looked_at(folder: Path, image: Path, mask: Path) -> bool:
    """Say whether an image was looked at for contaminated pixels; those of these tests have some."""
    scene, _ = open_scene(order_of(run_config(folder, image, mask)).job, Clock())
    assert scene is not None
    marked, doubt = with_doubt(scene)
    assert (marked.states.doubted + marked.states.hazy > 0) == (doubt is not None)
    return doubt is not None


@pytest.mark.parametrize(
    ("planes", "counted"), [(1, "30 observed pixels (30 %)"), (3, "30 observed pixels over 3 channels (30 %)")]
)
def test_pixels_that_are_counted_channel_by_channel_are_said_to_be(planes: int, counted: str) -> None:
    """Where channels have gaps of their own their pixels are counted apart, more than the image has."""
    scene = SimpleNamespace(
        source=SimpleNamespace(space=SimpleNamespace(far="{:g} px".format)),
        states=SimpleNamespace(doubted=30, kept=70, hazy=0, strong=0),
        image=SimpleNamespace(state=np.zeros((planes, 10, 10))),
        job=SimpleNamespace(fill_doubted=False, open_mask=lambda _: SimpleNamespace(parts=[])),
    )
    ground = Ground(guide=None, matrix=(), offset=(0.0,), scale=(1.0,), usual=(1.0,))
    limits = (1.0, 1.0, np.inf, np.inf, np.inf, np.inf)
    doubt = Doubt(ground=ground, sides=(Side(name="bright", weights=(1.0,), limits=limits),))
    assert doubt_notice(scene, doubt).startswith(f"{counted}, up to 6 px from the mask, look like haze or thin cloud: ")
    scene.states.hazy, scene.states.strong = 50, 7
    assert "(it is more than 0.5 standard deviations of the image at 7 %)" in doubt_notice(scene, doubt)


@pytest.mark.parametrize(
    ("kind", "dated", "said"), [("threshold", False, True), ("raster", False, False), ("threshold", True, False)]
)
def test_a_mask_by_value_has_ground_like_haze_beside_it(tmp_path: Path, kind: str, dated: bool, said: bool) -> None:
    """Bright roofs have bright ground beside them: said where no other date tells, of masks by value alone."""
    image = write_image(tmp_path / "image.tif", smooth((2, 64, 64)))
    mask = write_image(tmp_path / "mask.tif", blobs((64, 64))[np.newaxis])
    entry = {"kind": "threshold", "above": 1300} if kind == "threshold" else {"kind": "raster", "path": str(mask)}
    scene, _ = open_scene(order_of(run_config(tmp_path, image, mask, mask=[entry])).job, Clock())
    assert scene is not None
    scene = replace(scene, states=replace(scene.states, hazy=50))
    ground = Ground(guide=0 if dated else None, matrix=(), offset=(0.0,), scale=(1.0,), usual=(1.0,))
    limits = (1.0, 1.0, np.inf, np.inf, np.inf, np.inf)
    doubt = Doubt(ground=ground, sides=(Side(name="bright", weights=(1.0,), limits=limits),))
    assert ("the mask goes by the values themselves (`threshold`)" in doubt_notice(scene, doubt)) == said


@pytest.mark.parametrize(
    ("bands", "dates", "edged"), [(1, 0, False), (4, 0, False), (4, 0, True), (4, 1, True), (4, 4, True)]
)
def test_what_looking_holds_is_planned(tmp_path: Path, bands: int, dates: int, edged: bool) -> None:
    """Peak of what is allocated, in windows of 512 x 512 pixels: no more than planned, and no small part of that.

    Dates that are cloudy themselves are asked one after the other, and what one needed is gone when the next is.
    """
    hole = np.tile(clouds(2), (2, 2))[:512, :512]
    clear = np.tile(ground(1), (1, 2, 2))[:bands, :512, :512]
    near = (ndimage.distance_transform_edt(~hole) < 14) & (np.tile(ground(7)[0], (2, 2))[:512, :512] > 1000)
    amount = (near & ~hole) * 1.0 if edged else np.tile(ring(clouds(2), 4.0), (2, 2))[:512, :512]
    values = clear + np.array([500, 400, 300, 50])[:bands, None, None] * amount
    image = write_tiff(tmp_path / "image.tif", values.astype(np.float32))
    mask = write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    given = []
    for k in range(dates):
        noise = np.random.default_rng(k).normal(size=clear.shape)
        path = write_tiff(tmp_path / f"date{k}.tif", (clear + 15 * noise).astype(np.float32))
        cloudy = np.broadcast_to((np.arange(512) // 32 + k) % 4 < 2, (1, 512, 512)).astype(np.uint8)
        own = {"kind": "raster", "path": str(write_image(tmp_path / f"clouds{k}.tif", cloudy))}
        given.append({"path": str(path), "mask": [own]})
    config = run_config(tmp_path, image, mask, input={"references": given})
    scene = open_scene(order_of(config).job, Clock())[0]
    planned = doubt_bytes(looked_pixels(scene), *bands_of(scene))
    _, doubt = with_doubt(scene)
    assert doubt is not None
    assert len(doubt.parts) > min(dates, 1)
    tracemalloc.start()
    try:
        with_doubt(scene)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.3 < peak / planned < 1.0


@pytest.mark.parametrize(("role", "bands"), [("references", (2, 4)), ("auxiliary", (2, 0))])
def test_only_references_count_as_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, bands: tuple[int, int]
) -> None:
    """Auxiliaries are not looked at for thin cloud, so beside them as many windows are as without."""
    hole = np.tile(clouds(2), (2, 2))[:512, :512]
    values = np.tile(ground(1), (1, 2, 2))[:, :512, :512].astype(np.float32)
    image = write_tiff(tmp_path / "image.tif", values[:2])
    guide = write_tiff(tmp_path / "guide.tif", values[:4])
    mask = write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    job = order_of(run_config(tmp_path, image, mask, input={role: [{"path": str(guide)}]})).job
    scene = open_scene(job, Clock())[0]
    assert bands_of(scene) == bands
    # room for two bands in each of four windows, so for six in one
    monkeypatch.setattr(mark, "_MOST_VALUES", 4 * 2 * 256**2)
    assert len(windows_of(scene)) == (4 if role == "auxiliary" else 1)


def test_looking_that_does_not_fit_the_memory_is_refused() -> None:
    """With what it needs; a process takes something before it looks."""
    need = doubt_bytes(24 * 256**2, 9, 4)
    check_doubt("a.tif", 24 * 256**2, (9, 4), need + 2**28)
    with pytest.raises(PlanRefused, match=r"a.tif: looking for thin cloud .* in 13 bands .* needs 0.9\d GiB"):
        check_doubt("a.tif", 24 * 256**2, (9, 4), need)
