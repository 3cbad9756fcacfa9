"""One window in, one estimate out: fill, then references, then the network, then a calibrated uncertainty.

This is the arithmetic that blocks, the self-test and `evaluate` share, so what was tested is what runs. It is pure
and deterministic; how much of each step is used was decided once, by the self-test, and stands in the `Recipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.fills.base import FillSpec, Window
from pipeline.models.base import Inpainter
from pipeline.numerics.beyond import Beyond, handed_over
from pipeline.numerics.column import column
from pipeline.numerics.pixels import picked, pixels_of, with_values
from pipeline.numerics.situation import Situation, blended, situation
from pipeline.numerics.statistics import local_scales
from pipeline.references.consult import compared, consult
from pipeline.references.continued import continued
from pipeline.references.estimate import ReferenceFill
from pipeline.references.joint import AnyRelation, Joint, guides_of, stacked
from pipeline.references.reliance import Reliance, region, shared
from pipeline.restore.blend import NAMED, carried, limited, mix, typical_scale
from pipeline.restore.codes import CLASSICAL, OBSERVED, REFERENCE, SEVERAL
from pipeline.restore.network import counted, far, needed, raw_of, refine, with_network
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Contamination, Draft, Estimate, Guide, Task

_SUREST = np.float32(0.999)
"""Reliability up to which error bars follow it: beyond, it says how well a few pixels around happen to fit."""
_HARDLY = np.float32(0.02)
"""Share of a family of holes in a pixel below which its base fill does not count there."""
_MOST_LEFT = np.float32(0.5)
"""Deviations of the image that what is left of haze stays below."""
_NOTHING = np.float32(0.5)
"""Reliability where references brought nothing; it only rises."""


def estimate(recipe: Recipe, model: Inpainter | None, tasks: Sequence[Task]) -> list[Estimate]:
    """Restore windows; the result of a window does not depend on the others in the call."""
    drafts = [classical(recipe, task) for task in tasks]
    if model is None or recipe.network_weight == 0:
        return [finish(recipe, task, draft, draft.close) for task, draft in zip(tasks, drafts, strict=True)]
    refined = refine(model, tasks, drafts, recipe)
    return [
        refined_by(recipe, task, draft, said, counted(model, task, draft.place))
        for task, draft, said in zip(tasks, drafts, refined, strict=True)
    ]


def refined_by(
    recipe: Recipe,
    task: Task,
    draft: Draft,
    said: tuple[NDArray[np.float32], NDArray[np.float32]],
    counts: NDArray[np.float32],
) -> Estimate:
    """Return the estimate of a window of which the network said `(mean, raw standard error)`, see `counted`."""
    predicted, raw = said
    return finish(recipe, task, with_network(draft, predicted, counts, recipe), raw_of(recipe, draft, raw))


def classical(recipe: Recipe, task: Task) -> Draft:
    """Return the estimate before the network: base fill, then what guides say, each over what came before it."""
    window = task.window
    place = where(window, task.beyond)
    mean = base_fill(recipe, window, place) if task.base is None else task.base
    draft = filled(recipe, window, mean, place, task.beyond)
    used = zip(recipe.relations, guides_of(recipe.relations), recipe.references, strict=True)
    for k, (relation, numbers, reliance) in enumerate(used):
        if relation is not None and reliance.highest > 0:
            guide = guide_of(task, relation, numbers)
            shown, standing = (guide.values, guide.valid), (draft.mean, draft.reliability)
            result = consult(window, shown, relation, *standing, beyond=task.corrections.get(k))
            draft = with_reference(draft, result, code_of(relation, numbers), reliance, window)
    return draft


def guide_of(task: Task, relation: AnyRelation, numbers: Sequence[int]) -> Guide:
    """Return what the guides of a relation show in a window."""
    if not isinstance(relation, Joint):
        return task.guides[numbers[0]]
    values, valid = stacked([(task.guides[k].values, task.guides[k].valid) for k in numbers], relation.offsets)
    return Guide(values=values, valid=valid)


def code_of(relation: AnyRelation, numbers: Sequence[int]) -> int:
    """Return the source code of what a relation says: that of its guide, or of the one that leads several."""
    leader = relation.leader if isinstance(relation, Joint) else numbers[0]
    return SEVERAL if leader is None else REFERENCE + leader


def where(window: Window, beyond: Beyond | None = None) -> Situation:
    """Return distance and family of the pixels of a window."""
    return situation(window.valid, window.hole, window.spacing, window.open_edges, beyond)


def base_fill(
    recipe: Recipe,
    window: Window,
    place: Situation,
    fill: Callable[[FillSpec], NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """Return what the base fills make of a window, each in its family of holes, `(c, *spatial)`.

    `fill` gives the fill of this window if it is known already.
    """
    hole = window.hole
    # of hole pixels alone, `(3, n)`: an exact coarse fill is of a whole volume
    shares = _telling(place.shares[:, hole])
    del place
    wanted: dict[str, tuple[FillSpec, NDArray[np.bool_]]] = {}
    for spec, share in zip(recipe.fills, shares, strict=True):
        own = np.zeros_like(hole)
        own[hole] = share > 0
        if own.any():
            wanted[spec.label] = spec, own | wanted[spec.label][1] if spec.label in wanted else own
    if len(wanted) < 2:
        spec = next((spec for spec, _ in wanted.values()), recipe.fill)
        return fill(spec) if fill else spec(window)
    means = {label: fill(spec) for label, (spec, _) in wanted.items()} if fill else _made(window, wanted)
    # a family that is not there has share 0: what stands in for it does not count
    any_one = next(iter(means.values()))
    parts = [means.get(spec.label, any_one)[hole] for spec in recipe.fills]
    # shares are rounded: what a fill made of pixels that it was not asked for would show in last digits
    counted = any_one[hole]
    for share, part in zip(shares, parts, strict=True):
        counted = np.where(share > 0, part, counted)
    parts = [np.where(share > 0, part, counted) for share, part in zip(shares, parts, strict=True)]
    result = any_one.copy()
    result[hole] = blended(shares, parts)
    return result


def _telling(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return family shares `(3, n)` without those of thin and border holes that hardly count, which go to the deep.

    Whole holes would be filled once more for them.
    """
    thin, deep, border = shares
    little = np.where(shares < _HARDLY, shares, np.float32(0))
    return np.stack([thin - little[0], deep + little[0] + little[2], border - little[2]])


