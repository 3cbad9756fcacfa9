"""Hide observed pixels in the file's own hole shapes, restore them, and let the result decide what is used.

Every choice a run makes about quality is made here and only here: which base fill, which references and how much of
them, how much of the network, and how wide the error bars are, each for the situation of a pixel (thin, deep or border
hole; distance to observed pixels). Weights follow the risk-averse rule mean + 2 standard errors, so a method must win
reliably to be used at all; a network that does not help gets weight 0.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errorbars import Tested, calibrated, cross_coverage, expected_rmse, tested_on
from pipeline.fills.base import FillSpec
from pipeline.models.base import Inpainter
from pipeline.pseudoholes import Placement
from pipeline.quality.decide import Evidence, better_one, choose_weights, pooled, rising
from pipeline.quality.situation import KNOTS, Curves, curves_of, hats
from pipeline.references import REACH, RELIABILITY, UNUSED, ReferenceFill, Relation, Reliance, Siblings, consult
from pipeline.restore import (
    Draft,
    Recipe,
    asked,
    base_fill,
    filled,
    limited,
    narrowed,
    refine,
    with_network,
    with_reference,
)
from pipeline.trials import (
    NOTICEABLE_DB,
    Drafts,
    Trial,
    channel_units,
    evidence_of,
    family_scores,
    harmed,
    hidden_of,
    piece_gains,
    psnr_of,
    rotated,
    row_of,
    shares_of,
    step_limit,
    trials_of,
)
from pipeline.verdict import Row, Verdict, sentences

_SCREENED = 6
"""Placements on which every candidate fill is tried; the chosen ones are on all."""
_CAUTION = (1.0, 0.8, 0.6, 0.45, 0.3)
_HARMED = 0.1
"""Share of single wide pseudo-holes that the network may make noticeably worse, in one channel, before its weights are
lowered; they have won on average, so not to nothing."""
_SCALES = (1.0, 0.8, 0.6, 0.4, 0.2)
_GATES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""What is tried to spare single pieces of the image the harm of a reference that helps on average."""
_TOLERATED, _WORTH_DB = 0.02, 3.0
"""Share of noticeably worse pieces that is taken for chance, and what one more percent must gain, in 1/100 dB."""
_SPARSE = 0.1
"""Observed share of the pixels below which error bars are never narrower than the stored ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedGuide:
    """A reference or auxiliary: its name in tables, its relation to the image (None: too few common pixels)."""

    label: str
    relation: Relation | Siblings | None


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
    drafts = [_filled(recipe, trial) for trial in trials]
    alone, single = drafts, recipe
    recipe, tools, drafts = _weigh_references(trials, guides, drafts, recipe, spread)
    raws = [draft.scale for draft in drafts]
    if model is not None:
        trials, drafts, alone = rotated(trials, drafts, alone)
        recipe, row, drafts, raws = _weigh_network(trials, model, drafts, recipe, spread)
        tools.append(row)
    tested = [tested_on(t, d, raw, recipe) for t, d, raw in zip(trials, drafts, raws, strict=True)]
    plain = tested
    if any(recipe.reference_weights):
        single = replace(single, network=recipe.network, network_limit=recipe.network_limit)
        plain = _without_references(trials, model, alone, single)
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
    """Try every candidate on a few placements; each family of holes gets its best one."""
    trials = trials[:: max(1, len(trials) // _SCREENED)]
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


def _weigh_references(
    trials: Sequence[Trial],
    guides: Sequence[FittedGuide],
    drafts: Drafts,
    recipe: Recipe,
    spread: NDArray[np.float64],
) -> tuple[Recipe, list[Row], Drafts]:
    """Weigh one guide after the other, each over what the earlier ones made."""
    rows = []
    for k, guide in enumerate(guides):
        recipe, row, drafts = _weigh_reference(trials, k, guide, drafts, recipe, spread)
        rows.append(row)
    return recipe, rows, drafts


def _weigh_reference(
    trials: Sequence[Trial],
    k: int,
    fitted: FittedGuide,
    drafts: Drafts,
    recipe: Recipe,
    spread: NDArray[np.float64],
) -> tuple[Recipe, Row, Drafts]:
    started = time.perf_counter()
    if fitted.relation is None:
        nan = float("nan")
        name = f"{fitted.label}: too few pixels observed in both"
        return recipe, Row(method=name, psnr_db=nan, gain_db=nan, weight=0.0, seconds=0.0, chosen=False), drafts
    results = []
    for trial, draft in zip(trials, drafts, strict=True):
        task = trial.placement.task
        guide = task.guides[k]
        results.append(consult(task.window, guide.values, guide.valid, fitted.relation, draft.mean, draft.reliability))
    proposals = [np.where(r.usable, r.values, d.mean) for r, d in zip(results, drafts, strict=True)]
    limit = step_limit(trials, drafts, proposals)
    taken = [limited(d, p, limit) for d, p in zip(drafts, proposals, strict=True)]
    cells = [_reliance_cells(t, r) for t, r in zip(trials, results, strict=True)]
    evidence = evidence_of(trials, drafts, taken, cells)
    reliance = _careful(trials, drafts, results, taken, _reliance(evidence, limit))
    mixed = [with_reference(d, r, k, reliance) for d, r in zip(drafts, results, strict=True)]
    recipe = replace(recipe, references=tuple(reliance if i == k else w for i, w in enumerate(recipe.references)))
    row = row_of(fitted.label, trials, drafts, proposals, mixed, spread)
    return recipe, replace(row, chosen=reliance.highest > 0, seconds=time.perf_counter() - started), mixed


def _reliance_cells(trial: Trial, result: ReferenceFill) -> NDArray[np.float64]:
    """Return the share of each cell in the hidden pixels: near with rising reliability, then far; none if unusable."""
    hidden = trial.placement.hidden
    reliability, distance = result.reliability[hidden], trial.place.distance[hidden]
    position = np.interp(reliability, RELIABILITY, np.arange(len(RELIABILITY)))
    level = np.maximum(0.0, 1.0 - np.abs(position - np.arange(len(RELIABILITY))[:, None]))
    level = level * result.usable[hidden]
    reach = hats(distance, REACH)
    return np.concatenate([level * reach[0], level * reach[1]])


def _reliance(evidence: Evidence, limit: float | None) -> Reliance:
    """Decide the weights of a reference: none rises where reliability falls."""
    weights = choose_weights(evidence)
    counts = evidence.cells.sum(axis=1)
    n = len(RELIABILITY)
    rows = []
    for part in (slice(0, n), slice(n, 2 * n)):
        known = [0.0 if w is None and k == 0 else w for k, w in enumerate(weights[part])]
        rows.append(rising(pooled(known), counts[part]) if any(w is not None for w in weights[part]) else None)
    near, far = rows[0] or rows[1], rows[1] or rows[0]
    if near is None or far is None:
        return UNUSED
    return Reliance(near=tuple(near), far=tuple(far), limit=limit)


def _careful(
    trials: Sequence[Trial],
    drafts: Drafts,
    results: Sequence[ReferenceFill],
    taken: Sequence[NDArray[np.float32]],
    reliance: Reliance,
) -> Reliance:
    """Scale the weights of a reference and gate them by region, so that what it gains is worth the pieces it harms.

    The weights have won on average. Under a cloud of the reference an average says little: there the spline stands
    only if the region as a whole is seen to be unreliable.
    """
    if reliance.highest == 0:
        return reliance
    error = [hidden_of(t, d.mean - t.placement.truth) for t, d in zip(trials, drafts, strict=True)]
    around = [hidden_of(t, r.around) for t, r in zip(trials, results, strict=True)]
    full = [
        hidden_of(t, r.usable * reliance.ungated(r.reliability, d.place.distance) * (p - d.mean))
        for t, d, r, p in zip(trials, drafts, results, taken, strict=True)
    ]

    def worth(scale: float, gate: float) -> float:
        opened = [replace(reliance, gate=gate).open(a) for a in around]
        after = [e + scale * o * step for e, o, step in zip(error, opened, full, strict=True)]
        gains = piece_gains(trials, error, after)
        harmed_share = float((gains < -NOTICEABLE_DB).mean()) if gains.size else 0.0
        return float(gains.mean()) - _WORTH_DB * max(0.0, harmed_share - _TOLERATED) if gains.size else 0.0

    tried = {(scale, gate): worth(scale, gate) for gate in _GATES for scale in _SCALES}
    scale, gate = max(tried, key=lambda key: tried[key])
    if tried[scale, gate] < 0:
        return replace(UNUSED, limit=reliance.limit)
    near, far = (tuple(round(scale * w, 3) for w in row) for row in (reliance.near, reliance.far))
    return replace(reliance, near=near, far=far, gate=gate)


def _weigh_network(
    trials: Sequence[Trial], model: Inpainter, drafts: Drafts, recipe: Recipe, spread: NDArray[np.float64]
) -> tuple[Recipe, Row, Drafts, list[NDArray[np.float32]]]:
    """Return the recipe with the network's weights, its row, and drafts and raw errors as a block would make them."""
    started = time.perf_counter()
    refined = _refined(trials, model, drafts, recipe)
    proposals = [
        np.where(asked(model, t.placement.task.window), mean, d.mean)
        for t, d, (mean, _) in zip(trials, drafts, refined, strict=True)
    ]
    limit = step_limit(trials, drafts, proposals)
    taken = [limited(d, p, limit) for d, p in zip(drafts, proposals, strict=True)]
    evidence = evidence_of(trials, drafts, taken, [_family_cells(t) for t in trials])
    weights = choose_weights(evidence)
    rows, first = [], 0
    for knots in KNOTS:
        rows.append(pooled(weights[first : first + len(knots)]))
        first += len(knots)
    if all(w is None for w in weights[1 + len(KNOTS[1]) :]):
        # nothing at an image edge could be hidden: such holes are deep ones of which less is known
        rows[2] = [0.5 * w for w in rows[1]]
    recipe = replace(recipe, network=_cautious(trials, drafts, taken, curves_of(rows)), network_limit=limit)
    mixed, raws = _networked(trials, model, drafts, refined, recipe)
    row = row_of(f"network {model.name}", trials, drafts, proposals, mixed, spread)
    used = recipe.network_weight > 0
    return recipe, replace(row, chosen=used, seconds=time.perf_counter() - started), mixed, raws


