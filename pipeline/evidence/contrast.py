"""Is the ground beside the holes lit better than far from them? Then it is bright without haze.

Haze and cloud add light and let less of the ground's through (He, Sun & Tang 2011, doi:10.1109/TPAMI.2010.168), so what
is seen below them varies as the ground does, or less. Where the sun shines on one place and a cloud's shadow lies on
another, the ground varies more and is brighter by the same factor. A reference knows how the ground varies, so no names
of bands are needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.ground import Ground
from pipeline.evidence.tile import Tile

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

_BROAD = 5.0
"""Deviation of the Gaussian that what varies is seen against, pixels: shadow, haze and their edges are broader."""

_MORE = 1.4
"""Contrast of what is lit better over that of what lies in shadow."""

_ALIKE = 0.6
"""Correlation of what is added with the ground, over the bands, from which it is light."""

_FEWEST_BANDS = 3

_TOLD = 0.3
"""Contrast far from the holes, as a share of what the reference says, below which a band tells nothing."""


def lit_better(ground: Ground, tiles: Sequence[Tile], near: Sequence[Mask], far: Sequence[Mask]) -> bool:
    """Say whether sunlight is what some pixels have more of: they vary more, and are brighter where the ground is.

    Args:
        ground: what a reference says of the image, fitted far from the holes.
        tiles: windows of the image.
        near: bool `spatial` of each, pixels beside the holes.
        far: the same, far from them.
    """
    return likeness(ground, tiles, near) >= _ALIKE and contrast(ground, tiles, near, far) >= _MORE


def contrast(ground: Ground, tiles: Sequence[Tile], near: Sequence[Mask], far: Sequence[Mask]) -> float:
    """Return how much more the ground of a reference varies in some pixels than in others: 1 where it is alike.

    Each band is compared with what the reference says of the ground, pixel by pixel, by least squares; of the bands the
    median counts. Where no band tells, it is 1.
    """
    products, squares = np.zeros((2, 2, len(ground.offset)))
    for tile, *masks in zip(tiles, near, far, strict=True):
        expected, told = _expected(ground, tile)
        own, ground_own = _detail(tile.values, told), _detail(expected, told)
        for k, mask in enumerate(masks):
            products[k] += (own * ground_own)[:, mask & told].sum(axis=1)
            squares[k] += (ground_own**2)[:, mask & told].sum(axis=1)
    slopes = products / np.maximum(squares, 1e-30)
    some = slopes[1] >= _TOLD
    return float(np.median(slopes[0][some] / slopes[1][some])) if some.any() else 1.0


def likeness(ground: Ground, tiles: Sequence[Tile], near: Sequence[Mask]) -> float:
    """Return the correlation over the bands of what some pixels have more than the ground with the ground itself.

    It is 1 where light is stronger by a factor, and 0 with fewer than three bands, which tell nothing.
    """
    if len(ground.offset) < _FEWEST_BANDS:
        return 0.0
    observed, expected = [], []
    for tile, mask in zip(tiles, near, strict=True):
        values, told = _expected(ground, tile)
        observed.append(tile.values[:, mask & told])
        expected.append(values[:, mask & told])
    usual = np.concatenate(expected, axis=1).mean(axis=1)
    more = np.concatenate(observed, axis=1).mean(axis=1) - usual
    both = np.stack([more - more.mean(), usual - usual.mean()])
    lengths = np.sqrt((both**2).sum(axis=1))
    return float(both[0] @ both[1] / max(lengths[0] * lengths[1], 1e-30))


def _expected(ground: Ground, tile: Tile) -> tuple[Field, Mask]:
    expected, told = ground.expected(tile.values.shape, tile.guides)
    return expected, told & tile.seen


def _detail(values: NDArray[np.floating], told: Mask) -> Field:
    """Return what is finer than `_BROAD` where values are told, `(c, *spatial)`; elsewhere it means nothing."""
    share = np.maximum(ndimage.gaussian_filter(told.astype(np.float64), _BROAD), 1e-6)
    return np.stack([band - ndimage.gaussian_filter(np.where(told, band, 0.0), _BROAD) / share for band in values])
