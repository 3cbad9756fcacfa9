"""Pixels that are observed in the image and seen by guides, and the relation that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.correlation import correlation_length
from pipeline.references.relation import Relation, fit_relation
from pipeline.references.ridge import fit_ridge
from pipeline.system.signals import stop_if_asked

_LEADING = 0.98
"""Share of what several guides explain together from which one of them is said to lead."""

_FEW = 10_000
"""Pixels on which that is looked at."""

_BACKGROUND = 20
"""Of so many pixels of an empty background one is learned from."""

Array = NDArray[np.float32]
Sizes = Sequence[tuple[float, ...]]
"""Of the pixels of each band along each axis, in pixels of the grid."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Pixels observed in the image and seen by some guides."""

    target: list[NDArray[np.float32]] = field(default_factory=list)
    around: list[NDArray[np.float32]] = field(default_factory=list)
    places: list[NDArray[np.float64]] = field(default_factory=list)
    """Of the pixels in their window, steps of the finest axis."""
    robust: bool = True
    """Pixels that do not fit may be clouds or change: one of the guides is a reference, or a channel of the image."""

    def add(
        self, values: Array, looks: Array, both: NDArray[np.bool_], grid: tuple[slice, ...], spacing: Sequence[float]
    ) -> None:
        """Take the pixels of a grid of a window that are in `both`; `looks` is the context of the guides on it."""
        use, cut = both[grid], (slice(None), *grid)
        steps = [part.step * own / min(spacing) for part, own in zip(grid, spacing, strict=True)]
        self.places.append(np.argwhere(use) * np.asarray(steps))
        self.target.append(values[cut][:, use].T)
        self.around.append(looks[:, use].T)

    def related(self, bands: int, *, few: bool = False) -> Relation | None:
        """Return the relation of guides with so many bands; None if too few pixels are seen in both."""
        target, around = np.concatenate(self.target), np.concatenate(self.around)
        some = without_background(np.concatenate([target, around[:, :bands]], axis=1))
        enough = int(some.sum()) >= 10 * (bands + 1)
        if not enough:
            return None
        relation = fit_relation(target[some], around[some], bands, few=few, robust=self.robust)
        return relation if relation.clusters is None else replace(relation, reach=self._reach(relation, some))

    def _reach(self, relation: Relation, some: NDArray[np.bool_]) -> float | None:
        """Return how far apart what a relation leaves over is still alike, from some of the pixels."""
        parts, end = [], 0
        for target, around, places in zip(self.target, self.around, self.places, strict=True):
            use, end = some[end : end + len(target)], end + len(target)
            if use.any():
                parts.append((target[use] - relation.predict(around[use].T)[0].T, places[use]))
        return correlation_length(parts)

    def alone(
        self, bands: int, offset: tuple[float, ...], *, few: bool, resolution: tuple[Sizes, Sequence[float]]
    ) -> Relation | None:
        """Return the relation of one guide."""
        stop_if_asked()
        relation = self.related(bands, few=few)
        return replace(at_resolution(relation, *resolution), offset=offset, carries=not few) if relation else None

    def leader(self, parts: Sequence[Sequence[int]], numbers: Sequence[int]) -> int | None:
        """Return the guide whose bands alone explain nearly all that those of all do, by a linear map; else None.

        Args:
            parts: columns of the context that are each guide's bands.
            numbers: of the guides.
        """
        step = -(-sum(map(len, self.target)) // _FEW)
        target, around = np.concatenate(self.target)[::step], np.concatenate(self.around)[::step]

        def explained(columns: Sequence[int]) -> float:
            return float(np.mean(fit_ridge(target, around[:, list(columns)]).explained))

        alone = [explained(part) for part in parts]
        best = int(np.argmax(alone))
        together = explained([column for part in parts for column in part])
        return numbers[best] if alone[best] >= _LEADING * together else None


def at_resolution(relation: Relation, pixel_sizes: Sizes, own: Sequence[float]) -> Relation:
    """Return a relation that knows how large the pixels of both images are, if some of the guide's are larger."""
    if all(max(axes) <= min(own) for axes in pixel_sizes):
        return relation
    return replace(relation, pixel_sizes=tuple(pixel_sizes), resolved=tuple(own))


def without_background(rows: Array) -> NDArray[np.bool_]:
    """Return which rows `(n, columns)` to learn from: all but those with the commonest value in every column.

    Where most of a volume is empty, misfits are judged by those of the emptiness, and all that is not empty passes for
    an outlier. One row in twenty of the background is kept.
    """
    same = np.ones(len(rows), dtype=np.bool_)
    for column in rows.T:
        values, counts = np.unique(column, return_counts=True)
        same &= column == values[np.argmax(counts)] if len(values) else same
        if not same.any():
            break
    same[np.flatnonzero(same)[::_BACKGROUND]] = False
    return ~same
