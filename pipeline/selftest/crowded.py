"""Holes of single channels, of dates for instance, that together leave little of an image clear."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, find_objects, label

from pipeline.fills.base import Window
from pipeline.selftest.shapes import Mask, Shape

WIDE, THIN = 0.5, 0.75
"""Shares of a window's pixels with a hole in some channel above which hidden holes of single channels may lie where
another channel has one: of a wide hole that must not, little would be left, and lines find too few other places."""


def share_lost(window: Window) -> float:
    """Return the share of the pixels that have a hole in some channel; what never has a value, as land, is no pixel."""
    hole = window.hole.any(axis=0)
    content = hole | window.valid.any(axis=0)
    return float(hole.sum() / max(content.sum(), 1))


def clear_of(taken: Mask, shape: Shape | None) -> Mask:
    """Return the pixels `(*spatial)` more than two steps from what is taken `(c, *spatial)`.

    What counts are the channels that a shape has a hole in, without one all.
    """
    own = slice(None) if shape is None else shape.mask.any(axis=tuple(range(1, taken.ndim)))
    return np.asarray(~binary_dilation(taken[own].any(axis=0), iterations=2))


def of_one_channel(shape: Shape, rng: np.random.Generator) -> Shape:
    """Return one hole of one channel of what the holes of all make together, drawn as a typical pixel sees it."""
    extent = shape.mask.shape[1:]
    sizes = shape.mask.reshape(len(shape.mask), -1).sum(axis=1)
    c = int(rng.choice(len(sizes), p=sizes / sizes.sum()))
    labels, _ = label(shape.mask[c], np.ones((3,) * len(extent)))
    k = int(rng.choice(labels[labels > 0]))
    box = find_objects(labels)[k - 1]
    mask = np.zeros_like(shape.mask[:, *box])
    mask[c] = labels[box] == k
    edge = tuple(
        (low and part.start == 0, high and part.stop == n)
        for (low, high), part, n in zip(shape.edge, box, extent, strict=True)
    )
    return Shape(mask=mask, edge=edge)
