"""Thin cloud and shadow are taken off where bands tell the ground below: one veil alone, and only if it is thin."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evidence.learn import find_doubt
from pipeline.evidence.outline import fit_outline
from pipeline.evidence.tile import Tile
from pipeline.evidence.veil import fit_veils
from pipeline.geometry.space import Space
from tests.unit.test_evidence_doubt import SHAPE, clouds, tile
from tests.unit.test_evidence_outline import scraps

CLOUD = np.array([400.0, 300.0, 120.0, 0.0])
PLANTS = np.array([-20.0, -30.0, 60.0, 30.0])


def spoiled(clear: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the image below thin cloud and shadow, and where they are; at some pixels both."""
    cloud = scraps(hole, 9)
    shadow = np.roll(cloud, (12, 12), (0, 1)) & (ndimage.distance_transform_edt(~hole) < 24)
    return np.where(shadow, 0.75 * clear, clear) + CLOUD[:, None, None] * cloud, cloud & ~hole, shadow & ~hole


def varied(*kinds: np.ndarray) -> np.ndarray:
    """Return ground of about 1000: each kind adds so much to the bands, each in places of its own; and noise of 5."""
    rng = np.random.default_rng(5)
    clear = 1000 + 5 * rng.normal(size=(4, *SHAPE))
    for kind in kinds:
        field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2)
        clear += kind[:, None, None] * field / field.std()
    return clear


@pytest.fixture(scope="module")
def veiled():
    """Return the clear image, the window, its clouds and shadows, and what is found where only plants differ."""
    clear, hole = varied(PLANTS), clouds(8)
    values, cloud, shadow = spoiled(clear, hole)
    one = tile(values, hole)
    doubt = find_doubt([one])
    assert doubt is not None
    return clear, one, cloud, shadow, doubt


def off(doubt, one):
    """Return the values of a window with all taken off that can be."""
    return one.values - np.einsum("kc,k...->c...", doubt.taken_off[0], doubt.told(one)[0])


def test_spectra_are_those_of_what_was_added(veiled):
    """Within eight degrees; a shadow takes away as much as the ground is bright."""
    *_, doubt = veiled
    for found, truth in zip(doubt.taken_off[0], (CLOUD, -np.ones(4)), strict=True):
        assert found @ truth / np.linalg.norm(found) / np.linalg.norm(truth) > 0.99


def test_below_one_veil_the_ground_is_seen(veiled):
    """Most pixels below cloud or shadow alone are evidence; less than a quarter of what misleads is left."""
    clear, one, cloud, shadow, doubt = veiled
    amounts, doubted = doubt.told(one)
    used = amounts.any(axis=0)
    assert used[cloud ^ shadow].mean() > 0.8
    assert not (used & doubted).any()
    assert ((amounts > 0).sum(axis=0) <= 1).all()
    for some in (used & cloud & ~shadow, used & shadow & ~cloud):
        before, after = ((values - clear)[:, some] for values in (one.values, off(doubt, one)))
        assert np.sqrt((after**2).mean()) < 0.25 * np.sqrt((before**2).mean())
        assert np.abs(after.mean(axis=1)).max() < 0.1 * np.abs(before.mean(axis=1)).max()


def test_what_lies_below_cloud_and_shadow_stays_doubted(veiled):
    """One amount would not do for both."""
    _, one, cloud, shadow, doubt = veiled
    doubted = doubt.told(one)[1]
    middle = ndimage.binary_erosion(cloud & shadow)
    assert middle.sum() > 200
    assert doubted[middle].mean() > 0.9


def test_ground_that_bands_do_not_tell_stays_doubted():
    """Where the ground itself varies along both spectra, nothing says how much of it is cloud or shadow."""
    hole = clouds(8)
    one = tile(spoiled(varied(0.15 * CLOUD, np.full(4, 40.0)), hole)[0], hole)
    doubt = find_doubt([one])
    assert doubt is not None
    assert doubt.outline is not None
    assert doubt.veils is None
    amounts, doubted = doubt.told(one)
    assert amounts.shape == (0, *SHAPE)
    assert np.array_equal(doubted, doubt.outline.of(one))


@pytest.mark.parametrize(("bands", "varies"), [(4, True), (2, True), (4, False)])
def test_nothing_is_taken_off_with_few_bands_or_on_flat_ground(veiled, bands, varies):
    """Two bands leave nothing across a spectrum, and ground without variance has none to be seen."""
    _, one, cloud, shadow, _ = veiled
    values = one.values[:bands] if varies else np.where(cloud ^ shadow, one.values, np.float32(1000))
    outline = fit_outline([replace(one, values=values)], {"bright": [cloud & ~shadow], "dark": [shadow & ~cloud]})
    assert outline is not None
    assert (fit_veils(outline, [replace(one, values=values)]) is None) == (bands < 4 or not varies)


def test_what_is_to_be_restored_is_not_taken_off(veiled):
    """With `fill_doubted` scraps are holes."""
    _, one, *_ = veiled
    doubt = find_doubt([one], through=False)
    assert doubt is not None
    assert doubt.veils is None


def test_a_window_of_the_image_is_told_the_same(veiled):
    """The amount at a pixel depends on what is around it, not on where the window was cut."""
    _, one, _, _, doubt = veiled
    part, inner = (slice(20, 230), slice(30, 256)), (slice(32, -32), slice(32, -32))
    guides = tuple((values[:, *part], seen[part]) for values, seen in one.guides)
    cut = Tile(values=one.values[:, *part], seen=one.seen[part], distance=one.distance[part], guides=guides)
    for there, whole in zip(doubt.told(cut), doubt.told(one), strict=True):
        assert np.allclose(there[..., *inner], whole[..., *part][..., *inner], atol=1e-9)


def test_the_record_takes_all_of_it(veiled):
    """Plain numbers, as JSON."""
    *_, doubt = veiled
    facts = json.loads(
        json.dumps(doubt.facts(Space(kind="raster", shape=SHAPE, affine=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0))))
    )
    assert [veil["usual"] > 0 for veil in facts["veils"]["veils"]] == [True, True]
