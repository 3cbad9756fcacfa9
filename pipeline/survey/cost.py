"""How long the rest of a run will take, known as soon as the holes are: work counts times the speed of this machine.

What is counted: pixels of the windows of the self-test, looks of the network at them, hole pixels of the coarse fill,
pixels that blocks estimate. A look of the network is timed here, on the device of the run; everything classical is a
constant of a reference machine, scaled by how this one does a small piece of such arithmetic. What cannot be known
before the self-test is how much of the network an image gets: that is most of the span between low and high.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from pipeline.geometry.box import Box
from pipeline.image.scene import Scene
from pipeline.image.workspace import estimate_box
from pipeline.models.base import BFLOAT16, Inpainter, Patch, precision_of
from pipeline.numerics.parts import parts_of
from pipeline.plan.cost import Cost, Span
from pipeline.plan.plan import Plan, patches_with_holes
from pipeline.restore.recipe import Recipe
from pipeline.selftest.network import FEW
from pipeline.selftest.windows import PLACEMENTS, hole_shapes, test_extent
from pipeline.system.meter import metered
from pipeline.system.signals import stop_if_asked

# Seconds on the reference machine (one core of an AMD EPYC), fitted to eight runs (docs/performance.md).
_PROBE_S, _PROBE_EDGE = 0.0062, 48
"""What `_speed` times: a sparse solution of a square of that edge."""
_START_S, _START_NETWORK_S = 2.0, 2.2
"""Start of the program; import of PyTorch and opening of the network."""
_TEST_S, _TEST_PIXEL_S, _TEST_HOLE_S = 0.8, 4.5e-5, 3.3e-4
"""Self-test without references and network: at all, for each pixel of a window, and for each that holes like the
image's would hide of it; all fills and all windows."""
_GUIDE_S, _GUIDE_VALUE_S = 2.0, 1e-5
"""The same more for each reference: at all, and for each pixel and channel of a window."""
_UNKNOWN_S = {2: 6e-6, 3: 4e-5}
"""Coarse fill: for each hole pixel and channel, by dimensions."""
_VALUE_S = 5e-8
"""A pixel of a channel in which next to nothing is done: masks, statistics, levels."""
_DOUBT_S, _DOUBT_VALUE_S, _DOUBT_PIXELS = 0.2, 2.5e-7, 24 * 256**2
"""Looking for haze and shadow beside the mask of a raster: at all, for each pixel and channel of image and references,
and the most pixels that are looked at."""
_BLOCK_S, _ESTIMATE_S, _GUIDED_S = 0.1, 3e-7, 2e-6
"""A block at all; an estimated pixel of a channel; the same more for each reference."""
_FILES_S, _FILE_VALUE_S, _MOVED_VALUE_S = 0.3, 1.7e-7, 5e-8
"""Files and report: at all, for each pixel of a channel in blocks with holes, and in the rest."""

_SPREAD = 1.3
"""Factor by which what is counted may be off either way."""
_SAMPLED, _PER_BLOCK = 50, 8
"""Blocks, and patches of each, of which it is looked how much is estimated."""
_TIMED = {2: 128, 3: 32}
"""Largest extent of the patch that a look of the network is timed on, by dimensions."""


