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

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from pipeline.fills._common import background, box_of, check
from pipeline.fills._graph import REACH, System, build, edge_weights
from pipeline.fills._thinned import STEP, Thinned, thinned
from pipeline.fills.base import Window
from pipeline.numerics.solve import DIRECT, ROUGH, TOLERANCE, Columns, solve, solve_planar
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
    check(window, NDIM)
    if not 0.0 <= t <= 1.0:
        raise ValueError(f"tension t = {t} must lie between 0 and 1")
    weights = edge_weights(window.spacing, isotropic=isotropic)
    result = background(window)
    for channels in window.hole_groups:
        valid, hole = window.valid[channels[0]], window.hole[channels[0]]
        crop = tuple(slice(part.start // STEP * STEP, part.stop) for part in box_of(hole, REACH))
        held = _held(window)[crop] & hole[crop]
        known = valid[crop] | held
        unknown = _reachable(hole[crop] & ~held, known)
        if unknown.any():
            system = build(unknown, known | unknown, weights, t)
            values = np.stack([result[k][crop].ravel() for k in channels], axis=1).astype(np.float64)
            fewer = thinned(system.inner, unknown, t) if unknown.ndim == 2 and set(weights) == {1.0} else None
            values[system.unknown] = _spline(system, values, window, fewer)
            for k, column in zip(channels, values.T, strict=True):
                result[k][crop] = column.reshape(unknown.shape)
    return result


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


def _spline(system: System, values: Columns, window: Window, fewer: Thinned | None) -> Columns:
    """Return the unknowns `(n, k)` given all `values` `(pixels, k)`; unknown ones are a start if there is a guess.

    `fewer` equations are solved instead of all where there are some, and they can be factorised.
    """
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
    if fewer is not None and len(fewer.kept) <= DIRECT:
        solved = fewer.spread @ solve_planar(fewer.inner, right[fewer.kept], stop_if_asked)
    elif len(window.spacing) == 2:
        solved = solve_planar(system.inner, right, stop_if_asked)
    else:
        start = values[system.unknown] - level if window.guess is not None else None
        tolerance = ROUGH if window.rough else TOLERANCE
        solved = solve(system.inner, right, start, stop_if_asked, root=system.root, tolerance=tolerance)
    flat = np.ones((n_components, level.shape[1]), dtype=bool)
    np.logical_and.at(flat, component, right == 0)
    solved[flat[component]] = 0.0
    estimate: Columns = level + solved
    return estimate
