"""Where hole pixels stand: shares of families change gradually where holes are wide."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.numerics import behind
from pipeline.numerics import situation as places
from pipeline.numerics.situation import KNOTS, Recurring, Situation, curves_of, situation


def test_a_wide_hole_has_no_sectors() -> None:
    """Observed scraps on one side, the image's edge on the other: what lies behind a pixel fades into it."""
    valid = np.zeros((1, 160, 160), dtype=np.bool_)
    valid[:, :, :16] = True
    valid[:, 40:44, 20:30] = valid[:, 90:94, 60:64] = valid[:, 140:, 100:] = True
    border = situation(valid, ~valid, (1.0, 1.0)).shares[2, 0]
    far = border[:130, 40:]
    assert np.ptp(far) > 0.9
    beside = border[:, 17:20]
    assert np.ptp(beside) > 0.9
    depth = situation(valid, ~valid, (1.0, 1.0)).distance[0]
    for axis in (0, 1):
        step = np.abs(np.diff(border, axis=axis))
        deep = np.minimum(depth, np.roll(depth, -1, axis=axis)) > 24
        assert step[deep[:-1] if axis == 0 else deep[:, :-1]].max() < 0.09


@pytest.mark.parametrize("seed", range(4))
def test_only_parts_of_holes_that_reach_an_end_are_walked_through(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else can have nothing behind it: with all pixels walked through the shares are the same bits."""
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.normal(size=(90, 100)), 3)
    hole = rough > np.quantile(rough, 0.6)
    outside = np.zeros_like(hole)
    outside[40:60, 30:45] = seed % 2
    hole &= ~outside
    asked = ((~hole & ~outside)[None], hole[None], (1.0, 1.0), ((True, True), (False, seed > 1)))
    found = places.situation(*asked).shares
    assert found[2].any()
    assert (found[2][0][hole] == 0).any()
    monkeypatch.setattr(behind, "_beside", lambda mask, _: mask)
    assert np.array_equal(places.situation(*asked).shares, found)


@pytest.mark.parametrize("shape", [(90, 70), (30, 24, 20)])
def test_a_square_around_each_pixel_is_as_wide_as_it_is_deep(shape: tuple[int, ...]) -> None:
    """Means over hole pixels as a filter of each width gives them, holes at the ends included."""
    rng = np.random.default_rng(2)
    rough = ndimage.gaussian_filter(rng.normal(size=shape), 3)
    hole = rough > np.quantile(rough, 0.5)
    depth = ndimage.distance_transform_edt(hole)
    values = np.where(hole, rng.random(shape) > 0.5, 0.0)
    level = np.log2(np.maximum(depth, 4) / 4)
    assert level.max() > 0.3
    widths = [
        ndimage.uniform_filter(values, 4 * 2**k + 1, mode="constant")
        / np.maximum(ndimage.uniform_filter(hole.astype(float), 4 * 2**k + 1, mode="constant"), 1e-9)
        for k in (0, 1, 2)
    ]
    expected = sum(np.maximum(0, 1 - np.abs(level - k)) * mean for k, mean in enumerate(widths))
    found = behind.around_each(values[hole], hole, depth)
    np.testing.assert_allclose(found, expected[hole], atol=1e-5)


def test_channels_with_the_same_holes_share_one_plane() -> None:
    """Nothing is computed or kept twice; some pixels of it are those of all."""
    hole = np.zeros((3, 40, 50), dtype=np.bool_)
    hole[:, 10:30, 20:50] = True
    one = situation(~hole, hole, (1.0, 1.0))
    assert one.alike
    assert one.distinct.distance.shape == (1, 40, 50)
    other = hole.copy()
    other[2, 0, 0] = True
    several = situation(~other, other, (1.0, 1.0))
    assert not several.alike
    np.testing.assert_array_equal(several.distance[:2], one.distance[:2])
    some = np.flatnonzero(hole[0])
    for each in (one, several):
        part = each.at(some)
        np.testing.assert_array_equal(part.distance, each.distance.reshape(3, -1)[:, some])
        np.testing.assert_array_equal(part.shares, each.shares.reshape(3, 3, -1)[:, :, some])
        assert part.alike == each.alike


def test_distances_that_recur_are_looked_up_once_and_give_the_same_bytes() -> None:
    """Pixels of several places, one after the other: whatever the curves are, no digit changes."""
    rng = np.random.default_rng(4)
    places = [
        Situation(
            distance=np.sqrt(rng.integers(0, 900, n)).astype(np.float32),
            shares=rng.dirichlet((1, 1, 1), n).T.astype(np.float32),
        )
        for n in (1, 700, 5001)
    ]
    together = Recurring.of_many(places)
    for _ in range(3):
        curves = curves_of([rng.random(len(knots)).tolist() for knots in KNOTS])
        one_by_one = np.concatenate([curves.at(place) for place in places])
        assert curves.at(together).tobytes() == one_by_one.tobytes()
    assert together.levels.size < together.distance.size / 2
