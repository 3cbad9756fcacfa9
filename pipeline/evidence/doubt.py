"""Which observed pixels look like thin cloud, haze or shadow that the mask missed: learned from the image itself.

What a mask misses lies beside what it found. So observed pixels are compared ring by ring around the holes with those
farthest from them, after what a reference (if there is one) says of the ground is taken off. Two sides are looked at:
brighter than far off (haze, thin cloud) and darker (shadow). In each, every band counts by how much it differs near
the holes, which needs no names of bands. A pixel is doubted where such a pixel is at least twice as frequent at its
distance as far off, so that it is more likely contaminated than not (two-groups model and local false discovery rate:
Efron 2004, doi:10.1198/016214504000000089).

Ground that changed is as frequent beside a cloud as far from it, so it is not doubted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.ground import Ground, fit_ground
from pipeline.numerics.column import column

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

RINGS = (3.0, 6.0, 10.0, 16.0, 24.0, 32.0)
"""Outer radius of each ring around the holes, pixels; what is beyond the last is never doubted."""

FARTHEST = 40.0
"""Distance from the holes, pixels, from which nothing is gained by being farther."""

SMOOTH = 1.5
"""Deviation of the Gaussian that pixels are seen through, pixels: haze is smooth, noise and texture are not."""

_FAR_SHARE = 0.3
"""Share of the observed pixels that count as far from the holes, if so many lie there."""

_FEWEST_FAR = 400
"""Pixels far from the holes below which nothing can be told."""

_FEWEST_RING = 100
"""Pixels of a ring below which it is judged as the one inside it."""

_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Quantiles of the far pixels that may become the limit of what is trusted."""

_TIMES = 2.0
"""How much more frequent than far off a value must be to be doubted: it is then contaminated with a chance of half."""

_PIECE = 48
"""Edge of the pieces of image that count as independent, pixels."""

_FEWEST_IN_PIECE = 24
"""Pixels of a piece below which it says nothing."""

_FALL = 0.1
"""Fall of the share of high values, mean over pieces, below which nothing is said."""

_FEWEST_PIECES = 5
"""Pieces with pixels beside holes and farther off below which nothing can be told."""

_RELIABLE = 3.2
"""Standard errors by which high values must be more frequent beside the holes than farther off in the same pieces."""

_NOTICEABLE = 0.1
"""Smallest difference that is doubted, as a share of the standard deviation of the bands over the image."""

