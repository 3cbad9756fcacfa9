"""Several guides at once: what they say together, where only some see, and when one is asked alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.fills.base import FillSpec, Window
from pipeline.references.context import context
from pipeline.references.joint import Joint, common_sets, guides_of, stacked
from pipeline.references.relation import fit_relation
from pipeline.references.reliance import UNUSED, Reliance
from pipeline.restore.codes import CLASSICAL, OBSERVED, REFERENCE, SEVERAL
from pipeline.restore.estimate import classical, code_of, guide_of
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Guide, Task
from pipeline.selftest import references
from pipeline.selftest.guides import FittedGuide
from pipeline.selftest.references import weigh_references
from pipeline.selftest.relations import without_background
from tests.support_trials import trials_of
from tests.unit.test_references import block, error, hide, texture

SHAPE = (96, 96)
FULL = Reliance(near=(1.0,) * 5, far=(1.0,) * 5)
EVERYWHERE = np.ones((1, *SHAPE), bool)


def _related(window: Window, guides: list[Guide], numbers: tuple[int, ...]) -> Joint:
    """Fit guides together on what is observed and seen by all of them."""
    offsets = ((),) * len(numbers)
    values, (seen,) = stacked([(guides[k].values, guides[k].valid) for k in numbers], offsets)
    use = window.valid.all(axis=0) & seen
    around = context(values, seen, window.spacing)
    relation = fit_relation(window.values[:, use].T, around[:, use].T, len(values))
    return Joint(guides=numbers, offsets=offsets, relation=relation)


def _task(window: Window, guides: list[Guide], base: np.ndarray) -> Task:
    return Task(window=window, guides=tuple(guides), base=base, patch=64)


def _recipe(relations: tuple, references: tuple) -> Recipe:
    return Recipe(
        fill=FillSpec("tension"),
        floor=(1.0,),
        typical=(100.0,),
        low=(-1e6,),
        high=(1e6,),
        relations=relations,
        references=references,
    )


def _two_halves() -> tuple[np.ndarray, np.ndarray, Window, list[Guide], np.ndarray]:
    """Return an image that is the difference of two guides much livelier than itself, with a hole in the middle."""
    truth, shared = texture(1, SHAPE, 1), 5 * texture(1, SHAPE, 2)
    hole = block(SHAPE, (30, 30), (66, 66))
    window, base = hide(truth, hole)
    guides = [Guide(values=values.astype(np.float32), valid=EVERYWHERE) for values in (truth + shared, shared)]
    return truth, hole, window, guides, base


def test_two_guides_that_are_only_good_together():
    """One relation of both finds their difference; one after the other, neither says anything."""
    truth, hole, window, guides, base = _two_halves()
    task = _task(window, guides, base)
    joint = _related(window, guides, (0, 1))
    together = classical(_recipe((joint, None, None), (FULL, UNUSED, UNUSED)), task)
    alone = [_related(window, guides, (k,)).relation for k in (0, 1)]
    in_turn = classical(_recipe(tuple(alone), (FULL, FULL)), task)
    assert error(truth, together.mean, hole) < 0.1 * error(truth, in_turn.mean, hole)
    assert error(truth, together.mean, hole) < 0.1 * truth.std()
    assert (together.origin == np.where(window.hole, SEVERAL, OBSERVED)).all()


@pytest.mark.parametrize(("leader", "code"), [(None, SEVERAL), (0, REFERENCE), (1, REFERENCE + 1)])
def test_the_code_names_the_guide_that_leads(leader, code):
    """Several guides have a code of their own unless one alone would do."""
    _, _, window, guides, _ = _two_halves()
    joint = replace(_related(window, guides, (0, 1)), leader=leader)
    assert code_of(joint, joint.guides) == code


def test_where_one_guide_sees_nothing_the_other_is_asked():
    """The relation of both holds where both see; in the rest of the hole the one that sees stands alone."""
    truth, hole, window, _, base = _two_halves()
    seen = EVERYWHERE & (np.arange(SHAPE[1]) < 48)
    plain = Guide(values=(2 * truth + 7).astype(np.float32), valid=EVERYWHERE)
    noisy = Guide(values=(truth + texture(1, SHAPE, 9)).astype(np.float32), valid=seen)
    task = _task(window, [plain, noisy], base)
    relations = (_related(window, [plain, noisy], (0, 1)), _related(window, [plain], (0,)).relation, None)
    draft = classical(_recipe(relations, (FULL, FULL, UNUSED)), task)
    only = hole & ~seen[0]
    assert (draft.origin[0][only] == REFERENCE).all()
    assert error(truth, draft.mean, only) < 0.2 * error(truth, base, only)
    joint_only = classical(_recipe((relations[0], None, None), (FULL, UNUSED, UNUSED)), task)
    assert (joint_only.origin[0][only] == CLASSICAL).all()


def test_what_guides_show_together_is_seen_by_all_of_them():
    """Bands follow one another; a pixel that one of them lacks, or that is not a number, is not seen."""
    first, second = np.ones((2, *SHAPE), np.float32), np.full((1, *SHAPE), 3, np.float32)
    second[0, 5, 5] = np.nan
    missing = EVERYWHERE.copy()
    missing[0, 0, 0] = False
    values, seen = stacked([(first, missing), (second, EVERYWHERE)], ((), ()))
    assert values.shape == (3, *SHAPE)
    assert [tuple(p) for p in np.argwhere(~seen[0])] == [(0, 0), (5, 5)]
    task = _task(hide(first[:1], ~EVERYWHERE[0])[0], [Guide(values=first, valid=missing)] * 2, first[:1])
    joint = Joint(guides=(0, 1), offsets=((), ()), relation=None)  # type: ignore[arg-type]
    assert guide_of(task, joint, (0, 1)).values.shape == (4, *SHAPE)


def test_relations_say_which_guides_they_are_about():
    """Joint ones name theirs and come first, the others stand for one guide each."""
    joint = Joint(guides=(0, 2), offsets=((), ()), relation=None)  # type: ignore[arg-type]
    assert guides_of([joint, None, None, None]) == [(0, 2), (0,), (1,), (2,)]
    assert guides_of([None, None]) == [(0,), (1,)]
    recipe = _recipe((joint, None, None, None), (FULL, UNUSED, replace(UNUSED, far=(0.5,) * 5), UNUSED))
    assert recipe.reference_weights == (1.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("patterns", "sets"),
    [
        ({(1, 1): 100}, [(0, 1)]),
        ({(1, 1): 9, (1, 0): 91}, []),
        ({(1, 1): 10, (1, 0): 90}, [(0, 1)]),
        ({(1, 1, 1): 50, (1, 1, 0): 30, (0, 1, 1): 20}, [(0, 1, 2), (0, 1), (1, 2)]),
        ({(1, 1, 0): 24, (1, 0, 1): 26, (0, 1, 1): 25, (1, 1, 1): 25}, [(0, 1, 2), (0, 2), (1, 2)]),
    ],
)
def test_sets_that_are_common_in_the_holes_have_a_relation(patterns, sets):
    """Those of a tenth of the hole pixels, at most the three most frequent, the largest first."""
    seen = np.array([row for row, count in patterns.items() for _ in range(count)], bool).T
    assert common_sets(seen, [1] * len(seen)) == sets


def test_a_relation_has_48_bands_at_most():
    """Of thirteen dates of four bands the first twelve."""
    assert common_sets(np.ones((13, 5), bool), [4] * 13) == [tuple(range(12))]


def _weighed(first: np.ndarray, second_sees: float = 1.0, *, times: int = 1) -> tuple[Recipe, list]:
    """Weigh two guides, together and alone: one shows `first`, the other the truth; drafts are 0.

    Args:
        first: `(1, 64, 64)`.
        second_sees: share of the columns that the other one sees.
        times: how often each of six windows is tested with the same pixels hidden.
    """
    rng = np.random.default_rng(4)
    truth = rng.normal(0, 10, (1, 64, 64)).astype(np.float32)
    hidden = np.zeros((1, 64, 64), bool)
    hidden[:, 8:56, 8:56] = True
    valid = np.broadcast_to(np.arange(64) < 64 * second_sees, (1, 64, 64))
    trials = []
    for trial in trials_of(np.full((6, 1, 64, 64), 0.0), hidden=hidden):
        placement = trial.placement
        window = replace(placement.task.window, values=np.where(hidden, 0, truth))
        guides = (Guide(values=first, valid=np.ones_like(valid)), Guide(values=truth, valid=valid))
        task = replace(placement.task, window=window, guides=guides)
        trials.append(replace(trial, placement=replace(placement, task=task, truth=truth)))
    window = Window(values=truth, valid=np.ones_like(hidden), hole=np.zeros_like(hidden), spacing=(1.0, 1.0))
    guides = list(trials[0].placement.task.guides)
    both = _related(window, guides, (0, 1))
    alone = [_related(window, guides, (k,)).relation for k in (0, 1)]
    fitted = [FittedGuide(label=str(k), relation=r) for k, r in enumerate((both, *alone))]
    recipe = _recipe(tuple(g.relation for g in fitted), (UNUSED,) * 3)
    recipe, rows, _ = weigh_references(trials * times, fitted, recipe, np.array([40.0]))
    return recipe, rows


def test_what_is_hidden_again_at_the_same_place_counts_once(monkeypatch):
    """Where few places are left, holes are hidden where they were before, and that tells no more than once."""
    poor = np.random.default_rng(5).normal(0, 1, (1, 64, 64)).astype(np.float32)
    once = _weighed(poor)[0].references
    judged = []
    weigh = references.careful
    monkeypatch.setattr(
        references, "careful", lambda said, *rest, **more: judged.append(said) or weigh(said, *rest, **more)
    )
    assert _weighed(poor, times=3)[0].references == once
    assert [len(said) for said in judged] == [6]


def test_a_guide_that_was_heard_with_others_is_not_asked_again():
    """Its line in the table says so, and it costs nothing."""
    recipe, rows = _weighed(np.random.default_rng(5).normal(0, 1, (1, 64, 64)).astype(np.float32))
    assert recipe.references[0].highest > 0.9
    assert [row.chosen for row in rows] == [True, False, False]
    assert all("together" in row.method for row in rows[1:])


def test_a_guide_is_asked_alone_where_others_see_nothing():
    """The second guide sees three quarters; the first is weighed for the rest, the second has nothing to add."""
    _, rows = _weighed(np.random.default_rng(5).normal(0, 1, (1, 64, 64)).astype(np.float32), 0.75)
    assert "together" not in rows[1].method
    assert "together" in rows[2].method


def test_a_cloud_of_one_guide_does_not_spoil_what_the_other_shows():
    """Nobody says where the second guide is cloudy: the relation of both learns it, the clear one helps."""
    truth = texture(1, SHAPE, 11)
    hole = block(SHAPE, (20, 20), (76, 76))
    window, base = hide(truth, hole)
    cloud = texture(1, SHAPE, 12, width=6.0) > 1050
    clear = Guide(values=texture(1, SHAPE, 13) * 0.3 + truth, valid=EVERYWHERE)
    cloudy = Guide(values=np.where(cloud, np.float32(3000), truth).astype(np.float32), valid=EVERYWHERE)
    task = _task(window, [clear, cloudy], base)
    relations = (_related(window, [clear, cloudy], (0, 1)), _related(window, [clear], (0,)).relation, None)
    by_reliability = Reliance(near=(0.0, 0.0, 0.5, 1.0, 1.0), far=(0.0, 0.0, 0.5, 1.0, 1.0))
    draft = classical(_recipe(relations, (by_reliability, by_reliability, UNUSED)), task)
    alone = classical(_recipe((relations[1],), (by_reliability,)), task)
    under, beside = hole & cloud[0], hole & ~cloud[0]
    assert error(truth, draft.mean, under) < 0.7 * error(truth, base, under)
    assert error(truth, draft.mean, under) < 1.25 * error(truth, alone.mean, under)
    assert error(truth, draft.mean, beside) < 0.7 * error(truth, alone.mean, beside)


def test_an_empty_background_is_hardly_learned_from():
    """One in twenty of the rows that have the commonest value everywhere; none is lost where nothing is common."""
    rows = np.random.default_rng(6).normal(0, 1, (400, 2)).astype(np.float32)
    assert without_background(rows).all()
    rows[100:] = 0
    rows[100:150, 1] = 1
    some = without_background(rows)
    assert some[:150].all()
    assert some[150:].sum() == 13
    assert without_background(rows[:0]).size == 0