def _made(window: Window, wanted: Mapping[str, tuple[FillSpec, NDArray[np.bool_]]]) -> dict[str, NDArray[np.float32]]:
    """Return what some fills make of a window, each of those hole pixels that need it; by label.

    What one of them begins with and another one is, is made once.
    """
    begun = {spec.begun_with.label for spec, _ in wanted.values() if spec.whole}
    means: dict[str, NDArray[np.float32]] = {}

    def begin(spec: FillSpec) -> NDArray[np.float32]:
        if spec.label not in means:
            return spec(window)
        return means[spec.label]

    for label, (spec, own) in sorted(wanted.items(), key=lambda one: one[1][0].whole):
        if spec.whole:
            means[label] = spec.over(replace(window, asked=own), begin)
        else:
            means[label] = spec(window if label in begun else replace(window, hole=_parts(window, own)))
    return means


def _parts(window: Window, some: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the holes that some hole pixels depend on: whole ones, with those so near that fills couple them."""
    parts = np.zeros_like(some)
    for channels in window.groups:
        hole = window.hole[channels[0]]
        numbers, _ = ndimage.label(ndimage.binary_dilation(hole))
        asked = np.unique(numbers[some[channels].any(axis=0)])
        parts[channels] = hole & np.isin(numbers, asked)
    return parts


def filled(
    recipe: Recipe, window: Window, mean: NDArray[np.float32], place: Situation, beyond: Beyond | None = None
) -> Draft:
    """Return the draft that a base fill makes."""
    scale, close = roughness(recipe, window, place, beyond)
    return Draft(
        mean=mean,
        origin=np.where(window.hole, np.uint8(CLASSICAL), np.uint8(OBSERVED)),
        trust=np.zeros_like(mean),
        place=place,
        scale=scale,
        close=close,
        lead=np.zeros_like(mean),
        reliability=np.full_like(mean, _NOTHING),
        said=np.zeros_like(mean),
    )


def with_reference(draft: Draft, result: ReferenceFill, code: int, reliance: Reliance, window: Window) -> Draft:
    """Blend in what a guide with this source code says where it is usable; weight 0 changes nothing.

    The fill beside it follows, see `continued`, and keeps its code.
    """
    if reliance.highest == 0:
        return draft
    place = draft.place
    absolute, said = compared(result.reliability, 1 - draft.reliability), draft.said
    told = absolute if reliance.untested else result.reliability
    weight = np.where(result.usable, reliance.at(told, place.distance, place.shares[0]), np.float32(0))
    if reliance.gate > 0:
        weight = reliance.open(region(result.reliability, result.usable, window.spacing)) * weight
    if reliance.untested:
        weight, said = shared(weight, absolute, said)
    left = draft.lead * (1 - weight)
    leads = (weight >= NAMED) & (weight >= left)
    mean = mix(draft.mean, limited(draft, result.values, reliance.limit), weight)
    return replace(
        draft,
        mean=np.where(result.usable, mean, draft.mean + continued(mean - draft.mean, result.usable, window)),
        origin=np.where(leads, np.uint8(code), draft.origin),
        trust=1 - (1 - draft.trust) * (1 - weight),
        lead=np.where(leads, weight, left),
        reliability=draft.reliability + weight * np.maximum(absolute - draft.reliability, np.float32(0)),
        said=said,
    )


def finish(recipe: Recipe, task: Task, draft: Draft, raw: NDArray[np.float32]) -> Estimate:
    """Clip the mean to the limits and turn the raw standard error into a calibrated one.

    What contaminated pixels around add to it comes on top: what the calibration hid lies elsewhere.
    """
    window, hole = task.window, pixels_of(task.window.hole)
    low, high, typical = (column(part, 1, np.float32) for part in (recipe.low, recipe.high, recipe.typical))
    place, trust, reliability = draft.place.at(hole), picked(draft.trust, hole), picked(draft.reliability, hole)
    told = picked(raw, hole)
    told = np.asarray(told + far(task, place) * (typical - told), dtype=np.float32)
    if (reliability > _NOTHING).any():
        told = misfit(reliability) * told
    if recipe.error_power != 1:
        told = tempered(recipe, told, typical, needed(recipe, place, trust))
    sigma = told * error_factor(recipe, trust, place)
    for own, rim, distance in zip(sigma, recipe.rim, place.distance, strict=False):
        own[...] = np.hypot(own, rim(distance))
    around = _contamination(task, draft.place)
    if around is not None:
        sigma = np.hypot(picked(around.factor, hole) * sigma, bounded_left(picked(around.left, hole), typical))
    asked, mean = picked(window.hole, hole), picked(draft.mean, hole)
    return Estimate(
        mean=with_values(draft.mean, hole, np.where(asked, np.clip(mean, low, high), mean)),
        raw=with_values(raw, hole, told),
        sigma=with_values(np.zeros_like(raw), hole, np.where(asked, sigma, np.float32(0))),
        place=draft.place,
        origin=draft.origin.astype(np.uint8),
        trust=draft.trust,
    )


def error_factor(recipe: Recipe, trust: NDArray[np.float32], place: Situation) -> NDArray[np.float32]:
    """Return what the raw standard error is multiplied by: that of references where one carries half the mean.

    `trust` and `place` are those of any pixels, `(...)` and `(3, ...)`; one plane is returned where all are alike.
    """
    single = recipe.single.factor(place.distinct)
    if not trust.any():
        return single
    referenced = recipe.referenced.factor(place.distinct)
    return np.asarray(single + carried(trust) * (referenced - single), dtype=np.float32)


def tempered(
    recipe: Recipe, raw: NDArray[np.float32], typical: NDArray[np.float32], stated: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the raw error, to the power that errors grow with where a network states it; typical ones stay.

    Args:
        recipe: with the power.
        raw: of any pixels, data units, > 0.
        typical: of their channels, data units; broadcasts with `raw`.
        stated: how far it is a network's, in [0, 1], see `needed`.
    """
    if recipe.error_power == 1:
        return raw
    return np.asarray(typical * (raw / typical) ** (1 + stated * np.float32(recipe.error_power - 1)), dtype=np.float32)


def misfit(reliability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the error of what references brought over that of a local mean, as its reliability, in [0, 1], says.

    It is 1 where they brought nothing. The odds against them are the ratio of squared errors, squared: see
    `ReferenceFill`.
    """
    bounded = np.clip(reliability, 1 - _SUREST, _SUREST)
    return np.asarray(((1 - bounded) / bounded) ** np.float32(0.25), dtype=np.float32)


def bounded_left(left: NDArray[np.float32], typical: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard error that haze leaves where it was taken off, always below half of the image's deviation.

    More would be seen: the ground beside the holes would be brighter than elsewhere by more than it varies.

    Args:
        left: the same as a share of what was taken off, of any pixels `(c, n)`, data units.
        typical: deviation of the image, `(c, 1)`, data units, > 0.
    """
    most = _MOST_LEFT * typical
    return np.asarray(left * (most / np.hypot(left, most)), dtype=np.float32)


def _contamination(task: Task, place: Situation) -> Contamination | None:
    own, far = task.around, task.around_beyond
    if task.beyond is None or far is None:
        return own
    if own is None:
        own = Contamination(left=np.zeros_like(far.left), factor=np.ones_like(far.factor))
    shared = far.left.shape[0] == own.left.shape[0] == own.factor.shape[0] == 1
    some = slice(1) if shared else slice(None)
    return own.seen_from(far, task.beyond.seen(place.distance[some], some))


def roughness(
    recipe: Recipe, window: Window, place: Situation, beyond: Beyond | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the local standard deviation of the observed pixels, and that of those close by.

    They are told at hole pixels; elsewhere, and in channels without any observed pixel, stands that of the whole image.
    """
    ndim, floor, hole = len(window.spacing), np.asarray(recipe.floor), pixels_of(window.hole)
    everywhere = typical_scale(recipe, window.values)
    scales = picked(everywhere, hole), picked(everywhere, hole)
    asked = window.hole.any(axis=tuple(range(1, ndim + 1)))
    known = asked & window.valid.any(axis=tuple(range(1, ndim + 1)))
    if known.any():
        some = slice(None) if known.all() else known
        found = local_scales(window.values[some], window.valid[some], floor[some], hole)
        for scale, own in zip(scales, found, strict=True):
            scale[known] = own
    if beyond is not None and asked.any():
        shown: slice | NDArray[np.bool_] = slice(1) if beyond.shared else np.asarray(asked)
        seen = picked(beyond.seen(place.distance[shown], shown), hole)
        outside = np.maximum(picked(beyond.scale, hole)[asked], column(floor[asked], 1, np.float32))
        for scale in scales:
            scale[asked] = handed_over(scale[asked], outside, seen)
    wide, close = (with_values(everywhere, hole, scale) for scale in scales)
    return wide, close
