"""Test holes: those of `evaluate`, and two more.

All functions return a bool array of the spatial shape, True = hole.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.selftest.evaluation.holes import Hole, billows, blobs, cloud, points, slices, squares, wedges

__all__ = ["Hole", "blobs", "cloud", "margin", "overcast", "points", "slices", "squares", "void", "wedges"]

_RIM = 10
"""Pixels that a cautious mask adds around clouds."""
_LEAN = 5.0
"""How much thicker clouds are at one edge of an image than at the other, in deviations of their noise."""


def margin(shape: tuple[int, ...], depth: int, sides: tuple[tuple[int, bool], ...]) -> Hole:
    """Hide `depth` pixels along each `(axis, at the far end)`."""
    hole = np.zeros(shape, dtype=bool)
    for axis, far in sides:
        view = np.moveaxis(hole, axis, 0)
        view[-depth if far else 0 : None if far else depth] = True
    return hole


def overcast(rng: np.random.Generator, shape: tuple[int, ...], share: float, *, strip: bool) -> Hole:
    """Hide a share of an image under clouds and a rim of 10 px around them, as cautious masks do that leave little.

    What is left are islands, at corners and edges of the image, too; with `strip` most of it lies along one edge.
    """
    field = billows(rng, shape)
    if strip:
        axis = int(rng.integers(len(shape)))
        away = np.linspace(*rng.permutation(2), shape[axis])
        field += _LEAN * field.std() * np.expand_dims(away, 1 - axis)
    rim = np.hypot(*np.ogrid[-_RIM : _RIM + 1, -_RIM : _RIM + 1]) <= _RIM
    # the thickest within reach: its upper share are the clouds with their rims
    field = ndimage.maximum_filter(field, footprint=rim)
    return np.asarray(field > np.quantile(field, 1 - share))


def void(rng: np.random.Generator, inside: Hole, share: float) -> Hole:
    """Hide one ragged ball of a share of what is `inside`, whatever its values, half a deviation off the middle."""
    body = ndimage.binary_fill_holes(ndimage.binary_closing(inside, iterations=3))
    middle, reach = (np.stack([f(axis) for axis in np.nonzero(body)]) for f in (np.mean, np.std))
    centre = middle + reach * rng.choice([-0.5, 0.5], size=body.ndim)
    grid = np.ogrid[tuple(slice(n) for n in body.shape)]
    away = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
    away = away + 48 * ndimage.gaussian_filter(rng.standard_normal(body.shape), 4)
    return np.asarray((away < np.sort(away[body])[int(share * body.sum())]) & body)
