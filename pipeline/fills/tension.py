"""Tension spline: the smoothest surface through the observed pixels, between a membrane and a thin plate.

Minimises `(1 - t) |gradient|^2 + t |Laplacian|^2` over the hole pixels with the valid pixels fixed and
natural boundaries at image edges and never-touch pixels; `t = 0` is harmonic, `t = 1` biharmonic.
The continuous form is Smith and Wessel (1990, doi:10.1190/1.1442837). Planes are solved directly, wide
holes with fewer unknowns deep inside (`_thinned`); volumes to a relative residual of 1e-8, or of 1e-4 where estimates
are only compared.

Also known as: spline, thin plate, tps, biharmonic, minimum curvature, rbf, griddata, linear, bilinear, cubic,
interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from pipeline.fills._common import background, box_of, check
from pipeline.fills._graph import PLATE, REACH, Graph, System, edge_weights, shift
from pipeline.fills._thinned import STEP, thinned
from pipeline.fills.base import Window
from pipeline.numerics.solve import DIRECT, ROUGH, TOLERANCE, Columns, Multigrid, solve, solve_planar
from pipeline.system.signals import stop_if_asked

NDIM = (2, 3)


def fill(
    window: Window, *, t: Annotated[float, Field(ge=0, le=1)] = 0.5, isotropic: bool = False
) -> NDArray[np.float32]:
    """Fill the holes with the tension spline.

    Each hole component's reference value is taken off before solving, so a constant rim gives the constant
    exactly. With a guess, hole pixels within two pixels of an open edge are held at it. A component that
    touches no valid pixel gets the guess, else the mean of the channel's valid pixels.

    Args:
        window: 2-D or 3-D window.
        t: tension from 0 (membrane) to 1 (thin plate); 0.5 suits satellite images, 0.95 volumes.
        isotropic: count length in voxels instead of `window.spacing`.

    Returns:
        float32 `(c, *spatial)`: observed values where valid, the spline in holes, finite elsewhere.

    Raises:
        ValueError: `t` is outside [0, 1], or the window cannot be filled (see the message).
    """
    return Prepared(window)(t=t, isotropic=isotropic)


class Prepared:
    """Splines of several tensions over one window: what they have in common is made once.

    The first is the one of `fill`, to the last bit. Those after it in wide holes of a volume that are only compared
    start from the one before, on the coarse grids of the first. Where channels have different holes, nothing is kept:
    memory holds those of one of them.
    """

    def __init__(self, window: Window) -> None:
        check(window, NDIM)
        self._window = window
        self._kept: dict[bool, list[_Holes]] = {}

    def __call__(self, *, t: float = 0.5, isotropic: bool = False) -> NDArray[np.float32]:
        """Return the window filled; options, result and errors are those of `fill`."""
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"tension t = {t} must lie between 0 and 1")
        result = background(self._window)
        for holes in self._holes(isotropic=isotropic):
            values = np.stack([result[k][holes.crop].ravel() for k in holes.channels], axis=1).astype(np.float64)
            system = holes.graph.system(t, least=PLATE if holes.first is None else 0.0)
            values[system.unknown] = _spline(system, values, self._window, holes, t)
            for k, column in zip(holes.channels, values.T, strict=True):
                result[k][holes.crop] = column.reshape(holes.graph.unknown.shape)
        return result

    def _holes(self, *, isotropic: bool) -> Iterable[_Holes]:
        if isotropic in self._kept:
            return self._kept[isotropic]
        found = _holes(self._window, edge_weights(self._window.spacing, isotropic=isotropic))
        return self._kept.setdefault(isotropic, list(found)) if len(self._window.hole_groups) == 1 else found


@dataclass(kw_only=True)
class _Holes:
    """Holes that some channels of a window have in common, and what one spline leaves for the next.

    Attributes:
        channels: their numbers.
        crop: the box around the holes.
        graph: their pixels.
        square: True if pixels are as long as they are wide.
        first: tension and cycle of the first spline of a wide hole that is only compared.
        last: the last such spline, `(n, k)` above the levels of the holes.
    """

    channels: list[int]
    crop: tuple[slice, ...]
    graph: Graph
    square: bool
    first: tuple[float, Multigrid] | None = None
    last: Columns | None = None

    def cycle(self, root: Any, t: float) -> Multigrid:
        """Return the cycle for the root of the equations with a tension, on the coarse grids of the first one."""
        if self.first is None:
            self.first = t, Multigrid(root)
        before, cycle = self.first
        return cycle if t == before else cycle.moved(math.sqrt(t / before), math.sqrt(t) * (shift(t) - shift(before)))


def _holes(window: Window, weights: Sequence[float]) -> Iterator[_Holes]:
    """Yield the holes of a window, those of channels that have the same ones together.

    `weights` are those of an edge along each axis.
    """
    for channels in window.hole_groups:
        valid, hole = window.valid[channels[0]], window.hole[channels[0]]
        crop = tuple(slice(part.start // STEP * STEP, part.stop) for part in box_of(hole, REACH))
        held = _held(window)[crop] & hole[crop]
        known = valid[crop] | held
        unknown = _reachable(hole[crop] & ~held, known)
        if unknown.any():
            graph = Graph.of(unknown, known | unknown, weights)
            yield _Holes(channels=channels, crop=crop, graph=graph, square=set(weights) == {1.0})


def _held(window: Window) -> NDArray[np.bool_]:
    """Return True within reach of an edge that cuts through the image, if there is a guess to hold on to."""
    held = np.zeros(window.values.shape[1:], dtype=bool)
    if window.guess is None:
        return held
    for axis, (low, high) in enumerate(window.open_edges):
        view = np.moveaxis(held, axis, 0)
        if low:
            view[:REACH] = True
        if high:
            view[-REACH:] = True
    return held


def _reachable(hole: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the face-connected hole components that touch a known pixel; the others are singular."""
    labels, count = ndimage.label(hole)
    touching = np.zeros(count + 1, dtype=bool)
    touching[labels[ndimage.binary_dilation(known) & hole]] = True
    touching[0] = False
    kept: NDArray[np.bool_] = touching[labels]
    return kept


