"""The network over what came before it: which pixels it is asked about, and how much of it is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.models.base import AUTO, BFLOAT16, Inpainter, Patch, Prediction, precision_of
from pipeline.numerics.beyond import Beyond
from pipeline.numerics.pixels import picked, pixels_of, with_values
from pipeline.numerics.situation import Curves, Situation, blended
from pipeline.restore.blend import NAMED, carried, floors, limited, mix, typical_scale
from pipeline.restore.codes import CLASSICAL, NETWORK
from pipeline.restore.recipe import Recipe, narrowed
from pipeline.restore.task import Draft, Task
from pipeline.system import gpu

_NEAR = 0.25
"""Share of the patch up to which all counts that is said of a pixel so far from what is observed."""

_HALF_RANGE = 4.65 / 2
"""Half of the range of a channel's values, 1st to 99th percentile, in its typical scales."""


def asked(model: Inpainter, window: Window, beyond: Beyond | None = None) -> NDArray[np.bool_]:
    """Return the hole pixels the model is asked about: none in channels without any observed pixel to go by.

    A model that sets `blind = True` needs none, nor one of a window of which the whole image says what lies beyond.
    """
    if beyond is not None:
        return window.hole
    seen = window.valid.any(axis=tuple(range(1, window.valid.ndim)), keepdims=True)
    return window.hole & (seen | getattr(model, "blind", False))


def far(task: Task, place: Situation) -> NDArray[np.float32]:
    """Return how far from observed pixels hole pixels lie, `(c, *spatial)`: 1 from the size of a patch on."""
    return np.asarray(np.clip((place.distance / task.patch - _NEAR) / (1 - _NEAR), 0, 1), dtype=np.float32)


def counted(model: Inpainter, task: Task, place: Situation) -> NDArray[np.float32]:
    """Return how far what the model says of each pixel counts, 0 to 1.

    Where the window does not show what is around, that fades with depth: no network has seen holes as wide as those.
    """
    where = asked(model, task.window, task.beyond).astype(np.float32)
    if task.beyond is None or getattr(model, "blind", False):
        return where
    return where * (1 - far(task, place))


def with_network(draft: Draft, predicted: NDArray[np.float32], counts: NDArray[Any], recipe: Recipe) -> Draft:
    """Blend in what the network says, as far as it counts, 0 to 1; pixels from a reference keep its code."""
    heard = pixels_of(counts > 0)
    own = draft.at(heard)
    weight = picked(counts, heard) * network_share(recipe, own)
    mean = mix(own.mean, limited(own, picked(predicted, heard), recipe.network_limit), weight)
    origin = np.where((weight >= NAMED) & (own.origin == CLASSICAL), np.uint8(NETWORK), own.origin)
    return replace(
        draft,
        mean=with_values(draft.mean, heard, mean),
        origin=with_values(draft.origin, heard, origin),
    )


def network_share(recipe: Recipe, draft: Draft) -> NDArray[np.float32]:
    """Return the weight of the network at each pixel: another one where references carry the mean."""
    return share_at(recipe, draft.place, draft.trust)


