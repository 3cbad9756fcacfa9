"""Rings around the holes: how pixels differ in them from those farthest off, and whether that is beyond chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise, zip_longest

import numpy as np

from pipeline.evidence.cast import Patterns, followed, step_of_shadows
from pipeline.evidence.contrast import lit_better
from pipeline.evidence.doubt import NOTICEABLE, Differences, Field, Mask, Side, Smooth, standardised
from pipeline.evidence.ground import Ground, fit_ground, whitening
from pipeline.evidence.shifts import Excess, Surroundings, excess, fall
from pipeline.evidence.single import Hole, Labels, standing_out
from pipeline.evidence.tile import LARGEST, RINGS, Tile
from pipeline.system.threads import each

FEWEST_FAR = 400
"""Pixels far from the holes below which nothing can be told."""

MOST = 0.5
"""Contaminated share of a ring from which all of it is doubted: what looks clean in it is the darkest ground."""

FARTHEST = 40.0
"""Distance from the holes, pixels, from which nothing is gained by being farther."""

_FAR_SHARE = 0.3
"""Share of the observed pixels that count as far from the holes, if so many lie there."""

_FEWEST_RING = 100
"""Pixels of a ring below which it is judged as the one inside it."""

_LEVELS = (0.9, 0.95, 0.98)
"""Quantiles of the far pixels that may become the limit of what is trusted: lower ones would keep the dark ground."""

_TIMES = 2.0
"""How much more frequent than far off a value must be to be doubted: it is then contaminated with a chance of half."""

_BESIDE = 10.0
"""Distance from the holes up to which contamination is looked for, pixels."""

_RELIABLE = 3.9
"""Standard deviations of shifted patterns by which what is beside the holes must differ: 2 of 356 clean sides do."""

_LIKELY = 3.0
"""The same where the other side is reliable: clouds are bright and cast shadows."""

_FAINT = 1.0
"""The same of both sides where what is dark follows what is bright as shadows follow clouds, and of those that a
reference shows elsewhere."""

_FOLLOWS = 5.0
"""Standard deviations of mirrored patterns by which it must: of 199 clean images with a reference none has 4."""

STEEP, BROAD = (4.0, 8.0, 16.0), (10.0, 16.0, 24.0)
"""Distances from the holes, pixels: up to the first is compared with between the others to tell how haze falls, and
whether scraps of cloud are gone."""

_ROUNDS = 3

_SIGNS = {"bright": 1.0, "dark": -1.0}


def _smoothed(tiles: Sequence[Tile], ground: Ground, before: Sequence[Smooth] = ()) -> Sequence[Smooth]:
    """Return all windows as they are smoothed once for any usual values; none where the ground follows a reference."""
    return () if ground.guide is not None else before or each(Smooth.of, tiles)


def _calm(ground: Ground, both: tuple[Tile, Smooth | None]) -> Mask:
    tile, smooth = both
    differences, told = standardised(ground, tile) if smooth is None else (smooth.differences(ground), tile.seen)
    return np.asarray(told & (np.abs(differences.mean(axis=0)) < 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rings:
    """Windows with their differences from the ground (that a reference tells: `referred`), and which pixels are far.

    `seed` is that of the shifts that are drawn.
    """

    tiles: Sequence[Tile]
    ground: Ground
    differences: Sequence[Field]
    told: Sequence[Mask]
    far: Sequence[Mask]
    noticeable: Field
    referred: bool
    seed: int = 0
    _means: dict[float, Field] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def around(cls, tiles: Sequence[Tile], seed: int = 0) -> Rings:
        """Fit the ground on what is farthest from the holes."""
        distance = np.concatenate([t.distance[t.seen] for t in tiles])
        count = max(FEWEST_FAR, int(_FAR_SHARE * distance.size))
        place = max(0, distance.size - count)
        limit = min(FARTHEST, float(np.partition(distance, place)[place]))
        far = [t.seen & (t.distance >= limit) for t in tiles]
        ground = fit_ground(tiles, far)
        smooth = _smoothed(tiles, ground)
        for _ in range(_ROUNDS - 1):
            # what was missed far from all holes must not pass for ground either
            found = each(partial(_calm, ground), list(zip_longest(tiles, smooth)))
            calm = [f & c for f, c in zip(far, found, strict=True)]
            if sum(int(c.sum()) for c in calm) < FEWEST_FAR:
                break
            ground = fit_ground(tiles, calm)
            smooth = _smoothed(tiles, ground, smooth)
        if not smooth:
            return cls.of(tiles, far, ground, seed)
        # in place: the windows together may take 200 MB
        both = [(s.differences(ground, out=s.values), t.seen) for t, s in zip(tiles, smooth, strict=True)]
        return cls._of(tiles, far, ground, both, seed)

    @classmethod
    def of(cls, tiles: Sequence[Tile], far: Sequence[Mask], ground: Ground, seed: int = 0) -> Rings:
        """Compare windows with a ground that is known."""
        return cls._of(tiles, far, ground, each(partial(standardised, ground), tiles), seed)

    @classmethod
    def _of(
        cls, tiles: Sequence[Tile], far: Sequence[Mask], ground: Ground, both: Sequence[Differences], seed: int
    ) -> Rings:
        return cls(
            tiles=tiles,
            ground=ground,
            differences=[differences for differences, _ in both],
            told=[told for _, told in both],
            far=[told & f & (t.distance > _BESIDE) for (_, told), f, t in zip(both, far, tiles, strict=True)],
            noticeable=NOTICEABLE * np.asarray(ground.usual) / np.asarray(ground.scale),
            referred=ground.guide is not None,
            seed=seed,
        )

    @property
    def known(self) -> list[Differences]:
        """Return what is known of each window, for `Doubt.of`."""
        return list(zip(self.differences, self.told, strict=True))

    def sides(self, shown: Set[str] = frozenset()) -> tuple[Side, ...]:
        """Return the ways in which pixels differ near the holes, beyond chance.

        If there is none, those that a reference has `shown` beside other holes need a sign alone.
        """
        found = {name: self.beyond(sign) for name, sign in _SIGNS.items()}
        believed = self._believed(found, shown)
        if "bright" in believed and self._lit:
            believed = self._believed(found | {"bright": None}, shown)
        sides = [self.side(name, _SIGNS[name], one.values) for name, one in believed.items()]
        return tuple(side for side in sides if side is not None)

    def step_of_shadows(self) -> tuple[int, int] | None:
        """Return by how many rows and columns shadows of what the holes hide are displaced; None if it is not known.

        Without a reference it is not: the dark slopes of relief lie beside its bright ones, all displaced alike, too.
        """
        if not self.referred:
            return None
        return step_of_shadows(
            [
                Patterns(bright=(tile.distance == 0).astype(np.float64), dark=-d.mean(axis=0), told=told)
                for tile, d, told in zip(self.tiles, self.differences, self.told, strict=True)
            ]
        )

    def shaded(self, step: tuple[int, int]) -> tuple[Rings, tuple[Side, ...]]:
        """Return the windows with rings around the holes and their shadows, one step away, and how pixels differ there.

        What is bright is looked for beside the holes alone. That the shadows are there is proof of the dark side.
        """
        both = Rings.around([tile.shaded(step) for tile in self.tiles], self.seed)
        holes = replace(both, tiles=self.tiles)
        dark, bright = both.beyond(_SIGNS["dark"]), holes.beyond(_SIGNS["bright"])
        found = [both.side("dark", _SIGNS["dark"], dark.values)] if dark is not None else []
        if bright is not None and bright.deviations >= _LIKELY and not holes._lit:
            found.append(holes.side("bright", _SIGNS["bright"], bright.values))
        return both, tuple(side for side in found if side is not None)

    def _believed(self, found: Mapping[str, Excess | None], shown: Set[str]) -> dict[str, Excess]:
        """Return those of both sides that are beyond chance."""
        deviations = [one.deviations if one is not None else 0.0 for one in found.values()]
        least = _LIKELY if max(deviations) >= _RELIABLE else _RELIABLE
        if self.referred and _FAINT <= min(deviations) < least and self._cast(*found.values()):
            least = _FAINT
        told = {name: one for name, one in found.items() if one is not None}
        beyond = {name: one for name, one in told.items() if one.deviations >= least}
        return beyond or {name: one for name, one in told.items() if name in shown and one.deviations >= _FAINT}

    def beyond(self, sign: float) -> Excess | None:
        """Return how the whitened bands differ near the holes on one side, None if they cannot be compared."""
        return excess(self.surroundings(sign), self.seed) if self._higher(sign, self._beside) else None

    @property
    def comparable(self) -> bool:
        """Say whether the holes can be laid over other places, so that a difference can be told from chance."""
        enough = sum(int(f.sum()) for f in self.far) >= FEWEST_FAR
        return enough and excess(self.surroundings(1.0), self.seed) is not None

    def bright_ones(self, nearest: Sequence[Labels], among: Sequence[Hole] | None = None) -> list[Hole]:
        """Return the holes that stand out by themselves (`standing_out`) beside which bands are brighter, too."""
        beside = self._beside

        def higher(hole: Hole) -> bool:
            k, label = hole
            return self._lie_higher(1.0, self.differences[k][:, beside[k] & (nearest[k] == label)])

        # few of those that stand out do not lie higher, and asking that first is cheap
        return standing_out(self.surroundings(1.0), nearest, among=among, asked=higher, seed=self.seed)

    def _higher(self, sign: float, some: Sequence[Mask]) -> bool:
        """Say whether bands as they are lie higher (lower) in some pixels than far from the holes, all in all.

        Whitened ones can be higher where these are lower.
        """
        return self._lie_higher(sign, self._of_all(some))

    def _lie_higher(self, sign: float, near: Field) -> bool:
        if near.shape[1] < _FEWEST_RING or sum(int(f.sum()) for f in self.far) < FEWEST_FAR:
            return False
        more = np.maximum(sign * near, 0.0).mean(axis=1) - self._usually(sign)
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

    def fall(self, side: Side, distances: tuple[float, float, float]) -> float:
        """Return by how much what a side doubts falls with the distance from the holes, in deviations of chance.

        Haze falls; a bright field around holes is as bright 16 px away.

        Args:
            side: what is looked for.
            distances: `STEEP` or `BROAD`.

        Returns:
            Standard deviations of shifted patterns, minus infinity if that cannot be told.
        """
        first, inner, outer = distances
        windows = [
            Surroundings(
                values=np.einsum("c,c...->...", np.asarray(side.weights), d)[None],
                told=told,
                near=told & (tile.distance <= first),
                far=told & (tile.distance > inner) & (tile.distance <= outer),
            )
            for d, told, tile in zip(self.differences, self.told, self.tiles, strict=True)
        ]
        deviations = fall(windows, self.seed)
        return -np.inf if deviations is None else deviations

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

    def _usually(self, sign: float) -> Field:
        """Return the mean of what lies higher (lower) far from the holes, `(c,)`."""
        if sign not in self._means:
            self._means[sign] = np.maximum(sign * self._of_all(self.far), 0.0).mean(axis=1)
        return self._means[sign]

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
                most = (own > middle).mean() >= 0.5 * (1 + MOST) and np.median(own) > least + middle
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
