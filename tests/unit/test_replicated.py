"""Bands of larger pixels than those of their grid: told by where neighbours differ, and seen without their squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.formats import geotiff
from pipeline.image.open import pixel_sizes
from pipeline.numerics.replicated import interpolated, pixel_size
from pipeline.references.context import context
from pipeline.references.prediction import Prediction
from pipeline.references.relation import fit_relation
from pipeline.selftest.relations import at_resolution
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


def test_sizes_are_those_of_most_of_the_image(tmp_path: Path) -> None:
    """A fine band and one of squares, a corner without values, and only one piece of another size."""
    values = np.stack([ground(192, 1), repeated(ground(32, 2), 6)]).round().astype(np.uint16)
    values[:, :70, :70] = 0
    source = geotiff.open_source((str(write_image(tmp_path / "date.tif", values, nodata=0)),))
    assert pixel_sizes(source) == ((1, 1), (6, 6))


def steps(band: NDArray[np.floating], at: NDArray[np.bool_]) -> float:
    """Return the mean step between columns there over that elsewhere."""
    step = np.abs(np.diff(band, axis=1)).mean(axis=0)
    return float(step[at].mean() / step[~at].mean())


def test_bands_get_no_squares_but_their_own() -> None:
    """A band of the grid is told without squares; one of the same large pixels as it was told before."""
    n, rng = 192, np.random.default_rng(3)
    coarse = repeated(ground(n // 6, 2), 6)
    below = ndimage.zoom(coarse[3::6, 3::6], 6, order=1, mode="nearest", grid_mode=True)
    reference = np.stack([below + 200 * rng.normal(size=below.shape), coarse]).astype(np.float32)
    image = np.stack([below, coarse + 5 * rng.normal(size=below.shape)]).astype(np.float32)
    seen = np.ones((n, n), dtype=np.bool_)
    around = context(reference, seen, (1.0, 1.0)).reshape(-1, n * n).T
    plain = fit_relation(image.reshape(2, -1).T, around, 2)
    told = at_resolution(plain, pixel_sizes=((1.0, 1.0), (6.0, 6.0)), own=(1.0, 6.0))
    before, after = (Prediction.of(r, reference, seen[None], (1.0, 1.0)) for r in (plain, told))
    meet = np.arange(n - 1) % 6 == 5
    assert steps(before.values[0], meet) > 1.5
    assert steps(after.values[0], meet) < 1.1
    assert np.array_equal(after.values[1], before.values[1])
    assert [bands for bands, _ in after.guides] == [(0,), (1,)]
    error = [float(((p.values[0] - image[0]) ** 2).mean()) for p in (before, after)]
    assert error[1] < error[0]


def test_a_guide_that_is_no_coarser_changes_nothing() -> None:
    """Where no band of the guide is coarser than the finest of the image there is one view, the guide itself."""
    reference = np.stack([ground(32), ground(32, 1)]).astype(np.float32)
    seen = np.ones((32, 32), dtype=np.bool_)
    rows = context(reference, seen, (1.0, 1.0)).reshape(-1, 1024).T
    plain = fit_relation(rows[:, :1], rows, 2)
    relation = at_resolution(plain, pixel_sizes=((2.0, 2.0), (1.0, 1.0)), own=(2.0,))
    assert relation is plain
    ((bands, view),) = relation.views(reference, seen)
    assert bands == [0]
    assert view is reference
