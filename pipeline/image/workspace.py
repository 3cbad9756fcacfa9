"""The open files of a plan in one process: image, guides, hole states, coarse fill, model.

Opened once a process and cached, so a worker that runs a thousand blocks opens each file once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.errors import IntegrityError
from pipeline.geometry.box import Box
from pipeline.geometry.lattice import Lattice
from pipeline.image.beyond import Held, Read, coarse_window, read_beyond
from pipeline.image.contamination import contamination
from pipeline.image.open import open_guide, open_source
from pipeline.image.window import OpenImage, Pixels
from pipeline.masks.base import FILL
from pipeline.models.base import Inpainter, require_precision
from pipeline.plan.plan import Plan, load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.restore.task import Task

_AROUND = {2: 48, 3: 16}
"""Pixels around the holes of a patch that an estimate is made from, by dimensions."""

_LEAST = {2: 128, 3: 48}
"""Smallest extent of what an estimate is made from, pixels; the self-test hides in windows of this size and more."""

_STEP = {2: 16, 3: 8}
"""Pixels that windows begin and end at multiples of: few shapes are met, and networks need no padding for most."""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Everything a block reads."""

    plan: Plan
    image: OpenImage
    coarse: zarr.Array | Held
    """Coarse fill of the whole image, `(c, *cells)`, centred values."""
    beyond: zarr.Array | Held | None = None
    """What patches cannot see of the image, `(n, *cells)`, see `read_beyond`; None = they see all."""
    model: Inpainter | None
    """The network, None if the recipe does not use one."""

    def over(self, box: Box) -> Workspace:
        """Return this with the cells that windows inside a box are interpolated from in memory.

        An exact fill has as many values as the image: its windows are read one by one.
        """
        coarse, beyond, plan = self.coarse, self.beyond, self.plan
        if isinstance(coarse, zarr.Array) and plan.guess_factor > 1:
            coarse = Held.of(coarse, plan.guess_factor, box)
        if isinstance(beyond, zarr.Array):
            beyond = Held.of(beyond, plan.beyond_cell, box)
        return replace(self, coarse=coarse, beyond=beyond)

    def window(self, index: tuple[int, ...], pixels: Pixels) -> Box:
        """Return what the estimate of patch `index` is made from: the holes it has a say in, and their surroundings.

        It lies inside the patch and the image, and depends on the holes of the patch alone, not on the block.
        """
        lattice = self.plan.lattice
        return estimate_box(lattice, index, (pixels.states_of(lattice.support(index)) == FILL).any(axis=0))

    def task(self, index: tuple[int, ...], box: Box, pixels: Pixels) -> Task:
        """Cut the window `box` of patch `index` out of what a block holds in memory."""
        plan = self.plan
        guess = coarse_window(self.coarse, plan.guess_factor, box)
        window, guides = pixels.window(box, guess)
        base = None
        if plan.recipe.sees_stored:
            base = window.values
        elif plan.guess_factor == 1:
            base = np.where(window.valid, window.values, guess)
        far = Read() if self.beyond is None else read_beyond(self.beyond, plan, box, window)
        return Task(
            window=window,
            guides=guides,
            base=base,
            used=(plan.lattice.support(index) & box).within(box),
            patch=min(plan.lattice.patch),
            around=contamination(pixels.states_of(box), self.image.haze, box),
            beyond=far.beyond,
            around_beyond=far.contamination,
            corrections=far.corrections,
        )


def estimate_box(lattice: Lattice, index: tuple[int, ...], holes: NDArray[np.bool_]) -> Box:
    """Return what the estimate of patch `index` is made from, see `Workspace.window`.

    Args:
        lattice: of the patches.
        index: of the patch.
        holes: hole pixels of its support, bool, `(*lattice.support(index).shape)`.
    """
    ndim = len(lattice.shape)
    step, least = _STEP[ndim], _LEAST[ndim]
    whole = lattice.box(index) & Box.whole(lattice.shape)
    support = lattice.support(index)
    bounds = []
    for axis, (low, high, first) in enumerate(zip(whole.start, whole.stop, support.start, strict=True)):
        found = np.flatnonzero(holes.any(axis=tuple(a for a in range(ndim) if a != axis)))
        a, b = (int(found[0]), int(found[-1]) + 1) if found.size else (0, 0)
        around = max(_AROUND[ndim], -(-(least - (b - a)) // 2))
        start = max(low, (first + a - around) // step * step)
        stop = min(high, -(-(first + b + around) // step) * step)
        # what is cut off at one side is added at the other
        bounds.append((max(low, min(start, stop - least)), min(high, max(stop, start + least))))
    return Box(tuple(a for a, _ in bounds), tuple(b for _, b in bounds))


@lru_cache(maxsize=2)
def open_workspace(workdir: str, digest: str) -> Workspace:
    """Open (once a process) all that the plan in `workdir` needs; `digest` guards against another plan there.

    Raises:
        IntegrityError: the plan or the weights are not those that the run began with.
    """
    work = WorkFolder(Path(workdir))
    plan = load_plan(work)
    if plan.digest != digest:
        raise IntegrityError(
            f"{work.plan}: the plan changed while it was in use, from {digest[:12]} to {plan.digest[:12]}; run again "
            "with --overwrite to start afresh"
        )
    source = open_source(plan.source)
    image = OpenImage(
        source=source,
        state=zarr.open_array(work.state, mode="r"),
        haze=zarr.open_array(work.haze, mode="r") if plan.hazy else None,
        guides=tuple(open_guide(guide, source) for guide in plan.guides),
        channels=plan.channels,
        centre=plan.centre,
        spacing=plan.spacing,
        sees_stored=plan.recipe.sees_stored,
    )
    return Workspace(
        plan=plan,
        image=image,
        coarse=zarr.open_array(work.coarse, mode="r"),
        beyond=zarr.open_array(work.beyond, mode="r") if plan.beyond_cell else None,
        model=open_model(plan),
    )


def open_model(plan: Plan) -> Inpainter | None:
    """Open the plan's model; None if the recipe does not use it.

    Raises:
        IntegrityError: the weights are not those of the plan.
        PlanRefused: this processor does not compute in the precision of the plan.
    """
    if plan.model is None or plan.recipe.network_weight == 0:
        return None
    require_precision(plan.recipe.network_precision, plan.source.paths[0])
    return plan.model.opening(plan.ndim).open()
