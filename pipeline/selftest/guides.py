"""Relate references, auxiliaries and the channels of an image to one another, on pixels observed in both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.image.scene import Scene
from pipeline.references.align import Pair, aligned, misregistration
from pipeline.references.context import context
from pipeline.references.relation import Relation, fit_relation
from pipeline.references.siblings import Sibling, Siblings
from pipeline.restore.task import Guide
from pipeline.system.signals import stop_if_asked

_SAMPLES = 30_000
"""Pixels, about, that a relation is fitted on."""

_TILE = {2: 512, 3: 64}
"""Edge of the windows that they are taken from, by dimension."""

_MAX_TILES = {2: 48, 3: 64}
"""Number of these windows."""

_WINDOW = {2: 256, 3: 64}
"""Edge of the windows on which misregistration is measured, by dimension."""

_WINDOWS = 6
"""Number of these windows."""

_MOST_SIBLINGS = 6
"""Channels that one channel is restored from."""

_THERE = 0.9
"""Share of a channel's holes at which each of its siblings must be observed."""

_JOINTLY = 0.8
"""Share of a channel's holes at which all of its siblings must be observed."""

_SOMETIMES = 0.2
"""Share of a channel's holes at which a single sibling must be observed, if none is there as often as `_THERE`."""

_SIBLING_SAMPLES = 60_000
"""Pixels to fit on, shared by all channels with holes; each has at least a tenth of `_SAMPLES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedGuide:
    """A reference or auxiliary."""

    label: str
    """Its name in tables."""
    relation: Relation | Siblings | None
    """How it maps to the image; None: too few pixels are observed in both."""
    is_reference: bool = False
    """Another date or time point of the same, of which much is known before anything is tested."""
    leads: bool = False
    """A reference of an image that is nearly all hidden: it gets the weights of `prior.LEADING`, whatever is tested."""


def relations(scene: Scene, *, little: bool = False) -> list[Relation | Siblings | None]:
    """Relate every guide of the scene to the image; None where too few pixels are observed in both.

    An image whose channels have different holes has one guide more than files: its own channels.

    Args:
        scene: the opened image.
        little: so little is trusted that a relation is to be no more than a change of level and a hint of a map.
    """
    found: list[Relation | Siblings | None] = []
    if scene.guides:
        found += _of_files(scene, little=little)
    if scene.has_siblings:
        found.append(_siblings(scene))
    return found


def _tiles(scene: Scene, samples: int) -> Iterator[tuple[Window, tuple[Guide, ...], tuple[slice, ...]]]:
    """Yield windows all over the image, at most `_MAX_TILES`, and the pixels of a regular grid in each."""
    shape, ndim = scene.source.space.shape, scene.source.space.ndim
    tiles = list(Box.whole(shape).tiles((_TILE[ndim],) * ndim))
    stride = -(-len(tiles) // _MAX_TILES[ndim])
    step = max(1, int((math.prod(shape) / (2 * samples * stride)) ** (1 / ndim)))
    for box in tiles[::stride]:
        window, guides = scene.window(box)
        yield window, guides, tuple(slice((-a) % step, None, step) for a in box.start)


def _of_files(scene: Scene, *, little: bool) -> list[Relation | None]:
    target: list[NDArray[np.float32]] = []
    around: list[list[NDArray[np.float32]]] = [[] for _ in scene.guides]
    both: list[list[NDArray[np.bool_]]] = [[] for _ in scene.guides]
    offsets = _offsets(scene)
    for window, guides, grid in _tiles(scene, _SAMPLES):
        valid = np.asarray(window.valid[(slice(None), *grid)].all(axis=0))
        target.append(window.values[(slice(None), *grid)][:, valid].T)
        for k in range(len(scene.guides)):
            reference, seen = aligned(guides[k].values, np.asarray(guides[k].valid.all(axis=0)), offsets[k])
            looks = context(reference, seen, window.spacing)
            around[k].append(looks[(slice(None), *grid)][:, valid].T)
            both[k].append(seen[grid][valid])
    everything = np.concatenate(target)
    result: list[Relation | None] = []
    for k, guide in enumerate(scene.guides):
        stop_if_asked()
        use, bands = np.concatenate(both[k]), guide.source.n_channels
        enough = int(use.sum()) >= 10 * (bands + 1)
        relation = fit_relation(everything[use], np.concatenate(around[k])[use], bands, few=little) if enough else None
        result.append(replace(relation, offset=offsets[k]) if relation else None)
    return result


def _offsets(scene: Scene) -> list[tuple[float, ...]]:
    """Return the misregistration of every guide, found on a few windows spread over the image."""
    shape, ndim = scene.source.space.shape, scene.source.space.ndim
    tiles = list(Box.whole(shape).tiles((_WINDOW[ndim],) * ndim))
    pairs: list[list[Pair]] = [[] for _ in scene.guides]
    for box in tiles[:: -(-len(tiles) // _WINDOWS)]:
        window, guides = scene.window(box)
        known = np.asarray(window.valid.all(axis=0))
        for k in range(len(scene.guides)):
            seen = np.asarray(guides[k].valid.all(axis=0))
            pairs[k].append(Pair(target=window.values, known=known, reference=guides[k].values, seen=seen))
    return [misregistration(some) for some in pairs]


def _siblings(scene: Scene) -> Siblings | None:
    values, valid, hole = _sampled(scene)
    chosen = [choose_siblings(k, values, valid, hole) for k in range(len(values))]
    with_holes = sum(1 for channels in chosen if channels)
    if not with_holes:
        return None
    samples = max(_SAMPLES // 10, _SIBLING_SAMPLES // with_holes)
    target: list[list[NDArray[np.float32]]] = [[] for _ in chosen]
    around: list[list[NDArray[np.float32]]] = [[] for _ in chosen]
    for window, _, grid in _tiles(scene, samples):
        for k, channels in enumerate(chosen):
            if not channels:
                continue
            others = list(channels)
            seen = np.asarray(window.valid[others].all(axis=0))
            both = (seen & window.valid[k])[grid]
            looks = context(window.values[others], seen, window.spacing)
            target[k].append(window.values[k][grid][both][:, None])
            around[k].append(looks[(slice(None), *grid)][:, both].T)
    of: list[Sibling | None] = []
    for k, channels in enumerate(chosen):
        stop_if_asked()
        sibling = None
        if channels:
            relation = fit_relation(np.concatenate(target[k]), np.concatenate(around[k]), len(channels))
            sibling = Sibling(channels=channels, relation=relation) if relation.ridge.samples else None
        of.append(sibling)
    return Siblings(of=tuple(of)) if any(of) else None


def _sampled(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return values, validity and holes of all channels on a regular grid, `(c, n)` each."""
    values, valid, hole = [], [], []
    for window, _, grid in _tiles(scene, _SAMPLES):
        cut, channels = (slice(None), *grid), len(window.values)
        values.append(window.values[cut].reshape(channels, -1))
        valid.append(window.valid[cut].reshape(channels, -1))
        hole.append(window.hole[cut].reshape(channels, -1))
    return np.concatenate(values, axis=1), np.concatenate(valid, axis=1), np.concatenate(hole, axis=1)


