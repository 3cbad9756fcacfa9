"""Hide observed pixels in the file's own hole shapes, restore them, and let the result decide what is used.

Every choice a run makes about quality is made here and only here: which base fill, which references and how much of
them, how much of the network, and how wide the error bars are. Weights follow the risk-averse rule mean + 2 standard
errors, so a method must win reliably to be used at all; a network that does not help gets weight 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec, Window
from pipeline.geometry.box import Box
from pipeline.models.base import Inpainter
from pipeline.quality.calibration import Calibration, coverage, fit
from pipeline.quality.metrics import channel_mse, normalised_mse, risk_averse_weight
from pipeline.references import Relation, Siblings, consult
from pipeline.restore import (
    Draft,
    Estimate,
    Guide,
    Recipe,
    Task,
    error_factor,
    estimate,
    filled,
    finish,
    mix,
    refine,
    roughness,
    with_network,
    with_reference,
)

WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_MAX_CALIBRATION_PIXELS = 400_000
_USUAL_LAYERS, _MAX_LAYERS = 16, 256
_MIN_HIDDEN = 64
_FULL_TRUST = 0.99
"""A pixel counts as restored from a reference if no more than this little of the base fill is left in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One window with pseudo-holes on observed pixels.

    Attributes:
        task: the window as a block would see it, with the pseudo-holes hidden as well.
        truth: float32 `(c, *spatial)`, observed values.
        hidden: bool `(c, *spatial)`, observed pixels that were hidden: the only ones scored.
    """

    task: Task
    truth: NDArray[np.float32]
    hidden: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedGuide:
    """A reference or auxiliary: its name in tables, its relation to the image (None: too few common pixels)."""

    label: str
    relation: Relation | Siblings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the self-test table: PSNR over hidden pixels (range p1-p99 of observed values), gain, weight, time."""

    method: str
    psnr_db: float
    gain_db: float
    weight: float
    seconds: float
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Outcome of the self-test.

    Attributes:
        recipe: the decisions.
        rows: the table.
        placements: number of windows used; 0 if too little is observed, then nothing beyond the default is used.
        hidden_pixels: pixels scored, over all channels.
        coverage_90: share of errors inside the 90 % interval, fitted on one half of the windows, counted on the other.
        note: sentence for people, empty if all went well.
    """

    recipe: Recipe
    rows: tuple[Row, ...] = ()
    placements: int = 0
    hidden_pixels: int = 0
    coverage_90: float | None = None
    predicted_rmse: tuple[float, ...] = ()
    note: str = ""


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
        return Verdict(
            recipe=draft,
            placements=len(placements),
            note="too few observed pixels for a self-test: default spline only, stored calibration",
        )
    fill, rows, alone = _choose_fill(placements, candidates, spread, forced=forced)
    drafts = alone
    recipe = replace(
        draft, fill=fill, relations=tuple(g.relation for g in guides), reference_weights=(0.0,) * len(guides)
    )
    for k, guide in enumerate(guides):
        weight, row, drafts = _weigh_reference(placements, k, guide, drafts, spread)
        weights = tuple(weight if i == k else w for i, w in enumerate(recipe.reference_weights))
        recipe = replace(recipe, reference_weights=weights)
        rows.append(row)
    raws = [roughness(recipe, p.task.window) for p in placements]
    if model is not None:
        recipe, row, drafts, raws = _weigh_network(placements, model, drafts, raws, recipe, spread)
        rows.append(row)
    tested = [_tested(p, finish(recipe, p.task, d, raw)) for p, d, raw in zip(placements, drafts, raws, strict=True)]
    single = _without_references(placements, model, alone, recipe) if any(recipe.reference_weights) else tested
    base = next(r.psnr_db for r in rows if r.chosen)
    return Verdict(
        recipe=_calibrate(recipe, tested, single),
        rows=tuple(replace(r, gain_db=r.psnr_db - base) for r in rows),
        placements=len(placements),
        hidden_pixels=sum(t.error.size for t in tested),
        coverage_90=_cross_coverage(recipe, tested, single),
        predicted_rmse=_rmse_by_channel(placements, tested),
    )


@dataclass(frozen=True, slots=True)
class _Tested:
    """Hidden pixels of one placement after restoring, flat arrays of equal length."""

    error: NDArray[np.float32]
    raw: NDArray[np.float32]
    distance: NDArray[np.float32]
    trust: NDArray[np.float32]
    channel: NDArray[np.intp]


def _choose_fill(
    placements: Sequence[Placement],
    candidates: Sequence[FillSpec],
    spread: NDArray[np.float64],
    *,
    forced: bool,
) -> tuple[FillSpec, list[Row], list[Draft]]:
    scores, seconds, means_of = [], [], []
    for spec in candidates:
        started = time.perf_counter()
        try:
            means = [spec(p.task.window) for p in placements]
        except ArithmeticError:
            # the solver gave up: this fill cannot be used on this image
            means = [np.full_like(p.truth, np.nan) for p in placements]
        seconds.append(time.perf_counter() - started)
        scores.append(
            [normalised_mse(channel_mse(m, p.truth, p.hidden), spread) for m, p in zip(means, placements, strict=True)]
        )
        means_of.append(means)
    table = np.asarray(scores)
    scored = table[:, np.isfinite(table).any(axis=0)]
    mean = np.where(np.isfinite(scored), scored, np.inf).mean(axis=1) if scored.size else np.zeros(len(table))
    best = 0 if forced else int(np.argmin(mean))
    rows = [
        Row(
            method=spec.label,
            psnr_db=_decibel(table[i]),
            gain_db=0.0,
            weight=1.0 if i == best else 0.0,
            seconds=seconds[i],
            chosen=i == best,
        )
        for i, spec in enumerate(candidates)
    ]
    drafts = [filled(p.task.window, mean) for p, mean in zip(placements, means_of[best], strict=True)]
    return candidates[best], rows, drafts


def _weigh_reference(
    placements: Sequence[Placement],
    k: int,
    fitted: FittedGuide,
    drafts: list[Draft],
    spread: NDArray[np.float64],
) -> tuple[float, Row, list[Draft]]:
    started = time.perf_counter()
    if fitted.relation is None:
        nan = float("nan")
        name = f"{fitted.label}: too few pixels observed in both"
        return 0.0, Row(method=name, psnr_db=nan, gain_db=nan, weight=0.0, seconds=0.0, chosen=False), drafts
    results = [
        consult(p.task.window, p.task.guides[k].values, p.task.guides[k].valid, fitted.relation, d.mean)
        for p, d in zip(placements, drafts, strict=True)
    ]
    proposals = [with_reference(d, r, k, 1.0).mean for d, r in zip(drafts, results, strict=True)]
    weight, score = _weigh(placements, drafts, proposals, spread)
    seconds = time.perf_counter() - started
    row = Row(method=fitted.label, psnr_db=score, gain_db=0.0, weight=weight, seconds=seconds, chosen=weight > 0)
    return weight, row, [with_reference(d, r, k, weight) for d, r in zip(drafts, results, strict=True)]


def _weigh_network(
    placements: Sequence[Placement],
    model: Inpainter,
    drafts: list[Draft],
    raws: list[NDArray[np.float32]],
    recipe: Recipe,
    spread: NDArray[np.float64],
) -> tuple[Recipe, Row, list[Draft], list[NDArray[np.float32]]]:
    """Return the recipe with the network's weight, its row, and drafts and raw errors as a block would make them."""
    started = time.perf_counter()
    refined = [refine(model, [p.task], [d.mean], recipe)[0] for p, d in zip(placements, drafts, strict=True)]
    holes = [p.task.window.hole for p in placements]
    proposals = [
        with_network(d, mean, hole, 1.0).mean for d, (mean, _), hole in zip(drafts, refined, holes, strict=True)
    ]
    weight, score = _weigh(placements, drafts, proposals, spread)
    seconds = time.perf_counter() - started
    row = Row(
        method=f"network {model.name}",
        psnr_db=score,
        gain_db=0.0,
        weight=weight,
        seconds=seconds,
        chosen=weight > 0,
    )
    recipe = replace(recipe, network_weight=weight)
    if weight == 0:
        return recipe, row, drafts, raws
    mixed = [with_network(d, mean, hole, weight) for d, (mean, _), hole in zip(drafts, refined, holes, strict=True)]
    return recipe, row, mixed, [raw for _, raw in refined]


