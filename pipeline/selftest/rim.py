"""Find contaminated observed pixels at the rim of the mask: thin cloud, halo, shadow, partial volume.

The rim is hidden together with the holes and predicted from further out. Where masks are wide enough, what was
observed there differs from the prediction no more than at random clean places around which the same shapes were hidden.
Contamination shows as residuals that are alike along the rim, larger than at the clean places, and fade away from it.
The check changes no value: the user decides about the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec, Window
from pipeline.geometry.space import Space
from pipeline.image.scan import block_sum
from pipeline.numerics.distance import around
from pipeline.numerics.statistics import local_statistics
from pipeline.restore.task import Guide
from pipeline.system.signals import stop_if_asked
from pipeline.system.threads import each

Mask = NDArray[np.bool_]

_REACH = {2: 6, 3: 3}
"""Rings of 1 pixel that are looked at, by dimension; fewer where masks are dense."""

_SEGMENT = {2: 12, 3: 8}
"""Edge of the square pieces of rim whose residuals count as independent, pixels, by dimension."""

_CHANNELS = 3
"""Channels that are looked at, spread over the image's."""

_DEPTHS = 4
"""Depths of hidden rings beyond which holes count as outside: what a spline makes of the rings does not depend on them,
and a void that fills a window takes most of its time there."""

_MOST_HIDDEN = 0.5
"""Share of the observed pixels that rims of mask and clean places may hide."""

_FEWEST_PIXELS = 3
"""Pixels of a ring below which a piece of rim says nothing about it."""

_FEWEST_SEGMENTS = 12
"""Pieces of rim, at the mask and at clean places each, below which a ring is not judged."""

_EXCESS = {2: 2.5, 3: 6.0}
"""Times the clean places' squared residual from which a ring counts as contaminated, by dimension: lesions lie beside
ventricles and cortex, and their shapes elsewhere do not."""

_PLANE = 0.9
"""Share of a plane of a window from which it counts as a lost slice."""

_RELIABLE = 4.0
"""Standard errors by which it must lie above the clean places'."""

_SHIFT = 0.1
"""Difference between the mean residuals of both, in local standard deviations, from which a ring of a volume counts as
contaminated however small its squares are: partial volume shifts a whole rim by little, and a spline carries that into
the hole, where it grows."""

_FLOOR = 0.01
"""Smallest local scale of another image, as a share of its range from the 1st to the 99th percentile."""

