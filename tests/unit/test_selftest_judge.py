"""The story of the self-test at its ends: few observed pixels, and what is said to people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.fills.base import FillSpec, Window
from pipeline.numerics.calibration import Calibration
from pipeline.numerics.situation import Situation
from pipeline.numerics.structure import Growth
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Task
from pipeline.selftest.errorbars import grown, growth_in
from pipeline.selftest.guides import FittedGuide
from pipeline.selftest.judge import against_the_test, judge
from pipeline.selftest.placing import Placement
from pipeline.selftest.verdict import FamilyScore, Row, sentences

FILL = FillSpec("nearest")
RECIPE = Recipe(fill=FILL, floor=(0.01,), typical=(1.0,), low=(-9.0,), high=(9.0,))


def _placements(observed: float, *, land: bool = False) -> list[Placement]:
    """Return two windows of 100 x 100 pixels of which so many are observed, before 400 of them are hidden.

    The others are holes, or land that is never restored.
    """
    shape = (1, 100, 100)
    order = np.random.default_rng(0).permutation(10_000)
    known = np.zeros(10_000, bool)
    known[order[: round(observed * 10_000)]] = True
    hidden = np.zeros(10_000, bool)
    hidden[order[:400]] = True
    known, hidden = known.reshape(shape), hidden.reshape(shape)
    truth = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    valid = known & ~hidden
    hole = hidden if land else ~valid
    window = Window(values=np.where(valid, truth, 0), valid=valid, hole=hole, spacing=(1.0, 1.0))
    task = Task(window=window, patch=64)
    return [Placement(task=task, truth=truth, hidden=hidden, concerned=hidden, start=(100 * k, 0)) for k in range(2)]


@pytest.mark.parametrize(
    ("observed", "land", "sparse"), [(0.095, False, True), (0.105, False, False), (0.095, True, False)]
)
def test_an_image_of_which_less_than_a_tenth_is_observed_is_sparse(observed, land, sparse):
    """Its error bars are never narrower than the stored ones, and the note says so; hidden pixels were observed.

    Land around a narrow sea is nothing that could be observed.
    """
    verdict = judge(_placements(observed, land=land), [FILL], [], None, RECIPE, np.array([4.0]))
    assert ("few observed pixels" in verdict.note) == sparse
    stored = Calibration().factors
    own = [min(curve.values) for curve in verdict.recipe.single.factors.all]
    assert all(a >= min(b.values) for a, b in zip(own, stored.all, strict=True)) or not sparse


@pytest.mark.parametrize(("first", "calm"), [(0, True), (50, False)], ids=["hidden in the calm half", "in the other"])
def test_what_is_hidden_where_nothing_varies_says_nothing_of_holes_where_values_do(first, calm):
    """Ice of 0 % on one side, of all kinds on the other, where the holes lie: without error here is not sound there."""
    columns = np.arange(100)
    placements = []
    for placement in _placements(1.0):
        truth = np.where(columns >= 50, placement.truth, np.float32(0))
        hidden = placement.hidden & (columns >= first) & (columns < first + 50)
        lost = np.roll(placement.hidden, 7, axis=1) & (columns >= 50) & ~hidden
        valid = ~hidden & ~lost
        window = replace(placement.task.window, values=np.where(valid, truth, 0), valid=valid, hole=~valid)
        task = replace(placement.task, window=window)
        placements.append(replace(placement, task=task, truth=truth, hidden=hidden, concerned=~valid))
    verdict = judge(placements, [FILL], [], None, RECIPE, np.array([4.0]))
    assert ("values hardly vary" in verdict.note) == calm
    assert 0.5 < verdict.predicted_rmse[0] < 2.5
    stored = Calibration().factors
    own = [min(curve.values) for curve in verdict.recipe.single.factors.all]
    assert all(a >= min(b.values) for a, b in zip(own, stored.all, strict=True)) or not calm


@pytest.mark.parametrize(("columns", "deep"), [(40, True), (95, False)])
def test_where_holes_are_far_deeper_than_what_could_be_hidden_bars_grow_as_the_image_does(columns, deep):
    """Dead pixels beside a cloud that reaches 60 px deep: on a slope bars are 60 times as wide there."""
    near = np.zeros((1, 100, 100), bool)
    near[..., :columns] = True
    placements = []
    for placement in _placements(1.0):
        hidden, valid = placement.hidden & near, placement.task.window.valid & near
        slope = np.broadcast_to(0.1 * np.add.outer(*(np.arange(-50, 50, dtype=np.float32),) * 2), valid.shape)
        window = replace(placement.task.window, values=np.where(valid, slope, 0), valid=valid, hole=~valid)
        task = replace(placement.task, window=window)
        placements.append(replace(placement, task=task, truth=slope, hidden=hidden, concerned=~valid))
    verdict = judge(placements, [FILL], [], None, RECIPE, np.array([4.0]))
    assert ("reach much farther" in verdict.note) == deep
    one, far = verdict.recipe.single.factor(_deep(1.0, 60.0))
    assert one < 0.6
    assert far / one == pytest.approx(60, rel=0.01)


def test_bars_of_references_keep_their_growth():
    """What two dates do not share is finer than what they show; where none leads both are one, and stored ones stay."""
    fitted = replace(Calibration(), pixels=500)
    growth = growth_in(_placements(1.0), np.array([4.0]))
    own = grown(replace(RECIPE, single=fitted, referenced=fitted), growth)
    assert own.single.growth != Growth()
    assert own.referenced == own.single
    led = grown(replace(RECIPE, single=fitted, referenced=replace(fitted, pixels=300)), growth)
    assert led.single.growth != led.referenced.growth == Growth()
    assert grown(RECIPE, growth) == RECIPE


@pytest.mark.parametrize(("leads", "gain", "said"), [(True, -4.4, True), (True, 0.2, False), (False, -4.4, False)])
def test_references_that_lead_against_the_self_test_are_named(leads, gain, said):
    """Where nearly all is hidden they lead whatever they gain; a loss is said, with the number that the table has."""
    guide = FittedGuide(label="reference 0 (summer.tif)", is_reference=True, leads=leads)
    row = Row(
        method=guide.label, psnr_db=20.0, gain_db=gain, weight=0.9, chosen=True, windows=6, seconds=0.0, families=()
    )
    note = against_the_test([guide], [row])
    assert ("reference 0 (summer.tif) (-4.4 dB), against" in note) == bool(note) == said


def _deep(*distances: float) -> Situation:
    share = np.ones(len(distances), np.float32)
    return Situation(distance=np.asarray(distances, np.float32), shares=np.stack([0 * share, share, 0 * share]))


def _score(family: str, weight: float) -> FamilyScore:
    return FamilyScore(family=family, pixels=100, gain_db=1.25, weight=weight)


def _row(method: str, *families: FamilyScore) -> Row:
    return Row(method=method, psnr_db=30.0, gain_db=1.0, weight=0.5, seconds=0.1, chosen=True, families=families)


@pytest.mark.parametrize(("weight", "said"), [(0.42, "net at 42 % (+1.25 dB)"), (0.004, "net at <1 % (+1.25 dB)")])
def test_sentences_name_each_family_and_its_tools(weight, said):
    """Families that were not tested are not spoken of; however little is used is said."""
    fills = [_row("nearest", _score("thin", 1.0), _score("deep", 1.0))]
    thin, deep = sentences(RECIPE, fills, [_row("net", _score("deep", weight))])
    assert thin == "thin holes (dead pixels, lines, lost slices): nearest, net not used"
    assert deep == f"wide holes (clouds, regions, blobs): nearest, {said}"


def test_sentences_on_many_guides_stay_short():
    """Sets of guides with a part are named by number, those without are counted; brackets of files stay whole."""
    fills = [_row("nearest", _score("deep", 1.0))]
    names = [f"reference {k} (s + {k})" for k in range(4)]
    sets = [names, names[:3], names[1:]]
    weights = {" + ".join(one): 0.6 * (one is names) for one in sets} | {
        name: 0.2 * (name == names[0]) for name in names
    }
    tools = [replace(_row(name, _score("deep", weight)), chosen=weight > 0) for name, weight in weights.items()]
    (said,) = sentences(RECIPE, fills, tools)
    together = "reference 0, reference 1, reference 2 and reference 3 together at 60 % (+1.25 dB)"
    unused = ", ".join(f"{name} not used" for name in names[1:])
    alone = f"reference 0 (s + 0) at 20 % (+1.25 dB), {unused}"
    assert said.endswith(f"nearest, {together}, {alone}, 2 sets of several guides together not used")


def test_sentences_say_why_a_guide_is_not_used():
    """What the table has beside its name."""
    fills = [_row("nearest", _score("deep", 1.0))]
    unused = replace(_row("reference 0 (may): too few pixels observed in both"), chosen=False)
    (said,) = sentences(RECIPE, fills, [unused])
    assert said.endswith("nearest, reference 0 (may) not used (too few pixels observed in both)")
