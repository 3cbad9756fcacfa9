"""Interpolate residuals across holes along what belongs together in the reference, not across its edges.

Planes are solved directly, wide holes with fewer unknowns deep inside (`numerics.coarsened`); volumes by iterating.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from pipeline.numerics.coarsened import coarsened
from pipeline.numerics.pixels import neighbours
from pipeline.numerics.solve import solve, solve_planar

Field = NDArray[np.float64]

_LEAST = 0.02
"""Smallest conductance: a field that no observed pixel touches still takes over its neighbours' residual."""


def interpolate(
    values: Field,
    known: NDArray[np.bool_],
    hole: NDArray[np.bool_],
    guide: NDArray[np.float32],
    spacing: Sequence[float],
) -> Field:
    """Return values that hold where known and are guided-harmonic in the hole; 0 in parts that touch no known pixel.

    Neighbours conduct by `1 / (1 + d)`, `d` being their squared distance in the guide over its median (Perona and
    Malik 1990, doi:10.1109/34.56205): what is left over of a field follows the field.

    Args:
        values: `(c, *spatial)`.
        known: bool `spatial`.
        hole: bool `spatial`, disjoint from `known`; pixels in neither do not conduct.
        guide: float32 `(q, *spatial)`.
        spacing: step per axis, only ratios matter.
    """
    labels, count = ndimage.label(hole)
    touching = np.zeros(count + 1, dtype=np.bool_)
    touching[labels[ndimage.binary_dilation(known) & hole]] = True
    touching[0] = False
    unknown = touching[labels]
    result = np.where(known, values, 0.0)
    if not unknown.any():
        return result
    matrix, right = _equations(values, known, unknown, guide, spacing)
    fewer = coarsened(matrix, unknown) if len(set(spacing)) == 1 and unknown.ndim == 2 else None
    if fewer is not None:
        solved = fewer.spread @ solve_planar(fewer.matrix, fewer.spread.T @ right)
    else:
        solved = (solve_planar if unknown.ndim == 2 else solve)(matrix, right)
    result[:, unknown] = solved.T
    return result


def _equations(
    values: Field,
    known: NDArray[np.bool_],
    unknown: NDArray[np.bool_],
    guide: NDArray[np.float32],
    spacing: Sequence[float],
) -> tuple[sparse.csr_array, Field]:
    """Return the matrix `(n, n)` and the right sides `(n, c)` of the `n` unknown pixels, in C order."""
    n = int(unknown.sum())
    number = np.full(unknown.shape, -1, dtype=np.int64)
    number[unknown] = np.arange(n)
    diagonal, flat = np.zeros(n), values.reshape(len(values), -1)
    rows, columns, data = [np.arange(n)], [np.arange(n)], []
    rim: list[tuple[NDArray[np.intp], NDArray[np.intp], Field]] = []
    places = np.arange(unknown.size).reshape(unknown.shape)
    for here, there, weight in _edges(known | unknown, guide, spacing):
        for one, other in ((here, there), (there, here)):
            edge = np.flatnonzero(unknown[one] & (weight > 0))
            a, beside, pull = number[one].ravel()[edge], places[other].ravel()[edge], weight.ravel()[edge]
            b = number.ravel()[beside]
            diagonal += np.bincount(a, weights=pull, minlength=n)
            inner = b >= 0
            rows.append(a[inner])
            columns.append(b[inner])
            data.append(-pull[inner])
            rim.append((a[~inner], beside[~inner], pull[~inner]))
    ends, beside, pull = (np.concatenate(part) for part in zip(*rim, strict=True))
    right = sparse.csr_array((pull, (ends, np.arange(len(ends)))), shape=(n, len(ends))) @ flat[:, beside].T
    entries = np.concatenate([diagonal, *data]), (np.concatenate(rows), np.concatenate(columns))
    matrix = sparse.csr_array(entries, shape=(n, n))
    matrix.sort_indices()
    return matrix, right


def _edges(
    usable: NDArray[np.bool_], guide: NDArray[np.float32], spacing: Sequence[float]
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...], Field]]:
    """Yield per axis the slices of both ends of all edges and their conductance, 0 where an end is not usable."""
    for axis, (step, (there, here)) in enumerate(zip(spacing, neighbours(usable.ndim), strict=True)):
        both = usable[here] & usable[there]
        squared = (np.diff(guide, axis=axis + 1) ** 2).mean(axis=0)
        typical = max(float(np.median(squared[both])) if both.any() else 1.0, 1e-12)
        weight = np.maximum(1.0 / (1.0 + squared / typical), _LEAST) * (min(spacing) / step) ** 2
        yield here, there, np.where(both, weight, 0.0)
