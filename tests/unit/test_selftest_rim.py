"""The rim check finds haze of known width beside a mask, and nothing beside a clean one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from pipeline.fills.base import FillSpec, Window
from pipeline.geometry.space import Space
from pipeline.restore.task import Guide
from pipeline.selftest.rim import Rim, _reach, _verdict, check_rim, check_rim_of_guide
from pipeline.selftest.rings import by_place, cut, hidden_rims
from pipeline.synthetic.noise import fractal

SPLINE = FillSpec("tension", {"t": 0.5})
GRID = Space(kind="raster", shape=(192, 192), affine=(30.0, 0, 0, 0, -30.0, 0), units="m")

TWICE = ((0, 0), (0, 0))
"""The same window of an image, looked at twice."""


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
    rim = check_rim([_window((192, 192), 0, 0.0, seed)] * 2, SPLINE, (0.1, 0.1), seed, TWICE)
    assert rim.tested_px >= 3
    assert rim.wider_px == 0
    assert not rim.sentence(GRID)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("height", [12.0, -12.0])
def test_haze_and_shadow_of_known_width_are_found(width, height):
    """Brighter or darker rims: exactly as many pixels as were spoilt, said in words."""
    rim = check_rim([_window((192, 192), width, height)] * 2, SPLINE, (0.1, 0.1), 0, TWICE)
    assert rim.wider_px == width
    assert f"up to {width} px ({30 * width} m)" in rim.sentence(GRID)
    assert f"widening the mask by {width} px" in rim.sentence(GRID)


def test_a_rim_that_is_spoilt_unevenly_is_found():
    """Thick cloud beside one hole and thin cloud beside the others: the mean excess is large, but so is its error."""
    window = _window((192, 192), 1, 12.0)
    thick = distance_transform_edt(window.valid[0]) == 1
    thick[32:] = thick[:, 32:] = False
    spoilt = replace(window, values=window.values + np.where(thick, np.float32(900), np.float32(0)))
    rim = check_rim([spoilt] * 2, SPLINE, (0.1, 0.1), 0, TWICE)
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


@pytest.mark.parametrize(("shape", "rings"), [((160, 160), 6), ((40, 40, 40), 3)])
def test_six_rings_are_looked_at_and_three_in_volumes(shape, rings):
    """Where holes are few all of them can be hidden at once."""
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    hole = np.broadcast_to(sum((g - n // 2) ** 2 for g, n in zip(grid, shape, strict=True)) < 8**2, (2, *shape))
    values = np.random.default_rng(0).normal(0, 10, hole.shape).astype(np.float32)
    window = Window(values=np.where(hole, 0, values), valid=~hole, hole=hole, spacing=(1.0,) * len(shape))
    rim = check_rim([window] * 2, FillSpec("nearest"), (0.1, 0.1), 0)
    assert rim.tested_px == len(rim.excess) == rings


def test_voids_are_not_filled_to_their_bottom():
    """Rings of six pixels do not depend on what lies 24 from all that is seen; the rest of the hole is filled."""
    seen = []

    def fill(window: Window) -> np.ndarray:
        depth = distance_transform_edt(~window.valid[0])
        seen.append((depth[window.hole[0]].max(), depth[~window.valid[0] & ~window.hole[0]].min()))
        return window.values

    grid = np.ogrid[:192, :192]
    hole = np.broadcast_to(sum((g - 96) ** 2 for g in grid) < 50**2, (1, 192, 192))
    window = Window(values=np.zeros(hole.shape, np.float32), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    check_rim([window], fill, (0.1,), 0)
    ((deepest, left),) = seen
    assert deepest <= 24 < left


@pytest.mark.parametrize(("width", "reach"), [(25, 6), (24, 5), (7, 1), (4, 0)])
def test_half_of_what_is_observed_must_stay(width, reach):
    """A lost column at the side: its rings take twelve columns of 24, but not of 23."""
    hole = np.zeros((1, 8, width), bool)
    hole[..., 0] = True
    window = Window(values=np.zeros(hole.shape, np.float32), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    assert _reach([window], 6) == reach


@pytest.mark.parametrize(("channels", "looked_at"), [(2, 2), (10, 3)])
def test_three_channels_are_looked_at(channels, looked_at):
    """The first, the last and one between them: contamination shows in all."""
    seen = []

    def fill(window: Window) -> np.ndarray:
        seen.append(len(window.values))
        return window.values

    one = _window((64, 64), 0, 0.0)
    many = replace(
        one,
        values=np.repeat(one.values[:1], channels, axis=0),
        valid=np.repeat(one.valid[:1], channels, axis=0),
        hole=np.repeat(one.hole[:1], channels, axis=0),
    )
    check_rim([many], fill, (0.1,) * channels, 0)
    assert seen == [looked_at]


@pytest.mark.parametrize(
    ("shape", "pieces"), [((24, 24), 4), ((25, 24), 6), ((12, 12), 1), ((16, 16, 16), 8), ((17, 16, 8), 6)]
)
def test_residuals_are_independent_over_so_many_pixels(shape, pieces):
    """Pieces of 12 pixels, of 8 in volumes, whose sums are counted one by one."""
    found = cut(np.ones(shape), np.ones(shape, bool), np.ones(shape), 2, (0,) * len(shape)).values()
    assert len(found) == pieces
    assert sum(count[0] for _, count in found) == np.prod(shape)
    assert not sum(count[1] for _, count in found)


def test_a_place_counts_once_however_often_it_is_looked_at():
    """Windows that overlap show the same pieces: of the image, whatever lies where in a window."""
    residual = np.random.default_rng(0).normal(size=(36, 36))
    whole, wanted = np.ones((36, 36)), np.ones((36, 36), bool)
    at_once = cut(residual, wanted, whole, 1, (0, 0))
    parts = [cut(residual[a : a + 24], wanted[a : a + 24], whole[a : a + 24], 1, (a, 0)) for a in (0, 12)]
    means = [[float(sums[0] / counts[0]) for sums, counts in some] for some in (at_once.values(), by_place(parts))]
    assert np.allclose(sorted(means[0]), sorted(means[1]))
    assert len(means[0]) == 9
    assert cut(residual[7:24], wanted[7:24], whole[7:24], 1, (7, 0)).keys() < at_once.keys()


@pytest.mark.parametrize(("starts", "pieces"), [((), 2), (((0, 0), (0, 0)), 1), (((0, 0), (0, 192)), 2)])
def test_windows_say_where_they_begin(monkeypatch, starts, pieces):
    """The same window twice has as many pieces of rim as once, at other places as two."""
    counted = []
    monkeypatch.setattr("pipeline.selftest.rim._verdict", lambda rim, *_: counted.append(len(rim)) or Rim())
    window = _window((192, 192), 0, 0.0)
    check_rim([window], SPLINE, (0.1, 0.1), 0)
    check_rim([window] * 2, SPLINE, (0.1, 0.1), 0, starts)
    once, twice = counted
    assert 0.8 < twice / (pieces * once) < 1.25


def _pieces(squares: np.ndarray, pixels: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pieces of one ring with these squared mean residuals."""
    return [(np.array([pixels * np.sqrt(s)]), np.array([float(pixels)])) for s in squares]


