"""How much haze there is: what falls with the distance from the holes, told apart from ground that differs there.

Along the spectrum of haze an image shows ground and haze. Ground differs from its expectation by a stationary Gaussian
process whose covariance clear pixels tell: broad differences are usual for it. Haze is an amount that falls with the
distance d from the holes as exp(-(d / length) ^ power), times 1 plus a Gaussian process: it is patchy. Level of the
ground and usual amount follow by generalised least squares, how patchy it is from the covariance that is left near the
holes, and the amount of a pixel is its posterior mean (universal kriging: Cressie 1993, Statistics for Spatial Data,
3.4; Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, 2.7). So a difference that does not fall as
haze does remains the ground's. Covariances are applied by Fourier transform, systems solved by conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.optimize import nnls
from scipy.sparse.linalg import LinearOperator, cg

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

_STRIDE = 2
"""Edge of the squares of pixels whose means are looked at; what is looked for is smooth."""

_LENGTHS = (3.0, 4.0, 5.0, 6.0, 7.5, 9.0, 11.0, 14.0, 18.0, 23.0)
"""Distances over which haze may fall, pixels."""

_POWERS = (1.0, 2.0)
"""Powers of the distance: haze that falls exponentially, and with a shoulder."""

_GROUND = (1.5, 3.0, 6.0, 12.0, 24.0)
"""Lengths of the exponential covariances that make up that of the ground, pixels."""

_PATCHES = (4.0, 8.0, 16.0, 32.0)
"""The same of the relative amount of haze."""

_FARTHEST_LAG = 40
"""Distance up to which covariances are looked at, pixels."""

_NEAR_LAG = 6.0
"""Distance at which a covariance counts half as much as a variance: far ones come from few independent pixels."""

_NUGGET = 0.02
"""Least share of the variance of the ground that differs from pixel to pixel: systems could not be solved without."""

_LEVEL = 0.25
"""Variance of the level of the ground around the holes, as a share of that of the ground."""

_LOWEST = 6.0
"""Standard deviations of the ground below which nothing counts lower."""

_HAZY = 0.15
"""Share of the amount beside a hole from which pixels tell how patchy haze is."""

_MOST_WINDOWS = 6
"""Windows that tell how haze falls."""

_ROUNDS = 2
"""Times that patches are told."""

_ROUGH, _FINE, _MOST_STEPS = 1e-3, 1e-4, 600
"""Relative residuals at which systems are solved that tell how haze falls, and amounts; the most steps that takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Along:
    """A window along the spectrum of haze.

    Attributes:
        values: differences from the ground as amounts of haze, `(rows, cols)`.
        told: bool `(rows, cols)`, where they are known.
        clear: bool `(rows, cols)`, known pixels without haze.
        distance: to the nearest hole, pixels, `(rows, cols)`.
    """

    values: Field
    told: Mask
    clear: Mask
    distance: Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Decay:
    """How haze falls with distance, and how ground and haze vary; all but lengths in units of the amount.

    Attributes:
        beside: usual amount beside a hole.
        length: distance over which it falls, pixels.
        power: of the distance.
        level: of the ground around the holes.
        ground: variances of the ground, the first from pixel to pixel, then one for each of `_GROUND`.
        patches: variances of the relative amount, one for each of `_PATCHES`.
    """

    beside: float
    length: float
    power: float
    level: float
    ground: tuple[float, ...]
    patches: tuple[float, ...] = (0.0,) * len(_PATCHES)

    def usual(self, distance: Field) -> Field:
        """Return the usual amount at distances from the holes."""
        return np.asarray(self.beside * np.exp(-((distance / self.length) ** self.power)))

    def reach_px(self, least: float) -> float:
        """Return the distance up to which the usual amount is larger than `least`, pixels."""
        return float(self.length * np.log(max(self.beside / least, 1.0)) ** (1 / self.power))

    def amount(self, window: Along) -> Field:
        """Return the amount of haze, `(rows, cols)`, never negative; meaningful where it is told."""
        coarse = _Coarse.of(window, self)
        usual = self.usual(coarse.distance) * coarse.told
        system = _System(coarse.told, self, usual)
        weights = system.solve(np.asarray((coarse.values - self.level - usual) * coarse.told, dtype=np.float64), _FINE)
        relative = ndimage.zoom(system.patches(weights), _STRIDE, order=1, mode="nearest", grid_mode=True)
        rows, cols = window.told.shape
        return np.asarray(np.maximum(self.usual(window.distance) * (1 + relative[:rows, :cols]), 0.0))


