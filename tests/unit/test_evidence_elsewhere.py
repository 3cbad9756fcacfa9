"""Where a reference has clouds of its own, haze, thin cloud and shadow are told by the other dates, or by the image."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evidence import learn, rings
from pipeline.evidence.learn import find_doubt
from pipeline.evidence.tile import Tile
from pipeline.geometry.space import Space
from tests.unit.test_evidence_doubt import SHAPE, clouds, tile
from tests.unit.test_evidence_haze import SPECTRUM, landscape, patchy
from tests.unit.test_evidence_veil import PLANTS, spoiled, varied

LEFT = np.broadcast_to(np.arange(SHAPE[1]) < SHAPE[1] // 2, SHAPE)


def dated(values: np.ndarray, hole: np.ndarray, clear: np.ndarray, *seen: np.ndarray) -> Tile:
    """Return a window beside clear dates, of which each sees some pixels and holds white cloud at the others."""
    rng = np.random.default_rng(5)
    guides = [np.where(some, clear + 15 * rng.normal(size=clear.shape), 9000.0).astype(np.float32) for some in seen]
    return replace(tile(values, hole), guides=tuple(zip(guides, seen, strict=True)))


def found(one: Tile):
    """Return what is found in a window."""
    doubt = find_doubt([one])
    assert doubt is not None
    return doubt


@pytest.fixture(scope="module")
def hazy():
    """Return the clear image, the amount of haze, the hazy image and its holes."""
    clear, hole = landscape(1), clouds(2)
    amount = np.where(hole, 0.0, patchy(hole))
    return clear, amount, clear + SPECTRUM[:, None, None] * amount, hole


def test_haze_is_taken_off_where_the_date_does_not_see(hazy):
    """Less than a third of it is left there; where the date sees, the rest is told as before, bit for bit."""
    clear, _, values, hole = hazy
    one = dated(values, hole, clear, LEFT)
    doubt = found(one)
    assert doubt.ground.guide == 0
    assert doubt.elsewhere is not None
    assert doubt.elsewhere.ground.guide is None
    amounts, doubted = doubt.told(one)
    assert not doubted[~LEFT].any()
    left = one.values - np.einsum("kc,k...->c...", doubt.taken_off[0], amounts) - clear
    blind = one.seen & ~LEFT & (one.distance < 12)
    before = (one.values - clear)[:, blind]
    assert np.sqrt((left[:, blind] ** 2).mean()) < np.sqrt((before**2).mean()) / 3
    alone = replace(doubt, elsewhere=None)
    own = alone.told(one)[0]
    assert not own[:, ~LEFT].any()
    assert np.array_equal(amounts[: len(own), LEFT], own[:, LEFT])
    assert not amounts[len(own) :, LEFT].any()


def test_a_date_that_sees_the_rest_tells_the_ground_there(hazy):
    """The second date is asked before the image by itself, and after it nothing is unseen."""
    clear, _, values, hole = hazy
    doubt = found(dated(values, hole, clear, LEFT, ~LEFT))
    assert sorted(part.ground.guide for part in doubt.parts) == [0, 1]


def test_a_date_that_sees_all_beside_the_holes_is_enough(hazy):
    """Nothing else is asked then."""
    clear, _, values, hole = hazy
    assert found(dated(values, hole, clear, np.ones(SHAPE, dtype=bool))).elsewhere is None


def test_a_window_of_the_image_is_told_the_same(hazy):
    """What is told elsewhere depends on what is around a pixel, not on where the window was cut."""
    clear, _, values, hole = hazy
    one = dated(values, hole, clear, LEFT)
    doubt = found(one)
    part = (slice(20, 230), slice(30, 256))
    guides = tuple((guide[:, *part], seen[part]) for guide, seen in one.guides)
    cut = Tile(values=one.values[:, *part], seen=one.seen[part], distance=one.distance[part], guides=guides)
    inner = (slice(40, -40), slice(40, -40))
    for own, whole in zip(doubt.told(cut), doubt.told(one), strict=True):
        assert np.allclose(own[..., *inner], whole[..., *part][..., *inner], atol=1e-9)


def test_thin_cloud_and_shadow_are_found_where_the_date_does_not_see():
    """Most of them, and next to nothing that is clear; the record takes what tells them as JSON."""
    clear, hole = varied(PLANTS), clouds(8)
    values, cloud, shadow = spoiled(clear, hole)
    one = dated(values, hole, clear, LEFT)
    doubt = found(one)
    amounts, doubted = doubt.told(one)
    told = doubted | amounts.any(axis=0)
    assert told[(cloud | shadow) & ~LEFT].mean() > 0.9
    assert told[one.seen & ~cloud & ~shadow & ~LEFT & (one.distance < 32)].mean() < 0.2
    alone = replace(doubt, elsewhere=None).told(one)
    assert (alone[1] | alone[0].any(axis=0))[(cloud | shadow) & ~LEFT].mean() < 0.2
    facts = doubt.facts(Space(kind="raster", shape=SHAPE, affine=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)))
    assert json.loads(json.dumps(facts))["elsewhere"]["reach_px"] <= doubt.reach_px


def test_haze_where_the_date_sees_nothing_of_it_is_told_by_the_image(hazy, monkeypatch):
    """A date under clouds wherever there is haze shows nothing, and has no say: the image tells all pixels.

    As it is a second look it takes the proof of one.
    """
    clear, _, values, hole = hazy
    one = dated(values, hole, clear, ndimage.distance_transform_edt(~hole) > 24)
    doubt = found(one)
    assert doubt.guide is None
    assert doubt.haze is not None
    bare = replace(one, guides=())
    assert all(np.array_equal(*both) for both in zip(doubt.told(one), found(bare).told(bare), strict=True))
    monkeypatch.setattr(learn, "_STANDS_OUT", np.inf)
    assert not found(one).reach_px
    assert found(dated(values, hole, clear, LEFT)).elsewhere is not None


def test_a_date_that_sees_most_and_shows_nothing_is_believed_where_it_sees(hazy, monkeypatch):
    """What the image tells by itself counts for the other pixels alone."""
    clear, _, values, hole = hazy
    one = dated(values, hole, clear, np.broadcast_to(np.arange(SHAPE[1]) < 0.7 * SHAPE[1], SHAPE))
    shown = found(one)
    assert shown.elsewhere is not None
    nothing = replace(shown, haze=None, sides=(), elsewhere=None)
    doubt = learn._and_elsewhere(nothing, [one], 0, through=True)
    assert doubt.guide == 0
    assert doubt.elsewhere is not None
    seen = one.guides[0][1]
    amounts, doubted = doubt.told(one)
    assert not amounts[:, seen].any()
    assert not doubted[seen].any()
    assert amounts[:, ~seen & one.seen & (one.distance < 12)].any(axis=0).mean() > 0.9


def test_less_proof_is_asked_of_haze_that_the_date_shows(monkeypatch):
    """Haze too faint for the image by itself is told below the clouds of a date that shows it elsewhere."""
    clear, hole = landscape(4), clouds(5)
    one = dated(clear + 0.12 * SPECTRUM[:, None, None] * np.where(hole, 0.0, patchy(hole)), hole, clear, LEFT)
    assert not found(replace(one, guides=())).reach_px
    doubt = found(one)
    assert doubt.haze is not None
    assert doubt.elsewhere is not None
    assert doubt.elsewhere.haze is not None
    monkeypatch.setattr(rings, "_FAINT", np.inf)
    assert found(one).elsewhere is None


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_nothing_is_told_of_a_clear_image_beside_a_cloudy_date(seed):
    """Neither where the date sees nor elsewhere."""
    clear, hole = landscape(seed), clouds(seed + 1)
    assert not found(dated(clear, hole, clear, LEFT)).reach_px
