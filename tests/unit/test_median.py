"""The median is NumPy's, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.numerics.median import median


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (4, 1001), (3, 1000), (2, 3, 50_000)])
def test_is_that_of_numpy(shape: tuple[int, ...], dtype: type) -> None:
    """Odd and even numbers of values, also with many that are equal."""
    values: NDArray[np.float64] = np.random.default_rng(5).normal(1000.0, 300.0, shape).astype(dtype)
    for drawn in (values, np.rint(values / 100)):
        found = median(drawn)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.median(drawn, axis=-1))


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 3, -1])
@pytest.mark.parametrize("n", [8, 9])
def test_of_what_is_not_finite_too(odd: float, place: int, n: int) -> None:
    """Infinite values are sorted as numbers; one NaN makes the median NaN."""
    values = np.arange(2.0 * n).reshape(2, n)
    values[0, place] = odd
    np.testing.assert_array_equal(median(values), np.median(values, axis=-1))


def test_nothing_has_none() -> None:
    """As NumPy's, but without a warning."""
    assert np.isnan(median(np.empty((2, 0)))).tolist() == [True, True]
