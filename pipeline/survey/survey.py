"""What must be known before a block runs: states, statistics, the self-test's verdict, a coarse fill, the blocks.

The survey is the only step that looks at the whole image, in passes of bounded memory. It ends in an immutable `Plan`;
blocks add nothing to what is decided here, which is why they are pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from threadpoolctl import threadpool_limits

from pipeline.errors import ConfigError
from pipeline.evidence.doubt import Doubt
from pipeline.evidence.mark import bands_of, doubt_notice, looked_pixels, with_doubt, with_doubted_filled
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.image.levels import level_notices
from pipeline.image.scan import StateScan
from pipeline.image.scene import Clock, Scene, open_scene
from pipeline.image.unseen import unseen_notices
from pipeline.models._choice import by_holes
from pipeline.models.base import Inpainter, Portable, reduced_notice, reduced_to
from pipeline.plan.cost import Cost, Span
from pipeline.plan.disk import check_room
from pipeline.plan.gpu_memory import GpuMemory, gpu_memory
from pipeline.plan.job import Job
from pipeline.plan.memory import auto_block, check_doubt, check_fits, doubt_bytes
from pipeline.plan.plan import BlockRow, Plan, patches_with_holes
from pipeline.plan.refs import ModelRef
from pipeline.restore.recipe import Recipe
from pipeline.selftest.setup import self_test, start_recipe
from pipeline.selftest.verdict import Verdict
from pipeline.survey.coarse import Coarse, coarse_factor, coarse_fill
from pipeline.survey.cost import forecast
from pipeline.survey.thin import thin_share
from pipeline.survey.touched import largest_windows, touched_patches
from pipeline.system.signals import stop_if_asked
from pipeline.system.threads import Each, computed_by, threaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The plan and what people want to know about how it came about."""

    plan: Plan
    verdict: Verdict | None
    states: StateScan
    patches_touching_holes: int
    model_name: str
    seconds: dict[str, float]
    notices: tuple[str, ...]
    doubt: Doubt | None = None
    """How contaminated pixels are told; None where that could not be looked at."""
    gpu: GpuMemory | None = None
    """What the network needs of a GPU, if it runs on one."""
    cost: Cost | None = None
    """How long what is left of the run takes; None for an image without holes."""
    doubt_bytes: int = 0
    """What looking for contaminated pixels holds."""
    tested: int = 0
    """Pixels of a window of the self-test."""

    def facts(self) -> dict[str, Any]:
        """Return what the record needs beside the plan, as JSON values."""
        verdict = self.verdict
        self_test = None
        if verdict is not None:
            self_test = {
                "placements": verdict.placements,
                "hidden_pixels": verdict.hidden_pixels,
                "coverage_90": verdict.coverage_90,
                "coverage_90_by_channel": verdict.coverage_90_by_channel,
                "predicted_rmse": verdict.predicted_rmse,
                "calibration": verdict.calibration,
                "decisions": verdict.decisions,
                "rim": asdict(verdict.rim) | {"advice": verdict.rim.sentence(self.plan.space)},
                "note": verdict.note,
                "methods": [asdict(row) for row in verdict.rows],
            }
        return {
            "self_test": self_test,
            "states": {
                "holes": self.states.holes,
                "kept": self.states.kept,
                "never": self.states.never,
                "left": self.states.left,
                "wide": self.states.wide,
                "marked_empty": self.states.marked_empty,
            },
            "doubt": self.doubt.facts(self.plan.space) if self.doubt else None,
            "patches_touching_holes": self.patches_touching_holes,
            "model_name": self.model_name,
            "seconds": self.seconds,
            "notices": self.notices,
        }


Told = Callable[[Plan, Cost], None]
"""Hears the outline of a plan and its cost, before the look for thin cloud and, with what is left, after each stage."""


Hire = Callable[[Plan], Each | None]
"""Says, from the outline of a plan, who computes the windows of the self-test; None = threads of this process."""


