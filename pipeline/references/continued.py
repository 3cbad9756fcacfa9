"""Beside what a guide shows: what it changes there goes on, fading, into the hole pixels that it does not see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.numerics.alike import alike
from pipeline.numerics.distance import inside
from pipeline.references.guided import interpolate

_WIDTH = 8.0
"""Deviation of the Gaussian over which a change fades, in steps of the finest axis: what a fill is off by at two places
is the less alike the farther they are apart. Level at its top, so no edge shows where the guide ends."""

_FARTHEST = 3.5
"""Deviations beyond which nothing is left of it."""


def continued(step: NDArray[np.float32], usable: NDArray[np.bool_], window: Window) -> NDArray[np.float32]:
    """Return what a guide changes, and what follows from it for the hole pixels that it does not see.

    What stood there before is off by about as much as beside it. So the change is interpolated between its values where
    the guide is usable and none where the image is observed (the membrane of seamless cloning: Perez, Gangnet & Blake
    2003, doi:10.1145/882262.882269), and fades with distance from the former. No seam shows where the guide ends.

    Args:
        step: float32 `(c, *spatial)`, what is added to what came before, data units.
        usable: bool `(c, *spatial)`, hole pixels where the guide had something to say.
        window: the window, with its holes.

    Returns:
        float32 `(c, *spatial)`: `step` where usable, 0 outside holes.
    """
    result = np.where(usable, step, np.float32(0))
    unseen = window.hole & ~usable
    if not unseen.any() or not result.any():
        return result
    sampling = [own / min(window.spacing) for own in window.spacing]
    for channels in alike(window.valid, window.hole, usable):
        first = channels[0]
        if not usable[first].any() or not unseen[first].any():
            continue
        away = inside(~usable[first], sampling)
        asked = unseen[first] & (away <= _FARTHEST * _WIDTH)
        even = np.zeros((1, *asked.shape), dtype=np.float32)
        known = window.valid[first] | usable[first]
        between = interpolate(result[channels].astype(np.float64), known, asked, even, window.spacing)
        faded = between * np.exp(-0.5 * np.square(away / _WIDTH))
        result[channels] = np.where(asked, faded, result[channels])
    return result
