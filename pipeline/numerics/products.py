"""Matrix products whose last digits no number of threads changes.

A library of linear algebra (BLAS) adds in another order where it shares a product out to threads. `einsum` never does,
but takes up to ten times as long. Last digits of a row may depend on how many rows there are: where each pixel must
come out the same in any company, use `einsum`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Field = NDArray[np.float64]


def inner(left: Field, right: Field) -> Field:
    """Return the sums of products of each row with each row.

    Args:
        left: float64 `(i, n)`.
        right: float64 `(j, n)`.

    Returns:
        float64 `(i, j)`.

    >>> inner(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 1.0]])).tolist()
    [[3.0], [7.0]]
    """
    with one_thread():
        product: Field = np.inner(left, right)
    return product


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which linear algebra works in one thread."""
    limited: AbstractContextManager[Any] = _pools().limit(limits=1)
    return limited


@lru_cache(maxsize=1)
def _pools() -> ThreadpoolController:
    return ThreadpoolController()
