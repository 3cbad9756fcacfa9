"""Fewer unknowns in wide holes of planes whose pixels conduct differently: deep inside, one stands for several.

Where a hole is deep every second pixel both ways is an unknown, and farther in every fourth. Those between follow by
the interpolation of black box multigrid (Dendy 1982, doi:10.1016/0021-9991(82)90057-2): a pixel between two others
takes of each as much as conducts from its side, and one in the middle of four solves its own equation. Of all surfaces
that these give, the solution is the one of least energy; one that is the same everywhere is among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.numerics.distance import depth_of_wide

_DEPTHS = (4, 10)
"""Depth in the hole, pixels, as of which every second and every fourth pixel is an unknown."""

_FEWEST = 10_000
"""Pixels of a hole below which all are unknowns: that takes 15 ms at most."""

_LEAST = 1e-12
"""Smallest conductance toward a side: rounding must not leave a pixel without any."""

_Rows = NDArray[np.intp]
_Ends = tuple[_Rows, _Rows, NDArray[np.float64]]
"""Pixels, pixels that they take over from, and how much of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coarsened:
    """Equations of m unknowns from which all n pixels follow.

    Attributes:
        matrix: CSR float64 `(m, m)`, symmetric positive definite; right sides are `spread.T @ right`.
        spread: CSR float64 `(n, m)`, gives all pixels.
    """

    matrix: Any
    spread: Any


def coarsened(matrix: Any, unknown: NDArray[np.bool_]) -> Coarsened | None:
    """Return fewer equations for nearly the same surface; None where no hole is wide enough.

    Args:
        matrix: CSR float64 `(n, n)`, symmetric positive definite, of edges between unknown pixels and their four
            neighbours, alike along both axes but for what conducts less in places.
        unknown: bool `(rows, columns)`, n pixels; the places of those that are kept go by multiples of 4 in it.
    """
    depth = depth_of_wide(unknown, _FEWEST)
    if depth.max(initial=0) < _DEPTHS[0]:
        return None
    places, deep = np.stack(np.nonzero(unknown)), depth[unknown]
    spread = sparse.eye_array(len(deep), format="csr")
    for k, least in enumerate(_DEPTHS):
        odd = (places // 2**k % 2 == 1) & (deep >= least)
        kept = np.flatnonzero(~odd.any(axis=0))
        interpolated = _interpolated(matrix, places, odd, 2**k)[:, kept]
        spread = spread @ interpolated
        matrix = (interpolated.T @ (matrix @ interpolated)).tocsr()
        places, deep = places[:, kept], deep[kept]
    matrix.sort_indices()
    return Coarsened(matrix=matrix, spread=spread)


def _interpolated(matrix: Any, places: _Rows, odd: NDArray[np.bool_], step: int) -> Any:
    """Return CSR `(n, n)` that replaces odd pixels by what those with even places around them say.

    Args:
        matrix: equations of n unknowns.
        places: their rows and columns, `(2, n)`.
        odd: bool `(2, n)`, along which axes they lie between others of their lattice.
        step: of this lattice, pixels.
    """
    entries = matrix.tocoo()
    beside = entries.row != entries.col
    rows, columns, pull = entries.row[beside], entries.col[beside], -entries.data[beside]
    number = np.zeros(places.max(axis=1) + 1, dtype=np.intp)
    number[tuple(places)] = np.arange(places.shape[1])
    middle = odd[0] & odd[1]
    ends: list[_Ends] = []
    for axis in range(2):
        between = odd[axis] & ~middle
        some = np.flatnonzero(between)
        toward = np.where(between[rows], places[axis, columns] - places[axis, rows], 0)
        sides = []
        for sign in (-1, 1):
            side = sign * toward > 0
            conducts = np.bincount(rows[side], weights=pull[side], minlength=len(middle))[some]
            at = places[:, some]
            at[axis] += sign * step
            sides.append((number[tuple(at)], np.maximum(conducts, _LEAST)))
        both = sides[0][1] + sides[1][1]
        ends += [(some, neighbour, conducts / both) for neighbour, conducts in sides]
    centre = middle[rows]
    own = rows[centre], columns[centre], pull[centre] / matrix.diagonal()[rows[centre]]
    return _replacing([own], len(middle)) @ _replacing(ends, len(middle))


def _replacing(ends: list[_Ends], n: int) -> Any:
    """Return CSR `(n, n)` that puts weighted sums in the place of some pixels and leaves the others."""
    rows, columns, weights = (np.concatenate(part) for part in zip(*ends, strict=True))
    same = np.ones(n, dtype=np.bool_)
    same[rows] = False
    kept = np.flatnonzero(same)
    entries = np.concatenate([np.ones(len(kept)), weights])
    return sparse.csr_array((entries, (np.concatenate([kept, rows]), np.concatenate([kept, columns]))), shape=(n, n))
