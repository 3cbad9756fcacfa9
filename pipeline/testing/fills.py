"""The contract of fills, see `pipeline.fills.base`."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np

from pipeline.fills.base import FillSpec, Window
from pipeline.testing.guards import refused

_FILL = """
import pickle, sys
fill, window = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(fill(window).tobytes())
"""


def window_with_holes(ndim: int, extent: int = 20) -> Window:
    """Return two channels with different holes, a never-touch corner full of NaN, an unreachable hole in it."""
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


class FillContract:
    """A fill moves what is observed, estimates every hole, and gives the same bytes on every machine.

    ::

        class TestSmooth(FillContract):
            kind = "smooth"
            ndim = 3
    """

    kind: str
    """The fill, as the config names it."""
    ndim: int = 2
    """Spatial dimensions to test; a fill that offers both is tested twice."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Options of the fill."""

    def _fill(self, window: Window) -> np.ndarray[Any, np.dtype[np.float32]]:
        return FillSpec(self.kind, self.options)(window)

    def test_observed_values_stand_and_everything_is_finite(self) -> None:
        """float32 of the window's shape; observed pixels bit for bit; NaN in holes or never pixels does not spread."""
        window = window_with_holes(self.ndim)
        before = window.values.tobytes()
        result = self._fill(window)
        assert window.values.tobytes() == before
        assert result.shape == window.values.shape
        assert result.dtype == np.float32
        assert np.array_equal(result[window.valid], window.values[window.valid])
        assert np.isfinite(result).all()

    def test_pixels_that_count_are_those_of_the_whole_window(self) -> None:
        """Where only some estimates count they are the same bytes; the others need only be finite."""
        window = window_with_holes(self.ndim, 40)
        asked = window.hole & (np.arange(window.hole.size).reshape(window.hole.shape) % 5 == 0)
        result = self._fill(replace(window, asked=asked))
        assert np.isfinite(result).all()
        assert np.array_equal(result[asked], self._fill(window)[asked])

    def test_a_constant_image_stays_exactly_constant(self) -> None:
        """No rounding of a flat field, whatever its value."""
        window = window_with_holes(self.ndim)
        flat = np.where(window.valid, np.float32(4097.3), np.float32(0))
        assert (self._fill(replace(window, values=flat))[window.hole] == np.float32(4097.3)).all()

    def test_without_holes_nothing_happens(self) -> None:
        """An empty hole mask gives the values back."""
        values = np.arange(2 * 6**self.ndim, dtype=np.float32).reshape(2, *(6,) * self.ndim)
        everywhere = np.ones(values.shape, bool)
        window = Window(values=values, valid=everywhere, hole=~everywhere, spacing=(1.0,) * self.ndim)
        assert np.array_equal(self._fill(window), values)

    def test_a_channel_without_observations_takes_the_guess_or_is_refused(self) -> None:
        """With a guess the guess is the answer; without one the message says which channel."""
        values = np.zeros((1, *(6,) * self.ndim), np.float32)
        everywhere = np.ones(values.shape, bool)
        blind = Window(values=values, valid=~everywhere, hole=everywhere, spacing=(1.0,) * self.ndim)
        guess = np.full(values.shape, 7.5, np.float32)
        assert np.array_equal(self._fill(replace(blind, guess=guess)), guess)
        with refused(ValueError, "channel 0 has holes but not one valid pixel"):
            self._fill(blind)

    def test_one_row_of_pixels_is_enough(self) -> None:
        """Extents of 1 must not break any neighbourhood."""
        values = np.zeros((1, *(1,) * (self.ndim - 1), 9), np.float32)
        hole = np.zeros(values.shape, bool)
        hole[..., 3:5] = True
        window = Window(values=values, valid=~hole, hole=hole, spacing=(1.0,) * self.ndim)
        assert np.array_equal(self._fill(window), values)

    def test_bytes_do_not_depend_on_the_number_of_threads(self) -> None:
        """The same in this process, with one BLAS thread and with four."""
        fill, window = FillSpec(self.kind, self.options), window_with_holes(self.ndim, 40)
        expected = fill(window).tobytes()
        for threads in ("1", "4"):
            env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
            command, given = [sys.executable, "-c", _FILL], pickle.dumps((fill, window))
            assert subprocess.run(command, env=env, input=given, stdout=subprocess.PIPE, check=True).stdout == expected

    def test_impossible_windows_are_refused(self) -> None:
        """Shapes, spacing and dimensions are checked, with the value found in the message."""
        values = np.zeros((1, *(4,) * self.ndim), np.float32)
        none = np.zeros(values.shape, bool)
        good = Window(values=values, valid=~none, hole=none, spacing=(1.0,) * self.ndim)
        row = (0,) * (self.ndim - 1)
        line = {f.name: getattr(good, f.name)[(0, *row)][None] for f in fields(good)[:3]}
        for wrong, message in (
            (replace(good, hole=none[:, 1:]), "differ in shape"),
            (replace(good, spacing=(0.0,) * self.ndim), "spacing"),
            (replace(good, hole=~none), "both valid and hole"),
            (Window(**line, spacing=(1.0,)), "spatial dimensions"),
        ):
            with refused(ValueError, message):
                self._fill(wrong)