def choose_siblings(
    k: int, values: NDArray[np.float32], valid: NDArray[np.bool_], hole: NDArray[np.bool_]
) -> tuple[int, ...]:
    """Return the channels, ascending, that are observed where channel `k` has holes and vary as it does.

    Args:
        k: the channel.
        values: of all channels on the same pixels, `(c, n)`.
        valid: where they were observed.
        hole: where they are to be restored.
    """
    if not hole[k].any() or not valid[k].any():
        return ()
    there = valid[:, hole[k]].mean(axis=1)
    there[k] = 0.0
    likeness = np.abs(
        [_correlation(values, valid, k, j) if there[j] >= _SOMETIMES else 0.0 for j in range(len(values))]
    )
    order: Sequence[int] = [int(j) for j in np.argsort(-likeness, kind="stable") if likeness[j] > 0]
    ranked = [j for j in order if there[j] >= _THERE][:_MOST_SIBLINGS]
    while len(ranked) > 1 and valid[ranked][:, hole[k]].all(axis=0).mean() < _JOINTLY:
        ranked.pop()
    if not ranked and order:
        ranked = [max(order, key=lambda j: float(there[j] * likeness[j]))]
    return tuple(sorted(ranked))


def _correlation(values: NDArray[np.float32], valid: NDArray[np.bool_], k: int, j: int) -> float:
    both = valid[k] & valid[j]
    if both.sum() < 2:
        return 0.0
    a, b = (values[i, both].astype(np.float64) for i in (k, j))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0
