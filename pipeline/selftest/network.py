"""How much of the network an image gets, decided on what it makes of hidden pixels.

Weights follow the risk-averse rule mean + 2 standard errors, so a method must win reliably to be used at all; then they
are lowered where single holes pay for the average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.models.base import Inpainter, reduced_to, take_fewer
from pipeline.numerics.situation import FAMILIES, KNOTS, curves_of, flat
from pipeline.restore.blend import carried
from pipeline.restore.network import asked, compared, raw_of, refine, with_network
from pipeline.restore.recipe import Recipe, narrowed
from pipeline.selftest.changes import Change
from pipeline.selftest.drafts import REFERENCED, Drafts
from pipeline.selftest.scores import NOTICEABLE_DB, PRICE_DB, TOLERATED, stand_alone
from pipeline.selftest.trial import Proposal, Trial, evidence_of
from pipeline.selftest.weights import FINE, choose_weights, may_gain, pooled
from pipeline.selftest.windows import apart
from pipeline.system.signals import stop_if_asked
from pipeline.system.threads import each

_FACTORS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Factors at which single holes that get worse are counted. Weights are lowered to the last at most: they have won on
average."""

_SHRINK = 0.1
"""Part by which rasters lower that factor once more where it is limited, less where fewer holes get worse with all of
the network: it was chosen among few holes, and more of others lose."""

_USUAL_PIECES = 20
"""Pieces of image that the usual share of such holes counts for."""

_HOPEFUL_DB = 0.02
"""Gain of the network as it sees each patch once below which its mirror images make it no noticeable one."""

_PAYS_DB = NOTICEABLE_DB
"""What a mirror image must add to the gain: it takes as long again."""

FEW = 2
"""Windows that are looked at first, as they are and mirrored, to see whether there is anything to gain."""

