"""Wide holes of planes with fewer unknowns: deep inside, where a spline is smooth, one stands for several pixels.

Where it is deep a spline is told on every second pixel both ways, and farther in on every fourth. There the equations
are those of the same energy with this step, and pixels between follow by cubic interpolation. So at every place stands
a consistent discretisation of one differential equation, exact for all polynomials up to the third degree.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.signal import convolve2d

from pipeline.numerics.distance import depth_of_wide

STEP = 4
"""Largest step between unknowns, pixels."""

_DEPTHS = (8, 20)
"""Depth in the hole, pixels, as of which every second and every fourth pixel is an unknown. It must be more than twice
the step, as far as equations reach."""

_FEWEST = 10_000
"""Pixels of a hole below which it is solved pixel by pixel: that takes 50 ms at most."""

_CUBIC = {-3: -1 / 16, -1: 9 / 16, 1: 9 / 16, 3: -1 / 16}
_LAPLACIAN = np.array([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """Equations of some of n unknown pixels from which all of them follow.

    Attributes:
        inner: CSR float64 `(m, m)`; its pattern is next to symmetric, its values are not.
        kept: numbers of the m pixels that are unknowns, ascending; right sides are theirs.
        spread: CSR float64 `(n, m)`, gives all pixels.
    """

    inner: Any
    kept: NDArray[np.intp]
    spread: Any


def thinned(inner: Any, unknown: NDArray[np.bool_], t: float) -> Thinned | None:
    """Return fewer equations for the same surface; None where no hole is wide enough.

    Args:
        inner: CSR float64 `(n, n)`, the equations of all unknown pixels, with edges of weight 1.
        unknown: bool `(rows, columns)`; the places of unknowns go by multiples of `STEP` in it.
        t: tension, 0 to 1.
    """
    depth = depth_of_wide(unknown, _FEWEST)
    if t == 0 or depth.max(initial=0) < _DEPTHS[0]:
        return None
    n = inner.shape[0]
    number = np.full(unknown.shape, -1, dtype=np.intp)
    number[unknown] = np.arange(n)
    rows, level, spread = [inner], np.zeros(n, dtype=np.intp), sparse.eye_array(n, format="csr")
    between = np.zeros(n, dtype=np.bool_)
    for k, least in enumerate(_DEPTHS, 1):
        interpolated = _interpolated(number, depth >= least, n)
        between |= interpolated.diagonal() == 0
        spread = spread @ interpolated
        number, depth = number[::2, ::2], depth[::2, ::2]
        rows.append(_stencils(number, depth >= least, t, 2**k, n))
        level[number[depth >= least]] = k
    kept = np.flatnonzero(~between)
    spread = spread[:, kept]
    fewer = (sparse.vstack(rows, format="csr")[kept + n * level[kept]] @ spread).tocsr()
    fewer.sort_indices()
    return Thinned(inner=fewer, kept=kept, spread=spread)


def _interpolated(number: NDArray[np.intp], deep: NDArray[np.bool_], n: int) -> Any:
    """Return CSR `(n, n)` that replaces deep pixels by what those with even places around them say."""
    rows, columns, data = [], [], []
    for odd in ((True, False), (False, True), (True, True)):
        here = np.zeros_like(deep)
        places = tuple(slice(int(o), None, 2) for o in odd)
        here[places] = deep[places]
        at = np.nonzero(here)
        for offsets in product(*(_CUBIC.items() if o else ((0, 1.0),) for o in odd)):
            rows.append(number[at])
            columns.append(number[tuple(a + step for a, (step, _) in zip(at, offsets, strict=True))])
            data.append(np.full(len(at[0]), np.prod([weight for _, weight in offsets])))
    same = np.ones(n, dtype=np.bool_)
    same[np.concatenate(rows)] = False
    kept = np.flatnonzero(same)
    entries = np.concatenate([np.ones(len(kept)), *data])
    return sparse.csr_array((entries, (np.concatenate([kept, *rows]), np.concatenate([kept, *columns]))), shape=(n, n))


def _stencils(number: NDArray[np.intp], deep: NDArray[np.bool_], t: float, step: int, n: int) -> Any:
    """Return CSR `(n, n)`, the equations of deep pixels of a lattice with this step over its pixels."""
    stencil = (1.0 - t) * np.pad(_LAPLACIAN, 1) + t / step**2 * convolve2d(_LAPLACIAN, _LAPLACIAN)
    offsets, at = np.argwhere(stencil) - 2, np.nonzero(deep)
    columns = np.concatenate([number[tuple(a + o for a, o in zip(at, some, strict=True))] for some in offsets])
    data = np.repeat(stencil[stencil != 0], len(at[0]))
    return sparse.csr_array((data, (np.tile(number[at], len(offsets)), columns)), shape=(n, n))
