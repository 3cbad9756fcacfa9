"""Hide observed pixels in the file's own hole shapes, restore them, and let the result decide what is used.

Every choice a run makes about quality is made here and only here: which base fill, which references and how much of
them, how much of the network, and how wide the error bars are, each for the situation of a pixel (thin, deep or border
hole; distance to observed pixels). Weights follow the risk-averse rule mean + 2 standard errors, so a method must win
reliably to be used at all; a network that does not help gets weight 0.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec
from pipeline.models.base import Inpainter
from pipeline.numerics.calibration import STORED_OF_FILLS
from pipeline.numerics.situation import flat
from pipeline.references.reliance import UNUSED
from pipeline.restore.recipe import Recipe
from pipeline.selftest.drafts import OWN
from pipeline.selftest.errorbars import (
    Tested,
    calibrated,
    cross_calibrated,
    cross_coverage,
    followed,
    grown,
    growth_in,
    tested_all,
    widened,
)
from pipeline.selftest.expected import expected_rmse, rmse_of_bars
from pipeline.selftest.fills import choose_fills
from pipeline.selftest.guides import FittedGuide
from pipeline.selftest.network import judged, networked, over_references
from pipeline.selftest.placing import Placement
from pipeline.selftest.precision import with_precision
from pipeline.selftest.prior import LEADING, usual_of
from pipeline.selftest.references import weigh_references
from pipeline.selftest.samples import samples_of
from pipeline.selftest.scores import row_of
from pipeline.selftest.site import sites_of
from pipeline.selftest.trial import Trial, rotated
from pipeline.selftest.verdict import Row, Verdict, sentences

_SPARSE = 0.1
"""Observed share of the pixels below which error bars are never narrower than the stored ones."""

_MOSTLY = 0.45
"""The same, below which bars where another date carries the mean are the stored ones: what can be hidden in what little
is left errs less or more than what is hidden, and does not tell which. Where half is left, fitted ones hold."""

_FARTHER = 4.0
"""How many times as far from observed pixels as nearly all hidden ones the typical hole pixel must lie for a note that
error bars there are not tested."""

_NEARLY_ALL = 0.95

_MOST, _ROUGHER = 0.9, 2.0
"""How many times as rough as nine tenths of the hidden pixels the typical hole pixel must be for error bars that are no
narrower than the stored ones: what is hidden in a part where nothing varies is restored without error."""


def judge(
    placements: Sequence[Placement],
    candidates: Sequence[FillSpec],
    guides: Sequence[FittedGuide],
    model: Inpainter | None,
    start: Recipe,
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
        start: recipe with the floor and limits of the file and the default fill; its calibrations are those that count
            where hidden pixels do not tell.
        spread: robust range of each channel, `(c,)`.
        forced: use the first candidate whatever the scores; the others are only measured.
    """
    if len(placements) < 2:
        return _untested(len(placements), guides, start)
    decided = _decided(placements, candidates, guides, model, start, spread, forced=forced)
    bars = _with_error_bars(decided, placements, spread)
    recipe, warned = bars.recipe, against_the_test(guides, decided.tools)
    return Verdict(
        recipe=recipe,
        rows=(*decided.rows, *decided.tools),
        placements=len(placements),
        hidden_pixels=sum(t.error.size for t in bars.tested),
        coverage_90=bars.coverage,
        coverage_90_by_channel=bars.coverage_by_channel,
        predicted_rmse=bars.predicted_rmse,
        calibration="fitted" if recipe.single.pixels else "stored",
        decisions=sentences(recipe, decided.rows, decided.tools),
        note="; ".join(filter(None, (warned, bars.note))),
        samples=samples_of(decided.helped, bars.tested, bars.widths, recipe, spread),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decided:
    """Which methods are used and how much of each; error bars are not fitted yet."""

    recipe: Recipe
    rows: Sequence[Row]
    """Of fills."""
    tools: Sequence[Row]
    """Of references and network."""
    alone: list[Trial]
    """What the image alone gives."""
    helped: list[Trial]
    """As a block would restore them; the same list as `alone` without references."""
    drafts: list[Trial]
    """`helped` before the network; the same list without one."""


def _decided(
    placements: Sequence[Placement],
    candidates: Sequence[FillSpec],
    guides: Sequence[FittedGuide],
    model: Inpainter | None,
    start: Recipe,
    spread: NDArray[np.float64],
    *,
    forced: bool,
) -> _Decided:
    """Choose fills, then the weights of references over them, then that of the network; arguments as in `judge`."""
    recipe = replace(start, relations=tuple(g.relation for g in guides), references=(UNUSED,) * len(guides))
    recipe, rows, alone = choose_fills(sites_of(placements), candidates, recipe, spread, forced=forced)
    recipe, tools, helped = weigh_references(alone, guides, recipe, spread) if guides else (recipe, [], alone)
    drafts = helped
    if model is not None:
        with getattr(model, "remembering", nullcontext)():
            recipe, row, alone, helped = _with_network(model, alone, helped, recipe, spread, guides)
        tools.append(row)
    return _Decided(recipe=recipe, rows=rows, tools=tools, alone=alone, helped=helped, drafts=drafts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ErrorBars:
    """Error bars fitted on hidden pixels, and how well they hold there."""

    recipe: Recipe
    """With calibration and the power of raw errors."""
    tested: list[Tested]
    widths: list[NDArray[np.float32]]
    """Half width of the 90 % interval of the hidden pixels of each as it is published, fitted on others."""
    coverage: float | None
    coverage_by_channel: tuple[float | None, ...]
    predicted_rmse: tuple[float, ...]
    note: str


def _with_error_bars(decided: _Decided, placements: Sequence[Placement], spread: NDArray[np.float64]) -> _ErrorBars:
    """Fit error bars to what was decided; `spread` as in `judge`."""
    alone, helped, before = decided.alone, decided.helped, decided.recipe
    # hidden pixels that no reference sees lie along the edges of its own mask and say little of the middle of a cloud
    # that hides both dates: the image's own estimate is calibrated on all of them, restored without references
    tested = tested_all(helped, before, all_tell=False)
    plain = tested if alone is helped else tested_all(alone, before, all_tell=False)
    recipe, tested, plain = followed(before, tested, plain)
    observed, shallow = _observed(placements), _shallow(plain)
    sparse = observed < _SPARSE
    # deep inside, what is around a pixel is wider, and rougher with it
    calm = not shallow and _calm(plain, before)
    dated = observed < _MOSTLY and before.referenced != STORED_OF_FILLS and any(before.reference_weights)
    growth = growth_in(placements, spread)

    def wide(fitted: Recipe) -> Recipe:
        return widened(fitted, before.referenced) if sparse or calm else fitted

    def published(own: Recipe) -> Recipe:
        bars = wide(grown(own, growth))
        return replace(bars, referenced=before.referenced) if dated else bars

    widths = cross_calibrated(helped, recipe, tested, plain, published)
    held, by_channel = cross_coverage(tested, widths, len(recipe.floor))
    own = calibrated(recipe, tested, plain)
    recipe, fitted = published(own), grown(own, growth)
    whole = helped is decided.drafts or len(recipe.floor) == 1
    drafted = tested if whole else tested_all(decided.drafts, before, all_tell=True)
    return _ErrorBars(
        recipe=recipe,
        tested=tested,
        widths=widths,
        coverage=held,
        coverage_by_channel=by_channel,
        predicted_rmse=(
            rmse_of_bars(tested, recipe, spread)
            if calm
            else expected_rmse(tested, drafted, spread, fitted, wide(fitted))
        ),
        note=_note(recipe, sparse=sparse, shallow=shallow, calm=calm),
    )


def _untested(placements: int, guides: Sequence[FittedGuide], start: Recipe) -> Verdict:
    """Return what is used where nothing can be hidden: references as is usual with them, else the default fill."""
    relations = tuple(guide.related() for guide in guides)
    leads = [g.is_reference and relation is not None for g, relation in zip(guides, relations, strict=True)]
    said = tuple(LEADING if lead else UNUSED for lead in leads)
    recipe = replace(start, relations=relations, references=said, network_precision=())
    used = "the references lead" if any(recipe.reference_weights) else "default spline only"
    note = f"too few observed pixels for a self-test: {used}, stored calibration"
    return Verdict(recipe=recipe, placements=placements, calibration="stored", note=note)


def _with_network(
    model: Inpainter,
    alone: list[Trial],
    helped: list[Trial],
    recipe: Recipe,
    spread: NDArray[np.float64],
    guides: Sequence[FittedGuide],
) -> tuple[Recipe, Row, list[Trial], list[Trial]]:
    """Weigh the network over what the image alone gives, then over the references.

    Args:
        model: the network.
        alone: trials with what the image alone gives.
        helped: the same with references.
        recipe: decisions so far.
        spread: robust range of each channel, `(c,)`.
        guides: references and auxiliaries; if a reference leads, it does so whatever is tested.

    Returns:
        Recipe, row of the table, and the trials as a block would restore them: without references, and with. If the
        network has a part in it they are of one channel each, as it treats each channel by itself.
    """
    started = time.perf_counter()
    before, led = (alone, helped), any(recipe.reference_weights)
    alone = rotated(alone)
    recipe, own = judged(model, alone, recipe, replace(OWN, usual=usual_of(model.sha256)))
    refined = own
    if led:
        if any(guide.leads for guide in guides):
            # what can be hidden says nothing of holes that references lead: nothing shows that a network helps there
            recipe = replace(recipe, network_referenced=flat(0.0))
        recipe, said, mixed = over_references(model, rotated(helped), recipe)
        refined = said or own
    made = networked(refined, recipe)
    row = row_of(f"network {model.name}", refined, made, spread)
    chosen = recipe.network_weight > 0
    row = replace(row, windows=len(refined), chosen=chosen, seconds=time.perf_counter() - started)
    if not chosen:
        return replace(recipe, network_views=None, network_precision=()), row, *before
    recipe = with_precision(model, refined, recipe)
    if not led:
        return recipe, row, made, made
    return recipe, row, networked(own, recipe) if recipe.network.highest > 0 else alone, mixed


def _observed(placements: Sequence[Placement]) -> float:
    """Return the observed share of what has a value or is to get one; land beside a sea is neither."""
    windows = [(p.task.window.valid | p.hidden, p.task.window.valid | p.task.window.hole) for p in placements]
    return float(np.mean([observed.sum() / max(content.sum(), 1) for observed, content in windows]))


def _shallow(tested: Sequence[Tested]) -> bool:
    """Say whether what could be hidden lies so near to observed pixels that it says little of the holes' depth."""
    hidden, holes = (np.concatenate([part.place.distance for part in of]) for of in (tested, [t.holes for t in tested]))
    return bool(holes.size and np.median(holes) > _FARTHER * np.quantile(hidden, _NEARLY_ALL))


def _calm(tested: Sequence[Tested], recipe: Recipe) -> bool:
    """Say whether hardly any hidden pixel lies where values vary as they do around the real holes."""
    typical, holes = np.asarray(recipe.typical, dtype=np.float64), [t.holes for t in tested]
    hidden, real = (np.concatenate([np.log(p.close / typical[p.channel]) for p in of]) for of in (tested, holes))
    telling = np.concatenate([t.telling for t in tested])
    rough = np.quantile(hidden[telling] if telling.any() else hidden, _MOST)
    return bool(real.size and real.mean() > rough + np.log(_ROUGHER))


def against_the_test(guides: Sequence[FittedGuide], rows: Sequence[Row]) -> str:
    """Say which references lead although hidden pixels speak against them, as nearly all is hidden."""
    worse = [
        f"{row.method} ({row.gain_db:+.1f} dB)"
        for guide, row in zip(guides, rows, strict=False)
        if guide.leads and row.chosen and row.gain_db < 0
    ]
    if not worse:
        return ""
    return (
        "so little is trusted that what can be hidden lies between clouds and does not decide: the holes are led by "
        f"{', '.join(worse)}, against the self-test; trust their structure more than their level"
    )


def _note(recipe: Recipe, *, sparse: bool, shallow: bool, calm: bool) -> str:
    if not recipe.single.pixels:
        return "too few hidden pixels to calibrate on: the stored calibration is used"
    if calm:
        return (
            "what could be hidden lies where values hardly vary, the holes lie where they do: nothing tests the error "
            "to expect, and the uncertainty is at least that of the stored calibration"
        )
    if sparse:
        return "few observed pixels: the uncertainty is at least that of the stored calibration"
    if shallow:
        return (
            "the holes reach much farther from observed pixels than anything that could be hidden: "
            "there the uncertainty is not tested; it grows as the image's own differences do with distance"
        )
    return ""