def _weigh(
    placements: Sequence[Placement],
    drafts: Sequence[Draft],
    proposals: Sequence[NDArray[np.float32]],
    spread: NDArray[np.float64],
) -> tuple[float, float]:
    """Return the risk-averse weight of the proposals over the drafts, and the PSNR of the proposals alone."""
    mixed = np.asarray(
        [
            [
                normalised_mse(channel_mse(mix(d.mean, q, w), p.truth, p.hidden), spread)
                for p, d, q in zip(placements, drafts, proposals, strict=True)
            ]
            for w in WEIGHTS
        ]
    )
    return risk_averse_weight(mixed[0], mixed, WEIGHTS), _decibel(mixed[-1])


def _tested(placement: Placement, result: Estimate) -> _Tested:
    hidden = placement.hidden
    error = (result.mean - placement.truth)[hidden]
    channel = np.nonzero(hidden)[0]
    return _Tested(error, result.raw[hidden], result.distance[hidden], result.trust[hidden], channel)


def _without_references(
    placements: Sequence[Placement], model: Inpainter | None, alone: Sequence[Draft], recipe: Recipe
) -> list[_Tested]:
    """Return what the image alone makes of the hidden pixels.

    The few that no reference sees lie at the edges of its own mask: they say nothing about the middle of a cloud
    that hides both dates.
    """
    recipe = replace(recipe, reference_weights=(0.0,) * len(recipe.reference_weights))
    tasks = [replace(p.task, base=d.mean) for p, d in zip(placements, alone, strict=True)]
    return [
        _tested(p, result)
        for p, task in zip(placements, tasks, strict=True)
        for result in estimate(recipe, model, [task])
    ]


