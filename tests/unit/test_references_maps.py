"""The maps whose mean is the prediction from a reference: pulled toward it, and by kinds of cover."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.references.clusters import KINDS, fit_clusters
from pipeline.references.local import local_fit, smoothed
from pipeline.references.relation import fit_relation
from pipeline.references.ridge import fit_pulled


def test_with_few_pixels_the_reference_holds_but_for_its_level():
    """A hundred noisy pixels do not bend the map; the level is their median."""
    rng = np.random.default_rng(0)
    reference = rng.normal(1000, 100, (100, 3))
    pulled = fit_pulled(reference + 50 + rng.normal(0, 80, (100, 3)), reference)
    assert np.allclose(np.asarray(pulled.matrix), np.eye(3), atol=0.1)
    assert pulled(np.full((3, 1), 1000, np.float32)) == pytest.approx(1050, abs=20)
    assert pulled.samples == 100


def test_with_many_pixels_a_band_may_count_otherwise():
    """Another sensor's unit is learned, from enough pixels."""
    reference = np.random.default_rng(1).normal(1000, 100, (50_000, 2))
    pulled = fit_pulled(3 * reference - 7, reference)
    assert np.allclose(np.asarray(pulled.matrix), 3 * np.eye(2), atol=0.1)


def test_a_reference_with_other_bands_is_pulled_toward_nothing():
    """There is no band that could stand for another."""
    rng = np.random.default_rng(2)
    pulled = fit_pulled(rng.normal(0, 1, (50, 1)), rng.normal(0, 1, (50, 3)))
    assert np.abs(np.asarray(pulled.matrix)).max() < 0.05


def test_kinds_of_cover_have_maps_of_their_own():
    """Dark pixels rise, bright ones fall: no single line does both."""
    rng = np.random.default_rng(3)
    z = np.concatenate([rng.normal(-1, 0.2, 3000), rng.normal(1, 0.2, 3000)])[None].astype(np.float32)
    y = np.where(z[0] < 0, 2 * z[0], -2 * z[0])[:, None]
    clusters = fit_clusters(y, z, np.ones(6000))
    assert clusters is not None
    assert len(clusters.centres) == KINDS
    kind = clusters.kind(z)
    assert np.abs(clusters(z, kind) - y.T).mean() < 0.2
    # each pixel by itself: bytes do not depend on what it is computed with
    assert np.array_equal(clusters(z, kind)[:, 5:9], clusters(z[:, 5:9], clusters.kind(z[:, 5:9])))


def test_a_kind_that_nobody_is_of_is_no_fault():
    """Two values make two kinds; the other six have the map of all."""
    z = np.repeat([[-1.0, 1.0]], 2000, axis=1).astype(np.float32)
    clusters = fit_clusters(3 * z.T.astype(float), z, np.ones(4000))
    assert clusters is not None
    assert np.abs(clusters(z, clusters.kind(z)) - 3 * z).max() < 0.1


def test_too_few_pixels_have_no_kinds():
    """Two hundred pixels a kind are the least."""
    z = np.random.default_rng(4).normal(size=(2, 1599)).astype(np.float32)
    assert fit_clusters(np.zeros((1599, 1)), z, np.ones(1599)) is None


def test_the_map_that_fits_best_has_the_largest_share():
    """A product of two bands, which only the non-linear map follows."""
    rng = np.random.default_rng(5)
    bands = rng.uniform(-2, 2, (20_000, 2))
    context = np.concatenate([bands, bands + rng.normal(0, 1, bands.shape), rng.normal(0, 1, bands.shape)], axis=1)
    relation = fit_relation(bands[:, :1] * bands[:, 1:] + 0.01 * rng.normal(size=(20_000, 1)), context, 2)
    shares = np.asarray(relation.shares)
    assert shares[:, 0].min() > 0.8
    assert shares.sum(axis=1) == pytest.approx(np.ones(KINDS))


def test_a_kind_that_differs_from_most_is_learned_as_it_is():
    """A tissue of 4 % of the pixels has a map of its own, other than that of all: it is no outlier."""
    rng = np.random.default_rng(7)
    rare = np.arange(20_000) % 25 == 0
    bands = np.where(rare[:, None], [8.0, 8.0], [0.0, 0.0]) + rng.normal(0, 1, (20_000, 2))
    target = np.where(rare, 40 + 5 * bands[:, 1] - 5 * bands[:, 0], bands[:, 0])[:, None]
    context = np.concatenate([bands, rng.normal(0, 1, (20_000, 4))], axis=1)
    relation = fit_relation(target + 0.1 * rng.normal(size=target.shape), context, 2)
    error = (relation.predict(context.T.astype(np.float32))[0][0] - target[:, 0])[rare]
    assert np.sqrt((error**2).mean()) < 0.7 * target[rare].std()


