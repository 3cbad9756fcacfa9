"""On which hidden pixels error bars are fitted, and what error is expected in the real holes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.fills.base import FillSpec
from pipeline.numerics.calibration import STORED_OF_REFERENCES, Z90, Calibration
from pipeline.numerics.situation import ERROR_KNOTS, Curve, Situation, curves_of, flat
from pipeline.references.reliance import Reliance
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Contamination
from pipeline.selftest import errorbars
from pipeline.selftest.errorbars import (
    Pixels,
    calibrated,
    cross_calibrated,
    cross_coverage,
    followed,
    widened,
)
from pipeline.selftest.expected import expected_rmse
from pipeline.selftest.trial import Trial
from tests.support_trials import trials_of, wide

HALF = Reliance(near=(0.5,) * 5, far=(0.5,) * 5)
RECIPE = Recipe(
    fill=FillSpec("nearest"),
    floor=(1.0,),
    typical=(1.0,),
    low=(-99.0,),
    high=(99.0,),
    references=(HALF,),
    relations=(None,),
)


def _pixels(n: int, channel: int = 0, raw: float = 1.0, trust: float = 0.0) -> Pixels:
    return Pixels(
        raw=np.full(n, raw, np.float32),
        close=np.full(n, raw, np.float32),
        place=wide((n,)),
        trust=np.full(n, trust, np.float32),
        stated=np.ones(n, np.float32),
        channel=np.full(n, channel),
    )


def _tested(
    error: np.ndarray, telling: int | None = None, trust: float = 0.0, holes: Pixels | None = None
) -> errorbars.Tested:
    """Return hidden pixels of raw error 1, of which the first few tell something."""
    seen = _pixels(error.size, trust=trust)
    return errorbars.Tested(
        raw=seen.raw,
        close=seen.close,
        place=seen.place,
        trust=seen.trust,
        stated=seen.stated,
        channel=seen.channel,
        error=error.astype(np.float32),
        telling=np.arange(error.size) < (error.size if telling is None else telling),
        weight=np.ones(error.size, np.float32),
        holes=_pixels(0) if holes is None else holes,
    )


def _factor(recipe: Recipe, trust: float = 0.0) -> float:
    calibration = recipe.referenced if trust else recipe.single
    return float(calibration.factor(wide((1,)))[0])


@pytest.mark.parametrize(("scale", "tells"), [(1.45, False), (1.55, True)])
def test_empty_background_tells_nothing(scale, tells):
    """Where values vary hardly more than the smallest scale of the file no error is to be expected."""
    (trial,) = trials_of(np.full((1, 1, 8, 8), 2.0), scale=scale)
    tested = errorbars.tested_on(trial, RECIPE, all_tell=False)
    assert (tested.telling == tells).all()
    assert (tested.error == 2).all()
    assert tested.error.size == 64
    assert tested.holes.raw.size == 0


def test_air_beside_a_head_tells_nothing():
    """Where the true values of a volume are all alike, however rough the window is; an image has no such air."""
    truth = np.zeros((1, 12, 12, 12), np.float32)
    truth[..., :6] = 10 * np.indices((12, 12, 6)).sum(axis=0) % 20
    (trial,) = trials_of(np.full((1, 1, 12, 12, 12), 2.0), scale=9.0)
    trial = replace(trial, placement=replace(trial.placement, truth=truth))
    tells = errorbars.tested_on(trial, RECIPE, all_tell=False).telling.reshape(12, 12, 12)
    assert tells[..., :8].all()
    assert not tells[..., 8:].any()
    assert errorbars.tested_on(
        trials_of(np.full((1, 1, 12, 12), 2.0), scale=9.0)[0], RECIPE, all_tell=False
    ).telling.all()


def test_hidden_pixels_count_as_often_as_holes_are_like_them():
    """Most are hidden in calm water, where nothing is wrong, a few on the coast, and the holes lie on the coast.

    Bars and what is told of them are those of the coast; where holes are like what is hidden all count alike.
    """
    shape = (1, 40, 50)
    hidden, scale, mean = np.ones(shape, bool), np.full(shape, 2.0), np.full(shape, 0.2)
    hidden[..., :4] = False
    scale[..., :4] = scale[..., -6:] = 8.0
    mean[..., -6:] = 32.0
    mean[:, ::2, -6:] = 16.0

    def tested(scale: np.ndarray) -> errorbars.Tested:
        (trial,) = trials_of(np.minimum(mean, 99)[None], scale=scale)
        trial = replace(trial, placement=replace(trial.placement, hidden=hidden))
        return errorbars.tested_all([trial], RECIPE, all_tell=False)[0]

    coast = tested(scale)
    assert coast.weight.mean() == pytest.approx(1)
    assert coast.weight[coast.raw > 4].sum() > 0.99 * coast.weight.sum()
    recipe = calibrated(RECIPE, [coast], [coast])
    assert _factor(recipe) == pytest.approx(4 / Z90)
    assert cross_coverage([coast], [np.full(coast.raw.size, 20.0)], 1)[0] == pytest.approx(0.5, abs=0.01)
    same = tested(np.where(np.arange(50) % 4 == 0, 8.0, 2.0) * np.ones(shape))
    assert same.weight == pytest.approx(1, abs=0.1)


def test_real_holes_are_kept_apart_from_hidden_pixels():
    """Their truth is unknown: they are only predicted for; clipping counts as in a run."""
    (trial,) = trials_of(np.full((1, 1, 8, 8), 200.0))
    hidden = trial.placement.hidden.copy()
    hidden[0, :, :2] = False
    tested = errorbars.tested_on(
        replace(trial, placement=replace(trial.placement, hidden=hidden)), RECIPE, all_tell=False
    )
    assert (tested.error.size, tested.holes.raw.size) == (48, 16)
    assert (tested.error == 99).all()


@pytest.mark.parametrize(("telling", "pixels", "factor"), [(0, 300, 1.2), (199, 300, 1.2), (200, 200, 2.0)])
def test_telling_pixels_are_fitted_on_alone_if_there_are_enough(telling, pixels, factor):
    """From 200 on; of fewer nothing can be fitted, and bars as of the silent ones are no narrower than the stored."""
    error = np.full(300, 0.1 * Z90)
    if telling >= 200:
        error[:telling] = 2.0 * Z90
    recipe = calibrated(RECIPE, [_tested(error, telling)], [_tested(error, telling)])
    assert recipe.single.pixels == pixels
    assert _factor(recipe) == pytest.approx(factor)


@pytest.mark.parametrize(("pixels", "used"), [(799_999, 799_999), (800_000, 400_000)])
def test_error_bars_are_fitted_on_a_thinned_out_choice(pixels, used, monkeypatch):
    """Of 800,000 hidden pixels every second one is used: more would take long and say no more."""
    monkeypatch.setattr(errorbars, "fit", lambda error, *_, **__: Calibration(pixels=error.size))
    tested = [_tested(np.ones(400_000)), _tested(np.ones(pixels - 400_000))]
    assert calibrated(RECIPE, tested, tested).single.pixels == used


def test_references_are_calibrated_where_one_carries_the_mean():
    """Half the error under references: half the bar there, the image's own elsewhere."""
    helped, alone = [_tested(np.full(300, 2.0), trust=0.5)], [_tested(np.full(300, 4.0))]
    recipe = calibrated(RECIPE, helped, alone)
    assert _factor(recipe) == pytest.approx(4 / Z90)
    assert _factor(recipe, 1.0) == pytest.approx(2 / Z90)
    less = [_tested(np.full(300, 2.0), trust=0.49)]
    assert calibrated(RECIPE, less, alone).referenced == recipe.single
    unused = replace(RECIPE, references=(), relations=())
    assert calibrated(unused, helped, alone).referenced == recipe.single


