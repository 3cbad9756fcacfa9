"""What is hidden where holes fit into one place only: the pixels beside them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.fills.base import Window
from pipeline.selftest.beside import beside

SHAPE = (96, 96)


def _window(hole: np.ndarray) -> Window:
    return Window(values=np.zeros(hole.shape, np.float32), valid=~hole, hole=hole, spacing=(1.0, 1.0))


@pytest.mark.parametrize(("depth", "rows"), [(12.0, range(10, 22)), (80.0, range(10, 53))])
def test_pixels_beside_are_hidden_as_deep_as_holes_or_as_half_allows(depth, rows):
    """Beside a margin of 10 rows, 12 rows are as deep as asked; of 86 observed ones no more than 43 are hidden."""
    hole = np.zeros((1, *SHAPE), bool)
    hole[0, :10] = True
    hidden = beside(_window(hole), depth, np.zeros_like(hole))
    assert np.flatnonzero(hidden[0].all(axis=1)).tolist() == list(rows)
    assert hidden.sum() == 96 * len(rows)


def test_what_was_hidden_before_is_not_hidden_beside_again():
    """The next pixels beside a hole are those behind the ones that were hidden."""
    hole, before = np.zeros((2, 1, *SHAPE), bool)
    hole[0, :10] = before[0, 10:30] = True
    hidden = beside(_window(hole), 40.0, before)
    assert np.flatnonzero(hidden[0].any(axis=1)).tolist() == list(range(30, 50))
