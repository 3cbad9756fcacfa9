"""What the survey found of the whole image on cells, read for one window."""

from __future__ import annotations

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.numerics.beyond import Beyond, distance_to_cut
from pipeline.restore.task import Contamination


def read_beyond(
    fields: zarr.Array, cell: int, box: Box, window: Window, n_state: int
) -> tuple[Beyond | None, Contamination | None]:
    """Return what lies beyond a window, and what contaminated pixels there add to its error bars.

    Neither if the window shows all that counts by itself.

    Args:
        fields: float32 `(n, *cells)`: distances and what lies behind, one of each plane of holes, mean and scale of
            each channel, then, if there is any contamination, its `left` of each channel and its `factor`.
        cell: size of a cell, pixels.
        box: of the window.
        window: the window.
        n_state: planes of holes.
    """
    to_cut = distance_to_cut(box.shape, window.spacing, window.open_edges)
    if not np.isfinite(to_cut).any():
        return None, None
    found = coarse_window(fields, cell, box)
    channels, shape = len(window.values), window.values.shape
    distance, behind, mean, scale, rest = np.split(found, np.cumsum([n_state, n_state, channels, channels]))
    beyond = Beyond(
        distance=np.broadcast_to(distance, shape),
        behind=np.broadcast_to(behind, shape),
        mean=mean,
        scale=scale,
        to_cut=to_cut,
    )
    return beyond, Contamination(left=rest[:-1], factor=rest[-1:]) if len(rest) else None


def coarse_window(guess: NDArray[np.float32] | zarr.Array, factor: int, box: Box) -> NDArray[np.float32]:
    """Return the coarse fill over `box`, `(c, *box.shape)`, linearly interpolated between cell centres."""
    if factor == 1:
        return np.asarray(guess[box.at()])
    lows, weights, cells = [], [], []
    for axis in range(box.ndim):
        position = (np.arange(box.start[axis], box.stop[axis]) + 0.5) / factor - 0.5
        position = np.clip(position, 0, guess.shape[axis + 1] - 1)
        first = int(position[0])
        last = min(int(position[-1]) + 1, guess.shape[axis + 1] - 1)
        low = np.minimum(position.astype(int), last)
        lows.append(low - first)
        weights.append((position - low).astype(np.float32))
        cells.append(slice(first, last + 1))
    result = np.asarray(guess[(slice(None), *cells)])
    for axis, (low, weight) in enumerate(zip(lows, weights, strict=True), start=1):
        upper = np.minimum(low + 1, result.shape[axis] - 1)
        column = weight.reshape([-1 if a == axis else 1 for a in range(result.ndim)])
        below, above = np.take(result, low, axis=axis), np.take(result, upper, axis=axis)
        result = below + column * (above - below)
    return result
