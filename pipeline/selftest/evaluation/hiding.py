"""Hide observed pixels of an image from everything that looks at it, and show them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.image.scan import StateScan
from pipeline.image.scene import Scene
from pipeline.masks.base import FILL
from pipeline.selftest.evaluation.families import Family, telling
from pipeline.selftest.shapes import Mask
from pipeline.selftest.windows import candidate_windows, content, draw

_MOST = 0.6
"""Share of a window's observed pixels that is hidden at most."""

_FEWEST = 64
"""Hidden pixels below which a window tells nothing and is left out."""

_TRIED = 4
"""Windows that are drawn for each one that is used: those that lie over another one are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """A window with observed pixels that are to be hidden from everything and scored."""

    box: Box
    before: Window
    """As it is observed: what is hidden later is the truth."""
    hidden: Mask
    """`(n_state, *spatial)`."""
    scored: Mask
    """`(c, *spatial)`, hidden pixels that count: all of a raster, in volumes where values vary."""


def holdouts(scene: Scene, family: Family, windows: int, rng: np.random.Generator) -> list[Holdout]:
    """Return up to so many windows that do not overlap, with what is to be hidden in each.

    Args:
        scene: the opened image.
        family: kind of holes.
        windows: how many.
        rng: of all draws.
    """
    found: list[Holdout] = []
    for box in _apart(scene, family.extent, windows, rng):
        before, _ = scene.window(box)
        wanted = family.draw(rng, before) & before.valid
        scored, left = wanted & telling(scene, before), before.valid & ~wanted
        axes = tuple(range(1, left.ndim))
        seen = left.any(axis=axes) | ~(before.hole | wanted).any(axis=axes)
        if scored.sum() >= _FEWEST and wanted.sum() <= _MOST * before.valid.sum() and seen.all():
            found.append(Holdout(box=box, before=before, hidden=wanted[: scene.states.n_state], scored=scored))
    return found


def _apart(scene: Scene, extent: tuple[int, ...], windows: int, rng: np.random.Generator) -> list[Box]:
    """Draw windows with much observed and holes near that do not overlap."""
    boxes, holes, kept = candidate_windows(scene, extent, rng)
    weight = kept * (1.0 + 3.0 * (holes > 0))
    drawn = draw(boxes, weight, _TRIED * windows, rng)
    if scene.ndim == 3:
        # many windows of a head hold little but air
        held = np.asarray([content(scene, box) for box in drawn])
        order = np.argsort(-held, kind="stable")
    else:
        order = rng.permutation(len(drawn))
    chosen: list[Box] = []
    for k in order:
        if all((drawn[k] & other).empty for other in chosen):
            chosen.append(drawn[k])
    return sorted(chosen[:windows], key=lambda box: box.start)


@contextmanager
def hiding(scene: Scene, some: Sequence[Holdout]) -> Iterator[Scene]:
    """While in context, let the pixels of holdouts be holes like any other; gives the scene that sees them so.

    References, statistics of the surroundings, the self-test and fills know nothing of what is hidden. The robust range
    of the channels is still that of the whole image.
    """
    array = zarr.open_array(scene.job.work.state, mode="r+")
    before = [np.asarray(array[holdout.box.at()]) for holdout in some]
    try:
        for holdout, states in zip(some, before, strict=True):
            array[holdout.box.at()] = np.where(holdout.hidden, np.uint8(FILL), states)
        yield replace(scene, states=_counted(scene.states, some))
    finally:
        for holdout, states in zip(some, before, strict=True):
            array[holdout.box.at()] = states


def _counted(states: StateScan, some: Sequence[Holdout]) -> StateScan:
    """Return the counts of an image in which pixels are holes that were observed."""
    change, total = np.zeros_like(states.hole_cells), 0
    for holdout in some:
        planes = holdout.hidden.sum(axis=0)
        at: NDArray[np.intp] = np.argwhere(planes)
        np.add.at(change, tuple(((at + holdout.box.start) // states.cell).T), planes[tuple(at.T)])
        total += int(planes.sum())
    return replace(
        states,
        holes=states.holes + total,
        kept=states.kept - total,
        hole_cells=states.hole_cells + change,
        kept_cells=states.kept_cells - change,
    )
