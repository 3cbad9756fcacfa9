"""Shadows that clouds of the mask cast far from it: found by their displacement, and nowhere without that proof."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.cast import Patterns, step_of_shadows
from pipeline.evidence.doubt import Doubt
from pipeline.evidence.learn import find_doubt
from pipeline.evidence.mark import _HALO
from pipeline.evidence.tile import Tile
from tests.unit.test_evidence_doubt import SHAPE, clouds, tile
from tests.unit.test_evidence_haze import landscape

STEP = (-32, -28)
Mask = NDArray[np.bool_]


def moved(mask: Mask, step: tuple[int, int]) -> Mask:
    """Return a mask displaced by some rows and columns; what leaves it is gone."""
    return np.asarray(ndimage.shift(mask.astype(float), step, order=0) > 0.5)


def dated(values: NDArray[np.float64], hole: Mask) -> Tile:
    """Return a window with a clear date beside it."""
    return tile(values, hole, landscape(7) + 15 * np.random.default_rng(5).normal(size=(4, *SHAPE)))


def shaded(shadow: Mask, light: float = 0.7) -> NDArray[np.float64]:
    """Return the landscape with less light in some places."""
    return np.where(shadow, light * landscape(7), landscape(7))


@pytest.fixture(scope="module")
def found() -> tuple[Tile, Mask, Doubt]:
    """Return a window whose clouds all cast shadows one step away, these, and what is told of it."""
    hole = clouds(8)
    shadow = moved(hole, STEP) & ~hole
    one = dated(shaded(shadow), hole)
    doubt = find_doubt([one])
    assert doubt is not None
    return one, shadow, doubt


def test_shadows_of_masked_clouds_are_doubted_however_far_from_the_mask(found: tuple[Tile, Mask, Doubt]) -> None:
    """All but their edges, those beyond the last ring around the holes, too; ground 3 px beside them stays evidence."""
    one, shadow, doubt = found
    assert doubt.shadow is not None
    assert np.hypot(*np.subtract(doubt.shadow, STEP)) <= 3
    amounts, doubted = doubt.told(one)
    spared = doubted | amounts.any(axis=0)
    far = shadow & (one.distance > 32)
    assert far.sum() > 200
    assert spared[far].mean() > 0.97
    assert spared[shadow].mean() > 0.95
    beside = one.seen & (ndimage.distance_transform_edt(~shadow) >= 3)
    assert spared[beside].mean() < 0.05
    assert doubt.reach_px > 32


def test_the_sides_alone_say_so_too(found: tuple[Tile, Mask, Doubt]) -> None:
    """Without an outline the rings around holes and shadows decide."""
    one, shadow, doubt = found
    sides = Doubt(ground=doubt.ground, sides=doubt.sides, shadow=doubt.shadow)
    assert [side.name for side in doubt.sides] == ["dark"]
    assert sides.of(one)[shadow].mean() > 0.95
    nowhere = Doubt(ground=doubt.ground, sides=doubt.sides)
    assert nowhere.of(one)[shadow & (one.distance > 32)].mean() == 0


def test_a_window_with_its_surroundings_is_told_as_the_image_is(found: tuple[Tile, Mask, Doubt]) -> None:
    """Its clouds and theirs lie within what a window is read with."""
    one, _, doubt = found
    start = 100
    part = (slice(start, None), slice(start, None))
    cut = Tile(
        values=one.values[:, *part],
        seen=one.seen[part],
        distance=one.distance[part],
        guides=tuple((values[:, *part], seen[part]) for values, seen in one.guides),
    )
    inner = (slice(_HALO, None), slice(_HALO, None))
    assert np.array_equal(doubt.told(cut)[1][inner], doubt.told(one)[1][part][inner])


def test_without_a_reference_there_is_no_proof() -> None:
    """Relief has dark slopes beside its bright ones, all displaced alike."""
    hole = clouds(8)
    doubt = find_doubt([tile(shaded(moved(hole, STEP) & ~hole), hole)])
    assert doubt is not None
    assert doubt.shadow is None


@pytest.mark.parametrize("dark", ["nothing", "fields", "mirrored"])
def test_dark_ground_elsewhere_is_no_shadow(dark: str) -> None:
    """Clear ground, fields that changed and as many dark places in another pattern follow no cloud."""
    hole = clouds(8)
    field = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=SHAPE), 8)
    places = {
        "nothing": np.zeros(SHAPE, dtype=bool),
        "fields": field > field.std(),
        "mirrored": moved(hole, STEP)[::-1, ::-1],
    }
    doubt = find_doubt([dated(shaded(places[dark] & ~hole), hole)])
    assert doubt is not None
    assert doubt.shadow is None


def test_a_mirrored_pattern_that_agrees_as_well_is_no_proof() -> None:
    """One hole is the same mirrored: what is dark beside it may lie there by chance."""
    hole = np.zeros(SHAPE, dtype=bool)
    hole[120:136, 120:136] = True
    dark = 3.0 * (moved(hole, STEP) | moved(hole, (28, -32)))
    window = Patterns(bright=hole.astype(float), dark=dark, told=~hole)
    assert step_of_shadows([window]) is None


def test_one_dark_field_behind_one_hole_is_no_shadow() -> None:
    """All clouds cast shadows: four holes of five have clear ground where theirs would lie."""
    hole = np.zeros(SHAPE, dtype=bool)
    first = np.zeros(SHAPE, dtype=bool)
    first[70:118, 40:88] = True
    for row, col in ((60, 150), (180, 60), (170, 190), (120, 110)):
        hole[row : row + 30, col : col + 30] = True
    windows = [
        Patterns(bright=(hole | first).astype(float), dark=4.0 * moved(some, STEP), told=~(hole | first))
        for some in (first, first | hole)
    ]
    assert step_of_shadows(windows[:1]) is None
    assert step_of_shadows(windows[1:]) == STEP


def test_distances_are_those_of_holes_and_shadows() -> None:
    """Holes stay at 0, what lies under a shadow is 1 px from it, and without a step nothing changes."""
    hole = np.zeros(SHAPE, dtype=bool)
    hole[100:110, 100:110] = True
    one = tile(landscape(7), hole)
    both = one.shaded((20, -30)).distance
    assert np.array_equal(both == 0, hole)
    assert (both[120:130, 70:80] == 1).all()
    assert both[135, 75] == 6
    assert both[105, 112] == one.distance[105, 112]
    assert one.shaded(None) is one


@pytest.mark.parametrize("buffer", [6, 10])
def test_shadows_of_clouds_whose_mask_has_a_buffer_are_told(buffer: int) -> None:
    """The mask is wider than what casts them; its middle is not."""
    cloud = clouds(8)
    hole = ndimage.distance_transform_edt(~cloud) <= buffer
    shadow = moved(cloud, STEP) & ~hole
    doubt = find_doubt([dated(shaded(shadow), np.asarray(hole))])
    assert doubt is not None
    assert doubt.shadow is not None
    assert np.hypot(*np.subtract(doubt.shadow, STEP)) <= 5
