"""What scraps of thin cloud and shadow add to the ground, so that it can be taken off where that tells the ground.

`outline` says where scraps are. Thin cloud adds to the bands in fixed proportions, and to first order shadow takes away
in such proportions, too: a veil with a spectrum of its own, and an amount of its own in every pixel. What clear pixels
around differ from the ground by, the ground below a veil does, too. Beyond that, differences of clear pixels, of those
below each veil, and below cloud and shadow at once are normally distributed; spectra and usual amounts follow by
expectation maximisation (factor analysis with one factor: Rubin & Thayer 1982, doi:10.1007/BF02293851), and neighbours
speak for each other as in `outline`. The amount of a pixel is its posterior mean: what the bands show across the
spectrum tells what the ground shows along it. A veil is thin if that leaves less than half of the variance of clear
pixels; what lies below others, or below two, stays doubted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.ground import Ground, covariance
from pipeline.evidence.haze import left_of
from pipeline.evidence.neighbours import by_neighbours
from pipeline.evidence.outline import Outline
from pipeline.evidence.tile import LARGEST, Tile, pooled
from pipeline.numerics.column import column

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

_ROUNDS = 4
"""Times that veils are described anew."""

_OUTER, _INNER = 15, 5
"""Edges of the square of clear pixels that tell the level around a pixel, and of that left out of it, pixels."""

_USUALLY = 10.0
"""Clear pixels that the usual level counts as."""

_NEAR = 15.0
"""Distance from scraps up to which clear pixels tell how much the ground varies, pixels."""

_FEWEST_CLEAR, _FEWEST = 400, 50
"""Clear pixels, and pixels below a veil, below which they tell nothing."""

_FEWEST_BANDS = 3
"""Bands below which nothing is taken off: little lies across a spectrum, and fewer were not tried."""

_RAREST, _BOTH = 0.02, 0.1
"""Lower bound of how often a kind of pixel is met; the same below two veils before it is told."""

_LOWEST = -20.0
"""Lower bound of the logarithm of how likely a kind is beside the likeliest one."""

_EVEN = 0.05
"""Lower bound of the variance of the amount, as a share of its squared mean."""

_LIKELY = 0.5
"""Probability by the outline from which a pixel tells the first guess of a veil."""

_SURE = 0.8
"""Probability from which a pixel lies below one veil alone."""

_MOST_LEFT = 0.5
"""Share of the variance of clear pixels that a thin veil may leave in any band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Veil:
    """One kind of scrap by what it adds.

    Attributes:
        spectrum: what an amount of 1 adds, `(c,)`, deviations of the ground.
        usual: mean amount.
        variance: of the amount.
    """

    spectrum: tuple[float, ...]
    usual: float
    variance: float

    def error(self, inverse: Field) -> float:
        """Return the posterior variance of an amount, by the inverse of the covariance of clear pixels, `(c, c)`."""
        spectrum = np.asarray(self.spectrum)
        return float(1.0 / (spectrum @ inverse @ spectrum + 1.0 / self.variance))

    def amount(self, differences: Field, inverse: Field) -> Field:
        """Return the posterior mean of the amount, `spatial`, from differences `(c, *spatial)`."""
        told = np.einsum("c,c...->...", inverse @ np.asarray(self.spectrum), differences)
        return np.asarray(self.error(inverse) * (told + self.usual / self.variance))


