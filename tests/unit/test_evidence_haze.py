"""Haze beside clouds is taken off: its spectrum and amount are told from the bands alone, and the ground stays."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evidence.learn import find_doubt
from pipeline.selftest.evaluation.holes import squares
from tests.unit.test_evidence_doubt import SHAPE, clouds, ring, tile

SPECTRUM = np.array([300.0, 200.0, 80.0, 0.0])


def landscape(seed: int, broad: float = 8) -> np.ndarray:
    """Return bands that share two of their three kinds of structure, `(4, 256, 256)`, deviation about 100."""
    rng = np.random.default_rng(seed)
    kinds = np.stack([ndimage.gaussian_filter(rng.normal(size=SHAPE), s) for s in (broad, 3, 1)])
    kinds /= kinds.std(axis=(1, 2))[:, None, None]
    mixed = np.array([[60, 30, 20], [70, 20, 30], [40, 60, 20], [50, 70, 30]], dtype=float)
    return 1000 + np.einsum("ck,kyx->cyx", mixed, kinds)


def patchy(hole: np.ndarray, seed: int = 3) -> np.ndarray:
    """Return an amount of haze that falls with the distance from the holes and varies along them."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 10)
    return ring(hole, 7.0) * np.clip(1 + 0.4 * field / field.std(), 0, None)


@pytest.fixture(scope="module")
def hazy():
    """Return the clear image, the amount of haze, the hazy window and what is found in it."""
    clear, hole = landscape(1), clouds(2)
    amount = np.where(hole, 0.0, patchy(hole))
    one = tile(clear + SPECTRUM[:, None, None] * amount, hole)
    doubt = find_doubt([one])
    assert doubt is not None
    return clear, amount, one, doubt


def test_the_spectrum_is_that_of_what_was_added(hazy):
    """Its direction in the space of the bands, within eight degrees; nobody says which band is which."""
    found = np.asarray(hazy[3].haze.spectrum)
    assert found @ SPECTRUM / np.linalg.norm(found) / np.linalg.norm(SPECTRUM) > 0.99


def test_what_is_left_is_nearly_the_ground(hazy):
    """Half of the contamination near the clouds would still mislead: less than a third is left, and no bias."""
    clear, _, one, doubt = hazy
    near = one.seen & (one.distance < 12)
    before, after = one.values - clear, doubt.cleared(one).values - clear
    size = [np.sqrt((part[:, near] ** 2).mean()) for part in (before, after)]
    assert size[1] < size[0] / 3
    assert np.abs(after[:, near].mean(axis=1)).max() < 0.1 * before[0, near].mean()
    fine = [part - ndimage.gaussian_filter(part, (0, 2, 2)) for part in (doubt.cleared(one).values, clear)]
    assert np.corrcoef(*(part[:, near & (one.distance > 6)].ravel() for part in fine))[0, 1] > 0.95


def test_no_pixel_is_doubted_for_haze_that_is_taken_off(hazy):
    """They are evidence; where no band would notice the haze, values stay as they are."""
    _, _, one, doubt = hazy
    assert not doubt.sides
    assert not doubt.of(doubt.cleared(one)).any()
    amount = doubt.hazy(one)
    assert (amount >= 0).all()
    assert not amount[~one.seen].any()
    assert (amount > 0)[one.seen & (one.distance < 6)].mean() > 0.95
    same = amount == 0
    assert np.array_equal(doubt.cleared(one).values[:, same], one.values[:, same])
    assert 8 <= doubt.reach_px <= 40


def test_what_is_left_is_as_large_as_it_is_said_to_be(hazy):
    """Smooth errors beside the clouds, which go into them, are below twice their standard error in every band."""
    clear, _, one, doubt = hazy
    near = one.seen & (one.distance < 3)
    share = ndimage.gaussian_filter(near.astype(float), 4)[near]
    left = np.where(near, doubt.cleared(one).values - clear, 0.0)
    smooth = np.stack([ndimage.gaussian_filter(band, 4)[near] / share for band in left])
    error = np.asarray(doubt.haze.left)[:, None] * doubt.hazy(one)[near]
    ratio = np.sqrt((smooth**2).mean(axis=1) / (error**2).mean(axis=1))
    assert (ratio < 2).all()
    assert ratio.max() > 0.2


