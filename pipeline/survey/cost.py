"""How long the rest of a run will take, known as soon as the holes are: work counts times the speed of this machine.

What `counts` says there is to do is multiplied by constants of a reference machine, scaled by how this one does a small
piece of such arithmetic. A look of the network is timed here, on the device of the run. What cannot be known before the
self-test is how much of the network an image gets: that is most of the span between low and high. As the survey goes
on, what is left is told anew from what was found, at the pace of what is over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from pipeline.evidence.mark import looked_at
from pipeline.image.scene import Scene
from pipeline.models.base import BFLOAT16, Inpainter, Patch, precision_of
from pipeline.plan.cost import Cost, Span
from pipeline.plan.plan import Plan
from pipeline.restore.recipe import Recipe
from pipeline.selftest.network import FEW
from pipeline.selftest.windows import PLACEMENTS, hole_shapes, test_extent
from pipeline.survey.coarse import coarse_factor
from pipeline.survey.counts import (
    Counts,
    block_counts,
    coarse_counts,
    estimated_values,
    file_counts,
    likely_consulted,
    survey_counts,
)
from pipeline.system.meter import metered

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
    # the same of further looks, where a reference has clouds of its own
    "again value": 2.8e-7,
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
    # blocks: for each, for each estimated pixel of a channel, for each that references are asked of, for each further
    # relation that is asked of it, and where haze was taken off
    "block": 0.06,
    "estimate 2": 1.4e-7,
    "estimate 3": 2.4e-7,
    "guided 2": 4e-7,
    "guided 3": 1.7e-6,
    "besides 2": 8.5e-7,
    "besides 3": 1.7e-6,
    "hazy": 5e-7,
    # files and report: for each pixel of a channel in blocks with holes, and in the rest
    "files": 0.4,
    "file value": 1.1e-7,
    "moved value": 1.6e-8,
}
"""Seconds of one core of an AMD EPYC for each of what is counted, from `python -m benchmarks.forecast --fit`;
`doubt value` lies between what scenes with and without haze took, which is not known before."""

_MAY_BE_HAZY = 0.6
"""Share of the time that haze takes in blocks which counts beside references as long as nobody has looked for it."""
_MAY_LOOK_AGAIN = 0.6
"""The same of further looks without the references that have masks: where nothing is contaminated they take little."""
_SPREAD = 1.4
"""Factor by which what is counted may be off either way."""
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
    looking: Span = field(default_factory=Span)
    """The look for contaminated pixels."""
    testing: Span = field(default_factory=Span)
    """The self-test."""
    consulted: int = 0
    """Relations that estimates will likely ask."""
    passes: Span = field(default_factory=Span)
    """The network in all blocks."""

    def looked(self, scene: Scene, plan: Plan) -> Forecast:
        """Return it once contaminated pixels are known: what is left is the self-test, the coarse fill and the rest."""
        counts = {
            **self.counts,
            "coarse": coarse_counts(scene, coarse_factor(scene)),
            "blocks": block_counts(plan, self.values, self.consulted, float(scene.states.hazy > 0)),
        }
        survey, blocks = self.testing + _around(counts["coarse"]), self.passes + _around(counts["blocks"])
        return replace(self, counts=counts, cost=replace(self.cost, survey=survey, blocks=blocks))

    def at_pace(self, left: Cost, seconds: Mapping[str, float]) -> Cost:
        """Return what is left at the pace of the stages that are over; `seconds`: what they took, by stage."""
        over = {"doubt": self.looking, "self-test": self.testing}
        foretold = sum(span.likely for stage, span in over.items() if stage in seconds)
        return left.paced(foretold, sum(seconds.get(stage, 0.0) for stage in over))

    def decided(self, plan: Plan, model: Inpainter | None) -> Cost:
        """Return what is left once the self-test has decided what is asked: the coarse fill, blocks and files."""
        look_s, precision = self.look_s, plan.recipe.network_precision
        if model is not None and BFLOAT16 in precision:
            quick, share = (
                _look_seconds(model, self.extent, "cpu", BFLOAT16),
                precision.count(BFLOAT16) / len(precision),
            )
            look_s = share * quick + (1 - share) * look_s
        counts = block_counts(plan, self.values, len(plan.recipe.consulted), float(plan.hazy > 0))
        seconds = _seconds(counts) + self.seen * look_s * _views(plan.recipe, model)
        coarse = self.counts.get("coarse", {})
        return replace(self.cost, survey=_around(coarse), blocks=Span.around(seconds, _SPREAD))


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
    estimated, seen = estimated_values(scene, plan)
    consulted = likely_consulted(scene)
    counts = {
        "start": {"start": 1.0, "network": float(model is not None)},
        **survey_counts(scene, plan, shapes, math.prod(extent)),
        "blocks": block_counts(plan, estimated, consulted, _MAY_BE_HAZY * (looked_at(scene) and consulted > 0)),
        "files": file_counts(plan, len(scene.image.channels) * math.prod(scene.shape)),
    }
    looks, threads = _looks(scene, model), min(max(1, scene.job.threads), PLACEMENTS)
    # windows are shared by threads
    tested = _seconds(counts["test"]) + _seconds(counts["windows"]) / threads
    testing = _span([tested + math.prod(extent) * look_s * one.test / threads for one in looks])
    passes = _span([seen * look_s * one.blocks for one in looks])
    again = _seconds({"again value": counts["doubt"]["again value"]})
    first = _seconds(counts["doubt"]) - again
    looking = _span([first, first + _MAY_LOOK_AGAIN * again, first + again])
    cost = Cost(
        opened=_around(counts["start"]) + _around(counts["look"]),
        survey=looking + testing + _around(counts["coarse"]),
        blocks=passes + _around(counts["blocks"]),
        files=_around(counts["files"]),
    )
    return Forecast(
        cost=cost, look_s=look_s, extent=extent, values=estimated, seen=seen, counts=counts, looking=looking,
        testing=testing, consulted=consulted, passes=passes,
    )  # fmt: skip


def _seconds(counts: Counts) -> float:
    """Return how long what is counted takes here, without the network."""
    return _speed() * sum(count * SECONDS[what] for what, count in counts.items())


def _around(counts: Counts) -> Span:
    return Span.around(_seconds(counts), _SPREAD)


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
