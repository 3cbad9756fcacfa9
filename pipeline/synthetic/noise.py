"""Fractal noise: the one texture from which clouds, soils, relief and cortex are made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Array = NDArray[np.float32]


def fractal(
    rng: np.random.Generator,
    shape: Sequence[int],
    *,
    slope: float = 1.5,
    longest: float = 256.0,
    shortest: float = 2.0,
    stretch: Sequence[float] | None = None,
) -> Array:
    """Return Gaussian noise with amplitude spectrum `f**-slope`, zero mean and unit standard deviation.

    Args:
        rng: source of randomness.
        shape: N-d shape of the result.
        slope: fall of the amplitude spectrum; 1-1.7 looks like land, 0 is white.
        longest: wavelength in pixels above which the spectrum is flat.
        shortest: wavelength in pixels below which there is nothing.
        stretch: per axis, factor by which structures are elongated; 1 each by default.
    """
    # A margin breaks the periodicity of the Fourier basis.
    padded = [fft.next_fast_len(int(n + min(longest, n)), real=True) for n in shape]
    factors = stretch if stretch is not None else [1.0] * len(padded)
    white = rng.standard_normal(padded, dtype=np.float32)
    spectrum = fft.rfftn(white)
    squared = np.zeros(spectrum.shape, dtype=np.float32)
    for axis, (n, factor) in enumerate(zip(padded, factors, strict=True)):
        freq = fft.rfftfreq(n) if axis == len(padded) - 1 else fft.fftfreq(n)
        view = [1] * len(padded)
        view[axis] = -1
        squared += ((freq * factor) ** 2).astype(np.float32).reshape(view)
    radius = np.sqrt(squared)
    spectrum *= np.maximum(radius, 1.0 / longest) ** -slope
    spectrum *= np.exp(-((radius * shortest / 2.0) ** 4))
    field = fft.irfftn(spectrum, s=padded)[tuple(slice(n) for n in shape)]
    result: Array = ((field - field.mean()) / max(float(field.std()), 1e-12)).astype(np.float32)
    return result


def smoothstep(x: Array, low: float, high: float) -> Array:
    """Return 0 below `low`, 1 above `high` and a smooth ramp between, element by element."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)
