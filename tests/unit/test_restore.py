"""One window in, one estimate out; what the self-test decides and how it hides pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from pipeline.fills import tension
from pipeline.fills.base import FillSpec, Window
from pipeline.geometry.box import Box
from pipeline.models.base import Prediction
from pipeline.numerics.calibration import Calibration
from pipeline.numerics.situation import Curve, Situation, flat, situation
from pipeline.references.consult import compared
from pipeline.references.context import context
from pipeline.references.estimate import ReferenceFill
from pipeline.references.relation import fit_relation
from pipeline.references.reliance import Reliance, region
from pipeline.restore.blend import limited, mix
from pipeline.restore.codes import CLASSICAL, NETWORK, OBSERVED, REFERENCE
from pipeline.restore.estimate import (
    base_fill,
    bounded_left,
    error_factor,
    estimate,
    filled,
    misfit,
    where,
    with_reference,
)
from pipeline.restore.network import network_share, raw_of, with_network
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Contamination, Draft, Guide, Task
from pipeline.selftest.judge import FittedGuide, judge
from pipeline.selftest.placing import place
from pipeline.selftest.shapes import collect
from tests.helpers import blobs, smooth

SHAPE = (48, 52)
RECIPE = Recipe(
    fill=FillSpec("nearest"), floor=(1.0, 1.0), typical=(30.0, 30.0), low=(0.0, 0.0), high=(2000.0, 2000.0)
)  # fmt: skip


def _window(*, blank: bool = False) -> Window:
    values = smooth((2, *SHAPE), "float32")
    hole = np.broadcast_to(blobs(SHAPE, n=3, radius=5).astype(bool), values.shape)
    if blank:
        hole = np.stack([hole[0], np.ones(SHAPE, dtype=bool)])
    return Window(values=np.where(hole, 0, values), valid=~hole, hole=hole, spacing=(1.0, 1.0))


def _task(window: Window) -> Task:
    return Task(window=window, patch=64)


@dataclass
class Stub:
    """A network that says one number and remembers the patches it saw."""

    value: float = 500.0
    name: str = "stub"
    sha256: str = "stub"
    ndim: int = 2

    def __post_init__(self) -> None:
        self.seen = []

    def predict(self, patches):
        """Return the number everywhere."""
        self.seen += patches
        return [Prediction(mean=np.full_like(p.filled, self.value), scale=np.full_like(p.filled, 7.0)) for p in patches]


def test_observed_pixels_pass_through():
    """Value, 0 uncertainty and code 0 where observed; finite, positive, classical in holes."""
    window = _window()
    (result,) = estimate(RECIPE, None, [_task(window)])
    assert np.array_equal(result.mean[window.valid], window.values[window.valid])
    assert (result.sigma[window.valid] == 0).all()
    assert (result.sigma[window.hole] > 0).all()
    assert np.array_equal(result.origin, np.where(window.hole, CLASSICAL, OBSERVED))


def test_a_contaminated_rim_widens_error_bars_by_depth():
    """What it carries is added in quadrature in holes, by channel and distance; values stay, observed pixels have 0."""
    window = _window()
    (plain,) = estimate(RECIPE, None, [_task(window)])
    curves = tuple(Curve(knots=(1.0, 4.0), values=values) for values in ((5.0, 50.0), (0.0, 0.0)))
    (wide,) = estimate(replace(RECIPE, rim=curves), None, [_task(window)])
    added = np.stack([curve(depth) for curve, depth in zip(curves, wide.place.distance, strict=True)])
    assert np.allclose(wide.sigma, np.where(window.hole, np.hypot(plain.sigma, added), 0))
    assert wide.sigma[0][window.hole[0]].min() >= 5
    assert np.array_equal(wide.sigma[1], plain.sigma[1])
    assert np.array_equal(wide.mean, plain.mean)


def test_contaminated_pixels_around_widen_error_bars_alone():
    """What haze leaves is added in quadrature to the wider bar; values stay, observed pixels have none."""
    window = _window()
    (plain,) = estimate(RECIPE, None, [_task(window)])
    left = np.where(window.hole, np.float32(3), np.float32(0))
    factor = np.where(window.hole[:1], np.float32(1.2), np.float32(1))
    (wide,) = estimate(RECIPE, None, [replace(_task(window), around=Contamination(left=left, factor=factor))])
    counted = np.where(window.hole, bounded_left(left, np.float32(RECIPE.typical).reshape(-1, 1, 1)), 0)
    np.testing.assert_allclose(wide.sigma, np.hypot(factor * plain.sigma, counted), rtol=1e-6)
    assert np.array_equal(wide.mean, plain.mean)
    assert (wide.sigma[window.valid] == 0).all()
    assert (wide.sigma[window.hole] > plain.sigma[window.hole]).all()


def test_what_haze_leaves_stays_below_half_of_the_deviation_of_the_image():
    """Of little haze all is counted, of haze many times as strong as the ground no more than it could hide."""
    typical = np.float32([[10.0], [200.0]])
    left = np.float32([[0.0, 0.5, 5.0, 5e3], [0.0, 0.5, 100.0, 5e3]])
    told = bounded_left(left, typical)
    np.testing.assert_allclose(told[0], [0.0, 0.4975, 5 / 2**0.5, 5.0], rtol=1e-3)
    np.testing.assert_allclose(told[1], [0.0, 0.5, 100 / 2**0.5, 100.0], rtol=1e-3)
    assert (np.diff(told, axis=1) > 0).all()


def test_estimates_stay_inside_the_limits():
    """Nothing is written that lies outside the recipe's range."""
    window = _window()
    recipe = replace(RECIPE, high=(900.0, 900.0))
    (result,) = estimate(recipe, None, [_task(window)])
    assert result.mean[window.hole].max() == 900.0