def _calibrate(recipe: Recipe, tested: Sequence[_Tested], single: Sequence[_Tested]) -> Recipe:
    """Fit both calibrations: with a reference on pixels that had one, without on `single`."""

    def of(source: Sequence[_Tested], *, referenced: bool) -> Calibration:
        parts = [(np.abs(t.error), t.raw, t.distance, (t.trust >= _FULL_TRUST) == referenced) for t in source]
        error, raw, distance = (np.concatenate([p[i][p[3]] for p in parts]) for i in range(3))
        step = max(1, error.size // _MAX_CALIBRATION_PIXELS)
        return fit(error[::step], raw[::step], distance[::step])

    referenced = of(tested, referenced=True) if any(recipe.reference_weights) else Calibration()
    return replace(recipe, single=of(single, referenced=False), referenced=referenced)


def _cross_coverage(recipe: Recipe, tested: Sequence[_Tested], single: Sequence[_Tested]) -> float | None:
    half = _calibrate(recipe, tested[::2], single[::2])
    errors, sigmas = [], []
    for t in tested[1::2]:
        errors.append(np.abs(t.error))
        sigmas.append(t.raw * error_factor(half, t.trust, t.distance))
    value = coverage(np.concatenate(errors), np.concatenate(sigmas))
    return None if np.isnan(value) else value


def _rmse_by_channel(placements: Sequence[Placement], tested: Sequence[_Tested]) -> tuple[float, ...]:
    total = np.zeros(placements[0].truth.shape[0])
    count = np.zeros_like(total)
    for t in tested:
        total += np.bincount(t.channel, weights=t.error.astype(np.float64) ** 2, minlength=total.size)
        count += np.bincount(t.channel, minlength=total.size)
    return tuple(float(v) for v in np.sqrt(total / np.maximum(count, 1)))


def _decibel(normalised: NDArray[np.float64]) -> float:
    """PSNR in dB of the mean normalised MSE over placements."""
    usable = normalised[np.isfinite(normalised)]
    if not usable.size:
        return float("nan")
    return float(-10 * np.log10(max(usable.mean(), 1e-12)))


def place(
    read: Callable[[Box], tuple[Window, tuple[Guide, ...]]],
    windows: Sequence[Box],
    patterns: Sequence[NDArray[np.bool_]],
    patch: tuple[int, ...],
    seed: int,
) -> list[Placement]:
    """Cut the windows and hide observed pixels in them in the shape of the patterns.

    Patterns `(n, *spatial)` are flipped, rolled and laid over the window until 2 % of its observed pixels are hidden,
    at most 60 %. Windows in which fewer than 64 pixels could be hidden are left out, without patterns all.
    """
    if not patterns:
        return []
    rng = np.random.default_rng(seed)
    placed = []
    for box in windows:
        window, guides = read(box)
        hidden = _hide(window.valid, patterns, rng)
        if hidden is None:
            continue
        truth = window.values
        tested = replace(
            window,
            values=np.where(hidden, np.float32(0), window.values),
            valid=window.valid & ~hidden,
            hole=window.hole | hidden,
        )
        task = Task(window=tested, guides=guides, patch=patch, offset=(0,) * len(patch))
        placed.append(Placement(task=task, truth=truth, hidden=hidden))
    return placed


def _hide(
    valid: NDArray[np.bool_], patterns: Sequence[NDArray[np.bool_]], rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Lay patterns over the observed pixels until 2 % of them are hidden; cut back if it is more than 60 %."""
    observed = int(valid.sum())
    hidden = np.zeros(valid.shape, dtype=np.bool_)
    for attempt in range(1, _MAX_LAYERS + 1):
        layer = _transformed(patterns[int(rng.integers(len(patterns)))], valid.shape, rng) & valid
        if layer.sum() > 0.6 * observed:
            layer &= _transformed(patterns[int(rng.integers(len(patterns)))], valid.shape, rng)
        if layer.sum() > 0.6 * observed:
            layer &= _half(valid.shape, rng)
        if (hidden | layer).sum() <= 0.6 * observed:
            hidden |= layer
        # single dead pixels take many layers until there are enough to count on
        enough = _MIN_HIDDEN if attempt >= _USUAL_LAYERS else 0.02 * observed
        if hidden.sum() >= enough:
            break
    return hidden if hidden.sum() >= _MIN_HIDDEN else None


def _transformed(pattern: NDArray[np.bool_], shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Flip and roll a pattern at random and cut it to `shape`; no rotation, stripes and slices keep their axis."""
    for axis in range(1, pattern.ndim):
        if rng.random() < 0.5:
            pattern = np.flip(pattern, axis=axis)
        if rng.random() < 0.5:
            pattern = np.roll(pattern, int(rng.integers(pattern.shape[axis])), axis=axis)
    if pattern.shape[0] > 1:
        pattern = pattern[rng.integers(pattern.shape[0], size=shape[0])]
    fitted = pattern[(slice(None), *(slice(0, n) for n in shape[1:]))]
    widths = [(0, 0)] + [(0, n - m) for n, m in zip(shape[1:], fitted.shape[1:], strict=True)]
    return np.broadcast_to(np.pad(fitted, widths), shape)


def _half(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """True on one half of the window, cut across a random axis."""
    axis = int(rng.integers(1, len(shape)))
    line = np.arange(shape[axis]) < shape[axis] // 2
    if rng.random() < 0.5:
        line = ~line
    return np.broadcast_to(line.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)
