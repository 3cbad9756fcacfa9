"""Exact Euclidean distances, computed only where they are asked for: holes fill a small part of most windows.

The transform is that of SciPy (Maurer, Qi and Raghavan 2003, doi:10.1109/TPAMI.2003.1177156), whose time goes with
the size of the array. The pixel outside a mask that is nearest to one inside never lies beyond the mask's bounding box
grown by one, so the box gives the same distances as the whole array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_cdt, distance_transform_edt, label

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

_STRIP = 1 << 18
"""Pixels whose distances are measured at once."""

_CLOSE = 11
"""Pixels up to which distances are told by shifted squares (see `close`): squares below 256 that tell none farther."""


def inside(mask: Mask, sampling: Sequence[float] | Field | None = None) -> Field:
    """Return the distance of each pixel of a mask to the nearest one outside it, `(*spatial)`; 0 outside.

    Args:
        mask: bool `(*spatial)`, not True everywhere.
        sampling: step per axis, 1 if None.
    """
    distance = np.zeros(mask.shape)
    box = _box(mask, 1)
    if box:
        _measure(mask[box], np.ones(mask.ndim) if sampling is None else sampling, distance[box])
    return distance


def inside_from(mask: Mask, sampling: Sequence[float] | Field, some: Mask) -> tuple[Field, NDArray[np.intp]]:
    """Return what `inside` does, and the pixel outside that is nearest to each of some pixels of the mask.

    Args:
        mask: bool `(*spatial)`, neither True nor False everywhere.
        sampling: step per axis.
        some: bool `(*spatial)`, nowhere True where `mask` is not.

    Returns:
        Distances `(*spatial)`; indices `(ndim, n)` for the n pixels of `some` in C order.
    """
    distance = np.zeros(mask.shape)
    box = _box(mask, 1)
    nearest = _measure(mask[box], sampling, distance[box])[:, some[box]].astype(np.intp)
    return distance, nearest + np.asarray([part.start for part in box])[:, None]


def _measure(mask: Mask, sampling: Sequence[float] | Field, distance: Field) -> NDArray[np.int32]:
    """Write the distances of the pixels of a mask, and return the nearest pixels outside, `(ndim, *spatial)`.

    SciPy's own distances take 60 bytes a pixel of the whole array on top of that.
    """
    nearest = distance_transform_edt(mask, sampling=sampling, return_distances=False, return_indices=True)
    rows = max(1, _STRIP // max(1, math.prod(mask.shape[1:])))
    for first in range(0, len(mask), rows):
        part = slice(first, first + rows)
        places = np.nonzero(mask[part])
        # as SciPy does it for the whole array
        steps = nearest[:, part][:, *places] - np.asarray(places, dtype=np.float64)
        steps[0] -= first
        steps *= np.asarray(sampling, dtype=np.float64)[:, None]
        distance[part][places] = np.sqrt(np.add.reduce(np.multiply(steps, steps), axis=0))
    return np.asarray(nearest)


def around(mask: Mask, most: float, sampling: Sequence[float] | None = None) -> Field:
    """Return the distance to the nearest pixel of a mask, `(*spatial)`; may be infinite above `most`.

    Args:
        mask: bool `(*spatial)`.
        most: distance up to which it is wanted.
        sampling: step per axis, at least 1; 1 if None.
    """
    distance = np.full(mask.shape, np.inf)
    box = _box(mask, math.ceil(most))
    if not box:
        return distance
    if most in range(1, _CLOSE + 1) and (sampling is None or all(step == 1 for step in sampling)):
        number, distances = close(mask[box], int(most))
        distance[box] = distances[number]
    else:
        distance[box] = distance_transform_edt(~mask[box], sampling=sampling)
    return distance


def close(mask: Mask, most: int) -> tuple[NDArray[np.uint8], Field]:
    """Return the number of the distance to the nearest pixel of a mask, `(*spatial)`, and the distances, `(256,)`.

    These are in pixels, infinite above `most`.

    Up to a few pixels the smallest of shifted squares, axis by axis, takes a fraction of the time of a whole transform.

    Args:
        mask: bool `(*spatial)`.
        most: distance up to which it is wanted, 1 to 11.
    """
    far = np.uint8(255 - most * most)
    square = np.where(mask, np.uint8(0), far)
    for axis in range(mask.ndim):
        along = np.moveaxis(square, axis, 0)
        nearest = along.copy()
        for step in range(1, min(most, len(along) - 1) + 1):
            added = along + np.uint8(step * step)
            np.minimum(nearest[step:], added[:-step], out=nearest[step:])
            np.minimum(nearest[:-step], added[step:], out=nearest[:-step])
        along[...] = np.minimum(nearest, far)
    squares = np.arange(256)
    return square, np.where(squares <= most * most, np.sqrt(squares), np.inf)


def depth_of_wide(unknown: Mask, fewest: int) -> NDArray[np.integer]:
    """Return how many pixels those of wide holes lie from all others or the end of the window, else 0.

    Args:
        unknown: bool `(rows, columns)`.
        fewest: pixels of a hole from which on it is wide.
    """
    labels, count = label(unknown)
    wide = np.bincount(labels.ravel(), minlength=count + 1) >= fewest
    wide[0] = False
    deep = np.pad(wide[labels], 1)
    return np.asarray(distance_transform_cdt(deep, "chessboard"))[1:-1, 1:-1] if deep.any() else labels * 0


def _box(mask: Mask, margin: int) -> tuple[slice, ...]:
    """Return the bounding box of a mask, `margin` wider on all sides inside the array; nothing of an empty one."""
    slices = []
    for axis, extent in enumerate(mask.shape):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not found.size:
            return ()
        slices.append(slice(max(0, int(found[0]) - margin), min(extent, int(found[-1]) + 1 + margin)))
    return tuple(slices)
