"""Whole numbers that name things must not pass for measurements, and measurements never for names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.image.classes import are_classes
from pipeline.image.scene import Clock, open_scene
from tests.helpers import blobs, command, layer, order_of, pixels, run_config, smooth, write_image

COVER = (11, 21, 22, 23, 31, 41, 42, 43, 52, 71, 81, 82, 90, 95)
"""The codes of a well-known map of land cover."""


def field(seed: int, shape: tuple[int, ...] = (200, 220), width: float = 6.0) -> NDArray[np.float64]:
    """Return smooth noise, deviation 1."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), width, mode="wrap")
    return np.asarray(values / values.std())


def cover(seed: int = 0, shape: tuple[int, ...] = (200, 220), codes: tuple[int, ...] = COVER) -> NDArray[np.float64]:
    """Return a map whose classes lie in patches beside any other: the likeliest of as many fields."""
    best = np.argmax([field(100 * seed + k, shape) for k in range(len(codes))], axis=0)
    return np.asarray(codes, dtype=np.float64)[best]


def speckled(values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return a map in which a share of the pixels has the class of another place, as maps of satellites have it."""
    rng = np.random.default_rng(1)
    return np.where(rng.random(values.shape) < share, rng.permutation(values.ravel()).reshape(values.shape), values)


NAMES = {
    "land cover": cover(),
    "speckled": speckled(cover(), 0.1),
    "ten codes that follow one another": cover(1, codes=tuple(range(10))),
    "five": cover(2, codes=(10, 20, 30, 40, 50)),
    "numbers of parcels": cover(3, codes=tuple(range(1, 120))),
    "of a coarser grid": np.kron(cover(4, (70, 80)), np.ones((3, 3))),
    "flags in bits": np.where(field(5) > 1, 22280, np.where(field(6) > 1, 23888, np.where(field(7) > 0, 21824, 21952)))
    + np.where(field(8) > 1.2, 64, 0.0),
    "a brain": cover(6, (48, 48, 48), tuple(range(1000, 1030))),
    "a mask": (field(10) > 0) * 255.0,
    "three tissues": np.digitize(field(11), (-0.5, 0.5)).astype(np.float64),
    "clear, shadow and cloud": np.where(field(5) > 1, 4.0, np.where(field(6) > 1, 2.0, 0.0)),
}
MEASURED = {
    "a photograph": np.rint(np.clip(128 + 40 * field(0) + 10 * field(1, width=1.0), 0, 255)),
    "of few levels": np.rint(4 + 2 * field(2, width=3.0)),
    "depths in tens of metres": 10 * np.rint(8 * field(3, width=10.0)),
    "heights in flat land": np.rint(3 * field(4, width=12.0)),
    "calm water": np.rint(12 + 0.6 * np.random.default_rng(5).standard_normal((200, 220))),
    "... repeated six times": np.kron(
        np.rint(12 + np.random.default_rng(5).standard_normal((40, 40))), np.ones((6, 6))
    ),
    "ice in per cent": np.rint(100 * np.clip(0.5 + field(6, width=8.0), 0, 1)),
    "ice in tenths beside land": np.where(
        field(8) > 1, 120, 10 * np.rint(10 * np.clip(0.5 + field(7, width=8.0), 0, 1))
    ),
    "counts": np.random.default_rng(9).poisson(np.exp(0.5 + 0.8 * field(9, width=8.0))).astype(np.float64),
    "zeros and ones, whose means are rounded to either": (field(10) > 0) * 1.0,
    "five levels of noise": np.clip(np.rint(2 + np.random.default_rng(11).standard_normal((200, 220))), 0, 4),
    "no whole numbers": cover() + 0.5,
    "a stretched photograph": np.rint(np.rint(30 + 9 * field(12, width=2.0)) * 4.2),
    "half of it blank": np.where(field(13) > 0, 0, np.rint(100 + 20 * field(14, width=3.0))),
}


@pytest.mark.parametrize("name", NAMES)
def test_codes_of_classes_are_recognised(name: str) -> None:
    """Maps of all kinds, with a quarter of their pixels unseen."""
    values = NAMES[name]
    assert are_classes([values])
    assert are_classes([np.where(blobs(values.shape, n=8, radius=values.shape[0] / 8) > 0, np.nan, values)])


def test_what_cannot_be_told_is_no_class() -> None:
    """Nothing observed, hardly anything, and one class throughout."""
    assert not are_classes([np.full((60, 60), np.nan)])
    assert not are_classes([cover()[:12, :12]])
    assert not are_classes([np.full((60, 60), 41.0)])


@pytest.mark.parametrize("name", MEASURED)
def test_measurements_are_not_taken_for_classes(name: str) -> None:
    """However few levels they have, and however flat they are."""
    assert not are_classes([MEASURED[name]])


@pytest.mark.parametrize("large", [False, True], ids=["one fill", "patches meet"])
def test_the_notice_says_what_to_write_and_that_holds_codes_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """As numbers what is restored has codes that nothing in the file has; as the notice says it has none.

    Nor where patches see other nearest pixels, as in images with too many hole pixels for one fill.
    """
    if large:
        monkeypatch.setattr("pipeline.survey.coarse.MOST_UNKNOWNS", 200)
    values = cover(shape=(180, 190)).astype(np.uint8)[None]
    image = write_image(tmp_path / "cover.tif", values)
    hole = write_image(tmp_path / "m.tif", blobs((180, 190), n=12, radius=14)[None])
    asked = run_config(tmp_path, image, hole)
    _, notices = open_scene(order_of(asked).job, Clock())
    (said,) = [note for note in notices if "codes of classes" in note]
    assert "`model: {kind: nearest}`" in said
    assert command("run", asked).code == 0
    assert set(np.unique(pixels(layer(tmp_path / "out" / "cover", "restored")))) - set(COVER)
    (entry,) = json.loads((tmp_path / "out" / "run.json").read_text())["sources"]
    assert entry["judgement"]["level"] != "sound"
    assert "a mean of codes names nothing" in entry["judgement"]["said"]
    asked = run_config(tmp_path, image, hole, model={"kind": "nearest"}, output={"directory": str(tmp_path / "near")})
    _, notices = open_scene(order_of(asked).job, Clock())
    assert not [note for note in notices if "codes of classes" in note]
    assert command("run", asked).code == 0
    assert set(np.unique(pixels(layer(tmp_path / "near" / "cover", "restored")))) <= set(COVER)


def test_a_measured_image_is_left_in_peace(tmp_path: Path) -> None:
    """Nothing is said of an ordinary image, in whatever type it is stored."""
    for dtype in ("uint8", "uint16", "float32"):
        image = write_image(tmp_path / f"{dtype}.tif", smooth((2, 120, 130), dtype))
        hole = write_image(tmp_path / "m.tif", blobs((120, 130))[None])
        _, notices = open_scene(order_of(run_config(tmp_path, image, hole)).job, Clock())
        assert not [note for note in notices if "classes" in note]
