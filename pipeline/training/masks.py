"""Holes to train on: shapes that clouds, sensors, field edges and scanners make."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.noise import fractal

Hole = NDArray[np.bool_]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Hole]


def sample_mask(rng: np.random.Generator, shape: tuple[int, ...], shares: Mapping[str, float]) -> tuple[str, Hole]:
    """Draw a hole family and a hole of it.

    Args:
        rng: source of randomness.
        shape: spatial shape of the tile, 2-D or 3-D.
        shares: relative frequency of each family; names of `FAMILIES[ndim]`.

    Returns:
        The family and a bool mask with True = hole, never empty, never everything.
    """
    names = sorted(shares)
    weights = np.array([shares[name] for name in names], dtype=float)
    family = str(rng.choice(names, p=weights / weights.sum()))
    hole = FAMILIES[len(shape)][family](rng, shape)
    if not hole.any():
        hole[tuple(n // 2 for n in shape)] = True
    if hole.all():
        hole[(0,) * len(shape)] = False
    return family, hole


def cloud(rng: np.random.Generator, shape: tuple[int, ...]) -> Hole:
    """Draw ragged blobs, the upper 8-50 % of fractal noise."""
    longest = rng.uniform(0.25, 1.2) * max(shape)
    noise = fractal(rng, shape, slope=rng.uniform(1.4, 2.2), longest=longest, shortest=3)
    return np.asarray(noise > np.quantile(noise, 1.0 - rng.uniform(0.08, 0.5)))


def regions(rng: np.random.Generator, shape: tuple[int, ...]) -> Hole:
    """Draw one to ten boxes of 4 to 96 pixels a side, at most half the tile."""
    hole = np.zeros(shape, dtype=bool)
    for _ in range(int(rng.integers(1, 11))):
        most = np.minimum(96, np.array(shape) // 2)
        size = np.exp(rng.uniform(np.log(4), np.log(np.maximum(most, 5)))).astype(int)
        start = [int(rng.integers(-s // 2, n - s // 2)) for s, n in zip(size, shape, strict=True)]
        hole[tuple(slice(max(a, 0), a + s) for a, s in zip(start, size, strict=True))] = True
    return hole


def border(rng: np.random.Generator, shape: tuple[int, ...]) -> Hole:
    """Draw a missing margin along one or two sides, straight or slanting, to a fifth of the extent deep."""
    hole = np.zeros(shape, dtype=bool)
    grid = np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij")
    for _ in range(int(rng.integers(1, 3))):
        axis = int(rng.integers(len(shape)))
        along = grid[(axis + 1) % len(shape)]
        depth = rng.uniform(0.02, 0.2) + rng.choice([0.0, rng.uniform(-0.3, 0.3)]) * (along - 0.5)
        side = grid[axis] if rng.random() < 0.5 else 1.0 - grid[axis]
        hole |= side < depth
    return hole


def points(rng: np.random.Generator, shape: tuple[int, ...]) -> Hole:
    """Draw single pixels, 5-85 % of them."""
    return np.asarray(rng.random(shape) < rng.uniform(0.05, 0.85))


def stripes(rng: np.random.Generator, shape: tuple[int, ...]) -> Hole:
    """Draw parallel slanting gaps that widen to one side, as of the failed Landsat 7 line corrector."""
    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]].astype(float)
    angle = rng.uniform(-0.35, 0.35) + rng.choice([0.0, np.pi / 2])
    across = rows * np.cos(angle) + cols * np.sin(angle)
    along = -rows * np.sin(angle) + cols * np.cos(angle)
    period = rng.uniform(8, 40)
    share = np.clip(rng.uniform(0.05, 0.45) + rng.uniform(-0.4, 0.4) * along / max(shape), 0.03, 0.6)
    return np.asarray(np.mod(across + rng.uniform(0, period), period) < np.maximum(share * period, 1.0))


def blobs(rng: np.random.Generator, shape: tuple[int, ...]) -> Hole:
    """Draw one to five ellipsoids of radius 3 to 12 voxels."""
    hole = np.zeros(shape, dtype=bool)
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    for _ in range(int(rng.integers(1, 6))):
        centre = [rng.uniform(0, n) for n in shape]
        radius = rng.uniform(3, 12) * rng.uniform(0.7, 1.3, len(shape))
        distance = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True))
        hole |= np.asarray(distance < 1.0)
    return hole


def slices(rng: np.random.Generator, shape: tuple[int, ...]) -> Hole:
    """Draw groups of one to three lost neighbouring slices along one axis."""
    hole = np.zeros(shape, dtype=bool)
    axis = int(rng.integers(len(shape)))
    view = np.moveaxis(hole, axis, 0)
    for start in range(int(rng.integers(2, 8)), shape[axis] - 3, int(rng.integers(8, 16))):
        view[start : start + int(rng.integers(1, 4))] = True
    return hole


FAMILIES: dict[int, dict[str, Draw]] = {
    2: {"cloud": cloud, "regions": regions, "border": border, "points": points, "stripes": stripes},
    3: {
        "blobs": blobs,
        "slices": slices,
        "points": points,
        "border": border,
        "cloud": cloud,
        "regions": regions,
    },
}
"""Families by number of spatial dimensions."""

KRIGED: dict[int, dict[str, float]] = {2: {"points": 0.5, "stripes": 0.5}, 3: {"slices": 0.5, "points": 0.5}}
"""Share of the holes of thin families that self-tests leave to kriging rather than to the spline."""

TENSIONS: dict[int, dict[str, tuple[float, float]]] = {
    2: {
        "cloud": (0.3, 0.8),
        "regions": (0.3, 0.8),
        "border": (0.3, 0.8),
        "points": (0.5, 1.0),
        "stripes": (0.5, 1.0),
    },
    3: dict.fromkeys(FAMILIES[3], (0.9, 1.0)),
}
"""Range of the spline's tension that self-tests choose from, by dimensions and family."""
