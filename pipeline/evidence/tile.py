"""A window of an image as contaminated pixels are looked for in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
_Number = TypeVar("_Number", np.float32, np.float64)
_Labels = TypeVar("_Labels", NDArray[np.bool_], NDArray[np.intp])

RINGS = (3.0, 6.0, 10.0, 16.0, 24.0, 32.0)
"""Outer radius of each ring around the holes, pixels; what is beyond the last is never doubted."""

WIDE = 9
"""Edge of the square that fits into a wide hole, pixels; what lies as far from such a place still belongs to it."""

LARGEST = 5.0
"""Standardised differences are clipped here: one band's glint must not decide alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A window of the image, with what is needed to tell what was missed.

    Attributes:
        values: float32 `(c, *spatial)`.
        seen: bool `spatial`, observed in all channels.
        distance: float32 `spatial`, to the nearest wide hole, pixels.
        guides: `(values, seen)` of each reference, float32 `(c_ref, *spatial)` and bool `spatial`.
        corner: first pixel of the window in the image.
    """

    values: NDArray[np.float32]
    seen: Mask
    distance: NDArray[np.float32]
    guides: tuple[tuple[NDArray[np.float32], Mask], ...] = ()
    corner: tuple[int, ...] = (0, 0)

    def of_wide(self) -> Tile:
        """Return the window with distances from its wide holes alone, infinite if there are none.

        Without narrower ones it is the window itself.
        """
        hole = self.distance == 0
        core = ndimage.binary_opening(hole, np.ones((WIDE,) * hole.ndim))
        if not core.any():
            return replace(self, distance=np.full_like(self.distance, np.inf))
        wide = hole & (ndimage.distance_transform_edt(~core) <= WIDE)
        if (wide == hole).all():
            return self
        return replace(self, distance=ndimage.distance_transform_edt(~wide).astype(np.float32))

    def without(self, guide: int) -> Tile:
        """Return the window as if one of the references saw nothing; the others keep their numbers."""
        values, seen = self.guides[guide]
        return replace(self, guides=(*self.guides[:guide], (values, np.zeros_like(seen)), *self.guides[guide + 1 :]))

    def shaded(self, step: tuple[int, int] | None) -> Tile:
        """Return the window with distances from the holes and from where clouds in them cast shadows, one step away.

        Such a place is observed, so its pixels are 1 px from itself. Without a step, distances are those of the holes.
        """
        if step is None:
            return self
        hole = self.distance == 0
        cast = displaced(hole, step)
        if not cast.any():
            return self
        away = np.maximum(ndimage.distance_transform_edt(~cast), 1.0).astype(np.float32)
        return replace(self, distance=np.where(hole, np.float32(0), np.minimum(self.distance, away)))


def displaced(mask: _Labels, step: tuple[int, int]) -> _Labels:
    """Return a mask or labels `(rows, cols)` moved by some rows and columns; what leaves is gone, and 0 comes in."""
    moved = np.zeros_like(mask)
    there, here = (
        tuple(slice(max(0, s * k), n - max(0, -s * k)) for k, n in zip(step, mask.shape, strict=True)) for s in (1, -1)
    )
    moved[there] = mask[here]
    return moved


def pooled(values: Sequence[NDArray[_Number]], some: Sequence[Mask]) -> NDArray[_Number]:
    """Return some pixels of all windows, `(c, n)`."""
    return np.concatenate([v[:, s] for v, s in zip(values, some, strict=True)], axis=1)
