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
from pipeline.numerics.distance import around
from pipeline.restore.task import Guide
from pipeline.selftest.rings import MOST_HIDDEN, Segment, by_place, hidden_rims, narrow, segments, steps, without_slices
from pipeline.system.signals import stop_if_asked
from pipeline.system.threads import each

_REACH = {2: 6, 3: 3}
"""Rings of 1 pixel that are looked at, by dimension; fewer where masks are dense."""

_CHANNELS = 3
"""Channels that are looked at, spread over the image's."""

_FEWEST_PIXELS = 3
"""Pixels of a ring below which a piece of rim says nothing about it."""

_FEWEST_SEGMENTS = 12
"""Pieces of rim, at the mask and at clean places each, below which a ring is not judged."""

_EXCESS = {2: 2.5, 3: 6.0}
"""Times the clean places' squared residual from which a ring counts as contaminated, by dimension: lesions lie beside
ventricles and cortex, and their shapes elsewhere do not."""

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
        reach = f"{space.far(self.wider_px)} from the mask{', perhaps farther,' if self.open else ''}"
        volume = space.kind == "volume"
        perhaps = "partial volume, halo, streaks" if volume else "thin cloud, haze, shadow; or peaks and slopes"
        where = f" in {self.seen_in}" if self.seen_in else ""
        told = "are wider for it" if self.carried else "do not count it"
        return (
            f"observed pixels up to {reach} do not fit what surrounds them"
            f"{where} ({perhaps}?), and what is restored may be like them; error bars {told}: "
            f"consider widening the mask by {self.wider_px} px (`buffer`)"
            f"{'' if volume else ', unless the holes lie where the ground itself is unlike the rest'}"
        )


def check_rim(
    windows: Sequence[Window],
    fill: FillSpec,
    floor: Sequence[float],
    seed: int,
    starts: Sequence[tuple[int, ...]] = (),
) -> Rim:
    """Compare the rim of the mask with clean places.

    Args:
        windows: some windows of one image, `(c, *spatial)` each.
        fill: predicts what is hidden.
        floor: smallest local scale of each channel.
        seed: of the clean places.
        starts: where each window begins, pixels; empty = they have no pixel in common.
    """
    if not windows:
        return Rim()
    ndim = len(windows[0].spacing)
    rng = np.random.default_rng(seed)
    reach = _reach(windows, _REACH[ndim])
    if reach < 1:
        return Rim()
    hidden = []
    for k, window in enumerate(windows):
        stop_if_asked()
        if window.hole.any():
            some = np.unique(np.linspace(0, len(window.hole) - 1, _CHANNELS).astype(int))
            rims = hidden_rims(narrow(window, some), reach, rng, [floor[c] for c in some])
            begins = (0, *starts[k]) if starts else (k, *(0,) * ndim)
            hidden += [] if rims is None else [replace(rims, start=begins)]
    found = each(partial(segments, fill, reach), hidden)
    rim, clean = (by_place([part[side] for part in found]) for side in (0, 1))
    return _verdict(rim, clean, reach, ndim)


def check_rim_of_guide(
    windows: Sequence[Window],
    guides: Sequence[Guide],
    fill: FillSpec,
    seed: int,
    starts: Sequence[tuple[int, ...]] = (),
) -> Rim:
    """Look at the rim of the mask in another image of the same place: what is contaminated there may not show here.

    Args:
        windows: some windows of one image.
        guides: what the other image shows in each, `(c, *spatial)`.
        fill: predicts what is hidden.
        seed: of the clean places.
        starts: as for `check_rim`.
    """
    shown = []
    for window, guide in zip(windows, guides, strict=True):
        hole = np.broadcast_to(window.hole.any(axis=0), guide.values.shape)
        valid = guide.valid & ~hole
        values = np.where(valid, guide.values, np.float32(0))
        shown.append(replace(window, values=values, valid=valid, hole=hole, guess=None))
    seen = [np.concatenate([one.values[c][one.valid[c]] for one in shown]) for c in range(len(shown[0].values))]
    floor = [_FLOOR * float(np.subtract(*np.percentile(part, [99, 1]))) if part.size else 0.0 for part in seen]
    return check_rim(shown, fill, floor, seed, starts)


def _reach(windows: Sequence[Window], most: int) -> int:
    """Return how many rings can be hidden while enough stays observed."""
    for reach in range(most, 0, -1):
        left = total = 0
        for window in windows:
            hole = without_slices(np.asarray(window.hole.any(axis=0)))
            seen = window.valid.all(axis=0)
            away = around(hole, 2 * reach, steps(window)) > 2 * reach
            left, total = left + int((seen & away).sum()), total + int(seen.sum())
        if left >= (1 - MOST_HIDDEN) * total > 0:
            return reach
    return 0


def _verdict(rim: list[Segment], clean: list[Segment], reach: int, ndim: int) -> Rim:
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


def _means(segments: list[Segment], ring: int) -> NDArray[np.float64]:
    """Return the mean residual of each piece that has pixels enough in a ring."""
    pairs = np.asarray([(total[ring], count[ring]) for total, count in segments]).reshape(-1, 2)
    pairs = pairs[pairs[:, 1] >= _FEWEST_PIXELS]
    return np.asarray(pairs[:, 0] / pairs[:, 1])


def _error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / np.sqrt(values.size))
