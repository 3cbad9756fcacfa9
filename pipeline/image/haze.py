"""The evidence of hazy pixels: what they show without the haze over them, as the survey found it."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.masks.base import HAZY
from pipeline.numerics.column import column


def without_haze(values: NDArray[Any], states: NDArray[np.uint8], haze: zarr.Array | None, box: Box) -> NDArray[Any]:
    """Return the values of `box` with the haze taken off the hazy pixels; the others as they are.

    Args:
        values: `(c, *box.shape)`, in data units, less a constant or not.
        states: `(n_state, *box.shape)`.
        haze: amount `(1, *spatial)` with the attribute `spectrum`, see `WorkFolder.haze`; None = there is none.
        box: where.
    """
    hazy = states == HAZY
    if haze is None or not hazy.any():
        return values
    added = np.asarray(haze[box.at()]) * column(haze.attrs["spectrum"], box.ndim, np.float32)
    return np.where(hazy, values - added, values)
