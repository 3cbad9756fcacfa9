"""Pixels and those around them are mostly of one kind (hidden Markov random field, by mean field)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

_TOGETHER = 4.0
"""Logarithm of the odds that neighbours speak for if they all are of one kind."""

_SWEEPS = 8
"""Times that neighbours are asked."""

_UNLIKELY = -60.0
"""Logarithm of the odds below which a kind is as good as impossible."""


def by_neighbours(odds: Field, told: Mask) -> Field:
    """Return the probability of each kind, 0 to 1, `(kinds, *spatial)`: pixels and those around should be of one kind.

    Args:
        odds: logarithm of how likely each kind is by the pixel alone, `(kinds, *spatial)`.
        told: bool `spatial`, pixels that have a say.
    """
    heard = np.float32(_TOGETHER) / np.maximum(_around(told.astype(np.float32)), np.float32(1e-6))
    alone = odds.astype(np.float32)
    share = total = alone
    for sweep in range(_SWEEPS):
        if sweep:
            others = np.stack([_around(np.where(told, part, np.float32(0))) for part in share[1:]]) * heard
            # those who do not speak for any other kind speak for the first
            total = alone + np.concatenate([_TOGETHER - others.sum(axis=0, keepdims=True), others])
        # the smallest numbers there are take a hundred times as long as others
        share = np.exp(np.maximum(total - total.max(axis=0), np.float32(_UNLIKELY)))
        share /= share.sum(axis=0)
    return share.astype(np.float64)


def _around(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return means over squares of three pixels, those at an edge counted twice beyond it."""
    for axis, extent in enumerate(values.shape):
        rows = np.moveaxis(values, axis, 0)
        total = rows.copy(order="K")
        total[1:] += rows[:-1]
        total[:-1] += rows[1:]
        total[0] += rows[0]
        total[extent - 1] += rows[extent - 1]
        values = np.moveaxis(total, 0, axis)
    return np.asarray(values / np.float32(3**values.ndim))
