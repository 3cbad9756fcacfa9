"""Placements before anything is decided: what is hidden where, and what each base fill makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec, Prepared, Window
from pipeline.numerics.metrics import channel_mse, normalised_mse
from pipeline.numerics.situation import Situation
from pipeline.restore.estimate import where
from pipeline.selftest.placing import Placement
from pipeline.system.signals import stop_if_asked
from pipeline.system.threads import each

_NEARLY_ALL = 0.95

FEWEST_HIDDEN = 64
"""Hidden pixels below which nothing is said about a family of holes or about the size of steps."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A placement with what is known about its pixels."""

    placement: Placement
    """What is hidden where."""
    place: Situation
    """Distance and family of all pixels."""
    unit: NDArray[np.intp]
    """`(c, *spatial)`, number of the piece of image that a pixel lies in."""
    channels: tuple[int, ...]
    """Position in the image of each of the placement's channels."""
    made: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """What the fills tried so far make of the window, by label."""

    @property
    def window(self) -> Window:
        """Return the window as a block would see it, pseudo-holes marked as holes."""
        return self.placement.task.window

    @cached_property
    def channel(self) -> NDArray[np.intp]:
        """Return the channel of each hidden pixel, counted in the image, `(n,)`."""
        return np.asarray(self.channels)[np.nonzero(self.placement.hidden)[0]]

    @cached_property
    def hidden_place(self) -> Situation:
        """Return distance and family of the hidden pixels, `(n,)` and `(3, n)`."""
        return self.place.of(self.placement.hidden)

    def hidden(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values `(c, *spatial)` of the hidden pixels, `(n,)`."""
        return values[self.placement.hidden]

    def error_of(self, mean: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far an estimate `(c, *spatial)` is off at the hidden pixels, float32 `(n,)`, data units."""
        return self.hidden(mean - self.placement.truth)

    def normalised_mse_of(self, mean: NDArray[np.float32], spread: NDArray[np.float64]) -> float:
        """Return the mean squared error over `spread` squared, mean over channels; NaN if nothing tells.

        `spread` is the robust range of each channel of the image, `(c,)`.
        """
        mse = channel_mse(mean, self.placement.truth, self.placement.hidden)
        return normalised_mse(mse, spread[list(self.channels)])

    def prepared(self) -> Prepared:
        """Return the window for `fill`, without the real holes that nothing hidden depends on."""
        return Prepared(replace(self.window, hole=self.placement.concerned))

    def fill(self, spec: FillSpec, prepared: Prepared | None = None) -> NDArray[np.float32]:
        """Return what a fill makes of the window; real holes that nothing hidden depends on keep their plain fill.

        What is `prepared` several fills share.
        """
        if spec.label not in self.made:
            stop_if_asked()
            placement, window = self.placement, self.window
            if spec.whole:
                begin = partial(self.fill, prepared=prepared)
                mean = spec.over(replace(window, asked=placement.concerned), begin)
            else:
                mean = (prepared or self.prepared()).filled(spec)
            self.made[spec.label] = np.where(placement.concerned | window.valid, mean, placement.truth)
        return self.made[spec.label]


def sites_of(placements: Sequence[Placement]) -> list[Site]:
    """Return placements with what is known about their pixels.

    The unit of independent evidence is a piece of the image, a quarter of a window wide (a third in volumes), however
    often something was hidden there.
    """
    ndim = len(placements[0].start)
    extent = [max(1, -(-n // (6 - ndim))) for n in placements[0].truth.shape[1:]]
    cells, pixels = [], []
    for placement in placements:
        lines = [
            np.unique((a + np.arange(n)) // size, return_inverse=True)
            for a, n, size in zip(placement.start, placement.truth.shape[1:], extent, strict=True)
        ]
        cells.append(np.stack(np.meshgrid(*(line for line, _ in lines), indexing="ij"), axis=-1))
        pixels.append(np.ix_(*(where_on_line for _, where_on_line in lines)))
    most = np.max([cell.reshape(-1, ndim).max(axis=0) for cell in cells], axis=0) + 1
    flat = [np.ravel_multi_index(tuple(np.moveaxis(cell, -1, 0)), tuple(most)) for cell in cells]
    pieces = np.unique(np.concatenate([f.ravel() for f in flat]))
    places = each(where, [placement.task.window for placement in placements])
    return [
        Site(
            placement=placement,
            place=place,
            unit=np.broadcast_to(np.searchsorted(pieces, numbers)[own], placement.truth.shape),
            channels=tuple(range(len(placement.truth))),
        )
        for placement, place, numbers, own in zip(placements, places, flat, pixels, strict=True)
    ]


def as_deep(sites: Sequence[Site]) -> float:
    """Return the share of the pixels of real wide holes that lie no deeper than nearly all that is hidden in such.

    1 without any of either.
    """
    hidden, real = [], []
    for site in sites:
        wide, distance = site.place.shares[0] < 0.5, site.place.distance
        hidden.append(distance[site.placement.hidden & wide])
        real.append(distance[site.window.hole & ~site.placement.hidden & wide])
    tested, asked = np.concatenate(hidden), np.concatenate(real)
    return float((asked <= np.quantile(tested, _NEARLY_ALL)).mean()) if tested.size and asked.size else 1.0


def shares_of(sites: Sequence[Site]) -> NDArray[np.float32]:
    """Return the family shares of the hidden pixels of all sites, `(3, n)`."""
    return np.concatenate([s.hidden_place.shares for s in sites], axis=1)


def unit_of(sites: Sequence[Site]) -> NDArray[np.intp]:
    """Return the piece of image that each hidden pixel of all sites lies in, `(n,)`."""
    return np.concatenate([s.hidden(s.unit) for s in sites])


def channel_scale(sites: Sequence[Site], error: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return for each hidden pixel of all sites the root mean square of the errors `(n,)` of its channel, `(n,)`."""
    channel = np.concatenate([s.channel for s in sites])
    squares = error.astype(np.float64) ** 2
    total = np.bincount(channel, weights=squares)
    mean = total / np.maximum(np.bincount(channel), 1)
    return np.asarray(np.sqrt(np.where(mean > 0, mean, 1.0))[channel])
