"""Every fill keeps the contract of `pipeline.fills.base`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from pipeline import registry
from pipeline.fills.base import FillSpec, Window

CASES = [
    (kind, ndim) for kind in registry.kinds("fills") for ndim in (2, 3) if ndim in registry.load("fills", kind).NDIM
]

_HASH = """
import hashlib, sys
from tests.contracts.test_fills import scene
from pipeline.fills.base import FillSpec
print(hashlib.sha256(FillSpec(sys.argv[1])(scene(int(sys.argv[2]), 40)).tobytes()).hexdigest())
"""


def scene(ndim: int, extent: int = 20) -> Window:
    """Two channels with different holes, a never-touch corner full of NaN, an unreachable hole in it."""
    rng = np.random.default_rng(ndim)
    shape = (2, *(extent if ndim == 2 else extent // 2,) * ndim)
    values = rng.normal(1000, 100, shape).astype(np.float32)
    hole = rng.random(shape) < 0.3
    hole[0, 4:8, 3:9] = True
    never = np.zeros(shape, bool)
    never[:, -4:, -4:] = True
    hole &= ~never
    hole[:, -2, -2] = True
    values[~(hole | ~never)] = np.nan
    values[hole] = np.nan
    return Window(values=values, valid=~hole & ~never, hole=hole, spacing=(2.0, *(1.0,) * (ndim - 1)))


@pytest.mark.parametrize(("kind", "ndim"), CASES)
def test_observed_values_stand_and_everything_is_finite(kind, ndim):
    """float32 of the window's shape; observed pixels bit for bit; NaN in holes or never pixels does not spread."""
    window = scene(ndim)
    before = window.values.tobytes()
    result = FillSpec(kind)(window)
    assert window.values.tobytes() == before
    assert result.shape == window.values.shape
    assert result.dtype == np.float32
    assert np.array_equal(result[window.valid], window.values[window.valid])
    assert np.isfinite(result).all()


@pytest.mark.parametrize(("kind", "ndim"), CASES)
def test_a_constant_image_stays_exactly_constant(kind, ndim):
    """No rounding of a flat field, whatever its value."""
    window = scene(ndim)
    flat = np.where(window.valid, np.float32(4097.3), np.float32(0))
    result = FillSpec(kind)(Window(values=flat, valid=window.valid, hole=window.hole, spacing=window.spacing))
    assert (result[window.hole] == np.float32(4097.3)).all()


@pytest.mark.parametrize(("kind", "ndim"), CASES)
def test_without_holes_nothing_happens(kind, ndim):
    """An empty hole mask gives the values back."""
    values = np.arange(2 * 6**ndim, dtype=np.float32).reshape(2, *(6,) * ndim)
    everywhere = np.ones(values.shape, bool)
    window = Window(values=values, valid=everywhere, hole=~everywhere, spacing=(1.0,) * ndim)
    assert np.array_equal(FillSpec(kind)(window), values)


@pytest.mark.parametrize(("kind", "ndim"), CASES)
def test_a_channel_without_observations_takes_the_guess_or_is_refused(kind, ndim):
    """With a guess the guess is the answer; without one the message says which channel."""
    values = np.zeros((1, *(6,) * ndim), np.float32)
    everywhere = np.ones(values.shape, bool)
    spacing = (1.0,) * ndim
    guess = np.full(values.shape, 7.5, np.float32)
    known = Window(values=values, valid=~everywhere, hole=everywhere, spacing=spacing, guess=guess)
    assert np.array_equal(FillSpec(kind)(known), guess)
    blind = Window(values=values, valid=~everywhere, hole=everywhere, spacing=spacing)
    with pytest.raises(ValueError, match="channel 0 has holes but not one valid pixel"):
        FillSpec(kind)(blind)


@pytest.mark.parametrize(("kind", "ndim"), CASES)
def test_one_row_of_pixels_is_enough(kind, ndim):
    """Extents of 1 must not break any neighbourhood."""
    values = np.zeros((1, *(1,) * (ndim - 1), 9), np.float32)
    hole = np.zeros(values.shape, bool)
    hole[..., 3:5] = True
    result = FillSpec(kind)(Window(values=values, valid=~hole, hole=hole, spacing=(1.0,) * ndim))
    assert np.array_equal(result, values)


@pytest.mark.parametrize("kind", registry.kinds("fills"))
def test_bytes_do_not_depend_on_the_number_of_threads(kind):
    """The same hash in this process, with one BLAS thread and with four."""
    ndim = max(registry.load("fills", kind).NDIM)
    hashes = {hashlib.sha256(FillSpec(kind)(scene(ndim, 40)).tobytes()).hexdigest()}
    for threads in ("1", "4"):
        env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", _HASH, kind, str(ndim)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        hashes.add(done.stdout.strip())
    assert len(hashes) == 1


@pytest.mark.parametrize(("kind", "ndim"), CASES)
def test_impossible_windows_are_refused(kind, ndim):
    """Shapes, spacing and dimensions are checked, with the value found in the message."""
    values = np.zeros((1, *(4,) * ndim), np.float32)
    none = np.zeros(values.shape, bool)
    good = {"values": values, "valid": ~none, "hole": none, "spacing": (1.0,) * ndim}
    with pytest.raises(ValueError, match="differ in shape"):
        FillSpec(kind)(Window(**{**good, "hole": none[:, 1:]}))
    with pytest.raises(ValueError, match="spacing"):
        FillSpec(kind)(Window(**{**good, "spacing": (0.0,) * ndim}))
    with pytest.raises(ValueError, match="both valid and hole"):
        FillSpec(kind)(Window(**{**good, "hole": ~none}))
    with pytest.raises(ValueError, match="spatial dimensions"):
        FillSpec(kind)(
            Window(
                **{
                    name: part[0, 0, 0] if ndim == 2 else part[0, 0] for name, part in good.items() if name != "spacing"
                },
                spacing=(1.0,),
            )
        )
