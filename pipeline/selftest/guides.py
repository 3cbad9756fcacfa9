"""Relate references, auxiliaries and the channels of an image to one another, on pixels observed in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.image.open import pixel_sizes
from pipeline.image.scene import Scene
from pipeline.references.align import Pair, misregistration
from pipeline.references.context import context
from pipeline.references.joint import AnyRelation, Joint, common_sets, stacked
from pipeline.references.siblings import Sibling, Siblings
from pipeline.restore.task import Guide
from pipeline.selftest.relations import Sampled, at_resolution
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

_SETS = 3
"""Sets of siblings that a channel has, at most."""

_REST = 0.01
"""Share of a channel's holes for which no further siblings are sought."""

_SIBLING_SAMPLES = 60_000
"""Pixels to fit on, shared by all channels with holes; each has at least a tenth of `_SAMPLES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedGuide:
    """A reference or auxiliary, several together, or the image's other channels."""

    label: str
    """Its name in tables."""
    relation: AnyRelation = None
    """How it maps to the image; None: too few pixels are observed in both, or `later` tells."""
    later: Callable[[], AnyRelation] | None = None
    """Fits the relation, where it may not be needed."""
    is_reference: bool = False
    """Other dates or time points of the same, of which much is known before anything is tested."""
    leads: bool = False
    """References of an image that is nearly all hidden: they get the weights of `prior.LEADING`, whatever is tested."""

    def related(self) -> AnyRelation:
        """Return the relation, fitted if it was not yet."""
        return self.later() if self.later else self.relation


def fitted_guides(
    scene: Scene, labels: Sequence[str], *, little: bool = False, clear: bool = False
) -> list[FittedGuide]:
    """Relate the guides of the scene to the image: several of them together first, then each by itself.

    An image whose channels have different holes has one guide more than files: its own channels.

    Args:
        scene: the opened image.
        labels: names of the files, then that of the other channels.
        little: so little is trusted that references lead, each by itself.
        clear: the little that is trusted is known not to be contaminated; unless it is, a relation to it is no more
            than a change of level and a hint of a map.
    """
    found: list[FittedGuide] = []
    if scene.guides:
        found += _of_files(scene, labels, little=little, few=little and not clear)
    if scene.has_siblings:
        found.append(FittedGuide(label=labels[-1], relation=_siblings(scene)))
    return found


def _own_sizes(scene: Scene) -> tuple[float, ...]:
    """Return the pixel size of each channel that is restored, the longest side."""
    return tuple(max(axes) for c, axes in enumerate(pixel_sizes(scene.source)) if c in scene.image.channels)


def _tiles(scene: Scene, samples: int) -> Iterator[tuple[Window, tuple[Guide, ...], tuple[slice, ...]]]:
    """Yield windows all over the image, at most `_MAX_TILES`, and the pixels of a regular grid in each."""
    space = scene.source.space
    boxes, stride = _boxes(space.shape)
    step = max(1, int((math.prod(space.shape) / (2 * samples * stride)) ** (1 / space.ndim)))
    for box in boxes:
        window, guides = scene.window(box)
        yield window, guides, tuple(slice((-a) % step, None, step) for a in box.start)


