"""One window in, one estimate out: fill, then references, then the network, then a calibrated uncertainty.

This is the arithmetic that blocks, the self-test and `evaluate` share, so what was tested is what runs. It is pure
and deterministic; how much of each step is used was decided once, by the self-test, and stands in the `Recipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec, Window
from pipeline.models.base import Inpainter, Patch
from pipeline.quality.calibration import Calibration
from pipeline.quality.normalise import local_statistics
from pipeline.quality.situation import Curves, Situation, blended, flat, situation
from pipeline.references import ReferenceFill, Relation, Reliance, Siblings, compared, consult, region

OBSERVED, CLASSICAL, NETWORK, REFERENCE, REFUSED, NEVER_TOUCHED = 0, 1, 2, 10, 254, 255
"""Codes of the source layer; reference k (counted from 0) has code `REFERENCE + k`, the image's own
channels come after the last."""
CARRIED = 0.5
"""Share of a reference in the mean from which its own calibration holds."""
_NAMED = 0.05
"""Weight from which the source layer names a method."""
_NEAR = 0.25
"""Share of the patch up to which the local scale holds as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the self-test decided for one image.

    Attributes:
        fill: the base fill of deep holes, and of all for which nothing else is said.
        thin_fill: the base fill of thin holes (dead pixels, lines), None = `fill`.
        border_fill: the base fill of holes with nothing observed behind them, None = `fill`.
        relations: how each reference maps to the image, None if that could not be fitted; the last one is that of
            the image's own channels if they have different holes.
        references: how much of each reference is blended in over what came before it.
        network: blend weight of the network over the image's own estimate; 0 everywhere = not used.
        network_referenced: the same where references carry the mean, None = as elsewhere.
        network_limit: largest correction of the network that is taken in full, in local standard deviations of the
            observed pixels; None = any.
        single: calibration of pixels restored from the image itself.
        referenced: calibration of pixels restored with a reference.
        floor: smallest local scale of each channel, data units.
        typical: scale of each channel over the whole image, for pixels far from all that is observed.
        low: smallest value that may be written, per channel, data units.
        high: largest value that may be written, per channel, data units.
    """

    fill: FillSpec
    thin_fill: FillSpec | None = None
    border_fill: FillSpec | None = None
    relations: tuple[Relation | Siblings | None, ...] = ()
    references: tuple[Reliance, ...] = ()
    network: Curves = field(default_factory=lambda: flat(0.0))
    network_referenced: Curves | None = None
    network_limit: float | None = None
    single: Calibration = field(default_factory=Calibration)
    referenced: Calibration = field(default_factory=Calibration)
    floor: tuple[float, ...]
    typical: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def fills(self) -> tuple[FillSpec, FillSpec, FillSpec]:
        """Return the base fill of each family, in the order of `FAMILIES`."""
        return self.thin_fill or self.fill, self.fill, self.border_fill or self.fill

    @property
    def network_weight(self) -> float:
        """Return the largest weight that the network has anywhere."""
        return max(self.network.highest, self.network_referenced.highest if self.network_referenced else 0.0)

    @property
    def reference_weights(self) -> tuple[float, ...]:
        """Return the largest weight that each reference has anywhere."""
        return tuple(reliance.highest for reliance in self.references)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """A reference or auxiliary seen through one window.

    Attributes:
        values: float32 `(c_ref, *spatial)`.
        valid: bool `(1 | c_ref, *spatial)`.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