@dataclass(frozen=True, slots=True, kw_only=True)
class Veils:
    """What lies over the pixels that an outline found.

    Attributes:
        level: usual differences of clear pixels, `(c,)`, deviations of the ground.
        covariance: of what they differ from those around, `(c, c)`.
        veils: in the order of the scraps of the outline.
        shares: how often each kind is met, 0 to 1: clear pixels, each veil, and two veils if there are two.
    """

    level: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    veils: tuple[Veil, ...]
    shares: tuple[float, ...]

    @property
    def thin(self) -> tuple[bool, ...]:
        """Return which of the veils can be taken off."""
        spread = np.asarray(self.covariance)
        inverse, most = np.linalg.inv(spread), _MOST_LEFT * np.diagonal(spread)
        return tuple(bool((v.error(inverse) * np.square(v.spectrum) < most).all()) for v in self.veils)

    def amounts(self, ground: Ground, tile: Tile, found: Mask) -> Field:
        """Return the amount of each veil, `(k, *spatial)`; 0 where none is taken off.

        Args:
            ground: of the outline.
            tile: a window.
            found: bool `spatial`, its pixels that the outline found.
        """
        differences, inside = _from_around(ground, tile, found, self.level)
        inverse = np.linalg.inv(np.asarray(self.covariance))
        kinds = self.kinds(differences, inside)[1:]
        return np.stack(
            [
                np.where(inside & (kind > _SURE) & thin, np.maximum(veil.amount(differences, inverse), 0.0), 0.0)
                for veil, thin, kind in zip(self.veils, self.thin, kinds, strict=False)
            ]
        )

    def taken_off(self, ground: Ground) -> tuple[Field, Field]:
        """Return what an amount of 1 of each veil adds, `(k, c)`, data units, and the standard error that it leaves."""
        spectra = np.asarray([veil.spectrum for veil in self.veils])
        left = np.stack([left_of(spectrum) for spectrum in spectra])
        return spectra * np.asarray(ground.scale), left * np.asarray(ground.scale)

    def kinds(self, differences: Field, inside: Mask) -> Field:
        """Return the probability of each kind, `(kinds, *spatial)`, by pixels and their neighbours.

        Args:
            differences: from what is clear around, `(c, *spatial)`, deviations of the ground.
            inside: bool `spatial`, pixels that the outline found; others have no say.
        """
        odds = np.stack([_likelihood(differences, *kind) for kind in self._distributions()])
        odds = np.maximum(odds - odds.max(axis=0), _LOWEST)
        return by_neighbours(odds + column(np.log(np.maximum(self.shares, _RAREST)), inside.ndim), inside)

    def _distributions(self) -> Iterator[tuple[Field, Field]]:
        """Yield mean `(c,)` and covariance `(c, c)` of the differences of each kind."""
        clear = np.asarray(self.covariance)
        means = [veil.usual * np.asarray(veil.spectrum) for veil in self.veils]
        added = [veil.variance * np.outer(veil.spectrum, veil.spectrum) for veil in self.veils]
        yield np.zeros(len(clear)), clear
        for mean, more in zip(means, added, strict=True):
            yield mean, clear + more
        if len(self.veils) > 1:
            yield np.sum(means, axis=0), clear + np.sum(added, axis=0)


def fit_veils(outline: Outline, tiles: Sequence[Tile]) -> Veils | None:
    """Return what scraps add to the ground; None if none of them can be taken off.

    Args:
        outline: tells where they are.
        tiles: windows of the image.
    """
    ground, masks = outline.ground, [outline.of(tile) for tile in tiles]
    level = _usual_level(ground, tiles, masks)
    if level is None or len(level) < _FEWEST_BANDS:
        return None
    both = [_from_around(ground, tile, mask, level) for tile, mask in zip(tiles, masks, strict=True)]
    clear = [_near(ground, tile, mask) for tile, mask in zip(tiles, masks, strict=True)]
    calm = np.clip(pooled([d for d, _ in both], clear), -LARGEST, LARGEST)
    if calm.shape[1] < _FEWEST_CLEAR or not calm.var(axis=1).any():
        return None
    spread, inside = covariance(calm), [some for _, some in both]
    values = pooled([d for d, _ in both], inside)
    kinds = pooled([_first(outline, tile) for tile in tiles], inside)
    count = len(outline.scraps)
    first = [_guess(values[:, share > _LIKELY], spread) for share in kinds[1 : count + 1]]
    veils = tuple(veil for veil in first if veil is not None)
    if len(veils) < count:
        return None
    for _ in range(_ROUNDS):
        shares = tuple(kinds.mean(axis=1).tolist())
        found = Veils(level=level, covariance=tuple(map(tuple, spread.tolist())), veils=veils, shares=shares)
        kinds = pooled([found.kinds(d, some) for d, some in both], inside)
        if (kinds[1 : count + 1].sum(axis=1) < _FEWEST).any():
            return None
        veils = tuple(_veil(v, values, share, spread) for v, share in zip(veils, kinds[1:], strict=False))
    found = replace(found, veils=veils)
    return found if any(found.thin) else None


