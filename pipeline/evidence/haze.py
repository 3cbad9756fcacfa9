"""What haze adds to the pixels around the holes, so that it can be taken off and the ground beneath be seen.

Haze brightens the bands in fixed proportions (its spectrum) by an amount that falls with the distance from the cloud
and changes smoothly. So the medians of rings around the holes differ along one line, whose direction is the spectrum.
What the bands show across that direction is the ground's, and tells what the ground shows along it (generalised least
squares with the covariance of clear pixels); the rest is the amount of haze, and noise. The amount is a profile over
distance, which only falls, and what is left of it at five scales, each as far as it varies more at its distance than
far from the holes (Wiener's filter: the share of signal in signal and noise). Nothing is assumed of the names or
wavelengths of bands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.ground import Ground
from pipeline.evidence.tile import Tile, pooled

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

_EDGES = (0.0, 1.5, 2.5, 4.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 24.0, 28.0, 32.0, 40.0)
"""Distances from the holes between which medians are taken, pixels; there is no haze beyond the last."""

_BANDS = (0.0, 3.0, 6.0, 10.0, 16.0, 24.0, 32.0, 40.0)
"""Distances between which variances are taken, pixels."""

_STEEP = 16.0
"""Distance up to which rings tell the spectrum, pixels: farther ones differ by their ground more than by haze."""

_BLURS = (0.0, 1.5, 3.0, 6.0, 12.0)
"""Deviations of the Gaussians between which details of the amount are told apart, pixels."""

_TRUNCATE = 3.0
"""Deviations at which these Gaussians end."""

BLURRED = int(_TRUNCATE * _BLURS[-1]) + 1
"""Pixels around a pixel that its amount of haze depends on, and on their distances from the holes."""

_FEWEST = 100
"""Pixels between two distances below which they tell nothing."""

_FEWEST_RINGS = 3
"""Rings below which a direction is chance."""

_LEFT = 0.3
"""Standard error of what is left of haze that was taken off, as a share of it: beside the holes of eleven synthetic
rings it was 0.03 to 0.7, 0.32 on average."""

_ASKEW = 0.3
"""Standard error of each band of a spectrum, in deviations of clear pixels, as a share of the mean of all bands."""

_RIDGE = 0.02
"""Share of the mean variance that is added to each band before the covariance is inverted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Haze:
    """How much haze there is at a pixel, and what it adds to the bands.

    Attributes:
        spectrum: what an amount of 1 adds, `(c,)`, data units.
        weights: of the standardised differences from the ground in the amount, `(c,)`.
        level: what they give without haze.
        knots: distances from the holes, pixels.
        profile: usual amount at each of them, falling.
        gains: share of haze in the details of the amount: for each scale a pair of distances and shares.
        left: standard error of a band where an amount of 1 was taken off, `(c,)`, data units.
    """

    spectrum: tuple[float, ...]
    weights: tuple[float, ...]
    level: float
    knots: tuple[float, ...]
    profile: tuple[float, ...]
    gains: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()
    left: tuple[float, ...] = ()

    def amount(self, ground: Ground, tile: Tile) -> Field:
        """Return the amount of haze at the pixels of a tile, `spatial`, never negative; 0 where it cannot be told."""
        amount, details, told = self._parts(ground, tile)
        for (knots, shares), detail in zip(self.gains, details, strict=True):
            amount = amount + np.interp(tile.distance, knots, shares) * detail
        return np.where(told & (tile.distance < _EDGES[-1]), np.maximum(amount, 0.0), 0.0)

    def reach_px(self, noticeable: Field) -> float:
        """Return the distance up to which the usual amount adds what is noticeable `(c,)` to a band, pixels."""
        least = float(np.max(np.abs(self.spectrum) / noticeable))
        return max([k for k, amount in zip(self.knots, self.profile, strict=True) if amount * least > 1.0], default=0.0)

    def _parts(self, ground: Ground, tile: Tile) -> tuple[Field, Iterator[Field], Mask]:
        """Return the usual amount, what is left at each scale, the finest first, and where both are told."""
        differences, told = ground.differences(tile)
        usual = np.interp(tile.distance, self.knots, self.profile)
        left = np.einsum("c,c...->...", np.asarray(self.weights), differences) - self.level - usual
        return usual, _details(left, told), told