def with_siblings(window: Window, guides: tuple[Guide, ...], n_state: int) -> tuple[Guide, ...]:
    """Add the image itself to the guides of a window if its channels have different holes."""
    return guides if n_state == 1 else (*guides, Guide(values=window.values, valid=window.valid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A window to restore, with all that may help.

    Attributes:
        window: observed values and holes, `(c, *spatial)`.
        guides: one per reference of the recipe, then the image itself if its channels have different holes.
        base: the exact base fill if the survey already has it, else None.
        patch: constant spatial shape the network sees; the window is padded to it.
        offset: where the window lies inside the patch, per axis.
    """

    window: Window
    guides: tuple[Guide, ...] = ()
    base: NDArray[np.float32] | None = None
    patch: tuple[int, ...]
    offset: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is known about the holes of a window; observed pixels carry their value, 0 and `OBSERVED`.

    Attributes:
        mean: float32 `(c, *spatial)`, data units, inside the recipe's limits.
        raw: float32, uncalibrated standard error, > 0 in holes.
        sigma: float32, calibrated standard error.
        place: distance and hole family of each pixel.
        origin: uint8, code of the source layer.
        trust: float32 in [0, 1], how far references carry the mean.
    """

    mean: NDArray[np.float32]
    raw: NDArray[np.float32]
    sigma: NDArray[np.float32]
    place: Situation
    origin: NDArray[np.uint8]
    trust: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An estimate in the making, all `(c, *spatial)`.

    Attributes:
        mean: float32, data units.
        origin: uint8, source codes.
        trust: float32 in [0, 1], how far references carry the mean.
        place: distance and hole family of each pixel.
        scale: float32, local standard deviation of the observed pixels.
        lead: float32 in [0, 1], share of the mean of the reference that `origin` names.
        reliability: float32 in [0, 1], of the references in the mean; 0.5 without any.
    """

    mean: NDArray[np.float32]
    origin: NDArray[np.uint8]
    trust: NDArray[np.float32]
    place: Situation
    scale: NDArray[np.float32]
    lead: NDArray[np.float32]
    reliability: NDArray[np.float32]


def estimate(recipe: Recipe, model: Inpainter | None, tasks: Sequence[Task]) -> list[Estimate]:
    """Restore windows; the result of a window does not depend on the others in the call."""
    drafts = [classical(recipe, task) for task in tasks]
    if model is None or recipe.network_weight == 0:
        return [finish(recipe, task, draft, draft.scale) for task, draft in zip(tasks, drafts, strict=True)]
    refined = refine(model, tasks, [draft.mean for draft in drafts], recipe)
    return [
        finish(
            recipe, task, with_network(draft, predicted, asked(model, task.window), recipe), raw_of(recipe, draft, raw)
        )
        for task, draft, (predicted, raw) in zip(tasks, drafts, refined, strict=True)
    ]


def classical(recipe: Recipe, task: Task) -> Draft:
    """Return the estimate before the network: base fill, then each reference over what came before it."""
    window = task.window
    place = where(window)
    mean = base_fill(recipe, window, place) if task.base is None else task.base
    draft = filled(recipe, window, mean, place)
    used = zip(recipe.relations, recipe.references, task.guides, strict=True)
    for k, (relation, reliance, guide) in enumerate(used):
        if relation is not None and reliance.highest > 0:
            result = consult(window, guide.values, guide.valid, relation, draft.mean, draft.reliability)
            draft = with_reference(draft, result, k, reliance, window.spacing)
    return draft


def where(window: Window) -> Situation:
    """Return distance and family of the pixels of a window."""
    return situation(window.valid, window.hole, window.spacing, window.open_edges)


def base_fill(
    recipe: Recipe,
    window: Window,
    place: Situation,
    fill: Callable[[FillSpec], NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """Return what the base fills make of a window, each in its family of holes, `(c, *spatial)`.

    `fill` gives the fill of this window if it is known already.
    """
    fill = fill or (lambda spec: spec(window))
    present = [bool((share[window.hole] > 0).any()) for share in place.shares]
    specs = [spec for spec, there in zip(recipe.fills, present, strict=True) if there] or [recipe.fill]
    means = {spec.label: fill(spec) for spec in specs}
    if len(means) == 1:
        return means[specs[0].label]
    # a family that is not there has share 0: what stands in for it does not count
    parts = [means.get(spec.label, means[specs[0].label]) for spec in recipe.fills]
    return np.where(window.hole, blended(place.shares, parts), parts[0])


def filled(recipe: Recipe, window: Window, mean: NDArray[np.float32], place: Situation) -> Draft:
    """Return the draft that a base fill makes."""
    return Draft(
        mean=mean,
        origin=np.where(window.hole, np.uint8(CLASSICAL), np.uint8(OBSERVED)),
        trust=np.zeros_like(mean),
        place=place,
        scale=roughness(recipe, window),
        lead=np.zeros_like(mean),
        reliability=np.full_like(mean, 0.5),
    )


def with_reference(draft: Draft, result: ReferenceFill, k: int, reliance: Reliance, spacing: Sequence[float]) -> Draft:
    """Blend in what reference `k` says where it is usable; weight 0 changes nothing."""
    if reliance.highest == 0:
        return draft
    place = draft.place
    weight = np.where(result.usable, reliance.at(result.reliability, place.distance, place.shares[0]), np.float32(0))
    if reliance.gate > 0:
        weight = reliance.open(region(result.reliability, result.usable, spacing)) * weight
    brought = weight * result.trust
    left = draft.lead * (1 - brought)
    leads = (brought >= _NAMED) & (brought >= left)
    absolute = compared(result.reliability, 1 - draft.reliability)
    return replace(
        draft,
        mean=mix(draft.mean, limited(draft, result.values, reliance.limit), weight),
        origin=np.where(leads, np.uint8(REFERENCE + k), draft.origin),
        trust=1 - (1 - draft.trust) * (1 - brought),
        lead=np.where(leads, brought, left),
        reliability=draft.reliability + brought * np.maximum(absolute - draft.reliability, np.float32(0)),
    )


def limited(draft: Draft, proposal: NDArray[np.float32], limit: float | None) -> NDArray[np.float32]:
    """Return the proposal with steps above `limit` local standard deviations shortened, none longer than twice that.

    The self-test sets the limit to the largest steps that proved good: what goes beyond them was never tested.
    """
    if limit is None:
        return proposal
    step = proposal - draft.mean
    size, most = np.abs(step), np.float32(limit) * draft.scale
    shortened = draft.mean + np.sign(step) * most * (2 - most / np.maximum(size, most))
    return np.where(size <= most, proposal, shortened).astype(np.float32)


def asked(model: Inpainter, window: Window) -> NDArray[np.bool_]:
    """Return the hole pixels the model is asked about: none in channels without any observed pixel to go by.

    A model that sets `blind = True` needs none.
    """
    seen = window.valid.any(axis=tuple(range(1, window.valid.ndim)), keepdims=True)
    return window.hole & (seen | getattr(model, "blind", False))


def with_network(draft: Draft, predicted: NDArray[np.float32], hole: NDArray[np.bool_], recipe: Recipe) -> Draft:
    """Blend in what the network says in holes; pixels from a reference keep its code."""
    weight = np.where(hole, network_share(recipe, draft), np.float32(0))
    return replace(
        draft,
        mean=mix(draft.mean, limited(draft, predicted, recipe.network_limit), weight),
        origin=np.where((weight >= _NAMED) & (draft.origin == CLASSICAL), np.uint8(NETWORK), draft.origin),
    )


def network_share(recipe: Recipe, draft: Draft) -> NDArray[np.float32]:
    """Return the weight of the network at each pixel: another one where references carry the mean."""
    own = recipe.network.at(draft.place)
    if recipe.network_referenced is None or not draft.trust.any():
        return own
    weight = own + carried(draft.trust) * (recipe.network_referenced.at(draft.place) - own)
    return np.asarray(weight, dtype=np.float32)


def raw_of(recipe: Recipe, draft: Draft, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the raw error to calibrate, `raw` is the network's; where it has no say beside references, the draft's."""
    if recipe.network_referenced is None or recipe.network_referenced.highest > 0 or not draft.trust.any():
        return raw
    return np.asarray(raw + carried(draft.trust) * (draft.scale - raw), dtype=np.float32)


def carried(trust: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far a pixel counts as restored from references: fully where they make half of its mean."""
    return np.asarray(np.minimum(trust / np.float32(CARRIED), np.float32(1)))


def narrowed(recipe: Recipe, channels: Sequence[int]) -> Recipe:
    """Return the recipe for some of the channels, without references."""
    return replace(
        recipe,
        relations=(),
        references=(),
        floor=tuple(recipe.floor[c] for c in channels),
        typical=tuple(recipe.typical[c] for c in channels),
        low=tuple(recipe.low[c] for c in channels),
        high=tuple(recipe.high[c] for c in channels),
    )


def refine(
    model: Inpainter, tasks: Sequence[Task], means: Sequence[NDArray[np.float32]], recipe: Recipe
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return `(mean, raw standard error)` of the network for each window.

    Channels that it is not `asked` about keep what they have.
    """
    patches: list[Patch] = []
    active = []
    for task, mean in zip(tasks, means, strict=True):
        window = task.window
        channels = np.flatnonzero(asked(model, window).any(axis=tuple(range(1, mean.ndim))))
        active.append(channels)
        if channels.size:
            patches.append(_patch(task, mean, channels, recipe))
    predictions = iter(model.predict(patches))
    results = []
    for task, mean, channels in zip(tasks, means, active, strict=True):
        full, raw = mean.copy(), _typical(recipe, mean)
        if channels.size:
            prediction = next(predictions)
            inner = (slice(None), *(slice(o, o + n) for o, n in zip(task.offset, mean.shape[1:], strict=True)))
            full[channels] = prediction.mean[inner]
            raw[channels] = prediction.scale[inner]
        results.append((full, raw))
    return results


def _patch(task: Task, mean: NDArray[np.float32], channels: NDArray[np.intp], recipe: Recipe) -> Patch:
    window = task.window
    complete = np.where(window.valid | window.hole, mean, _neutral(mean, window.valid))
    return Patch(
        filled=_pad(complete[channels], task),
        valid=_pad(window.valid[channels], task, outside=False),
        spacing=window.spacing,
        floor=_floor(recipe)[channels],
    )


def mix(mean: NDArray[np.float32], proposal: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the blend of two estimates; exactly `mean` at weight 0 and where they agree, exactly `proposal` at 1."""
    blend = mean + np.asarray(weight, dtype=np.float32) * (proposal - mean)
    return np.where(weight == 1, proposal, np.where(weight == 0, mean, blend)).astype(np.float32)


def finish(recipe: Recipe, task: Task, draft: Draft, raw: NDArray[np.float32]) -> Estimate:
    """Clip the mean to the limits and turn the raw standard error into a calibrated one."""
    window, place = task.window, draft.place
    column = (-1,) + (1,) * (draft.mean.ndim - 1)
    low = np.asarray(recipe.low, dtype=np.float32).reshape(column)
    high = np.asarray(recipe.high, dtype=np.float32).reshape(column)
    raw = _faded(recipe, task, place, raw)
    return Estimate(
        mean=np.where(window.hole, np.clip(draft.mean, low, high), draft.mean),
        raw=raw,
        sigma=np.where(window.hole, raw * error_factor(recipe, draft.trust, place), np.float32(0)).astype(np.float32),
        place=place,
        origin=draft.origin.astype(np.uint8),
        trust=draft.trust,
    )


def error_factor(recipe: Recipe, trust: NDArray[np.float32], place: Situation) -> NDArray[np.float32]:
    """Return what the raw standard error is multiplied by: that of references where one carries half the mean."""
    single = recipe.single.factor(place)
    if not trust.any():
        return single
    return np.asarray(single + carried(trust) * (recipe.referenced.factor(place) - single), dtype=np.float32)


def _faded(recipe: Recipe, task: Task, place: Situation, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Let the raw error fade into that of the whole image far from observed pixels.

    A window without any observed pixel has no other, and its neighbours must not show a step.
    """
    far = np.clip((place.distance / min(task.patch) - _NEAR) / (1 - _NEAR), 0, 1).astype(np.float32)
    return np.asarray(raw + far * (_typical(recipe, raw) - raw), dtype=np.float32)


def roughness(recipe: Recipe, window: Window) -> NDArray[np.float32]:
    """Raw standard error without a network: the local standard deviation of the observed pixels, where needed."""
    raw = _typical(recipe, window.values)
    for c, floor in enumerate(recipe.floor):
        if window.hole[c].any() and window.valid[c].any():
            raw[c] = local_statistics(window.values[c], window.valid[c], floor).scale
    return raw


def _typical(recipe: Recipe, like: NDArray[np.float32]) -> NDArray[np.float32]:
    column = np.asarray(recipe.typical, dtype=np.float32).reshape((-1,) + (1,) * (like.ndim - 1))
    return np.broadcast_to(column, like.shape).copy()


def _floor(recipe: Recipe) -> NDArray[np.float32]:
    return np.asarray(recipe.floor, dtype=np.float32)


def _neutral(mean: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Per-channel mean of the observed values, shaped to broadcast: what never-touch pixels look like."""
    axes = tuple(range(1, mean.ndim))
    count = np.maximum(valid.sum(axis=axes, keepdims=True), 1)
    total = np.where(valid, mean, np.float32(0)).sum(axis=axes, keepdims=True, dtype=np.float64)
    return np.asarray(total / count, dtype=np.float32)


def _pad(array: NDArray, task: Task, *, outside: bool | None = None) -> NDArray:  # type: ignore[type-arg]
    spatial = array.shape[1:]
    widths = [(o, p - o - n) for o, p, n in zip(task.offset, task.patch, spatial, strict=True)]
    if not any(a or b for a, b in widths):
        return array
    if outside is None:
        return np.pad(array, [(0, 0), *widths], mode="edge")
    return np.pad(array, [(0, 0), *widths], mode="constant", constant_values=outside)