def test_in_an_image_of_another_kind_nothing_passes_for_an_outlier():
    """Fluid is a twentieth of the pixels and five times as bright: a cloud of a date, a tissue of another contrast."""
    rng = np.random.default_rng(8)
    fluid = np.arange(12_000) % 20 == 0
    bands = np.where(fluid, 3.0, rng.uniform(-1, 1, fluid.size))[:, None] + rng.normal(0, 0.3, (fluid.size, 2))
    target = np.where(fluid, 10.0, bands.mean(axis=1))[:, None] + rng.normal(0, 0.1, (fluid.size, 1))
    context = np.concatenate([bands, bands, bands], axis=1)
    missed = []
    for robust in (True, False):
        relation = fit_relation(target, context, 2, robust=robust)
        assert relation.robust is robust
        ridge, clusters = relation.ridge, relation.clusters
        assert clusters is not None
        missed.append(abs(float((ridge(context.T.astype(np.float32)) - target.T)[0, fluid].mean())))
    assert missed[1] < 0.8 * missed[0]


def test_the_regression_around_a_pixel_may_weigh_all_pixels_alike():
    """A patch that the map misses by 10 is an outlier among robust weights, and part of the surroundings without."""
    observed, common = np.zeros((1, 48, 48)), np.ones((48, 48), bool)
    observed[:, :, 30:] = 10.0
    common[20:28, 34:42] = False
    guide = np.zeros((1, 48, 48), np.float32)
    said = np.zeros_like(observed), np.ones_like(observed)
    inside = [
        float(local_fit(observed, said, guide, common, (4.0, 4.0), robust=robust).values[0, 24, 38])
        for robust in (True, False)
    ]
    assert inside[1] > 9
    assert inside[0] < inside[1] - 0.2


def test_few_pixels_have_the_pulled_map_alone():
    """No waves, no kinds: a change of level and a hint of a map."""
    rng = np.random.default_rng(6)
    bands = rng.normal(0, 100, (300, 2))
    relation = fit_relation(bands + 5, np.concatenate([bands, bands, bands], axis=1), 2)
    assert relation.clusters is None
    assert not relation.correction
    assert np.allclose(np.asarray(relation.ridge.matrix)[:, :2], np.eye(2), atol=0.05)
    assert not np.asarray(relation.ridge.matrix)[:, 2:].any()


@pytest.mark.parametrize("scales", [(0.2, 1.0, 1.0), (0.1, 0.4, 4.0)])
def test_a_window_narrower_than_a_thick_slice_is_one_of_its_own(scales):
    """On coarse cells of thick slices the regression sees less than half a slice: it ends, and finds a level."""
    rng = np.random.default_rng(0)
    said, guide = rng.standard_normal((1, 5, 16, 12)), rng.standard_normal((1, 5, 16, 12)).astype(np.float32)
    common = rng.random((5, 16, 12)) < 0.7
    fit = local_fit(said + 3.0, (said, np.ones_like(said)), guide, common, scales)
    assert np.allclose(fit.values, said + 3.0)


@pytest.mark.parametrize(
    ("shape", "scales"), [((96, 80), (12.0, 12.0)), ((61, 50), (4.0, 4.0)), ((40, 40, 9), (9, 9, 1.2))]
)
def test_means_on_blocks_are_those_under_a_gaussian(shape, scales):
    """Blocks and what is between them blur, too: the Gaussian is narrower by that, so the width is as asked for."""
    rng = np.random.default_rng(2)
    values, some = rng.normal(size=(1, *shape)).astype(np.float32), rng.random(shape) < 0.7
    filtered = [
        ndimage.gaussian_filter(part, scales, mode="constant") for part in (np.where(some, values[0], 0), some * 1.0)
    ]
    exact = filtered[0] / filtered[1]
    found = smoothed(np.where(some, values, np.float32(0)), some, scales)[0]
    # up to half a block from an edge its mean stands
    inner = tuple(slice(int(scale / 3), -int(scale / 3) or None) for scale in scales)
    exact, found = exact[inner], found[inner]
    assert np.std(found - exact) < 0.3 * np.std(exact)
    assert np.std(found) == pytest.approx(np.std(exact), rel=0.05)
