"""Bands of larger pixels than those of their grid: told by where neighbours differ, and seen without their squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.formats import geotiff
from pipeline.geometry.box import Box
from pipeline.image.open import OpenGuide, open_guide, open_source
from pipeline.numerics.replicated import interpolated, pixel_size
from pipeline.plan.refs import GuideRef, SourceRef
from tests.helpers import write_image


def ground(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Return smooth ground with some texture, around 1000."""
    rng = np.random.default_rng(seed)
    broad = ndimage.gaussian_filter(rng.normal(size=(n, n)), 3)
    return 1000 + 200 * broad / broad.std() + 10 * rng.normal(size=(n, n))


def repeated(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return pixels repeated along both axes."""
    return values.repeat(size, axis=0).repeat(size, axis=1)


@pytest.mark.parametrize("size", [2, 3, 6, 10])
@pytest.mark.parametrize("start", [0, 1])
def test_repeated_pixels_are_told_wherever_they_begin(size: int, start: int) -> None:
    """Squares of any phase have the size of a pixel, also where the band has few grey levels."""
    band = repeated(ground(40), size)[start : start + 64, start : start + 64]
    assert pixel_size(band) == (size, size)
    assert pixel_size(np.round(band / 200).astype(np.uint8)) == (size, size)


def test_squares_that_were_interpolated_once_more_are_told() -> None:
    """Half a pixel off the grid each square has a mixed pixel on its side; it is as large as before."""
    band = ndimage.shift(repeated(ground(16), 6), (0.5, 0.5), order=1)[8:72, 8:72]
    assert pixel_size(band) == (6, 6)


def test_a_resampled_size_need_not_be_whole() -> None:
    """100 m on a grid of 30 m, nearest neighbours: 3 and 4 pixels in turn."""
    at = (np.arange(64) * 0.3 + 0.01).astype(int)
    assert pixel_size(ground(30)[np.ix_(at, at)]) == pytest.approx((10 / 3, 10 / 3))


@pytest.mark.parametrize(
    "band",
    [
        ground(64),
        np.round(ndimage.gaussian_filter(ground(64), 4) / 20).astype(np.uint8),
        np.where(ndimage.gaussian_filter(ground(64), 6) > 1000, 3, 7),
        np.full((64, 64), 5.0),
        np.full((64, 64), np.nan),
        # a grid of nearly the same size: one line in seven comes twice
        ground(64)[np.ix_(np.arange(64) * 6 // 7, np.arange(64) * 6 // 7)],
    ],
    ids=["texture", "few levels", "areas", "flat", "nothing", "lines twice"],
)
def test_what_has_no_squares_is_left_alone(band: NDArray[np.float64]) -> None:
    """Areas, grey levels and lines that come twice are not taken for larger pixels."""
    assert pixel_size(band) == (1, 1)


def test_interpolated_pixels_keep_their_means_and_lose_their_edges() -> None:
    """A ramp of squares becomes the ramp; pixels that are not valid do not count."""
    ramp = repeated(np.tile(np.arange(12.0), (12, 1)), 6).astype(np.float32)
    valid = np.ones(ramp.shape, dtype=np.bool_)
    seen = interpolated(ramp, valid, (6.0, 6.0))
    assert np.allclose(np.diff(seen[20, 6:-6]), 1 / 6, atol=1e-5)
    valid[:, 36:] = False
    other = interpolated(np.where(valid, ramp, 9e9).astype(np.float32), valid, (6.0, 6.0))
    assert not other[:, 36:].any()
    assert np.array_equal(other[:, :33], seen[:, :33])
    assert other.max() <= 6


@pytest.fixture
def guide(tmp_path: Path) -> OpenGuide:
    """Return a reference of a fine band and one of squares of six pixels, with a corner of nodata."""
    values = np.stack([ground(96, 1), repeated(ground(16, 2), 6)]).round().astype(np.uint16)
    values[:, :20, :30] = 0
    path = write_image(tmp_path / "date.tif", values, nodata=0)
    ref = SourceRef(kind="geotiff", paths=(str(path),))
    return open_guide(GuideRef(source=ref), open_source(ref))


def test_a_guide_comes_without_squares_the_same_in_any_window(guide: OpenGuide) -> None:
    """The fine band is as it is stored; the coarse one has no larger steps where its pixels meet than elsewhere."""
    assert guide.pixel_sizes == ((1, 1), (6, 6))
    whole = guide.read(Box((0, 0), (96, 96)))
    stored = geotiff.open_source(guide.source.paths).read(Box((0, 0), (96, 96)))
    assert np.array_equal(whole.values[0], np.where(whole.valid[0], stored[0], 0))
    steps = np.abs(np.diff(whole.values[1, 30:, :], axis=1)).mean(axis=0)
    assert steps[5::6].mean() < 1.3 * steps[np.arange(95) % 6 != 5].mean()
    for box in (Box((0, 0), (50, 50)), Box((13, 17), (64, 80)), Box((60, 1), (96, 96))):
        part = guide.read(box)
        assert np.array_equal(part.values, whole.values[box.at()])
        assert np.array_equal(part.valid, whole.valid[box.at()])
