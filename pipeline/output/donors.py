"""Donors: observed patches of the same image that lend their detail to a hole of the display product.

Which patch lends to which tile depends on absolute positions and the seed alone: not on what is asked for first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.geometry.lattice import Lattice
from pipeline.masks.base import KEEP
from pipeline.output.assemble import Assembler

_PATCHES = {2: ((64, 16), (32, 8), (16, 4)), 3: ((24, 8), (12, 4), (8, 2))}
"""Extents and overlaps of the tiles that detail is laid on in, in pixels; the first that finds donors is taken."""
_CELL = {2: 8, 3: 4}
"""Donors begin at multiples of this."""
_REGION = {2: 384, 3: 64}
"""Tiles of one region share their candidates."""
_READ = {2: 1024, 3: 128}
_ENOUGH, _MOST = 64, 192
"""Candidates around a region that are enough; and the most of which the colour is looked at."""
_FEWEST = 32
"""Candidates in the whole image below which smaller tiles are taken."""
_AROUND = 32
"""So many nearest candidates say how rough the surroundings of a tile are."""
_ALIKE, _NEAR, _USUAL = 32, 24, 16
"""Of so many candidates of most similar colour so many are nearest, and of those so many as rough as is usual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Donor:
    """Where a donor lies, and what its detail is multiplied with to be no rougher than the surroundings, 0 to 1."""

    box: Box
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """Candidates of a region.

    Attributes:
        starts: where they start, `(n, ndim)`.
        means: mean of each channel, stored units, `(n, c)`.
        rough: mean step between neighbours, in spreads, mean over channels, `(n,)`.
    """

    starts: NDArray[np.intp]
    means: NDArray[np.float64]
    rough: NDArray[np.float64]


def find_donors(assembler: Assembler) -> Donors:
    """Return the donors of an image, for the largest tiles of which there are enough.

    Where holes leave only small pieces between them, wide patches that are wholly observed may be nowhere.
    """
    shape = assembler.plan.space.shape
    found = [Donors(assembler, _lattice(shape, *size)) for size in _PATCHES[len(shape)]]
    return next((donors for donors in found if donors.enough()), found[-1])


def _lattice(shape: tuple[int, ...], patch: int, overlap: int) -> Lattice:
    """Return tiles of an extent; along an axis that has no room for two of them a single one."""
    fits = [2 * patch <= n for n in shape]
    patches = tuple(patch if fit else n for fit, n in zip(fits, shape, strict=True))
    return Lattice(shape=shape, patch=patches, overlap=tuple(overlap if fit else 0 for fit in fits))