def _spline(system: System, values: Columns, window: Window, holes: _Holes, t: float) -> Columns:
    """Return the unknowns `(n, k)` given all `values` `(pixels, k)`; unknown ones are a start if there is a guess."""
    n_components, component = system.components()
    known = values[system.known]
    rows = np.repeat(np.arange(len(component)), np.diff(system.outer.indptr))
    anchor = np.zeros(n_components, dtype=np.intp)
    anchor[component[rows]] = system.outer.indices
    levels = known[anchor][component]
    component, level = component[: len(system.unknown)], levels[: len(system.unknown)]
    right = np.empty_like(level)
    for k in range(level.shape[1]):
        pull = system.outer.data * (known[system.outer.indices, k] - levels[rows, k])
        right[:, k] = -system.pulled(pull)
    if len(window.spacing) == 2:
        solved = _planar(system, right, holes, t)
    else:
        start = values[system.unknown] - level if window.guess is not None else holes.last
        solved = _iterated(system, right, start, holes if window.rough else None, t)
    flat = np.ones((n_components, level.shape[1]), dtype=bool)
    np.logical_and.at(flat, component, right == 0)
    solved[flat[component]] = 0.0
    estimate: Columns = level + solved
    return estimate


def _planar(system: System, right: Columns, holes: _Holes, t: float) -> Columns:
    """Solve the equations of a plane: fewer than all where there are some, and they can be factorised."""
    fewer = thinned(system.inner, holes.graph.unknown, t) if holes.square else None
    if fewer is None or len(fewer.kept) > DIRECT:
        return solve_planar(system.inner, right, stop_if_asked)
    spread: Columns = fewer.spread @ solve_planar(fewer.inner, right[fewer.kept], stop_if_asked)
    return spread


def _iterated(system: System, right: Columns, start: Columns | None, compared: _Holes | None, t: float) -> Columns:
    """Solve the equations of a volume; `compared` are its holes if that is all that is done with the result."""
    if compared is None or system.root is None:
        tolerance = TOLERANCE if compared is None else ROUGH
        return solve(system.inner, right, start, stop_if_asked, root=system.root, tolerance=tolerance)
    cycle = compared.cycle(system.root, t)
    compared.last = solve(system.inner, right, start, stop_if_asked, root=system.root, tolerance=ROUGH, cycle=cycle)
    return compared.last