@dataclass(frozen=True, slots=True)
class _Looks:
    """How often the network looks at each window of the self-test, and at each pixel of a block."""

    test: float
    blocks: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How long the run of an image takes, and the counts that it follows from."""

    cost: Cost
    look_s: float
    """One look of the network at one pixel of one channel, seconds; 0 without a network."""
    extent: tuple[int, ...]
    """Of a window of the self-test, pixels."""
    values: float
    """Pixels times channels that all blocks estimate."""
    seen: float
    """Pixels times channels that a network looks at once for that."""

    def decided(self, plan: Plan, model: Inpainter | None) -> Cost:
        """Return the same once the self-test has decided how much of the network the image gets."""
        look_s, precision = self.look_s, plan.recipe.network_precision
        if model is not None and BFLOAT16 in precision:
            quick, share = (
                _look_seconds(model, self.extent, "cpu", BFLOAT16),
                precision.count(BFLOAT16) / len(precision),
            )
            look_s = share * quick + (1 - share) * look_s
        seconds = _block_seconds(plan, self.values) + self.seen * look_s * _views(plan.recipe, model)
        return replace(self.cost, blocks=Span.around(seconds, _SPREAD))


def forecast(scene: Scene, plan: Plan, model: Inpainter | None) -> Forecast:
    """Return how long the run of an image takes, before anything was decided.

    Args:
        scene: the opened image; it has holes.
        plan: its outline.
        model: the network, or None.
    """
    depth = hole_shapes(scene, np.random.default_rng(scene.job.seed)).depth
    extent = test_extent(scene, depth)
    window, values = math.prod(extent), len(scene.image.channels) * math.prod(scene.shape)
    look_s = _look_seconds(model, extent, scene.job.model.device, precision_of(model)) if model is not None else 0.0
    looks = _looks(scene, model)
    start = _START_S + (_START_NETWORK_S if model is not None else 0.0)
    looked = values * _VALUE_S + _doubt_seconds(scene)
    alone, shared = _test_seconds(scene, window)
    threads = min(max(1, scene.job.threads), PLACEMENTS)
    before = _speed() * (start + looked + _coarse_seconds(scene, plan) + alone + shared / threads)
    estimated, seen = _estimated_values(scene, plan)
    cost = Cost(
        survey=_span([before + window * look_s * one.test / threads for one in looks]),
        blocks=_span([_block_seconds(plan, estimated) + seen * look_s * one.blocks for one in looks]),
        files=Span.around(_speed() * _file_seconds(plan, values), _SPREAD),
    )
    return Forecast(cost=cost, look_s=look_s, extent=extent, values=estimated, seen=seen)


def _span(seconds: list[float]) -> Span:
    low, likely, high = seconds
    return Span(low=low / _SPREAD, likely=likely, high=high * _SPREAD)


def _looks(scene: Scene, model: Inpainter | None) -> tuple[_Looks, _Looks, _Looks]:
    """Return the fewest, likely and most looks of the network; see `selftest.network.judged` for when it looks."""
    if model is None:
        return (_Looks(0, 0),) * 3
    n, views = PLACEMENTS, getattr(model, "views", 1)
    if not scene.job.model.traits.weighed:
        return (_Looks(0, views),) * 3
    tried = (1 if scene.ndim == 2 else FEW) if views > 1 else 0
    most = n * views
    if scene.n_guides:
        # references leave less to the network
        return _Looks(2 * FEW, 0), _Looks(2 * n + tried, 0.4), _Looks(2 * most, views)
    # mirror images seldom pay in rasters, and in volumes about as often as not
    usual = n + tried if scene.ndim == 2 else (n + tried + most) / 2
    return _Looks(FEW, 0), _Looks(usual, 1), _Looks(most, views)


def _views(recipe: Recipe, model: Inpainter | None) -> int:
    if model is None or recipe.network_weight == 0:
        return 0
    return recipe.network_views or int(getattr(model, "views", 1))


def _test_seconds(scene: Scene, window: int) -> tuple[float, float]:
    """Return what the self-test takes without the network: at all, and in its windows, which threads share."""
    if not scene.job.model.traits.weighed:
        return 0.0, 0.0
    guided = scene.n_guides * window * len(scene.image.channels) * _GUIDE_VALUE_S
    states = scene.states
    share = states.holes / max(states.holes + states.kept + states.doubted, 1)
    return _TEST_S + scene.n_guides * _GUIDE_S, window * (_TEST_PIXEL_S + share * _TEST_HOLE_S) + guided


def _doubt_seconds(scene: Scene) -> float:
    if scene.ndim != 2 or scene.job.model.traits.sees_stored:
        return 0.0
    bands = len(scene.image.channels) + sum(guide.source.n_channels for guide in scene.guides)
    return _DOUBT_S + min(math.prod(scene.shape), _DOUBT_PIXELS) * bands * _DOUBT_VALUE_S


def _coarse_seconds(scene: Scene, plan: Plan) -> float:
    planes = len(scene.image.channels) / scene.states.n_state
    return float(scene.states.holes / plan.guess_factor**scene.ndim * planes * _UNKNOWN_S[scene.ndim])


def _block_seconds(plan: Plan, estimated: float) -> float:
    return _speed() * (len(plan.blocks) * _BLOCK_S + estimated * (_ESTIMATE_S + len(plan.guides) * _GUIDED_S))


def _file_seconds(plan: Plan, values: int) -> float:
    in_blocks = min(values, len(plan.blocks) * math.prod(plan.block) * len(plan.channels))
    return _FILES_S + in_blocks * _FILE_VALUE_S + (values - in_blocks) * _MOVED_VALUE_S


def _estimated_values(scene: Scene, plan: Plan) -> tuple[float, float]:
    """Return the pixels times channels that all blocks estimate, and that a network looks at once for that.

    These are windows around the holes of patches, and the parts of them that hold holes.
    """
    blocks = plan.blocks[:: -(-len(plan.blocks) // _SAMPLED) or 1]
    sizes = [size for block in blocks for size in _estimated_pixels(scene, plan, block.index)]
    estimated, seen = np.mean(sizes or [(0, 0)], axis=0) * plan.forwards * len(plan.channels)
    return float(estimated), float(seen)


def _estimated_pixels(scene: Scene, plan: Plan, index: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the pixels that are estimated, and looked at, for some patches of a block."""
    stop_if_asked()
    lattice, image = scene.lattice, scene.image
    start = tuple(i * n for i, n in zip(index, plan.block, strict=True))
    box = Box(start, tuple(a + n for a, n in zip(start, plan.block, strict=True))) & Box.whole(scene.shape)
    patches = list(patches_with_holes(lattice, box, image.holes(box)))
    some = patches[:: -(-len(patches) // _PER_BLOCK) or 1]
    holes = [np.asarray(image.holes(lattice.support(patch)).any(axis=0)) for patch in some]
    return [
        (estimate_box(lattice, patch, hole).size, sum(part.own.size for part in parts_of(hole, len(plan.channels))))
        for patch, hole in zip(some, holes, strict=True)
    ]


@cache
def _speed() -> float:
    """Return how long classical arithmetic takes here, as a multiple of the reference machine."""
    from scipy.sparse import diags_array, eye_array, kron
    from scipy.sparse.linalg import splu

    side = diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(_PROBE_EDGE, _PROBE_EDGE))
    grid = (kron(side, eye_array(_PROBE_EDGE)) + kron(eye_array(_PROBE_EDGE), side)).tocsc()
    return _faster(lambda: splu(grid).solve(np.ones(_PROBE_EDGE**2)), time.process_time) / _PROBE_S


def _look_seconds(model: Inpainter, extent: tuple[int, ...], device: str, precision: str) -> float:
    """Return how long one look of the network at one pixel takes on the device of the run."""
    shape = (1, *(min(n, _TIMED[len(extent)]) for n in extent))
    patch = Patch(
        filled=np.zeros(shape, dtype=np.float32),
        valid=np.ones(shape, dtype=np.bool_),
        spacing=(1.0,) * len(extent),
        floor=np.ones(1, dtype=np.float32),
        views=1,
        precision=(precision,),
    )
    # a processor is shared with others, and what it does for them does not count; a device is waited for
    clock = time.process_time if device == "cpu" else time.perf_counter
    return _faster(lambda: model.predict([patch]), clock) / math.prod(shape)


def _faster(piece: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the seconds of the faster of two tries: the first one warms up."""
    times = []
    for _ in range(2):
        started = clock()
        # what is tried here is no part of the run's work
        with metered():
            piece()
        times.append(clock() - started)
    return min(times)