def test_sparse_images_are_never_surer_than_the_stored_calibration():
    """Tiny errors on a few pixels are luck."""
    tested = [_tested(np.full(300, 1e-3))]
    assert _factor(calibrated(RECIPE, tested, tested)) < 0.01
    recipe = widened(calibrated(RECIPE, tested, tested), Calibration())
    assert recipe.single.factors == recipe.referenced.factors == Calibration().at_least(Calibration()).factors
    dated = widened(calibrated(RECIPE, tested, tested), STORED_OF_REFERENCES)
    assert dated.single == recipe.single
    assert dated.referenced.factors == STORED_OF_REFERENCES.factors


def _errors(*windows: np.ndarray, channels: int = 1) -> list[Trial]:
    """Return windows of 1000 hidden pixels a channel that err so much, raw error 1; all of them tell something."""
    trials = trials_of(np.stack([window.reshape(channels, 20, 50) for window in windows]), scale=2.0)
    return [replace(trial, raw=np.ones_like(trial.raw)) for trial in trials]


def _covered(recipe: Recipe, trials: list[Trial], published=lambda recipe: recipe):
    tested = errorbars.tested_all(trials, recipe, all_tell=False)
    widths = cross_calibrated(trials, recipe, tested, tested, published)
    return cross_coverage(tested, widths, len(recipe.floor))