def test_the_network_sees_the_window_filled():
    """As it is, whatever its shape: observed values, and the base fill in holes."""
    window, stub = _window(), Stub()
    estimate(replace(RECIPE, network=flat(0.5)), stub, [_task(window)])
    (patch,) = stub.seen
    assert patch.filled.shape == window.values.shape
    assert np.array_equal(patch.valid, window.valid)
    assert np.array_equal(patch.filled, RECIPE.fill(window))


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_the_network_counts_by_its_weight(weight):
    """In holes only; its own scale becomes the raw error; the code says network."""
    window = _window()
    plain = estimate(RECIPE, None, [_task(window)])[0]
    mixed = estimate(replace(RECIPE, network=flat(weight)), Stub(), [_task(window)])[0]
    expected = plain.mean + weight * (500.0 - plain.mean)
    assert np.allclose(mixed.mean[window.hole], expected[window.hole])
    assert np.array_equal(mixed.mean[window.valid], window.values[window.valid])
    assert (mixed.origin[window.hole] == NETWORK).all()
    assert (mixed.raw[window.hole] == 7.0).all()


def test_a_channel_nobody_observed_is_not_asked_for():
    """Without any observed pixel the fill stays, the error is that of the whole image, the code says classical."""
    window, stub = _window(blank=True), Stub()
    base = np.where(window.valid, window.values, np.float32(42))
    task = replace(_task(window), base=base)
    (result,) = estimate(replace(RECIPE, network=flat(1.0)), stub, [task])
    assert stub.seen[0].filled.shape[0] == 1
    assert (result.mean[1] == 42).all()
    assert (result.raw[1] == 30.0).all()
    assert (result.origin[1] == CLASSICAL).all()
    assert (result.origin[0][window.hole[0]] == NETWORK).all()


def test_company_does_not_matter():
    """A window's estimate is the same alone and among others."""
    blank = _window(blank=True)
    tasks = [_task(_window()), replace(_task(blank), base=np.where(blank.valid, blank.values, np.float32(42)))]
    recipe = replace(RECIPE, fill=FillSpec("harmonic"), network=flat(0.4))
    together = estimate(recipe, Stub(), tasks)
    alone = [estimate(recipe, Stub(), [task])[0] for task in tasks]
    for one, two in zip(together, alone, strict=True):
        assert one.mean.tobytes() == two.mean.tobytes()
        assert one.sigma.tobytes() == two.sigma.tobytes()


