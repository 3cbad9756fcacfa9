"""The open files of a plan in one process: image, guides, hole states, coarse fill, model, block store.

Opened once a process and cached, so a worker that runs a thousand blocks opens each file once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.image.open import OpenGuide, open_guide, open_source
from pipeline.masks.base import FILL, KEEP
from pipeline.models.base import Inpainter
from pipeline.plan.plan import Plan, load_plan
from pipeline.registry import load
from pipeline.restore.task import Guide, Task, with_siblings

STORED = "stored"
"""Marker instead of a base fill: holes keep what the file stores there. Only the identity model uses it."""

STATE, GUESS, BLOCKS = "state.zarr", "guess.npy", "blocks.zarr"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Everything a block reads.

    Attributes:
        plan: the plan.
        source: the image, staged if that makes reading cheaper.
        guides: sources of the references and auxiliaries with their own masks.
        state: zarr array uint8 `(n_state, *spatial)` of KEEP/FILL/NEVER.
        guess: float32 `(c, *coarse)`, centred values of the coarse fill.
        model: the network, None if the recipe does not use one.
    """

    plan: Plan
    source: Source
    guides: tuple[OpenGuide, ...]
    state: zarr.Array
    guess: NDArray[np.float32]
    model: Inpainter | None

    def read_state(self, box: Box) -> NDArray[np.uint8]:
        """Return the states of `box`, shape `(n_state, *box.shape)`."""
        return np.asarray(self.state[(slice(None), *box.slices)])

    def read_guides(self, box: Box) -> tuple[Guide, ...]:
        """Return references and auxiliaries over `box`."""
        return tuple(guide.read(box) for guide in self.guides)

    def task(self, index: tuple[int, ...], held: Held) -> Task:
        """Cut the window of patch `index` out of what a block holds in memory."""
        plan = self.plan
        patch_box = plan.lattice.box(index)
        box = patch_box & Box.whole(plan.space.shape)
        part = (slice(None), *box.within(held.box))
        state = held.state[part]
        shape = (len(plan.channels), *box.shape)
        guess = coarse_window(self.guess, plan.guess_factor, box)
        window = Window(
            # sums over a strided view round differently from sums over a contiguous copy: the window must look
            # the same whatever block it is cut from
            values=np.ascontiguousarray(held.values[part]),
            valid=np.broadcast_to(state == KEEP, shape),
            hole=np.broadcast_to(state == FILL, shape),
            spacing=plan.spacing,
            guess=guess,
            open_edges=tuple((a > 0, b < n) for a, b, n in zip(box.start, box.stop, plan.space.shape, strict=True)),
        )
        guides = tuple(
            Guide(values=np.ascontiguousarray(g.values[part]), valid=np.ascontiguousarray(g.valid[part]))
            for g in held.guides
        )
        return Task(
            window=window,
            guides=with_siblings(window, guides, plan.n_state),
            base=self._base(window, guess),
            patch=plan.lattice.patch,
            offset=tuple(a - b for a, b in zip(box.start, patch_box.start, strict=True)),
        )

    def _base(self, window: Window, guess: NDArray[np.float32]) -> NDArray[np.float32] | None:
        if self.plan.recipe.fill.kind == STORED:
            return window.values
        return np.where(window.valid, window.values, guess) if self.plan.guess_factor == 1 else None


@dataclass(frozen=True, kw_only=True)
class Held:
    """Pixels of one read box, in memory: centred values, states and guides."""

    box: Box
    values: NDArray[np.float32]
    state: NDArray[np.uint8]
    guides: tuple[Guide, ...]


@lru_cache(maxsize=2)
def open_workspace(workdir: str, digest: str) -> Workspace:
    """Open (once a process) all that the plan in `workdir` needs; `digest` guards against another plan there."""
    plan = load_plan(Path(workdir))
    if plan.digest != digest:
        raise RuntimeError(f"plan in {workdir} changed from {digest[:12]} to {plan.digest[:12]} while in use")
    folder = Path(workdir)
    return Workspace(
        plan=plan,
        source=open_source(plan.source),
        guides=tuple(open_guide(guide, plan.space) for guide in plan.guides),
        state=zarr.open_array(folder / STATE, mode="r"),
        guess=np.load(folder / GUESS, mmap_mode="r"),
        model=open_model(plan),
    )


def open_model(plan: Plan) -> Inpainter | None:
    """Open the plan's model; None if the recipe does not use it."""
    if plan.model is None or plan.recipe.network_weight == 0:
        return None
    ref = plan.model
    model: Inpainter = load("models", ref.kind).open_model(
        Path(ref.weights) if ref.weights else None, ndim=plan.ndim, device=ref.device, options=ref.options
    )
    if model.sha256 != ref.sha256:
        raise RuntimeError(f"model weights changed: plan has {ref.sha256[:12]}, found {model.sha256[:12]}")
    return model


def coarse_window(guess: NDArray[np.float32], factor: int, box: Box) -> NDArray[np.float32]:
    """Return the coarse fill over `box`, `(c, *box.shape)`, linearly interpolated between cell centres."""
    if factor == 1:
        return np.asarray(guess[(slice(None), *box.slices)])
    lows, weights, cells = [], [], []
    for axis in range(box.ndim):
        position = (np.arange(box.start[axis], box.stop[axis]) + 0.5) / factor - 0.5
        position = np.clip(position, 0, guess.shape[axis + 1] - 1)
        first = int(position[0])
        last = min(int(position[-1]) + 1, guess.shape[axis + 1] - 1)
        low = np.minimum(position.astype(int), last)
        lows.append(low - first)
        weights.append((position - low).astype(np.float32))
        cells.append(slice(first, last + 1))
    result = np.asarray(guess[(slice(None), *cells)])
    for axis, (low, weight) in enumerate(zip(lows, weights, strict=True), start=1):
        upper = np.minimum(low + 1, result.shape[axis] - 1)
        column = weight.reshape([-1 if a == axis else 1 for a in range(result.ndim)])
        below, above = np.take(result, low, axis=axis), np.take(result, upper, axis=axis)
        result = below + column * (above - below)
    return result
