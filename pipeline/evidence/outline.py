"""Where thin cloud and shadow end: outlines of scraps, once it is known that there are some.

`learn` says that pixels beside the holes are contaminated, and about which ones. Scraps have edges: the pixels inside
are alike, and clear ground begins a pixel farther on. So each kind of scrap is described by how far its pixels differ
from clear ones along one direction of the bands, and how often it is met at each distance from the holes; a pixel
belongs to what its own value and its neighbours speak for (hidden Markov random field with expectation maximisation:
Zhang, Brady & Smith 2001, doi:10.1109/42.906424, by mean field). The ground is fitted again on what is clear, near the
holes, too.

Ground that changed (a burnt field) is dark as well, but in other proportions than shadow. Differences of clear ground
are few and large rather than normally distributed: what is unusual across the directions of the scraps may be as
unusual along them (multivariate t distribution given some of its components: Ding 2016,
doi:10.1080/00031305.2016.1164756).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.ground import Ground, fit_ground, whitening
from pipeline.evidence.neighbours import by_neighbours
from pipeline.evidence.tile import LARGEST, RINGS, Tile
from pipeline.numerics.column import column
from pipeline.numerics.median import median
from pipeline.numerics.products import inner

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]
_Real = TypeVar("_Real", np.float32, np.float64)
_Shares = dict[str, list[Field]]
_Differences = tuple[Field, Mask]
"""Of a tile from the ground, in its deviations, `(c, *spatial)`, and bool `spatial`, where they are told."""

_BLUR = 0.7
"""Deviation of the Gaussian that pixels are seen through, pixels: it must not reach over edges."""

_ROUNDS, _FIRST_ROUNDS = 6, 3
"""Times that ground and scraps are described anew; in the first of them no ground is unusual, as the directions of
scraps must be known before it can be so across them."""

_TAILS = 1.0
"""Degrees of freedom of the t distribution of clear ground: the fewer, the commoner what is far off."""

_MARGIN = 1
"""Pixels around scraps that are doubted, too: an edge is seldom sharper."""

_CLEAR = 0.2
"""Probability of being contaminated below which a pixel tells what the ground looks like."""

_FEWEST_CLEAR, _FEWEST = 400, 50
"""Clear pixels, and pixels of a scrap or a ring, below which they tell nothing."""

_LOWEST, _HIGHEST = -20.0, 50.0
"""Bounds of the logarithm of the odds of one pixel."""

_RAREST, _COMMONEST = 1e-6, 0.9
"""Bounds of how often a kind of scrap is met at a distance."""

_FARTHEST_OFF = 30.0
"""Longer differences, whitened, count as this long before their mean tells the direction of a scrap."""

_AT_ONCE = 2**16
"""Pixels that are whitened at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blurred:
    """A tile seen through `_BLUR`.

    Attributes:
        values: of the image less `level`, 0 where not told, `(c, *spatial)`.
        level: of each band; flat ground leaves exactly nothing.
        guide: the same of the bands of the reference that the ground follows, without a level; None = it follows none.
        share: of what is told around each pixel, `spatial`.
        told: bool `spatial`.
    """

    values: NDArray[np.float32]
    level: Field
    guide: NDArray[np.float32] | None
    share: Field
    told: Mask

    @classmethod
    def of(cls, tile: Tile, ground: Ground) -> _Blurred:
        """Blur a tile for all grounds that follow what this one follows."""
        if ground.guide is None:
            guide, told, level = None, tile.seen, np.asarray(ground.offset)
        else:
            bands, seen = tile.guides[ground.guide]
            told, level = tile.seen & seen, np.zeros(len(tile.values))
            guide = np.stack([_seen(np.where(told, band, np.float32(0))) for band in bands])
        values = tile.values - column(level, told.ndim, np.float32)
        return cls(
            values=np.stack([_seen(np.where(told, band, np.float32(0))) for band in values]),
            level=level,
            guide=guide,
            share=_seen(told.astype(np.float64)),
            told=told,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrap:
    """One kind of contaminated pixels.

    Attributes:
        name: `bright` or `dark`.
        weights: of the differences from the ground, in its deviations, `(c,)`.
        level: what they give for clear pixels.
        clear: standard deviation of clear pixels around it.
        usual: how far above the level pixels of the scrap are.
        spread: their standard deviation around that.
        shares: how often the scrap is met in each of `RINGS`, 0 to 1.
    """

    name: str
    weights: tuple[float, ...]
    level: float
    clear: float
    usual: float
    spread: float
    shares: tuple[float, ...]

    def odds(self, differences: Field, unusual: Field) -> Field:
        """Return the logarithm of how much likelier differences are in the scrap than on clear ground, `spatial`.

        More than is usual in the scrap is as likely as that: thick cloud is cloud, too.

        Args:
            differences: `(c, *spatial)`.
            unusual: how many times the usual deviation the ground has here, clear or below the scrap, `spatial`.
        """
        off = np.einsum("c,c...->...", np.asarray(self.weights), differences) - self.level
        clear = self.clear * unusual
        spread = np.sqrt(self.spread**2 + clear**2 - self.clear**2)
        inside = -0.5 * (np.minimum(off - self.usual, 0.0) / spread) ** 2 - np.log(spread)
        outside = -0.5 * (off / clear) ** 2 - np.log(clear)
        return np.where(off > 0, np.clip(inside - outside, _LOWEST, _HIGHEST), _LOWEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What tells scraps from clear ground.

    Attributes:
        ground: what clear pixels look like.
        scraps: kinds of contaminated pixels.
        across: weights of the differences that no scrap changes, in deviations of clear pixels, `(k, c)`; k is 0 where
            there are as many scraps as bands.
        middle: what they give for clear pixels, `(k,)`.
    """

    ground: Ground
    scraps: tuple[Scrap, ...]
    across: tuple[tuple[float, ...], ...] = ()
    middle: tuple[float, ...] = ()

    @property
    def reach_px(self) -> float:
        """Return the distance from the holes up to which there are scraps, pixels."""
        return max(
            (r for scrap in self.scraps for r, share in zip(RINGS, scrap.shares, strict=True) if share > _RAREST),
            default=0.0,
        )

    def of(self, tile: Tile) -> Mask:
        """Return the contaminated pixels of a tile and those beside them, bool `spatial`; only observed ones are."""
        found = np.sum(list(self.shares(tile).values()), axis=0) > 0.5
        around = ndimage.binary_dilation(found, np.ones((3,) * tile.seen.ndim), iterations=_MARGIN)
        return np.asarray(around & tile.seen & (tile.distance > 0) & (tile.distance <= RINGS[-1]))

    def shares(self, tile: Tile, known: _Differences | None = None) -> dict[str, Field]:
        """Return the probability of each kind of scrap, 0 to 1, `spatial`; `known` are the tile's differences."""
        differences, told = known or _differences(self.ground, _Blurred.of(tile, self.ground))
        ring = np.searchsorted(RINGS, tile.distance)
        met = np.array([[*scrap.shares, 0.0] for scrap in self.scraps])
        unusual = self.unusual(differences)
        odds = np.stack([scrap.odds(differences, unusual) for scrap in self.scraps])
        odds += np.log(np.clip(met, _RAREST, _COMMONEST))[:, ring]
        clear = np.log(np.clip(1.0 - met.sum(axis=0), 1.0 - _COMMONEST, 1.0))[ring]
        share = by_neighbours(np.concatenate([clear[None], odds]), told)[1:]
        return {p.name: np.where(told, s, 0.0) for p, s in zip(self.scraps, share, strict=True)}

    def unusual(self, differences: Field) -> Field:
        """Return how many times the usual deviation the ground has, at least 1, `spatial`, from `(c, *spatial)`."""
        squares = np.zeros(differences.shape[1:])
        for weights, level in zip(self.across, self.middle, strict=True):
            squares += (np.einsum("c,c...->...", np.asarray(weights), differences) - level) ** 2
        return np.sqrt(np.maximum(1.0, (_TAILS + squares) / (_TAILS + len(self.across))))


def fit_outline(tiles: Sequence[Tile], first: Mapping[str, Sequence[Mask]]) -> Outline | None:
    """Return what tells scraps from clear ground; None if too little is clear, or there are no scraps.

    Args:
        tiles: windows of the image.
        first: pixels of each that are taken for one kind of scrap, bool `spatial`, by the name of the kind.
    """
    shares: _Shares = {name: [mask.astype(np.float64) for mask in masks] for name, masks in first.items()}
    blurred: dict[int | None, list[_Blurred]] = {}
    outline = _described(tiles, shares, blurred, changed=False)
    for number in range(1, _ROUNDS):
        if outline is None:
            return None
        # computed again, as those of all windows together take more than all else
        every = [
            outline.shares(tile, _differences(outline.ground, seen))
            for tile, seen in zip(tiles, blurred[outline.ground.guide], strict=True)
        ]
        shares = {scrap.name: [found[scrap.name] for found in every] for scrap in outline.scraps}
        outline = _described(tiles, shares, blurred, changed=number >= _FIRST_ROUNDS)
    return outline


def _described(
    tiles: Sequence[Tile], shares: _Shares, blurred: dict[int | None, list[_Blurred]], *, changed: bool
) -> Outline | None:
    """Describe ground and scraps by pixels that belong to them with some probability.

    With `changed` some of the ground may have. `blurred` takes the tiles as they are seen for each guide.
    """
    doubted = [np.sum(parts, axis=0) for parts in zip(*shares.values(), strict=True)]
    clear = [tile.seen & (part < _CLEAR) for tile, part in zip(tiles, doubted, strict=True)]
    if sum(int(c.sum()) for c in clear) < _FEWEST_CLEAR:
        return None
    ground = fit_ground(tiles, clear)
    if ground.guide not in blurred:
        blurred[ground.guide] = [_Blurred.of(tile, ground) for tile in tiles]
    told = np.concatenate([seen.told.ravel() for seen in blurred[ground.guide]])
    values = _told_ones(ground, blurred[ground.guide])
    calm = np.clip(values[:, np.concatenate([c.ravel() for c in clear])[told]], -LARGEST, LARGEST)
    if calm.shape[1] < _FEWEST_CLEAR:
        return None
    ring = np.concatenate([np.searchsorted(RINGS, tile.distance).ravel() for tile in tiles])[told]
    usual = _Calm(differences=calm, middle=median(calm), whiten=whitening(calm))
    white = usual.whitened(values)
    scraps = [
        _scrap(name, (values, white), usual, np.concatenate([part.ravel() for part in parts])[told], ring)
        for name, parts in shares.items()
    ]
    some = tuple(scrap for scrap in scraps if scrap is not None)
    if not some or not changed:
        return Outline(ground=ground, scraps=some) if some else None
    across = _across(some, usual.whiten)
    middle = across @ usual.middle
    rows = tuple(map(tuple, across.tolist()))
    return Outline(ground=ground, scraps=some, across=rows, middle=tuple(middle.tolist()))


def _told_ones(ground: Ground, blurred: Sequence[_Blurred]) -> Field:
    """Return the differences of all pixels for which the ground is told, `(c, n)`."""
    parts = (_differences(ground, seen) for seen in blurred)
    return np.concatenate([d.reshape(len(d), -1)[:, told.ravel()] for d, told in parts], axis=1)


def _across(scraps: Sequence[Scrap], whiten: Field) -> Field:
    """Return weights of differences that are uncorrelated with those of the scraps, `(k, c)`."""
    along = np.linalg.solve(whiten, np.asarray([scrap.weights for scrap in scraps]).T)
    directions = np.linalg.svd(along)[0]
    return np.asarray(directions[:, len(scraps) :].T @ whiten)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calm:
    """Differences of clear pixels, `(c, n)`, their medians `(c,)`, and what makes them alike in all directions."""

    differences: Field
    middle: Field
    whiten: Field

    def whitened(self, values: Field) -> Field:
        """Return differences `(c, n)` alike in all directions, none longer than `_FARTHEST_OFF`."""
        white = np.empty(values.shape)
        for start in range(0, values.shape[1], _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            white[:, some] = inner(self.whiten, (values[:, some] - self.middle[:, None]).T)
        white *= np.minimum(1.0, _FARTHEST_OFF / np.maximum(np.sqrt(np.einsum("cn,cn->n", white, white)), 1e-9))
        return white


def _scrap(name: str, both: tuple[Field, Field], calm: _Calm, share: Field, ring: NDArray[np.intp]) -> Scrap | None:
    """Describe a scrap by differences `(c, n)` and these `whitened`, and the share and ring of each pixel `(n,)`.

    None if it has too few pixels, or these do not differ: nothing in the image varies.
    """
    if share.sum() < _FEWEST:
        return None
    values, white = both
    mean = inner(white, share[None])[:, 0] / share.sum()
    if not mean.any():
        return None
    weights = calm.whiten @ (mean / np.linalg.norm(mean))
    level = float(weights @ calm.middle)
    off, rest = (inner(weights[None], part.T)[0] - level for part in (values, calm.differences))
    clear = max(1.0, float(1.4826 * median(np.abs(rest - median(rest)))))
    usual = float((share * off).sum() / share.sum())
    spread = max(float(np.sqrt((share * (off - usual) ** 2).sum() / share.sum())), clear)
    met = [share[ring == k].mean() if (ring == k).sum() >= _FEWEST else 0.0 for k in range(len(RINGS))]
    return Scrap(
        name=name,
        weights=tuple(weights.tolist()),
        level=level,
        clear=clear,
        usual=usual,
        spread=spread,
        shares=tuple(map(float, met)),
    )


def _differences(ground: Ground, tile: _Blurred) -> _Differences:
    """Return differences from the ground in its deviations, seen through `_BLUR`, and where they are told.

    A blur is linear, so one of image and reference serves every ground.
    """
    expected = (np.asarray(ground.offset) - tile.level)[:, None] * tile.share.ravel()
    if tile.guide is not None:
        flat = tile.guide.reshape(len(tile.guide), -1)
        expected += inner(np.asarray(ground.matrix), flat.T.astype(np.float64))
    differences = tile.values - expected.reshape(tile.values.shape)
    differences /= column(ground.scale, tile.told.ndim) * np.maximum(tile.share, 1e-6)
    return differences, tile.told


def _seen(values: NDArray[_Real]) -> NDArray[_Real]:
    return np.asarray(ndimage.gaussian_filter(values, _BLUR))
