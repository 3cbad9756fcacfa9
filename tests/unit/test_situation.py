"""Where hole pixels stand: shares of families change gradually where holes are wide."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.numerics import situation as places
from pipeline.numerics.situation import situation


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
    monkeypatch.setattr(places, "_beside", lambda mask, _: mask)
    assert np.array_equal(places.situation(*asked).shares, found)
