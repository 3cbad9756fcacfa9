"""Hide observed pixels in the file's own hole shapes, restore them, and let the result decide what is used.

Every choice a run makes about quality is made here and only here: which base fill, which references and how much of
them, how much of the network, and how wide the error bars are, each for the situation of a pixel (thin, deep or border
hole; distance to observed pixels). Weights follow the risk-averse rule mean + 2 standard errors, so a method must win
reliably to be used at all; a network that does not help gets weight 0.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec
from pipeline.models.base import Inpainter
from pipeline.references.reliance import UNUSED
from pipeline.restore.estimate import base_fill, filled
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Draft
from pipeline.selftest.errorbars import calibrated, cross_coverage, expected_rmse, tested_on
from pipeline.selftest.guides import FittedGuide
from pipeline.selftest.network import networked, proposals_of, refined_by, weigh_network
from pipeline.selftest.placing import Placement
from pipeline.selftest.references import weigh_references
from pipeline.selftest.scores import family_scores, psnr_of, row_of
from pipeline.selftest.trial import Drafts, Trial, channel_units, hidden_of, rotated, shares_of, trials_of
from pipeline.selftest.verdict import Row, Verdict, sentences
from pipeline.selftest.weights import better_one

_SPARSE = 0.1
"""Observed share of the pixels below which error bars are never narrower than the stored ones."""

Result = tuple[Drafts, list[NDArray[np.float32]]]


def judge(
    placements: Sequence[Placement],
    candidates: Sequence[FillSpec],
    guides: Sequence[FittedGuide],
    model: Inpainter | None,
    draft: Recipe,
    spread: NDArray[np.float64],
    *,
    forced: bool = False,
) -> Verdict:
    """Compare methods on the placements and return the decisions.

    Args:
        placements: windows with pseudo-holes; fewer than 2 mean that nothing can be decided.
        candidates: base fills to compare, the default first.
        guides: references and auxiliaries with their relations to the image.
        model: the network, or None.
        draft: recipe with the floor and limits of the file and the default fill.
        spread: robust range of each channel, `(c,)`.
        forced: use the first candidate whatever the scores; the others are only measured.
    """
    if len(placements) < 2:
        note = "too few observed pixels for a self-test: default spline only, stored calibration"
        return Verdict(recipe=draft, placements=len(placements), calibration="stored", note=note)
    trials = trials_of(placements)
    recipe = replace(draft, relations=tuple(g.relation for g in guides), references=(UNUSED,) * len(guides))
    recipe, rows = _choose_fills(trials, candidates, recipe, spread, forced=forced)
    alone = [_filled(recipe, trial) for trial in trials]
    recipe, tools, drafts = weigh_references(trials, guides, alone, recipe, spread)
    made: tuple[Result, Result] = ((drafts, [d.scale for d in drafts]), (alone, [d.scale for d in alone]))
    if model is not None:
        trials, drafts, alone = rotated(trials, drafts, alone)
        recipe, row, made = _with_network(trials, model, (drafts, alone), recipe, spread)
        tools.append(row)
    # pixels that no reference sees lie at the edges of its own mask: they say little about the middle of a cloud that
    # hides both dates, so what the image alone makes of all of them counts
    tested, plain = ([tested_on(*one, recipe) for one in zip(trials, *result, strict=True)] for result in made)
    sparse = _sparse(placements)
    recipe = calibrated(recipe, tested, plain, sparse=sparse)
    return Verdict(
        recipe=recipe,
        rows=(*rows, *tools),
        placements=len(placements),
        hidden_pixels=sum(t.error.size for t in tested),
        coverage_90=cross_coverage(recipe, tested, plain),
        predicted_rmse=expected_rmse(tested, spread),
        calibration="fitted" if recipe.single.pixels else "stored",
        decisions=sentences(recipe, rows, tools),
        note=_note(recipe, sparse=sparse),
    )


def _sparse(placements: Sequence[Placement]) -> bool:
    observed = [p.task.window.valid.mean() + p.hidden.mean() for p in placements]
    return bool(np.mean(observed) < _SPARSE)


def _note(recipe: Recipe, *, sparse: bool) -> str:
    if not recipe.single.pixels:
        return "too few hidden pixels to calibrate on: the stored calibration is used"
    return "few observed pixels: the uncertainty is at least that of the stored calibration" if sparse else ""


def _filled(recipe: Recipe, trial: Trial) -> Draft:
    window = trial.placement.task.window
    return filled(recipe, window, base_fill(recipe, window, trial.place, trial.fill), trial.place)


def _choose_fills(
    trials: Sequence[Trial],
    candidates: Sequence[FillSpec],
    recipe: Recipe,
    spread: NDArray[np.float64],
    *,
    forced: bool,
) -> tuple[Recipe, list[Row]]:
    """Try every candidate; each family of holes gets its best one."""
    tried = [_tried(trials, spec) for spec in candidates]
    usable = [good for good, _ in tried]
    scores = [psnr_of(trials, [t.made[spec.label] for t in trials], spread) for spec in candidates]
    default = 0 if forced or not any(usable) else usable.index(True)
    errors = [[hidden_of(t, t.made[spec.label] - t.placement.truth) for t in trials] for spec in candidates]
    units = channel_units(trials, errors[default])
    rivals = [
        np.concatenate([e / u for e, u in zip(error, units, strict=True)]) if good else None
        for error, good in zip(errors, usable, strict=True)
    ]
    unit = np.concatenate([hidden_of(t, t.unit) for t in trials])
    most = _tension(candidates[default])
    slack = [None if _tension(spec) > most else rival for spec, rival in zip(candidates, rivals, strict=True)]
    fields = zip((rivals, rivals, slack), shares_of(trials), strict=True)
    best = [default if forced else better_one(field, default, share, unit) for field, share in fields]
    rows = []
    for i, spec in enumerate(candidates):
        families = family_scores(trials, errors[default], errors[i], [float(b == i) for b in best])
        rows.append(
            Row(
                method=spec.label,
                psnr_db=scores[i],
                gain_db=scores[i] - scores[default],
                weight=sum(f.weight * f.pixels for f in families) / max(sum(f.pixels for f in families), 1),
                seconds=tried[i][1],
                chosen=i in best,
                families=families,
            )
        )
    thin, deep, border = (candidates[b] for b in best)
    chosen = replace(
        recipe,
        fill=deep,
        thin_fill=None if thin == deep else thin,
        border_fill=None if border == deep else border,
    )
    return chosen, rows


def _tension(spec: FillSpec) -> float:
    """Return the `t` of a spline, 0 of other fills.

    Where there is only one side to go by, a stiffer spline than the default gained 0.2 dB at best and lost 0.3 at
    worst, and the few holes that can be hidden at an edge do not tell which.
    """
    return float(spec.options.get("t", 0.0))


def _tried(trials: Sequence[Trial], spec: FillSpec) -> tuple[bool, float]:
    """Fill the trials; return whether the fill can be used on this image (NaN stands for it where not) and seconds."""
    started = time.perf_counter()
    try:
        for trial in trials:
            trial.fill(spec)
        usable = True
    except ArithmeticError:
        # the solver gave up
        usable = False
        for trial in trials:
            trial.made[spec.label] = np.full_like(trial.placement.truth, np.nan)
    return usable, time.perf_counter() - started


def _with_network(
    trials: Sequence[Trial],
    model: Inpainter,
    drafts: tuple[Drafts, Drafts],
    recipe: Recipe,
    spread: NDArray[np.float64],
) -> tuple[Recipe, Row, tuple[Result, Result]]:
    """Weigh the network over what the image alone gives, then over the references.

    Args:
        trials: what is hidden.
        model: the network.
        drafts: with references, and without.
        recipe: decisions so far.
        spread: robust range of each channel, `(c,)`.

    Returns:
        Recipe, row of the table, and drafts and raw errors as a block would make them, with references and without.
    """
    started = time.perf_counter()
    before, alone = drafts
    refined = own = refined_by(model, trials, alone, recipe)
    recipe = weigh_network(trials, model, alone, own, recipe, referenced=False)
    if any(recipe.reference_weights):
        refined = refined_by(model, trials, before, recipe)
        recipe = weigh_network(trials, model, before, refined, recipe, referenced=True)
    mixed = networked(trials, model, before, refined, recipe)
    proposals = proposals_of(trials, model, before, refined)
    row = row_of(f"network {model.name}", trials, before, proposals, mixed[0], spread)
    row = replace(row, chosen=recipe.network_weight > 0, seconds=time.perf_counter() - started)
    return recipe, row, (mixed, networked(trials, model, alone, own, recipe))
