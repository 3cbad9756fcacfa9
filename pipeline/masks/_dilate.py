"""Widen holes by an ellipsoid, whatever its size beside that of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

_MOST_STEPS = 1024
"""Above as many runs and widths, distances to the nearest hole cost less."""
_EDGE = 1e-9
"""Keeps pixels at exactly the radius in, whichever way the rounding goes."""


def reach_of(radii: Sequence[float], shape: Sequence[int]) -> tuple[int, ...]:
    """Return how many whole pixels holes grow on each axis; never more than an image of `shape` has room for."""
    return tuple(int(min(r + _EDGE, n)) for r, n in zip(radii, shape, strict=True))


def dilate(hole: NDArray[np.bool_], radii: Sequence[float]) -> NDArray[np.bool_]:
    """Widen holes by the ellipsoid with half-axes `radii` (pixels) around every hole pixel, per channel.

    The answer is exact, so a window agrees with the image if it has a halo of `reach_of(radii)`. Time and memory are
    bounded by the array, however large the radii are.

    Args:
        hole: bool `(c, *spatial)`.
        radii: per spatial axis, finite, at least 0.
    """
    if not hole.any():
        return hole.copy()
    shape = hole.shape[1:]
    if _covers(radii, shape):
        return np.broadcast_to(hole.any(axis=tuple(range(1, hole.ndim)), keepdims=True), hole.shape).copy()
    *across, along = reach_of(radii, shape)
    if math.prod(2 * n + 1 for n in across) + along <= _MOST_STEPS:
        return _by_runs(hole, radii)
    return np.stack([_by_distance(channel, radii) if channel.any() else channel for channel in hole])


def _covers(radii: Sequence[float], shape: Sequence[int]) -> bool:
    """Return True if every pixel is within reach of every other."""
    shares = [(n - 1) / r if r else math.inf for n, r in zip(shape, radii, strict=True) if n > 1]
    return all(share <= 1 for share in shares) and sum(share**2 for share in shares) <= 1


def _by_runs(hole: NDArray[np.bool_], radii: Sequence[float]) -> NDArray[np.bool_]:
    """Widen by an ellipsoid that is a set of runs along the last axis.

    The holes are widened step by step along it, and each width is laid where the runs of that width lie.
    """
    result = hole.copy()
    runs = _runs(radii, hole.shape[1:])
    widened = hole.copy()
    for width in range(max(runs) + 1):
        if width:
            before = widened.copy()
            widened[..., 1:] |= before[..., :-1]
            widened[..., :-1] |= before[..., 1:]
        for offset in runs.get(width, ()):
            here = tuple(slice(max(o, 0), n + min(o, 0)) for o, n in zip(offset, hole.shape[1:], strict=False))
            there = tuple(slice(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, hole.shape[1:], strict=False))
            result[(slice(None), *here)] |= widened[(slice(None), *there)]
    return result


def _runs(radii: Sequence[float], shape: Sequence[int]) -> dict[int, list[tuple[int, ...]]]:
    """Cut an ellipsoid into runs along its last axis: half-length in pixels -> offsets on the other axes.

    What lies a whole extent of `shape` or more away is left out.
    """
    *across, along = radii
    reach = [min(n, extent - 1) for n, extent in zip(reach_of(radii, shape), shape, strict=True)]
    runs: dict[int, list[tuple[int, ...]]] = {}
    for offset in product(*(range(-n, n + 1) for n in reach[:-1])):
        left = 1.0 - sum((o / r) ** 2 for o, r in zip(offset, across, strict=True) if o)
        if left >= -_EDGE:
            width = int(min(along * max(left, 0.0) ** 0.5 + _EDGE, reach[-1]))
            runs.setdefault(width, []).append(offset)
    return runs


def _by_distance(hole: NDArray[np.bool_], radii: Sequence[float]) -> NDArray[np.bool_]:
    """Widen one channel `(*spatial)`: pixels whose nearest hole pixel, in radii, is at most 1 away."""
    from scipy.ndimage import distance_transform_edt

    # on an axis without reach any step beyond the radius keeps neighbours out
    steps = [1 / r if n else 2.0 for r, n in zip(radii, reach_of(radii, hole.shape), strict=True)]
    nearest = distance_transform_edt(~hole, sampling=steps, return_distances=False, return_indices=True)
    result = np.empty_like(hole)
    # plane by plane: float64 distances of the whole window would take several times its indices
    for first in range(len(hole)):
        total = np.zeros(hole.shape[1:])
        for axis, step in enumerate(steps):
            here = first if axis == 0 else np.arange(hole.shape[axis]).reshape((-1,) + (1,) * (hole.ndim - 1 - axis))
            total += ((nearest[axis, first] - here) * step) ** 2
        result[first] = total <= 1 + 2 * _EDGE
    return result
