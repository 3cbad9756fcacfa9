"""Values at the ends of the range that many pixels have.

Far from all others they look like nodata that nobody declared (-9999, 65535), next to others like a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_REPEATS = 5
"""A value that stands in fewer sampled pixels may be an outlier, for each pixel that a measurement fills."""
_NEIGHBOURS = 10
"""Values next to the end that tell how many pixels a measurement fills: more than one on a finer grid than its own."""
_BULK = (0.01, 0.99)
_PILED = 0.01
"""Share of pixels that have a value at the end: without a limit far fewer do."""
_VALUES = 10
"""Images of fewer values than these are classes or masks, in which every value stands alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoneEnd:
    """A value at the end of the range, the share of pixels that have it, and the value next to it."""

    value: float
    share: float
    next: float


def lone_end(sample: NDArray[Any]) -> LoneEnd | None:
    """Return the smallest or largest value of a sample if it repeats, further from the others than these are spread.

    It repeats if it is as frequent as five of the values next to it: a single measurement of a coarse band fills many
    pixels of a finer grid, and is no more often there than its neighbours.

    Args:
        sample: observed values of a channel, stored dtype, 1-D.
    """
    finite = sample[np.isfinite(sample)]
    values, counts = np.unique(finite, return_counts=True)
    if len(values) <= _VALUES:
        return None
    for end, beside, near in ((0, 1, slice(1, _NEIGHBOURS + 1)), (-1, -2, slice(-_NEIGHBOURS - 1, -1))):
        gap = abs(float(values[beside]) - float(values[end]))
        low, high = np.quantile(finite[finite != values[end]].astype(np.float64), _BULK)
        if counts[end] >= _REPEATS * np.median(counts[near]) and gap > high - low:
            share = float(counts[end] / counts.sum())
            return LoneEnd(value=values[end].item(), share=share, next=float(values[beside]))
    return None


def piled_ends(sample: NDArray[Any]) -> tuple[bool, bool]:
    """Say whether values pile up at the smallest and at the largest one: no rain, full cover, an empty background.

    They do if one pixel in a hundred and five have it, and it is as frequent as five of the values next to it.

    Args:
        sample: observed values of a channel, stored dtype, 1-D, at least one.
    """
    _, counts = np.unique(sample, return_counts=True)
    fewest = max(_REPEATS, _PILED * counts.sum())
    low, high = (
        len(counts) > 1 and counts[end] >= max(fewest, _REPEATS * np.median(counts[near]))
        for end, near in ((0, slice(1, _NEIGHBOURS + 1)), (-1, slice(-_NEIGHBOURS - 1, -1)))
    )
    return bool(low), bool(high)
