"""How sure a score is, by drawing holes, places or subjects again: the cluster bootstrap.

Davison and Hinkley 1997, Bootstrap Methods and their Application, chapter 3.8: groups are drawn with replacement, what
belongs to one stays together. Intervals hold 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_ENDS = (2.5, 97.5)


def draws(groups: int, folds: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of the groups drawn in each of `folds` resamplings, `(groups,)` each."""
    rng = np.random.default_rng(seed)
    for _ in range(folds):
        yield rng.integers(groups, size=groups)


def counts(groups: int, folds: int, seed: int) -> NDArray[np.float64]:
    """Return how often each group counts, `(1 + folds, groups)`: once in the first row, as drawn in the others.

    With one group nothing is known of how scores vary: its only row is the first.
    """
    drawn = [np.bincount(some, minlength=groups) for some in draws(groups, folds if groups > 1 else 0, seed)]
    return np.stack([np.ones(groups, dtype=np.int64), *drawn]).astype(np.float64)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval of a score over resamplings `(folds,)`; NaN without any that gave one."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.percentile(finite, _ENDS)
    return float(low), float(high)
