"""Where scraps of thin cloud and shadow end: sharp edges, none on clear ground, and what covers most is no scrap."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evidence import learn
from pipeline.evidence.doubt import Doubt, standardised
from pipeline.evidence.ground import fit_ground
from pipeline.evidence.learn import find_doubt
from pipeline.evidence.neighbours import by_neighbours
from pipeline.evidence.outline import Outline, Scrap, fit_outline
from pipeline.evidence.rings import Rings
from pipeline.evidence.shifts import Excess
from pipeline.evidence.tile import Tile
from pipeline.geometry.space import Space
from tests.unit.test_evidence_doubt import SHAPE, clouds, tile
from tests.unit.test_evidence_haze import landscape


def scraps(hole: np.ndarray, seed: int) -> np.ndarray:
    """Return thin cloud on a third of what lies within 14 px of the holes, bool `(256, 256)`."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 6)
    return (field > 0.5 * field.std()) & (ndimage.distance_transform_edt(~hole) < 14)


@pytest.fixture(scope="module")
def spoilt():
    """Return the window, its clouds and shadows, and what is found with a clear date beside it."""
    clear, hole = landscape(7), clouds(8)
    cloud = scraps(hole, 9)
    shadow = np.roll(cloud, (12, 12), (0, 1)) & ~cloud & (ndimage.distance_transform_edt(~hole) < 24)
    values = np.where(shadow, 0.7 * clear, clear) + np.array([500.0, 350.0, 150.0, 0.0])[:, None, None] * cloud
    guide = clear + 15 * np.random.default_rng(5).normal(size=clear.shape)
    one = tile(values, hole, guide)
    doubt = find_doubt([one])
    assert doubt is not None
    return one, cloud & ~hole, shadow & ~hole, doubt


def test_patches_are_doubted_up_to_their_edges_and_next_to_nothing_else(spoilt):
    """Nearly all of them; what lies 3 px and more beside them stays evidence, near the holes, too."""
    one, cloud, shadow, doubt = spoilt
    assert doubt.outline is not None
    assert {scrap.name for scrap in doubt.outline.scraps} == {"bright", "dark"}
    doubted = doubt.of(one)
    assert doubted[cloud].mean() > 0.97
    assert doubted[shadow].mean() > 0.97
    beside = one.seen & (ndimage.distance_transform_edt(~(cloud | shadow)) >= 3) & (one.distance < 14)
    assert beside.sum() > 1000
    assert doubted[beside].mean() < 0.03


def test_the_outline_is_what_is_told_of_the_image(spoilt):
    """The reach is that of the scraps, and the record takes all of it as JSON."""
    _, _, _, doubt = spoilt
    assert 24 <= doubt.reach_px <= 32
    facts = json.loads(
        json.dumps(doubt.facts(Space(kind="raster", shape=SHAPE, affine=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0))))
    )
    assert [scrap["name"] for scrap in facts["outline"]["scraps"]] == ["bright", "dark"]


def test_a_window_of_the_image_is_told_the_same(spoilt):
    """A pixel's outline depends on what is around it, not on where the window was cut."""
    one, _, _, doubt = spoilt
    part = (slice(20, 230), slice(30, 256))
    guides = tuple((values[:, *part], seen[part]) for values, seen in one.guides)
    cut = Tile(values=one.values[:, *part], seen=one.seen[part], distance=one.distance[part], guides=guides)
    inner = (slice(16, -16), slice(16, -16))
    assert np.array_equal(doubt.of(cut)[inner], doubt.of(one)[part][inner])


def test_faint_cloud_and_shadow_are_believed_where_one_follows_the_other(monkeypatch):
    """With a reference faint sides are proof if shadows are displaced alike; one alone, or without a reference, not."""
    hole = clouds(4)
    one = tile(landscape(3), hole)
    rings = Rings.of([one], [one.seen & (one.distance > 24)], fit_ground([one], [one.seen]))

    def sides(bright, dark, *, referred, followed=6.0):
        found = {1.0: bright, -1.0: dark}
        monkeypatch.setattr(Rings, "beyond", lambda _, sign: Excess(values=np.ones(4), deviations=found[sign]))
        monkeypatch.setattr(Rings, "side", lambda _, name, *__: name)
        monkeypatch.setattr("pipeline.evidence.rings.followed", lambda _: followed)
        return replace(rings, referred=referred).sides()

    assert not rings.referred
    assert sides(2.6, 2.9, referred=True) == ("bright", "dark")
    assert sides(2.6, 2.9, referred=True, followed=4.5) == ()
    assert sides(0.5, 3.8, referred=True) == ()
    assert sides(2.6, 2.9, referred=False) == ()
    assert sides(4.0, 2.9, referred=False) == ("bright",)
    assert sides(4.0, 2.9, referred=True) == ("bright", "dark")
    assert sides(4.0, 3.1, referred=False) == ("bright", "dark")


@pytest.mark.parametrize(("mirror", "names"), [(1, ["bright", "dark"]), (-1, ["bright"])])
def test_faint_shadow_is_found_where_clouds_would_cast_it(mirror, names):
    """Ground that is 5 % darker in the shape of the clouds is shadow one step away from them, and is not elsewhere."""
    clear, hole = landscape(7), clouds(8)
    cloud = scraps(hole, 9)
    beside = ~cloud & (ndimage.distance_transform_edt(~hole) < 24)
    shadow = np.roll(cloud[::mirror], (12, 12), (0, 1)) & beside
    values = np.where(shadow, 0.95 * clear, clear) + np.array([75.0, 50.0, 25.0, 0.0])[:, None, None] * cloud
    guide = clear + 15 * np.random.default_rng(5).normal(size=clear.shape)
    doubt = find_doubt([tile(values, hole, guide)])
    assert doubt is not None
    assert [side.name for side in doubt.sides] == names


