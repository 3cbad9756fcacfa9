"""One number a channel, shaped so that it meets every pixel of its channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def column(values: Sequence[float] | NDArray[Any], ndim: int, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Return one number a channel as an array `(c, 1, ..., 1)` with `ndim` spatial axes.

    Args:
        values: `(c,)`.
        ndim: spatial dimensions of what it is to meet, `(c, *spatial)`.
        dtype: of the result; None = that of `values`.

    >>> column([1.0, 2.0], 2).shape
    (2, 1, 1)
    """
    return np.asarray(values, dtype=dtype).reshape((-1,) + (1,) * ndim)