def _boxes(shape: tuple[int, ...]) -> tuple[list[Box], int]:
    """Return windows all over an image, and that each stands for so many of them."""
    tiles = list(Box.whole(shape).tiles((_TILE[len(shape)],) * len(shape)))
    stride = -(-len(tiles) // _MAX_TILES[len(shape)])
    return tiles[::stride], stride


def related_pixels(shape: tuple[int, ...]) -> int:
    """Return in how many pixels of an image it is looked how guides are related to it."""
    return sum(box.size for box in _boxes(shape)[0])


def _of_files(scene: Scene, labels: Sequence[str], *, little: bool, few: bool) -> list[FittedGuide]:
    offsets, seen = _first_look(scene)
    bands = [guide.source.n_channels for guide in scene.guides]
    sizes, own = [pixel_sizes(guide.source) for guide in scene.guides], _own_sizes(scene)
    joint_sets = [] if little else common_sets(seen, bands)
    groups = [*joint_sets, *((k,) for k in range(len(bands)))]
    dates = [[scene.job.guides[k].role == "reference" for k in group] for group in groups]
    samples = [Sampled(robust=any(some)) for some in dates]
    for window, guides, grid in _tiles(scene, _SAMPLES):
        valid = np.asarray(window.valid.all(axis=0))
        for group, sample in zip(groups, samples, strict=True):
            shown = [(guides[k].values, guides[k].valid) for k in group]
            values, (there,) = stacked(shown, [offsets[k] for k in group])
            looks = context(values, there, window.spacing, grid)
            sample.add(window.values, looks, valid & there, grid, window.spacing)
    result = []
    for group, sample, date in zip(groups, samples, dates, strict=True):
        stop_if_asked()
        label = " + ".join(labels[k] for k in group)
        only_dates = all(date)
        if len(group) == 1:
            (k,) = group
            alone = partial(sample.alone, bands[k], offsets[k], few=few, resolution=(sizes[k], own))
            result.append(FittedGuide(label=label, later=alone, is_reference=only_dates, leads=little and only_dates))
            continue
        relation = sample.related(sum(bands[k] for k in group))
        if relation is None:
            continue
        relation = at_resolution(relation, [size for k in group for size in sizes[k]], own)
        ends = np.cumsum([bands[k] for k in group])
        leader = sample.leader([range(end - bands[k], end) for end, k in zip(ends, group, strict=True)], group)
        joint = Joint(guides=group, offsets=tuple(offsets[k] for k in group), relation=relation, leader=leader)
        result.append(FittedGuide(label=label, relation=joint, is_reference=only_dates))
    return result


def _first_look(scene: Scene) -> tuple[list[tuple[float, ...]], NDArray[np.bool_]]:
    """Return the misregistration of every guide, and which guides see holes, found on a few windows over the image.

    The second is `(guides, n)` for some of the hole pixels, of all pixels if no window has a hole.
    """
    shape, ndim = scene.source.space.shape, scene.source.space.ndim
    tiles = list(Box.whole(shape).tiles((_WINDOW[ndim],) * ndim))
    pairs: list[list[Pair]] = [[] for _ in scene.guides]
    seen, hole = [], []
    for box in tiles[:: -(-len(tiles) // _WINDOWS)]:
        window, guides = scene.window(box)
        known = np.asarray(window.valid.all(axis=0))
        # where channels have different holes, the image itself comes after the files
        files = guides[: len(pairs)]
        valid = np.stack([guide.valid.all(axis=0) for guide in files])
        for pair, guide, sees in zip(pairs, files, valid, strict=True):
            pair.append(Pair(target=window.values, known=known, reference=guide.values, seen=sees))
        seen.append(valid.reshape(len(files), -1))
        hole.append(window.hole.any(axis=0).ravel())
    there, asked = np.concatenate(seen, axis=1), np.concatenate(hole)
    return [misregistration(some) for some in pairs], there[:, asked] if asked.any() else there


def _siblings(scene: Scene) -> Siblings | None:
    """Return which channels tell about which, and how, or None if there is nobody to tell."""
    values, valid, hole = _sampled(scene)
    sets = [sibling_sets(k, values, valid, hole) for k in range(len(values))]
    pairs = [(k, list(channels)) for k, some in enumerate(sets) for channels in some]
    if not pairs:
        return None
    samples = max(_SAMPLES // 10, _SIBLING_SAMPLES // sum(1 for some in sets if some))
    found = [Sampled() for _ in pairs]
    for window, _, grid in _tiles(scene, samples):
        for sample, (k, others) in zip(found, pairs, strict=True):
            seen = np.asarray(window.valid[others].all(axis=0))
            looks = context(window.values[others], seen, window.spacing, grid)
            sample.add(window.values[[k]], looks, seen & window.valid[k], grid, window.spacing)
    of: list[list[Sibling]] = [[] for _ in sets]
    sizes, own = pixel_sizes(scene.source), _own_sizes(scene)
    for sample, (k, others) in zip(found, pairs, strict=True):
        stop_if_asked()
        relation = sample.related(len(others))
        if relation is not None and relation.ridge.samples:
            relation = at_resolution(relation, [sizes[scene.image.channels[j]] for j in others], [own[k]])
            of[k].append(Sibling(channels=tuple(others), relation=relation))
    return Siblings(of=tuple(map(tuple, of))) if any(of) else None


def _sampled(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return values, validity and holes of all channels on a regular grid, `(c, n)` each."""
    values, valid, hole = [], [], []
    for window, _, grid in _tiles(scene, _SAMPLES):
        cut, channels = (slice(None), *grid), len(window.values)
        values.append(window.values[cut].reshape(channels, -1))
        valid.append(window.valid[cut].reshape(channels, -1))
        hole.append(window.hole[cut].reshape(channels, -1))
    return np.concatenate(values, axis=1), np.concatenate(valid, axis=1), np.concatenate(hole, axis=1)


def sibling_sets(
    k: int, values: NDArray[np.float32], valid: NDArray[np.bool_], hole: NDArray[np.bool_]
) -> list[tuple[int, ...]]:
    """Return the siblings of channel `k`, then those for the holes that not all of the first are observed at.

    Time points lose slices that lie close to each other, lines of one detector cross those of another: some holes of a
    channel have others of its siblings beside them. Holes in which nothing is observed, as under a cloud, do not count.
    Arguments as in `choose_siblings`.
    """
    sets: list[tuple[int, ...]] = []
    left = hole.copy()
    left[k] &= valid.any(axis=0)
    while len(sets) < _SETS and left[k].sum() > _REST * hole[k].sum():
        chosen = choose_siblings(k, values, valid, left)
        if not chosen:
            break
        sets.append(chosen)
        left[k] &= ~valid[list(chosen)].all(axis=0)
    return sets


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
