"""Does what surrounds the holes differ by more than chance? Their pattern is laid over other places of the image.

Ground is never alike everywhere, so something always differs between pixels beside the holes and pixels far from them.
The image itself says how much: the same pattern of near and far pixels, shifted around each window by every distance
and mirrored, gives the differences that come from the ground alone (toroidal shift test: Lotwick & Silverman 1982,
doi:10.1111/j.2517-6161.1982.tb01221.x). Kinds of ground, fields that changed and their size are in it by themselves.
All shifts at once are correlations, by Fourier transform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

_DRAWS = 1000
"""Patterns of shifts that are drawn; with one window nearly all that differ."""

_STRIDE = 2
"""Every so many pixels of a window are looked at; what is looked for is smooth."""

_SMALLEST_SHIFT = 32
"""Shifts below this look at the surroundings of the same holes, pixels."""

_ENOUGH = 0.5
"""Share of the near and of the far pixels that must fall on told ones after a shift."""

_FEWEST_SHIFTS = 50
"""Shifts of a window below which it says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """A window around holes.

    Attributes:
        values: `(c, *spatial)`; high ones are looked for.
        told: bool `spatial`, where the values are known.
        near: bool `spatial`, beside the holes.
        far: bool `spatial`, far from them.
    """

    values: Field
    told: Mask
    near: Mask
    far: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """What is higher beside the holes than far from them.

    Attributes:
        values: by how much, `(c,)`, above what shifted patterns show on average.
        deviations: length of its positive part, less that of shifted patterns, in standard deviations of theirs.
    """

    values: Field
    deviations: float


class _Sums:
    """Sums of values over near and far pixels, and their numbers: `(..., c)` and `(...)`."""

    def __init__(self, near: Field, n_near: Field, far: Field, n_far: Field) -> None:
        self.parts = near, n_near, far, n_far

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(a + b for a, b in zip(self.parts, other.parts, strict=True)))

    @property
    def differences(self) -> Field:
        near, n_near, far, n_far = self.parts
        return np.asarray(near / np.maximum(n_near, 1.0)[..., None] - far / np.maximum(n_far, 1.0)[..., None])


def excess(windows: Sequence[Surroundings], seed: int = 0) -> Excess | None:
    """Compare what is beside the holes with what is beside them when they are shifted; None if that cannot be told.

    Args:
        windows: some of the image; each is shifted by itself.
        seed: of the shifts that are drawn.
    """
    rng = np.random.default_rng(seed)
    return _beyond_chance([_Shifted(window).compared(window.near, rng) for window in windows])


def excess_of_each(window: Surroundings, nears: Sequence[Mask], seed: int = 0) -> list[Excess | None]:
    """Return `excess` of a window for other pixels beside holes, `spatial`; what they share is computed once."""
    shifted = _Shifted(window)
    return [_beyond_chance([shifted.compared(near, np.random.default_rng(seed))]) for near in nears]


def fall(windows: Sequence[Surroundings], seed: int = 0) -> float | None:
    """Return by how much one band is higher in the near pixels than in the far ones, which lie around these.

    Unlike `excess`, which asks whether what is beside the holes differs at all, this tells what falls with the distance
    from them from ground that is alike on both sides of a ring.

    Args:
        windows: some of the image, with one band.
        seed: of the shifts that are drawn.

    Returns:
        Standard deviations of shifted patterns; None if that cannot be told.
    """
    rng = np.random.default_rng(seed)
    sums = _summed([_Shifted(window).compared(window.near, rng) for window in windows])
    if sums is None:
        return None
    own, shifted = sums
    chance = shifted.differences[:, 0]
    spread = float(chance.std())
    return float(own.differences[0] - chance.mean()) / spread if spread > 0 else None


def _summed(pairs: Sequence[tuple[_Sums, _Sums] | None]) -> tuple[_Sums, _Sums] | None:
    """Return the sums over all windows that can be compared, as they are and shifted; None if there is none."""
    found = [pair for pair in pairs if pair is not None]
    if not found:
        return None
    own, shifted = found[0]
    for more_own, more_shifted in found[1:]:
        own, shifted = own + more_own, shifted + more_shifted
    return own, shifted


