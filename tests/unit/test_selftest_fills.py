"""Fills race: those that cannot win any more are tried in no further window, and the choice is that of a full trial."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.fills import kriging
from pipeline.fills.base import FillSpec, Window
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Task
from pipeline.selftest.fills import choose_fills
from pipeline.selftest.placing import Placement
from pipeline.selftest.site import Site, sites_of

Error = float | NDArray[np.float32]

SPREAD = np.array([4.0])
FILLS = [FillSpec("tension", {"t": 0.5}), FillSpec("nearest"), FillSpec("harmonic"), FillSpec("tension", {"t": 0.6})]
ERRORS = {"tension t=0.5": 1.0, "nearest": 2.0, "harmonic": 0.95, "tension t=0.6": 0.9}
"""What each is off by: one is a hopeless case, one ahead of the default by 0.4 dB, one by 0.9."""


def _square() -> NDArray[np.bool_]:
    hidden = np.zeros((1, 40, 40), bool)
    hidden[:, 8:32, 8:32] = True
    return hidden


def _sites(errors: Mapping[str, Error], hidden: NDArray[np.bool_]) -> list[Site]:
    """Return six windows side by side whose truth is 0 and in which fills are off by so much, give or take."""
    shape = hidden.shape
    window = Window(values=np.zeros(shape, np.float32), valid=~hidden, hole=hidden, spacing=(1.0, 1.0))
    placements = [
        Placement(
            task=Task(window=window, patch=64),
            truth=window.values,
            hidden=hidden,
            concerned=hidden,
            start=(shape[1] * k, 0),
        )
        for k in range(6)
    ]
    sites, noise = sites_of(placements), np.random.default_rng(0)
    for site in sites:
        around = noise.normal(1, 0.02, shape).astype(np.float32)
        site.made.update({label: np.where(hidden, error * around, 0) for label, error in errors.items()})
    return sites


@pytest.mark.parametrize("forced", [False, True])
def test_fills_that_cannot_win_drop_out(forced):
    """A hopeless fill is tried in one window, one that is surely behind another in two, the others in all.

    Families of holes of which nothing was hidden keep the default.
    """
    recipe = Recipe(fill=FILLS[0], floor=(0.01,), typical=(1.0,), low=(-9.0,), high=(9.0,))
    chosen, rows, trials = choose_fills(_sites(ERRORS, _square()), FILLS, recipe, SPREAD, forced=forced)
    assert [row.windows for row in rows] == ([6, 2, 2, 2] if forced else [6, 1, 2, 6])
    assert chosen.fill == FILLS[0 if forced else 3]
    assert [row.chosen for row in rows] == [True, False, False, not forced]
    assert [round(row.gain_db, 1) for row in rows] == [0.0, -6.0, 0.4, 0.9]
    assert len(trials) == 6


def test_a_fill_that_may_still_be_better_stays():
    """As good as the default on average, ahead in some windows: all of them are needed to tell."""
    sites = _sites({**ERRORS, "harmonic": 2.0, "tension t=0.6": 1.0}, _square())
    for k, site in enumerate(sites):
        site.made["tension t=0.6"] = site.made["tension t=0.6"] * np.float32(0.9 if k % 2 else 1.08)
    recipe = Recipe(fill=FILLS[0], floor=(0.01,), typical=(1.0,), low=(-9.0,), high=(9.0,))
    chosen, rows, _ = choose_fills(sites, FILLS, recipe, SPREAD, forced=False)
    assert (rows[3].windows, chosen.fill) == (6, FILLS[0])


def _decided(hidden: NDArray[np.bool_], loses: NDArray[np.bool_], better: float) -> tuple[FillSpec, float]:
    """Return the fill that is used, and the gain of the last, dB, which is better but for what it `loses` by 3 %."""
    error = np.where(loses, np.float32(1.03), np.float32(better))
    sites = _sites(dict.fromkeys(ERRORS, 1.0) | {FILLS[3].label: error}, hidden)
    recipe = Recipe(fill=FILLS[0], floor=(0.01,), typical=(1.0,), low=(-9.0,), high=(9.0,))
    decided, rows, _ = choose_fills(sites, FILLS, recipe, SPREAD, forced=False)
    return decided.fill, rows[3].gain_db


@pytest.mark.parametrize(
    ("better", "worse_in", "chosen"),
    [(0.95, 2, 0), (0.95, 1, 3), (0.9, 2, 3), (0.95, 0, 3)],
    ids=["a quarter loses", "an eighth loses", "a quarter loses, the rest gains 0.9 dB", "none loses"],
)
def test_a_fill_must_be_worth_the_single_wide_holes_that_it_makes_worse(better, worse_in, chosen):
    """Each percent of the holes beyond a tenth costs 0.02 dB: a quarter of them more than a gain of 0.26 dB."""
    hidden, loses = np.zeros((2, 1, 64, 64), bool)
    for k, (y, x) in enumerate(product((2, 18, 34, 50), (4, 36))):
        hidden[:, y : y + 12, x : x + 24] = True
        loses[:, y : y + 12, x : x + 24] = k < worse_in
    decided, gain_db = _decided(hidden, loses, better)
    assert decided == FILLS[chosen]
    assert gain_db > 0.25


def test_wedges_of_stripes_are_no_single_holes():
    """Where much of what is hidden is thin, wide pieces are parts of wedges: a fill that gains on average is used."""
    hidden, loses = np.zeros((2, 1, 64, 64), bool)
    for k, y in enumerate((2, 18, 34, 50)):
        hidden[:, y : y + 10, 2:40] = True
        hidden[:, y : y + 10 : 3, 40:] = True
        loses[:, y : y + 10, 2:40] = k < 1
    decided, _ = _decided(hidden, loses, 0.95)
    assert decided == FILLS[3]


STIFF = [FillSpec("tension", {"t": t}) for t in (0.5, 0.75, 0.9, 1.0)]


@pytest.mark.parametrize(
    ("inside", "chosen"),
    [((1.0, 0.9, 0.8, 0.7), (1.0, 0.9)), ((1.0, 0.8, 0.9, 0.9), (0.75, 0.75)), ((1.0, 1.1, 1.2, 1.3), (0.5, 0.5))],
    ids=["smooth", "less so", "rough"],
)
def test_a_stiffer_spline_is_used_at_an_edge_only_where_wide_holes_want_one(inside, chosen):
    """At the edge all stiffer ones are better: as stiff as the choice inside may be used, but none beyond 0.9."""
    shape, sites = (1, 40, 40), []
    hidden = np.zeros(shape, bool)
    hidden[:, 12:32, 14:30], hidden[:, :, :8] = True, True
    window = Window(values=np.zeros(shape, np.float32), valid=~hidden, hole=hidden, spacing=(1.0, 1.0))
    at_edge, noise = np.arange(40) < 8, np.random.default_rng(0)
    placements = [
        Placement(
            task=Task(window=window, patch=64), truth=window.values, hidden=hidden, concerned=hidden, start=(40 * k, 0)
        )
        for k in range(6)
    ]
    sites = sites_of(placements)
    for site in sites:
        around = noise.normal(1, 0.02, shape).astype(np.float32)
        for spec, beside, within in zip(STIFF, (1.0, 0.9, 0.8, 0.7), inside, strict=True):
            error = np.where(at_edge, np.float32(beside), np.float32(within))
            site.made[spec.label] = np.where(hidden, error * around, np.float32(0))
    recipe = Recipe(fill=STIFF[0], floor=(0.01,), typical=(1.0,), low=(-9.0,), high=(9.0,))
    decided, _, _ = choose_fills(sites, STIFF, recipe, SPREAD, forced=False)
    assert tuple(fill.options["t"] for fill in decided.fills[1:]) == chosen


def test_kriging_of_thin_holes_begins_with_the_spline_of_wide_ones():
    """It was tried over another one; what is left of that in thin holes is not worth a second spline of the window."""
    shape = (1, 48, 48)
    hidden = np.zeros(shape, bool)
    hidden[:, 8:26, 8:26] = hidden[:, 34::4] = True
    thin = np.zeros(shape, bool)
    thin[:, 30:] = True
    window = Window(values=np.zeros(shape, np.float32), valid=~hidden, hole=hidden, spacing=(1.0, 1.0))
    placements = [
        Placement(
            task=Task(window=window, patch=64), truth=window.values, hidden=hidden, concerned=hidden, start=(48 * k, 0)
        )
        for k in range(6)
    ]
    fills = [FillSpec("tension", {"t": 0.5}), FillSpec("tension", {"t": 0.9}), FillSpec("kriging", {"t": 0.75})]
    sites, noise = sites_of(placements), np.random.default_rng(0)
    for site in sites:
        around = noise.normal(1, 0.02, shape)
        for spec, in_wide, in_thin in zip(fills, (1.0, 0.8, 1.1), (1.0, 1.0, 0.5), strict=True):
            site.made[spec.label] = np.where(hidden, around * np.where(thin, in_thin, in_wide), 0).astype(np.float32)
    recipe = Recipe(fill=fills[0], floor=(0.01,), typical=(1.0,), low=(-9.0,), high=(9.0,))
    decided, rows, _ = choose_fills(sites, fills, recipe, SPREAD, forced=False)
    assert decided.fills[:2] == (FillSpec("kriging", {"t": 0.9}), fills[1])
    assert [row.chosen for row in rows][1:] == [True, True]


def test_holes_that_do_not_count_are_not_kriged(monkeypatch):
    """Kriging sees the whole window, is asked about the holes that hidden pixels lie in, and gives them the same."""
    shape = (1, 48, 48)
    hidden, real = np.zeros(shape, bool), np.zeros(shape, bool)
    hidden[:, 8:16, 8:16], real[:, 30:38, 28:40] = True, True
    truth = np.random.default_rng(0).normal(size=shape).cumsum(axis=1).cumsum(axis=2).astype(np.float32)
    hole = hidden | real
    window = Window(values=np.where(hole, np.float32(0), truth), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    task = Task(window=window, patch=64)
    placement = Placement(task=task, truth=truth, hidden=hidden, concerned=hidden, start=(0, 0))
    asked, refined = [], kriging.refined
    monkeypatch.setattr(kriging, "refined", lambda w, *a, **o: (asked.append(w.asked), refined(w, *a, **o))[1])
    site = sites_of([placement])[0]
    made, begun = (site.fill(FillSpec(kind, {"t": 0.75})) for kind in ("kriging", "tension"))
    assert np.array_equal(asked[0], hidden)
    assert np.array_equal(made[hidden], refined(window, begun)[hidden])
    assert not np.array_equal(made[hidden], begun[hidden])
    assert np.array_equal(made[~hidden], truth[~hidden])