def fit_decay(windows: Sequence[Along]) -> Decay | None:
    """Return how haze falls with the distance from the holes; None if nothing does.

    Args:
        windows: of the image.
    """
    ground = _ground_of(windows)
    flat = Decay(beside=0.0, length=1.0, power=1.0, level=0.0, ground=ground)
    some = [_Coarse.of(window, flat) for window in windows[:: -(-len(windows) // _MOST_WINDOWS)]]
    systems = [_System(coarse.told, flat, np.zeros(coarse.told.shape)) for coarse in some]
    solved = [
        (system.solve(c.told.astype(np.float64)), system.solve(c.values))
        for system, c in zip(systems, some, strict=True)
    ]
    found: list[tuple[float, Decay]] = []
    for length, power in product(_LENGTHS, _POWERS):
        shape = replace(flat, beside=1.0, length=length, power=power)
        found.append(_least_squares(shape, some, systems, solved))
    explained, decay = max(found, key=lambda pair: pair[0])
    if explained <= 0:
        return None
    for _ in range(_ROUNDS):
        decay = replace(decay, patches=_patches_of(decay, some))
        systems = [_System(c.told, decay, decay.usual(c.distance) * c.told) for c in some]
        solved = [
            (system.solve(c.told.astype(np.float64)), system.solve(c.values))
            for system, c in zip(systems, some, strict=True)
        ]
        explained, decay = _least_squares(decay, some, systems, solved)
        if explained <= 0:
            return None
    return decay


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coarse:
    """A window in squares of `_STRIDE` pixels: mean values, 0 where none is told, mean distances, and where any is."""

    values: Field
    distance: Field
    told: Mask

    @classmethod
    def of(cls, window: Along, decay: Decay) -> _Coarse:
        values, count = _means(window.values, window.told)
        distance, _ = _means(window.distance, window.told)
        lowest = -_LOWEST * np.sqrt(sum(decay.ground))
        return cls(values=np.maximum(values, lowest), distance=distance, told=count > 0)


class _System:
    """Covariance of what is told of a window: that of the ground, and that of patches where haze is usual."""

    def __init__(self, told: Mask, decay: Decay, usual: Field) -> None:
        self._told, self._usual = told, usual
        self._size = [fft.next_fast_len(n + _FARTHEST_LAG // _STRIDE, real=True) for n in told.shape]
        steps = [np.minimum(np.arange(n), n - np.arange(n)) * _STRIDE for n in self._size]
        self._lag = np.hypot(steps[0][:, None], steps[1])
        self._nugget = max(decay.ground[0], _NUGGET * sum(decay.ground))
        self._ground = self._transform(decay.ground[1:], _GROUND)
        self._patches = self._transform(decay.patches, _PATCHES) if usual.any() and any(decay.patches) else None
        mean = 0.0 if self._patches is None else float((usual**2).mean()) * self._patches
        self._inverse = 1 / (self._ground + self._nugget + mean)

    def _transform(self, variances: Sequence[float], lengths: Sequence[float]) -> Field:
        kernel = sum(v * np.exp(-self._lag / length) for v, length in zip(variances, lengths, strict=True))
        return np.asarray(np.maximum(fft.rfft2(kernel).real, 0.0), dtype=np.float64)

    def _blurred(self, values: Field, transform: Field) -> Field:
        rows, cols = self._told.shape
        return np.asarray(fft.irfft2(fft.rfft2(values, self._size) * transform, self._size)[:rows, :cols])

    def patches(self, weights: Field) -> Field:
        """Return the covariance of the relative amount with what is told, times weights."""
        if self._patches is None:
            return np.zeros(self._told.shape)
        return self._blurred(self._usual * weights, self._patches)

    def _times(self, flat: Field) -> Field:
        values = flat.reshape(self._told.shape)
        product = self._blurred(values, self._ground) + self._nugget * values + self._usual * self.patches(values)
        return np.asarray((product * self._told).ravel())

    def _nearly_solved(self, flat: Field) -> Field:
        """Solve as if all were told and haze the same everywhere, which takes one step."""
        return np.asarray((self._blurred(flat.reshape(self._told.shape), self._inverse) * self._told).ravel())

    def solve(self, values: Field, accuracy: float = _ROUGH) -> Field:
        """Return what times the covariance is `values`, which are 0 where nothing is told."""
        square = (values.size, values.size)
        found, _ = cg(
            LinearOperator(square, self._times),
            values.ravel(),
            rtol=accuracy,
            maxiter=_MOST_STEPS,
            M=LinearOperator(square, self._nearly_solved),
        )
        return np.asarray(found.reshape(values.shape))


def _least_squares(
    decay: Decay, some: Sequence[_Coarse], systems: Sequence[_System], solved: Sequence[tuple[Field, Field]]
) -> tuple[float, Decay]:
    """Return a decay with the level and the amount that fit best, and how much these explain; 0 if haze is negative.

    `solved` has the solutions for a constant and for the values of each window.
    """
    normal, right = np.zeros((2, 2)), np.zeros(2)
    normal[0, 0] = 1 / (_LEVEL * sum(decay.ground[1:]) + 1e-12)
    for coarse, system, (level, values) in zip(some, systems, solved, strict=True):
        shape = decay.usual(coarse.distance) * coarse.told
        own = system.solve(shape)
        normal += [
            [(level * coarse.told).sum(), (own * coarse.told).sum()],
            [(shape * level).sum(), (shape * own).sum()],
        ]
        right += [(values * coarse.told).sum(), (values * shape).sum()]
    best = np.linalg.solve((normal + normal.T) / 2, right)
    explained = float(right @ best) if best[1] > 0 else 0.0
    return explained, replace(decay, level=float(best[0]), beside=float(best[1]) * decay.beside)


def _ground_of(windows: Sequence[Along]) -> tuple[float, ...]:
    """Return the variances of the ground: from pixel to pixel, and one for each of `_GROUND`."""
    parts = []
    for window in windows:
        values, count = _means(window.values, window.clear)
        parts.append((values, count == _STRIDE**2))
    every = np.concatenate([values[full] for values, full in parts])
    limit = 4 * 1.4826 * float(np.median(np.abs(every))) if every.size else 0.0
    sums = [
        _at_lags(np.asarray(np.clip(values, -limit, limit) * full, dtype=np.float64), full.astype(np.float64))
        for values, full in parts
    ]
    products, counts = np.sum(sums, axis=0)
    lag = np.arange(counts.size) * _STRIDE
    kernels = np.stack([lag == 0, *(np.exp(-lag / length) for length in _GROUND)], axis=1).astype(np.float64)
    return _variances(products / np.maximum(counts, 1.0), counts, kernels)


def _patches_of(decay: Decay, some: Sequence[_Coarse]) -> tuple[float, ...]:
    """Return the variances of the relative amount, from what the ground does not explain of those near the holes."""
    sums = []
    for coarse in some:
        usual = decay.usual(coarse.distance)
        near = coarse.told & (usual > _HAZY * decay.beside)
        left = (coarse.values - decay.level - usual) * near
        sums.append(
            [
                *_at_lags(np.asarray(left, dtype=np.float64), near.astype(np.float64)),
                _at_lags(usual * near, near.astype(np.float64))[0],
            ]
        )
    products, counts, squares = np.sum(sums, axis=0)
    lag = np.arange(counts.size) * _STRIDE
    ground = decay.ground[0] * (lag == 0)
    ground = ground + sum(v * np.exp(-lag / length) for v, length in zip(decay.ground[1:], _GROUND, strict=True))
    kernels = np.stack([np.exp(-lag / length) * squares / np.maximum(counts, 1.0) for length in _PATCHES], axis=1)
    return _variances(products / np.maximum(counts, 1.0) - ground, counts, kernels)


def _variances(covariance: Field, counts: Field, kernels: Field) -> tuple[float, ...]:
    """Return the non-negative shares of kernels `(lags, k)` that a covariance is made of."""
    weight = np.sqrt(counts) / (1 + np.arange(counts.size) * _STRIDE / _NEAR_LAG)
    found, _ = nnls(kernels * weight[:, None], covariance * weight)
    return tuple(found.tolist())


def _at_lags(values: Field, counted: Field) -> tuple[Field, Field]:
    """Return the sums of products of all pairs at each distance, in strides, and the numbers of pairs."""
    most = _FARTHEST_LAG // _STRIDE
    size = [fft.next_fast_len(n + most, real=True) for n in values.shape]
    steps = [np.minimum(np.arange(n), n - np.arange(n)) for n in size]
    lag = np.rint(np.hypot(steps[0][:, None], steps[1])).astype(np.intp)
    some = lag < most
    sums = [
        np.bincount(lag[some], fft.irfft2(np.abs(fft.rfft2(part, size)) ** 2, size)[some], most)
        for part in (values, counted)
    ]
    return np.asarray(sums[0], dtype=np.float64), np.asarray(sums[1], dtype=np.float64)


def _means(values: Field, some: Mask) -> tuple[Field, Field]:
    """Return the means of some pixels in squares of `_STRIDE`, 0 where there are none, and their numbers."""
    edges = [(0, -n % _STRIDE) for n in some.shape]
    rows, cols = (n + more for n, (_, more) in zip(some.shape, edges, strict=True))
    sums, counts = (
        np.pad(part, edges).reshape(rows // _STRIDE, _STRIDE, cols // _STRIDE, _STRIDE).sum(axis=(1, 3))
        for part in (np.where(some, values, 0.0), some.astype(np.float64))
    )
    return sums / np.maximum(counts, 1.0), counts