def test_mixing_is_exact_at_its_ends():
    """Weight 1 is the proposal to the last bit, and equal estimates stay what they are at any weight."""
    a, b = np.float32([0.1, 1e8, -3]), np.float32([0.3, 1e-8, 7])
    assert np.array_equal(mix(a, b, 1.0), b)
    assert np.array_equal(mix(a, b, 0.0), a)
    assert np.array_equal(mix(a, a.copy(), 0.3), a)


def test_a_reference_keeps_its_code():
    """Where a reference was usable the code names it, also after the network; beside it the fill follows, as a fill."""
    window = _window()
    leftmost = int(np.argwhere(window.hole[0])[:, 1].min())
    usable = window.hole & (np.arange(SHAPE[1]) < leftmost + 4)
    fill = ReferenceFill(
        values=np.full_like(window.values, 9.0),
        usable=usable,
        reliability=np.ones_like(window.values),
    )
    half = Reliance(near=(0.5,) * 5, far=(0.5,) * 5)
    draft = with_reference(filled(RECIPE, window, window.values, where(window)), fill, REFERENCE + 1, half, window)
    draft = with_network(draft, np.full_like(window.values, 100.0), window.hole, replace(RECIPE, network=flat(0.5)))
    assert (draft.origin[usable] == REFERENCE + 1).all()
    assert (draft.origin[window.hole & ~usable] == NETWORK).all()
    assert (draft.mean[usable] == 52.25).all()
    beside = draft.mean[window.hole & ~usable]
    assert (beside >= 50.0).all()
    assert 50.5 < beside.max() < 52.25


def test_references_that_lead_untested_share_a_pixel():
    """As many as there are count alike, in any order; a worse one counts less; one alone counts in full."""
    window = _window()
    leading = Reliance(near=(1.0,) * 5, far=(1.0,) * 5, untested=True)

    def blended(*said: tuple[float, float]) -> Draft:
        draft = filled(RECIPE, window, window.values, where(window))
        for k, (value, sure) in enumerate(said):
            own, standing = np.full_like(window.values, sure), draft.reliability
            fill = ReferenceFill(
                values=np.full_like(window.values, value), usable=window.hole, reliability=compared(own, standing)
            )
            draft = with_reference(draft, fill, REFERENCE + k, leading, window)
        return draft

    hole = window.hole
    assert np.allclose(blended((10, 0.8)).mean[hole], 10)
    assert np.allclose(blended((10, 0.8), (20, 0.8), (60, 0.8)).mean[hole], 30, rtol=1e-5)
    one, other = blended((10, 0.9), (20, 0.5), (60, 0.8)), blended((60, 0.8), (10, 0.9), (20, 0.5))
    # squared errors to expect are as 1/3, 1 and 1/2
    assert np.allclose(one.mean[hole], (3 * 10 + 20 + 2 * 60) / 6, rtol=1e-5)
    assert np.allclose(one.mean[hole], other.mean[hole], rtol=1e-5)
    assert np.allclose(one.trust[hole], 1)
    assert (one.origin[hole] == REFERENCE).all()
    assert (other.origin[hole] == REFERENCE + 1).all()


def _places(*distances: float) -> Situation:
    distance = np.float32(distances)[None]
    shares = np.zeros((3, *distance.shape), np.float32)
    shares[1] = 1
    return Situation(distance=distance, shares=shares)


def test_where_a_reference_fades_out_the_error_bar_is_that_of_the_fill():
    """Half the mean or more from a reference takes its factor, none that of the image alone, in between linear."""
    recipe = replace(
        RECIPE,
        single=Calibration(factors=flat(4.0), tested_to=(100.0,) * 3),
        referenced=Calibration(factors=flat(1.0), tested_to=(100.0,) * 3),
    )
    trust = np.float32([[0.0, 0.25, 0.5, 1.0]])
    factor = error_factor(recipe, trust, _places(5, 5, 5, 5))
    assert factor[0].tolist() == [4.0, 2.5, 1.0, 1.0]


