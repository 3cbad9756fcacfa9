"""Test holes of evaluations, written apart from the masks that the shipped networks were trained on.

All functions return a bool array of the spatial shape, True = hole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Hole = NDArray[np.bool_]


def points(rng: np.random.Generator, shape: tuple[int, ...], share: float) -> Hole:
    """Lose single pixels at random."""
    return np.asarray(rng.random(shape) < share)


def wedges(rng: np.random.Generator, shape: tuple[int, ...]) -> Hole:
    """Lose scan lines as Landsat 7 did after its line corrector failed: wedges of 1-14 px every 33 px."""
    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]].astype(float)
    slant = np.deg2rad(rng.uniform(6, 10)) * rng.choice([-1, 1])
    across = rows * np.cos(slant) + cols * np.sin(slant) + rng.uniform(0, 33)
    along = cols / shape[1] if rng.random() < 0.5 else 1 - cols / shape[1]
    return np.asarray(np.mod(across, 33.0) < 1 + 13 * along)


def cloud(rng: np.random.Generator, shape: tuple[int, ...], share: float) -> Hole:
    """Hide the upper `share` of noise that has blobs of 6 to 40 pixels."""
    field = billows(rng, shape)
    return np.asarray(field > np.quantile(field, 1 - share))


def billows(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return noise that has blobs of 6 to 40 pixels."""
    field = np.zeros(shape)
    for sigma in (3.0, 6.0, 12.0, 20.0):
        layer = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="reflect")
        field += layer / layer.std() * sigma**0.8
    return field


def squares(rng: np.random.Generator, shape: tuple[int, ...], size: int, count: int) -> Hole:
    """Hide up to `count` squares, at least 8 px from each other and from the border."""
    hole = np.zeros(shape, dtype=bool)
    taken = np.zeros(shape, dtype=bool)
    for _ in range(200 * count):
        if count == 0:
            break
        start = [int(rng.integers(8, n - size - 7)) for n in shape]
        if not taken[tuple(slice(a - 8, a + size + 8) for a in start)].any():
            box = tuple(slice(a, a + size) for a in start)
            hole[box] = taken[box] = True
            count -= 1
    return hole


def slices(rng: np.random.Generator, shape: tuple[int, ...], number: int, groups: int) -> Hole:
    """Lose `groups` runs of `number` neighbouring slices along the first axis, well apart."""
    hole = np.zeros(shape, dtype=bool)
    step = shape[0] // groups
    for k in range(groups):
        start = k * step + int(rng.integers(3, max(4, step - number - 2)))
        hole[start : start + number] = True
    return hole


def blobs(
    rng: np.random.Generator,
    inside: Hole,
    radius: tuple[float, float],
    count: int,
    spacing: tuple[float, ...],
) -> Hole:
    """Hide ellipsoids whose half axes are `radius` steps of the finest axis times 0.8-1.25, mostly in `inside`."""
    hole = np.zeros(inside.shape, dtype=bool)
    grid = np.ogrid[tuple(slice(n) for n in inside.shape)]
    step = min(spacing)
    for _ in range(50 * count):
        if count == 0:
            break
        axes = [rng.uniform(*radius) * rng.uniform(0.8, 1.25) * step / s for s in spacing]
        clear = [min(int(a), n // 3) for a, n in zip(axes, inside.shape, strict=True)]
        centre = [int(rng.integers(m, n - m)) for m, n in zip(clear, inside.shape, strict=True)]
        blob = np.asarray(sum(((g - c) / a) ** 2 for g, c, a in zip(grid, centre, axes, strict=True)) < 1)
        near = ndimage.binary_dilation(blob, iterations=3)
        if inside[blob].mean() > 0.9 and not hole[near].any():
            hole |= blob
            count -= 1
    return hole
