"""Which parts of a patch a network looks at: holes with what lies around them, not what nobody asks for.

A convolution costs the same wherever it looks, and a patch with a few specks is nearly all observed. Holes that lie
near each other share a part where that is cheaper than one for each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

AROUND = {2: 8, 3: 8}
"""Pixels around asked ones that a part holds, by dimensions: more improved nothing (docs/decisions/training.md)."""

_STEPS = {2: ((32, 8), (128, 16), (256, 32), (math.inf, 64)), 3: ((math.inf, 8),)}
"""Extents up to the first number are multiples of the second, where the patch allows it: few shapes are met, as what
is prepared for each takes time and memory (docs/decisions/training.md), and none is padded."""

_FIXED = {2: 4000, 3: 2500}
"""Pixels in whose time a pass of any size begins and ends: weights are rearranged for each one."""

_MOST = 32
"""Groups of holes to begin with; those that lie nearest share a part from the start where there are more."""

Bounds = NDArray[np.int64]
"""First and last pixel + 1 on each axis, `(..., ndim, 2)`."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a patch that goes through the network by itself."""

    box: tuple[slice, ...]
    own: NDArray[np.bool_]
    """The pixels of the piece that are taken from it, `box`'s shape; no two parts share one."""


def parts_of(asked: NDArray[np.bool_], channels: int = 1) -> list[Part]:
    """Return parts that hold every asked pixel and `AROUND` it, where the patch goes on so far.

    Args:
        asked: True where the network's answer is wanted, bool `(*patch)`.
        channels: how many go through the network together; each pays its share of what a pass costs by itself.

    Returns:
        The parts, none if nothing is asked. They depend on the arguments alone.
    """
    groups, count = _groups(asked)
    if not count:
        return []
    of_group = [[(s.start, s.stop) for s in found] for found in ndimage.find_objects(np.where(asked, groups, 0))]
    bounds, part_of_group = _merged(np.array(of_group, dtype=np.int64), asked.shape, _FIXED[asked.ndim] // channels)
    owner = np.concatenate([[-1], part_of_group])[groups]
    parts = []
    for k, some in enumerate(_widened(bounds, asked.shape)):
        box = tuple(slice(int(a), int(b)) for a, b in some)
        parts.append(Part(box, asked[box] & (owner[box] == k)))
    return parts


def _groups(asked: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Return numbers of groups of pixels that lie near each other, 0 where nothing does, and how many there are."""
    if not asked.any():
        return np.zeros(asked.shape, dtype=np.int32), 0
    near, everywhere = AROUND[asked.ndim], np.ones((3,) * asked.ndim, dtype=bool)
    while True:
        groups, count = ndimage.label(ndimage.maximum_filter(asked, near + 1), everywhere)
        if count <= _MOST:
            return groups, count
        near *= 2


def _merged(bounds: Bounds, shape: tuple[int, ...], fixed: int) -> tuple[Bounds, NDArray[np.int64]]:
    """Put groups together, the pair that saves most first, as long as that saves time; each costs `fixed` pixels.

    Returns:
        Bounds of what is left, and for each group which of these holds it.
    """
    member = np.arange(len(bounds))
    while len(bounds) > 1:
        joint = np.stack(
            [
                np.minimum(bounds[:, None, :, 0], bounds[None, :, :, 0]),
                np.maximum(bounds[:, None, :, 1], bounds[None, :, :, 1]),
            ],
            axis=-1,
        )
        alone = _size(bounds, shape)
        saved = alone[:, None] + alone[None] + fixed - _size(joint, shape)
        np.fill_diagonal(saved, -1)
        first, second = sorted(np.unravel_index(int(saved.argmax()), saved.shape))
        if saved[first, second] < 0:
            break
        bounds[first] = joint[first, second]
        bounds = np.delete(bounds, second, axis=0)
        member = np.where(member == second, first, member - (member > second))
    return bounds, member


def _size(bounds: Bounds, shape: tuple[int, ...]) -> NDArray[np.int64]:
    wide = _widened(bounds, shape)
    return np.asarray((wide[..., 1] - wide[..., 0]).prod(axis=-1))


def _widened(bounds: Bounds, shape: tuple[int, ...]) -> Bounds:
    """Return bounds with `AROUND` pixels on each side and extents of whole steps, inside of the patch."""
    ndim, whole = len(shape), np.array(shape)
    around = AROUND[ndim]
    low, high = np.maximum(bounds[..., 0] - around, 0), np.minimum(bounds[..., 1] + around, whole)
    least = high - low
    most, steps = np.array(_STEPS[ndim]).T
    step = steps[np.searchsorted(most, least)].astype(np.int64)
    extent = np.minimum(-(-least // step) * step, whole)
    low = np.minimum(low, whole - extent)
    return np.stack([low, low + extent], axis=-1)
