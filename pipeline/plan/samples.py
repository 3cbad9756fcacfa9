"""What the self-test keeps for people to look at: some windows as pictures, some hidden pixels, and counts of all.

It is small, depends on nothing but the self-test, and stands in the work folder, never in the record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from pipeline.geometry.box import Box
from pipeline.system.files import replacing

DISTANCES = (0.0, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0, np.inf)
"""Edges of the distances to observed pixels that are counted apart, steps of the finest axis."""
SCORES = np.linspace(-5, 5, 41)
"""Edges of errors in standard errors; what lies beyond is counted in the outermost."""

_EDGE = 128
"""Longest edge of a picture, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """One channel of a test window; what had been there stands in the image itself.

    Attributes:
        title: which one of all it is.
        channel: among the restored ones.
        start: of the arrays in the image, per axis.
        error: root mean square error over the range of the channel.
        off: float16 `(*spatial)`, restored minus true value over the range of the channel; 0 where nothing was hidden.
        sigma: float16, calibrated standard error over the same; 0 where nothing was hidden, and only there.
    """

    title: str
    channel: int
    start: tuple[int, ...]
    error: float
    off: NDArray[np.float16]
    sigma: NDArray[np.float16]

    @property
    def box(self) -> Box:
        """Return where it lies in the image."""
        return Box(self.start, tuple(a + n for a, n in zip(self.start, self.off.shape, strict=True)))

    def cropped(self, across: int | None) -> Self:
        """Return the part in which errors are largest, small enough to show; of a volume one plane across an axis."""
        # what was hidden in air, and restored without error, shows nothing
        weight = np.abs(self.off.astype(np.float32)) + 1e-3 * self.sigma
        size = [min(n, _EDGE) for n in weight.shape]
        if across is not None:
            size[across] = 1
        middle = np.unravel_index(int(np.argmax(uniform_filter(weight, size, mode="constant"))), weight.shape)
        first = [int(min(max(0, m - s // 2), n - s)) for m, s, n in zip(middle, size, weight.shape, strict=True)]
        part = tuple(slice(a, a + s) for a, s in zip(first, size, strict=True))
        start = tuple(a + b for a, b in zip(self.start, first, strict=True))
        return replace(self, start=start, off=self.off[part], sigma=self.sigma[part])


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What is kept of a self-test.

    Attributes:
        truth: `(n,)`, true values of some hidden pixels, centred data units.
        restored: the same as they were restored.
        channel: `(n,)`, their channel.
        scores: `(len(SCORES) - 1,)`, hidden pixels by error over the standard error that they would be published with,
            fitted on other windows; each as often as real holes are as rough around, on average once.
        seen: `(len(DISTANCES) - 1,)`, the same by distance to observed ones.
        held: those of them whose error the 90 % interval held.
        specimens: a few windows.
    """

    truth: NDArray[np.float32]
    restored: NDArray[np.float32]
    channel: NDArray[np.int32]
    scores: NDArray[np.float64]
    seen: NDArray[np.float64]
    held: NDArray[np.float64]
    specimens: tuple[Specimen, ...] = ()

    def cropped(self, across: int | None) -> Self:
        """Return the same with windows of a size that can be shown; see `Specimen.cropped`."""
        return replace(self, specimens=tuple(one.cropped(across) for one in self.specimens))

    def save(self, path: Path) -> None:
        """Write all into one file (NumPy's npz), whole or not at all; the same samples are the same bytes."""
        arrays: dict[str, NDArray[np.generic]] = {name: getattr(self, name) for name in _ARRAYS}
        for k, one in enumerate(self.specimens):
            arrays |= {f"{k}_{name}": getattr(one, name) for name in _LAYERS}
            arrays |= {f"{k}_start": np.asarray(one.start), f"{k}_channel": np.asarray(one.channel)}
            arrays |= {f"{k}_error": np.asarray(one.error), f"{k}_title": np.asarray(one.title)}
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # NumPy 2.0 and 2.1 know no allow_pickle

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            OSError, ValueError, KeyError: there is no such file, or it is damaged.
        """
        with np.load(path, allow_pickle=False) as found:
            numbers = range(sum(name.endswith("_title") for name in found.files))
            specimens = tuple(
                Specimen(
                    title=str(found[f"{k}_title"]),
                    channel=int(found[f"{k}_channel"]),
                    start=tuple(int(v) for v in found[f"{k}_start"]),
                    error=float(found[f"{k}_error"]),
                    **{name: found[f"{k}_{name}"] for name in _LAYERS},
                )
                for k in numbers
            )
            return cls(**{name: found[name] for name in _ARRAYS}, specimens=specimens)


_ARRAYS = ("truth", "restored", "channel", "scores", "seen", "held")
_LAYERS = ("off", "sigma")