def test_each_half_is_covered_by_the_bars_of_the_other():
    """Equal halves cover nine in ten; errors of one half are all beyond the bars of a ten times better one."""
    error = np.linspace(0, 1, 1000)
    assert _covered(RECIPE, _errors(error, error))[0] == pytest.approx(0.9, abs=0.01)
    assert _covered(RECIPE, _errors(10 + error, error))[0] == pytest.approx(0.5, abs=0.01)
    calm = replace(RECIPE, floor=(2.0,))
    assert _covered(calm, _errors(error, error)) == (None, (None,))


def test_coverage_is_that_of_the_bars_that_are_published():
    """Stored factors of 1 in place of fitted ones, a rim that adds as much again, haze and doubted pixels around."""
    error = np.linspace(0, 4, 1000)
    trials = _errors(error, error)

    def wide(recipe: Recipe) -> Recipe:
        return replace(recipe, single=stored, referenced=stored)

    stored = Calibration(factors=curves_of([[1.0] * 7] * 3, ERROR_KNOTS), tested_to=(64.0,) * 3)
    assert _covered(RECIPE, trials, wide)[0] == pytest.approx(Z90 / 4, abs=0.001)
    rim = replace(RECIPE, rim=(Curve(knots=(1.0, 2.0), values=(1.0, 1.0)),))
    assert _covered(rim, trials, wide)[0] == pytest.approx(2**0.5 * Z90 / 4, abs=0.001)
    factor, left = np.full((1, 20, 50), 1.2, np.float32), np.full((1, 20, 50), 0.9, np.float32)
    around = Contamination(left=left, factor=factor)
    hazy = [replace(t, placement=replace(t.placement, task=replace(t.placement.task, around=around))) for t in trials]
    # haze that is little beside what the image varies by counts whole
    lively = replace(RECIPE, typical=(1e3,))
    assert _covered(lively, hazy, wide)[0] == pytest.approx(1.5 * Z90 / 4, abs=0.001)


def test_coverage_is_told_by_channel():
    """The interval of two channels together holds all of the better one and four in five of the other."""
    recipe = replace(
        RECIPE, floor=(1.0,) * 3, typical=(1.0,) * 3, low=(-99.0,) * 3, high=(99.0,) * 3, network_precision=()
    )
    good, bad = np.linspace(0, 0.1, 1000), np.linspace(0, 1, 1000)
    trials = _errors(*(np.concatenate([good, bad, bad]),) * 2, channels=3)
    halves = [t.of_channels([c]) for c in (0, 2) for t in trials]
    held, (first, second, third) = _covered(recipe, halves)
    assert (first, second) == (1.0, None)
    assert (held, third) == (pytest.approx(0.9, abs=0.01), pytest.approx(0.8, abs=0.01))


@pytest.mark.parametrize(("holes", "expected"), [(63, 2.0), (64, 6.0)])
def test_the_error_to_expect_is_that_of_pixels_alike(holes, expected):
    """Holes with three times the raw error of hidden pixels have three times their error; a few holes say nothing."""
    tested = [_tested(np.full(300, 2.0), holes=_pixels(holes, raw=3.0))]
    assert expected_rmse(tested, tested, np.array([1.0]), RECIPE, RECIPE) == (pytest.approx(expected),)


def test_a_channel_that_was_not_tested_is_as_good_as_the_others():
    """Relative to its own range of values."""
    tested = [_tested(np.full(300, 2.0))]
    assert expected_rmse(tested, tested, np.array([10.0, 50.0]), RECIPE, RECIPE) == (
        pytest.approx(2),
        pytest.approx(10),
    )
    assert expected_rmse([_tested(np.zeros(0))], [_tested(np.zeros(0))], np.array([10.0]), RECIPE, RECIPE) == (0.0,)


def _deep(distance: float) -> Pixels:
    """Return 300 pixels of deep holes, so far from observed ones, raw error 1."""
    return replace(_pixels(300), place=Situation(distance=np.full(300, distance, np.float32), shares=_DEEP))


_DEEP = np.stack([np.zeros(300), np.ones(300), np.zeros(300)]).astype(np.float32)