def test_reliance_follows_reliability_distance_and_kind_of_hole():
    """Near and far weights by reliability, log-linear in distance between them, constant beyond; thin ones apart."""
    reliance = Reliance(near=(0, 0, 0, 0, 0.4), far=(0, 0, 0.5, 0.5, 1.0))
    distance = np.float32([1, 2, 2**2.5, 16, 99, 16, 16])
    reliability = np.float32([1, 1, 1, 1, 1, 0.375, 0])
    thin = np.zeros_like(distance)
    wide = np.float32([0.4, 0.4, 0.7, 1.0, 1.0, 0.25, 0])
    assert np.allclose(reliance.at(reliability, distance, thin), wide)
    reliance = replace(reliance, thin=(0, 0, 0, 0, 0.2))
    assert np.allclose(reliance.at(reliability, distance, thin), wide)
    assert np.allclose(reliance.at(reliability, distance, thin + 1), [0.2, 0.2, 0.2, 0.2, 0.2, 0, 0])
    assert np.allclose(reliance.at(reliability, distance, thin + 0.5)[:3], [0.3, 0.3, 0.45])
    assert replace(reliance, near=(0,) * 5, far=(0,) * 5).highest == 0.2


def test_a_gate_keeps_a_reference_out_of_unreliable_regions():
    """From the gate on weights hold, 0.15 below it nothing is left; a gate of 0 is open everywhere."""
    reliance = Reliance(near=(0.8,) * 5, far=(0.8,) * 5, gate=0.6)
    around = np.float32([0.3, 0.45, 0.525, 0.6, 1.0])
    weight = reliance.open(around) * reliance.at(np.ones_like(around), np.ones_like(around), np.zeros_like(around))
    assert np.allclose(weight, [0, 0, 0.4, 0.8, 0.8], atol=1e-6)
    assert (replace(reliance, gate=0.0).open(around) == 1).all()


def test_a_region_is_as_reliable_as_most_of_its_pixels_in_all_bands():
    """Single pixels hardly count, a bad half does, and so does a band; unusable pixels neither count nor have any."""
    reliability = np.full((2, 64, 64), 0.8, np.float32)
    usable = np.ones(reliability.shape, bool)
    assert np.allclose(region(reliability, usable, (1, 1)), 0.8, atol=1e-5)
    speckled = reliability.copy()
    speckled[:, ::8, ::8] = 0.1
    assert region(speckled, usable, (1, 1)).min() > 0.75
    half = reliability.copy()
    half[:, :, 32:] = 0.1
    around = region(half, usable, (1, 1))
    assert around[0, 32, 4] > 0.7
    assert around[0, 32, 60] < 0.2
    half[0] = 0.8
    assert around[1, 32, 60] < region(half, usable, (1, 1))[0, 32, 60] < 0.6
    usable[:, :, 32:] = False
    assert np.allclose(region(half, usable, (1, 1))[:, :, :32], 0.8, atol=1e-5)
    assert (region(half, usable, (1, 1))[:, :, 32:] == 0).all()


def test_the_network_has_another_weight_where_references_carry_the_mean():
    """From half the mean on that of references, without any its own, in between linear."""
    recipe = replace(RECIPE, network=flat(0.8), network_referenced=flat(0.2))
    window = _window()
    draft = filled(recipe, window, window.values, where(window))
    assert np.allclose(network_share(recipe, draft), 0.8)
    trust = np.linspace(0, 1, draft.mean.size, dtype=np.float32).reshape(draft.mean.shape)
    share = network_share(recipe, replace(draft, trust=trust))
    assert np.allclose(share, 0.8 - 0.6 * np.minimum(2 * trust, 1), atol=1e-6)
    assert recipe.network_weight == 0.8
    assert replace(recipe, network=flat(0.0)).network_weight == 0.2


def test_steps_that_were_never_tested_are_shortened():
    """Up to the limit nothing happens, beyond it a step grows ever slower, never above twice the limit."""
    window = _window()
    draft = filled(RECIPE, window, window.values, where(window))
    draft = replace(draft, scale=np.full_like(draft.mean, 10.0))
    small, large, huge = (limited(draft, draft.mean - step, 2.0) - draft.mean for step in (20, 30, 1e6))
    assert np.allclose(small, -20, atol=1e-3)
    assert np.allclose(large, -20 * (2 - 20 / 30), atol=1e-3)
    assert (huge >= -40.01).all()
    assert (huge < large).all()
    assert limited(draft, draft.mean + 7, None) is not None