_FIRST_DB = _PAYS_DB / 2
"""What mirror images must add in a first window of a raster to be looked at in more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined(Proposal):
    """What the network would have instead of the draft of a trial."""

    asked: NDArray[np.bool_]
    """`(c, *spatial)`, the pixels it was asked about."""
    raw: NDArray[np.float32]
    """`(c, *spatial)`, its uncalibrated standard error, data units."""


def refined_by(model: Inpainter, trials: Sequence[Trial], recipe: Recipe) -> list[Refined]:
    """Return what the network would have instead of each draft."""
    refined = []
    for trial, (mean, raw, reduced) in zip(trials, each(partial(_said, model, recipe), trials), strict=True):
        if reduced is not None:
            take_fewer(model, reduced)
        where = asked(model, trial.window)
        refined.append(Refined(trial=trial, mean=np.where(where, mean, trial.draft.mean), asked=where, raw=raw))
    return refined


def _said(
    model: Inpainter, recipe: Recipe, trial: Trial
) -> tuple[NDArray[np.float32], NDArray[np.float32], int | None]:
    """Return mean and raw error of the network, and its channels a pass if a full GPU made them fewer than usual."""
    stop_if_asked()
    own = compared(model, narrowed(recipe, trial.channels), trial.window.hole.ndim - 1)
    ((mean, raw),) = refine(model, [trial.placement.task], [trial.draft], own, testing=True)
    return mean, raw, reduced_to(model)


def judged(model: Inpainter, trials: Sequence[Trial], recipe: Recipe, drafts: Drafts) -> tuple[Recipe, list[Refined]]:
    """Weigh the network as it looks at each patch once, then, if that helps, mirrored, too.

    That takes as long again: it is done where it brings `_PAYS_DB`.

    Args:
        model: the network.
        trials: what has been made of the hidden pixels so far.
        recipe: decisions so far.
        drafts: see `weigh_network`.

    Returns:
        The recipe with weights and number of views, and what the network proposes.
    """
    several = getattr(model, "views", 1) > 1
    plainly = replace(recipe, network_views=1) if several else recipe
    once = first_looks(model, trials, plainly, drafts)
    if len(once) < len(trials):
        return drafts.weighted(recipe, flat(0.0)), once
    if not several:
        return weigh_network(once, recipe, drafts), once
    plain = _weighed(once, plainly, drafts)
    hopeful = plain.noticed(_HOPEFUL_DB)
    if not drafts.highest(hopeful):
        return replace(hopeful, network_views=recipe.network_views), once
    return _mirrored(model, once, recipe, plain) or (plain.noticed(), once)


def over_references(
    model: Inpainter, trials: Sequence[Trial], recipe: Recipe
) -> tuple[Recipe, list[Refined], list[Trial]]:
    """Weigh the network where references carry the mean, if that is not decided; where none does it is.

    Windows in which it has no part are not shown to it.

    Args:
        model: the network.
        trials: what references have made of the hidden pixels.
        recipe: decisions so far.

    Returns:
        The recipe with weights, what the network proposes in the windows that it saw, and the trials as a block would
        restore them.
    """
    refined: list[Refined] = []
    if recipe.network_referenced is None:
        if recipe.network.highest > 0:
            refined = first_looks(model, trials, recipe, REFERENCED)
            enough = len(refined) == len(trials)
            recipe = weigh_network(refined, recipe, REFERENCED) if enough else REFERENCED.weighted(recipe, flat(0.0))
        else:
            recipe, refined = judged(model, trials, recipe, REFERENCED)
    if recipe.network_weight == 0:
        return recipe, refined, list(trials)
    seen = {id(one.trial): one for one in refined}
    missing = [trial for trial in trials if id(trial) not in seen and _left_alone(trial)]
    seen |= {id(one.trial): one for one in refined_by(model, missing, recipe)}
    mixed = [networked([seen[id(trial)]], recipe)[0] if id(trial) in seen else trial for trial in trials]
    return recipe, refined, mixed


def _left_alone(trial: Trial) -> bool:
    """Say whether no reference carries the mean of some hole pixels."""
    return bool((carried(trial.draft.trust)[trial.window.hole] < 1).any())


def first_looks(model: Inpainter, trials: Sequence[Trial], recipe: Recipe, drafts: Drafts) -> list[Refined]:
    """Return what the network would have instead of each draft; of the first few only if nobody would notice it.

    That is so where these leave no room for a noticeable gain in any family of holes.
    """
    order = apart(len(trials))
    few = sorted(order[:FEW])
    seen = dict(zip(few, refined_by(model, [trials[k] for k in few], recipe), strict=True))
    if not _may_matter([seen[k] for k in few], recipe, drafts):
        return [seen[k] for k in few]
    left = sorted(order[FEW:])
    seen |= zip(left, refined_by(model, [trials[k] for k in left], recipe), strict=True)
    return [seen[k] for k in range(len(trials))]


def _may_matter(proposals: Sequence[Refined], recipe: Recipe, drafts: Drafts) -> bool:
    """Say whether what was looked at leaves it open that the network gains something that is noticed."""
    limit = drafts.limit(recipe, proposals)
    taken = [one.limited(limit) for one in proposals]
    least = 1 - 10 ** (-NOTICEABLE_DB / 10)
    return may_gain(evidence_of(taken, drafts.families), least)


def _mirrored(
    model: Inpainter, once: Sequence[Refined], recipe: Recipe, plain: _Weighed
) -> tuple[Recipe, list[Refined]] | None:
    """Weigh what it would have as it looks mirrored, too; None as soon as windows say that this does not pay.

    In a first window both ways of looking are compared at the weights of the plain one, as one window gives none. In
    volumes few windows tell too little: mirror images change there how much of the network is safe, and the weights
    that a few windows give are too small to show it (a blob in FLAIR lost 0.8 dB by that).
    """
    order, often, drafts = apart(len(once)), dict[int, Refined](), plain.change.drafts
    few = (1, FEW) if once[0].trial.placement.hidden.ndim == 3 else ()
    for look in (n for n in few if n < len(once)):
        often |= _more(model, once, recipe, order[len(often) : look])
        seen = sorted(often)
        both = [often[k] for k in seen], [once[k] for k in seen]
        if look == 1:
            usual = plain.noticed(_HOPEFUL_DB)
            taken = [[one.limited(usual.network_limit) for one in some] for some in both]
            more, less = (Change.of(some, drafts).gain_db(usual) for some in taken)
            pays = more - less >= _FIRST_DB
        else:
            more, less = (_weighed(*one, drafts).gain_db for one in zip(both, (recipe, plain.recipe), strict=True))
            pays = more - less >= _PAYS_DB
        if not pays:
            return None
    often |= _more(model, once, recipe, order[len(often) :])
    proposals = [often[k] for k in range(len(once))]
    found = _weighed(proposals, recipe, drafts)
    return (found.noticed(), proposals) if found.gain_db - plain.gain_db >= _PAYS_DB else None


def _more(model: Inpainter, once: Sequence[Refined], recipe: Recipe, windows: Sequence[int]) -> dict[int, Refined]:
    """Return what the network would have in some more of the windows, by their numbers."""
    return dict(zip(windows, refined_by(model, [once[k].trial for k in windows], recipe), strict=True))


def weigh_network(
    proposals: Sequence[Refined], recipe: Recipe, drafts: Drafts, *, least_db: float = NOTICEABLE_DB
) -> Recipe:
    """Return the recipe with weights of the network over drafts of one kind.

    Args:
        proposals: what the network would have, one for each trial.
        recipe: decisions so far.
        drafts: their kind; only their weights are set.
        least_db: gain over a family of holes below which the network takes no part in it.
    """
    return _weighed(proposals, recipe, drafts).noticed(least_db)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """Weights that harm few single holes, whatever they gain."""

    change: Change
    recipe: Recipe

    def noticed(self, least_db: float = NOTICEABLE_DB) -> Recipe:
        """Return the recipe without the network in families of holes where it gains less than this."""
        return _worth_it(self.change, self.recipe, least_db)

    @property
    def gain_db(self) -> float:
        """Return what is gained over all hidden pixels where it is noticed, dB."""
        return self.change.gain_db(self.noticed())


def _weighed(proposals: Sequence[Refined], recipe: Recipe, drafts: Drafts) -> _Weighed:
    """Weigh the network over drafts of one kind; arguments as in `weigh_network`."""
    limit = drafts.limit(recipe, proposals)
    taken = [one.limited(limit) for one in proposals]
    weights = choose_weights(evidence_of(taken, drafts.cells), drafts.usual.beliefs, FINE)
    rows, first = [], 0
    for knots in KNOTS:
        rows.append(pooled(weights[first : first + len(knots)]))
        first += len(knots)
    if all(w is None for w in weights[1 + len(KNOTS[1]) :]):
        # nothing at an image edge could be hidden: such holes are deep ones of which less is known
        rows[2] = [0.5 * w for w in rows[1]]

    def lowered(factor: float) -> Recipe:
        thin, deep, border = rows
        curves = curves_of([_scaled(thin, 1.0), _scaled(deep, factor), _scaled(border, factor)])
        return drafts.weighted(replace(recipe, network_limit=limit), curves)

    change = Change.of(taken, drafts)
    return _Weighed(change=change, recipe=lowered(_caution(change, lowered)))


def networked(proposals: Sequence[Refined], recipe: Recipe) -> list[Trial]:
    """Return the trials with drafts and raw errors as a block would make them."""
    if recipe.network_weight == 0:
        return [one.trial for one in proposals]
    return [
        replace(
            one.trial,
            draft=with_network(one.trial.draft, one.mean, one.asked, recipe),
            raw=raw_of(narrowed(recipe, one.trial.channels), one.trial.draft, one.raw),
        )
        for one in proposals
    ]


def _scaled(row: Sequence[float], factor: float) -> list[float]:
    return [round(factor * weight, 3) for weight in row]


def _caution(change: Change, lowered: Callable[[float], Recipe]) -> float:
    """Return the factor for wide holes and edges by which few single ones become worse: an average hides the odd one.

    In volumes it is a larger one where that gains more than `PRICE_DB` takes for the harm beyond `TOLERATED`: decibels
    must not hang on a limit that is kept with one draw of hidden pixels and just missed with another.

    How many become worse is a matter of luck where few pieces of the image hold hidden pixels, so what is usual counts
    beside it. Over references only what is done to pixels that these carry counts: the other weights are decided
    already.

    Args:
        change: what the network would do to the hidden pixels.
        lowered: the recipe with its weights in wide holes and at edges times a factor.
    """
    usual = change.drafts.usual.harmed

    @cache
    def share(factor: float) -> float:
        found = change.harmed(lowered(factor))
        if usual is None:
            return found
        told = 0 if np.isnan(found) else change.pieces
        return float(told * np.nan_to_num(found) + _USUAL_PIECES * usual * factor) / (told + _USUAL_PIECES)

    def worth(factor: float) -> float:
        return change.gain_db(lowered(factor)) - PRICE_DB * max(0.0, share(factor) - TOLERATED)

    least = _within(share)
    if not change.volume:
        risk = min(float(np.nan_to_num(share(_FACTORS[0]))) / TOLERATED, 1.0) if stand_alone(change.trials) else 0.0
        return least * (1 - _SHRINK * risk)
    bolder = [factor for factor in _FACTORS if factor > least]
    return max([least, *bolder], key=worth) if bolder else least


def _within(share: Callable[[float], float]) -> float:
    """Return the largest factor at which at most `TOLERATED` of the holes get worse, on a line between two tried."""
    shares = [share(_FACTORS[0])]
    if not shares[0] > TOLERATED:
        return _FACTORS[0]
    for bolder, factor in pairwise(_FACTORS):
        shares.append(share(factor))
        if shares[-1] <= TOLERATED:
            return factor + (bolder - factor) * (TOLERATED - shares[-1]) / (shares[-2] - shares[-1])
    return _FACTORS[-1]


def _worth_it(change: Change, recipe: Recipe, least_db: float) -> Recipe:
    """Take the network out of families of holes where nobody would notice it: it costs most of a run's time.

    Its weights fall to 0 from `least_db` to half of that, so that no hair's breadth decides. A family that could not be
    tested follows the wide holes, as its weights do.
    """
    gains = change.family_gains(recipe)
    curves = change.drafts.curves(recipe)
    if curves is None:
        return recipe
    rows = []
    for family, curve in zip(FAMILIES, curves.all, strict=True):
        gain = gains.get(family, gains.get("deep", 0.0))
        rows.append(_scaled(curve.values, min(2 * gain / least_db - 1, 1.0) if gain > least_db / 2 else 0.0))
    return change.drafts.weighted(recipe, curves_of(rows))
