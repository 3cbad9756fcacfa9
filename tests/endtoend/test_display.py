"""The display product: texture like that around, beside a scientific result that knows nothing of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.formats import open_any
from pipeline.geometry.box import Box
from pipeline.numerics.sharpness import ratios, steps
from pipeline.output.display import Display
from pipeline.output.verify import header, verify
from tests.helpers import command, layer, pixels, result_hash, run_config, write_image

SIZE = 160
PURPOSE = "for looking at, not for measuring"


def _textured(shape: tuple[int, ...], seed: int, low: float, high: float) -> NDArray[Any]:
    """Return random texture of several scales in two channels that have much in common, `(2, *shape)`."""
    rng = np.random.default_rng(seed)

    def one() -> NDArray[Any]:
        scales = [gaussian_filter(rng.normal(size=shape), s, mode="wrap") for s in (0.7, 1.5, 4.0, 12.0)]
        return np.sum([scale / scale.std() * (k + 1) for k, scale in enumerate(scales)], axis=0)

    shared = one()
    values = np.stack([shared + 0.3 * one(), 0.7 * shared + 0.3 * one()])
    return low + (high - low) * (values - values.min()) / np.ptp(values)


def _against_truth(values: NDArray[Any], truth: NDArray[Any], hole: NDArray[np.bool_]) -> tuple[float, float]:
    """Return gradients in the hole, and steps over its rim, over those of the truth; mean over channels."""
    ours, theirs = (steps(one, hole[None], ~hole[None])[:2, 0] for one in (values, truth))
    inside, rim = (ours / theirs).mean(axis=1)
    return float(inside), float(rim)


def _run(folder: Path, image: Path, mask: Path, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    outcome = command("run", run_config(folder, image, mask, **more), "--quiet")
    assert outcome.code == 0, outcome.err
    return folder / "out" / "image"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One textured raster with a wide hole and some nodata, run with and without the key, and cut into other blocks."""
    folder = tmp_path_factory.mktemp("display")
    truth = np.rint(_textured((SIZE, SIZE), 5, 200, 1800)).astype(np.uint16)
    hole = np.zeros((SIZE, SIZE), dtype=bool)
    hole[36:108, 40:120], hole[118:122] = True, True
    hole[100:, :4] = False
    stored = np.where(hole, 0, truth)
    stored[:, 100:, :4] = truth[:, 100:, :4] = 0

    def describe(dataset: Any) -> None:
        dataset.descriptions, dataset.scales, dataset.offsets = ("red", "nir"), (0.5, 0.5), (-10.0, -10.0)

    image = write_image(folder / "image.tif", stored, setup=describe, nodata=0)
    mask = write_image(folder / "mask.tif", hole[None].astype(np.uint8))
    wanted = {"output": {"display": True}, "patch": {"size": 64, "overlap": 16}}
    return {
        "truth": truth,
        "hole": hole,
        "image": image,
        "with": _run(folder / "a", image, mask, compute={"block": 64}, **wanted),
        "blocks": _run(folder / "b", image, mask, compute={"block": 128}, **wanted),
        "without": _run(folder / "c", image, mask, patch=wanted["patch"]),
    }


def test_texture_is_that_of_the_truth_and_no_seam_shows(scene):
    """The mean is smooth in the hole; the display product has the truth's gradients, and its steps over the rim."""
    mean, display = (pixels(layer(scene["with"], role)) for role in ("restored", "display"))
    truth, hole = scene["truth"], scene["hole"]
    blurred, _ = _against_truth(mean, truth, hole)
    sharp, seam = _against_truth(display, truth, hole)
    assert blurred < 0.5
    assert 0.8 < sharp < 1.1
    assert 0.8 < seam < 1.1
    # one displacement for all channels: colours belong together as they do outside
    detail = [one - gaussian_filter(one.astype(float), (0, 2, 2)) for one in (display, truth)]
    ours, theirs = (np.corrcoef(one[:, 42:102, 46:114].reshape(2, -1))[0, 1] for one in detail)
    assert theirs > 0.8
    assert ours == pytest.approx(theirs, abs=0.08)


def test_the_scientific_file_does_not_know_of_it(scene):
    """Byte for byte the file of a run without the key; the others are the same pixels."""
    files = [(scene[run] / "image_restored.tif").read_bytes() for run in ("with", "without")]
    assert files[0] == files[1]
    assert result_hash(scene["with"]) == result_hash(scene["without"])
    assert not (scene["without"] / "image_display.tif").exists()
    assert json.loads((scene["without"] / "record.json").read_text())["display"] is None


def test_it_is_the_same_however_the_work_is_cut(scene):
    """Other blocks and workers give the same bytes, and any window the same pixels."""
    files = [(scene[run] / "image_display.tif").read_bytes() for run in ("with", "blocks")]
    assert files[0] == files[1]


