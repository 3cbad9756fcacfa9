"""Which observed pixels look like thin cloud, haze or shadow that the mask missed: learned from the image itself.

What a mask misses lies beside what it found. So observed pixels are compared ring by ring around the holes with those
farthest from them, after what a reference (if there is one) says of the ground is taken off. Two sides are looked at:
brighter than far off (haze, thin cloud) and darker (shadow). In each, bands count by how much they differ near the
holes and how little they differ elsewhere (matched filter on whitened differences), which needs no names of bands.
Nothing is doubted unless the holes, laid over other places of the image, find far smaller differences (`shifts`): so
ground that changed is not. Nor is ground that is bright because what is far off lies in shadow (`contrast`). Fainter
differences count where dark ones lie as shadows do beside bright ones (`cast`). Then a pixel is doubted where such a
pixel is at least twice as frequent at its distance as far off, so that it is more likely contaminated than not
(two-groups model and local false discovery rate: Efron 2004, doi:10.1198/016214504000000089). Where that leaves scraps
of cloud and shadow with edges, `outline` says where they end, and `veil` what they add to the ground. Where all holes
together show nothing, one that stands out by itself (`single`) is looked at as if it were the only one.

Where nearly all is hidden there is no far off (`few`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from pipeline.evidence.cast import Patterns, followed
from pipeline.evidence.contrast import lit_better
from pipeline.evidence.doubt import NOTICEABLE, Differences, Doubt, Field, Mask, Side, standardised
from pipeline.evidence.few import doubt_among_few
from pipeline.evidence.ground import Ground, fit_ground, whitening
from pipeline.evidence.haze import fit_haze
from pipeline.evidence.outline import fit_outline
from pipeline.evidence.shifts import Excess, Surroundings, excess
from pipeline.evidence.single import Hole, Labels, as_if_only, nearest_hole, places_of, standing_out
from pipeline.evidence.tile import LARGEST, RINGS, Tile
from pipeline.evidence.veil import fit_veils
from pipeline.system.threads import each

FARTHEST = 40.0
"""Distance from the holes, pixels, from which nothing is gained by being farther."""

_FAR_SHARE = 0.3
"""Share of the observed pixels that count as far from the holes, if so many lie there."""

_FEWEST_FAR = 400
"""Pixels far from the holes below which nothing can be told."""

_FEWEST_RING = 100
"""Pixels of a ring below which it is judged as the one inside it."""

_LEVELS = (0.9, 0.95, 0.98)
"""Quantiles of the far pixels that may become the limit of what is trusted: lower ones would keep the dark ground."""

_MOST = 0.5
"""Contaminated share of a ring from which all of it is doubted: what looks clean in it is the darkest ground."""

_TIMES = 2.0
"""How much more frequent than far off a value must be to be doubted: it is then contaminated with a chance of half."""

_BESIDE = 10.0
"""Distance from the holes up to which contamination is looked for, pixels."""

_RELIABLE = 3.9
"""Standard deviations of shifted patterns by which what is beside the holes must differ: 2 of 356 clean sides do."""

_LIKELY = 3.0
"""The same where the other side is reliable: clouds are bright and cast shadows."""

_FAINT = 1.0
"""The same of both sides where what is dark follows what is bright as shadows follow clouds."""

_FOLLOWS = 5.0
"""Standard deviations of mirrored patterns by which it must: of 199 clean images with a reference none has 4."""

_CLEARED = 0.5
"""Share of these deviations that may be left where what is bright is haze; of twelve synthetic rings at most 0.4 is."""

_ROUNDS = 3

_SIGNS = {"bright": 1.0, "dark": -1.0}


def find_doubt(tiles: Sequence[Tile], *, little: bool = False, through: bool = True) -> Doubt | None:
    """Learn from some windows of an image what contaminated pixels look like; None if too little is observed.

    Args:
        tiles: the windows.
        little: nearly all of the image is hidden: what is left beside the holes is doubted if enough lies farther off.
        through: look for what can be taken off, so that the pixels below it need no doubt.
    """
    distance = np.concatenate([np.zeros(0, dtype=np.float32), *(t.distance[t.seen] for t in tiles)])
    if distance.size < _FEWEST_FAR:
        return None
    if little:
        return doubt_among_few(tiles, _FEWEST_FAR)
    rings = _Rings.around(tiles)
    doubt = _told(rings, through=through)
    if doubt.sides or doubt.haze:
        return doubt
    only = _single(rings)
    found = _told(_Rings.around(only), through=through) if only else doubt
    return replace(found, places=places_of(only)) if found.reach_px else doubt


def _told(rings: _Rings, *, through: bool) -> Doubt:
    """Return what is contaminated beside the holes of some windows."""
    doubt = Doubt(ground=rings.ground, sides=rings.sides())
    hazy = _through_haze(doubt, rings)
    if hazy.haze is None:
        return _outlined(doubt, rings.tiles, rings.known, through=through)
    return hazy if through else doubt


def _single(rings: _Rings) -> Sequence[Tile]:
    """Return the windows as if they had no holes but those that are contaminated by themselves; none if none is."""
    if sum(int(f.sum()) for f in rings.far) < _FEWEST_FAR:
        return ()
    tiles = rings.tiles
    nearest = each(nearest_hole, tiles)
    holes = rings.bright_ones(nearest)
    if holes and rings.referred:
        bare = _Rings.around([replace(tile, guides=()) for tile in tiles])
        holes = bare.bright_ones(nearest, among=holes)
    return as_if_only(tiles, nearest, holes) if holes else ()


def _through_haze(doubt: Doubt, rings: _Rings) -> Doubt:
    """Take haze off what is bright beside the holes; where that leaves it bright, or darkens, it was no haze.

    Nor is it beside shadows: what casts them has edges.
    """
    tiles, far = rings.tiles, rings.far
    if [side.name for side in doubt.sides] != ["bright"]:
        return doubt
    clear = [f & ~doubt.of(t, known) for t, f, known in zip(tiles, far, rings.known, strict=True)]
    haze = fit_haze(doubt.ground, tiles, clear)
    if haze is None:
        return doubt
    through = replace(doubt, haze=haze, sides=())
    left = _Rings.of([through.cleared(tile) for tile in tiles], far, doubt.ground)
    before, after, sides = rings.beyond(1.0), left.beyond(1.0), left.sides()
    if before is None or (after is not None and after.deviations > _CLEARED * before.deviations):
        return doubt
    if sides:
        return doubt
    # a scrap of cloud is no haze: what is still bright is doubted
    scraps = left.side("bright", 1.0, before.values)
    return replace(through, sides=() if scraps is None else (scraps,))


def _outlined(doubt: Doubt, tiles: Sequence[Tile], known: Sequence[Differences], *, through: bool = True) -> Doubt:
    """Tell where the scraps that were found end; what covers most of a ring is none, and its edge is faint."""
    first = {
        side.name: [_pixels(doubt, side, *both) for both in zip(tiles, known, strict=True)] for side in doubt.sides
    }
    outline = fit_outline(tiles, first) if first else None
    if outline is None or max(max(scrap.shares) for scrap in outline.scraps) > _MOST:
        return doubt
    return replace(doubt, outline=outline, veils=fit_veils(outline, tiles) if through else None)


def _pixels(doubt: Doubt, side: Side, tile: Tile, known: Differences) -> Mask:
    """Return the pixels of a tile that one side doubts by themselves and that are brighter (darker) in the mean."""
    mean = known[0].mean(axis=0)
    alone = replace(doubt, sides=(replace(side, rim_px=0.0),))
    return np.asarray(alone.of(tile, known) & (mean > 0 if side.name == "bright" else mean < 0))


def _calm(ground: Ground, tile: Tile) -> Mask:
    differences, told = standardised(ground, tile)
    return np.asarray(told & (np.abs(differences.mean(axis=0)) < 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rings:
    """Windows with their differences from the ground (that a reference tells: `referred`), and which pixels are far."""

    tiles: Sequence[Tile]
    ground: Ground
    differences: Sequence[Field]
    told: Sequence[Mask]
    far: Sequence[Mask]
    noticeable: Field
    referred: bool

    @classmethod
    def around(cls, tiles: Sequence[Tile]) -> _Rings:
        """Fit the ground on what is farthest from the holes."""
        distance = np.concatenate([t.distance[t.seen] for t in tiles])
        count = max(_FEWEST_FAR, int(_FAR_SHARE * distance.size))
        limit = min(FARTHEST, float(np.sort(distance)[max(0, distance.size - count)]))
        far = [t.seen & (t.distance >= limit) for t in tiles]
        ground = fit_ground(tiles, far)
        for _ in range(_ROUNDS - 1):
            # what was missed far from all holes must not pass for ground either
            calm = [f & c for f, c in zip(far, each(partial(_calm, ground), tiles), strict=True)]
            if sum(int(c.sum()) for c in calm) < _FEWEST_FAR:
                break
            ground = fit_ground(tiles, calm)
        return cls.of(tiles, far, ground)

    @classmethod
    def of(cls, tiles: Sequence[Tile], far: Sequence[Mask], ground: Ground) -> _Rings:
        both = each(partial(standardised, ground), tiles)
        return cls(
            tiles=tiles,
            ground=ground,
            differences=[differences for differences, _ in both],
            told=[told for _, told in both],
            far=[told & f & (t.distance > _BESIDE) for (_, told), f, t in zip(both, far, tiles, strict=True)],
            noticeable=NOTICEABLE * np.asarray(ground.usual) / np.asarray(ground.scale),
            referred=ground.guide is not None,
        )

    @property
    def known(self) -> list[Differences]:
        """Return what is known of each window, for `Doubt.of`."""
        return list(zip(self.differences, self.told, strict=True))

    def sides(self) -> tuple[Side, ...]:
        """Return the ways in which pixels differ near the holes, beyond chance."""
        found = {name: self.beyond(sign) for name, sign in _SIGNS.items()}
        believed = self._believed(found)
        if "bright" in believed and self._lit:
            believed = self._believed(found | {"bright": None})
        sides = [self.side(name, _SIGNS[name], one.values) for name, one in believed.items()]
        return tuple(side for side in sides if side is not None)

    def _believed(self, found: Mapping[str, Excess | None]) -> dict[str, Excess]:
        """Return those of both sides that are beyond chance."""
        deviations = [one.deviations if one is not None else 0.0 for one in found.values()]
        least = _LIKELY if max(deviations) >= _RELIABLE else _RELIABLE
        if self.referred and _FAINT <= min(deviations) < least and self._cast(*found.values()):
            least = _FAINT
        return {name: one for name, one in found.items() if one is not None and one.deviations >= least}

    def beyond(self, sign: float) -> Excess | None:
        """Return how the whitened bands differ near the holes on one side, None if they cannot be compared."""
        return excess(self.surroundings(sign)) if self._higher(sign, self._beside) else None

    def bright_ones(self, nearest: Sequence[Labels], among: Sequence[Hole] | None = None) -> list[Hole]:
        """Return the holes that stand out by themselves (`standing_out`) beside which bands are brighter, too."""
        holes = standing_out(self.surroundings(1.0), nearest, among=among)
        own = [
            [b & (n == label) & (k == at) for at, (b, n) in enumerate(zip(self._beside, nearest, strict=True))]
            for k, label in holes
        ]
        return [hole for hole, some in zip(holes, own, strict=True) if self._higher(1.0, some)]

    def _higher(self, sign: float, some: Sequence[Mask]) -> bool:
        """Say whether bands as they are lie higher (lower) in some pixels than far from the holes, all in all.

        Whitened ones can be higher where these are lower.
        """
        near, far = self._of_all(some), self._of_all(self.far)
        if near.shape[1] < _FEWEST_RING or far.shape[1] < _FEWEST_FAR:
            return False
        more = np.maximum(sign * near, 0.0).mean(axis=1) - np.maximum(sign * far, 0.0).mean(axis=1)
        return bool(more.sum() > 0)

    def surroundings(self, sign: float) -> list[Surroundings]:
        """Return the windows with their whitened bands, high ones on one side."""
        whiten = sign * whitening(self._of_all(self.far))
        return [
            Surroundings(values=np.clip(np.einsum("ij,j...->i...", whiten, d), 0.0, LARGEST), told=t, near=b, far=f)
            for d, t, b, f in zip(self.differences, self.told, self._beside, self.far, strict=True)
        ]

    def side(self, name: str, sign: float, more: Field) -> Side | None:
        """Return what is doubted on a side whose whitened bands are higher by so much near the holes, `(c,)`."""
        near, far = self._of_all(self._beside), self._of_all(self.far)
        weights = self._weights(sign, more)
        limits, rim = self._limits(weights, self._least(weights, near.mean(axis=1) - far.mean(axis=1)))
        if not rim and not np.isfinite(limits).any():
            return None
        return Side(name=name, weights=tuple(weights.tolist()), limits=tuple(limits), rim_px=rim)

    def _weights(self, sign: float, more: Field) -> Field:
        """Return the weights of the bands that tell a side best: a unit vector of whitened bands, `(c,)`."""
        direction = np.maximum(more, 0.0)
        return np.asarray(sign * whitening(self._of_all(self.far)) @ (direction / np.sqrt((direction**2).sum())))

    def _cast(self, bright: Excess | None, dark: Excess | None) -> bool:
        """Say whether what is dark lies where what is bright would cast its shadow."""
        if bright is None or dark is None:
            return False
        far = self._of_all(self.far)
        both = [self._weights(sign, one.values) for sign, one in ((1.0, bright), (-1.0, dark))]
        middle = [float(np.median(weights @ far)) for weights in both]
        windows = []
        for tile, told, d in zip(self.tiles, self.told, self.differences, strict=True):
            above = [np.einsum("c,c...->...", w, d) - level for w, level in zip(both, middle, strict=True)]
            windows.append(Patterns(bright=above[0], dark=above[1], told=told & (tile.distance <= RINGS[-1])))
        return followed(windows) >= _FOLLOWS

    @property
    def _lit(self) -> bool:
        """Say whether what is beside the holes is bright because what is far from them lies in shadow."""
        return self.referred and lit_better(self.ground, self.tiles, self._beside, self.far)

    @property
    def _beside(self) -> list[Mask]:
        return [t & (tile.distance <= _BESIDE) for t, tile in zip(self.told, self.tiles, strict=True)]

    def _of_all(self, some: Sequence[Mask]) -> Field:
        """Return the differences of some pixels of all windows, `(c, n)`."""
        return np.concatenate([d[:, s] for d, s in zip(self.differences, some, strict=True)], axis=1)

    def _least(self, weights: Field, spectrum: Field) -> float:
        """Return the weighted sum of a contamination of which one band is just noticeable."""
        limit = np.minimum(self.noticeable, 0.5 * LARGEST)
        return max(0.0, float(weights @ spectrum / np.max(np.abs(spectrum) / limit)))

    def _limits(self, weights: Field, least: float) -> tuple[list[float], float]:
        """Return the limit of each ring, and the distance up to which most of all rings is contaminated, pixels.

        A limit is the lowest far quantile above which values are `_TIMES` as frequent as far off. None is nearer to
        the middle of the far pixels than `least`. As contamination falls with distance, no ring is doubted more than
        the one inside it.
        """
        off = weights @ self._of_all(self.far)
        quantiles = np.quantile(off, _LEVELS)
        middle = float(np.median(off))
        limits: list[float] = []
        rim = inner = 0.0
        for outer, ring in zip(RINGS, self._in_rings(), strict=True):
            own = weights @ ring
            limit = limits[-1] if limits else np.inf
            if own.size >= _FEWEST_RING:
                more = [(own > q).mean() >= _TIMES * (1 - level) for q, level in zip(quantiles, _LEVELS, strict=True)]
                found = float(quantiles[more.index(True)]) if any(more) else np.inf
                limit = max(found, least + middle, limit if limits else -np.inf)
                # what is contaminated lies above the middle, and half of the ground does
                most = (own > middle).mean() >= 0.5 * (1 + _MOST) and np.median(own) > least + middle
                if rim == inner and most:
                    rim = outer
            limits.append(limit)
            inner = outer
        return limits, rim

    def _in_rings(self) -> Iterator[Field]:
        """Yield the differences of each of `RINGS`, without what counts as far."""
        for inner, outer in pairwise((0.0, *RINGS)):
            yield self._of_all(
                [
                    told & ~far & (tile.distance > inner) & (tile.distance <= outer)
                    for told, far, tile in zip(self.told, self.far, self.tiles, strict=True)
                ]
            )
