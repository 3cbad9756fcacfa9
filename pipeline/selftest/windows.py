"""Where to test: windows with holes to take shapes from, and windows with much observed to hide them in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.image.scene import Scene
from pipeline.numerics.column import column
from pipeline.numerics.statistics import varied
from pipeline.selftest.shapes import Mask, Shapes, Sides, collect

PLACEMENTS = 6
"""Windows to test in."""

_SHAPE_WINDOWS = 12
"""Windows that hole shapes are taken from."""

_TRIED = 4
"""Windows of a volume that are looked at for each one to test in: many of a head's hold little but air."""

_FLAT = 0.01
"""Standard deviation, in robust ranges of the channel, below which values do not vary."""

_EXTENTS_OF_DEPTH = 14
"""Width of a test window in depths of the holes: room for a hole and for as much around it on either side."""

_LARGEST = {2: 256, 3: 64}
"""Extent of the windows that shapes are taken from, and of the largest ones to test in, by dimensions."""

_MAX_WINDOWS = 4096
"""Windows that are looked at; of more a random choice is."""


def largest(scene: Scene) -> tuple[int, ...]:
    """Return the extent of the largest windows that are looked at: no larger than a patch."""
    return tuple(min(p, _LARGEST[scene.ndim]) for p in scene.lattice.patch)


def hole_shapes(scene: Scene, rng: np.random.Generator) -> Shapes:
    """Collect the shapes of the holes from up to 12 windows, those with many hole pixels most likely.

    They reach as far as fills must: over the doubted pixels that hang together with them.

    Args:
        scene: the opened image.
        rng: draws the windows.
    """
    boxes, holes, _ = candidate_windows(scene, largest(scene), rng)
    # counts are those of cells: a window may own none of the hole pixels of a cell at its edge
    some = draw(boxes, holes, _SHAPE_WINDOWS, rng)
    shapes = collect([_pattern(scene, box, scene.image.holes_with_rims(box)) for box in some], scene.spacing)
    if not scene.states.doubted:
        return shapes
    bare = collect([_pattern(scene, box, scene.image.holes(box)) for box in some], scene.spacing)
    return replace(shapes, bare=bare.deep)


def test_extent(scene: Scene, depth: float) -> tuple[int, ...]:
    """Return the extent of the windows to test in, for holes of a depth (see `test_windows`)."""
    smallest, step = (128, 64) if scene.source.space.ndim == 2 else (40, 8)
    wanted = max(smallest, math.ceil(_EXTENTS_OF_DEPTH * depth / step) * step)
    # an image may be smaller than a patch
    return tuple(min(n, wanted, whole) for n, whole in zip(largest(scene), scene.source.space.shape, strict=True))