@pytest.mark.parametrize(("holes", "times"), [(2.0, 1.0), (64.0, 2.0)])
def test_the_error_to_expect_grows_where_error_bars_do(holes, times):
    """Hidden pixels lie up to 4 px deep: in holes 16 times as deep bars are twice as wide, and so is what is said."""
    hidden = _deep(4.0)
    tested = [replace(_tested(np.full(300, 2.0), holes=_deep(holes)), place=hidden.place)]
    fitted = calibrated(RECIPE, tested, tested)
    assert expected_rmse(tested, tested, np.ones(1), fitted, fitted) == (pytest.approx(2.0 * times, rel=0.02),)


def test_the_error_to_expect_is_that_of_wider_bars_where_little_was_tested():
    """Bars that are widened to the stored ones are ten times those that the hidden pixels gave."""
    tested = [replace(_tested(np.full(300, 0.11 * Z90), holes=_deep(2.0)), place=_deep(2.0).place)]
    fitted = calibrated(RECIPE, tested, tested)
    wider = widened(fitted, Calibration())
    assert expected_rmse(tested, tested, np.ones(1), fitted, wider) == (pytest.approx(1.1 * Z90, rel=0.02),)


def test_windows_that_differ_are_not_taken_for_channels_that_do():
    """The network halves all errors, on one channel a window; one window errs five times as much, in both channels."""

    def window(error: float, channels: list[int]) -> errorbars.Tested:
        parts = [_pixels(300, channel) for channel in channels]
        channel = np.concatenate([part.channel for part in parts])
        many = _tested(np.full(channel.size, error), holes=replace(_pixels(channel.size), channel=channel))
        return replace(many, channel=channel)

    drafts = [window(2.0, [0, 1]), window(10.0, [0, 1])]
    tested = [window(1.0, [0]), window(5.0, [1])]
    first, second = expected_rmse(tested, drafts, np.array([1.0, 1.0]), RECIPE, RECIPE)
    assert first == pytest.approx(second)
    assert first == pytest.approx(0.5 * np.sqrt((2.0**2 + 10.0**2) / 2))


@pytest.mark.parametrize(("network", "power"), [(0.5, 0.5), (0.0, 1.0)])
def test_bars_follow_a_network_as_far_as_errors_do(network, power):
    """It says a hundred times the error where there is ten times as much: then bars are right for both."""
    calm, rough = _tested(np.linspace(0, 1, 1000)), _tested(np.linspace(0, 10, 1000), holes=_pixels(64, raw=100.0))
    rough = replace(rough, raw=np.full(1000, 100, np.float32))
    recipe = replace(RECIPE, network=flat(network))
    recipe, tested, plain = followed(recipe, [calm, rough], [calm, rough])
    assert recipe.error_power == pytest.approx(power, abs=0.01)
    assert tested[1].raw == pytest.approx(100**power, rel=0.05)
    assert tested[1].holes.raw == pytest.approx(100**power, rel=0.05)
    factor = _factor(calibrated(recipe, tested, plain))
    held = [np.mean(np.abs(t.error) <= Z90 * factor * t.raw) for t in plain]
    assert held == pytest.approx([0.9, 0.9] if network else [0.8, 1.0], abs=0.03)


def test_what_no_network_states_keeps_its_power():
    """References carry some pixels, where the network has no part: their raw error is the deviation close by."""
    calm, rough = _tested(np.linspace(0, 1, 1000)), _tested(np.linspace(0, 10, 1000))
    rough = replace(rough, raw=np.full(1000, 100, np.float32), holes=_pixels(64, raw=100.0))
    local = replace(rough, error=10 * rough.error, stated=np.zeros(1000, np.float32))
    recipe, tested, _ = followed(replace(RECIPE, network=flat(0.5)), [local], [calm, rough, local])
    assert recipe.error_power == pytest.approx(0.5, abs=0.01)
    assert tested[0].raw == pytest.approx(100.0)
    assert tested[0].holes.raw == pytest.approx(10.0, rel=0.05)


@pytest.mark.parametrize(("reliability", "share"), [(0.5, 1.0), (0.9, 1 / 3), (1.0, None), (0.0, None)])
def test_raw_errors_follow_how_well_references_fit(reliability, share):
    """Reliability says how large the squared error is beside that of a local mean; none is none at all, or endless."""
    (trial,) = trials_of(np.full((1, 1, 8, 8), 2.0), scale=4.0)
    alone = errorbars.tested_on(trial, RECIPE, all_tell=True)
    fits = replace(trial.draft, reliability=np.full_like(trial.draft.reliability, reliability))
    led = errorbars.tested_on(trial.with_draft(fits), RECIPE, all_tell=True)
    ratio = float(np.mean((led.raw / alone.raw) ** 2))
    assert ratio == pytest.approx(share, rel=1e-3) if share else 0.01 < ratio < 100