def test_what_covers_most_of_a_ring_has_no_outline(spoilt):
    """Its edge is faint and it hides what the ground beside the holes is like: whole rings are doubted as before."""
    one, _, _, doubt = spoilt
    clear, near = landscape(7), (one.distance < 12) & one.seen
    field = ndimage.gaussian_filter(np.random.default_rng(9).normal(size=SHAPE), 4)
    bright = np.array([500.0, 350.0, 150.0, 0.0])[:, None, None]
    for level, edges in ((0.5, True), (-0.6, False)):
        hidden = near & (field > level * field.std())
        some = replace(one, values=(clear + bright * hidden).astype(np.float32))
        sides = tuple(side for side in doubt.sides if side.name == "bright")
        found = learn._outlined(Doubt(ground=doubt.ground, sides=sides), [some], [standardised(doubt.ground, some)])
        assert (found.outline is not None) == edges
        assert found.of(some)[hidden].mean() > 0.9


def test_nothing_is_outlined_where_too_little_is_clear_or_no_patch_is_left():
    """Four hundred clear pixels describe the ground, fifty a scrap."""
    hole = clouds(2)
    one = tile(landscape(1), hole)
    assert fit_outline([one], {"bright": [~hole]}) is None
    assert fit_outline([one], {"bright": [np.zeros(SHAPE, dtype=bool)]}) is None


def test_nothing_is_outlined_where_nothing_varies():
    """A constant image, whose pixels fit into any kind of scrap as well as on the ground."""
    constant = tile(np.full((2, *SHAPE), 7.0), clouds(8))
    beside = constant.seen & (constant.distance < 6)
    assert fit_outline([constant], {"dark": [beside]}) is None


def test_without_an_outline_sides_say_what_is_doubted(spoilt):
    """The outline replaces the limits of rings; without it they hold."""
    one, cloud, _, doubt = spoilt
    limits = Doubt(ground=doubt.ground, sides=doubt.sides)
    assert limits.of(one)[cloud].mean() > 0.9
    assert limits.of(one).sum() > doubt.of(one).sum()


def test_ground_that_changed_is_no_shadow():
    """A field around a hole as dark as shadow in one band alone stays evidence, and shadow is found, in it, too."""
    clear, hole = landscape(7), clouds(8)
    cloud, near = scraps(hole, 9), ndimage.distance_transform_edt(~hole)
    shadow = np.roll(cloud, (12, 12), (0, 1)) & ~cloud & (near < 24)
    labels, _ = ndimage.label(hole)
    field = ndimage.distance_transform_edt(labels != 2) < 24
    ground = np.where(field, np.array([1.0, 1.0, 0.8, 1.0])[:, None, None] * clear, clear)
    values = np.where(shadow, 0.7 * ground, ground) + np.array([500.0, 350.0, 150.0, 0.0])[:, None, None] * cloud
    one = tile(values, hole, clear + 15 * np.random.default_rng(5).normal(size=clear.shape))
    doubt = find_doubt([one])
    assert doubt is not None
    doubted = doubt.of(one)
    beside = field & one.seen & (ndimage.distance_transform_edt(~(cloud | shadow)) >= 3)
    assert beside.sum() > 500
    assert doubted[beside].mean() < 0.03
    assert doubted[shadow & one.seen].mean() > 0.97
    assert doubted[shadow & one.seen & field].mean() > 0.97


def test_no_ground_is_unusual_where_bands_are_as_few_as_scraps():
    """Nothing lies across them; with more bands what is far off across is, and what is far off along is not."""
    ground = fit_ground([tile(landscape(1), clouds(2))], [~clouds(2)])
    bright = Scrap(name="bright", weights=(1.0, 0.0), level=0.0, clear=1.0, usual=9.0, spread=3.0, shares=(0.3,) * 6)
    along, across = np.array([[9.0], [0.0]]), np.array([[0.0], [9.0]])
    alone = Outline(ground=ground, scraps=(bright,))
    assert alone.unusual(across) == [1.0]
    told = replace(alone, across=((0.0, 1.0),), middle=(0.0,))
    assert told.unusual(along) == [1.0]
    assert told.unusual(across)[0] == pytest.approx(np.sqrt(41.0))
    assert bright.odds(along, told.unusual(across)) < bright.odds(along, told.unusual(along))


def test_one_pixel_among_others_is_of_their_kind():
    """Neighbours decide where a pixel alone speaks weakly, at a window's edge, too; impossible odds stay finite."""
    odds = np.zeros((2, 16, 16))
    odds[1] = 3.0
    odds[1, 8, 8] = odds[1, 0, 0] = -1.0
    told = np.ones((16, 16), bool)
    share = by_neighbours(odds, told)
    assert share[1].min() > 0.9
    odds[1, 4:8, 4:8] = -500.0
    share = by_neighbours(odds, told)
    assert np.isfinite(share).all()
    assert share[1, 5, 5] < 1e-6
    assert np.allclose(share.sum(axis=0), 1, atol=1e-6)