_ROUNDS = 3
_LARGEST = 5.0
"""Standardised differences are clipped here: one band's glint must not decide alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A window of the image, with what is needed to tell what was missed.

    Attributes:
        values: float32 `(c, *spatial)`.
        seen: bool `spatial`, observed in all channels.
        distance: float32 `spatial`, to the nearest wide hole, pixels.
        guides: `(values, seen)` of each reference, float32 `(c_ref, *spatial)` and bool `spatial`.
    """

    values: NDArray[np.float32]
    seen: Mask
    distance: NDArray[np.float32]
    guides: tuple[tuple[NDArray[np.float32], Mask], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to be contaminated.

    Attributes:
        name: `bright` or `dark`.
        weights: of the standardised differences of the bands, `(c,)`; their sum of squares is 1.
        limits: for each of `RINGS`, value of the weighted sum from which a pixel is doubted; infinite = never.
    """

    name: str
    weights: tuple[float, ...]
    limits: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """How contaminated pixels of one image are told.

    Attributes:
        ground: what the ground is expected to look like.
        sides: the ways to be contaminated that were found.
        rim_px: distance from the holes up to which all is doubted, pixels.
    """

    ground: Ground
    sides: tuple[Side, ...] = field(default=())
    rim_px: float = 0.0

    @property
    def reach_px(self) -> float:
        """Return the distance from the holes up to which pixels are doubted, pixels; 0 if none are."""
        told = [r for side in self.sides for r, limit in zip(RINGS, side.limits, strict=True) if np.isfinite(limit)]
        return max(told, default=self.rim_px)

    def facts(self) -> dict[str, Any]:
        """Return what the record says, as JSON values; a limit that is never reached is None."""
        facts = asdict(self) | {"reach_px": self.reach_px}
        for side in facts["sides"]:
            side["limits"] = [limit if np.isfinite(limit) else None for limit in side["limits"]]
        return facts

    def of(self, tile: Tile) -> Mask:
        """Return the doubted pixels of a tile, bool `spatial`; only observed ones are."""
        doubted = np.zeros(tile.seen.shape, dtype=np.bool_)
        differences, told = standardised(self.ground, tile)
        ring = np.minimum(np.searchsorted(RINGS, tile.distance), len(RINGS))
        for side in self.sides:
            index = np.einsum("c,c...->...", np.asarray(side.weights), differences)
            doubted |= told & (index > np.asarray((*side.limits, np.inf))[ring])
        doubted |= tile.distance <= self.rim_px
        return doubted & tile.seen & (tile.distance > 0)


def standardised(ground: Ground, tile: Tile) -> tuple[Field, Mask]:
    """Return smoothed differences from the ground in its standard deviations, `(c, *spatial)`, and where it is told."""
    expected, told = ground.expected(tile.values.shape, tile.guides)
    told = told & tile.seen
    share = ndimage.gaussian_filter(told.astype(np.float64), SMOOTH)
    scaled = (tile.values - expected) / column(ground.scale, told.ndim)
    smooth = [ndimage.gaussian_filter(np.where(told, band, 0.0), SMOOTH) for band in scaled]
    return np.clip(np.stack(smooth) / np.maximum(share, 1e-6), -_LARGEST, _LARGEST), told


def find_doubt(tiles: Sequence[Tile], *, little: bool = False) -> Doubt | None:
    """Learn from some windows of an image what contaminated pixels look like; None if too little is observed.

    Args:
        tiles: the windows.
        little: nearly all of the image is hidden: what is left beside the holes is doubted if enough lies farther off.
    """
    distance = np.concatenate([np.zeros(0, dtype=np.float32), *(t.distance[t.seen] for t in tiles)])
    if distance.size < _FEWEST_FAR:
        return None
    count = max(_FEWEST_FAR, int(_FAR_SHARE * distance.size))
    limit = min(FARTHEST, float(np.sort(distance)[max(0, distance.size - count)]))
    far = [t.seen & (t.distance >= limit) for t in tiles]
    ground = fit_ground(tiles, far)
    for _ in range(_ROUNDS - 1):
        # what was missed far from all holes must not pass for ground either
        calm = [f & _calm(ground, t) for f, t in zip(far, tiles, strict=True)]
        if sum(int(c.sum()) for c in calm) < _FEWEST_FAR:
            break
        ground = fit_ground(tiles, calm)
    rings = _Rings.of(tiles, far, ground)
    sides = [side for side in (rings.side("bright", 1.0), rings.side("dark", -1.0)) if side is not None]
    rim = RINGS[0] if little and (distance > RINGS[0]).sum() >= _FEWEST_FAR else 0.0
    return Doubt(ground=ground, sides=tuple(sides), rim_px=rim)


def _calm(ground: Ground, tile: Tile) -> Mask:
    differences, told = standardised(ground, tile)
    return np.asarray(told & (np.abs(differences.mean(axis=0)) < 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rings:
    """Observed pixels of all tiles: what differs `(c, n)`, ring, piece, if far `(n,)`; what is noticeable `(c,)`."""

    differences: Field
    ring: NDArray[np.intp]
    piece: NDArray[np.intp]
    far: Mask
    noticeable: Field

    @classmethod
    def of(cls, tiles: Sequence[Tile], far: Sequence[Mask], ground: Ground) -> _Rings:
        parts, rings, pieces, faraway, first = [], [], [], [], 0
        for tile, there in zip(tiles, far, strict=True):
            differences, told = standardised(ground, tile)
            parts.append(differences[:, told])
            rings.append(np.searchsorted(RINGS, tile.distance[told]))
            at = [axis // _PIECE for axis in np.nonzero(told)]
            shape = [-(-n // _PIECE) for n in told.shape]
            pieces.append(first + np.ravel_multi_index(at, shape))
            first += int(np.prod(shape))
            faraway.append(there[told])
        return cls(
            differences=np.concatenate(parts, axis=1),
            ring=np.concatenate(rings),
            piece=np.concatenate(pieces),
            far=np.concatenate(faraway),
            noticeable=_NOTICEABLE * np.asarray(ground.usual) / np.asarray(ground.scale),
        )

    def side(self, name: str, sign: float) -> Side | None:
        """Return how pixels differ near the holes on one side, None if they do not differ reliably."""
        near = (self.ring <= 1) & ~self.far
        if near.sum() < _FEWEST_RING or self.far.sum() < _FEWEST_FAR:
            return None
        signed = sign * self.differences
        shift = np.quantile(signed[:, near], 0.8, axis=1) - np.quantile(signed[:, self.far], 0.8, axis=1)
        weights = np.maximum(shift, 0.0)
        if not weights.any():
            return None
        weights = weights / np.sqrt((weights**2).sum())
        index = np.einsum("c,cn->n", weights, signed)
        if not self._reliable(index):
            return None
        limits = self._limits(index, float((weights * np.minimum(self.noticeable, 0.5 * _LARGEST)).sum()))
        if not np.isfinite(limits).any():
            return None
        return Side(name=name, weights=tuple((sign * weights).tolist()), limits=tuple(limits))

    def _reliable(self, index: Field) -> bool:
        """Say whether high values fall with distance from the holes within most pieces of the image.

        Kinds of ground do not know where the holes are: they differ from piece to piece, not toward the holes.
        """
        high = index > np.quantile(index[self.far], 0.9)
        near, off = self._shares(high, self.ring <= 1), self._shares(high, self.ring >= 3)
        both = np.isfinite(near) & np.isfinite(off)
        if both.sum() < _FEWEST_PIECES or np.mean(near[both]) < 0.1 * _TIMES:
            return False
        fall = near[both] - off[both]
        return bool(fall.mean() > max(_FALL, _RELIABLE * fall.std(ddof=1) / np.sqrt(fall.size)))

    def _shares(self, high: Mask, some: Mask) -> Field:
        """Return the share of high values among some pixels of each piece; NaN where these are too few."""
        n = int(self.piece.max()) + 1
        count, found = (np.bincount(self.piece[part], minlength=n) for part in (some, some & high))
        return np.asarray(np.where(count >= _FEWEST_IN_PIECE, found / np.maximum(count, 1), np.nan))

    def _limits(self, index: Field, least: float) -> list[float]:
        """Return for each ring the lowest far quantile above which values are `_TIMES` as frequent as far off.

        None is nearer to the middle of the far pixels than `least`.
        """
        quantiles = np.quantile(index[self.far], _LEVELS)
        least += float(np.median(index[self.far]))
        limits: list[float] = []
        for k in range(len(RINGS)):
            own = index[(self.ring == k) & ~self.far]
            limit = limits[-1] if limits else np.inf
            if own.size >= _FEWEST_RING:
                excess = [(own > q).mean() >= _TIMES * (1 - level) for q, level in zip(quantiles, _LEVELS, strict=True)]
                # contamination falls with distance: no ring is doubted where the one inside it is not
                found = quantiles[excess.index(True)] if any(excess) else np.inf
                limit = max(float(found), limit if limits else -np.inf)
            limits.append(max(float(limit), least))
        return limits
