"""The one place where all parts meet: a block is a pure function of the plan and its number.

::

      read box (what patches may see)           write box (owned: no other block writes here)
    +-----------------------------------+
    |   patches of the global lattice   |       read -> fill -> refine -> blend -> composite -> write
    |    +-------------------------+    |
    |    |        write box        |    |       Predictions are summed in lexicographic patch order with weights
    |    +-------------------------+    |       that sum to exactly 1, so the bytes do not depend on how the image
    +-----------------------------------+       was cut into blocks. Observed pixels are moved, never computed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from pipeline.blocks import journal
from pipeline.blocks.composite import Blended, composite
from pipeline.blocks.seams import Said, Seams, shared
from pipeline.blocks.store import store
from pipeline.geometry.box import Box
from pipeline.image.window import Pixels
from pipeline.image.workspace import Workspace, open_workspace
from pipeline.masks.base import FILL
from pipeline.models.base import reduced_to
from pipeline.numerics.pixels import picked, pixels_of
from pipeline.plan.plan import Plan, patches_with_holes
from pipeline.restore.codes import CLASSICAL
from pipeline.restore.estimate import estimate
from pipeline.system.facts import peak_rss_bytes
from pipeline.system.meter import as_facts, metered


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockResult:
    """What a block reports: counts of its write box and seconds by stage."""

    block: int
    patches: int
    """Those computed for it; what a neighbour had left is not computed again."""
    by_source: dict[int, int]
    seconds: dict[str, float]
    peak_rss_bytes: int
    channels_a_pass: int | None = None
    """Channels that the network took at once, if a GPU that was full made them fewer than usual."""
    work: dict[str, list[float]] = field(default_factory=dict)
    """What was counted, see `system.meter`."""


def process_block(workdir: str, digest: str, block: int) -> BlockResult:
    """Compute, store and commit one block. Safe to repeat at any time: it writes the same whole objects."""
    started = time.perf_counter()
    with metered() as uses:
        workspace = open_workspace(workdir, digest)
        plan, image = workspace.plan, workspace.image
        box = plan.block_box(block)
        with _thread_pools(len(sys.modules)).limit(limits=1):
            one_thread(plan)
            pixels = image.read(plan.read_box(box))
            read_done = time.perf_counter()
            with shared(plan, block, pixels) as seams:
                blended = blend(workspace, pixels, box, seams)
        computed = time.perf_counter()
        layers = composite(plan, image.source.read(box), pixels.states_of(box), blended)
        hashes = store(plan, block, layers)
    codes, counts = np.unique(layers["origin"], return_counts=True)
    result = BlockResult(
        block=block,
        patches=blended.patches,
        by_source={int(k): int(n) for k, n in zip(codes, counts, strict=True)},
        seconds={
            "read": read_done - started,
            "compute": computed - read_done,
            "write": time.perf_counter() - computed,
        },
        peak_rss_bytes=peak_rss_bytes(),
        channels_a_pass=reduced_to(workspace.model),
        work=as_facts(uses),
    )
    facts = {key: value for key, value in asdict(result).items() if value is not None} | {"sha256": hashes}
    journal.commit(plan.work.journal, digest, block, facts)
    return result


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> ThreadpoolController:  # noqa: ARG001
    """Return the thread pools of the libraries that are loaded; a new library comes with a new module."""
    return ThreadpoolController()


def blend(workspace: Workspace, pixels: Pixels, box: Box, seams: Seams | None = None) -> Blended:
    """Sum the estimates of all patches that touch a hole of `box`, in lexicographic order.

    Copies of observed values are not summed: those of the patch with the largest weight stand.

    With `seams`, those that another block has made already are taken from there.
    """
    plan, workspace = workspace.plan, workspace.over(pixels.box)
    hole = pixels.states_of(box) == FILL
    sums = _Sums(box, pixels_of(hole), len(plan.channels))
    computed = 0
    for group in _batches(list(patches_with_holes(plan.lattice, box, hole)), plan.batch):
        windows = {index: workspace.window(index, pixels) for index in group}
        known: dict[tuple[int, ...], Said] = {}
        if seams is not None:
            taken = ((index, seams.take(index, window)) for index, window in windows.items())
            known = {index: said for index, said in taken if said is not None}
        made = _made(workspace, pixels, {index: windows[index] for index in group if index not in known})
        computed += len(made)
        for index, window in windows.items():
            result = known[index] if index in known else made[index]
            if seams is not None and index in made:
                seams.leave(index, window, result)
            part = window & box
            if not part.empty:
                sums.add(result, window, part, plan.lattice.weights(index, part), copies=plan.recipe.copies)
    return Blended(mean=sums.mean, sigma=sums.sigma, origin=sums.origin, patches=computed)


class _Sums:
    """What patches say of the hole pixels of a box, weighted and summed, `(c, n)` each; see `Blended`."""

    def __init__(self, box: Box, hole: NDArray[np.intp], channels: int) -> None:
        """Begin with nothing; `hole` are the places of the pixels in the box, see `pixels_of`."""
        self.mean, self.sigma = np.zeros((channels, hole.size)), np.zeros((channels, hole.size))
        self.origin = np.full((channels, hole.size), CLASSICAL, dtype=np.uint8)
        self._strongest = np.zeros(hole.size)
        self._box, self._number = box, np.full(box.shape, -1, dtype=np.int32)
        self._number.reshape(-1)[hole] = np.arange(hole.size, dtype=np.int32)

    def add(self, said: Said, window: Box, part: Box, weights: NDArray[np.float64], *, copies: bool) -> None:
        """Add what a patch says of its window in a part of the box, with the patch's weights `(*part)`.

        With `copies`, what the patch with the largest weight says stands.
        """
        numbers = self._number[part.within(self._box)]
        places = np.nonzero(numbers >= 0)
        number, weight = numbers[places], weights[places]
        inside = (at + own.start for at, own in zip(places, part.within(window), strict=True))
        pixels = np.ravel_multi_index(tuple(inside), window.shape)
        leads = weight > self._strongest[number]
        mean, sigma, origin = picked(said.mean, pixels), picked(said.sigma, pixels), picked(said.origin, pixels)
        if copies:
            self.mean[:, number] = np.where(leads, mean, self.mean[:, number])
        else:
            self.mean[:, number] += weight * mean
        self.sigma[:, number] += weight * sigma
        self.origin[:, number] = np.where(leads, origin, self.origin[:, number])
        self._strongest[number] = np.where(leads, weight, self._strongest[number])


def _made(workspace: Workspace, pixels: Pixels, windows: Mapping[tuple[int, ...], Box]) -> dict[tuple[int, ...], Said]:
    """Return what the estimates of patches say, made from their windows together."""
    if not windows:
        return {}
    tasks = [workspace.task(index, window, pixels) for index, window in windows.items()]
    results = estimate(workspace.plan.recipe, workspace.model, tasks)
    return {index: Said.of(result) for index, result in zip(windows, results, strict=True)}


def one_thread(plan: Plan) -> None:
    """Pin torch to one thread: sums over threads would make the result depend on the machine."""
    if plan.model is not None:
        import torch

        torch.set_num_threads(1)


def _batches(items: Sequence[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    stream = iter(items)
    while group := list(islice(stream, size)):
        yield group
