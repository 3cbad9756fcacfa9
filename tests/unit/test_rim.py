"""The rim check finds haze of known width beside a mask, and nothing beside a clean one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from pipeline.fills.base import FillSpec, Window
from pipeline.selftest.rim import Rim, check_rim
from pipeline.synthetic.noise import fractal

SPLINE = FillSpec("tension", {"t": 0.5})


def _window(shape: tuple[int, ...], width: int, height: float, seed: int = 0) -> Window:
    """Return fractal texture of unit deviation with balls of holes, and haze `width` px wide beside them."""
    rng = np.random.default_rng(seed)
    values = np.stack([fractal(rng, shape, slope=1.8, longest=40, shortest=2) for _ in range(2)])
    values = 100 + 10 * (values - values.mean()) / values.std()
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    hole = np.zeros(shape, bool)
    step = 32 if len(shape) == 2 else 22
    for centre in np.ndindex(*(n // step for n in shape)):
        away = sum((g - step * (c + 0.5)) ** 2 for g, c in zip(grid, centre, strict=True))
        hole |= away < (rng.uniform(3, 7) if len(shape) == 2 else 4) ** 2
    distance = distance_transform_edt(~hole)
    hazy = values + np.where((distance > 0) & (distance <= width), height, 0.0)
    valid = np.broadcast_to(~hole, values.shape)
    return Window(
        values=np.where(valid, hazy, 0).astype(np.float32), valid=valid, hole=~valid, spacing=(1.0,) * len(shape)
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_clean_mask_needs_no_more_buffer(seed):
    """Whatever the texture: 0 pixels wider, and nothing to say."""
    rim = check_rim([_window((192, 192), 0, 0.0, seed)] * 2, SPLINE, (0.1, 0.1), seed)
    assert rim.tested_px >= 3
    assert rim.wider_px == 0
    assert not rim.sentence()


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("height", [12.0, -12.0])
def test_haze_and_shadow_of_known_width_are_found(width, height):
    """Brighter or darker rims: exactly as many pixels as were spoilt, said in words."""
    rim = check_rim([_window((192, 192), width, height)] * 2, SPLINE, (0.1, 0.1), 0)
    assert rim.wider_px == width
    assert f"widening the mask by {width} px" in rim.sentence()


def test_a_rim_that_is_spoilt_unevenly_is_found():
    """Thick cloud beside one hole and thin cloud beside the others: the mean excess is large, but so is its error."""
    window = _window((192, 192), 1, 12.0)
    thick = distance_transform_edt(window.valid[0]) == 1
    thick[32:] = thick[:, 32:] = False
    spoilt = replace(window, values=window.values + np.where(thick, np.float32(900), np.float32(0)))
    rim = check_rim([spoilt] * 2, SPLINE, (0.1, 0.1), 0)
    assert rim.excess[0] > 10
    assert rim.wider_px == 1


@pytest.mark.parametrize(("width", "height"), [(0, 0.0), (1, 20.0), (2, 20.0)])
def test_partial_volume_in_volumes(width, height):
    """The same in three dimensions."""
    rim = check_rim([_window((66, 66, 66), width, height)], FillSpec("tension", {"t": 0.95}), (0.1, 0.1), 0)
    assert rim.wider_px == width


def test_what_cannot_be_tested_is_not_judged():
    """No window, no hole or holes so dense that nothing is left to predict from."""
    assert check_rim([], SPLINE, (0.1, 0.1), 0) == Rim()
    window = _window((64, 64), 0, 0.0)
    dense = np.broadcast_to(np.random.default_rng(0).random((64, 64)) < 0.6, window.hole.shape)
    crowded = Window(values=window.values, valid=~dense, hole=dense, spacing=(1.0, 1.0))
    assert check_rim([crowded], SPLINE, (0.1, 0.1), 0) == Rim()
