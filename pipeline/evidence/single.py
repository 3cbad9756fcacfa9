"""Is one hole contaminated among many that are not? Each of the largest is laid over other places by itself.

Roofs, sand and bright fields that a threshold takes for cloud have nothing around them. Among many such holes a single
cloud with haze around it tells little of all of them together. So each of the largest holes is compared with shifted
patterns of its own surroundings (`shifts`), and what must be exceeded grows with the number of holes that are looked at
(Bonferroni's bound on the tail of clean holes). Where a reference tells the ground, the surroundings must be brighter
than it says and bright by themselves: ground that changed is one of them only, and so is a bright field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.shifts import Surroundings, excess_of_each
from pipeline.evidence.tile import Tile
from pipeline.geometry.box import Box
from pipeline.system.threads import each

Labels = NDArray[np.intp]
Hole = tuple[int, int]
"""Number of the window, and label of the hole in it."""

_LARGEST = 8
"""Holes of a window that are looked at, those with the most observed pixels beside them."""

_FEWEST = 100
"""Observed pixels beside a hole below which they tell nothing."""

_RELIABLE = 5.0
"""Standard deviations of shifted patterns by which one of `_LARGEST` holes must stand out: none of 868 in 122
clean images does (3.9 is the highest where there are references, 4.5 elsewhere)."""

_TAIL = 0.75
"""Mean by which those of the clean holes that exceed 2 standard deviations do: their tail is exponential."""


def nearest_hole(tile: Tile) -> Labels:
    """Return the label of the hole that is nearest to each pixel of a window, `spatial`, from 1; 0 without holes."""
    hole = tile.distance == 0
    labels, count = ndimage.label(hole)
    if not count:
        return np.zeros(hole.shape, dtype=np.intp)
    nearest = ndimage.distance_transform_edt(~hole, return_distances=False, return_indices=True)
    return np.asarray(labels[tuple(nearest)], dtype=np.intp)


def standing_out(
    windows: Sequence[Surroundings],
    nearest: Sequence[Labels],
    among: Sequence[Hole] | None = None,
    asked: Callable[[Hole], bool] = lambda _: True,
    seed: int = 0,
) -> list[Hole]:
    """Return the holes whose own surroundings are higher than shifted patterns of them, beyond chance.

    Args:
        windows: of the image; near are the pixels beside any hole.
        nearest: `nearest_hole` of each.
        among: of these only; None = of all.
        asked: says of a hole whether it is of interest.
        seed: of the shifts that are drawn.
    """
    large = [(k, label) for k, window in enumerate(windows) for label in _largest(window, nearest[k])]
    least = _RELIABLE + _TAIL * max(0.0, np.log(max(len(large), 1) / _LARGEST))
    some = [hole for hole in large if (among is None or hole in among) and asked(hole)]
    of_window = [(k, [label for window, label in some if window == k]) for k in dict.fromkeys(k for k, _ in some)]
    told = each(partial(_stand_out_by, seed), [(windows[k], nearest[k], labels) for k, labels in of_window])
    return [
        (k, label)
        for (k, labels), found in zip(of_window, told, strict=True)
        for label, deviations in zip(labels, found, strict=True)
        if deviations >= least
    ]


def _stand_out_by(seed: int, holes: tuple[Surroundings, Labels, list[int]]) -> list[float]:
    """Return the deviations of what is beside some holes of a window, by label; -inf for what cannot be told."""
    window, nearest, labels = holes
    told = excess_of_each(window, [window.near & (nearest == label) for label in labels], seed)
    return [-np.inf if one is None else one.deviations for one in told]


def _largest(window: Surroundings, nearest: Labels) -> list[int]:
    pixels = np.bincount(nearest[window.near])
    return [int(label) for label in np.argsort(-pixels, kind="stable")[:_LARGEST] if pixels[label] >= _FEWEST]


def as_if_only(tiles: Sequence[Tile], nearest: Sequence[Labels], holes: Sequence[Hole]) -> list[Tile]:
    """Return the windows with distances from some holes alone; infinite in a window without one of them."""
    seen = []
    for k, (tile, labels) in enumerate(zip(tiles, nearest, strict=True)):
        some = (tile.distance == 0) & np.isin(labels, [label for window, label in holes if window == k])
        distance = ndimage.distance_transform_edt(~some) if some.any() else np.full(some.shape, np.inf)
        seen.append(replace(tile, distance=distance.astype(np.float32)))
    return seen


def places_of(tiles: Sequence[Tile]) -> tuple[Box, ...]:
    """Return the parts of the image in which the holes of windows lie, each as the box around it."""
    return tuple(
        Box(tuple(one.start for one in part), tuple(one.stop for one in part)).shift(tile.corner)
        for tile in tiles
        for part in ndimage.find_objects(ndimage.label(tile.distance == 0)[0])
    )
