"""Haze around wide holes among many narrow clean ones is told, and only pixels beside wide holes are doubted."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.doubt import Doubt
from pipeline.evidence.learn import find_doubt
from pipeline.evidence.mark import _HALO
from pipeline.evidence.tile import WIDE, Tile
from tests.unit.test_evidence_doubt import SHAPE, clouds, ground, tile

Mask = NDArray[np.bool_]


def roofs(cloud: Mask, count: int) -> Mask:
    """Return small squares beside which nothing is contaminated, away from the clouds."""
    rng = np.random.default_rng(5)
    hole = np.zeros(SHAPE, dtype=bool)
    for row, col, edge in zip(*rng.integers(0, 248, (2, count)), rng.integers(4, 9, count), strict=True):
        hole[row : row + edge, col : col + edge] = True
    return np.asarray(hole & (ndimage.distance_transform_edt(~cloud) > 24))


@pytest.fixture(scope="module")
def found() -> tuple[Tile, Mask, Mask, Doubt]:
    """Return a window with haze around clouds and none around roofs, both masks, and what is told of it."""
    cloud = clouds(4)
    roof = roofs(cloud, 200)
    haze = np.exp(-ndimage.distance_transform_edt(~cloud) / 4)
    values = ground(1) + np.array([40.0, 32.0, 24.0, 4.0])[:, None, None] * haze
    one = tile(values, cloud | roof)
    doubt = find_doubt([one])
    assert doubt is not None
    return one, cloud, roof, doubt


def test_haze_of_wide_holes_is_told_beside_them_alone(found: tuple[Tile, Mask, Mask, Doubt]) -> None:
    """All holes together show too little; narrow ones are clean, and pixels beside them stay as they are."""
    one, cloud, roof, doubt = found
    assert doubt.wide
    amounts, doubted = doubt.told(one)
    changed = doubted | amounts.any(axis=0)
    away = ndimage.distance_transform_edt(~cloud)
    assert changed[one.seen & (away <= 3)].mean() > 0.8
    assert not changed[one.seen & (away > 45)].any()
    assert (one.seen & (away > 45) & (ndimage.distance_transform_edt(~roof) <= 3)).sum() > 500


def test_a_window_with_its_surroundings_is_told_as_the_image_is(found: tuple[Tile, Mask, Mask, Doubt]) -> None:
    """Which holes are wide is seen in what a window is read with."""
    one, _, _, doubt = found
    start, halo = 80, _HALO + 2 * WIDE
    part = (slice(start, None), slice(start, None))
    cut = Tile(values=one.values[:, *part], seen=one.seen[part], distance=one.distance[part])
    inner = (slice(halo, None), slice(halo, None))
    for own, whole in zip(doubt.told(cut), doubt.told(one), strict=True):
        assert np.allclose(own[..., *inner], whole[..., *part][..., *inner], rtol=1e-6)


def test_without_haze_nothing_is_doubted() -> None:
    """Clouds that a mask names in full and roofs are both clean."""
    cloud = clouds(4)
    doubt = find_doubt([tile(ground(1), cloud | roofs(cloud, 200))])
    assert doubt is not None
    assert doubt.reach_px == 0


def test_wide_holes_are_those_that_hold_a_square() -> None:
    """A narrow one goes, a tail stays as far as it belongs to a wide hole, and without narrow ones nothing changes."""
    hole = np.zeros(SHAPE, dtype=bool)
    hole[100:120, 100:120] = hole[105:108, 120:140] = True
    narrow = hole.copy()
    narrow[200:208, 30:38] = True
    wide = tile(ground(1), narrow).of_wide()
    assert not (wide.distance == 0)[200:208, 30:38].any()
    assert (wide.distance == 0)[105:108, 120:128].all()
    assert not (wide.distance == 0)[105:108, 130:].any()
    assert np.isinf(tile(ground(1), narrow & ~hole).of_wide().distance).all()
    only = tile(ground(1), hole & (np.arange(256) < 120))
    assert only.of_wide() is only