def _beyond_chance(pairs: Sequence[tuple[_Sums, _Sums] | None]) -> Excess | None:
    sums = _summed(pairs)
    if sums is None:
        return None
    own, shifted = sums
    chance = shifted.differences
    values = own.differences - chance.mean(axis=0)
    lengths = _length(chance - chance.mean(axis=0))
    spread = float(lengths.std())
    if not spread > 0:
        return None
    return Excess(values=values, deviations=float(_length(values) - lengths.mean()) / spread)


def _length(values: Field) -> Field:
    return np.asarray(np.sqrt((np.maximum(values, 0.0) ** 2).sum(axis=-1)))


class _Shifted:
    """A window under all shifts, seen with `_STRIDE`."""

    def __init__(self, window: Surroundings) -> None:
        self.values, self.told, self.far = (
            _thinned(part.astype(np.float64))
            for part in (np.where(window.told, window.values, 0.0), window.told, window.far)
        )
        self._axes = tuple(range(self.told.ndim))
        self._mirrored = list(product((1, -1), repeat=self.told.ndim))

    @cached_property
    def _spectra(self) -> NDArray[np.complex128]:
        both = np.concatenate([self.values, self.told[None]])
        return np.asarray(fft.rfftn(both, axes=[1 + a for a in self._axes]))

    @cached_property
    def _far_sums(self) -> list[Field]:
        return self._sums(self.far)

    def _sums(self, mask: Field) -> list[Field]:
        """Return what a mask covers under each shift, values and told pixels, `(c + 1, *spatial)`, by way to mirror."""
        around = [mask[tuple(slice(None, None, s) for s in steps)] for steps in self._mirrored]
        axes = [1 + a for a in self._axes]
        return [fft.irfftn(np.conj(fft.rfftn(one)) * self._spectra, s=self.told.shape, axes=axes) for one in around]

    def compared(self, near: Mask, rng: np.random.Generator) -> tuple[_Sums, _Sums] | None:
        """Return the sums of near and far pixels as they are, and of `_DRAWS` shifts; None if too few can be told."""
        masks = _thinned(near.astype(np.float64)), self.far
        counts = [float((mask * self.told).sum()) for mask in masks]
        if min(counts) < 1:
            return None
        own = _Sums(
            *(np.asarray(part) for mask, n in zip(masks, counts, strict=True) for part in (_sum(self.values, mask), n))
        )
        sums = self._sums(masks[0]), self._far_sums
        places = []
        for steps, *covered in zip(self._mirrored, *([part[-1] for part in parts] for parts in sums), strict=True):
            usable = np.logical_and(*(part >= _ENOUGH * n for part, n in zip(covered, counts, strict=True)))
            if all(s == 1 for s in steps):
                usable &= _far_enough(self.told.shape)
            places.append(np.flatnonzero(usable))
        ends = np.cumsum([part.size for part in places])
        if ends[-1] < _FEWEST_SHIFTS:
            return None
        some = rng.integers(0, ends[-1], _DRAWS)
        mirror, place = np.searchsorted(ends, some, side="right"), np.concatenate(places)[some]
        beside, beyond = (np.empty((_DRAWS, len(self.values) + 1)) for _ in sums)
        for k in range(len(places)):
            for to, parts in zip((beside, beyond), sums, strict=True):
                to[mirror == k] = parts[k].reshape(to.shape[1], -1)[:, place[mirror == k]].T
        return own, _Sums(beside[:, :-1], beside[:, -1], beyond[:, :-1], beyond[:, -1])


def _thinned(values: Field) -> Field:
    """Return every `_STRIDE`th pixel in both directions."""
    return values[..., ::_STRIDE, ::_STRIDE]


def _sum(values: Field, mask: Field) -> Field:
    return np.asarray((values * mask).reshape(len(values), -1).sum(axis=1))


def _far_enough(shape: tuple[int, ...]) -> Mask:
    """Return the cyclic shifts that are long enough, as seen with `_STRIDE`."""
    steps = np.meshgrid(*[np.minimum(np.arange(n), n - np.arange(n)) for n in shape], indexing="ij")
    return np.asarray(np.max(steps, axis=0) * _STRIDE >= _SMALLEST_SHIFT)
