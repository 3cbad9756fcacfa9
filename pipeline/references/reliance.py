"""How much of a reference is blended in: by its own reliability, by that of the region around, and by distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]

RELIABILITY = (0.0, 0.25, 0.5, 0.75, 1.0)
REACH = (2.0, 16.0)
_REGION = 16.0
"""Deviation of the Gaussian that a region is seen through, in steps of the finest axis: about the size of a cloud."""
_RAMP = 0.15
"""Reliability of the region below the gate over which the weight falls to nothing."""
_CERTAIN = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliance:
    """How much of a reference is blended in, by what it says of its own reliability, by kind of hole and by distance.

    Attributes:
        near: weights at `RELIABILITY` beside observed pixels (up to the first of `REACH`) in wide holes.
        far: weights far from them (at the second); in between linear in log distance, beyond it they rise toward 1.
        thin: weights at `RELIABILITY` in thin holes, where the base fill is hard to beat; None = as `near`.
        gate: reliability of the region around a pixel from which these weights hold; below it they fall to 0.
        limit: largest step from what came before that is taken in full, in local standard deviations; None = any.
        untested: the weights are over a fill, whatever came before; references share a pixel, see `shared`.
    """

    near: tuple[float, ...]
    far: tuple[float, ...]
    thin: tuple[float, ...] | None = None
    gate: float = 0.0
    limit: float | None = None
    untested: bool = False

    @property
    def highest(self) -> float:
        """Return the largest weight."""
        return max(*self.near, *self.far, *(self.thin or ()))

    def at(self, reliability: Array, distance: Array, thin: Array) -> Array:
        """Return the weight of each pixel in a region that is reliable; `thin` is its share in thin holes."""
        if len({*self.near, *self.far, *(self.thin or ())}) == 1:
            return np.full(reliability.shape, self.near[0], dtype=np.float32)
        low, high = (np.interp(reliability, RELIABILITY, row) for row in (self.near, self.far))
        share = np.interp(np.log2(np.maximum(distance, 0.5)), np.log2(REACH), (0.0, 1.0))
        weight = low + share * (high - low)
        # what a fill is off grows with distance, also beyond what can be tested; what another date is off does not
        weight = weight ** np.sqrt(REACH[1] / np.maximum(distance, REACH[1]))
        if self.thin is not None:
            weight += thin * (np.interp(reliability, RELIABILITY, self.thin) - weight)
        return np.asarray(weight, dtype=np.float32)

    def open(self, around: Array) -> Array:
        """Return how far the gate is open, 0 to 1; `around` is the reliability of the region, see `region`."""
        if self.gate == 0:
            return np.ones(around.shape, dtype=np.float32)
        opened: Array = np.clip((around - np.float32(self.gate)) / np.float32(_RAMP) + 1, 0, 1).astype(np.float32)
        return opened


UNUSED = Reliance(near=(0.0,) * len(RELIABILITY), far=(0.0,) * len(RELIABILITY))


def shared(weight: Array, reliability: Array, said: Array) -> tuple[Array, Array]:
    """Return the weight of one more reference among those that lead untested, and what all count together.

    Each counts as the inverse of the squared error that it expects, so that none stands over the others because it
    comes later.

    Args:
        weight: `(c, *spatial)`, its weight over a fill alone.
        reliability: its own, not relative to the others.
        said: what the references before it count together; 0 where there is none.
    """
    sure = np.clip(reliability.astype(np.float64), _CERTAIN, 1 - _CERTAIN)
    own = weight * np.sqrt(sure / (1 - sure))
    together = own + said
    share = np.divide(own, together, out=np.ones_like(together), where=(own > 0) & (said > 0))
    return (weight * share).astype(np.float32), together.astype(np.float32)


def region(reliability: Array, usable: NDArray[np.bool_], spacing: Sequence[float]) -> Array:
    """Return the reliability of the region around each pixel: the mean log odds of all channels, seen through a blur.

    A cloud or a felled wood is larger than a pixel and hides in all bands. Which single pixels of a region are good
    is told less surely than whether the region is.

    Args:
        reliability: `(c, *spatial)` in [0, 1].
        usable: bool `(c, *spatial)`, pixels that count.
        spacing: step per axis.

    Returns:
        float32 `(c, *spatial)`, 0 where not usable.
    """
    if not usable.any():
        return np.zeros(reliability.shape, dtype=np.float32)
    sure = np.clip(reliability.astype(np.float64), _CERTAIN, 1 - _CERTAIN)
    count = usable.sum(axis=0)
    level = np.where(usable, np.log(sure / (1 - sure)), 0.0).sum(axis=0) / np.maximum(count, 1)
    widths = [_REGION * min(spacing) / step for step in spacing]
    there = (count > 0).astype(np.float64)
    total = ndimage.gaussian_filter(level * there, widths, mode="constant")
    mean = total / np.maximum(ndimage.gaussian_filter(there, widths, mode="constant"), 1e-12)
    return np.asarray(np.where(usable, 1.0 / (1.0 + np.exp(-mean)), 0.0), dtype=np.float32)
