"""One hole with haze around it among many clean ones is told, and only pixels beside it are doubted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evidence.learn import find_doubt
from pipeline.evidence.shifts import Surroundings
from pipeline.evidence.single import as_if_only, nearest_hole, places_of, standing_out
from pipeline.evidence.tile import Tile
from tests.unit.test_evidence_doubt import SHAPE, clouds, ground, tile

SPECTRUM = np.array([150.0, 120.0, 90.0, 15.0])[:, None, None]


def one_of(hole: np.ndarray, label: int) -> np.ndarray:
    """Return one of the holes, bool."""
    return np.asarray(ndimage.label(hole)[0] == label)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a landscape, holes, one of them, and haze of 12 px around that one."""
    hole = clouds(2)
    sizes = np.bincount(ndimage.label(hole)[0].ravel())[1:]
    some = one_of(hole, int(np.argmax(sizes)) + 1)
    return ground(1), hole, some, np.exp(-((ndimage.distance_transform_edt(~some) / 10) ** 2))


@pytest.mark.parametrize("with_guide", [True, False])
def test_haze_around_one_of_many_holes_is_told_there_and_nowhere_else(scene, with_guide):
    """All holes together show nothing; the one stands out, and pixels beside the others stay trusted."""
    clear, hole, some, haze = scene
    guide = clear + 60 * np.random.default_rng(0).normal(size=clear.shape) if with_guide else None
    values = clear + SPECTRUM * haze
    doubt = find_doubt([tile(values, hole, guide)], through=False)
    assert doubt is not None
    assert len(doubt.places) == 1
    assert some[doubt.places[0].slices].any()
    only = replace(tile(values, hole, guide), distance=ndimage.distance_transform_edt(~some).astype(np.float32))
    doubted = doubt.of(only)
    assert doubted[~hole & (haze > 0.5)].mean() > 0.8
    assert doubted[~hole & (haze < 0.01)].mean() < 0.02


def test_a_bright_field_beside_one_hole_is_ground(scene):
    """The guide shows it, too: where it is bright by itself only, nothing is doubted."""
    clear, hole, _, haze = scene
    field = clear + SPECTRUM * haze
    doubt = find_doubt([tile(field, hole, field + 3 * np.random.default_rng(0).normal(size=clear.shape))])
    assert doubt is not None
    assert doubt.reach_px == 0


def test_a_field_that_was_dark_on_the_other_date_is_ground(scene):
    """Beside one hole the image is brighter than the guide says, but not brighter than elsewhere."""
    clear, hole, _, haze = scene
    guide = clear - 4 * SPECTRUM * haze + 15 * np.random.default_rng(0).normal(size=clear.shape)
    one = tile(clear, hole, guide)
    doubt = find_doubt([one])
    assert doubt is not None
    assert doubt.reach_px == 0


@pytest.mark.parametrize("with_guide", [True, False])
def test_a_burnt_field_beside_one_hole_is_ground(scene, with_guide):
    """It is darker in most bands; where bands are whitened it is brighter in one, which is no cloud."""
    clear, hole, _, haze = scene
    guide = clear + 60 * np.random.default_rng(0).normal(size=clear.shape) if with_guide else None
    burnt = clear + np.array([60.0, -60.0, -60.0, -60.0])[:, None, None] * haze
    doubt = find_doubt([tile(burnt, hole, guide)])
    assert doubt is not None
    assert doubt.reach_px == 0


def test_more_holes_need_more_proof():
    """What is proof among eight holes of one window is none among those of a hundred windows."""
    rng = np.random.default_rng(3)
    hole = clouds(4)
    distance = ndimage.distance_transform_edt(~hole)
    largest = int(np.argmax(np.bincount(ndimage.label(hole)[0].ravel())[1:])) + 1
    one = Tile(values=np.zeros((1, *SHAPE), np.float32), seen=~hole, distance=distance.astype(np.float32))
    labels = nearest_hole(one)
    near, far = ~hole & (distance <= 10), ~hole & (distance > 24)
    values = np.abs(np.stack([ndimage.gaussian_filter(rng.normal(size=SHAPE), 6)]))
    values += 1.5 * values.std() * (near & (labels == largest))
    window = Surroundings(values=values, told=~hole, near=near, far=far)
    assert standing_out([window], [labels]) == [(0, largest)]
    assert standing_out([window] * 100, [labels] * 100, among=[(0, largest)]) == []
    assert standing_out([window], [labels], asked=lambda hole: hole != (0, largest)) == []


def test_places_are_told_in_the_image():
    """A window knows where it lies, so its holes are found again in any other window."""
    hole = np.zeros((60, 60), dtype=bool)
    hole[10:20, 30:35] = hole[40:45, 5:9] = True
    distance = ndimage.distance_transform_edt(~hole).astype(np.float32)
    one = Tile(values=np.zeros((1, 60, 60), np.float32), seen=~hole, distance=distance, corner=(256, 512))
    labels = nearest_hole(one)
    assert labels[15, 20] == labels[12, 32] != labels[42, 6]
    (only,) = as_if_only([one], [labels], [(0, int(labels[42, 6]))])
    (place,) = places_of([only])
    assert (place.start, place.stop) == ((296, 517), (301, 521))
    assert np.isinf(as_if_only([one], [labels], [])[0].distance).all()
