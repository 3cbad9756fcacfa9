"""What is hidden where the holes of an image fit into one place only: the pixels beside them."""

from __future__ import annotations

import numpy as np

from pipeline.fills.base import Window
from pipeline.numerics.distance import inside
from pipeline.selftest.shapes import Mask

_MOST = 0.5
"""Share of a window's observed pixels that is hidden at a time, the nearest first: what is left must still tell."""


def beside(window: Window, depth: float, before: Mask) -> Mask:
    """Return observed pixels beside the holes of an image that were not hidden before, bool `(c, *spatial)`.

    They reach as far from the holes as these are deep, or as half of the observed pixels do: a hole that takes most of
    an image is tested as deep as what is left allows.

    Args:
        window: of an image.
        depth: how deep the holes are, pixels.
        before: bool `(c, *spatial)`, what was hidden in other tests.
    """
    away = np.broadcast_to(inside(np.asarray(~window.hole.any(axis=0))), window.valid.shape)
    left = window.valid & ~before
    near, most = away[left], int(_MOST * window.valid.sum())
    reach = min(depth, float(np.partition(near, most - 1)[most - 1])) if near.size > most else depth
    return np.asarray(left & (away <= reach))