def test_windows(scene: Scene, depth: float, rng: np.random.Generator) -> list[Box]:
    """Return 6 windows to test in: much observed, holes near, no larger than the holes ask for.

    In a volume, whose windows differ as tissues do, the more of a hole is in a window the likelier it is drawn: what is
    told of real holes is told from those in these windows.

    An image of fewer windows gives the same ones several times, to be tested with other hole positions; one without any
    observed pixel gives none.

    Args:
        scene: the opened image.
        depth: how deep the holes are, see `Shapes`, steps of the finest axis.
        rng: draws the windows.
    """
    size = test_extent(scene, depth)
    boxes, holes, kept = candidate_windows(scene, size, rng)
    weight = kept * (1.0 + 3.0 * (holes > 0))
    if scene.source.space.ndim == 3:
        near = dict(zip(boxes, np.sqrt(1.0 + holes), strict=True))
        boxes = draw(boxes, weight, _TRIED * PLACEMENTS, rng)
        weight = np.asarray([content(scene, box) * near[box] for box in boxes])
    tests = draw(boxes, weight, PLACEMENTS, rng)
    return [tests[i * len(tests) // PLACEMENTS] for i in range(PLACEMENTS)] if tests else []


def apart(n: int) -> list[int]:
    """Return the numbers of `n` windows in the order in which they are looked at: first two that lie far apart.

    Windows are sorted by place, and neighbours may overlap.
    """
    half = -(-n // 2)
    return sorted(range(n), key=lambda k: (k % half, k))


def content(scene: Scene, box: Box) -> float:
    """Return how many observed voxels of a window lie where values vary; a few at least, if any are observed."""
    window, _ = scene.window(box)
    if not window.valid.any():
        return 0.0
    # a hole in air must not look like something
    usual = np.median(window.values[window.valid])
    floor = column(_FLAT * scene.values.spread, scene.source.space.ndim, np.float32)
    return 1.0 + float((window.valid & varied(np.where(window.valid, window.values, usual), floor)).sum())


def candidate_windows(
    scene: Scene, extent: tuple[int, ...], rng: np.random.Generator
) -> tuple[list[Box], NDArray[np.float64], NDArray[np.float64]]:
    """Return boxes all over the image, overlapping by half, and what each holds.

    Args:
        scene: the opened image.
        extent: size of the boxes, per axis; smaller where the image is.
        rng: draws some of them where there are too many.

    Returns:
        The boxes, and for each the hole pixels and the observed pixels of the cells it touches, `(n,)` each: more than
        its own if it begins or ends inside a cell.
    """
    shape = scene.source.space.shape
    size = tuple(min(p, n) for p, n in zip(extent, shape, strict=True))
    starts = [sorted({*range(0, n - s + 1, max(1, s // 2)), n - s}) for n, s in zip(shape, size, strict=True)]
    grid = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, len(shape))
    if len(grid) > _MAX_WINDOWS:
        some = grid[np.sort(rng.choice(len(grid), _MAX_WINDOWS, replace=False))]
        # a random choice misses the holes of a large image that has few
        grid = np.unique(np.concatenate([some, _starts_at_holes(scene, starts, rng)]), axis=0)
    cell = scene.states.cell
    boxes = [Box(tuple(int(v) for v in g), tuple(int(v) + s for v, s in zip(g, size, strict=True))) for g in grid]
    cuts = [tuple(slice(a // cell, -(-b // cell)) for a, b in zip(x.start, x.stop, strict=True)) for x in boxes]
    holes = np.asarray([scene.states.hole_cells[c].sum() for c in cuts], dtype=np.float64)
    kept = np.asarray([scene.states.kept_cells[c].sum() for c in cuts], dtype=np.float64)
    return boxes, holes, kept


def _starts_at_holes(scene: Scene, starts: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return starts of windows that hold a hole pixel, `(n, ndim)`, for up to 12 of the cells that have holes."""
    cells = np.argwhere(scene.states.hole_cells)
    cells = cells[np.sort(rng.choice(len(cells), min(len(cells), _SHAPE_WINDOWS), replace=False))]
    edge, whole = scene.states.cell, Box.whole(scene.source.space.shape)
    found = []
    for cell in cells:
        box = Box(tuple(int(c) * edge for c in cell), tuple((int(c) + 1) * edge for c in cell)) & whole
        hole = scene.image.holes(box).any(axis=0)
        pixel = np.argwhere(hole)[0] + box.start
        found.append([max(s for s in line if s <= p) for line, p in zip(starts, pixel, strict=True)])
    return np.asarray(found, dtype=np.int64)


def draw(boxes: Sequence[Box], weight: NDArray[np.float64], n: int, rng: np.random.Generator) -> list[Box]:
    """Draw different boxes with chances in proportion to their weights.

    Args:
        boxes: to draw from.
        weight: of each, `(len(boxes),)`, >= 0; a box of weight 0 is never drawn.
        n: how many; fewer come back if fewer have a weight.
        rng: of the draws.

    Returns:
        The boxes drawn, in the order of `boxes`.
    """
    usable = int((weight > 0).sum())
    if not usable:
        return []
    chosen = rng.choice(len(boxes), size=min(n, usable), replace=False, p=weight / weight.sum())
    return [boxes[i] for i in sorted(chosen)]


def _pattern(scene: Scene, box: Box, planes: Mask) -> tuple[Mask, Sides]:
    """Return holes of a window, and at which of its sides the image ends."""
    shape = scene.source.space.shape
    return planes, tuple((a == 0, b == n) for a, b, n in zip(box.start, box.stop, shape, strict=True))