def fit_haze(ground: Ground, tiles: Sequence[Tile], clear: Sequence[Mask]) -> Haze | None:
    """Return what haze adds around the holes; None if the rings around them do not tell.

    Args:
        ground: what clear pixels look like.
        tiles: windows of the image.
        clear: bool `spatial` of each, pixels without haze.
    """
    # imported only where rings are to be told: it takes a tenth of a second
    from scipy.optimize import isotonic_regression

    found = [ground.differences(tile) for tile in tiles]
    differences, told = [d for d, _ in found], [t for _, t in found]
    off = pooled(differences, [t & c for t, c in zip(told, clear, strict=True)])
    rings = _Rings.of(differences, told, tiles)
    steep = rings.distances <= _STEEP
    if off.shape[1] < _FEWEST or steep.sum() < _FEWEST_RINGS:
        return None
    covariance = np.atleast_2d(np.cov(off))
    covariance += _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    spectrum = _steepest(rings.medians[steep], rings.counts[steep], covariance)
    weights = np.linalg.solve(covariance, spectrum)
    weights /= weights @ spectrum
    level = float(np.median(weights @ off))
    falling = isotonic_regression(rings.medians @ weights - level, weights=rings.counts, increasing=False).x
    haze = Haze(
        spectrum=tuple((spectrum * np.asarray(ground.scale)).tolist()),
        weights=tuple(weights.tolist()),
        level=level,
        knots=(*rings.distances.tolist(), _EDGES[-1]),
        profile=(*np.maximum(falling, 0.0).tolist(), 0.0),
        left=tuple((left_of(spectrum) * np.asarray(ground.scale)).tolist()),
    )
    return replace(haze, gains=_gains(haze, ground, tiles, clear))


def left_of(spectrum: Field) -> Field:
    """Return the standard error of bands from which an amount of 1 was taken off, `(c,)`, in units of the spectrum."""
    return np.asarray(_LEFT * np.hypot(spectrum, _ASKEW * np.sqrt((spectrum**2).mean())))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rings:
    """Rings around the holes with enough pixels: mean distance and number of these `(r,)`, medians `(r, c)`."""

    distances: Field
    counts: Field
    medians: Field

    @classmethod
    def of(cls, differences: Sequence[Field], told: Sequence[Mask], tiles: Sequence[Tile]) -> _Rings:
        rows = []
        for some in _between(_EDGES, told, tiles):
            values = pooled(differences, some)
            if values.shape[1] >= _FEWEST:
                distance = np.concatenate([tile.distance[s] for tile, s in zip(tiles, some, strict=True)]).mean()
                rows.append((distance, values.shape[1], np.median(values, axis=1)))
        bands = len(tiles[0].values)
        return cls(
            distances=np.asarray([row[0] for row in rows], dtype=np.float64),
            counts=np.asarray([row[1] for row in rows], dtype=np.float64),
            medians=np.asarray([row[2] for row in rows], dtype=np.float64).reshape(-1, bands),
        )


def _steepest(medians: Field, counts: Field, covariance: Field) -> Field:
    """Return the direction `(c,)` along which rings differ most, in deviations of clear pixels; nearer ones are higher.

    Its length is the difference of the innermost ring from the mean of all.
    """
    size, axes = np.linalg.eigh(covariance)
    root, whiten = (axes * np.sqrt(size)) @ axes.T, (axes / np.sqrt(size)) @ axes.T
    off = (medians - np.average(medians, axis=0, weights=counts)) @ whiten
    direction = np.linalg.svd(off * np.sqrt(counts)[:, None], full_matrices=False)[2][0]
    return np.asarray(root @ direction * (direction @ off[0]))


def _gains(
    haze: Haze, ground: Ground, tiles: Sequence[Tile], clear: Sequence[Mask]
) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
    """Return for each scale the share of its variance, at each distance, that clear pixels do not have."""
    parts = [haze._parts(ground, tile) for tile in tiles]
    told = [there for _, _, there in parts]
    off = [there & c for there, c in zip(told, clear, strict=True)]
    near = [there & ~c for there, c in zip(told, clear, strict=True)]
    gains = []
    for details in zip(*(details for _, details, _ in parts), strict=True):
        noise = float((pooled([d[None] for d in details], off) ** 2).mean())
        knots, shares = [], []
        for (inner, outer), some in zip(pairwise(_BANDS), _between(_BANDS, near, tiles), strict=True):
            values = pooled([d[None] for d in details], some)
            if values.size >= _FEWEST:
                knots.append((inner + outer) / 2)
                shares.append(max(0.0, 1.0 - noise / max(float((values**2).mean()), 1e-30)))
        gains.append(((*knots, _BANDS[-1]), (*shares, 0.0)))
    return tuple(gains)


def _details(values: Field, told: Mask) -> Iterator[Field]:
    """Yield what each of `_BLURS` leaves that the next one does not, and what the last one leaves."""
    share = told.astype(np.float64)
    values = np.where(told, values, 0.0)

    def blurred(blur: float) -> Field:
        total, weight = (ndimage.gaussian_filter(part, blur, truncate=_TRUNCATE) for part in (values, share))
        return np.asarray(total / np.maximum(weight, 1e-6))

    finer = values
    for blur in _BLURS[1:]:
        coarser = blurred(blur)
        yield finer - coarser
        finer = coarser
    yield finer


def _between(edges: Sequence[float], some: Sequence[Mask], tiles: Sequence[Tile]) -> Iterator[list[Mask]]:
    """Yield those of some pixels of all windows that lie between two distances from the holes."""
    for inner, outer in pairwise(edges):
        yield [s & (t.distance > inner) & (t.distance <= outer) for s, t in zip(some, tiles, strict=True)]
