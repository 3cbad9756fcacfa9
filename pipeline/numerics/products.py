"""Matrix products whose last digits no number of threads changes.

A library of linear algebra (BLAS) adds in another order where it shares a product out to threads. `einsum` never does,
but takes up to ten times as long. Last digits of a row may depend on how many rows there are: where each pixel must
come out the same in any company, use `einsum`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dtrsv
from threadpoolctl import ThreadpoolController

_Real = TypeVar("_Real", np.float32, np.float64)

_BUFFERS = 3 * 2**25
"""Bytes of a buffer of NumPy's library and one of SciPy's, and of one more."""
_WIDE = 512
"""Rows of a matrix for which libraries use their buffers."""


def inner(left: NDArray[_Real], right: NDArray[_Real]) -> NDArray[_Real]:
    """Return the sums of products of each row with each row.

    Args:
        left: float32 or float64 `(i, n)`.
        right: of the same type, `(j, n)`.

    Returns:
        `(i, j)` of this type.

    >>> inner(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 1.0]])).tolist()
    [[3.0], [7.0]]
    """
    with one_thread():
        product: NDArray[_Real] = np.inner(left, right)
    return product


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which linear algebra works in one thread."""
    limited: AbstractContextManager[Any] = _pools().limit(limits=1)
    return limited


@lru_cache(maxsize=1)
def _pools() -> ThreadpoolController:
    _take_buffers()
    return ThreadpoolController()


def _take_buffers() -> None:
    """Let the libraries of linear algebra take their buffers as long as there is memory for them.

    OpenBLAS keeps a buffer of 32 MiB once it has one, and asks for it again and again, without end, where it is
    refused.

    Raises:
        MemoryError: it would be.
    """
    np.empty(_BUFFERS, dtype=np.uint8)
    some = np.eye(_WIDE)
    np.dot(some, some)
    dtrsv(some, some[0])
