"""Narrow gaps: missing pixels between two observed ones, as scan-line gaps and dropped slices are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def narrow_gaps(missing: NDArray[np.bool_], limits: Sequence[int]) -> NDArray[np.bool_]:
    """Return the missing pixels that lie in a narrow run between observed pixels along some axis.

    A run counts if an observed pixel ends it on both sides and it is at most `limits[axis]` pixels long. What
    lies outside the array ends nothing: frames and swath surroundings are no gaps, whatever their width.

    Args:
        missing: bool `(c, *spatial)`.
        limits: longest run per spatial axis, in pixels; a halo of as many pixels makes windows exact.
    """
    found = np.zeros_like(missing)
    for axis, limit in enumerate(limits, start=1):
        if limit >= 1:
            found |= missing & (_run_lengths(missing, axis) <= limit)
    return found


def _run_lengths(missing: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    size = missing.shape[axis]
    far = 2 * np.iinfo(np.int32).max
    shape = [1] * missing.ndim
    shape[axis] = size
    index = np.arange(size, dtype=np.int64).reshape(shape)
    before = np.maximum.accumulate(np.where(missing, -far, index), axis=axis)
    backwards = np.flip(np.where(missing, far, index), axis=axis)
    after = np.flip(np.minimum.accumulate(backwards, axis=axis), axis=axis)
    return np.asarray(after - before - 1)
