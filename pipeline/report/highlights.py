"""Which parts of an image to show: the largest holes, and where the uncertainty is largest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.base import Pull
from pipeline.geometry.box import Box
from pipeline.numerics.distance import inside
from pipeline.plan.plan import Plan
from pipeline.restore.codes import NEVER_TOUCHED, OBSERVED
from pipeline.system.threads import each

_CELLS = {2: 512, 3: 96}
_TILE = {2: 1024, 3: 96}
_SHOWN = 3
_APART = {2: 128, 3: 32}
"""Places of large uncertainty are at least this far from each other, in pixels."""

_Read = Callable[[Box], tuple[NDArray[np.bool_], NDArray[Any]]]
"""Gives of a box where something was restored, and the standard errors there (0 elsewhere), both `(*box.shape)`."""


@dataclass(frozen=True, slots=True)
class Highlight:
    """A pixel worth a look: where, and how large the hole (pixels) or the uncertainty there is."""

    centre: tuple[int, ...]
    size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Highlights:
    """What is to be seen of an image.

    Attributes:
        holes: the largest holes, largest first; each a pixel deep inside.
        uncertain: pixels of the largest uncertainty, apart from each other.
        usual: the uncertainty that 98 % of the cells with holes do not exceed.
        cell: holes less than so many pixels apart count as one.
    """

    holes: tuple[Highlight, ...]
    uncertain: tuple[Highlight, ...]
    usual: float
    cell: int


def find_highlights(plan: Plan, origin: Pull, uncertainty: Pull, channels: Sequence[int]) -> Highlights:
    """Look at every block with holes once; memory does not grow with the image, which is counted in cells.

    Args:
        plan: of the finished image, with at least one hole.
        origin: gives source codes, uint8 `(1 or c, *box.shape)`.
        uncertainty: gives standard errors `(c, *box.shape)`.
        channels: those that are shown: their holes and their mean uncertainty count; at least one must have a hole.
    """

    def read(box: Box) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        code = origin(box)
        code = code[list(channels) if len(code) > 1 else [0]]
        hole = ((code != OBSERVED) & (code != NEVER_TOUCHED)).any(axis=0)
        return hole, np.where(hole, np.nan_to_num(uncertainty(box)[list(channels)]).mean(axis=0), 0.0)

    cell = max(1, -(-max(plan.space.shape) // _CELLS[plan.ndim]))
    count, worst = _counted(plan, read, cell)

    def box_of(place: NDArray[Any]) -> Box:
        start = tuple(int(i) * cell for i in place)
        return Box(start, tuple(s + cell for s in start)) & Box.whole(plan.space.shape)

    holes = []
    for place, size in _largest(count, plan.spacing):
        box = box_of(place)
        among = np.argwhere(read(box)[0])
        nearest = among[int(np.argmin(((among - np.asarray(box.shape) // 2) ** 2).sum(axis=1)))]
        holes.append(_highlight(box, nearest, size))
    uncertain = []
    for place in _apart(worst, -(-_APART[plan.ndim] // cell)):
        box = box_of(place)
        sigma = read(box)[1]
        top = np.unravel_index(int(np.argmax(sigma)), sigma.shape)
        uncertain.append(_highlight(box, top, float(sigma[top])))
    usual = float(np.percentile(worst[worst > 0], 98)) if (worst > 0).any() else 1.0
    return Highlights(holes=tuple(holes), uncertain=tuple(uncertain), usual=usual, cell=cell)


def _highlight(box: Box, place: Iterable[Any], size: float) -> Highlight:
    """Return a pixel by its place in a box."""
    return Highlight(tuple(int(a + b) for a, b in zip(place, box.start, strict=True)), size)


def _counted(plan: Plan, read: _Read, cell: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return by cells of the image how many hole pixels each has, and their largest standard error."""

    def in_block(block: int) -> list[tuple[tuple[slice, ...], NDArray[Any], NDArray[Any]]]:
        found = []
        for box in plan.block_box(block).tiles((_TILE[plan.ndim],) * plan.ndim):
            hole, sigma = read(box)
            at = tuple(slice(a // cell, -(-b // cell)) for a, b in zip(box.start, box.stop, strict=True))
            found.append(
                (at, _by_cell(hole.astype(np.int64), np.add, box, cell), _by_cell(sigma, np.maximum, box, cell))
            )
        return found

    count = np.zeros([-(-n // cell) for n in plan.space.shape], dtype=np.int64)
    worst = np.zeros(count.shape)
    for at, holes_there, worst_there in chain.from_iterable(each(in_block, range(len(plan.blocks)))):
        count[at] += holes_there
        worst[at] = np.maximum(worst[at], worst_there)
    return count, worst


def _by_cell(values: NDArray[Any], reduce: np.ufunc, box: Box, cell: int) -> NDArray[Any]:
    """Reduce what lies in `box` to one number a cell; cells begin at multiples of their size in the image."""
    for axis, (start, stop) in enumerate(zip(box.start, box.stop, strict=True)):
        edges = [0, *range(cell - start % cell, stop - start, cell)]
        values = reduce.reduceat(values, edges, axis=axis)
    return values


def _largest(count: NDArray[np.int64], spacing: tuple[float, ...]) -> list[tuple[NDArray[Any], float]]:
    """Return a cell deep inside each of the largest connected groups of cells, and how many hole pixels that has."""
    from scipy.ndimage import label, sum_labels

    labels, n = label(count > 0)
    sizes = np.atleast_1d(sum_labels(count, labels, np.arange(1, n + 1)))
    middle = (np.asarray(count.shape) - 1) / 2
    found = []
    for number in np.argsort(-sizes, kind="stable")[:_SHOWN]:
        depth = inside(labels == number + 1, spacing)
        deep = np.argwhere(depth >= 0.9 * depth.max())
        # of equally deep cells (a lost slice has many) the one nearest to the middle shows most
        found.append((deep[int(np.argmin(((deep - middle) ** 2).sum(axis=1)))], float(sizes[number])))
    return found


def _apart(worst: NDArray[Any], distance: int) -> list[NDArray[Any]]:
    """Return the cells of the largest values that are at least `distance` cells apart on some axis."""
    left = worst.copy()
    found: list[NDArray[Any]] = []
    while len(found) < _SHOWN and left.max(initial=0.0) > 0:
        place = np.asarray(np.unravel_index(int(np.argmax(left)), left.shape))
        found.append(place)
        left[tuple(slice(max(0, i - distance + 1), i + distance) for i in place)] = 0
    return found
