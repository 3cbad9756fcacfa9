r"""The global patch lattice: where patches lie and how their predictions blend to exactly 1.

Patch `k` of an axis covers `[k*S - o, k*S - o + P)` with stride `S = P - o`, anchored to the image origin and
never shifted or re-spaced, so the set of patches over a pixel does not depend on image cuts or blocks::

    o = b + 2m        |<-- m -->|<-- b -->|<-- m -->|
    patch k     ...=============\_________|            weight falls from 1 to 0 over the blend band b
    patch k+1             |_________////==============   and rises by the complement in patch k+1

The margin `m` of every patch is context only: weight 0. Weights are float64 multiples of 2^-16, so the two
weights over a pixel sum to exactly 1 and no count map or division is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box

_QUANTUM = 2.0**-16


@lru_cache(maxsize=64)
def axis_weights(size: int, overlap: int) -> NDArray[np.float64]:
    """Return the blend weight, 0 to 1, of each position of a patch along one axis, `(size,)`.

    The middle half of the overlap is the blend band (smoothstep), the outer quarters are margin (weight 0).
    Shifting by `size - overlap` and adding gives exactly 1 everywhere.
    """
    margin = overlap // 4
    band = overlap - 2 * margin
    ramp = (np.arange(band) + 0.5) / max(band, 1)
    ramp = np.round((ramp * ramp * (3 - 2 * ramp)) / _QUANTUM) * _QUANTUM
    weights = np.ones(size, dtype=np.float64)
    weights[:margin] = 0.0
    weights[margin : margin + band] = ramp
    weights[size - overlap : size] = 1.0 - weights[:overlap]
    weights.setflags(write=False)
    return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """All patches of one image.

    Attributes:
        shape: spatial shape of the image.
        patch: patch extent on each axis in pixels.
        overlap: patch minus stride on each axis; at most half the patch.
    """

    shape: tuple[int, ...]
    patch: tuple[int, ...]
    overlap: tuple[int, ...]

    def __post_init__(self) -> None:
        for axis, (p, o) in enumerate(zip(self.patch, self.overlap, strict=True)):
            if not 0 <= o <= p // 2:
                raise ValueError(f"overlap {o} on axis {axis} must lie between 0 and half the patch size {p}")

    @property
    def stride(self) -> tuple[int, ...]:
        """Lattice step on each axis."""
        return tuple(p - o for p, o in zip(self.patch, self.overlap, strict=True))

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of lattice positions whose weight support touches the image, on each axis."""
        return tuple(len(self._touching(axis, 0, self.shape[axis])) for axis in range(len(self.shape)))

    def box(self, index: tuple[int, ...]) -> Box:
        """Return the (unclipped) box of patch `index`; it may reach out of the image."""
        start = tuple(k * s - o for k, s, o in zip(index, self.stride, self.overlap, strict=True))
        return Box(start, tuple(a + p for a, p in zip(start, self.patch, strict=True)))

    def support(self, index: tuple[int, ...]) -> Box:
        """Return the part of the image where the weight of patch `index` is above 0."""
        box = self.box(index)
        margin = tuple(o // 4 for o in self.overlap)
        return box.grow(tuple(-m for m in margin)) & Box.whole(self.shape)

    def touching(self, box: Box) -> Iterator[tuple[int, ...]]:
        """Yield, in lexicographic order, the index of every patch whose support meets `box`."""
        inside = box & Box.whole(self.shape)
        axes = [self._touching(axis, inside.start[axis], inside.stop[axis]) for axis in range(box.ndim)]
        yield from product(*axes)

    def weights(self, index: tuple[int, ...], box: Box) -> NDArray[np.float64]:
        """Return the separable weight of patch `index` over `box`, shape `box.shape`; 0 outside the patch."""
        patch = self.box(index)
        result = np.ones((1,) * box.ndim, dtype=np.float64)
        for axis in range(box.ndim):
            line = np.zeros(box.shape[axis], dtype=np.float64)
            lo = max(patch.start[axis], box.start[axis])
            hi = min(patch.stop[axis], box.stop[axis])
            if hi > lo:
                w = axis_weights(self.patch[axis], self.overlap[axis])
                line[lo - box.start[axis] : hi - box.start[axis]] = w[lo - patch.start[axis] : hi - patch.start[axis]]
            shape = [1] * box.ndim
            shape[axis] = -1
            result = result * line.reshape(shape)
        return result

    def _touching(self, axis: int, start: int, stop: int) -> range:
        if stop <= start:
            return range(0)
        stride, overlap, size = self.stride[axis], self.overlap[axis], self.patch[axis]
        margin = overlap // 4
        # support of patch k: [k*S - o + m, k*S - o + P - m)
        first = -(-(start + 1 + overlap - size + margin) // stride)
        last = (stop - 1 + overlap - margin) // stride
        return range(first, last + 1)
