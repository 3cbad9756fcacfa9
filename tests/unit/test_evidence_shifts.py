"""Is what surrounds holes unlike the rest by more than chance? The pattern of holes, shifted, says what chance does."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evidence.shifts import Surroundings, excess, fall

SHAPE = (192, 192)


def texture(seed: int, width: float = 6.0, bands: int = 3) -> np.ndarray:
    """Return patchy values around 0 with a deviation of 1, not below 0, `(bands, 192, 192)`."""
    noise = np.random.default_rng(seed).normal(size=(bands, *SHAPE))
    smooth = ndimage.gaussian_filter(noise, (0, width, width))
    return np.maximum(smooth / smooth.std(), 0.0)


def around(values: np.ndarray, centres: list[tuple[int, int]], radius: int = 14) -> Surroundings:
    """Return a window with round holes."""
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    hole = np.zeros(SHAPE, dtype=bool)
    for y, x in centres:
        hole |= (rows - y) ** 2 + (cols - x) ** 2 < radius**2
    distance = ndimage.distance_transform_edt(~hole)
    return Surroundings(values=values, told=~hole, near=(distance > 0) & (distance <= 10), far=distance >= 24)


def places(seed: int) -> list[tuple[int, int]]:
    """Return where three holes are."""
    return [tuple(p) for p in np.random.default_rng(100 + seed).integers(20, 172, (3, 2))]


@pytest.mark.parametrize("width", [2.0, 6.0, 15.0])
def test_ground_alone_is_within_chance(width):
    """Whatever the size of the pieces of ground, what lies beside holes cut anywhere is not unlike the rest."""
    found = [excess([around(texture(seed, width), places(seed))]) for seed in range(12)]
    assert all(f is not None and f.deviations < 3.9 for f in found)


def test_a_rim_of_one_hole_is_beyond_chance_and_says_in_which_bands():
    """One cloud is enough if what it left at its rim is like nothing else."""
    one = around(texture(3), [(90, 90)])
    haze = np.exp(-ndimage.distance_transform_edt(one.told) / 8)[None] * np.array([3.0, 1.5, 0.0])[:, None, None]
    found = excess([around(texture(3) + haze, [(90, 90)])])
    assert found is not None
    assert found.deviations > 3.9
    assert found.values[0] > found.values[1] > 2 * max(found.values[2], 0.0)


def test_what_lies_under_holes_plays_no_part():
    """Values where nothing is told can be anything, even not a number."""
    window = around(texture(5), places(5))
    other = Surroundings(
        values=np.where(window.told, window.values, np.nan), told=window.told, near=window.near, far=window.far
    )
    first, second = excess([window]), excess([other])
    assert first is not None
    assert second is not None
    assert first.deviations == second.deviations


def test_windows_add_up():
    """A weak rim that one window cannot tell from chance is told by six."""
    windows = []
    for seed in range(6):
        window = around(texture(seed), places(seed))
        haze = 0.5 * np.exp(-ndimage.distance_transform_edt(window.told) / 8)
        windows.append(around(texture(seed) + haze, places(seed)))
    alone, together = excess(windows[:1]), excess(windows)
    assert alone is not None
    assert together is not None
    assert together.deviations > 1.5 * alone.deviations


def test_too_small_a_window_says_nothing():
    """A window that cannot be shifted by 32 px has no chance to compare with."""
    part = tuple([slice(0, 40)] * 2)
    window = around(texture(1), [(20, 20)], radius=6)
    small = Surroundings(
        values=window.values[:, *part], told=window.told[part], near=window.near[part], far=window.near[part]
    )
    assert excess([small]) is None
    assert excess([]) is None


def test_what_falls_with_the_distance_is_told_from_a_step_farther_off():
    """Both are brighter beside the hole than far from it; only one is brighter at 4 px than at 8 to 16 px."""
    away = ndimage.distance_transform_edt(around(texture(3), [(90, 90)]).told)
    haze, field = 3 * np.exp(-away / 6), np.where(away <= 24, 1.5, 0.0)
    found = [
        fall(
            [
                Surroundings(
                    values=texture(3)[:1] + more,
                    told=away > 0,
                    near=(away > 0) & (away <= 4),
                    far=(away > 8) & (away <= 16),
                )
            ]
        )
        for more in (haze, field)
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0] > 4
    assert found[1] < 2
