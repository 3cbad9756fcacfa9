"""Harmonic fill: the membrane (Laplace's equation) over each hole, i.e. the tension spline with `t = 0`.

Also known as: laplace, membrane, diffusion, heat.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.fills import tension
from pipeline.fills.base import Window

NDIM = tension.NDIM


def fill(window: Window, *, isotropic: bool = False) -> NDArray[np.float32]:
    """Fill the holes with the harmonic function of their rim; never outside the range of the valid pixels.

    Args:
        window: 2-D or 3-D window.
        isotropic: count length in voxels instead of `window.spacing`.

    Returns:
        float32 `(c, *spatial)`: observed values where valid, the membrane in holes, finite elsewhere.

    Raises:
        ValueError: the window cannot be filled; see the message.
    """
    return tension.fill(window, t=0.0, isotropic=isotropic)