def survey(job: Job, told: Told = lambda *_: None, hire: Hire | None = None) -> Survey:
    """Look at the image of a job and return its plan.

    Raises:
        SourceError: the image, a mask or a guide cannot be used.
        ConfigError: the config asks for what this image cannot have.
        PlanRefused: nothing is observed, or the work does not fit the memory or disk.
    """
    clock = Clock()
    with threadpool_limits(limits=1), threaded(job.threads):
        scene, notices = open_scene(job, clock)
        if scene.states.holes == 0:
            return _outlined(scene, notices, clock)
        _doubt_bytes(scene)
        model, model_ref = find_model(scene)
        clock.lap("model")
        sketch = _plan(scene, start_recipe(scene, model), model_ref, Coarse(fill_cell=coarse_factor(scene)))
        ahead = forecast(scene, sketch, model)
        told(sketch, ahead.cost)
        # the look for thin cloud leaves a core for processes that start
        others = hire(sketch) if hire else None
        clock.lap("forecast")
        notices += [*level_notices(scene), *unseen_notices(scene)]
        scene, doubt = with_doubt(scene)
        clock.lap("doubt")
        ahead = ahead.looked(scene, sketch)
        told(sketch, ahead.at_pace(ahead.cost, clock.seconds))
        verdict = _tested(scene, model, model_ref, others)
        if verdict.samples is not None:
            verdict.samples.save(job.work.samples)
        clock.lap("self-test")
        left = ahead.decided(replace(sketch, recipe=verdict.recipe, hazy=scene.states.hazy), model)
        left = ahead.at_pace(left, clock.seconds)
        told(sketch, left)
        factor = coarse_factor(scene)
        scene = with_doubted_filled(scene)
        coarse = coarse_fill(scene, verdict.recipe, factor)
        clock.lap("coarse fill")
        plan = _plan(scene, verdict.recipe, model_ref, coarse)
        clock.lap("plan")
        touching = len(touched_patches(scene))
        gpu, gpu_notice = _gpu(plan, model)
    return Survey(
        plan=plan,
        verdict=verdict,
        states=scene.states,
        patches_touching_holes=touching,
        model_name=model.name if model else "",
        seconds=clock.seconds,
        notices=(*notices, *filter(None, (doubt_notice(scene, doubt), verdict.rim.sentence(plan.space), gpu_notice))),
        doubt=doubt,
        gpu=gpu,
        cost=replace(left, survey=Span()),
    )


def _tested(scene: Scene, model: Inpainter | None, ref: ModelRef | None, others: Each | None) -> Verdict:
    """Return what the self-test decides; its windows are computed by others, if there are any."""
    if others is None:
        return self_test(scene, model)
    with computed_by(others):
        return self_test(scene, Portable(model, ref.opening(scene.ndim)) if model is not None and ref else model)


def outline(job: Job) -> Survey:
    """Return the plan of a job without the self-test and the fill: counts, memory and disk, no value computed.

    The digest of such a plan is that of no run: it holds the recipe from before the self-test.

    Raises:
        SourceError, ConfigError, PlanRefused: as `survey`.
    """
    clock = Clock()
    scene, notices = open_scene(job, clock)
    with threadpool_limits(limits=1):
        return _outlined(scene, notices, clock)


def _outlined(scene: Scene, notices: list[str], clock: Clock) -> Survey:
    """Return what is known without computing a value; all there is to know of an image without holes."""
    model, model_ref, coarse = None, None, Coarse(fill_cell=1)
    if scene.states.holes:
        model, model_ref = find_model(scene)
        coarse = Coarse(fill_cell=coarse_factor(scene))
    plan = _plan(scene, start_recipe(scene, model), model_ref, coarse)
    gpu, gpu_notice = _gpu(plan, model)
    ahead = forecast(scene, plan, model) if scene.states.holes else None
    return Survey(
        plan=plan,
        verdict=None,
        states=scene.states,
        patches_touching_holes=len(touched_patches(scene)),
        model_name=model.name if model else "",
        seconds=clock.seconds,
        notices=(*notices, *filter(None, [gpu_notice])),
        gpu=gpu,
        cost=ahead.cost if ahead else None,
        doubt_bytes=_doubt_bytes(scene),
        tested=math.prod(ahead.extent) if ahead and scene.job.model.traits.weighed else 0,
    )


def _doubt_bytes(scene: Scene) -> int:
    """Return what looking for contaminated pixels holds, in bytes.

    Raises:
        PlanRefused: they do not fit the memory.
    """
    looked, bands = looked_pixels(scene), bands_of(scene)
    check_doubt(scene.source.paths[0], looked, bands, scene.job.memory_bytes)
    return doubt_bytes(looked, *bands)


