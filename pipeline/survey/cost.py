"""How long the rest of a run will take, known as soon as the holes are: work counts times the speed of this machine.

What is counted: pixels of the windows of the self-test, looks of the network at them, hole pixels of the coarse fill,
pixels that blocks estimate. A look of the network is timed here, on the device of the run; everything classical is a
constant of a reference machine, scaled by how this one does a small piece of such arithmetic. What cannot be known
before the self-test is how much of the network an image gets: that is most of the span between low and high.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from pipeline.evidence.mark import bands_of, looked_at, looked_pixels
from pipeline.geometry.box import Box
from pipeline.image.scene import Scene
from pipeline.image.workspace import estimate_box
from pipeline.models.base import BFLOAT16, Inpainter, Patch, precision_of
from pipeline.numerics.parts import parts_of
from pipeline.plan.cost import Cost, Span
from pipeline.plan.plan import Plan, patches_with_holes
from pipeline.restore.recipe import Recipe
from pipeline.selftest.guides import related_pixels
from pipeline.selftest.network import FEW
from pipeline.selftest.placing import DEEP_SHARE, MOST_HIDDEN, SHAPES_PER_WINDOW, THIN_SHARE, THIN_WINDOWS
from pipeline.selftest.shapes import Shapes
from pipeline.selftest.windows import PLACEMENTS, hole_shapes, test_extent
from pipeline.system.meter import metered
from pipeline.system.signals import stop_if_asked

_PROBE_S, _PROBE_EDGE = 0.0030, 48
"""What `_speed` times on the machine that the seconds below are of, and the edge of the square that it solves for."""

SECONDS: Mapping[str, float] = {
    # start of the program; import of PyTorch and opening of the network
    "start": 1.5,
    "network": 2,
    # masks, statistics, levels: for each pixel of a channel
    "look": 0.09,
    "look value": 1.2e-8,
    # looking for haze and shadow beside the mask: for each pixel of the windows, and each of a channel or reference
    "doubt": 0.05,
    "doubt pixel": 5e-7,
    "doubt value": 2.8e-7,
    # self-test without the network: for each pixel of a channel that its windows hide, by dimensions
    "test": 0.91,
    "test hidden 2": 3.7e-6,
    "test hidden 3": 3.8e-5,
    # the same more where there is a network, beside its passes: it is weighed, and seen mirrored
    "networked 2": 1.2e-6,
    "networked 3": 2.3e-5,
    # relation of all references, or of the channels to one another: for each, for each band of theirs, and for each
    # pixel of a band that it is sought in, by dimensions
    "relation": 0.3,
    "relation band": 0.04,
    "relation value 2": 1.5e-7,
    "relation value 3": 6e-7,
    # what a relation says in windows of the self-test, and how sure it is: for each pixel of a channel, by dimensions
    "consulted 2": 8.5e-7,
    "consulted 3": 1.7e-6,
    # coarse fill and what patches cannot see: for each value on cells, and each that is hidden
    "coarse": 0.03,
    "coarse value": 1e-7,
    "coarse 2": 7.2e-7,
    "coarse 3": 8.2e-6,
    # blocks: for each, for each estimated pixel of a channel, for each that references are asked of, and for each of
    # those where haze was taken off
    "block": 0.06,
    "estimate 2": 1.4e-7,
    "estimate 3": 2.4e-7,
    "guided 2": 4e-7,
    "guided 3": 1.7e-6,
    "hazy": 8e-7,
    # files and report: for each pixel of a channel in blocks with holes, and in the rest
    "files": 0.4,
    "file value": 1.1e-7,
    "moved value": 1.6e-8,
}
"""Seconds of one core of an AMD EPYC for each of what is counted, from `python -m benchmarks.forecast --fit`;
`doubt value` lies between what scenes with and without haze took, which is not known before."""

Counts = Mapping[str, float]
"""How much there is to do of each of `SECONDS`."""
SURVEY = ("start", "look", "doubt", "test", "coarse")
"""Stages before the first block, and beside the windows of the self-test, which threads share."""
_GROWS = {2: 1.0, 3: 1.5}
"""Power of the hidden share of a window that the time of the self-test grows with, by dimensions: splines of a void
took four times as long as those of blobs of which 0.4 times as much was hidden."""
_MAY_BE_HAZY = 0.6
"""Share of the time that haze takes which counts as long as nobody has looked for it."""
_SPREAD = 1.4
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
    counts: Mapping[str, Counts] = field(default_factory=dict)
    """What is counted, stage by stage, under the names of `SECONDS`."""

    def decided(self, plan: Plan, model: Inpainter | None) -> Cost:
        """Return the same once the self-test has decided how much of the network the image gets."""
        look_s, precision = self.look_s, plan.recipe.network_precision
        if model is not None and BFLOAT16 in precision:
            quick, share = (
                _look_seconds(model, self.extent, "cpu", BFLOAT16),
                precision.count(BFLOAT16) / len(precision),
            )
            look_s = share * quick + (1 - share) * look_s
        counts = _block_counts(plan, self.values, len(plan.recipe.consulted), float(plan.hazy > 0))
        seconds = _seconds(counts) + self.seen * look_s * _views(plan.recipe, model)
        return replace(self.cost, blocks=Span.around(seconds, _SPREAD))


def forecast(scene: Scene, plan: Plan, model: Inpainter | None) -> Forecast:
    """Return how long the run of an image takes, before anything was decided.

    Args:
        scene: the opened image; it has holes.
        plan: its outline.
        model: the network, or None.
    """
    shapes = hole_shapes(scene, np.random.default_rng(scene.job.seed))
    extent = test_extent(scene, shapes.depth)
    look_s = _look_seconds(model, extent, scene.job.model.device, precision_of(model)) if model is not None else 0.0
    estimated, seen = _estimated_values(scene, plan)
    counts = {
        "start": {"start": 1.0, "network": float(model is not None)},
        **_survey_counts(scene, plan, shapes, math.prod(extent)),
        "blocks": _block_counts(plan, estimated, len(_related_bands(scene)), _MAY_BE_HAZY * looked_at(scene)),
        "files": _file_counts(plan, len(scene.image.channels) * math.prod(scene.shape)),
    }
    looks, threads = _looks(scene, model), min(max(1, scene.job.threads), PLACEMENTS)
    # windows are shared by threads
    before = sum(_seconds(counts[stage]) for stage in SURVEY) + _seconds(counts["windows"]) / threads
    blocks = _seconds(counts["blocks"])
    cost = Cost(
        survey=_span([before + math.prod(extent) * look_s * one.test / threads for one in looks]),
        blocks=_span([blocks + seen * look_s * one.blocks for one in looks]),
        files=Span.around(_seconds(counts["files"]), _SPREAD),
    )
    return Forecast(cost=cost, look_s=look_s, extent=extent, values=estimated, seen=seen, counts=counts)


def _seconds(counts: Counts) -> float:
    """Return how long what is counted takes here, without the network."""
    return _speed() * sum(count * SECONDS[what] for what, count in counts.items())


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


def _survey_counts(scene: Scene, plan: Plan, shapes: Shapes, window: int) -> dict[str, Counts]:
    """Return what the survey does before blocks, stage by stage; `windows`: what is done in those of the self-test."""
    channels, related = len(scene.image.channels), _related_bands(scene)
    planes, cell = channels / scene.states.n_state, plan.guess_factor**scene.ndim
    looked, weighed = looked_pixels(scene), scene.job.model.traits.weighed
    share = _hidden_share(shapes, window, scene.states.kept / (scene.states.kept + scene.states.holes))
    hidden = weighed * PLACEMENTS * channels * window * share ** _GROWS[scene.ndim]
    return {
        "look": {"look": 1.0, "look value": channels * math.prod(scene.shape)},
        "doubt": {"doubt": float(looked > 0), "doubt pixel": looked, "doubt value": looked * sum(bands_of(scene))},
        "test": {
            "test": float(weighed),
            "relation": float(weighed * len(related)),
            "relation band": float(weighed * sum(related)),
            f"relation value {scene.ndim}": float(weighed * sum(related) * related_pixels(scene.shape)),
        },
        "windows": {
            f"test hidden {scene.ndim}": hidden,
            f"networked {scene.ndim}": hidden * (plan.model is not None),
            f"consulted {scene.ndim}": float(weighed * PLACEMENTS * channels * window * len(related)),
        },
        "coarse": {
            "coarse": 1.0,
            "coarse value": channels * math.prod(scene.shape) / cell,
            f"coarse {scene.ndim}": scene.states.holes * planes / cell,
        },
    }


def _related_bands(scene: Scene) -> list[int]:
    """Return the number of bands in each relation that is asked, about.

    Several references are asked together; one of them by itself only where it sees what the others do not.
    """
    files = sum(guide.source.n_channels for guide in scene.guides)
    own = len(scene.image.channels) * scene.has_siblings
    return [bands for bands in (files, own) if bands]


def _hidden_share(shapes: Shapes, window: int, observed: float) -> float:
    """Return which part of a window of the self-test will be hidden, about; see `selftest.placing.hide`.

    `observed` is the part of it that is observed, which shares of what is hidden are of.
    """
    hidden = 0.0
    if shapes.deep:
        sizes = np.asarray([shape.mask[0].sum() for shape in shapes.deep], dtype=np.float64)
        usual = float((sizes**2).sum() / max(sizes.sum(), 1.0)) / window
        hidden += max(usual, min(SHAPES_PER_WINDOW * float(sizes.mean()) / window, DEEP_SHARE * observed))
    if shapes.thin:
        hidden += THIN_SHARE * observed * (THIN_WINDOWS / PLACEMENTS if shapes.rarely_thin else 1.0)
    return min(hidden, MOST_HIDDEN * observed)


def _block_counts(plan: Plan, estimated: float, related: int, hazy: float) -> Counts:
    """Return what blocks do where so many relations are asked; `hazy`: how likely haze was taken off, 0 to 1."""
    return {
        "block": len(plan.blocks),
        f"estimate {plan.ndim}": estimated,
        f"guided {plan.ndim}": estimated * related,
        "hazy": estimated * related * hazy,
    }


def _file_counts(plan: Plan, values: int) -> Counts:
    in_blocks = min(values, len(plan.blocks) * math.prod(plan.block) * len(plan.channels))
    return {"files": 1.0, "file value": in_blocks, "moved value": values - in_blocks}


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
