"""Linear interpolation between the centres of cells that pixels were taken together to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Between = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]


def between(n: int, cell: int, cells: int) -> Between:
    """Return the two cells that each of n pixels of an axis lies between, and the share of the second one, `(n,)` each.

    Args:
        n: pixels along the axis.
        cell: pixels that a cell has there.
        cells: their number; beyond the centre of the outermost ones that one counts alone.

    >>> [part.tolist() for part in between(4, 2, 2)]
    [[0, 0, 0, 1], [1, 1, 1, 1], [0.0, 0.25, 0.75, 0.0]]
    """
    place = np.clip((np.arange(n) + 0.5) / cell - 0.5, 0.0, cells - 1)
    low = place.astype(np.intp)
    return low, np.minimum(low + 1, cells - 1), place - low
