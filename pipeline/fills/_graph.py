"""The graph on which the spline fills live: usable pixels, face neighbours, and their energy matrix.

Only pixels within two steps of an unknown enter its equations, so nothing else is put into the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

REACH = 2
"""The operator couples pixels up to this many face steps apart."""

PLATE, _WIDE = 0.5, 0.5
"""Tension, and share of the unknown pixels that have no other face neighbours, above which two cycles for the root are
worth more than one for the equations themselves: lost slices and points take 10 iterations anyway."""


@dataclass(frozen=True, slots=True)
class Plate:
    """`(1 - t) L + t L^2` on n unknown pixels as products with the membrane's L, which holds a third of the entries.

    Attributes:
        there: CSR float64 `(r, n)`, rows of L of the unknown pixels and, after them, of the known ones beside them.
        back: CSR float64 `(n, r)`, its transpose.
        parts: see `System.components`.
        t: tension.
    """

    there: Any
    back: Any
    parts: tuple[int, NDArray[np.integer]]
    t: float

    def __matmul__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the product with `(n, k)`."""
        return self.of(self.there @ values)

    def of(self, bent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what `(r, k)` or `(r,)`, products with L, give the unknown pixels: `(n, k)` or `(n,)`."""
        return np.asarray((1.0 - self.t) * bent[: self.back.shape[0]] + self.t * (self.back @ bent))


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Normal equations `inner @ u = -outer @ known` of the energy on one hole mask.

    Attributes:
        inner: CSR float64 `(n, n)`, symmetric positive definite; couples the unknown pixels. A `Plate` where it has a
            root and need not be written down.
        root: CSR float64 `(n, n)`, symmetric positive definite, whose square is close to `inner`; None where that is
            of no use.
        outer: CSR float64 `(n, m)`; couples them to the known ones. Of a `Plate` the columns of L, `(r, m)`.
        unknown: flat indices (C order, whole window) of the n unknown pixels, ascending.
        known: flat indices of the m known pixels in reach, ascending within each distance.
    """

    inner: Any
    root: Any | None
    outer: Any
    unknown: NDArray[np.intp]
    known: NDArray[np.intp]

    def components(self) -> tuple[int, NDArray[np.integer]]:
        """Return how many parts are not coupled, and the part of each row of `outer`, unknown pixels first."""
        return self.inner.parts if isinstance(self.inner, Plate) else _components(self.inner)

    def pulled(self, pull: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what known pixels add to the equations, `(n,)`, from what each entry of `outer` adds."""
        total = sparse.csr_array((pull, self.outer.indices, self.outer.indptr), self.outer.shape) @ np.ones(
            self.outer.shape[1]
        )
        return np.asarray(self.inner.of(total) if isinstance(self.inner, Plate) else total)


def edge_weights(spacing: Sequence[float], *, isotropic: bool) -> tuple[float, ...]:
    """Return the weight of an edge along each axis: `(smallest step / step)^2`, or 1 if `isotropic`."""
    smallest = min(spacing)
    return tuple(1.0 if isotropic else (smallest / step) ** 2 for step in spacing)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Unknown pixels and the known ones in reach, with the membrane's matrix L: the same for all tensions.

    Attributes:
        laplacian: CSR float64 `(r, nodes)`, rows of L of the unknown pixels and, after them, of those beside them.
        nodes: flat indices of all pixels: the n unknown ones, those beside them, those beside these.
        unknown: bool `spatial`.
    """

    laplacian: Any
    nodes: NDArray[np.intp]
    unknown: NDArray[np.bool_]

    @classmethod
    def of(cls, unknown: NDArray[np.bool_], usable: NDArray[np.bool_], weights: Sequence[float]) -> Graph:
        """Return the graph of some unknown pixels; arguments as in `build`."""
        first = _step(unknown, usable)
        second = _step(first, usable)
        nodes = np.concatenate([np.flatnonzero(m) for m in (unknown, first & ~unknown, second & ~first)])
        laplacian = _laplacian(nodes, int(first.sum()), usable.shape, weights)
        return cls(laplacian=laplacian, nodes=nodes, unknown=unknown)

    @cached_property
    def bent(self) -> tuple[Any, Any, Any, tuple[int, NDArray[np.integer]]]:
        """Return what plates of all tensions share: `there`, `back` and `parts` of `Plate`, `outer` of `System`."""
        n_rows, n = self.laplacian.shape[0], int(self.unknown.sum())
        there = self.laplacian[:, :n]
        # pixels are coupled over the known ones between them, too
        coupled = sparse.csr_array((there.data, there.indices, there.indptr), (n_rows, n_rows))
        return there, self.laplacian[:n, :n_rows], self.laplacian[:, n:], _components(coupled)

    @cached_property
    def wide(self) -> bool:
        """Whether it is a wide hole of a volume, whose equations have a root that is of use."""
        inside = ndimage.binary_erosion(self.unknown, border_value=1) if self.unknown.ndim > 2 else np.zeros(1)
        return bool(inside.sum() > _WIDE * self.unknown.sum())

    def system(self, t: float, *, least: float = PLATE) -> System:
        """Return the equations for a tension; those of wide holes of volumes with their root if it is above `least`."""
        laplacian, nodes, n = self.laplacian, self.nodes, int(self.unknown.sum())
        if t > least and self.wide:
            there, back, outer, parts = self.bent
            plate = Plate(there=there, back=back, parts=parts, t=t)
            return System(inner=plate, root=_root(there[:n], t), outer=outer, unknown=nodes[:n], known=nodes[n:])
        rows, n_first = laplacian[:n], laplacian.shape[0]
        matrix = (1.0 - t) * rows
        if t > 0:
            matrix = matrix + t * (rows[:, :n_first] @ laplacian)
        inner, outer = matrix[:, :n], matrix[:, n:]
        inner.sort_indices()
        outer.sort_indices()
        return System(inner=inner, root=None, outer=outer, unknown=nodes[:n], known=nodes[n:])


def build(unknown: NDArray[np.bool_], usable: NDArray[np.bool_], weights: Sequence[float], t: float) -> System:
    """Assemble the equations of `(1 - t) |gradient|^2 + t |Laplacian|^2` for the unknown pixels.

    Args:
        unknown: bool `spatial`; every connected part must have a usable, not unknown face neighbour.
        usable: bool `spatial`; contains `unknown`. Edges to all other pixels are absent (natural boundary).
        weights: edge weight per axis.
        t: tension, 0 (membrane) to 1 (thin plate).
    """
    return Graph.of(unknown, usable, weights).system(t)


def shift(t: float) -> float:
    """Return c where the equations with tension `t` > 0 are those of `t (L + c)^2`, see `_root`."""
    return (1.0 - t) / (2.0 * t)


def _components(matrix: Any) -> tuple[int, NDArray[np.integer]]:
    count, component = connected_components(matrix, directed=False)
    return int(count), component


def _root(membrane: Any, t: float) -> Any:
    """Return the root of the equations of wide holes of a volume, which are solved by iterating (see `System`).

    With the matrix L of the membrane they are `(1 - t) L + t L^2 = t (L + c)^2 - t c^2`, where `c = (1 - t) / 2t`, but
    for the pixels along the rim, where the plate is clamped.
    """
    unit = sparse.eye_array(membrane.shape[0], format="csr")
    return (np.sqrt(t) * (membrane + shift(t) * unit)).tocsr()


def _step(mask: NDArray[np.bool_], usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask grown by a face step where pixels are usable: `binary_dilation`, ten times as fast."""
    grown = mask.copy()
    for axis in range(mask.ndim):
        to, own = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
        to[1:] |= own[:-1]
        to[:-1] |= own[1:]
    return grown & usable


def _laplacian(nodes: NDArray[np.intp], n_rows: int, shape: tuple[int, ...], weights: Sequence[float]) -> Any:
    """Return the first `n_rows` rows of the weighted graph Laplacian on `nodes`, CSR `(n_rows, nodes)`."""
    padded = tuple(extent + 2 for extent in shape)
    strides = np.cumprod((1, *padded[:0:-1]))[::-1]
    where = np.unravel_index(nodes, shape)
    flat = sum((axis + 1) * step for axis, step in zip(where, strides, strict=True))
    number = np.full(int(np.prod(padded)), -1, dtype=np.int32)
    number[flat] = np.arange(len(nodes), dtype=np.int32)
    own = np.arange(n_rows, dtype=np.int32)
    degree = np.zeros(n_rows)
    rows, columns, data = [], [], []
    for step, weight in zip(strides, weights, strict=True):
        for offset in (-step, step):
            neighbour = number[flat[:n_rows] + offset]
            present = neighbour >= 0
            degree += weight * present
            rows.append(own[present])
            columns.append(neighbour[present])
            data.append(np.full(len(rows[-1]), -weight))
    entries = np.concatenate([*data, degree]), (np.concatenate([*rows, own]), np.concatenate([*columns, own]))
    return sparse.csr_array(entries, shape=(n_rows, len(nodes)))
