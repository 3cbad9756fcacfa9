"""Buffers of any width: they work where that makes sense, and are refused in words where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.geometry.box import Box
from pipeline.masks import _dilate
from pipeline.masks.base import FILL, dilate, mask_options, open_masks
from pipeline.testing import ArraySource, raster_space, volume_space
from tests.helpers import command, layer, pixels, run_config, smooth, write_image


def test_a_buffer_wider_than_a_thin_volume(tmp_path):
    """Three slices and a buffer of 4 px: the ball is cut at the volume's faces, in windows as in one."""
    values = smooth((1, 3, 30, 32), "int16")
    hole = np.zeros(values.shape, np.uint8)
    hole[0, 1, 15, 16] = 1
    image, mask = write_image(tmp_path / "image.nii", values), write_image(tmp_path / "mask.nii", hole)
    config = run_config(tmp_path, image, None, mask=[{"kind": "raster", "path": str(mask), "buffer": "4 px"}])
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    z, y, x = np.mgrid[-1:2, -15:15, -16:16]
    codes = pixels(layer(tmp_path / "out" / "image", "source"))[0]
    assert np.array_equal(codes == 1, z**2 + y**2 + x**2 <= 16)


@pytest.mark.parametrize(
    ("buffer", "code", "word"),
    [("99999 px", 3, "`buffer`"), ("999999 px", 2, "999999 px"), ("1e300 px", 2, "1e300"), ("1e300 m", 2, "1e+300 m")],
)
def test_a_buffer_beyond_any_image(tmp_path, buffer, code, word):
    """It covers a small image, so nothing observed is left; beyond all images it is refused as it stands."""
    hole = np.zeros((1, 20, 24), np.uint8)
    hole[0, 3, 3] = 1
    image = write_image(tmp_path / "image.tif", smooth((1, 20, 24)), crs="EPSG:32633")
    mask = write_image(tmp_path / "mask.tif", hole)
    config = run_config(tmp_path, image, None, mask=[{"kind": "raster", "path": str(mask), "buffer": buffer}])
    outcome = command("run", config)
    assert outcome.code == code, outcome.err
    assert word in outcome.err


@pytest.mark.parametrize("buffer", ["nan", float("nan"), float("inf"), "inf px", "1e400 px", "-3 px", "3 parsec", True])
def test_what_is_no_length_is_said_to_be_none(buffer):
    """Not-a-number, infinity, a negative number, an unknown unit: an error of the config."""
    with pytest.raises(ValueError, match=r"is no length|is too far"):
        mask_options({"kind": "slices", "slices": [0], "buffer": buffer})


def test_a_length_that_is_no_number_of_pixels():
    """Kilometres beyond all floats on a grid of millimetres: an error of the config that names the length."""
    image = ArraySource(values=np.ones((1, 3, 4, 4)), space=volume_space((3, 4, 4), (1.0, 1.0, 1.0)))
    entry = mask_options({"kind": "slices", "slices": [0], "buffer": "1e305 km"})
    with pytest.raises(ConfigError, match=r"'1e\+305 km' "):
        open_masks([entry], image, lambda path: path)


def test_a_buffer_that_would_read_everything_at_once_is_refused():
    """On an image of 40,000 pixels a side no window of the mask could be bounded; nothing is read or allocated."""
    values = np.broadcast_to(np.uint8(1), (1, 40_000, 40_000))
    image = ArraySource(values=values, space=raster_space(values.shape[1:]))
    entry = mask_options({"kind": "threshold", "above": 8, "buffer": "99999 px"})
    with pytest.raises(ConfigError, match=r"buffer of 99999 px.*up to 2895 px"):
        open_masks([entry], image, lambda path: path)


def test_wide_gaps_are_bounded_by_the_image():
    """`max_gap` beyond the image means what its extent means: frames without an end are no gaps."""
    image = ArraySource(values=np.array([[[0, 0, 5, 0, 5]]]), space=raster_space((1, 5)), no_value=0)
    for gap in ("4 px", "1000 px", "99999 px"):
        entry = mask_options({"kind": "nodata", "max_gap": gap})
        states = open_masks([entry], image, lambda path: path).read(Box.whole((1, 5)))
        assert (states[0, 0] == FILL).tolist() == [False, False, False, True, False], gap


@given(
    seed=st.integers(0, 200),
    shape=st.lists(st.integers(1, 14), min_size=2, max_size=3),
    quarters=st.lists(st.integers(0, 80), min_size=3, max_size=3),
)
def test_distances_and_runs_widen_alike(seed: int, shape: list[int], quarters: list[int]) -> None:
    """Both ways to widen holes, and the short cut where all is in reach, follow the definition."""
    hole = np.random.default_rng(seed).random((1, *shape)) < 0.05
    radii = [n / 4 for n in quarters[: len(shape)]]
    expected = np.zeros(shape, bool)
    places = np.stack(np.indices(shape), axis=-1)
    for place in np.argwhere(hole[0]):
        away = (places - place) / [r if r >= 1 else 0.5 for r in radii]
        expected |= (away**2).sum(axis=-1) <= 1 + 1e-8
    assert np.array_equal(dilate(hole, radii)[0], expected)
    assert np.array_equal(_dilate._by_runs(hole, radii)[0], expected)
    if hole.any():
        assert np.array_equal(_dilate._by_distance(hole[0], radii), expected)


def test_wide_radii_are_measured_not_enumerated(monkeypatch):
    """An ellipsoid of many runs is never enumerated: it is laid by distances, and the answer is a disc."""
    monkeypatch.setattr(_dilate, "_by_runs", None)
    hole = np.zeros((1, 1500, 1500), bool)
    hole[0, 700, 700] = True
    y, x = np.mgrid[-700:800, -700:800]
    assert np.array_equal(dilate(hole, (600.0, 600.0))[0], x**2 + y**2 <= 600**2)
