"""What must be known before a block runs: states, statistics, the self-test's verdict, a coarse fill, the blocks.

The survey is the only step that looks at the whole image, in passes of bounded memory. It ends in an immutable `Plan`;
blocks add nothing to what is decided here, which is why they are pure functions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import zarr
from threadpoolctl import threadpool_limits

from pipeline.errors import ConfigError
from pipeline.fills._candidates import default_fills
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.image.open import open_source
from pipeline.image.scan import StateScan
from pipeline.image.scene import Clock, Scene, lattice_of, open_scene, restorable
from pipeline.image.workspace import GUESS
from pipeline.masks.base import FILL
from pipeline.models._choice import weights_of
from pipeline.models.base import Inpainter
from pipeline.plan.job import Job
from pipeline.plan.memory import auto_block, check_fits
from pipeline.plan.plan import Plan, patches_with_holes
from pipeline.plan.refs import ModelRef
from pipeline.registry import kinds, load
from pipeline.restore.recipe import Recipe
from pipeline.selftest.setup import draft, self_test
from pipeline.selftest.verdict import Verdict
from pipeline.survey.coarse import coarse_factor, coarse_fill


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

    def facts(self) -> dict[str, Any]:
        """Return what the record needs beside the plan, as JSON values."""
        verdict = self.verdict
        self_test = None
        if verdict is not None:
            self_test = {
                "placements": verdict.placements,
                "hidden_pixels": verdict.hidden_pixels,
                "coverage_90": verdict.coverage_90,
                "predicted_rmse": verdict.predicted_rmse,
                "calibration": verdict.calibration,
                "decisions": verdict.decisions,
                "rim": asdict(verdict.rim) | {"advice": verdict.rim.sentence()},
                "note": verdict.note,
                "methods": [asdict(row) for row in verdict.rows],
            }
        return {
            "self_test": self_test,
            "states": {"holes": self.states.holes, "kept": self.states.kept, "never": self.states.never},
            "patches_touching_holes": self.patches_touching_holes,
            "model_name": self.model_name,
            "seconds": self.seconds,
            "notices": self.notices,
        }


def survey(job: Job) -> Survey:
    """Look at the image of a job and return its plan.

    Raises:
        SourceError: the image, a mask or a guide cannot be used.
        ConfigError: the config asks for what this image cannot have.
        PlanRefused: nothing is observed, or the work does not fit the memory or disk.
    """
    clock = Clock()
    with threadpool_limits(limits=1):
        scene, notices = open_scene(job, clock)
        if scene is None:
            return _nothing_to_do(job, notices, clock)
        model, model_ref = find_model(job, scene.source)
        verdict = self_test(scene, model)
        clock.lap("self-test")
        factor, digest = coarse_fill(scene, verdict.recipe)
        clock.lap("coarse fill")
        plan = _plan(scene, verdict, model_ref, factor, digest)
        clock.lap("plan")
        touching = _patches_touching_holes(scene)
    return Survey(
        plan=plan,
        verdict=verdict,
        states=scene.states,
        patches_touching_holes=touching,
        model_name=model.name if model else "",
        seconds=clock.seconds,
        notices=(*notices, *filter(None, (verdict.rim.sentence(),))),
    )


def outline(job: Job) -> Survey:
    """Return the plan of a job without the self-test and the fill: counts, memory and disk, no value computed.

    The digest of such a plan is that of no run: it holds the default recipe.

    Raises:
        SourceError, ConfigError, PlanRefused: as `survey`.
    """
    clock = Clock()
    scene, notices = open_scene(job, clock)
    if scene is None:
        return _nothing_to_do(job, notices, clock)
    model, model_ref = find_model(job, scene.source)
    factor = coarse_factor(scene)
    return Survey(
        plan=_plan(scene, Verdict(recipe=draft(scene)), model_ref, factor, ""),
        verdict=None,
        states=scene.states,
        patches_touching_holes=_patches_touching_holes(scene),
        model_name=model.name if model else "",
        seconds=clock.seconds,
        notices=tuple(notices),
    )


def find_model(job: Job, source: Source) -> tuple[Inpainter | None, ModelRef | None]:
    """Open the model a job asks for; without a model section, shipped weights that fit the kind of image.

    Raises:
        ConfigError: unknown kind, missing weights or wrong hash.
        PlanRefused: the device is not there.
    """
    kind = job.model_kind or "autoencoder"
    if kind in kinds("fills") and kind not in kinds("models"):
        return None, None
    weights = weights_of(kind, job.model_weights, source)
    if weights is not None:
        import torch

        # sums over threads would make the self-test depend on the machine
        torch.set_num_threads(1)
    model: Inpainter = load("models", kind).open_model(
        weights, ndim=source.space.ndim, device=job.device, options=job.model_options
    )
    ref = ModelRef(
        kind=kind,
        weights=str(weights) if weights else None,
        sha256=model.sha256,
        options=job.model_options,
        device=job.device,
    )
    return model, ref


def _plan(scene: Scene, verdict: Verdict, model: ModelRef | None, factor: int, digest: str) -> Plan:
    job, source = scene.job, scene.source
    channels = scene.channels
    nodata = tuple(source.nodata[c] for c in channels)
    plan = Plan(
        workdir=str(job.workdir),
        source=job.source,
        guides=job.guides,
        model=model,
        recipe=verdict.recipe,
        space=source.space,
        channels=channels,
        n_state=scene.states.n_state,
        dtype=source.dtype.newbyteorder("=").str,
        nodata=nodata,
        refused=_refused(job, source, channels, nodata),
        centre=scene.values.centre,
        spread=tuple(float(v) for v in scene.values.spread),
        refuse_above=job.refuse_above,
        lattice=scene.lattice,
        spacing=scene.spacing,
        guess_factor=factor,
        block=job.block or scene.lattice.patch,
        batch=job.batch,
        survey_sha256=digest,
        config=job.config,
    )
    block = job.block or auto_block(plan, source.n_channels, job.memory_bytes)
    plan = replace(plan, block=block)
    check_fits(plan, source.n_channels, job.memory_bytes)
    return replace(plan, blocks=_blocks(scene, plan))


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


def _blocks(scene: Scene, plan: Plan) -> tuple[tuple[int, ...], ...]:
    rows = []
    for box in Box.whole(plan.space.shape).tiles(plan.block):
        hole = np.asarray(np.asarray(scene.state[(slice(None), *box.slices)]) == FILL)
        n_holes = int(hole.sum()) * (len(plan.channels) // plan.n_state)
        if n_holes:
            n_patches = sum(1 for _ in patches_with_holes(plan.lattice, box, hole))
            index = tuple(a // n for a, n in zip(box.start, plan.block, strict=True))
            rows.append((*index, n_holes, n_patches))
    return tuple(rows)


def _patches_touching_holes(scene: Scene) -> int:
    """Count the patches of the whole lattice that touch a hole: what one block the size of the image would run."""
    lattice = scene.lattice
    touched = np.zeros(lattice.counts, dtype=np.bool_)
    for box in Box.whole(lattice.shape).tiles(scene.state.chunks[1:]):
        hole = np.asarray(np.asarray(scene.state[(slice(None), *box.slices)]) == FILL)
        for index in patches_with_holes(lattice, box, hole):
            touched[index] = True
    return int(touched.sum())


def _nothing_to_do(job: Job, notices: list[str], clock: Clock) -> Survey:
    source = open_source(job.source)
    ndim, shape = source.space.ndim, source.space.shape
    channels = restorable(source)
    zeros = (0.0,) * len(channels)
    state = zarr.open_array(job.workdir / "state.zarr", mode="r")
    plan = Plan(
        workdir=str(job.workdir),
        source=job.source,
        recipe=Recipe(fill=default_fills(ndim, (1.0,) * ndim)[0], floor=zeros, typical=zeros, low=zeros, high=zeros),
        space=source.space,
        channels=channels,
        n_state=state.shape[0],
        dtype=source.dtype.newbyteorder("=").str,
        nodata=tuple(source.nodata[c] for c in channels),
        refused=(None,) * len(channels),
        centre=zeros,
        spread=zeros,
        lattice=lattice_of(job, shape),
        spacing=(1.0,) * ndim,
        guess_factor=1,
        block=lattice_of(job, shape).patch,
        config=job.config,
    )
    np.save(job.workdir / GUESS, np.zeros((1,) * (ndim + 1), dtype=np.float32))
    empty = np.zeros((0,), dtype=np.int64)
    states = StateScan(n_state=1, holes=0, kept=0, never=0, cell=1, hole_cells=empty, kept_cells=empty)
    return Survey(
        plan=plan,
        verdict=None,
        states=states,
        patches_touching_holes=0,
        model_name="",
        seconds=clock.seconds,
        notices=tuple(notices),
    )
