"""What a reference looks like around each pixel: its bands, sharp and blurred, and random waves of them.

Blurred bands tell haze, field borders and texture apart and forgive misregistration of a pixel; cosines of random
projections turn a linear fit into one of smooth non-linear functions (random Fourier features; Rahimi and Recht,
NIPS 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtri

from pipeline.numerics.column import column
from pipeline.numerics.products import inner

BLURS = (1.0, 3.0)
"""Widths of the blurred copies of the bands, in steps of the finest axis."""
WAVES = 128
"""Most random projections; half or twice as many differ by less than 0.05 dB on date pairs."""

_FAR = 6.0
"""Standardised values are clipped here, so a wild reference value is no wilder than the cloud that it may be."""
_FREQUENCY = 0.5
"""Standard deviation of the random projections; 0.4 to 1.2 differ by less than 0.1 dB."""


def context(
    reference: NDArray[np.float32], seen: NDArray[np.bool_], spacing: Sequence[float], grid: tuple[slice, ...] = ()
) -> NDArray[np.float32]:
    """Return the bands, then their blurred copies, `(bands * (1 + len(BLURS)), *spatial)`; 0 where not seen.

    Args:
        reference: float32 `(bands, *spatial)`.
        seen: bool `spatial`, pixels that count; the others are left out of the blurs.
        spacing: step per axis, only ratios matter.
        grid: a slice per axis: only these pixels are returned, as they are among all; () = all.
    """
    there, bands = seen[grid], len(reference)
    result = np.empty((bands * (1 + len(BLURS)), *there.shape), dtype=np.float32)
    blurs = []
    for blur in BLURS:
        widths = [blur * min(spacing) / step for step in spacing]
        share = ndimage.gaussian_filter(seen.astype(np.float32), widths, mode="nearest")[grid]
        blurs.append((widths, np.where(there, share, np.float32(1))))
    # band by band: all of them, blurred, take three times what they are
    for k, band in enumerate(reference):
        clean = np.where(seen, band, np.float32(0)).astype(np.float32)
        result[k] = clean[grid]
        for j, (widths, share) in enumerate(blurs, start=1):
            blurred = ndimage.gaussian_filter(clean, widths, mode="nearest")[grid]
            result[j * bands + k] = np.where(there, blurred / share, np.float32(0))
    return result


def standardised(part: NDArray[np.float32], centre: Sequence[float], scale: Sequence[float]) -> NDArray[np.float32]:
    """Return `(part - centre) / scale` along the first axis, clipped."""
    middle, width = (column(v, part.ndim - 1, np.float64) for v in (centre, scale))
    result: NDArray[np.float32] = np.clip((part - middle) / width, -_FAR, _FAR).astype(np.float32)
    return result


def with_waves(z: NDArray[np.float32], waves: int) -> NDArray[np.float32]:
    """Return standardised context `(m, *rest)` with `waves` cosines of random projections, `(m + waves, *rest)`."""
    if not waves:
        return z
    projection, phase = _projections(len(z))
    angle = inner(projection[:waves], z.reshape(len(z), -1).T).reshape(waves, *z.shape[1:])
    angle += column(phase[:waves], z.ndim - 1)
    return np.concatenate([z, np.cos(angle, out=angle)])


@lru_cache(maxsize=8)
def _projections(m: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return float32 `(WAVES, m)` and `(WAVES,)`.

    Made from raw bits, whose stream NumPy promises never to change: plans of any version mean the same waves.
    """
    raw = np.random.PCG64(0).random_raw(WAVES * (m + 1)) >> np.uint64(11)
    uniform = ((raw + 0.5) * 2.0**-53).reshape(WAVES, m + 1)
    projection = ndtri(uniform[:, 1:]) * (_FREQUENCY / np.sqrt(m))
    return projection.astype(np.float32), (2 * np.pi * uniform[:, 0]).astype(np.float32)