def _first(outline: Outline, tile: Tile) -> Field:
    """Return the probability of each kind at the pixels of a tile by the outline, which knows none below two veils."""
    scraps = list(outline.shares(tile).values())
    two = [np.full(tile.seen.shape, _BOTH)] if len(scraps) > 1 else []
    return np.stack([1.0 - np.sum(scraps, axis=0), *scraps, *two])


def _guess(values: Field, spread: Field) -> Veil | None:
    """Describe a veil by differences `(c, n)` of which most are below it alone; None if there are too few."""
    if values.shape[1] < _FEWEST:
        return None
    # some are below two veils: medians do not see them
    spectrum = np.median(values, axis=1)
    if not spectrum.any():
        return None
    weights = np.linalg.solve(spread, spectrum)
    amount = np.einsum("c,cn->n", weights, values) / float(weights @ spectrum)
    return _described(spectrum, (1.4826 * float(np.median(np.abs(amount - 1.0)))) ** 2, 1.0, spread)


def _veil(veil: Veil, values: Field, share: Field, spread: Field) -> Veil:
    """Describe a veil anew by differences `(c, n)` and the share of it in each pixel `(n,)`."""
    inverse = np.asarray(np.linalg.inv(spread), dtype=np.float64)
    amount = veil.amount(values, inverse)
    squares = amount**2 + veil.error(inverse)
    spectrum = np.einsum("cn,n->c", values, share * amount) / (share * squares).sum()
    weights = inverse @ spectrum
    told = np.einsum("c,cn->n", weights, values) / float(weights @ spectrum)
    usual = float((share * told).sum() / share.sum())
    return _described(spectrum, float((share * (told - usual) ** 2).sum() / share.sum()), usual, spread)


def _described(spectrum: Field, variance: float, usual: float, spread: Field) -> Veil:
    """Return a veil of which the amounts told vary so much; some of that is what the ground varies."""
    ground = 1.0 / float(spectrum @ np.linalg.solve(spread, spectrum))
    return Veil(spectrum=tuple(spectrum.tolist()), usual=usual, variance=max(variance - ground, _EVEN * usual**2))


def _likelihood(differences: Field, mean: Field, spread: Field) -> Field:
    """Return the logarithm of the normal density, but for a constant, `spatial`."""
    off = differences - column(mean, differences.ndim - 1)
    squares = np.einsum("c...,cd,d...->...", off, np.linalg.inv(spread), off)
    return np.asarray(-0.5 * (squares + np.linalg.slogdet(spread)[1]))


def _usual_level(ground: Ground, tiles: Sequence[Tile], found: Sequence[Mask]) -> tuple[float, ...] | None:
    """Return the median difference of clear pixels, `(c,)`; None if there are too few."""
    both = [ground.differences(tile) for tile in tiles]
    clear = [told & ~mask for (_, told), mask in zip(both, found, strict=True)]
    values = np.clip(pooled([d for d, _ in both], clear), -LARGEST, LARGEST)
    return tuple(np.median(values, axis=1).tolist()) if values.shape[1] >= _FEWEST_CLEAR else None


def _from_around(ground: Ground, tile: Tile, found: Mask, level: Sequence[float]) -> tuple[Field, Mask]:
    """Return differences from what is clear around, `(c, *spatial)`, and where these tell a veil, bool `spatial`."""
    differences, told = ground.differences(tile)
    clear = told & ~found
    number = _sum_around(clear.astype(np.float64)) + _USUALLY
    calm = np.where(clear, np.clip(differences, -LARGEST, LARGEST), 0.0)
    around = np.stack([_sum_around(band) + _USUALLY * usual for band, usual in zip(calm, level, strict=True)])
    return differences - around / number, told & found


def _sum_around(values: Field) -> Field:
    """Return sums over the square around each pixel, without its middle."""

    def total(edge: int) -> Field:
        found = values
        for axis in range(values.ndim):
            # running sums would depend on where the window begins
            found = ndimage.correlate1d(found, np.ones(edge), axis, mode="constant")
        return found

    return total(_OUTER) - total(_INNER)


def _near(ground: Ground, tile: Tile, found: Mask) -> Mask:
    """Return the clear pixels near scraps, bool `spatial`."""
    told = ground.differences(tile)[1]
    near = ndimage.distance_transform_edt(~found) < _NEAR if found.any() else found
    return np.asarray(told & ~found & near)
