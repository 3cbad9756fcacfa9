"""What is known of the pixels that a mask missed in one image, and which pixels of a window that makes doubted.

`learn` finds it out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.ground import Ground
from pipeline.evidence.haze import Haze
from pipeline.evidence.outline import Outline
from pipeline.evidence.tile import LARGEST, RINGS, Tile
from pipeline.evidence.veil import Veils
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space
from pipeline.numerics.column import column

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]
Differences = tuple[Field, Mask]
"""Of a tile from the ground in its standard deviations, `(c, *spatial)`, and bool `spatial`, where they are told."""

SMOOTH = 1.5
"""Deviation of the Gaussian that pixels are seen through, pixels: haze is smooth, noise and texture are not."""

_LEAST_SHARE = 1e-6

_SPECK = 5
"""Edge of the square in which most pixels must be alike, pixels: thin cloud and shadow come in scraps."""

NOTICEABLE = 0.1
"""Smallest difference that matters, as a share of the standard deviation of the bands over the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to be contaminated.

    Attributes:
        name: `bright` or `dark`.
        weights: of the standardised differences of the bands, `(c,)`.
        limits: for each of `RINGS`, value of the weighted sum from which a pixel is doubted; infinite = none is.
        rim_px: distance from the holes up to which all is doubted, pixels: most pixels there are contaminated, and
            those that look clean would be the darkest (brightest) of the ground.
    """

    name: str
    weights: tuple[float, ...]
    limits: tuple[float, ...]
    rim_px: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """How contaminated pixels of one image are told.

    Attributes:
        ground: what the ground is expected to look like.
        sides: the ways to be contaminated that were found.
        rim_px: distance from the holes up to which all is doubted, pixels.
        haze: what can be taken off; `sides` are told in what is left. None = nothing.
        outline: where what `sides` found has edges; it alone says then which pixels are doubted. None = it has none.
        places: parts of the image whose holes alone count, all others are clean; () = all holes count.
        veils: what can be taken off these, so that they need no doubt. None = nothing.
        wide: wide holes alone count, narrower ones are clean.
        shadow: rows and columns by which shadows of what the holes hide are displaced; what is dark is looked for
            there, too. None = it is not known.
        elsewhere: how they are told where the reference that tells the ground does not see. None = nothing is there.
    """

    ground: Ground
    sides: tuple[Side, ...] = field(default=())
    rim_px: float = 0.0
    haze: Haze | None = None
    outline: Outline | None = None
    places: tuple[Box, ...] = ()
    veils: Veils | None = None
    shadow: tuple[int, int] | None = None
    wide: bool = False
    elsewhere: Doubt | None = None

    @property
    def reach_px(self) -> float:
        """Return the distance from the holes up to which pixels are doubted or hazy, pixels; 0 if none are."""
        own = self._reach_px + (float(np.hypot(*self.shadow)) if self.shadow else 0.0)
        return max(own, self.elsewhere.reach_px if self.elsewhere else 0.0)

    @property
    def guide(self) -> int | None:
        """Return the number of the reference without which nothing is told; None = there is none."""
        return (self.outline.ground if self.outline else self.ground).guide

    @property
    def veiled(self) -> bool:
        """Return whether scraps are taken off somewhere."""
        return any(part.veils for part in self.parts)

    @property
    def parts(self) -> tuple[Doubt, ...]:
        """Return this and what tells pixels elsewhere."""
        return (self, *(self.elsewhere.parts if self.elsewhere else ()))

    @property
    def _reach_px(self) -> float:
        if self.outline:
            return self.outline.reach_px
        told = [r for side in self.sides for r, limit in zip(RINGS, side.limits, strict=True) if np.isfinite(limit)]
        hazy = self.haze.reach_px(self._noticeable) if self.haze else 0.0
        return max([*told, self.rim_px, hazy, *(side.rim_px for side in self.sides)])

    @property
    def _noticeable(self) -> Field:
        return np.asarray(NOTICEABLE * np.asarray(self.ground.usual))

    @property
    def taken_off(self) -> tuple[Field, Field]:
        """Return what amounts of 1 of all that is taken off add, `(k, c)`, and the standard errors that they leave.

        Both are in data units; k is 0 if nothing is.
        """
        own = [part._taken_off for part in self.parts]
        spectra, left = (np.concatenate(some) for some in zip(*own, strict=True))
        return spectra, left

    @property
    def _taken_off(self) -> tuple[Field, Field]:
        if self.outline and self.veils:
            return self.veils.taken_off(self.outline.ground)
        if self.haze:
            return np.asarray([self.haze.spectrum]), np.asarray([self.haze.left])
        none = np.zeros((0, len(self.ground.offset)))
        return none, none

    def strength(self, amounts: NDArray[np.floating]) -> Field:
        """Return how much amounts `(k, *spatial)` add to the band that they change most, `spatial`.

        The unit is the standard deviation of a band over the image.
        """
        most = np.max(np.abs(self.taken_off[0]) / np.asarray(self.ground.usual), axis=1, initial=0.0)
        return np.asarray((amounts * column(most, amounts.ndim - 1)).max(axis=0, initial=0.0))

    def facts(self, space: Space) -> dict[str, Any]:
        """Return what the record says, as JSON values; a limit that is never reached is None.

        Args:
            space: grid of the image.
        """
        facts = asdict(self) | {"reach_px": self.reach_px, "reach": space.far(self.reach_px)}
        facts["elsewhere"] = self.elsewhere and self.elsewhere.facts(space)
        for side in facts["sides"]:
            side["limits"] = [limit if np.isfinite(limit) else None for limit in side["limits"]]
        return facts

    def hazy(self, tile: Tile) -> Field:
        """Return the amount of haze to take off the pixels of a tile, `spatial`; 0 where no band would notice."""
        if self.haze is None:
            return np.zeros(tile.seen.shape)
        amount = self.haze.amount(self.ground, tile)
        least = float(np.max(np.abs(self.haze.spectrum) / self._noticeable))
        return np.where(amount * least > 1.0, amount, 0.0)

    def cleared(self, tile: Tile) -> Tile:
        """Return a tile without its haze."""
        if self.haze is None:
            return tile
        added = self.hazy(tile) * column(self.haze.spectrum, tile.seen.ndim)
        return replace(tile, values=(tile.values - added).astype(np.float32))

    def told(self, tile: Tile) -> tuple[Field, Mask]:
        """Return the amount of each thing that is taken off, `(k, *spatial)`, and the pixels that are doubted."""
        if self.wide:
            tile = tile.of_wide()
        amounts, doubted = self._told(tile)
        if self.elsewhere is None or self.guide is None:
            return amounts, doubted
        unseen = ~tile.guides[self.guide][1]
        more, others = self.elsewhere.told(tile)
        own = [np.where(unseen, 0.0, amounts), np.where(unseen, more, 0.0)]
        return np.concatenate(own), np.where(unseen, others, doubted)

    def _told(self, tile: Tile) -> tuple[Field, Mask]:
        if self.outline and self.veils:
            shaded = tile.shaded(self.shadow)
            found = self.outline.of(shaded)
            amounts = self.veils.amounts(self.outline.ground, shaded, found)
            return amounts, found & ~amounts.any(axis=0)
        amounts = self.hazy(tile)[None] if self.haze else np.zeros((0, *tile.seen.shape))
        doubted = self.of(self.cleared(tile))
        if self.outline is None:
            share, told = (ndimage.uniform_filter(some.astype(np.float64), _SPECK) for some in (doubted, tile.seen))
            doubted = (share > 0.5 * told) & tile.seen
        return amounts, doubted

    def of(self, tile: Tile, known: Differences | None = None) -> Mask:
        """Return the doubted pixels of a tile that is `cleared`, bool `spatial`; only observed ones are.

        `known` is what `standardised` says of the tile.
        """
        shaded = tile.shaded(self.shadow)
        if self.outline:
            return self.outline.of(shaded)
        doubted = np.zeros(tile.seen.shape, dtype=np.bool_)
        differences, told = known or standardised(self.ground, tile)
        for side in self.sides:
            away = shaded.distance if side.name == "dark" else tile.distance
            ring = np.minimum(np.searchsorted(RINGS, away), len(RINGS))
            index = np.einsum("c,c...->...", np.asarray(side.weights), differences)
            doubted |= told & (index > np.asarray((*side.limits, np.inf))[ring])
            doubted |= away <= side.rim_px
        doubted |= tile.distance <= self.rim_px
        return doubted & tile.seen & (tile.distance > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Smooth:
    """A tile seen through the Gaussian, from which differences from any usual values follow.

    Attributes:
        values: `(c, *spatial)`, 0 where nothing is observed.
        share: `spatial`, observed share.
    """

    values: Field
    share: Field

    @classmethod
    def of(cls, tile: Tile) -> Smooth:
        """Look at a tile."""
        return cls(values=_through(tile.values.astype(np.float64), tile.seen), share=_share(tile.seen))

    def differences(self, ground: Ground, out: Field | None = None) -> Field:
        """Return what `standardised` does for a ground without a reference; `out` may be `values`."""
        offset, scale = (column(part, self.share.ndim) for part in (ground.offset, ground.scale))
        made = np.subtract(self.values, offset * self.share, out=out)
        made /= scale * np.maximum(self.share, _LEAST_SHARE)
        return np.asarray(np.clip(made, -LARGEST, LARGEST, out=made))


def standardised(ground: Ground, tile: Tile) -> Differences:
    """Return smoothed differences from the ground in its standard deviations, `(c, *spatial)`, and where it is told."""
    scaled, told = ground.differences(tile)
    made = _through(scaled, told) / np.maximum(_share(told), _LEAST_SHARE)
    return np.clip(made, -LARGEST, LARGEST), told


def _through(bands: Field, told: Mask) -> Field:
    return np.stack([ndimage.gaussian_filter(np.where(told, band, 0.0), SMOOTH) for band in bands])


def _share(told: Mask) -> Field:
    return np.asarray(ndimage.gaussian_filter(told.astype(np.float64), SMOOTH))