@pytest.mark.parametrize(("pieces", "pixels", "tested"), [(12, 3, 1), (11, 3, 0), (12, 2, 0)])
def test_a_ring_is_judged_on_a_dozen_pieces_of_three_pixels(pieces, pixels, tested):
    """At the mask and at clean places."""
    few, many = _pieces(np.linspace(1, 2, pieces), pixels), _pieces(np.linspace(1, 2, 50))
    assert _verdict(few, many, 1, 2).tested_px == _verdict(many, few, 1, 2).tested_px == tested


@pytest.mark.parametrize(("ndim", "times", "wider"), [(2, 2.4, 0), (2, 2.6, 1), (3, 5.9, 0), (3, 6.1, 1)])
def test_contamination_is_well_above_clean_places(ndim, times, wider):
    """With many pieces the excess is certain: from two and a half times the squared residual it is said, six in 3-D."""
    usual = np.tile([-0.9, 0.9, -1.1, 1.1], 500)
    rim, clean = ([(np.array([4 * v]), np.array([4.0])) for v in some] for some in (np.sqrt(times) * usual, usual))
    assert _verdict(rim, clean, 1, ndim).wider_px == wider


@pytest.mark.parametrize(("spoilt", "wider"), [(7, 0), (8, 1)])
def test_contamination_is_certain(spoilt, wider):
    """Seven pieces of twelve far off lie 3.9 standard errors above the clean ones, eight lie 4.7."""
    usual = np.ones(100)
    assert _verdict(_pieces(np.where(np.arange(12) < spoilt, 1e6, 0)), _pieces(usual), 1, 2).wider_px == wider