def _cautious(trials: Sequence[Trial], drafts: Drafts, taken: Sequence[NDArray[np.float32]], weights: Curves) -> Curves:
    """Lower the weights of wide holes until few single ones get worse: an average hides the odd one out."""
    before = [hidden_of(t, d.mean - t.placement.truth) for t, d in zip(trials, drafts, strict=True)]
    steps = [hidden_of(t, weights.at(t.place) * (p - d.mean)) for t, d, p in zip(trials, drafts, taken, strict=True)]

    def harm(share: float) -> float:
        return harmed(trials, before, [e + share * step for e, step in zip(before, steps, strict=True)])

    share = next((share for share in _CAUTION if not harm(share) > _HARMED), _CAUTION[-1])
    thin, deep, border = (
        [round(factor * w, 3) for w in curve.values]
        for factor, curve in zip((1.0, share, share), weights.all, strict=True)
    )
    return curves_of([thin, deep, border])


def _refined(
    trials: Sequence[Trial], model: Inpainter, drafts: Drafts, recipe: Recipe
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    return [
        refine(model, [t.placement.task], [d.mean], narrowed(recipe, t.channels))[0]
        for t, d in zip(trials, drafts, strict=True)
    ]


def _networked(
    trials: Sequence[Trial],
    model: Inpainter,
    drafts: Drafts,
    refined: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    recipe: Recipe,
) -> tuple[Drafts, list[NDArray[np.float32]]]:
    if recipe.network_weight == 0:
        return drafts, [draft.scale for draft in drafts]
    mixed = [
        with_network(d, mean, asked(model, t.placement.task.window), recipe)
        for t, d, (mean, _) in zip(trials, drafts, refined, strict=True)
    ]
    return mixed, [raw for _, raw in refined]


def _family_cells(trial: Trial) -> NDArray[np.float64]:
    """Return the share of each knot of each family in the hidden pixels; knots see part of their neighbours' pixels."""
    hidden = trial.placement.hidden
    distance = trial.place.distance[hidden]
    cells = []
    for share, knots in zip(trial.place.shares, KNOTS, strict=True):
        hat = hats(distance, knots)
        wide = hat.copy()
        wide[1:] += 0.5 * hat[:-1]
        wide[:-1] += 0.5 * hat[1:]
        cells.append(wide * share[hidden])
    return np.concatenate(cells)


def _without_references(
    trials: Sequence[Trial], model: Inpainter | None, alone: Drafts, recipe: Recipe
) -> list[Tested]:
    """Return what the image alone makes of the hidden pixels.

    The few that no reference sees lie at the edges of its own mask: they say nothing about the middle of a cloud
    that hides both dates.
    """
    raws = [draft.scale for draft in alone]
    if model is not None and recipe.network_weight > 0:
        alone, raws = _networked(trials, model, alone, _refined(trials, model, alone, recipe), recipe)
    return [tested_on(t, d, raw, recipe) for t, d, raw in zip(trials, alone, raws, strict=True)]