def test_a_window_does_not_matter(hazy):
    """The amount at a pixel is that of the whole image, from any window that is large enough around it."""
    _, _, one, doubt = hazy
    part = (slice(20, 230), slice(30, 256))
    cut = type(one)(values=one.values[:, *part], seen=one.seen[part], distance=one.distance[part])
    inner = (slice(40, -40), slice(40, -40))
    assert np.allclose(doubt.hazy(cut)[inner], doubt.hazy(one)[part][inner], atol=1e-9)


def test_a_reference_tells_the_ground_more_sharply():
    """What a clear date explains is no haze: less is left than without it."""
    clear, hole = landscape(1), clouds(2)
    one = tile(clear + SPECTRUM[:, None, None] * patchy(hole) * ~hole, hole)
    guide = 0.8 * clear + 100 + 15 * np.random.default_rng(5).normal(size=clear.shape)
    left = []
    for with_guide in (None, guide):
        seen = tile(one.values, hole, with_guide)
        doubt = find_doubt([seen])
        assert doubt is not None
        assert doubt.haze is not None
        near = seen.seen & (seen.distance < 12)
        left.append(((doubt.cleared(seen).values - clear)[:, near] ** 2).mean())
    assert left[1] < left[0]


def test_thin_cloud_with_edges_is_doubted_not_taken_off():
    """Where taking haze off leaves anything bright, nothing is taken off, and the pixels are no evidence."""
    clear, hole = landscape(7), clouds(8)
    patches = ndimage.gaussian_filter(np.random.default_rng(9).normal(size=SHAPE), 5)
    cloud = (patches > 0.6 * patches.std()) & ~hole & (ndimage.distance_transform_edt(~hole) < 12)
    one = tile(np.where(cloud, 0.3 * clear + 0.7 * np.array([2600, 2500, 2700, 2600])[:, None, None], clear), hole)
    doubt = find_doubt([one])
    assert doubt is not None
    assert doubt.haze is None
    assert doubt.of(one)[cloud].mean() > 0.7


def test_haze_that_is_to_be_restored_is_not_looked_through(hazy):
    """`through=False` doubts the same pixels instead."""
    _, amount, one, _ = hazy
    doubt = find_doubt([one], through=False)
    assert doubt is not None
    assert doubt.haze is None
    assert [side.name for side in doubt.sides] == ["bright"]
    assert not doubt.hazy(one).any()
    assert doubt.of(one)[amount > 0.5].mean() > 0.8


@pytest.mark.parametrize("seed", [1, 3])
def test_bright_ground_that_does_not_fall_with_the_distance_is_no_haze(seed):
    """As bright 16 px from the holes as beside them: ground. The same brightness that falls at once is haze."""
    hole = squares(np.random.default_rng(seed), SHAPE, 32, 8)
    distance = ndimage.distance_transform_edt(~hole)
    added = {"field": np.clip((32 - distance) / 8, 0, 1), "haze": np.exp(-distance / 7)}
    found = {
        name: find_doubt([tile(landscape(seed) + 0.5 * SPECTRUM[:, None, None] * amount, hole)])
        for name, amount in added.items()
    }
    assert found["field"] is not None
    assert found["field"].reach_px == 0
    assert found["haze"] is not None
    assert found["haze"].haze is not None


def test_a_clean_image_with_squares_is_not_told_hazy():
    """One of 80 landscapes whose broad bright parts lie beside one square by chance."""
    doubt = find_doubt([tile(landscape(39, broad=12), squares(np.random.default_rng(1039), SHAPE, 32, 8))])
    assert doubt is not None
    assert doubt.reach_px == 0