def test_only_restored_pixels_differ(scene):
    """Observed pixels and nodata are the input's bytes; no hole gets nodata or leaves the range of what is observed."""
    before, display = pixels(scene["image"]), pixels(layer(scene["with"], "display"))
    hole = scene["hole"]
    assert np.array_equal(before[:, ~hole], display[:, ~hole])
    assert (display[:, hole] != 0).all()
    mean = pixels(layer(scene["with"], "restored"))
    for c in range(2):
        seen = np.concatenate([before[c][before[c] > 0], mean[c][hole]])
        assert seen.min() <= display[c][hole].min() <= display[c][hole].max() <= seen.max()
    assert (mean != display)[:, hole].mean() > 0.9
    check = header(open_any(str(scene["image"])), layer(scene["with"], "display"))
    assert check.held, check.detail


def test_it_says_everywhere_what_it_is(scene):
    """File name, tags, record, STAC, crate, methods and report: for looking at, not for measuring."""
    folder = scene["with"]
    with rasterio.open(folder / "image_display.tif") as dataset:
        assert dataset.tags()["INPAINT_PRODUCT"] == f"display: {PURPOSE}"
    record = json.loads((folder / "record.json").read_text())
    facts = record["display"]
    assert (facts["purpose"], facts["plain"]) == (PURPOSE, 0)
    assert facts["gradient"]["restored"] < 0.5
    assert 0.8 < facts["gradient"]["display"] < 1.1
    # nearer to what is around than the mean is, and no jump
    assert facts["rim"]["restored"] < facts["rim"]["display"] < 1.1
    asset = json.loads((folder / "item.json").read_text())["assets"]["display"]
    assert (PURPOSE in asset["title"], asset["roles"]) == (True, ["visual"])
    entries = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    assert next(e for e in entries if e["@id"] == "image_display.tif")["description"] == PURPOSE
    page = (folder / "report.html").read_text()
    assert f"The display product: {PURPOSE}" in page
    assert PURPOSE.capitalize() in page
    assert "10.1145/3233304" in page
    assert f"{facts['gradient']['display']:.2f}" in page
    assert (folder / "image_display.qml").exists()
    assert "The display product" not in (scene["without"] / "report.html").read_text()


def test_verify_looks_at_it(scene):
    """An observed pixel of it is compared with the input as those of the restored image are."""
    checks = {check.name: check for check in verify(scene["with"])}
    assert checks["observed pixels of the display product"].held
    assert all(check.held for check in checks.values())


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A textured volume with a wide hole, and the results of its run."""
    folder = tmp_path_factory.mktemp("volume")
    truth = _textured((36, 48, 52), 3, -500, 500)[:1].astype(np.int16)
    hole = np.zeros(truth.shape[1:], dtype=bool)
    hole[10:26, 12:34, 14:36] = True
    image = write_image(folder / "image.nii.gz", np.where(hole, np.int16(0), truth))
    mask = write_image(folder / "mask.nii.gz", hole[None].astype(np.uint8))
    results = _run(folder / "a", image, mask, output={"display": True, "format": ["same", "zarr"]})
    return {"truth": truth, "hole": hole, "image": image, "results": results}


def test_volumes_have_one_too(volume):
    """NIfTI in three dimensions: gradients of the truth, observed voxels the input's, a header that says what it is."""
    results, hole, truth = volume["results"], volume["hole"], volume["truth"]
    mean, display = (pixels(layer(results, role)) for role in ("restored", "display"))
    blurred, _ = _against_truth(mean, truth, hole)
    sharp, seam = _against_truth(display, truth, hole)
    assert blurred < 0.5
    assert 0.8 < sharp < 1.1
    assert 0.8 < seam < 1.1
    assert np.array_equal(display[:, ~hole], truth[:, ~hole])
    written = nibabel.load(results / "image_display.nii.gz")
    assert PURPOSE in str(written.header["descrip"])
    assert "display" not in str(nibabel.load(results / "image_restored.nii.gz").header["descrip"])
    assert np.array_equal(written.affine, nibabel.load(volume["image"]).affine)
    twin = open_any(str(results / "image_display.zarr"))
    assert np.array_equal(pixels(twin).reshape(display.shape), display)


class _Image:
    """What `Display` asks an assembler for, over arrays; counts nothing and writes nothing."""

    def __init__(self, plan: Any, stored: NDArray[Any], origin: NDArray[np.uint8]) -> None:
        self.plan, self.stored, self.codes, self.source = plan, stored, origin, self
        self.state = np.where(origin == 255, 2, np.where(origin > 0, 1, 0)).astype(np.uint8)

    def restored(self, box: Box) -> NDArray[Any]:
        return self.stored[box.at()].copy()

    def read(self, box: Box) -> NDArray[Any]:
        return np.where(np.isin(self.codes, (0, 255)), self.stored, 0)[box.at()]

    def origin(self, box: Box) -> NDArray[np.uint8]:
        return self.codes[box.at()]

    def filled(self, box: Box) -> NDArray[np.bool_]:
        return np.isin(self.codes, (1, 2, 10))[box.at()]


