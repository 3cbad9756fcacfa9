"""One window in, one estimate out: fill, then references, then the network, then a calibrated uncertainty.

This is the arithmetic that blocks, the self-test and `evaluate` share, so what was tested is what runs. It is pure
and deterministic; how much of each step is used was decided once, by the self-test, and stands in the `Recipe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from pipeline.fills.base import FillSpec, Window
from pipeline.models.base import Inpainter, Patch
from pipeline.quality.calibration import Calibration
from pipeline.quality.normalise import local_statistics
from pipeline.references import ReferenceFill, Relation, Siblings, consult

OBSERVED, CLASSICAL, NETWORK, REFERENCE, REFUSED, NEVER_TOUCHED = 0, 1, 2, 10, 254, 255
"""Codes of the source layer; reference k (counted from 0) has code `REFERENCE + k`, the image's own
channels come after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the self-test decided for one image.

    Attributes:
        fill: the base fill.
        relations: how each reference maps to the image, None if that could not be fitted; the last one is that of
            the image's own channels if they have different holes.
        reference_weights: blend weight of each reference over what came before it; 0 = not used.
        network_weight: blend weight of the network over the classical estimate; 0 = not used.
        single: calibration of pixels restored from the image itself.
        referenced: calibration of pixels restored with a reference.
        floor: smallest local scale of each channel, data units.
        typical: scale of each channel over the whole image, for windows in which nothing is observed.
        low: smallest value that may be written, per channel, data units.
        high: largest value that may be written, per channel, data units.
    """

    fill: FillSpec
    relations: tuple[Relation | Siblings | None, ...] = ()
    reference_weights: tuple[float, ...] = ()
    network_weight: float = 0.0
    single: Calibration = field(default_factory=Calibration)
    referenced: Calibration = field(default_factory=Calibration)
    floor: tuple[float, ...]
    typical: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


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
        distance: float32, distance to the nearest observed pixel of the window, in steps of the finest axis.
        origin: uint8, code of the source layer.
        trust: float32 in [0, 1], how far references carry the mean.
    """

    mean: NDArray[np.float32]
    raw: NDArray[np.float32]
    sigma: NDArray[np.float32]
    distance: NDArray[np.float32]
    origin: NDArray[np.uint8]
    trust: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An estimate in the making, all `(c, *spatial)`.

    Attributes:
        mean: float32, data units.
        origin: uint8, source codes.
        trust: float32 in [0, 1], how far references carry the mean.
    """

    mean: NDArray[np.float32]
    origin: NDArray[np.uint8]
    trust: NDArray[np.float32]


def estimate(recipe: Recipe, model: Inpainter | None, tasks: Sequence[Task]) -> list[Estimate]:
    """Restore windows; the result of a window does not depend on the others in the call."""
    drafts = [classical(recipe, task) for task in tasks]
    if model is None or recipe.network_weight == 0:
        return [
            finish(recipe, task, draft, roughness(recipe, task.window))
            for task, draft in zip(tasks, drafts, strict=True)
        ]
    refined = refine(model, tasks, [draft.mean for draft in drafts], recipe)
    return [
        finish(recipe, task, with_network(draft, predicted, asked(model, task.window), recipe.network_weight), raw)
        for task, draft, (predicted, raw) in zip(tasks, drafts, refined, strict=True)
    ]


def classical(recipe: Recipe, task: Task) -> Draft:
    """Return the estimate before the network: base fill, then each reference over what came before it."""
    window = task.window
    draft = filled(window, recipe.fill(window) if task.base is None else task.base)
    used = zip(recipe.relations, recipe.reference_weights, task.guides, strict=True)
    for k, (relation, weight, guide) in enumerate(used):
        if relation is not None and weight > 0:
            result = consult(window, guide.values, guide.valid, relation, draft.mean)
            draft = with_reference(draft, result, k, weight)
    return draft


def filled(window: Window, mean: NDArray[np.float32]) -> Draft:
    """Return the draft that a base fill makes."""
    origin = np.where(window.hole, np.uint8(CLASSICAL), np.uint8(OBSERVED))
    return Draft(mean=mean, origin=origin, trust=np.zeros_like(mean))


def with_reference(draft: Draft, result: ReferenceFill, k: int, weight: float) -> Draft:
    """Blend in what reference `k` says where it is usable; weight 0 changes nothing."""
    if weight == 0:
        return draft
    return Draft(
        mean=np.where(result.usable, mix(draft.mean, result.values, weight), draft.mean),
        origin=np.where(result.usable, np.uint8(REFERENCE + k), draft.origin),
        trust=1 - (1 - draft.trust) * (1 - result.trust),
    )


def asked(model: Inpainter, window: Window) -> NDArray[np.bool_]:
    """Return the hole pixels the model is asked about: none in channels without any observed pixel to go by.

    A model that sets `blind = True` needs none.
    """
    seen = window.valid.any(axis=tuple(range(1, window.valid.ndim)), keepdims=True)
    return window.hole & (seen | getattr(model, "blind", False))


def with_network(draft: Draft, predicted: NDArray[np.float32], hole: NDArray[np.bool_], weight: float) -> Draft:
    """Blend in what the network says in holes; pixels from a reference keep its code."""
    return replace(
        draft,
        mean=np.where(hole, mix(draft.mean, predicted, weight), draft.mean),
        origin=np.where(hole & (draft.origin == CLASSICAL), np.uint8(NETWORK), draft.origin),
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


def mix(mean: NDArray[np.float32], proposal: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Return the blend of two estimates; exactly `mean` at weight 0 and where they agree, exactly `proposal` at 1."""
    if weight == 1:
        return proposal
    return np.asarray(mean + np.float32(weight) * (proposal - mean), dtype=np.float32)


def distance_to_observed(valid: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the distance of each pixel to the nearest observed one, `(c, *spatial)`, in steps of the finest axis.

    A channel without observed pixels has the window's diagonal everywhere.
    """
    step = min(spacing)
    sampling = [s / step for s in spacing]
    result = np.empty(valid.shape, dtype=np.float32)
    for c, seen in enumerate(valid):
        if c and np.array_equal(seen, valid[c - 1]):
            result[c] = result[c - 1]
        elif seen.any():
            result[c] = distance_transform_edt(~seen, sampling=sampling)
        else:
            result[c] = float(np.linalg.norm(seen.shape))
    return result


def finish(recipe: Recipe, task: Task, draft: Draft, raw: NDArray[np.float32]) -> Estimate:
    """Clip the mean to the limits and turn the raw standard error into a calibrated one."""
    window, origin = task.window, draft.origin
    column = (-1,) + (1,) * (draft.mean.ndim - 1)
    low = np.asarray(recipe.low, dtype=np.float32).reshape(column)
    high = np.asarray(recipe.high, dtype=np.float32).reshape(column)
    distance = distance_to_observed(window.valid, window.spacing)
    factor = error_factor(recipe, draft.trust, distance)
    return Estimate(
        mean=np.where(window.hole, np.clip(draft.mean, low, high), draft.mean),
        raw=raw,
        sigma=np.where(window.hole, raw * factor, np.float32(0)).astype(np.float32),
        distance=distance,
        origin=origin.astype(np.uint8),
        trust=draft.trust,
    )


def error_factor(recipe: Recipe, trust: NDArray[np.float32], distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the raw standard error is multiplied by; where a reference fades out, both calibrations count."""
    referenced, single = recipe.referenced.factor(distance), recipe.single.factor(distance)
    return np.asarray(np.hypot(trust * referenced, (1 - trust) * single), dtype=np.float32)


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
