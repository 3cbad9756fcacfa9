"""Contaminated pixels where nearly all of an image is hidden, so that nothing lies far off.

If what is left varies far more around a reference than that varies itself, most of it is contaminated: the ground is
where differences from the reference are most frequent. If it is brighter the nearer it lies to the holes, that is haze.
Else it is taken for clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.evidence.doubt import Doubt, Field, Mask, Side, standardised
from pipeline.evidence.ground import Ground, fit_ground, fit_level
from pipeline.evidence.tile import LARGEST, RINGS, Tile

_LITTLE = 1.0
"""Standard deviations above the most frequent difference from which a pixel is doubted where little is observed."""

_NARROWEST = 0.1
"""Smallest deviation below the most frequent difference, as a share of that of all differences."""

_REACH = 6.0
"""Distance over which haze around clouds falls to 1 / e, pixels."""

_PIECE = 32
"""Edge of the pieces of a window within which near and far pixels are compared, pixels: they lie on like ground."""

_BRIGHTER, _SURE = 1.0, 2.0
"""Deviations by which a band must be brighter beside the holes than far from them to be hazy, and standard errors."""


def doubt_among_few(tiles: Sequence[Tile], fewest: int) -> Doubt:
    """Doubt the rim, and what is brighter than the most frequent difference from a reference that explains little.

    Where a reference shows no haze beside the holes either, nothing is doubted.

    Args:
        tiles: windows of the image.
        fewest: observed pixels below which nothing can be told; the rim is doubted only if so many lie beyond it.
    """
    farther = sum(int((tile.distance[tile.seen] > RINGS[0]).sum()) for tile in tiles)
    rim = RINGS[0] if farther >= fewest else 0.0
    inside = [tile.seen & (tile.distance > rim) for tile in tiles]
    ground = fit_level(tiles, inside)
    found = _inside(tiles, ground, inside) if ground else None
    if ground is None or found is None or found.shape[1] < fewest:
        whole = fit_ground(tiles, [tile.seen for tile in tiles])
        return Doubt(ground=whole, rim_px=rim if whole.guide is None or brighter_near(tiles, whole) else 0.0)
    modes = np.asarray([_most_frequent(band) for band in found])
    # what haze adds is above: the deviation is that below
    below = [modes[k] - band[band < modes[k]] for k, band in enumerate(found)]
    spread = np.asarray([1.4826 * np.median(part) if part.size else 0.0 for part in below])
    ground = replace(
        ground,
        offset=tuple((np.asarray(ground.offset) + modes * np.asarray(ground.scale)).tolist()),
        scale=tuple((np.asarray(ground.scale) * np.maximum(spread, _NARROWEST)).tolist()),
    )
    farthest = max(float(tile.distance[tile.seen].max(initial=0.0)) for tile in tiles)
    limits = tuple(_LITTLE if inner < farthest else np.inf for inner in (0.0, *RINGS[:-1]))
    side = Side(name="bright", weights=(1 / len(modes),) * len(modes), limits=limits)
    return Doubt(ground=ground, sides=(side,), rim_px=rim)


def brighter_near(tiles: Sequence[Tile], ground: Ground) -> bool:
    """Say whether some band is brighter the nearer its pixels lie to the holes, within pieces of the windows.

    Haze is: beside eleven pairs of dates it adds 1.3 to 4 deviations at the edge of the mask in the bluest band.

    Args:
        tiles: windows of the image.
        ground: what is expected of clear pixels.
    """
    products, squares = [], []
    for tile in tiles:
        differences, told = ground.differences(tile)
        places = np.nonzero(told & (tile.distance > 0))
        if not places[0].size:
            continue
        at = np.ravel_multi_index([index // _PIECE for index in places], tile.distance.shape)
        _, piece = np.unique(at, return_inverse=True)
        away = np.exp(-tile.distance[places].astype(np.float64) / _REACH)
        away -= (np.bincount(piece, weights=away) / np.bincount(piece))[piece]
        bands = np.clip([band[places] for band in differences], -LARGEST, LARGEST)
        products.append(np.stack([np.bincount(piece, weights=away * band) for band in bands]))
        squares.append(np.bincount(piece, weights=away**2))
    square = np.concatenate([np.zeros(0), *squares])
    if not square.any():
        return False
    product = np.concatenate(products, axis=1)
    slope = product.sum(axis=1) / square.sum()
    error = np.sqrt(((product - slope[:, None] * square) ** 2).sum(axis=1)) / square.sum()
    return bool(((slope > _BRIGHTER) & (slope > _SURE * error)).any())


def _inside(tiles: Sequence[Tile], ground: Ground, some: Sequence[Mask]) -> Field:
    """Return the differences of some pixels of all windows from the ground, `(c, n)`."""
    both = [standardised(ground, tile) for tile in tiles]
    return np.concatenate([d[:, told & part] for (d, told), part in zip(both, some, strict=True)], axis=1)


def _most_frequent(values: Field) -> float:
    """Return the half-sample mode (Robertson & Cryer 1974, doi:10.1080/01621459.1974.10480246)."""
    values = np.sort(values)
    while values.size > 3:
        half = values.size // 2
        first = int(np.argmin(values[half:] - values[: values.size - half]))
        values = values[first : first + half]
    return float(values.mean())
