"""How much of each reference an image gets, decided on what it makes of hidden pixels."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.situation import hats
from pipeline.references.consult import consult, prediction
from pipeline.references.estimate import ReferenceFill
from pipeline.references.joint import Joint, guides_of
from pipeline.references.prediction import Prediction
from pipeline.references.relation import Relation
from pipeline.references.reliance import REACH, RELIABILITY, UNUSED, Reliance, region
from pipeline.references.siblings import Siblings
from pipeline.restore.estimate import code_of, guide_of, with_reference
from pipeline.restore.recipe import Recipe
from pipeline.selftest.guides import FittedGuide
from pipeline.selftest.prior import BELIEFS, BELIEVED_GAIN_DB, LEADING
from pipeline.selftest.scores import NOTICEABLE_DB, PRICE_DB, Pieces, row_of
from pipeline.selftest.site import as_deep, shares_of
from pipeline.selftest.trial import Proposal, Trial, evidence_of, step_limit
from pipeline.selftest.verdict import Row
from pipeline.selftest.weights import BELIEVED_PIECES, Belief, Evidence, between, choose_weights, rising
from pipeline.system.signals import stop_if_asked
from pipeline.system.threads import each

_SCALES = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Factors on all weights of a reference, of which the one that is worth most is kept."""

_GATES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Reliabilities of the region around a pixel that are tried as the least at which a reference counts; 0 = any."""

_UNHEARD = 0.02
"""Pixels that a guide sees without the others, over those that were restored from all, from which it is asked alone."""

_TOLERATED = 0.02
"""Share of the pieces of image that may become noticeably worse by chance: up to it nothing is deducted."""

_CLEARLY_WRONG = 2.0
"""Squared error of a guide's longest steps over that of shortened ones from which they are shortened: what another
image shows far from the holes tested may well be there, but a cloud of its own is wrong by more."""

_LEAST_DB = 0.1
"""Worth of another date, what is known of others included, below which it is left out: nobody sees such a gain, and
it comes with parts of holes that get worse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consulted(Proposal):
    """What a reference would have instead of the draft of a trial."""

    result: ReferenceFill
    """What it says, and how reliable it is."""

    @classmethod
    def of(cls, trial: Trial, result: ReferenceFill) -> Consulted:
        """Return what a reference says as a proposal: its values where usable, else the draft's."""
        return cls(trial=trial, mean=np.where(result.usable, result.values, trial.draft.mean), result=result)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Return the step per axis."""
        return self.trial.window.spacing


def weigh_references(
    trials: Sequence[Trial], guides: Sequence[FittedGuide], recipe: Recipe, spread: NDArray[np.float64]
) -> tuple[Recipe, list[Row], list[Trial]]:
    """Weigh one relation after the other, each over what the earlier ones made.

    Args:
        trials: what is hidden, with what the image alone makes of it.
        guides: several together first, then each, in the order of the guides of the placements.
        recipe: decisions so far.
        spread: robust range of each channel of the image, `(c,)`.

    Returns:
        The recipe with the weights, a row of the table for each guide, and the trials with guides blended in.
    """
    rows, mixed = [], list(trials)
    once, same = _distinct(trials)
    used: list[tuple[int, ...]] = []
    about = guides_of([guide.relation for guide in guides])
    for k, (guide, numbers) in enumerate(zip(guides, about, strict=True)):
        if not _asked(mixed, numbers, used):
            rows.append(_unmeasured(f"{guide.label}: heard together with others"))
            continue
        relation = guide.related()
        if relation is None:
            rows.append(_unmeasured(f"{guide.label}: too few pixels observed in both"))
            continue
        started = time.perf_counter()
        known = _known(numbers, relation, mixed)
        said = each(partial(_said, numbers, relation, known), [mixed[i] for i in once])
        consulted = [Consulted.of(trial, said[i]) for trial, i in zip(mixed, same, strict=True)]
        tested = [consulted[i] for i in once]
        reliance = LEADING if guide.leads else _weighed(tested, BELIEFS if guide.is_reference else ())
        code = code_of(relation, numbers)
        mixed = [
            one.trial.with_draft(with_reference(one.trial.draft, one.result, code, reliance, one.trial.window))
            for one in consulted
        ]
        if isinstance(relation, Joint) and reliance.highest > 0 and reliance.gate == 0:
            used.append(numbers)
        recipe = replace(
            recipe,
            relations=tuple(relation if i == k else r for i, r in enumerate(recipe.relations)),
            references=tuple(reliance if i == k else w for i, w in enumerate(recipe.references)),
        )
        row = row_of(guide.label, consulted, mixed, spread)
        rows.append(replace(row, chosen=reliance.highest > 0, seconds=time.perf_counter() - started))
    return recipe, rows, mixed


def _distinct(trials: Sequence[Trial]) -> tuple[list[int], list[int]]:
    """Return which trials differ, and for each trial the number of the one among these that it is the same as.

    Where few places are left the same ones come up again and again, and would count for more than they tell.
    """
    numbers: dict[tuple[tuple[int, ...], bytes], int] = {}
    once: list[int] = []
    same = []
    for i, trial in enumerate(trials):
        key = trial.placement.start, np.packbits(trial.placement.hidden).tobytes()
        if key not in numbers:
            numbers[key] = len(once)
            once.append(i)
        same.append(numbers[key])
    return once, same


def _asked(trials: Sequence[Trial], numbers: tuple[int, ...], used: Sequence[tuple[int, ...]]) -> bool:
    """Return whether guides have something to say that was not heard yet.

    Not if they took part in a relation that is good everywhere, and that sees nearly all hidden pixels they see.

    Args:
        trials: what is hidden.
        numbers: of the guides.
        used: guides of each joint relation that is used without a gate.
    """
    larger = [some for some in used if set(numbers) < set(some)]
    if not larger:
        return True
    alone = together = 0
    for trial in trials:
        hidden = trial.placement.hidden.any(axis=0)
        seen = [np.asarray(guide.valid.all(axis=0)) for guide in trial.placement.task.guides]
        mine = hidden & np.all([seen[k] for k in numbers], axis=0)
        heard = np.any([np.all([seen[k] for k in some], axis=0) for some in larger], axis=0)
        alone += int((mine & ~heard).sum())
        together += int((mine & heard).sum())
    return alone > _UNHEARD * together


def _unmeasured(name: str) -> Row:
    nan = float("nan")
    return Row(method=name, psnr_db=nan, gain_db=nan, weight=0.0, seconds=0.0, chosen=False)


def _known(
    numbers: Sequence[int], relation: Relation | Siblings | Joint, trials: Sequence[Trial]
) -> dict[tuple[int, ...], Prediction]:
    """Return what guides predict in the windows that are tested more than once, by the first pixel of each.

    The channels of the image itself are another matter: what is hidden of them differs.
    """
    if isinstance(relation, Siblings):
        return {}
    tested = Counter(trial.placement.start for trial in trials)
    first = {trial.placement.start: trial for trial in reversed(trials)}
    known = {start: trial for start, trial in first.items() if tested[start] > 1}
    return dict(zip(known, each(partial(_predicted, numbers, relation), list(known.values())), strict=True))


def _predicted(numbers: Sequence[int], relation: Relation | Joint, trial: Trial) -> Prediction:
    stop_if_asked()
    guide = guide_of(trial.placement.task, relation, numbers)
    return prediction(trial.window, guide.values, guide.valid, relation)


def _said(
    numbers: Sequence[int],
    relation: Relation | Siblings | Joint,
    known: Mapping[tuple[int, ...], Prediction],
    trial: Trial,
) -> ReferenceFill:
    """Return what guides say of the holes of a trial."""
    stop_if_asked()
    guide, draft = guide_of(trial.placement.task, relation, numbers), trial.draft
    predicted = known.get(trial.placement.start)
    shown = guide.values, guide.valid
    return consult(trial.window, shown, relation, draft.mean, draft.reliability, predicted)


def _weighed(consulted: Sequence[Consulted], beliefs: Sequence[Belief]) -> Reliance:
    """Return how much of a reference is blended in; `beliefs` is what is known of references, see `choose_weights`."""
    limit = step_limit(consulted, _CLEARLY_WRONG)
    taken = [one.limited(limit) for one in consulted]
    return careful(taken, reliance_of(evidence_of(taken, reliance_cells), limit, beliefs), believed=bool(beliefs))


def reliance_cells(consulted: Consulted) -> NDArray[np.float64]:
    """Return the share of each cell in the hidden pixels, `(3 n, pixels)` for `n` reliabilities; none if unusable.

    Thin holes with rising reliability, then wide ones near observed pixels, then those far from them.
    """
    trial, result = consulted.trial, consulted.result
    position = np.interp(trial.hidden(result.reliability), RELIABILITY, np.arange(len(RELIABILITY)))
    level = np.maximum(0.0, 1.0 - np.abs(position - np.arange(len(RELIABILITY))[:, None]))
    level = level * trial.hidden(result.usable)
    thin, reach = trial.hidden_place.shares[0], hats(trial.hidden_place.distance, REACH)
    return np.concatenate([level * thin, level * (1 - thin) * reach[0], level * (1 - thin) * reach[1]])


def reliance_of(evidence: Evidence, limit: float | None, beliefs: Sequence[Belief] = ()) -> Reliance:
    """Decide the weights of a reference: none rises where reliability falls.

    Args:
        evidence: with the cells of `reliance_cells`.
        limit: largest step that is taken in full, see `step_limit`.
        beliefs: for each cell what is known before, see `choose_weights`.
    """
    weights = choose_weights(evidence, beliefs)
    counts = evidence.cells.sum(axis=1)
    n = len(RELIABILITY)
    rows = []
    for part in (slice(0, n), slice(n, 2 * n), slice(2 * n, 3 * n)):
        # too little hidden to tell is no reason to leave a pixel to the fill, which errs more the deeper it lies
        known = [0.0 if w is None and k == 0 else w for k, w in enumerate(weights[part])]
        rows.append(rising(between(known), counts[part]) if any(w is not None for w in weights[part]) else None)
    thin, near, far = rows
    near, far = near or far or thin, far or near or thin
    if near is None or far is None:
        return UNUSED
    return Reliance(near=tuple(near), far=tuple(far), thin=tuple(thin) if thin else None, limit=limit)


def careful(consulted: Sequence[Consulted], reliance: Reliance, *, believed: bool = False) -> Reliance:
    """Scale the weights of a reference and gate them by region, so that what it gains is worth the pieces it harms.

    The weights have won on average. Under a cloud of the reference an average says little: there the spline stands
    only if the region as a whole is seen to be unreliable. Thin holes have a scale of their own: what a reference harms
    there says nothing about a cloud.

    Args:
        consulted: what the reference would have, steps beyond the limit shortened.
        reliance: its weights, without a gate.
        believed: references gain in most images; a few pieces of one do not disprove it.
    """
    if reliance.highest == 0:
        return reliance
    change = _Change.of(consulted, reliance, believed=believed)
    thin = shares_of(change.trials)[0] >= 0.5
    scale, gate = change.best(~thin, _GATES, as_deep(change.trials)) or change.best(thin, _GATES) or (1.0, 0.0)
    own = change.best(thin, (gate,) if scale else _GATES) or (scale, gate)
    near, far = (tuple(round(scale * w, 3) for w in row) for row in (reliance.near, reliance.far))
    rest = None if reliance.thin is None else tuple(round(own[0] * w, 3) for w in reliance.thin)
    return replace(reliance, near=near, far=far, thin=rest, gate=gate if scale else own[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What the weights of a reference do to the hidden pixels of all trials."""

    trials: Sequence[Trial]
    error: NDArray[np.float32]
    """Of the drafts, `(n,)`, data units."""
    step: NDArray[np.float32]
    """What is added to the drafts, `(n,)`, data units."""
    around: NDArray[np.float32]
    """Reliability of the region around each pixel, `(n,)`."""
    in_holes: NDArray[np.float32] | None
    """The same at the real hole pixels, `(m,)`, if pieces of other images count, too: what is shut there is lost."""

    @classmethod
    def of(cls, consulted: Sequence[Consulted], reliance: Reliance, *, believed: bool) -> _Change:
        """Return what weights without a gate do."""
        around, steps, in_holes = [], [], []
        for one in consulted:
            trial, place, said = one.trial, one.trial.hidden_place, one.result
            level = region(said.reliability, said.usable, one.spacing)
            around.append(trial.hidden(level))
            in_holes.append(level[trial.window.hole & ~trial.placement.hidden & said.usable])
            weight = reliance.at(trial.hidden(said.reliability), place.distance, place.shares[0])
            steps.append(trial.hidden(said.usable) * weight * one.step)
        trials = [one.trial for one in consulted]
        return cls(
            trials=trials,
            error=np.concatenate([trial.error for trial in trials]),
            step=np.concatenate(steps),
            around=np.concatenate(around),
            in_holes=np.concatenate(in_holes) if believed else None,
        )

    def best(self, some: NDArray[np.bool_], gates: Sequence[float], tells: float = 1.0) -> tuple[float, float] | None:
        """Return the scale and gate that are worth most on some of the pixels; None if too few lie together to tell.

        The scale is 0 if none is worth its harm, with beliefs if none is worth `_LEAST_DB`. Without them the gate is
        the lowest that is not noticeably worse, and the scale the largest. `tells`: what a piece counts beside one of
        other images once that is settled.
        """
        pieces = Pieces.of(self.trials, self.error, some)
        error, step, around = self.error[some], self.step[some], self.around[some]
        if not pieces.gains(error).size:
            return None
        tried: dict[tuple[float, float], float] = {}
        likely: dict[tuple[float, float], float] = {}
        for gate in gates:
            gated, real = replace(UNUSED, gate=gate), self.in_holes
            opened, share = gated.open(around), 1.0
            if real is not None and real.size:
                share = float(gated.open(real).mean())
            for scale in _SCALES:
                gains = pieces.gains(error + scale * opened * step)
                others = [] if real is None else [scale * share * BELIEVED_GAIN_DB] * BELIEVED_PIECES
                tried[scale, gate], likely[scale, gate] = _worth(gains, others), _worth(gains, others, tells)
        scale, gate = max(tried, key=lambda key: tried[key])
        most = tried[scale, gate]
        if most < (0.0 if self.in_holes is None else _LEAST_DB):
            return 0.0, gate
        if self.in_holes is None:
            # nothing else here counts what is lost in real holes, which are deeper and far more often behind a gate
            alike = [key for key, value in tried.items() if value >= max(most - NOTICEABLE_DB, 0.0)]
            return min(alike, key=lambda key: (key[1], -key[0]))
        return max(likely, key=lambda key: likely[key])


def _worth(gains: NDArray[np.float64], others: Sequence[float], tells: float = 1.0) -> float:
    """Return the mean gain of pieces in dB, those of other images too, less the price of harm; `tells` as in `best`."""
    every, counts = np.append(gains, others), np.append(np.full(gains.size, tells), np.ones(len(others)))
    worse = float(np.average(every < -NOTICEABLE_DB, weights=counts))
    return float(np.average(every, weights=counts)) - PRICE_DB * max(0.0, worse - _TOLERATED)