def share_at(recipe: Recipe, place: Situation, trust: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `network_share` at any pixels, whose `place` and `trust` are given as to `error_factor`."""
    own = recipe.network.at(place.distinct)
    if recipe.network_referenced is None or not trust.any():
        return own
    weight = own + carried(trust) * (recipe.network_referenced.at(place.distinct) - own)
    return np.asarray(weight, dtype=np.float32)


def needed(recipe: Recipe, place: Situation, trust: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far each pixel is of a kind that the network is used for at all, 0 to 1.

    Kinds are the families of holes, with references and without. Where it is 0 the network changes nothing. Pixels are
    any, see `share_at`.
    """
    own = _of_families(recipe.network, place.distinct)
    if recipe.network_referenced is None or not trust.any():
        return np.broadcast_to(own, trust.shape)
    return np.asarray(own + carried(trust) * (_of_families(recipe.network_referenced, place.distinct) - own))


def _of_families(network: Curves, place: Situation) -> NDArray[np.float32]:
    return blended(place.shares, [np.asarray(max(curve.values) > 0, dtype=np.float64) for curve in network.all])


def raw_of(recipe: Recipe, draft: Draft, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard error before calibration: the network's, `raw`, where it is `needed`.

    Elsewhere it is the draft's own, the standard deviation of the observed pixels close by. Values within a range
    deviate by half of it at most (Popoviciu 1935). A network may say more at a few pixels, whose squares then outweigh
    those of all others, so it is heard up to that, or up to the draft's own where outliers are observed close by.
    """
    most = np.maximum(draft.close, np.float32(_HALF_RANGE) * typical_scale(recipe, raw))
    return mix(draft.close, np.minimum(raw, most), needed(recipe, draft.place, draft.trust))


def refine(
    model: Inpainter, tasks: Sequence[Task], drafts: Sequence[Draft], recipe: Recipe, *, testing: bool = False
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return `(mean, raw standard error)` of the network for each window.

    Pixels that it is not `asked` about, or not `needed` at, keep what they have, or get what counts for nothing.

    Args:
        model: the network.
        tasks: the windows.
        drafts: what has been made of them.
        recipe: decisions so far.
        testing: it is not decided yet where the network is needed: all it is asked about counts.
    """
    patches: list[Patch] = []
    active = []
    for task, draft in zip(tasks, drafts, strict=True):
        wanted = counted(model, task, draft.place) > 0
        if not testing:
            wanted = wanted & (needed(recipe, draft.place, draft.trust) > 0)
        if task.used:
            wanted = _only(wanted, task.used)
        channels = np.flatnonzero(wanted.any(axis=tuple(range(1, wanted.ndim))))
        active.append(channels)
        if channels.size:
            patches.append(_patch(task, draft, wanted, channels, recipe))
    predictions = iter(_predicted(model, patches))
    results = []
    for draft, channels in zip(drafts, active, strict=True):
        full, raw = draft.mean.copy(), typical_scale(recipe, draft.mean)
        if channels.size:
            prediction = next(predictions)
            full[channels] = prediction.mean
            raw[channels] = prediction.scale
        results.append((full, raw))
    return results


def compared(model: Inpainter, recipe: Recipe, ndim: int) -> Recipe:
    """Return the recipe with the precision in which the network is looked at where its estimates are only compared.

    In volumes that is bfloat16 wherever the network may choose: its looks are most of what a self-test of them takes,
    and bfloat16 moves what it adds by 0.5 % of that.
    """
    if ndim == 2 or precision_of(model) != AUTO:
        return recipe
    return replace(recipe, network_precision=(BFLOAT16,) * len(recipe.network_precision))


def _only(wanted: NDArray[np.bool_], part: tuple[slice, ...]) -> NDArray[np.bool_]:
    """Return what is wanted in a part of a window, False elsewhere."""
    some = np.zeros_like(wanted)
    some[:, *part] = wanted[:, *part]
    return some


def _predicted(model: Inpainter, patches: list[Patch]) -> list[Prediction]:
    """Return the predictions; where they do not fit a GPU together, the same in halves: company changes none."""
    try:
        return model.predict(patches)
    except RuntimeError as error:
        if len(patches) < 2 or not gpu.is_full(error):
            raise
    gpu.release()
    half = len(patches) // 2
    return [*_predicted(model, patches[:half]), *_predicted(model, patches[half:])]


def _patch(task: Task, draft: Draft, wanted: NDArray[np.bool_], channels: NDArray[np.intp], recipe: Recipe) -> Patch:
    window, mean, beyond = task.window, draft.mean, task.beyond
    complete = np.where(window.valid | window.hole, mean, _neutral(mean, window.valid))
    return Patch(
        filled=complete[channels],
        valid=np.ascontiguousarray(window.valid[channels]),
        spacing=window.spacing,
        floor=floors(recipe)[channels],
        views=recipe.network_views,
        precision=narrowed(recipe, channels.tolist()).network_precision,
        asked=wanted[channels],
        beyond=None if beyond is None else replace(beyond, distance=draft.place.distance).of(channels),
    )


def _neutral(mean: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Per-channel mean of the observed values, shaped to broadcast: what never-touch pixels look like."""
    axes = tuple(range(1, mean.ndim))
    count = np.maximum(valid.sum(axis=axes, keepdims=True), 1)
    total = np.where(valid, mean, np.float32(0)).sum(axis=axes, keepdims=True, dtype=np.float64)
    return np.asarray(total / count, dtype=np.float32)
