"""Nearest fill: every hole pixel takes the value of the nearest valid pixel of its channel.

Also known as: nearest neighbour, nearest neighbor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.fills._common import background, check
from pipeline.fills.base import Window
from pipeline.numerics.distance import inside_from

NDIM = (2, 3)


def fill(window: Window) -> NDArray[np.float32]:
    """Copy the nearest valid pixel (Euclidean distance in `window.spacing`).

    Args:
        window: 2-D or 3-D window.

    Returns:
        float32 `(c, *spatial)`: observed values where valid, copies in holes (the guess in channels without a
        valid pixel), finite elsewhere.

    Raises:
        ValueError: the window cannot be filled; see the message.
    """
    check(window, NDIM)
    result = background(window)
    for channels in window.hole_groups:
        valid, hole = window.valid[channels[0]], window.hole[channels[0]]
        if not valid.any():
            continue
        _, nearest = inside_from(~valid, window.spacing, hole)
        source = tuple(nearest)
        for channel in channels:
            result[channel][hole] = window.values[channel][source]
    return result
