"""What lies behind a hole pixel, seen from the nearest observed one: another one, the end of the image, or a cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from pipeline.numerics.distance import inside

Mask = NDArray[np.bool_]
OpenEdges = Sequence[tuple[bool, bool]]

_SMOOTH = 4
"""Depth in pixels from which what lies behind is averaged over a square as wide as a pixel is deep: all that have the
same nearest pixel see the same, so shares would change from one sector of a wide hole to the next."""
_MARCH = 48


def around_each(values: NDArray[np.float64], hole: Mask, depth: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean of values over the hole pixels in a square around each one, as wide as it is deep.

    Args:
        values: `(n,)` in [0, 1], of the hole pixels in C order; so is what is returned.
        hole: bool `(*spatial)`.
        depth: `(*spatial)`, distance to observed pixels, pixels.
    """
    places = np.nonzero(hole)
    level = np.log2(np.maximum(depth[places], _SMOOTH) / _SMOOTH)
    # sums over squares are differences of sums from the first pixel on
    sums = _summed(values, places, hole.shape), _summed(1, places, hole.shape, np.int32)
    mean = np.zeros(level.size)
    for k in range(int(np.ceil(level.max())) + 1):
        share = 1.0 - np.abs(level - k)
        some = share > 0
        half = _SMOOTH * 2**k // 2
        total, count = (_over_squares(own, [place[some] for place in places], half) for own in sums)
        # sums leave rests of rounding behind
        mean[some] += share[some] * np.clip(np.round(total / count, 6), 0.0, 1.0)
    return mean


def _summed(values: Any, places: tuple[Any, ...], shape: Sequence[int], dtype: Any = np.float64) -> NDArray[Any]:
    """Return the sum of all values before each place along all axes, `(*spatial)` and one more along each axis."""
    total = np.zeros([n + 1 for n in shape], dtype=dtype)
    inner = total[(slice(1, None),) * len(shape)]
    inner[places] = values
    for axis in reversed(range(len(shape))):
        np.cumsum(inner, axis=axis, dtype=dtype, out=inner)
    return total


def _over_squares(sums: NDArray[Any], places: Sequence[NDArray[np.intp]], half: int) -> NDArray[np.float64]:
    """Return the sums `(pixels,)` over the squares, up to `half` pixels to each side, around some pixels.

    Args:
        sums: `(*spatial)`, see `_summed`.
        places: index of the pixels along each axis.
        half: of the extent.
    """
    last = [n - 1 for n in sums.shape]
    ends = [(np.maximum(at - half, 0), np.minimum(at + half + 1, n)) for at, n in zip(places, last, strict=True)]
    total = np.zeros(len(places[0]))
    for sides in product((0, 1), repeat=len(ends)):
        sign = (-1) ** sides.count(0)
        total += sign * sums[*(end[side] for end, side in zip(ends, sides, strict=True))]
    return total


FOUND, END, CUT = 1, 2, 3
"""Where a march ends: at an observed pixel, where the image ends, where the window is cut out of it."""


def march(
    hole: Mask, valid: Mask, nearest: NDArray[np.intp], edges: OpenEdges, depth: NDArray[np.floating]
) -> NDArray[np.int8]:
    """Go from the nearest observed pixel through each hole pixel and on: say where that ends.

    0 = nowhere, or at an observed pixel: holes that reach neither an end nor a cut are not gone through. `nearest`
    are the indices of the former, `(ndim, n)`, hole pixels in C order, `depth` their distance in pixels, `(*spatial)`.

    Steps are as long as no observed or outside pixel can be missed (sphere tracing: Hart 1996,
    doi:10.1007/s003710050084).
    """
    state = np.full([n + 2 for n in hole.shape], END, dtype=np.int8)
    inner = state[(slice(1, -1),) * hole.ndim]
    inner[hole], inner[valid] = 0, FOUND
    for axis, (low, high) in enumerate(edges):
        view = np.moveaxis(state, axis, 0)
        # beyond an open edge the image goes on: no end
        view[0] = np.where(low, CUT, view[0])
        view[-1] = np.where(high, CUT, view[-1])
    end = np.zeros(nearest.shape[1], dtype=np.int8)
    parts = _beside(state == 0, state > FOUND)
    active = np.flatnonzero(parts[(slice(1, -1),) * hole.ndim][hole])
    if not active.size:
        return end
    free = depth if (hole | valid).all() else inside(parts)[(slice(1, -1),) * hole.ndim]
    at = np.argwhere(hole)[active].astype(np.float64)
    direction = at - nearest.T[active]
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    # axis by axis is faster than pixel by pixel
    at, direction = (np.ascontiguousarray(part.T) for part in (at, direction))
    for _ in range(_MARCH):
        cell = [np.clip(np.rint(line).astype(np.int32), -1, n) for line, n in zip(at, hole.shape, strict=True)]
        found = state.take(_flat(cell, state.shape))
        end[active] = found
        keep = found == 0
        if not keep.any():
            break
        if not keep.all():
            active, at, direction = active[keep], at[:, keep], direction[:, keep]
            cell = [line[keep] for line in cell]
        # to what ends the march, or to the frame of one pixel around if that is nearer
        clear = free[*cell]
        for line, n in zip(cell, hole.shape, strict=True):
            np.minimum(clear, np.minimum(line + 1, n - line), out=clear)
        at += direction * np.maximum(1.0, clear - 1.0)
    return end


def _flat(cell: Sequence[NDArray[np.int32]], framed: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the flat indices of some cells in an array with a frame of one around them; one index array is faster."""
    flat = cell[0].astype(np.intp) + 1
    for line, n in zip(cell[1:], framed[1:], strict=True):
        flat *= n
        flat += line + 1
    return flat


def _beside(mask: Mask, some: Mask) -> Mask:
    """Return the connected parts of a mask that touch some pixels, corners included: no way out leads elsewhere."""
    if not some.any():
        return np.zeros_like(mask)
    touching = np.ones((3,) * mask.ndim)
    parts, count = label(mask, touching)
    reached = np.zeros(count + 1, dtype=np.bool_)
    reached[parts[_grown(some)]] = True
    return np.asarray(reached[parts] & mask)


def _grown(mask: Mask) -> Mask:
    """Return a mask and all pixels beside it, corners included."""
    grown = mask.copy()
    for axis in range(mask.ndim):
        along = np.moveaxis(grown, axis, 0)
        before = along.copy()
        along[1:] |= before[:-1]
        along[:-1] |= before[1:]
    return grown
