"""A window of an image as contaminated pixels are looked for in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

RINGS = (3.0, 6.0, 10.0, 16.0, 24.0, 32.0)
"""Outer radius of each ring around the holes, pixels; what is beyond the last is never doubted."""

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


def displaced(mask: Mask, step: tuple[int, int]) -> Mask:
    """Return a mask `(rows, cols)` moved by some rows and columns; what leaves it is gone, and nothing comes in."""
    moved = np.zeros_like(mask)
    there, here = (
        tuple(slice(max(0, s * k), n - max(0, -s * k)) for k, n in zip(step, mask.shape, strict=True)) for s in (1, -1)
    )
    moved[there] = mask[here]
    return moved