class _Plan:
    """The fields of a plan that the display product depends on."""

    def __init__(self, values: NDArray[Any], nodata: float | None = None) -> None:
        self.ndim, self.dtype, self.config = values.ndim - 1, str(values.dtype), {"seed": 0}
        self.channels = tuple(range(len(values)))
        self.nodata, self.centre = (nodata,) * len(values), (0.0,) * len(values)
        self.spread = tuple(float(np.ptp(channel)) for channel in values)
        self.space = type("Space", (), {"shape": values.shape[1:], "unit": "pixel"})()


@pytest.fixture(scope="module")
def texture() -> NDArray[Any]:
    """A textured image in memory, int16."""
    return np.rint(_textured((SIZE, SIZE), 8, 100, 900)).astype(np.int16)


def test_windows_fit_together(texture):
    """A pixel is the same in whatever window and order it is pulled."""
    hole = np.zeros((SIZE, SIZE), dtype=bool)
    hole[30:130, 40:150] = True
    smooth = np.where(hole, 500, texture).astype(np.int16)
    codes = hole[None].astype(np.uint8)
    whole = Display(_Image(_Plan(texture), smooth, codes)).image(Box((0, 0), (SIZE, SIZE)))
    parts, pieces = np.zeros_like(whole), Display(_Image(_Plan(texture), smooth, codes))
    for box in reversed(list(Box((0, 0), (SIZE, SIZE)).tiles((50, 71)))):
        parts[box.at()] = pieces.image(box)
    assert np.array_equal(whole, parts)
    assert (whole != smooth)[:, hole].mean() > 0.9


def test_detail_that_is_there_is_left_as_it_is(texture):
    """Where the restored image is as rough as its surroundings, e.g. from a clear date, little is added."""
    hole = np.zeros((SIZE, SIZE), dtype=bool)
    hole[30:120, 40:130] = True
    sharp = np.where(hole, texture[:, ::-1], texture)
    display = Display(_Image(_Plan(texture), sharp, hole[None].astype(np.uint8)))
    added = display.image(Box((0, 0), (SIZE, SIZE))) - sharp
    assert added[:, hole].std() < 0.35 * texture.std()
    facts = display.facts()
    assert facts["gradient"]["display"] == pytest.approx(facts["gradient"]["restored"], rel=0.1)


def test_refused_and_empty_pixels_stay(texture):
    """What was not restored is not textured, and what is unknown tells nothing."""
    codes = np.zeros((1, SIZE, SIZE), dtype=np.uint8)
    codes[0, 40:120, 40:120], codes[0, 60:80, 60:80], codes[0, :, :20] = 1, 254, 255
    stored = np.where(codes == 1, 500, np.where(codes > 1, -30000, texture)).astype(np.int16)
    display = Display(_Image(_Plan(texture, nodata=-30000), stored, codes))
    values = display.image(Box((0, 0), (SIZE, SIZE)))
    filled = np.broadcast_to(codes == 1, values.shape)
    assert np.array_equal(values[~filled], stored[~filled])
    assert (texture.min() <= values[filled]).all()
    assert (values[filled] <= texture.max()).all()
    assert values[filled].std() > 0.4 * texture.std()


def test_without_a_donor_nothing_is_added_and_it_is_said(texture):
    """Where no patch is wholly observed, the display product is the restored image."""
    codes = np.zeros((1, SIZE, SIZE), dtype=np.uint8)
    codes[0, ::5] = 1
    display = Display(_Image(_Plan(texture), texture, codes))
    assert np.array_equal(display.image(Box((0, 0), (SIZE, SIZE))), texture)
    assert display.facts()["plain"] == 1.0
    assert "100 % of the restored pixels are those of the restored image" in display.notices()[0]


def test_steps_and_ratios():
    """Counted by hand: a hole of one column between observed ones; without neighbours nothing is known."""
    values = np.array([[[0.0, 2.0, 4.0, 7.0, 3.0]]])
    hole = np.array([[[False, False, True, True, False]]])
    counted = steps(values, hole, ~hole)
    assert counted[:, :, 0].tolist() == [[3.0, 1.0], [6.0, 2.0], [2.0, 1.0]]
    assert ratios(counted) == (1.5, 1.5)
    assert ratios(steps(values, ~hole & False, ~hole)) == (None, None)
