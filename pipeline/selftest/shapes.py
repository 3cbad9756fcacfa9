"""The shapes of an image's own holes, taken out of a few windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from pipeline.fills.base import Window
from pipeline.numerics.distance import around, inside

Mask = NDArray[np.bool_]
Sides = tuple[tuple[bool, bool], ...]

_THIN = 2.5
"""Depth in pixels up to which a hole is thin all over: two dead lines side by side are, a cloud is not."""

CLEAR = 3
"""Steps that hidden holes keep from the window's ends, and lines and slices from real holes and from one another, where
they can: lost slices in a row, or one with nothing on its far side, are another task."""

_SLICES = (6, CLEAR, 1)
"""The same for slices of volumes, the farthest that leaves room: fills look at five slices on either side. Other thin
holes of volumes keep to the first two."""

_TELLING = 0.25
"""Deviation of the values in a slice of a volume, over that in the window, from which hiding it tells something."""

_RARE = 0.03
"""Share of the hole pixels below which thin holes are rare: specks beside clouds, what windows cut from blobs."""

_APART = 4.0
"""Pixels from the deep part of a hole within which hole pixels belong to it; those farther off are thin holes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A deep hole."""

    mask: Mask
    """`(n_state, *extent)`."""
    edge: Sides
    """Per axis `(low, high)`, True where it touches an edge of the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The holes of one or more windows."""

    deep: tuple[Shape, ...]
    """Deep holes, one by one."""
    thin: tuple[Mask, ...]
    """Thin holes, as the pattern `(n_state, *spatial)` of each window that has some."""
    depth: float
    """Distance to observed pixels that 95 % of the hole pixels keep within, in steps of the finest axis."""
    thin_distance: float
    """Mean distance of the pixels of thin holes to observed ones, in steps of the finest axis; 1 without any."""
    bare: tuple[Shape, ...] = ()
    """Deep holes without the doubted pixels around them, for windows in which there is no room for `deep`."""
    thin_share: float = 1.0
    """Share of the hole pixels that lie in thin holes."""

    @property
    def rarely_thin(self) -> bool:
        """Say whether so few hole pixels lie in thin holes that a few windows tell enough of them."""
        return self.thin_share < _RARE


def collect(patterns: Sequence[tuple[Mask, Sides]], spacing: Sequence[float]) -> Shapes:
    """Take the hole shapes out of windows.

    Args:
        patterns: holes bool `(n_state, *spatial)` of each window, and which of its sides are edges of the image.
        spacing: step per axis.
    """
    deep: list[Shape] = []
    thin: list[Mask] = []
    depths, thin_depths = [], [np.zeros(0)]
    slim_pixels = pixels = 0
    sampling = np.asarray(spacing, dtype=np.float64) / min(spacing)
    for planes, edges in patterns:
        union = np.asarray(planes.any(axis=0))
        if not union.any():
            continue
        inside = _depth_inside(planes, sampling)
        depths.append(inside[union])
        pixels_deep = inside if (sampling == 1).all() else _depth_inside(planes, np.ones(union.ndim))
        core = union & (pixels_deep > _THIN)
        slim = union & (around(core, _APART) > _APART)
        if slim.any():
            thin.append(planes & slim)
            thin_depths.append(inside[slim])
        deep += _pieces(planes, union & ~slim, edges)
        slim_pixels, pixels = slim_pixels + int((planes & slim).sum()), pixels + int(planes.sum())
    reach = float(np.quantile(np.concatenate(depths), 0.95)) if depths else 0.0
    narrow = np.concatenate(thin_depths)
    usual = float(narrow.mean()) if narrow.size else 1.0
    share = slim_pixels / max(pixels, 1)
    return Shapes(deep=tuple(deep), thin=tuple(thin), depth=reach, thin_distance=usual, thin_share=share)


def of_single_channels(masks: Sequence[Mask]) -> bool:
    """Say whether most pixels of holes `(n_state, *spatial)` are observed in some channel.

    Such holes (one time point, one detector) are restored from the other channels; hiding several of them at a place at
    random would test something else.
    """
    union = sum(int(mask.any(axis=0).sum()) for mask in masks)
    return sum(int(mask.all(axis=0).sum()) for mask in masks) < 0.5 * union


def _depth_inside(planes: Mask, sampling: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance to pixels of the window that are no hole of the same channel, the largest of any channel."""
    depth = np.zeros(planes.shape[1:])
    for hole in planes:
        full = float(max(hole.shape))
        depth = np.maximum(depth, full if hole.all() else inside(hole, sampling))
    return depth


def _pieces(planes: Mask, wanted: Mask, edges: Sides) -> list[Shape]:
    labels, _ = label(wanted, np.ones((3,) * wanted.ndim))
    found = []
    for k, box in enumerate(find_objects(labels), start=1):
        mask = planes[(slice(None), *box)] & (labels[box] == k)
        edge = tuple(
            (low and s.start == 0, high and s.stop == n)
            for (low, high), s, n in zip(edges, box, wanted.shape, strict=True)
        )
        found.append(Shape(mask=mask, edge=edge))
    return found


def lie_across(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which pieces `(*spatial)`, numbered from 1, are slices of a volume, `(n,)`; none of an image is.

    A slice takes half of the window or more along all axes but one; what the end of a window cuts from a blob does not.
    """
    wide = [
        sum(2 * (part.stop - part.start) >= n for part, n in zip(box, labels.shape, strict=True))
        for box in find_objects(labels)
    ]
    return np.asarray([labels.ndim > 2 and axes >= labels.ndim - 1 for axes in wide], dtype=np.bool_)


def steps_apart(shapes: Shapes) -> tuple[int, ...]:
    """Return how many steps lines and slices keep from real holes, the farthest first; fewer where there is no room."""
    if shapes.thin[0].ndim < 4:
        return (CLEAR,)
    pieces = (label(pattern.any(axis=0), np.ones((3,) * 3))[0] for pattern in shapes.thin)
    return _SLICES if any(lie_across(labels).any() for labels in pieces) else _SLICES[:2]


def tells(window: Window, labels: NDArray[np.integer], large: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which large pieces of a thin hole tell something if they are hidden, `(n,)`; all that are no slices do.

    A slice that lies beyond the end of a head is restored without error, and says nothing of one that was lost in it.

    Args:
        window: what is to be hidden in.
        labels: the pieces `(*spatial)`, numbered from 1.
        large: bool `(n,)`, those that are asked about.
    """
    slices = large & lie_across(labels)
    if not slices.any():
        return large
    found = ~slices
    for values, valid in zip(window.values, window.valid, strict=True):
        here = valid & (labels > 0)
        piece, shown = labels[here] - 1, values[here].astype(np.float64)
        count, total, power = (
            np.bincount(piece, weight, len(large)) for weight in (np.ones_like(shown), shown, np.square(shown))
        )
        variance = power / np.maximum(count, 1) - np.square(total / np.maximum(count, 1))
        found |= (count > 0) & (variance >= _TELLING**2 * values[valid].var(dtype=np.float64))
    return large & found
