"""Contaminated pixels where nearly all of an image is hidden, so that nothing lies far off.

If what is left varies around a reference more than that varies itself, most of it is contaminated: the ground is where
differences from the reference are most frequent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.evidence.doubt import Doubt, Field, Mask, Side, standardised
from pipeline.evidence.ground import Ground, fit_ground, fit_level
from pipeline.evidence.tile import RINGS, Tile

_LITTLE = 1.0
"""Standard deviations above the most frequent difference from which a pixel is doubted where little is observed."""

_NARROWEST = 0.1
"""Smallest deviation below the most frequent difference, as a share of that of all differences."""


def doubt_among_few(tiles: Sequence[Tile], fewest: int) -> Doubt:
    """Doubt the rim, and what is brighter than the most frequent difference from a reference that explains little.

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
        return Doubt(ground=fit_ground(tiles, inside), rim_px=rim)
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
