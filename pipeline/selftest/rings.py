"""Hide the rims of a mask and of the same shapes elsewhere, and cut what a fill leaves over there into pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec, Window
from pipeline.image.scan import block_sum
from pipeline.numerics.distance import around
from pipeline.numerics.statistics import local_statistics
from pipeline.system.signals import stop_if_asked

Mask = NDArray[np.bool_]

_SEGMENT = {2: 12, 3: 8}
"""Edge of the square pieces of rim whose residuals count as independent, pixels, by dimension."""

_DEPTHS = 4
"""Depths of hidden rings beyond which holes count as outside: what a spline makes of the rings does not depend on them,
and a void that fills a window takes most of its time there."""

MOST_HIDDEN = 0.5
"""Share of the observed pixels that rims of mask and clean places may hide."""

_PLANE = 0.9
"""Share of a plane of a window from which it counts as a lost slice."""


def steps(window: Window) -> tuple[int, ...]:
    """Return the step along each axis in whole shortest ones: what lies a thick slice away is no rim."""
    return tuple(round(step / min(window.spacing)) for step in window.spacing)


def without_slices(hole: Mask) -> Mask:
    """Leave out lost slices and slabs of a volume: they end where scanning did, so no tissue of theirs lies outside.

    What is beside them is also predicted worse than elsewhere if it lies at an end of the head.
    """
    if hole.ndim < 3:
        return hole
    kept = hole.copy()
    for axis in range(hole.ndim):
        lost = hole.mean(axis=tuple(a for a in range(hole.ndim) if a != axis)) >= _PLANE
        np.moveaxis(kept, axis, 0)[lost] = False
    return kept


def narrow(window: Window, some: Sequence[int] | NDArray[np.intp]) -> Window:
    """Return some channels with common holes."""
    hole = np.broadcast_to(window.hole[some].any(axis=0), window.hole[some].shape)
    valid = np.broadcast_to(window.valid[some].all(axis=0), hole.shape)
    return replace(window, values=window.values[some], valid=valid, hole=hole)


def pooled(window: Window, step: int) -> Window:
    """Return a window on cells of `step` pixels a side: means of what is observed in them, holes where nothing is."""
    if step == 1:
        return window
    count, inner = (np.stack([block_sum(one, step) for one in part]) for part in (window.valid, window.hole))
    known = np.where(window.valid, window.values, np.float32(0)).astype(np.float64)
    total = known
    for axis in range(1, known.ndim):
        total = np.add.reduceat(total, np.arange(0, total.shape[axis], step), axis=axis)
    mean = (total / np.maximum(count, 1)).astype(np.float32)
    return replace(window, values=mean, valid=count > 0, hole=(inner > 0) & (count == 0), guess=None)


Segment = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Sums of residuals and numbers of pixels of each ring in one piece of rim."""

Pieces = dict[tuple[int, ...], Segment]
"""Pieces by image, channel and place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenRims:
    """A window with the rims of its mask and of the same shapes elsewhere hidden."""

    window: Window
    hidden: Mask
    """`(*spatial)`, observed pixels that are hidden."""
    away: NDArray[np.float64]
    """`(*spatial)`, shortest steps from the mask."""
    beside: NDArray[np.float64]
    """`(*spatial)`, shortest steps from the same shapes elsewhere."""
    floor: Sequence[float] = ()
    """Smallest local scale of each channel."""
    start: tuple[int, ...] = ()
    """Number of an image, and where the window begins in it, pixels."""


def hidden_rims(window: Window, reach: int, rng: np.random.Generator, floor: Sequence[float] = ()) -> HiddenRims | None:
    """Return what is hidden of a window, None if too little would stay observed."""
    hole, seen = without_slices(window.hole[0]), window.valid[0]
    if not hole.any():
        return None
    away = around(hole, 2 * reach, steps(window))
    shape = hole
    for axis in range(hole.ndim):
        if rng.random() < 0.5:
            shape = np.flip(shape, axis=axis)
        shape = np.roll(shape, int(rng.integers(hole.shape[axis])), axis=axis)
    elsewhere = shape & seen & (away > 2 * reach)
    beside = around(elsewhere, 2 * reach, steps(window))
    hidden = seen & ((away <= reach) | (beside <= reach))
    if (seen & ~hidden).sum() < (1 - MOST_HIDDEN) * 0.5 * seen.sum():
        return None
    return HiddenRims(window=window, hidden=hidden, away=away, beside=beside, floor=floor)


def segments(fill: FillSpec, reach: int, rims: HiddenRims) -> tuple[Pieces, Pieces]:
    """Return the pieces of the mask's rim and of the rims around the same shapes elsewhere."""
    stop_if_asked()
    image, *start = rims.start
    window, hidden, away, beside = rims.window, rims.hidden, rims.away, rims.beside
    seen = window.valid[0]
    left = seen & ~hidden
    hole = (window.hole[0] | hidden) & (around(left, _DEPTHS * reach) <= _DEPTHS * reach)
    tested = replace(
        window,
        values=np.where(left, window.values, np.float32(0)),
        valid=np.broadcast_to(left, window.valid.shape),
        hole=np.broadcast_to(hole, window.hole.shape),
    )
    predicted = fill(tested)
    rim: Pieces = {}
    clean: Pieces = {}
    for c, low in enumerate(rims.floor):
        scale = local_statistics(tested.values[c], left, low).scale
        residual = np.where(seen, (window.values[c] - predicted[c]) / scale, 0.0)
        telling = scale > 1.5 * low
        for pieces, wanted, distance in (
            (rim, hidden & (beside > 2 * reach) & telling, away),
            (clean, hidden & (away > 2 * reach) & (beside > 0) & telling, beside),
        ):
            found = cut(residual, wanted, distance, reach, start)
            pieces.update({(image, c, *place): piece for place, piece in found.items()})
    return rim, clean


def cut(
    residual: NDArray[np.float64], wanted: Mask, distance: NDArray[np.float64], reach: int, start: Sequence[int]
) -> Pieces:
    """Sum residuals by ring over square pieces of the image, by place."""
    at = np.nonzero(wanted & (distance <= reach))
    if not at[0].size:
        return {}
    ring = np.ceil(distance[at]).astype(int) - 1
    place = np.stack([(a + first) // _SEGMENT[residual.ndim] for a, first in zip(at, start, strict=True)])
    places, piece = np.unique(place, axis=1, return_inverse=True)
    n, cell = places.shape[1], piece.reshape(-1) * reach + ring
    sums = np.bincount(cell, weights=residual[at], minlength=n * reach).reshape(n, reach)
    counts = np.bincount(cell, minlength=n * reach).reshape(n, reach).astype(np.float64)
    return {tuple(one): piece for *one, piece in zip(*places.tolist(), zip(sums, counts, strict=True), strict=True)}


def by_place(by_window: Sequence[Pieces]) -> list[Segment]:
    """Join the pieces of one place: windows overlap, and what lies there counts once however often it was looked at."""
    found: Pieces = {}
    for place, (sums, counts) in (item for pieces in by_window for item in pieces.items()):
        before = found.get(place, (0.0, 0.0))
        found[place] = (before[0] + sums, before[1] + counts)
    return list(found.values())