def _gpu(plan: Plan, model: Inpainter | None) -> tuple[GpuMemory | None, str]:
    """Return what the network needs of a GPU, and what the user should know of it.

    Raises:
        PlanRefused: it does not fit.
    """
    memory = gpu_memory(plan, model)
    notice = memory.check(plan.source.paths[0]) if memory else ""
    reduced = reduced_to(model)
    return memory, reduced_notice(reduced) if reduced else notice


def find_model(scene: Scene) -> tuple[Inpainter | None, ModelRef | None]:
    """Open the model a job asks for; without a model section, shipped weights that fit the image and its holes.

    Raises:
        ConfigError: unknown kind, missing weights or wrong hash.
        PlanRefused: the device is not there.
    """
    choice = scene.job.model
    weights = by_holes(choice.weights_files(scene.source), lambda: thin_share(scene))
    if weights is not None:
        import torch

        # sums over threads would make the self-test depend on the machine
        torch.set_num_threads(1)
    model = choice.open(weights, scene.ndim)
    if model is None:
        return None, None
    ref = ModelRef(
        kind=choice.network,
        weights=str(weights) if weights else None,
        sha256=model.sha256,
        options=choice.options,
        device=choice.device,
    )
    return model, ref


def _plan(scene: Scene, recipe: Recipe, model: ModelRef | None, coarse: Coarse) -> Plan:
    job, source, channels = scene.job, scene.source, scene.image.channels
    nodata = tuple(source.nodata[c] for c in channels)
    plan = Plan(
        workdir=str(job.work.path),
        source=job.source,
        guides=job.guides,
        model=model,
        recipe=recipe,
        space=source.space,
        channels=channels,
        empty=scene.states.empty,
        n_state=scene.states.n_state,
        doubted=scene.states.doubted,
        hazy=scene.states.hazy,
        dtype=source.dtype.newbyteorder("=").str,
        nodata=nodata,
        refused=_refused(job, source, channels, nodata),
        centre=scene.image.centre,
        spread=tuple(float(v) for v in scene.values.spread),
        refuse_above=job.refuse_above,
        lattice=scene.lattice,
        spacing=scene.image.spacing,
        guess_factor=coarse.fill_cell,
        beyond_cell=coarse.beyond_cell,
        block=job.block or scene.lattice.patch,
        batch=job.batch,
        survey_sha256=coarse.sha256,
        config=job.config,
    )
    block = job.block or auto_block(plan, source.n_channels, job.memory_bytes)
    plan = replace(plan, block=block)
    check_fits(plan, source.n_channels, job.memory_bytes)
    window, seen = largest_windows(scene, plan) if scene.ndim == 3 else (0, 0)
    plan = replace(plan, blocks=_blocks(scene, plan), window=window, seen=seen)
    check_room(plan, source.n_channels, display=job.display)
    return plan


def _refused(
    job: Job, source: Source, channels: tuple[int, ...], nodata: tuple[float | None, ...]
) -> tuple[float | None, ...]:
    if job.refuse_above is None:
        return (None,) * len(channels)
    if source.dtype.kind == "f":
        return tuple(float("nan") if n is None else n for n in nodata)
    if any(n is None for n in nodata):
        raise ConfigError(
            f"output.refuse_above needs a nodata value for the refused pixels, {source.paths[0]} ({source.dtype}) "
            "has none: set input.nodata"
        )
    return nodata


def _blocks(scene: Scene, plan: Plan) -> tuple[BlockRow, ...]:
    rows = []
    for box in Box.whole(plan.space.shape).tiles(plan.block):
        stop_if_asked()
        if not scene.states.near_holes(box):
            continue
        hole = scene.image.holes(box)
        n_holes = int(hole.sum()) * (len(plan.channels) // plan.n_state)
        if n_holes:
            n_patches = sum(1 for _ in patches_with_holes(plan.lattice, box, hole))
            index = tuple(a // n for a, n in zip(box.start, plan.block, strict=True))
            rows.append(BlockRow(index=index, holes=n_holes, patches=n_patches))
    return tuple(rows)