def test_each_family_of_holes_has_its_own_fill():
    """Dead pixels by one, a region by the other; with one fill for all the families do not matter."""
    values = smooth((2, *SHAPE), "float32")
    hole = np.zeros(values.shape, bool)
    hole[:, 10:26, 10:26] = True
    hole[:, 40, 5:50:4] = True
    window = Window(values=np.where(hole, 0, values), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    place = where(window)
    nearest, spline = FillSpec("nearest"), FillSpec("tension", {"t": 0.5})
    mean = base_fill(replace(RECIPE, fill=spline, thin_fill=nearest), window, place)
    assert np.array_equal(mean[:, 40], nearest(window)[:, 40])
    assert np.allclose(mean[:, 12:24, 12:24], spline(window)[:, 12:24, 12:24], atol=1e-3)
    assert np.array_equal(mean[window.valid], window.values[window.valid])
    assert np.array_equal(base_fill(RECIPE, window, place), nearest(window))


def test_what_two_fills_begin_with_is_made_once(monkeypatch):
    """Kriging of thin holes refines the spline that wide ones get, and what hardly any pixel is fills nothing."""
    values = smooth((1, *SHAPE), "float32")
    hole = np.zeros(values.shape, bool)
    hole[:, 10:26, 10:26] = hole[:, 40, 5:50:4] = True
    window = Window(values=np.where(hole, 0, values), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    place = where(window)
    spline, edge = FillSpec("tension", {"t": 0.9}), FillSpec("tension", {"t": 0.1})
    thin = FillSpec("kriging", {"t": 0.75}).begun_as(spline)
    assert thin == FillSpec("kriging", {"t": 0.9})
    assert spline.begun_as(edge) is spline
    assert FillSpec("kriging", {"t": 0.75}).begun_as(FillSpec("nearest")).options == {"t": 0.75}
    whole = {spec.label: spec(window) for spec in (spline, thin)}
    made, fill = [], tension.fill
    monkeypatch.setattr(tension, "fill", lambda window, **options: made.append(options) or fill(window, **options))
    thin_share, wide_share, _ = place.shares
    hardly = replace(place, shares=np.stack([thin_share, wide_share * np.float32(0.99), wide_share * np.float32(0.01)]))
    mean = base_fill(replace(RECIPE, fill=spline, thin_fill=thin, border_fill=edge), window, hardly)
    assert made == [{"t": 0.9}]
    assert np.array_equal(mean[:, 40], whole[thin.label][:, 40])
    assert np.array_equal(mean[:, 12:24, 12:24], whole[spline.label][:, 12:24, 12:24])


def test_what_no_family_asks_for_does_not_count():
    """Not in the last digit: what fills make of pixels outside of their family may be anything."""
    hole = np.zeros((1, 96, 96), bool)
    hole[:, 20:60, 0:50] = hole[:, 70, 40:90] = hole[:, 61:64, 10:30] = True
    window = Window(values=smooth((1, 96, 96), "float32"), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    place = where(window)
    assert ((place.shares > 0) & (place.shares < 1)).all(axis=1).any()
    specs = [FillSpec("tension", {"t": t}) for t in (0.5, 0.9, 0.1)]
    recipe = replace(RECIPE, thin_fill=specs[0], fill=specs[1], border_fill=specs[2])
    made = {spec.label: spec(window) for spec in specs}
    known = base_fill(recipe, window, place, lambda spec: made[spec.label])
    for spec, share in zip(specs, place.shares, strict=True):
        made[spec.label] = np.where(hole & (share == 0), np.float32(-1e6), made[spec.label])
    assert np.array_equal(base_fill(recipe, window, place, lambda spec: made[spec.label]), known)


def test_no_step_where_a_window_sees_nothing():
    """Far from all that is observed the stated error fades into the image's own, which a blank window has, too."""
    values = smooth((2, 64, 64), "float32")
    hole = np.ones(values.shape, bool)
    hole[:, :, :2] = False
    seen = Window(values=np.where(hole, 0, values), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    blank = replace(seen, valid=np.zeros_like(hole), hole=np.ones_like(hole))
    recipe = replace(RECIPE, typical=(500.0, 500.0))
    base = np.full_like(values, 100.0)
    one, two = (estimate(recipe, None, [Task(window=w, base=base, patch=64)])[0] for w in (seen, blank))
    assert one.raw[0, 30, 63] > 450
    assert one.raw[0, 30, 5] < 250
    ratio = one.sigma[0, 30, 63] / two.sigma[0, 30, 63]
    assert 0.75 < ratio <= 1.05
    assert (np.diff(one.sigma[0, 30, 4:]) >= -1e-3).all()


def test_distance_counts_in_the_finest_steps():
    """Across a coarse axis one step is several; without anything observed it is the diagonal."""
    valid = np.ones((2, 5, 5), dtype=bool)
    valid[0, 2, 1:4] = False
    valid[1] = False
    distance = situation(valid, ~valid, (3.0, 1.0)).distance
    assert distance[0, 2, 2] == 2.0
    assert distance[0, 2, 1] == 1.0
    assert (distance[1] == np.float32(np.hypot(5, 5))).all()


def _placements(n: int = 6, pattern: np.ndarray | None = None):
    values = smooth((2, *SHAPE), "float32")
    state = blobs(SHAPE, n=3, radius=5).astype(bool)

    def read(box: Box):
        hole = np.broadcast_to(state, values.shape)[(slice(None), *box.slices)]
        kept = np.where(hole, 0, values[(slice(None), *box.slices)]).astype(np.float32)
        return Window(values=kept, valid=~hole, hole=hole, spacing=(1.0, 1.0)), ()

    closed = ((True, True), (True, True))
    shapes = collect([(state[None] if pattern is None else pattern, closed)], (1.0, 1.0))
    return place(read, [Box.whole(SHAPE)] * n, shapes, FillSpec("nearest"), 3)


def test_only_observed_pixels_are_hidden():
    """Pseudo-holes lie on observed pixels, between 1 % and 60 % of them, with the truth kept."""
    placed = _placements()
    assert len(placed) >= 4
    for one in placed:
        window = one.task.window
        assert not (one.hidden & window.valid).any()
        assert (window.hole & one.hidden).sum() == one.hidden.sum() >= 64
        share = one.hidden.sum() / (one.hidden | window.valid).sum()
        assert 0.01 <= share <= 0.6
        assert np.array_equal(one.truth[one.hidden], smooth((2, *SHAPE), "float32")[one.hidden])
        assert (window.values[one.hidden] == 0).all()
        assert (one.concerned <= window.hole).all()
        assert (one.hidden <= one.concerned).all()


def test_places_are_drawn_from_the_seed():
    """Twice the same, pixel for pixel."""
    for one, two in zip(_placements(), _placements(), strict=True):
        assert np.array_equal(one.hidden, two.hidden)


def test_single_dead_pixels_are_tested_too():
    """Holes of one pixel are laid often enough to count on."""
    dot = np.zeros((1, *SHAPE), dtype=bool)
    dot[0, 5, 7] = True
    for one in _placements(pattern=dot):
        assert 64 <= one.hidden.sum() < 0.6 * one.task.window.valid.sum()
    assert len(_placements(pattern=dot)) == 6


SPREAD = np.array([400.0, 400.0])
FILLS = [FillSpec("nearest"), FillSpec("tension", {"t": 0.5})]


def test_the_better_fill_wins_unless_the_user_chose():
    """A spline beats nearest on a smooth field; a forced choice stays, and the table says both scores."""
    chosen = judge(_placements(), FILLS, [], None, RECIPE, SPREAD)
    assert chosen.recipe.fill.kind == "tension"
    forced = judge(_placements(), FILLS, [], None, RECIPE, SPREAD, forced=True)
    assert forced.recipe.fill.kind == "nearest"
    table = {row.method: row.psnr_db for row in forced.rows}
    assert table["tension t=0.5"] > table["nearest"] + 3
    assert 0.7 < chosen.coverage_90 <= 1
    assert max(chosen.predicted_rmse) < 40


@pytest.mark.parametrize("model", [None, "useless"])
def test_a_good_reference_does_not_calibrate_what_it_does_not_see(model):
    """Where the reference is clouded, too, the error bar is that of the image alone, not of the clouds' seams."""
    placed = _placements()
    other = smooth((1, *SHAPE), "float32", seed=9)
    unseen = np.zeros((1, *SHAPE), dtype=bool)
    unseen[:, 20:40, 20:40] = True
    guided = []
    for one in placed:
        guide = Guide(values=np.concatenate([one.truth, other]).astype(np.float32), valid=~unseen)
        guided.append(replace(one, task=replace(one.task, guides=(guide,))))
    seen = placed[0].task.window.valid.all(axis=0)
    around = context(guided[0].task.guides[0].values, ~unseen[0], (1.0, 1.0))
    relation = fit_relation(placed[0].truth[:, seen].T, around[:, seen].T, 3)
    network = Stub(value=1e9) if model else None
    alone = judge(placed, FILLS, [], network, RECIPE, SPREAD)
    helped = judge(guided, FILLS, [FittedGuide(label="other date", relation=relation)], network, RECIPE, SPREAD)
    assert helped.recipe.reference_weights[0] > 0.5
    assert helped.recipe.network_weight == alone.recipe.network_weight == 0
    assert helped.recipe.single == alone.recipe.single
    fits = float(misfit(np.float32(1)))
    assert fits * helped.recipe.referenced.factors.highest < alone.recipe.single.factors.highest


def test_a_harmful_network_gets_no_weight():
    """Do no harm: one number everywhere loses against the spline, and the recipe leaves it out."""
    verdict = judge(_placements(), FILLS, [], Stub(value=0.0), RECIPE, SPREAD)
    assert verdict.recipe.network_weight == 0
    row = verdict.rows[-1]
    assert "network" in row.method
    assert not row.chosen
    assert row.gain_db < 0


def test_an_oracle_gets_all_the_weight():
    """A network that knows the truth is used fully."""
    placed = _placements()

    @dataclass
    class Oracle(Stub):
        def predict(self, patches):
            truth = smooth((2, *SHAPE), "float32")
            said = []
            for patch in patches:
                seen = patch.valid[0]
                channel = int(np.argmin([np.abs(t - patch.filled[0])[seen].max() for t in truth]))
                said.append(Prediction(mean=truth[[channel]], scale=np.full_like(truth[[channel]], 5.0)))
            return said

    verdict = judge(placed, FILLS, [], Oracle(), RECIPE, SPREAD)
    assert verdict.recipe.network_weight == 1.0


def test_too_little_to_test_with_uses_the_default():
    """One window decides nothing, and the note says so."""
    verdict = judge(_placements(1), FILLS, [], Stub(), RECIPE, SPREAD)
    assert verdict.recipe == RECIPE
    assert "too few observed pixels" in verdict.note


def test_error_bars_of_references_are_not_the_networks():
    """Where the network has no say beside references its stated error says nothing; elsewhere it stands."""
    window = _window()
    draft = filled(RECIPE, window, window.values, where(window))
    draft = replace(draft, close=np.full_like(draft.mean, 10.0), trust=np.full_like(draft.mean, 0.25))
    raw = np.full_like(draft.mean, 2.0)
    silent = replace(RECIPE, network=flat(0.5), network_referenced=flat(0.0))
    assert np.allclose(raw_of(silent, draft, raw), 6.0)
    assert np.array_equal(raw_of(replace(silent, network_referenced=flat(0.1)), draft, raw), raw)
    assert np.array_equal(raw_of(replace(silent, network_referenced=None), draft, raw), raw)


@pytest.mark.parametrize(("close", "said", "heard"), [(1.0, 20.0, 20.0), (1.0, 9e5, 46.5), (70.0, 9e5, 70.0)])
def test_what_no_values_can_deviate_by_is_not_heard(close, said, heard):
    """Of a network's scale: half of a range of 4.65 typical scales at most, but outliers that are observed count."""
    window = _window()
    draft = filled(RECIPE, window, window.values, where(window))
    draft = replace(draft, close=np.full_like(draft.mean, close))
    recipe = replace(RECIPE, network=flat(1.0), typical=(20.0,) * len(RECIPE.typical))
    assert raw_of(recipe, draft, np.full_like(draft.mean, said)) == pytest.approx(heard)