@pytest.mark.parametrize(("found", "wider"), [(0.72, 0), (0.78, 1)])
def test_places_without_any_residual_do_not_decide(found, wider):
    """Half of the clean pieces fit exactly: a twentieth of the mean is added before logarithms are compared."""
    usual = np.tile([0.0, 2.0], 500)
    assert _verdict(_pieces(np.full(1000, found)), _pieces(usual), 1, 2).wider_px == wider


@pytest.mark.parametrize(
    ("shift", "pieces", "wider"), [(0.15, 2000, 1), (-0.15, 2000, 1), (0.08, 20_000, 0), (0.15, 400, 0)]
)
def test_a_rim_of_a_volume_that_is_shifted_as_a_whole_is_found(shift, pieces, wider):
    """By a tenth of the local deviation and more, and certainly; its squares are no larger than at clean places."""
    usual = np.tile([-1.0, 1.0], pieces // 2)
    rim, clean = ([(np.array([4 * v]), np.array([4.0])) for v in values] for values in (usual + shift, usual))
    assert _verdict(rim, clean, 1, 3).wider_px == wider
    assert _verdict(rim, clean, 1, 2).wider_px == 0


def test_lost_slices_have_no_rim_but_lesions_beside_them_do():
    """All voxels of three slices beside a lost one are spoilt: nothing is said of them, and partial volume is found."""
    spline = FillSpec("tension", {"t": 0.95})
    clean, soft = (_window((44, 44, 44), 1, height) for height in (0.0, 20.0))
    for window, wider in ((clean, 0), (soft, 1)):
        hole, values = window.hole.copy(), window.values.copy()
        hole[:, 10] = True
        values[:, 7:14] += 40
        lost = replace(window, hole=hole, valid=~hole, values=np.where(hole, 0, values).astype(np.float32))
        assert check_rim([lost], spline, (0.1, 0.1), 0).wider_px == wider
    alone = np.zeros_like(clean.hole)
    alone[:, 10] = True
    assert check_rim([replace(clean, hole=alone, valid=~alone)], spline, (0.1, 0.1), 0) == Rim()


@pytest.mark.parametrize(("height", "wider"), [(0.0, 0), (20.0, 1)])
def test_what_lies_a_thick_slice_away_is_no_rim(height, wider):
    """Slices six steps apart, discs hidden in some: their rim is in their own plane, and is found there."""
    window = _window((20, 66, 66), 0, 0.0)
    from_middle = (np.arange(66) % 22 - 11) ** 2
    discs = np.zeros(window.hole.shape, dtype=bool)
    discs[:, 3::7] = np.add.outer(from_middle, from_middle) < 25
    other_slices = ~discs[0].any(axis=(1, 2))
    soft = np.stack([distance_transform_edt(~plane) == 1 for plane in discs[0]])
    soft[other_slices] = False
    values = np.where(discs, 0, window.values + height * soft).astype(np.float32)
    thick = replace(window, hole=discs, valid=~discs, values=values, spacing=(6.0, 1.0, 1.0))
    rims = hidden_rims(thick, 3, np.random.default_rng(0))
    assert rims.away[other_slices].min() >= 6
    assert rims.hidden[soft].all()
    assert check_rim([thick], FillSpec("tension", {"t": 0.95}), (0.1, 0.1), 0).wider_px == wider


@pytest.mark.parametrize("height", [0.0, 20.0])
def test_a_rim_that_shows_in_another_contrast_is_found(height):
    """Partial volume that only an auxiliary shows, with a lesion in it where the image has its holes."""
    window, other = _window((44, 44, 44), 0, 0.0), _window((44, 44, 44), 1, height)
    values = np.where(window.hole, np.float32(500), other.values)[:1]
    guide = Guide(values=values, valid=np.ones(values.shape, bool))
    spline = FillSpec("tension", {"t": 0.95})
    found = check_rim_of_guide([window], [guide], spline, 0)
    assert found.wider_px == (1 if height else 0)
    if height:
        grid = Space(kind="volume", shape=(44, 44, 44), affine=(1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0), units="mm")
        said = replace(found, seen_in="flair.nii").sentence(grid)
        assert "do not fit what surrounds them in flair.nii (partial volume" in said