_STEADY = 0.05
"""Share of the clean places' squared residual that is added before logarithms are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rim:
    """What the rim check found."""

    tested_px: int = 0
    """How far it was looked at; 0 = it could not be tested."""
    wider_px: int = 0
    """Pixels by which the mask should be wider; 0 = clean."""
    ring_px: int = 1
    """Width of a ring; wider ones are looked at where all narrower ones are contaminated."""
    excess: tuple[float, ...] = ()
    """For each ring, squared residual along the rim over that at clean places; about 1 if clean."""
    carried: tuple[float, ...] = ()
    """Standard error that the rim adds in the holes of each channel, root mean square, data units; empty: clean, or it
    could not be told."""
    seen_in: str = ""
    """Auxiliary image in which it was seen; empty: the image itself."""

    @property
    def open(self) -> bool:
        """Whether all rings that were looked at are contaminated: it may reach farther."""
        return 0 < self.tested_px == self.wider_px

    def farther(self, beyond: Rim, ring_px: int) -> Rim:
        """Return what wider rings add to it.

        Args:
            beyond: what was found on cells as rings.
            ring_px: edge of a cell, pixels.
        """
        tested, wider = max(self.tested_px, ring_px * beyond.tested_px), ring_px * beyond.wider_px
        if wider <= self.wider_px:
            return replace(self, tested_px=tested)
        return replace(beyond, tested_px=tested, wider_px=wider, ring_px=ring_px)

    def sentence(self, space: Space) -> str:
        """Return the finding in words, empty if there is nothing to say.

        Args:
            space: grid of the image.
        """
        if not self.wider_px:
            return ""
        more = " or more" if self.open else ""
        perhaps = "partial volume, halo, streaks" if space.kind == "volume" else "thin cloud, haze, shadow"
        where = f" in {self.seen_in}" if self.seen_in else ""
        told = "are wider for it" if self.carried else "do not count it"
        return (
            f"observed pixels up to {space.far(self.wider_px)}{more} from the mask do not fit what surrounds them"
            f"{where} ({perhaps}?), and what is restored may be like them; error bars {told}: "
            f"consider widening the mask by {self.wider_px} px (`buffer`)"
        )


def check_rim(windows: Sequence[Window], fill: FillSpec, floor: Sequence[float], seed: int) -> Rim:
    """Compare the rim of the mask with clean places.

    Args:
        windows: some windows of one image, `(c, *spatial)` each.
        fill: predicts what is hidden.
        floor: smallest local scale of each channel.
        seed: of the clean places.
    """
    if not windows:
        return Rim()
    ndim = len(windows[0].spacing)
    rng = np.random.default_rng(seed)
    reach = _reach(windows, _REACH[ndim])
    if reach < 1:
        return Rim()
    looks = []
    for window in windows:
        stop_if_asked()
        if window.hole.any():
            some = np.unique(np.linspace(0, len(window.hole) - 1, _CHANNELS).astype(int))
            looks.append(hidden_rims(narrow(window, some), reach, rng, [floor[c] for c in some]))
    found = each(partial(_segments, fill, reach), [look for look in looks if look is not None])
    rim, clean = [one for part, _ in found for one in part], [one for _, part in found for one in part]
    return _verdict(rim, clean, reach, ndim)


def check_rim_of_guide(windows: Sequence[Window], guides: Sequence[Guide], fill: FillSpec, seed: int) -> Rim:
    """Look at the rim of the mask in another image of the same place: what is contaminated there may not show here.

    Args:
        windows: some windows of one image.
        guides: what the other image shows in each, `(c, *spatial)`.
        fill: predicts what is hidden.
        seed: of the clean places.
    """
    shown = []
    for window, guide in zip(windows, guides, strict=True):
        hole = np.broadcast_to(window.hole.any(axis=0), guide.values.shape)
        valid = guide.valid & ~hole
        values = np.where(valid, guide.values, np.float32(0))
        shown.append(replace(window, values=values, valid=valid, hole=hole, guess=None))
    seen = [np.concatenate([one.values[c][one.valid[c]] for one in shown]) for c in range(len(shown[0].values))]
    floor = [_FLOOR * float(np.subtract(*np.percentile(part, [99, 1]))) if part.size else 0.0 for part in seen]
    return check_rim(shown, fill, floor, seed)


def _reach(windows: Sequence[Window], most: int) -> int:
    """Return how many rings can be hidden while enough stays observed."""
    for reach in range(most, 0, -1):
        left = total = 0
        for window in windows:
            hole = _without_slices(np.asarray(window.hole.any(axis=0)))
            seen = window.valid.all(axis=0)
            away = around(hole, 2 * reach, _steps(window)) > 2 * reach
            left, total = left + int((seen & away).sum()), total + int(seen.sum())
        if left >= (1 - _MOST_HIDDEN) * total > 0:
            return reach
    return 0


def _steps(window: Window) -> tuple[int, ...]:
    """Return the step along each axis in whole shortest ones: what lies a thick slice away is no rim."""
    return tuple(round(step / min(window.spacing)) for step in window.spacing)


def _without_slices(hole: Mask) -> Mask:
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


_Segment = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Sums of residuals and numbers of pixels of each ring in one piece of rim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A window with the rims of its mask and of the same shapes elsewhere hidden."""

    window: Window
    hidden: Mask
    """`(*spatial)`, observed pixels that are hidden."""
    away: NDArray[np.float64]
    """`(*spatial)`, shortest steps from the mask."""
    beside: NDArray[np.float64]
    """`(*spatial)`, shortest steps from the same shapes elsewhere."""
    floor: Sequence[float] = ()


def hidden_rims(window: Window, reach: int, rng: np.random.Generator, floor: Sequence[float] = ()) -> Look | None:
    """Return what is hidden of a window, None if too little would stay observed."""
    hole, seen = _without_slices(window.hole[0]), window.valid[0]
    if not hole.any():
        return None
    away = around(hole, 2 * reach, _steps(window))
    shape = hole
    for axis in range(hole.ndim):
        if rng.random() < 0.5:
            shape = np.flip(shape, axis=axis)
        shape = np.roll(shape, int(rng.integers(hole.shape[axis])), axis=axis)
    elsewhere = shape & seen & (away > 2 * reach)
    beside = around(elsewhere, 2 * reach, _steps(window))
    hidden = seen & ((away <= reach) | (beside <= reach))
    if (seen & ~hidden).sum() < (1 - _MOST_HIDDEN) * 0.5 * seen.sum():
        return None
    return Look(window=window, hidden=hidden, away=away, beside=beside, floor=floor)


