"""The empty background of a volume of which one organ was kept (a skull-stripped head): set by a program, not measured.

Taken for evidence it darkens every hole at the organ's surface, as values there do not fall off toward it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.image.scan import StateScan
from pipeline.masks.base import FILL, KEEP, holds

_OUTSIDE = 0.95
"""Share of the voxels on the six faces of a volume that hold one value, from which it is an empty background."""

_CUT = 0.5
"""Share from which it is one where the organ ends at once, as it may be cut at some faces (one half of a brain)."""

_SHARP = 0.2
"""Share of the organ's values that half of its voxels beside the background have at least, if it ends at once; the air
around a head is dark beside what is exactly zero in it."""

_WITHIN = 0.1
"""Share of the voxels to restore up to which the background's value among them is that of the organ, too."""

_BLANKED = 0.9
"""Share of the voxels to restore that hold one value, from which somebody has blanked them."""

_EDGE, _LOOKS = 64, 64
"""Edge of the windows that are looked at, voxels, and their number."""

_MOST = 300_000
"""Values of what is to be restored that are looked at in a window: all of one channel, a part of a long series."""

_NEAR = 2
"""Voxels between a hole and the background within which fills see both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """An empty background that holes reach."""

    values: tuple[float, ...]
    """What each channel holds in it, stored units."""
    known: bool
    """Whether the voxels to restore hold values of their own, which say that they lie in the organ; else they were
    blanked, and nobody knows where the organ ends in them."""

    def sentence(self, name: str) -> str:
        """Return what the user should know of it; `name` is the image's."""
        different = dict.fromkeys(f"{value:.9g}" for value in self.values)
        around = f"{name}: all around it is exactly {' / '.join(different)}"
        if self.known:
            return (
                f"{around} and what is to be restored is not: this is taken for an empty background, which stays as it "
                "is and is no evidence; `input.nodata: none` takes it for measured"
            )
        advice = f"if none of it lies in the background, write `input.nodata: {next(iter(different))}`, else "
        return (
            f"{around}, and what is to be restored there was blanked; {advice if len(different) == 1 else ''}holes at "
            "the organ's surface get values like the background's"
        )


def background_of(source: Source, states: StateScan, state: zarr.Array) -> Background | None:
    """Return the empty background of a volume; None without one, or where no hole comes near it.

    In a volume of several channels it is where each of them holds its value of the background: an organ is kept in all
    of them alike, and in it one channel alone may hold that value. A hole at the end of the volume (a lost slice) lies
    across organ and background: there both are evidence.

    Args:
        source: the image; nothing is known of its nodata.
        states: where its holes are.
        state: the state of every voxel, uint8 `(1 or c, *spatial)`.
    """
    if source.space.kind != "volume" or any(value is not None for value in source.nodata) or not states.holes:
        return None
    faces = list(_faces(source.space.shape))
    around = np.concatenate([source.read(box).reshape(source.n_channels, -1) for box in faces], axis=1)
    background = tuple(_most_frequent(channel)[0] for channel in around)
    share = holds(around, background).mean()
    if share < _CUT or not np.isfinite(background).all():
        return None
    if any((state[box.at()] == FILL).any() for box in faces):
        return None
    boxes = states.spread_over_holes(source.space.shape, _EDGE, _LOOKS)
    looks = [_look(source.read(box), np.asarray(state[box.at()]), background) for box in boxes]
    inside = np.concatenate([values for _, values, _ in looks], axis=1)
    is_one = share >= _OUTSIDE or sum(end for _, _, end in looks) > 0
    if not inside.size or not is_one or not any(near for near, _, _ in looks):
        return None
    known = any(_most_frequent(channel)[1] < _BLANKED for channel in inside)
    if known and holds(inside, background).mean() > _WITHIN:
        return None
    return Background(values=background, known=known)


def _look(
    values: NDArray[np.generic], told: NDArray[np.uint8], background: tuple[float, ...]
) -> tuple[bool, NDArray[np.generic], int]:
    """Look at a window with holes.

    Args:
        values: `(c, *spatial)`.
        told: the states of its voxels, `(1 or c, *spatial)`.
        background: what each channel holds in an empty one.

    Returns:
        Whether holes come near the background, the values to restore `(c, n)` (some where they are many), and whether
        the organ ends at once: 1 or -1, 0 where none of its end is seen.
    """
    hole, kept, empty = (told == FILL).any(axis=0), (told == KEEP).all(axis=0), holds(values, background)[0]
    inside = values[:, hole]
    near = bool((binary_dilation(hole, iterations=_NEAR) & empty & kept).any())
    organ = kept & ~empty
    beside, shown = (
        np.abs(values[0][some].astype(np.float64) - background[0]) for some in (organ & binary_dilation(empty), organ)
    )
    end = (1 if np.median(beside) > _SHARP * np.percentile(shown, 99) else -1) if beside.size else 0
    return near, inside[:, :: -(-inside.size // _MOST) or 1], end


def _faces(shape: tuple[int, ...]) -> Iterator[Box]:
    """Return windows spread over the faces of a volume, one voxel thick; all of them where it is small."""
    for axis in range(len(shape)):
        starts = [sorted({0, max(n - _EDGE, 0) // 2, max(n - _EDGE, 0)}) for n in shape]
        starts[axis] = [0, shape[axis] - 1]
        for start in product(*starts):
            stop = tuple(s + (1 if a == axis else _EDGE) for a, s in enumerate(start))
            yield Box(start, stop) & Box.whole(shape)


def _most_frequent(values: NDArray[np.generic]) -> tuple[float, float]:
    """Return the value that is there most often (NaN is one), and its share."""
    found, counts = np.unique(values, return_counts=True)
    most = int(np.argmax(counts))
    return found[most].item(), float(counts[most] / values.size)