class Donors:
    """Chooses a donor for each tile of a lattice."""

    def __init__(self, assembler: Assembler, lattice: Lattice) -> None:
        self._assembler, self.lattice = assembler, lattice
        plan = assembler.plan
        self._ndim, self._channels = plan.ndim, list(plan.channels)
        self._spread = np.asarray([spread or 1.0 for spread in plan.spread])
        self._seed = int(plan.config.get("seed", 0))
        self._extent = tuple(p - 2 * (o // 4) for p, o in zip(lattice.patch, lattice.overlap, strict=True))
        self._pool = lru_cache(maxsize=16)(self._candidates)

    def enough(self) -> bool:
        """Return True if the image has candidates enough; looks at windows of it until that is clear."""
        found, whole = 0, Box.whole(self.lattice.shape)
        for box in whole.tiles(tuple(max(_READ[self._ndim], 2 * n) for n in self._extent)):
            found += len(self._observed(box))
            if found >= _FEWEST:
                return True
        return False

    def of(self, index: tuple[int, ...], mean: NDArray[np.float64]) -> Donor | None:
        """Return the donor of a tile, with the extent of `lattice.support(index)`; None if there is none.

        Args:
            index: of the tile.
            mean: of the restored pixels of the tile in each channel, stored units, `(c,)`; NaN where there is none.
        """
        tile = self.lattice.support(index)
        pool = self._pool(
            tuple((a + b) // 2 // _REGION[self._ndim] for a, b in zip(tile.start, tile.stop, strict=True))
        )
        if not len(pool.starts):
            return None
        off = np.nan_to_num((pool.means - mean) / self._spread)
        alike = _smallest((off**2).sum(axis=1), _ALIKE)
        away = ((pool.starts - np.asarray(tile.start)) ** 2).sum(axis=1)
        near = alike[_smallest(away[alike], _NEAR)]
        # a few tiles shall have what many would have on average
        usual = near[_smallest(np.abs(pool.rough[near] - np.median(pool.rough[near])), _USUAL)]
        chosen = usual[np.random.default_rng([self._seed, len(index), *index]).integers(len(usual))]
        start = tuple(int(a) for a in pool.starts[chosen])
        around = pool.rough[_smallest(away, _AROUND)].mean()
        return Donor(
            box=Box(start, tuple(a + n for a, n in zip(start, tile.shape, strict=True))),
            level=float(min(1.0, around / pool.rough[chosen])) if pool.rough[chosen] else 1.0,
        )

    def _candidates(self, region: tuple[int, ...]) -> _Pool:
        """Return observed patches in and around a region, from as near as there are enough."""
        edge, whole = _REGION[self._ndim], Box.whole(self.lattice.shape)
        home = Box(tuple(k * edge for k in region), tuple((k + 1) * edge for k in region))
        reach = edge // 3
        while True:
            around = home.grow(reach) & whole
            starts = self._observed(around)
            if len(starts) >= _ENOUGH or around == whole:
                break
            reach *= 2
        rng = np.random.default_rng([self._seed, *region])
        if len(starts) > _MOST:
            starts = starts[np.sort(rng.choice(len(starts), _MOST, replace=False))]
        found = [self._mean_and_roughness(Box(tuple(s), tuple(s + self._extent))) for s in starts]
        means = np.asarray([mean for mean, _ in found]).reshape(len(starts), len(self._channels))
        return _Pool(starts=starts, means=means, rough=np.asarray([rough for _, rough in found]))

    def _mean_and_roughness(self, box: Box) -> tuple[NDArray[np.float64], float]:
        """Return the mean of each channel over a box, `(c,)`, and how rough it is, see `_Pool`."""
        values = self._assembler.source.read(box)[self._channels].astype(np.float64)
        axes = tuple(range(1, values.ndim))
        steps = [np.abs(np.diff(values, axis=axis)) for axis in axes]
        rough = np.mean([step.mean(axis=axes) for step in steps if step.size] or [0.0], axis=0) / self._spread
        return values.mean(axis=axes), float(rough.mean())

    def _observed(self, box: Box) -> NDArray[np.intp]:
        """Return where patches inside a box start that are observed and trusted in all channels, `(n, ndim)`."""
        cell = _CELL[self._ndim]
        first = tuple(-(-a // cell) for a in box.start)
        good = self._cells(Box(first, tuple(-(-b // cell) for b in box.stop)))
        window = tuple(-(-n // cell) for n in self._extent)
        if any(n < w for n, w in zip(good.shape, window, strict=True)):
            return np.empty((0, self._ndim), dtype=np.intp)
        free = sliding_window_view(good, window).all(axis=tuple(range(self._ndim, 2 * self._ndim)))
        starts = (np.argwhere(free) + first) * cell
        return starts[(starts + self._extent <= box.stop).all(axis=1)]

    def _cells(self, cells: Box) -> NDArray[np.bool_]:
        """Return which cells hold trusted pixels only, as far as they lie in the image; reads tile by tile."""
        cell, whole = _CELL[self._ndim], Box.whole(self.lattice.shape)
        good = np.ones(cells.shape, dtype=bool)
        for part in cells.tiles((_READ[self._ndim] // cell,) * self._ndim):
            box = Box(tuple(a * cell for a in part.start), tuple(b * cell for b in part.stop)) & whole
            bad = (np.asarray(self._assembler.state[box.at()]) != KEEP).any(axis=0)
            for axis in range(self._ndim):
                bad = np.logical_or.reduceat(bad, range(0, bad.shape[axis], cell), axis=axis)
            good[part.within(cells)] = ~bad
        return good


def _smallest(values: NDArray[np.generic], count: int) -> NDArray[np.intp]:
    """Return where the smallest values are, at most so many; of equal ones the first."""
    return np.argsort(values, kind="stable")[:count]
