"""The evidence of hazy pixels: what they show without the haze, thin cloud or shadow over them, as the survey found."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.masks.base import HAZY


def without_haze(values: NDArray[Any], states: NDArray[np.uint8], haze: zarr.Array | None, box: Box) -> NDArray[Any]:
    """Return the values of `box` with the haze taken off the hazy pixels; the others as they are.

    Args:
        values: `(c, *box.shape)`, in data units, less a constant or not.
        states: `(n_state, *box.shape)`.
        haze: amounts `(k, *spatial)` with the attribute `spectrum`, see `WorkFolder.haze`; None = there is none.
        box: where.
    """
    hazy = states == HAZY
    if haze is None or not hazy.any():
        return values
    spectra = np.atleast_2d(np.asarray(haze.attrs["spectrum"], dtype=np.float32))
    added = np.einsum("kc,k...->c...", spectra, np.asarray(haze[box.at()]))
    return np.where(hazy, values - added, values)
