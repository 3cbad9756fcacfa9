"""The display product: the restored image with the detail that an estimate of the mean lacks. Not for measurement.

Detail of observed patches (donors) is laid over the holes, scale by scale: as much of each as the restored pixels lack
beside the donors, and less towards the rim, where what is observed beside a pixel tells its detail already. A place
whose detail is restored, e.g. from a clear date, gets none. Patches that meet are blended with weights whose squares
sum to 1, so that detail of different patches keeps its variance (Heitz and Neyret 2018, doi:10.1145/3233304).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from pipeline.blocks.composite import to_stored
from pipeline.formats.base import FOR_LOOKING_AT, Pull
from pipeline.geometry.box import Box
from pipeline.image.open import centred
from pipeline.numerics.column import column
from pipeline.numerics.sharpness import ratios, steps
from pipeline.numerics.texture import detail_bands, onset, reach
from pipeline.output.assemble import Assembler, is_filled
from pipeline.output.donors import find_donors
from pipeline.restore.codes import NEVER_TOUCHED, OBSERVED, REFUSED
from pipeline.system.words import in_percent

_SIGMAS = {2: (1.0, 2.0, 4.0, 8.0), 3: (1.0, 2.0, 4.0)}
"""Scales of detail, in pixels."""
_WINDOWS = {2: (256, 128, 64), 3: (64, 32, 16)}
"""Extents of what is made at once, in pixels; the largest of which all channels have at most `_VALUES` values."""
_VALUES = 1 << 20
_HELD_BYTES = 48 * 2**20
"""Detail of tiles that is kept for their neighbours."""
_KEPT_BYTES = 24 * 2**20
"""Pixels that were read, of each of two layers."""
_TILES = 1 << 14
"""Tiles of which the energies are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Detail:
    """What may be laid on one tile.

    Attributes:
        box: the tile, inside of the image.
        bands: detail of the donor, faded towards the rim, 0 outside of holes, `(b, c, *box.shape)`.
        low: least value of tile and donor, centred, `(c,)`.
        high: largest value, likewise.
        energy: sums of squares over the restored pixels: of their own detail, and of the donor's, `(2, b, c)`.
    """

    box: Box
    bands: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    energy: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tile:
    """A piece of the restored image: centred values, what is known of them, detail by scale `(b, c, ...)`."""

    values: NDArray[np.float32]
    known: NDArray[np.bool_]
    bands: NDArray[np.float32]

    @property
    def ends(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Least and largest known value of each channel, `(c,)`."""
        axes = tuple(range(1, self.values.ndim))
        low, high = (np.where(self.known, self.values, np.float32(end)) for end in (np.inf, -np.inf))
        return low.min(axis=axes), high.max(axis=axes)


class _Kept:
    """A pull that keeps what it gave, in tiles: a small window would cost the reading of a whole block each time."""

    def __init__(self, pull: Pull, edges: tuple[int, ...], shape: tuple[int, ...]) -> None:
        self._edges, whole = edges, Box.whole(shape)
        made = pull(Box.whole((1,) * len(shape)))
        tile_bytes = made.nbytes * math.prod(edges)
        self._planes, self._dtype = len(made), made.dtype

        def read(start: tuple[int, ...]) -> NDArray[Any]:
            return pull(Box(start, tuple(a + n for a, n in zip(start, edges, strict=True))) & whole)

        self._tile = lru_cache(maxsize=max(4, _KEPT_BYTES // tile_bytes))(read)

    def __call__(self, box: Box) -> NDArray[Any]:
        values = np.empty((self._planes, *box.shape), dtype=self._dtype)
        for part in box.tiles(self._edges):
            start = tuple(a // n * n for a, n in zip(part.start, self._edges, strict=True))
            values[part.at(of=box)] = self._tile(start)[part.shift(tuple(-a for a in start)).at()]
        return values


class Display:
    """Gives windows of the display product of a finished plan; each pixel is the same in whatever window."""

    def __init__(self, assembler: Assembler) -> None:
        plan = assembler.plan
        self.assembler, self.plan = assembler, plan
        self.sigmas = _SIGMAS[plan.ndim]
        self._donors = find_donors(assembler)
        self.lattice = self._donors.lattice
        fitting = [n for n in _WINDOWS[plan.ndim] if n**plan.ndim * len(plan.channels) <= _VALUES]
        self._window = (max(fitting, default=_WINDOWS[plan.ndim][-1]),) * plan.ndim
        self._restored = _Kept(assembler.restored, self._window, plan.space.shape)
        self._origin = _Kept(assembler.origin, self._window, plan.space.shape)
        self._steps = np.zeros((2, 3, 2, len(plan.channels)))
        self._filled = self._plain = 0
        tile_bytes = 4 * len(self.sigmas) * len(plan.channels) * int(np.prod(self.lattice.patch))
        self._detail = lru_cache(maxsize=max(1, _HELD_BYTES // tile_bytes))(self._find_detail)
        self._energy = lru_cache(maxsize=_TILES)(self._weigh)

    def image(self, box: Box) -> NDArray[Any]:
        """Return the display product, stored dtype, `(c, *box.shape)` of all channels.

        Only restored pixels differ from `Assembler.restored`; they stay within the range of the values around, and
        never take the nodata value.
        """
        values, channels = self.assembler.restored(box), list(self.plan.channels)
        for part in box.tiles(self._window):
            origin = self._origin(part)
            filled = is_filled(origin)
            if filled.any():
                view = values[part.at(of=box)]
                before = view[channels]
                view[channels] = after = self._textured(part, before, filled)
                self._steps += [steps(one, filled, origin == OBSERVED) for one in (before, after)]
        return values

    def facts(self) -> dict[str, Any]:
        """Return, for the record, how sharp the windows that were pulled so far are, beside what is around holes.

        Both are 1 where a hole looks like its surroundings: `gradient`, mean step between neighbours inside of holes
        over that around them; `rim`, that over the rim over that around. `plain` is the share of restored pixels
        without texture.
        """
        (gradient, rim), (display_gradient, display_rim) = map(ratios, self._steps)
        return {
            "purpose": FOR_LOOKING_AT,
            "gradient": {"restored": gradient, "display": display_gradient},
            "rim": {"restored": rim, "display": display_rim},
            "plain": self._plain / self._filled if self._filled else 0.0,
        }

    def notices(self) -> list[str]:
        """Return what the user should know of the windows that were pulled so far."""
        if not self._plain:
            return []
        share, unit = in_percent(self._plain / self._filled), self.plan.space.unit
        return [
            f"display product: {share} of the restored {unit}s are those of the restored image, without texture: "
            "nowhere in the image is a patch wholly observed that could lend it"
        ]

    def _textured(self, box: Box, stored: NDArray[Any], filled: NDArray[np.bool_]) -> NDArray[Any]:
        shape = (len(stored), *box.shape)
        texture = np.zeros(shape, dtype=np.float32)
        low, high = np.full(shape, np.inf, dtype=np.float32), np.full(shape, -np.inf, dtype=np.float32)
        for index in self.lattice.touching(box):
            found = self._detail(index)
            if found is None:
                continue
            part = found.box & box
            at = part.at(of=box)
            weight = np.sqrt(self.lattice.weights(index, part)).astype(np.float32)
            gain = self._gain(index).astype(np.float32)
            detail = found.bands[(slice(None), *part.at(of=found.box))]
            texture[at] += weight * np.einsum("bc,bc...->c...", gain, detail)
            low[at] = np.minimum(low[at], column(found.low, box.ndim))
            high[at] = np.maximum(high[at], column(found.high, box.ndim))
        # no tile with a donor reaches these
        self._filled += int(filled.any(axis=0).sum())
        self._plain += int((filled & ~np.isfinite(low)).any(axis=0).sum())
        changed = filled & (texture != 0)
        mean, centre = stored.astype(np.float64), column(self.plan.centre, box.ndim, np.float64)
        sharp = np.where(changed, np.clip(mean + texture, low + centre, high + centre), 0.0)
        return np.where(changed, to_stored(sharp, self.plan), stored)

    def _gain(self, index: tuple[int, ...]) -> NDArray[np.float64]:
        """Return what each band of a tile's donor is multiplied with, `(b, c)`, 0 to 1.

        A single tile says little of what is lacking, so its neighbours are asked, too.
        """
        steps = product((-1, 0, 1), repeat=len(index))
        near = (self._energy(tuple(a + b for a, b in zip(index, step, strict=True))) for step in steps)
        own, donor = np.sum([energy for energy in near if energy is not None], axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.sqrt(np.clip(np.nan_to_num(1 - own / donor), 0.0, 1.0)))

    def _weigh(self, index: tuple[int, ...]) -> NDArray[np.float64] | None:
        detail = self._detail(index)
        return None if detail is None else detail.energy

    def _find_detail(self, index: tuple[int, ...]) -> _Detail | None:
        """Return the detail that may be laid on a tile; None if there is nothing to lay it on, or no donor."""
        box = self.lattice.support(index)
        if box.empty or not (filled := is_filled(self._origin(box))).any():
            return None
        tile = self._read(box)
        mean = _mean(tile.values, filled)
        lent = self._donors.of(index, mean + np.asarray(self.plan.centre))
        if lent is None:
            return None
        donor, fades = self._read(lent.box), self._fades(box, filled)
        bands = fades * donor.bands * np.float32(lent.level)
        energy = [_energy(fades * tile.bands), _energy(bands)]
        lows, highs = zip(tile.ends, donor.ends, strict=True)
        return _Detail(box=box, bands=bands, low=np.minimum(*lows), high=np.maximum(*highs), energy=np.stack(energy))

    def _read(self, box: Box) -> _Tile:
        """Return the restored image over a box with its bands."""
        window = box.grow(reach(self.sigmas)) & Box.whole(self.plan.space.shape)
        known = ~np.isin(self._origin(window), (REFUSED, NEVER_TOUCHED))
        stored = self._restored(window)[list(self.plan.channels)]
        values, inner = centred(stored, self.plan.centre, known), box.at(of=window)
        bands = detail_bands(values, known, self.sigmas)
        return _Tile(values=values[inner], known=known[inner], bands=bands[(slice(None), *inner)])

    def _fades(self, box: Box, filled: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return how much of each band restored pixels may take, by their distance to observed ones.

        Shape `(b, n_state, *box.shape)`, 0 to 1; 0 where nothing was restored.
        """
        window = box.grow(reach(self.sigmas)) & Box.whole(self.plan.space.shape)
        inner = box.at(of=window)[1:]
        observed = self._origin(window) == OBSERVED
        far = np.full(window.shape, np.inf)
        distance = np.stack([(distance_transform_edt(~one) if one.any() else far)[inner] for one in observed])
        return np.stack([np.where(filled, onset(distance, sigma), np.float32(0)) for sigma in self.sigmas])


def _mean(values: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over pixels of each channel, `(c,)`, NaN without any."""
    each, axes = np.broadcast_to(where, values.shape), tuple(range(1, values.ndim))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(each, values, 0.0).sum(axis=axes) / each.sum(axis=axes))


def _energy(bands: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the sum of squares over pixels of each band and channel, `(b, c)`."""
    return np.asarray(np.square(bands, dtype=np.float64).sum(axis=tuple(range(2, bands.ndim))))
