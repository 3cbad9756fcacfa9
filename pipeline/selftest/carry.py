"""Measure what a contaminated rim carries into the holes.

What is restored follows the observed pixels nearest to it, so what these have too much or too little goes inwards and
does not fade. How much an estimate changes when the contaminated rings are hidden, too, is what they carried into it.
A part of it changes only because what is observed lies farther off: as much as at clean places of the same shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec, Window
from pipeline.numerics.distance import inside
from pipeline.numerics.situation import KNOTS, Curve, hats
from pipeline.selftest.rings import HiddenRims, hidden_rims, narrow
from pipeline.system.signals import stop_if_asked
from pipeline.system.threads import each

Mask = NDArray[np.bool_]

_KNOTS = KNOTS[1]
"""Depths at which it is told, pixels."""

_DEEPEST = {2: 24.0, 3: 12.0}
"""Cells from observed ones beyond which holes count as outside, by dimension: what deeper ones show is no more, and a
void that fills a window takes most of its time there."""

_FEWEST = 16
"""Hole pixels of a depth, in the holes and at clean places each, below which nothing is told of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carry:
    """What a rim carries into the holes."""

    by_depth: tuple[Curve, ...] = ()
    """Standard error over distance to observed pixels, one curve a channel, data units; empty = it cannot be told."""
    mean: tuple[float, ...] = ()
    """Its root mean square in the holes that were looked at, one a channel."""


def carried(windows: Sequence[Window], fill: FillSpec, width: int, step: int, seed: int) -> Carry:
    """Return the standard error that a contaminated rim adds in holes.

    It is the root mean square of what hiding the rim changes, less that at clean places, and never falls with depth.

    Args:
        windows: some windows of one image on cells of `step` pixels, `(c, *spatial)` each.
        fill: restores them.
        width: rings that are contaminated, cells.
        step: edge of a cell, pixels.
        seed: of the clean places.
    """
    rng = np.random.default_rng(seed)
    shared = [narrow(window, range(len(window.values))) for window in windows]
    hidden = [rims for window in shared if (rims := hidden_rims(window, width, rng)) is not None]
    if not hidden:
        return Carry()
    parts = each(partial(_changes, fill, width, step), hidden)
    (rim, holes), (clean, places) = (_total([part[k] for part in parts]) for k in (0, 1))
    known = (holes >= _FEWEST) & (places >= _FEWEST)
    if not known.any():
        return Carry()
    excess = rim[:, known] / holes[known] - clean[:, known] / places[known]
    error = np.maximum.accumulate(np.sqrt(np.maximum(excess, 0.0)), axis=1)
    knots = tuple(float(k) for k in np.asarray(_KNOTS)[known])
    mean = np.sqrt(np.square(error) @ holes[known] / holes[known].sum())
    return Carry(
        by_depth=tuple(Curve(knots=knots, values=tuple(float(v) for v in row)) for row in error),
        mean=tuple(float(v) for v in mean),
    )


_Sums = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Sums of squared changes `(c, knots)`, and of pixels `(knots,)`."""


def _total(parts: Sequence[_Sums]) -> _Sums:
    return np.sum([squares for squares, _ in parts], axis=0), np.sum([pixels for _, pixels in parts], axis=0)


def _changes(fill: FillSpec, width: int, step: int, rims: HiddenRims) -> tuple[_Sums, _Sums]:
    """Return what hiding the rims changes in the holes of a window, and in the same shapes elsewhere."""
    stop_if_asked()
    window, elsewhere = rims.window, rims.beside == 0
    seen = window.valid[0] & ~elsewhere
    depth = inside(~seen, np.asarray(window.spacing) / min(window.spacing))
    told = depth <= _DEEPEST[depth.ndim]
    # one after the other: what the rim of the mask does to clean places beside it is no change of theirs
    without_rim, without_both = seen & (rims.away > width), seen & ~rims.hidden
    first, second, third = (_restored(fill, window, some, told) for some in (seen, without_rim, without_both))

    def summed(change: NDArray[np.float32], some: Mask) -> _Sums:
        share = hats(step * depth[some], _KNOTS)
        return np.square(change[:, some].astype(np.float64)) @ share.T, share.sum(axis=1)

    # lost slices have no rim
    return summed(first - second, (rims.away == 0) & told), summed(second - third, elsewhere & told)


def _restored(fill: FillSpec, window: Window, seen: Mask, told: Mask) -> NDArray[np.float32]:
    """Return what a fill makes of a window where only some pixels are observed, not too far from them."""
    hole = (window.hole[0] | window.valid[0]) & ~seen & told
    shape = window.values.shape
    return fill(
        replace(
            window,
            values=np.where(seen, window.values, np.float32(0)),
            valid=np.broadcast_to(seen, shape),
            hole=np.broadcast_to(hole, shape),
        )
    )
