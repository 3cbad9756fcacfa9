"""Set up the self-test of an image: which fills compete, where, and with which hole shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec
from pipeline.geometry.box import Box
from pipeline.masks.base import FILL
from pipeline.models.base import Inpainter
from pipeline.pseudoholes import Mask, Shapes, Sides, collect, place
from pipeline.quality.situation import flat
from pipeline.references import UNUSED
from pipeline.registry import kinds
from pipeline.relate import relations
from pipeline.restore import Recipe
from pipeline.rim import Rim, check_rim
from pipeline.scene import Scene
from pipeline.selftest import judge
from pipeline.verdict import Verdict
from pipeline.weighing import FittedGuide
from pipeline.workspace import STORED

_PLACEMENTS = 6
_EXTENTS_OF_DEPTH = 14
"""Width of a test window in depths of the holes: room for a hole and for as much around it on either side."""
_RIM_WINDOWS = 3
_MAX_WINDOWS = 4096
_WIDEST = 3e38
"""Just inside the range of float32."""
FORCED_MODELS = {"identity", "constant"}
"""Models of the tests: they replace the restoration instead of competing in it."""


def self_test(scene: Scene, model: Inpainter | None) -> Verdict:
    """Decide fill, references, network weight and error bars of an image on pixels hidden on purpose."""
    start = draft(scene)
    kind = scene.job.model_kind
    if kind in FORCED_MODELS:
        wide = replace(start, network=flat(1.0), low=(-_WIDEST,) * len(start.low), high=(_WIDEST,) * len(start.high))
        return Verdict(recipe=wide, note=f"model {kind}: no self-test")
    labels = [f"{ref.role} {k} ({ref.label})" for k, ref in enumerate(scene.job.guides)] + ["other channels"]
    guides = [
        FittedGuide(label=label, relation=relation) for label, relation in zip(labels, relations(scene), strict=False)
    ]
    rng = np.random.default_rng(scene.job.seed)
    shapes = _shapes(scene, rng)
    tests = _test_windows(scene, shapes.depth, rng)
    placements = place(scene.window, tests, shapes, start.fill, scene.job.seed)
    fills = default_fills(scene.source.space.ndim, scene.spacing)
    forced = kind in kinds("fills")
    if forced:
        # the user chose the fill: the others are only measured beside it
        fills = [start.fill, *(f for f in fills if f.label != start.fill.label)]
    verdict = judge(placements, fills, guides, model, start, scene.values.spread, forced=forced)
    return replace(verdict, rim=_rim(scene, start, rng))


def _rim(scene: Scene, start: Recipe, rng: np.random.Generator) -> Rim:
    """Check the rim of the mask in a few windows with holes; a single window is looked at twice."""
    boxes, holes, kept = _windows(scene, scene.lattice.patch, rng)
    some = _draw(boxes, np.sqrt(holes * kept), _RIM_WINDOWS, rng)
    windows = [scene.window(box)[0] for box in some]
    if len(windows) == 1 and scene.source.space.ndim == 2:
        windows *= 2
    return check_rim(windows, default_fills(scene.source.space.ndim, scene.spacing)[0], start.floor, scene.job.seed)


def default_fills(ndim: int, spacing: tuple[float, ...]) -> list[FillSpec]:
    """Base fills that compete in the self-test, the default first."""
    if ndim == 2:
        return [
            FillSpec("tension", {"t": 0.5}),
            FillSpec("tension", {"t": 0.75}),
            FillSpec("tension", {"t": 0.9}),
            FillSpec("tension", {"t": 1.0}),
            FillSpec("kriging", {"t": 0.75}),
            FillSpec("harmonic"),
            FillSpec("nearest"),
        ]
    fills = [FillSpec("tension", {"t": 0.95}), FillSpec("kriging", {"t": 0.95})]
    if max(spacing) > 1.2 * min(spacing):
        fills += [FillSpec(kind, {"t": 0.95, "isotropic": True}) for kind in ("tension", "kriging")]
    return [
        *fills,
        # wide holes of grainy or thick volumes
        FillSpec("tension", {"t": 0.8}),
        # where there is only one side to go by, stiff splines overshoot
        FillSpec("tension", {"t": 0.5}),
        FillSpec("harmonic"),
        FillSpec("nearest"),
        FillSpec("through", {"order": "linear"}),
        FillSpec("through", {"order": "cubic"}),
    ]


def draft(scene: Scene) -> Recipe:
    """Return the recipe before the self-test: default fill, floors and limits of the file, nothing else used."""
    values = scene.values
    spread = values.spread
    margin = 0.05 * spread
    centre = np.asarray(values.centre)
    floor = np.maximum(0.01 * spread, values.quantum * 12**-0.5)
    floor = np.maximum(floor, np.finfo(np.float32).tiny * 1e6)
    fills = default_fills(scene.source.space.ndim, scene.spacing)
    kind = scene.job.model_kind
    fill = FillSpec(STORED) if kind == "identity" else fills[0]
    if kind in kinds("fills") and kind not in kinds("models"):
        fill = FillSpec(str(kind), scene.job.model_options)
    return Recipe(
        fill=fill,
        floor=tuple(float(v) for v in floor),
        # p1 to p99 spans 4.65 standard deviations of a normal distribution
        typical=tuple(float(v) for v in np.maximum(spread / 4.65, floor)),
        low=tuple(float(v) for v in np.clip(values.low - margin - centre, -_WIDEST, _WIDEST)),
        high=tuple(float(v) for v in np.clip(values.high + margin - centre, -_WIDEST, _WIDEST)),
        relations=(None,) * scene.n_guides,
        references=(UNUSED,) * scene.n_guides,
    )


def _shapes(scene: Scene, rng: np.random.Generator) -> Shapes:
    """Collect the shapes of the holes from up to 16 patch-sized windows."""
    patch = scene.lattice.patch
    boxes, holes, _ = _windows(scene, patch, rng)
    # counts are those of cells: a window may own none of the hole pixels of a cell at its edge
    return collect([_pattern(scene, box) for box in _draw(boxes, holes, 2 * _PLACEMENTS, rng)], scene.spacing)


def _test_windows(scene: Scene, depth: float, rng: np.random.Generator) -> list[Box]:
    """Return windows to test in: much observed, holes near, no larger than the holes ask for."""
    smallest, step = (128, 64) if scene.source.space.ndim == 2 else (40, 8)
    wanted = max(smallest, math.ceil(_EXTENTS_OF_DEPTH * depth / step) * step)
    size = tuple(min(p, wanted) for p in scene.lattice.patch)
    boxes, holes, kept = _windows(scene, size, rng)
    tests = _draw(boxes, kept * (1.0 + 3.0 * (holes > 0)), _PLACEMENTS, rng)
    # an image of one or two windows is tested several times with other hole positions
    return [tests[i * len(tests) // _PLACEMENTS] for i in range(_PLACEMENTS)] if tests else []


def _windows(
    scene: Scene, extent: tuple[int, ...], rng: np.random.Generator
) -> tuple[list[Box], NDArray[np.float64], NDArray[np.float64]]:
    """Return boxes of this size all over the image, and how many hole and observed pixels each has (roughly)."""
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
    """Return starts of windows that hold a hole pixel, for up to 16 of the cells that have holes."""
    cells = np.argwhere(scene.states.hole_cells)
    cells = cells[np.sort(rng.choice(len(cells), min(len(cells), 2 * _PLACEMENTS), replace=False))]
    edge, whole = scene.states.cell, Box.whole(scene.source.space.shape)
    found = []
    for cell in cells:
        box = Box(tuple(int(c) * edge for c in cell), tuple((int(c) + 1) * edge for c in cell)) & whole
        hole = (np.asarray(scene.state[(slice(None), *box.slices)]) == FILL).any(axis=0)
        pixel = np.argwhere(hole)[0] + box.start
        found.append([max(s for s in line if s <= p) for line, p in zip(starts, pixel, strict=True)])
    return np.asarray(found, dtype=np.int64)


def _draw(boxes: Sequence[Box], weight: NDArray[np.float64], n: int, rng: np.random.Generator) -> list[Box]:
    usable = int((weight > 0).sum())
    if not usable:
        return []
    chosen = rng.choice(len(boxes), size=min(n, usable), replace=False, p=weight / weight.sum())
    return [boxes[i] for i in sorted(chosen)]


def _pattern(scene: Scene, box: Box) -> tuple[Mask, Sides]:
    """Return the holes of a window, and at which of its sides the image ends."""
    planes: Mask = np.asarray(scene.state[(slice(None), *box.slices)]) == FILL
    shape = scene.source.space.shape
    return planes, tuple((a == 0, b == n) for a, b, n in zip(box.start, box.stop, shape, strict=True))
