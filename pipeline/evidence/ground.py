"""What the ground should look like where an image is clear: its usual value, or what a reference says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evidence.tile import Tile
from pipeline.numerics.column import column
from pipeline.numerics.median import median
from pipeline.references.ridge import fit_pulled

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]
_Guides = Sequence[tuple[NDArray[np.float32], Mask]]

_MOST_PIXELS = 30_000

_UNITS = 4.0
"""Ratio of the medians of two images, median over bands, from which their units are not alike."""

_RIDGE = 0.05
"""Share of the mean variance that is added to each direction of the covariance of differences."""

_VARIED = 1.5
"""What is observed must vary so many times as much around a reference as that varies itself to be mostly contaminated:
clear ground of another season or after many years does by up to 1.5."""

_LEAST = 0.01
"""Smallest deviation from a reference, as a share of that from the usual value: none fits better than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Expectation of every band, and how far off it usually is.

    Attributes:
        guide: number of the reference it follows; None = each band's usual value.
        matrix: `(c, c_ref)`, of the reference's bands.
        offset: `(c,)`, data units.
        scale: `(c,)`, robust standard deviation of clear pixels around it, data units.
        usual: `(c,)`, the same around the usual value of the band.
    """

    guide: int | None
    matrix: tuple[tuple[float, ...], ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    usual: tuple[float, ...]

    def expected(self, shape: tuple[int, ...], guides: _Guides) -> tuple[Field, Mask]:
        """Return the expected values, `(c, *spatial)`, and where they are told.

        Args:
            shape: `(c, *spatial)`.
            guides: values and observed pixels of the references.
        """
        offset = column(self.offset, len(shape) - 1)
        if self.guide is None:
            return np.broadcast_to(offset, shape), np.ones(shape[1:], dtype=np.bool_)
        values, seen = guides[self.guide]
        clean = np.where(seen, values, np.float32(0)).astype(np.float64)
        return np.einsum("ij,j...->i...", np.asarray(self.matrix), clean) + offset, seen

    def differences(self, tile: Tile) -> tuple[Field, Mask]:
        """Return the differences of a tile in deviations of the ground, `(c, *spatial)`, and where they are told."""
        expected, told = self.expected(tile.values.shape, tile.guides)
        return (tile.values - expected) / column(self.scale, told.ndim), told & tile.seen


def fit_ground(tiles: Sequence[Tile], clear: Sequence[Mask]) -> Ground:
    """Return the expectation that fits clear pixels best: one of the references, or the usual values.

    Args:
        tiles: windows of the image.
        clear: bool `spatial` of each, pixels to fit on.
    """
    best = _usual(tiles, clear)
    size = _size(best, best)
    usual = best
    for k in range(len(tiles[0].guides)):
        candidate = _following(tiles, clear, k, usual)
        if candidate is not None and _size(candidate, usual) < size:
            best, size = candidate, _size(candidate, usual)
    return best


def fit_level(tiles: Sequence[Tile], some: Sequence[Mask]) -> Ground | None:
    """Return the reference as it is but for its level, if what is observed varies far more around it than it does.

    Such pixels are mostly contaminated, and no map can be fitted on them. None if there is no such reference: it needs
    as many bands as the image, in units alike.

    Args:
        tiles: windows of the image.
        some: bool `spatial` of each, observed pixels to look at.
    """
    found = [ground for k in range(len(tiles[0].guides)) if (ground := _level(tiles, some, k)) is not None]
    return min(found, key=lambda ground: float(np.mean(np.log(ground.scale))), default=None)


def _level(tiles: Sequence[Tile], some: Sequence[Mask], k: int) -> Ground | None:
    both = [s & t.guides[k][1] for t, s in zip(tiles, some, strict=True)]
    y = np.concatenate([t.values[:, b] for t, b in zip(tiles, both, strict=True)], axis=1).astype(np.float64)
    x = np.concatenate([t.guides[k][0][:, t.guides[k][1]] for t in tiles], axis=1).astype(np.float64)
    if len(x) != len(y) or not y.shape[1]:
        return None
    # the median of the bands: haze may lift one of them tenfold
    ratio = float(np.median(np.abs(median(y)) / np.maximum(np.abs(median(x)), 1e-9)))
    if not 1 / _UNITS < ratio < _UNITS:
        return None
    left = y - np.concatenate([t.guides[k][0][:, b] for t, b in zip(tiles, both, strict=True)], axis=1)
    offset = median(left)
    scale, own = _spread(left - offset[:, None]), _spread(x - median(x)[:, None])
    if np.mean(np.asarray(scale) / np.asarray(own)) < _VARIED:
        return None
    usual = _spread(y - median(y)[:, None])
    every = tuple(map(tuple, np.eye(len(y)).tolist()))
    return Ground(guide=k, matrix=every, offset=tuple(offset.tolist()), scale=scale, usual=usual)


def _size(ground: Ground, usual: Ground) -> float:
    return float(np.mean(np.log(np.asarray(ground.scale) / np.asarray(usual.scale))))


def _usual(tiles: Sequence[Tile], clear: Sequence[Mask]) -> Ground:
    values = np.concatenate([t.values[:, c] for t, c in zip(tiles, clear, strict=True)], axis=1).astype(np.float64)
    middle = median(values)
    spread = _spread(values - middle[:, None])
    return Ground(guide=None, matrix=(), offset=tuple(middle.tolist()), scale=spread, usual=spread)


def _following(tiles: Sequence[Tile], clear: Sequence[Mask], k: int, usual: Ground) -> Ground | None:
    """Return the ridge map from a reference, pulled toward the reference itself where it has the same bands."""
    both = [c & t.guides[k][1] for t, c in zip(tiles, clear, strict=True)]
    y = np.concatenate([t.values[:, b] for t, b in zip(tiles, both, strict=True)], axis=1)
    x = np.concatenate([t.guides[k][0][:, b] for t, b in zip(tiles, both, strict=True)], axis=1)
    step = -(-y.shape[1] // _MOST_PIXELS) or 1
    y, x = (np.ascontiguousarray(part[:, ::step], dtype=np.float64) for part in (y, x))
    if y.shape[1] < 10 * (len(x) + 1):
        return None
    ridge = fit_pulled(y.T, x.T)
    left = y - np.einsum("ij,jn->in", np.asarray(ridge.matrix), x) - np.asarray(ridge.offset)[:, None]
    scale = np.maximum(_spread(left), _LEAST * np.asarray(usual.scale))
    return Ground(guide=k, matrix=ridge.matrix, offset=ridge.offset, scale=tuple(scale.tolist()), usual=usual.scale)


def _spread(left: Field) -> tuple[float, ...]:
    """Return robust standard deviations of `(c, n)`, none of them 0."""
    spread = 1.4826 * median(np.abs(left))
    if not spread.all():
        spread = np.where(spread > 0, spread, left.std(axis=1))
    return tuple(np.maximum(spread, 1e-6).tolist())


def covariance(differences: Field) -> Field:
    """Return the covariance `(c, c)` of differences `(c, n)`, with some variance more in each direction."""
    found = np.atleast_2d(np.cov(differences))
    return np.asarray(found + _RIDGE * np.trace(found) / len(found) * np.eye(len(found)))


def whitening(differences: Field) -> Field:
    """Return the symmetric matrix that makes differences `(c, n)` alike in all directions, `(c, c)`."""
    size, directions = np.linalg.eigh(covariance(differences))
    return np.asarray((directions / np.sqrt(np.maximum(size, 1e-9))) @ directions.T)