def _segments(fill: FillSpec, reach: int, look: Look) -> tuple[list[_Segment], list[_Segment]]:
    """Return the pieces of the mask's rim and of the rims around the same shapes elsewhere."""
    stop_if_asked()
    window, hidden, away, beside = look.window, look.hidden, look.away, look.beside
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
    rim, clean = [], []
    for c, low in enumerate(look.floor):
        scale = local_statistics(tested.values[c], left, low).scale
        residual = np.where(seen, (window.values[c] - predicted[c]) / scale, 0.0)
        telling = scale > 1.5 * low
        rim += _cut(residual, hidden & (beside > 2 * reach) & telling, away, reach)
        clean += _cut(residual, hidden & (away > 2 * reach) & (beside > 0) & telling, beside, reach)
    return rim, clean


def _cut(residual: NDArray[np.float64], wanted: Mask, distance: NDArray[np.float64], reach: int) -> list[_Segment]:
    """Sum residuals by ring over square pieces of the window."""
    at = np.nonzero(wanted & (distance <= reach))
    if not at[0].size:
        return []
    ring = np.ceil(distance[at]).astype(int) - 1
    size = _SEGMENT[residual.ndim]
    piece = np.ravel_multi_index([a // size for a in at], [-(-n // size) for n in residual.shape])
    _, piece = np.unique(piece, return_inverse=True)
    n = int(piece.max()) + 1
    sums = np.bincount(piece * reach + ring, weights=residual[at], minlength=n * reach).reshape(n, reach)
    counts = np.bincount(piece * reach + ring, minlength=n * reach).reshape(n, reach)
    return list(zip(sums, counts.astype(np.float64), strict=True))


def _verdict(rim: list[_Segment], clean: list[_Segment], reach: int, ndim: int) -> Rim:
    excess, flagged, least = [], [], _EXCESS[ndim]
    for ring in range(reach):
        means = [_means(part, ring) for part in (rim, clean)]
        if min(len(part) for part in means) < _FEWEST_SEGMENTS:
            return Rim()
        found, usual = (part**2 for part in means)
        ratio = float(found.mean() / max(usual.mean(), 1e-12))
        error = float(np.hypot(_error(found), _error(usual) * ratio))
        excess.append(round(ratio, 2))
        certain = ratio > least and found.mean() - usual.mean() > _RELIABLE * error
        flagged.append(certain or _mostly(found, usual, least) or (ndim == 3 and _shifted(*means)))
    wider = flagged.index(False) if False in flagged else reach
    return Rim(tested_px=reach, wider_px=wider, excess=tuple(excess))


def _mostly(found: NDArray[np.float64], usual: NDArray[np.float64], least: float) -> bool:
    """Compare the geometric means: where few pieces are far worse than the others the plain mean is never certain."""
    steady = max(_STEADY * float(usual.mean()), 1e-12)
    one, two = np.log(found + steady), np.log(usual + steady)
    difference = float(one.mean() - two.mean())
    return bool(difference > max(np.log(least), _RELIABLE * np.hypot(_error(one), _error(two))))


def _shifted(found: NDArray[np.float64], usual: NDArray[np.float64]) -> bool:
    """Compare the means with their signs."""
    difference = abs(float(found.mean() - usual.mean()))
    return bool(difference > max(_SHIFT, _RELIABLE * float(np.hypot(_error(found), _error(usual)))))


def _means(segments: list[_Segment], ring: int) -> NDArray[np.float64]:
    """Return the mean residual of each piece that has pixels enough in a ring."""
    pairs = np.asarray([(total[ring], count[ring]) for total, count in segments]).reshape(-1, 2)
    pairs = pairs[pairs[:, 1] >= _FEWEST_PIXELS]
    return np.asarray(pairs[:, 0] / pairs[:, 1])


def _error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / np.sqrt(values.size))
