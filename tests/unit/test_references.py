"""References: the global map, the local regression, the residual, and the duty to do no harm."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from pipeline.fills.base import FillSpec, Window
from pipeline.references import align
from pipeline.references.align import Pair, aligned, misregistration
from pipeline.references.consult import compared, consult
from pipeline.references.context import context
from pipeline.references.continued import continued
from pipeline.references.estimate import reference_fill
from pipeline.references.relation import fit_relation
from pipeline.references.ridge import fit_ridge
from pipeline.references.siblings import Sibling, Siblings


def texture(bands, shape, seed, width=2.0):
    """Smooth random bands around 1000 with a spread of about 100, float32."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((bands, *shape))
    smooth = np.stack([ndimage.gaussian_filter(n, width, mode="wrap") for n in noise])
    return (1000 + 100 * smooth / smooth.std()).astype(np.float32)


def hide(truth, hole):
    """A window of `truth` with `hole` `spatial` hidden in all channels, and its tension fill."""
    holes = np.broadcast_to(hole, truth.shape).copy()
    values = np.where(holes, 0, truth).astype(np.float32)
    window = Window(values=values, valid=~holes, hole=holes, spacing=(1.0,) * hole.ndim)
    return window, FillSpec("tension")(window)


def block(shape, start, stop):
    """A boolean array that is True in one box."""
    hole = np.zeros(shape, bool)
    hole[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return hole


def fitted(window, reference, seen=None):
    """The map on pixels that both see."""
    seen = np.ones(reference.shape[1:], bool) if seen is None else seen
    use = window.valid.all(axis=0) & seen
    around = context(reference, seen, window.spacing)
    return fit_relation(window.values[:, use].T, around[:, use].T, len(reference))


def itself(truth):
    """The relation of an image to itself."""
    around = context(truth, np.ones(truth.shape[1:], bool), (1.0,) * (truth.ndim - 1))
    return fit_relation(truth.reshape(len(truth), -1).T, around.reshape(len(around), -1).T, len(truth))


def error(truth, estimate, where):
    """Root mean square error."""
    return float(np.sqrt(((estimate - truth)[:, where].astype(np.float64) ** 2).mean()))


def everywhere(shape):
    """A validity mask that is True."""
    return np.ones((1, *shape), bool)


def test_ridge_recovers_a_linear_map_between_other_ranges_and_band_counts():
    """Three bands around 1000 from five bands in 0 to 1."""
    rng = np.random.default_rng(0)
    reference = rng.random((4000, 5))
    matrix = rng.normal(0, 500, (3, 5))
    ridge = fit_ridge(reference @ matrix.T + [10, 20, 30], reference, ridge=1e-9)
    assert np.allclose(ridge.matrix, matrix, rtol=1e-4, atol=1e-2)
    assert np.allclose(ridge.offset, [10, 20, 30], atol=0.1)
    assert min(ridge.explained) > 0.9999


def test_ridge_is_robust_against_a_few_outliers():
    """Two percent of cloud in the reference does not bend the line."""
    rng = np.random.default_rng(1)
    reference = rng.normal(0, 1, (5000, 2))
    target = reference @ np.array([[2.0], [1.0]]) + rng.normal(0, 0.05, (5000, 1))
    reference[:100] += 30
    assert np.allclose(fit_ridge(target, reference).matrix, [[2.0, 1.0]], atol=0.15)


def test_ridge_survives_constant_bands_and_non_finite_rows():
    """A constant reference band has no weight, a constant target is its own offset, NaN rows are left out."""
    rng = np.random.default_rng(2)
    x = rng.normal(5, 1, 2000)
    reference = np.stack([x, np.full(2000, 7.0)], axis=1)
    target = np.stack([3 * x, np.full(2000, 4.0)], axis=1)
    reference[:5], target[5:9] = np.nan, np.inf
    ridge = fit_ridge(target, reference)
    assert ridge.samples == 1991
    assert ridge.matrix[0] == pytest.approx((3.0, 0.0), abs=0.01)
    assert ridge.matrix[1] == pytest.approx((0.0, 0.0), abs=1e-12)
    assert ridge.offset[1] == pytest.approx(4.0)


def test_ridge_with_too_few_pixels_says_nothing():
    """No samples: nothing is usable and the base fill stands."""
    truth = texture(2, (32, 32), 0)
    window, base = hide(truth, block((32, 32), (8, 8), (20, 20)))
    relation = fit_relation(np.zeros((0, 2)), np.zeros((0, 9)), 3)
    result = reference_fill(window, texture(3, (32, 32), 1), everywhere((32, 32)), relation, base)
    assert relation.ridge.samples == 0
    assert not result.usable.any()
    assert np.array_equal(result.values, base)


def test_ridge_refuses_arrays_of_other_lengths():
    """The shapes are in the message."""
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(5, 2\)"):
        fit_ridge(np.zeros((4, 2)), np.zeros((5, 2)))


@pytest.mark.parametrize("shape", [(96, 96), (28, 30, 32)])
def test_a_linearly_related_reference_gives_the_truth_back(shape):
    """Another gain, offset and band order: the hole is restored to a small part of the spline's error."""
    truth = texture(2, shape, 5)
    reference = (truth[::-1] * 0.001 - 0.3).astype(np.float32)
    centre = tuple(n // 2 for n in shape)
    hole = block(shape, tuple(c - 8 for c in centre), tuple(c + 8 for c in centre))
    window, base = hide(truth, hole)
    result = reference_fill(window, reference, everywhere(shape), fitted(window, reference), base)
    assert result.usable[:, hole].all()
    assert not result.usable[:, ~hole].any()
    assert error(truth, result.values, hole) < 0.05 * error(truth, base, hole)
    assert result.reliability[:, hole].min() > 0.99


def test_a_gain_that_changes_over_the_image_is_followed():
    """Season or haze: a smooth field of gain and offset costs little."""
    truth = texture(1, (128, 128), 6)
    ramp = np.linspace(0.8, 1.2, 128, dtype=np.float32)
    reference = truth * ramp + 300 * ramp[:, None]
    hole = block((128, 128), (50, 50), (80, 80))
    window, base = hide(truth, hole)
    result = reference_fill(window, reference, everywhere(hole.shape), fitted(window, reference), base)
    assert error(truth, result.values, hole) < 0.4 * error(truth, base, hole)


def test_an_unrelated_reference_does_no_harm():
    """Pure noise as reference: within a few percent of the single-image fill, and reliability says why."""
    truth = texture(2, (96, 96), 7)
    hole = block((96, 96), (30, 30), (60, 60))
    window, base = hide(truth, hole)
    reference = texture(2, (96, 96), 99)
    result = reference_fill(window, reference, everywhere(hole.shape), fitted(window, reference), base)
    assert error(truth, result.values, hole) < 1.15 * error(truth, base, hole)
    assert result.reliability[:, hole].mean() < 0.6


def test_clouds_of_the_reference_leave_the_base_fill_and_no_seam():
    """Where the reference is blind the base stands, moved by what changes beside it: nearer to the truth, no seam."""
    truth = texture(1, (96, 96), 8)
    hole = block((96, 96), (20, 20), (70, 70))
    cloud = block((96, 96), (0, 45), (96, 96))
    window, base = hide(truth, hole)
    reference = np.where(cloud, np.float32(np.nan), truth * 2)
    seen = ~cloud
    result = reference_fill(window, reference, everywhere(hole.shape), fitted(window, reference, seen), base)
    assert np.array_equal(result.usable[0], hole & seen)
    assert np.array_equal(result.values[0, hole & cloud], base[0, hole & cloud])
    assert error(truth, result.values, hole & seen) < 0.2 * error(truth, base, hole & seen)
    values = base + continued(result.values - base, result.usable, window)
    assert np.array_equal(values[0, ~hole], truth[0, ~hole])
    assert np.allclose(values[0, hole & seen], result.values[0, hole & seen])
    steps = [np.abs(v[0, 20:70, 45] - v[0, 20:70, 44]).max() for v in (values, result.values, truth)]
    assert steps[0] < steps[2] < steps[1]
    beside, beyond = hole & block((96, 96), (0, 45), (96, 48)), hole & block((96, 96), (0, 66), (96, 96))
    assert error(truth, values, beside) < 0.7 * error(truth, base, beside)
    assert np.abs(values - base)[0, beyond].max() < 0.1 * np.abs(values - base)[0, beside].max()


def test_what_a_guide_changes_goes_on_in_each_channel_where_it_ends():
    """Channels whose holes or guides differ; a hole that no guide touches, pixels without data and an exact guide."""
    shape = (3, 40, 40)
    hole = np.zeros(shape, bool)
    hole[:2, 5:35, 10:30] = hole[2, 20:30, 20:30] = True
    hole[:, 1:3, 1:3] = True
    valid = ~hole
    valid[:, :, 38:] = False
    usable = hole & (np.arange(40) < 20) & (np.arange(40) >= 10)
    usable[1] &= np.arange(40)[:, None] < 20
    window = Window(values=np.zeros(shape, np.float32), valid=valid, hole=hole, spacing=(1.0, 1.0))
    moved = continued(np.where(usable, np.float32(8), np.float32(np.nan)), usable, window)
    assert (moved[usable] == 8).all()
    assert (moved[~hole] == 0).all()
    assert (moved[2] == 0).all()
    assert (moved[:, 1:3, 1:3] == 0).all()
    row = moved[0, 20, 19:30]
    assert (np.diff(row) < 0).all()
    assert row[1] > 6
    assert 0 < moved[1, 21, 12] < 8
    none = continued(np.zeros(shape, np.float32), hole, window)
    assert not none.any()


def test_a_gap_of_the_reference_where_the_image_is_observed_costs_nothing():
    """Only hole pixels that the reference misses are left to the fill: a lost slice next door is no reason."""
    truth = texture(1, (96, 96), 8)
    hole = block((96, 96), (0, 40), (96, 44))
    window, base = hide(truth, hole)
    seen = ~block((96, 96), (0, 46), (96, 50))
    reference = np.where(seen, truth * 2, np.float32(np.nan))
    result = reference_fill(window, reference, everywhere(hole.shape), fitted(window, reference, seen), base)
    assert np.array_equal(result.usable[0], hole)


def test_a_blind_reference_gives_the_base_fill():
    """Nothing of the reference is seen in the window."""
    shape = (1, 40, 40)
    truth = texture(1, shape[1:], 9)
    hole = block(shape, (0, 10, 10), (1, 20, 20))
    window = Window(values=truth, valid=~hole, hole=hole, spacing=(1.0, 1.0))
    base = np.full(shape, 3.0, np.float32)
    result = reference_fill(window, truth, np.zeros(shape, bool), itself(truth), base)
    assert not result.usable.any()
    assert (result.values[hole] == 3.0).all()


def test_a_window_that_is_all_hole_gets_what_the_whole_image_says():
    """There is nothing to correct it by, and still a date that shows what was there."""
    shape = (1, 40, 40)
    truth = texture(1, shape[1:], 9)
    hole = np.ones(shape, bool)
    window = Window(values=np.zeros_like(truth), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    base = np.full(shape, float(truth.mean()), np.float32)
    result = reference_fill(window, truth, np.ones(shape, bool), itself(truth), base)
    assert result.usable.all()
    assert error(truth, result.values, hole[0]) < 0.2 * error(truth, base, hole[0])
    assert result.reliability.mean() > 0.8


def test_wild_reference_values_stay_near_the_observed_range():
    """A reference pixel of 1e6 inside the hole is clipped to the robust range of the target plus 20 percent."""
    truth = texture(1, (64, 64), 10)
    reference = truth.copy()
    reference[0, 30:34, 30:34] = 1e6
    hole = block((64, 64), (24, 24), (40, 40))
    window, base = hide(truth, hole)
    relation = fitted(window, reference)
    result = reference_fill(window, reference, everywhere(hole.shape), relation, base)
    assert result.values.max() <= max(
        relation.ridge.high[0] + 0.2 * (relation.ridge.high[0] - relation.ridge.low[0]) + 0.01, truth.max()
    )


def test_a_hole_of_most_of_the_window_is_still_finite():
    """One observed line at the edge of a large window: no division by zero far from it."""
    truth = texture(1, (160, 160), 11)
    hole = block((160, 160), (0, 4), (160, 160))
    window, base = hide(truth, hole)
    relation = itself(truth)
    result = reference_fill(window, truth, everywhere(hole.shape), relation, base, sigma=6)
    assert np.isfinite(result.values).all()
    assert error(truth, result.values, hole) < 0.2 * error(truth, base, hole)


def test_observed_values_stand_and_inputs_are_untouched():
    """Bit for bit, and the same bytes twice."""
    truth = texture(2, (48, 48), 12)
    window, base = hide(truth, block((48, 48), (10, 10), (30, 30)))
    reference = texture(1, (48, 48), 13)
    before = [part.tobytes() for part in (window.values, base, reference)]
    relation = fitted(window, reference)
    first = reference_fill(window, reference, everywhere((48, 48)), relation, base)
    second = reference_fill(window, reference, everywhere((48, 48)), relation, base)
    assert [part.tobytes() for part in (window.values, base, reference)] == before
    assert first.values.tobytes() == second.values.tobytes()
    assert np.array_equal(first.values[window.valid], truth[window.valid])


def test_mismatched_grids_and_maps_are_refused():
    """The message has the shapes or the band counts."""
    truth = texture(1, (32, 32), 14)
    window, base = hide(truth, block((32, 32), (8, 8), (12, 12)))
    relation = fitted(window, truth)
    with pytest.raises(ValueError, match="one grid"):
        reference_fill(window, truth[:, 1:], everywhere((31, 32)), relation, base)
    with pytest.raises(ValueError, match="takes 1 bands to 1"):
        reference_fill(window, texture(2, (32, 32), 1), everywhere((32, 32)), relation, base)


def test_clouds_that_no_mask_knows_are_found_by_what_they_look_like():
    """A bright cloud over a third of the reference: reliability is low under it and high beside it, inside the hole."""
    truth = texture(3, (128, 128), 20)
    reference = (truth * 0.5 + texture(3, (128, 128), 21) * 0.02).astype(np.float32)
    cloud = ndimage.gaussian_filter(block((128, 128), (0, 60), (128, 100)).astype(np.float32), 3)
    reference = reference * (1 - cloud) + cloud * texture(3, (128, 128), 22, width=6) * 3
    hole = block((128, 128), (40, 20), (90, 110))
    window, base = hide(truth, hole)
    result = reference_fill(window, reference, everywhere(hole.shape), fitted(window, reference), base)
    clear, clouded = hole & (cloud < 0.01), hole & (cloud > 0.9)
    assert result.reliability[:, clear].mean() > 0.85
    assert result.reliability[:, clouded].mean() < 0.5
    assert error(truth, result.values, clear) < 0.3 * error(truth, base, clear)


def test_a_relation_that_is_no_line_is_learned():
    """Decibels against amplitudes: the curve is followed where one line would leave a tenth of the range."""
    truth = texture(1, (128, 128), 23)
    reference = (20 * np.log10(np.maximum(truth - 600, 20))).astype(np.float32)
    hole = block((128, 128), (40, 40), (80, 80))
    window, base = hide(truth, hole)
    relation = fitted(window, reference)
    result = reference_fill(window, reference, everywhere(hole.shape), relation, base)
    line = relation.ridge(context(reference, np.ones(hole.shape, bool), window.spacing))
    assert error(truth, result.values, hole) < 0.3 * error(truth, line, hole)


@pytest.mark.parametrize("level", [0.0, 1234.5])
def test_a_constant_image_stays_constant_whatever_the_reference_shows(level):
    """No texture of the reference is imprinted."""
    truth = np.full((2, 64, 64), level, np.float32)
    window, base = hide(truth, block((64, 64), (20, 20), (40, 40)))
    reference = texture(2, (64, 64), 24)
    result = reference_fill(window, reference, everywhere((64, 64)), fitted(window, reference), base)
    assert np.array_equal(result.values, truth)


def test_non_finite_reference_pixels_are_not_used():
    """NaN and infinity without a mask of their own: base fill there, finite everywhere."""
    truth = texture(2, (96, 96), 25)
    reference = (truth * 2).copy()
    reference[0, 40:44, 40:44], reference[1, 50:54, 50:54] = np.nan, np.inf
    hole = block((96, 96), (30, 30), (60, 60))
    window, base = hide(truth, hole)
    finite = np.isfinite(reference).all(axis=0)
    result = reference_fill(window, reference, everywhere(hole.shape), fitted(window, reference, finite), base)
    assert np.isfinite(result.values).all()
    assert np.array_equal(result.values[:, hole & ~finite], base[:, hole & ~finite])
    assert not result.usable[:, ~finite].any()


@pytest.mark.parametrize(("shape", "shift"), [((128, 128), (0.6, -1.3)), ((40, 40, 40), (0.0, 0.7, -0.4))])
def test_a_shifted_reference_is_found_and_taken_back(shape, shift):
    """To a tenth of a pixel, with a hole in the image and a gap in the reference."""
    truth = texture(2, shape, 27)
    reference = np.stack([ndimage.shift(band * 3 + 7, shift, order=3, mode="nearest") for band in truth])
    known, seen = (
        ~block(shape, (10,) * len(shape), (20,) * len(shape)),
        ~block(shape, (0,) * len(shape), (6,) * len(shape)),
    )
    reference = np.where(seen, reference, 0).astype(np.float32)
    found = misregistration([Pair(target=truth, known=known, reference=reference, seen=seen)])
    assert np.allclose(found, shift, atol=0.1)
    moved, clear = aligned(reference, seen, found)
    inner = clear & block(shape, (6,) * len(shape), tuple(n - 6 for n in shape))
    assert error(truth * 3 + 7, moved, inner) < 0.1 * error(truth * 3 + 7, reference, inner)
    assert not (clear & ~seen).any()


def test_what_is_registered_or_unrelated_is_not_shifted():
    """A copy stays where it is, and noise has no place to go to."""
    truth, other = texture(2, (96, 96), 28), texture(2, (96, 96), 29)
    everything = np.ones((96, 96), bool)
    for reference in (truth * 2, other):
        assert not any(misregistration([Pair(target=truth, known=everything, reference=reference, seen=everything)]))
    assert aligned(truth, everything, ())[0] is truth


def test_a_shift_is_not_looked_for_any_longer_where_there_is_none(monkeypatch):
    """One step shows that a copy stays where it is; with a shift all five are taken."""
    truth, taken = texture(2, (96, 96), 28), []
    shifted = np.stack([ndimage.shift(band, (0.6, -1.3), order=3, mode="nearest") for band in truth])
    plain, everything = align._equations, np.ones((96, 96), bool)
    monkeypatch.setattr(align, "_equations", lambda *given: taken.append(given) or plain(*given))
    for reference, steps in ((truth * 2, 1), (shifted, 5)):
        taken.clear()
        misregistration([Pair(target=truth, known=everything, reference=reference, seen=everything)])
        assert len(taken) == steps


def test_pixels_left_out_tell_how_far_a_relation_can_be_trusted():
    """Noise is fitted better than it is predicted; a true relation is not."""
    truth, noise = texture(2, (64, 64), 30), texture(2, (64, 64), 31)
    window, _ = hide(truth, block((64, 64), (0, 0), (4, 4)))
    related, unrelated = fitted(window, truth * 2), fitted(window, noise)
    assert max(unrelated.overfit_ratio) > 1.02
    assert min(unrelated.overfit_ratio) >= 1.0
    assert max(related.worst) < min(unrelated.worst) - 3


def test_the_better_of_two_references_counts_where_they_differ():
    """A later reference is compared with what the earlier one made of each pixel, not with the single-image fill."""
    reliability = np.float32([0.2, 0.5, 0.9, 0.9, 0.0, 1.0])
    assert np.allclose(compared(reliability, np.full(6, 0.5, np.float32)), reliability)
    assert np.allclose(compared(reliability, reliability)[:4], 0.5)
    assert compared(np.float32([0.9]), np.float32([0.99]))[0] < 0.1
    assert compared(np.float32([0.9]), np.float32([0.3]))[0] > 0.95


def test_another_channel_of_the_image_fills_a_dead_detector():
    """A hole in one band only: restored from the bands that were observed there, the others untouched."""
    truth = texture(3, (96, 96), 26)
    truth[2] = 0.5 * truth[0] - 0.2 * truth[1] + 100
    hole = np.zeros(truth.shape, bool)
    hole[2, 30:60, 20:70] = True
    window = Window(values=np.where(hole, 0, truth), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    base = FillSpec("tension")(window)
    use = ~hole[2]
    around = context(truth[:2], np.ones((96, 96), bool), window.spacing)
    relation = fit_relation(truth[2:, use].T, around[:, use].T, 2)
    siblings = Siblings(of=((), (), (Sibling(channels=(0, 1), relation=relation),)))
    result = consult(window, (truth, ~hole), siblings, base, np.full_like(base, 0.5))
    assert np.array_equal(result.usable, hole)
    assert error(truth[2:], result.values[2:], hole[2]) < 0.1 * error(truth[2:], base[2:], hole[2])
    assert np.array_equal(result.values[:2], truth[:2])


def test_where_one_sibling_is_lost_too_the_others_tell():
    """Holes of two bands cross: there the next set of siblings fills, without a seam to what the first filled."""
    truth = texture(4, (96, 96), 26)
    truth[3] = 0.05 * truth[0] - 0.2 * truth[1] + 0.4 * truth[2] + 100
    hole = np.zeros(truth.shape, bool)
    hole[3, 30:60, 20:70] = True
    hole[0, 40:48, 10:80] = True
    window = Window(values=np.where(hole, 0, truth), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    base = FillSpec("tension")(window)
    found = []
    for channels in ((0, 1, 2), (1, 2)):
        use = window.valid[[3, *channels]].all(axis=0)
        around = context(truth[list(channels)], use, window.spacing)
        found.append(
            Sibling(channels=channels, relation=fit_relation(truth[3:, use].T, around[:, use].T, len(channels)))
        )
    one, both = (
        consult(window, (truth, ~hole), Siblings(of=((), (), (), some)), base, np.full_like(base, 0.5))
        for some in (tuple(found[:1]), tuple(found))
    )
    crossing = hole[3] & hole[0]
    assert np.array_equal(one.usable[3], hole[3] & ~crossing)
    assert np.array_equal(both.usable[3], hole[3])
    assert error(truth[3:], both.values[3:], crossing) < 0.5 * error(truth[3:], base[3:], crossing)
    assert error(truth[3:], both.values[3:], hole[3]) < 0.5 * error(truth[3:], one.values[3:], hole[3])
    assert (both.reliability[3][hole[3]] > 0).all()
    assert np.array_equal(both.values[:3], np.where(hole, base, truth)[:3])


@pytest.mark.realdata
def test_another_date_of_corumba_is_worth_more_than_one_decibel(data_dir):
    """Landsat 8, sixteen days apart: hole error at least 1 dB below the tension spline's."""
    dates = []
    for name in ("20190809_20200827", "20190825_20200826"):
        with rasterio.open(data_dir / f"satellite/l8_corumba/LC08_L1TP_227074_{name}_02_T1.tif") as source:
            dates.append(source.read(window=((350, 606), (400, 656))).astype(np.float32))
    truth, reference = dates
    noise = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(truth.shape[1:]), 10)
    hole = noise < np.quantile(noise, 0.25)
    window, base = hide(truth, hole)
    result = reference_fill(window, reference, everywhere(hole.shape), fitted(window, reference), base)
    assert 20 * np.log10(error(truth, base, hole) / error(truth, result.values, hole)) > 1.0


@pytest.mark.parametrize("shape", [(61, 70), (20, 23, 17)])
def test_context_on_a_grid_is_that_of_all_pixels(shape: tuple[int, ...]) -> None:
    """To the last bit, beside pixels that are not seen, too; nothing but the grid is held of all bands at once."""
    rng = np.random.default_rng(0)
    bands, seen = rng.normal(size=(6, *shape)).astype(np.float32), rng.random(shape) < 0.7
    bands[:, ~seen] = np.nan
    spacing, grid = (1.0, 1.3, 2.0)[: len(shape)], tuple(slice(k % 3, None, 3) for k in range(len(shape)))
    every = context(bands, seen, spacing)
    tracemalloc.start()
    some = context(bands, seen, spacing, grid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(some, every[(slice(None), *grid)])
    assert some.dtype == every.dtype == np.float32
    assert peak < every.nbytes / 2
