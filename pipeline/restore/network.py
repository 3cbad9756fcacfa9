"""The network over what came before it: which pixels it is asked about, and how much of it is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.models.base import Inpainter, Patch
from pipeline.restore.blend import NAMED, carried, floors, limited, mix, typical_scale
from pipeline.restore.codes import CLASSICAL, NETWORK
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Draft, Task


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
        origin=np.where((weight >= NAMED) & (draft.origin == CLASSICAL), np.uint8(NETWORK), draft.origin),
    )


def network_share(recipe: Recipe, draft: Draft) -> NDArray[np.float32]:
    """Return the weight of the network at each pixel: another one where references carry the mean."""
    own = recipe.network.at(draft.place)
    if recipe.network_referenced is None or not draft.trust.any():
        return own
    weight = own + carried(draft.trust) * (recipe.network_referenced.at(draft.place) - own)
    return np.asarray(weight, dtype=np.float32)


def raw_of(recipe: Recipe, draft: Draft, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard error before calibration.

    It is the network's, `raw`. Where references carry the mean and the network is not used beside them, it is the
    draft's own: the local standard deviation of the observed pixels.
    """
    if recipe.network_referenced is None or recipe.network_referenced.highest > 0 or not draft.trust.any():
        return raw
    return np.asarray(raw + carried(draft.trust) * (draft.scale - raw), dtype=np.float32)


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
        full, raw = mean.copy(), typical_scale(recipe, mean)
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
        floor=floors(recipe)[channels],
    )


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
