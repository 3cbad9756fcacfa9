"""Solve sparse symmetric positive definite equations for several right-hand sides at once, directly or by multigrid.

Planes are factorised: LU of SuperLU (Demmel et al. 1999, doi:10.1137/S0895479895291765), 3 to 10 times faster there
than iterating and as fast for every tension. Volumes fill the factors in, and go through conjugate gradients with an
algebraic multigrid preconditioner: smoothed aggregation (Vanek, Mandel and Brezina 1996, doi:10.1007/BF02238511) of
PyAMG's parts, smoothed by Chebyshev's polynomial (Adams et al. 2003, doi:10.1016/S0021-9991(03)00194-3), which serves
all columns in one product.

The bytes of the result do not depend on the number of threads: SuperLU's BLAS is held to one, the rest is sparse
products and element-wise sums in one fixed order, without BLAS, random start or clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import eye_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from pipeline.numerics.products import one_thread

Columns = NDArray[np.float64]
_Rough = NDArray[np.float32]

TOLERANCE = 1e-8
"""Residual norm over right-hand side norm at which a column counts as solved."""

ROUGH = 1e-4
"""The same where estimates are only compared: it takes half of the iterations, and changes them by 1/500 of their
error."""

_Meanwhile = Callable[[], None]

_COARSEST = 40
_MOST_LEVELS = 19
_OMEGA = 4.0 / 3.0
"""Damping of the step that smooths a prolongation, over the sum of a row: the usual spectral radius is estimated from
a random start."""
_MAX_ITERATIONS = 3000
_DEGREE = 3
_DAMPED_BAND = 20.0
DIRECT = 70_000
"""Unknowns that are factorised at once, a window of 256 x 256: about 7 million factor entries, 90 MB.

Iterating over one that is nearly all hole took 50 s with full tension, factorising it 1 s."""

_PANEL = 2
"""Columns that SuperLU updates at a time; its usual 20 take a quarter longer for holes of up to 30,000 pixels, and no
less for larger ones."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One grid of the hierarchy; float32, as a preconditioner need not be exact."""

    matrix: Any
    inverse_diagonal: _Rough
    bound: float
    prolong: Any
    restrict: Any

    def moved(self, scale: float, shift: float, unit: Any) -> _Level:
        """Return the grid of `scale * matrix + shift * unit`, between the same coarser and finer ones."""
        matrix = (np.float32(scale) * self.matrix + np.float32(shift) * unit).tocsr()
        inverse = 1.0 / matrix.diagonal()
        return replace(self, matrix=matrix, inverse_diagonal=inverse[:, None], bound=_bound(matrix, inverse))


class Multigrid:
    """One symmetric V-cycle: an approximate inverse of a sparse symmetric positive definite matrix."""

    def __init__(self, matrix: Any) -> None:
        # imported only for volumes and very large holes
        from pyamg.aggregation import fit_candidates, jacobi_prolongation_smoother, standard_aggregation

        self._levels: list[_Level] = []
        constant = np.ones((matrix.shape[0], 1))
        while matrix.shape[0] > _COARSEST and len(self._levels) < _MOST_LEVELS:
            # PyAMG's own loop keeps coarse matrices in blocks of one pixel, whose duplicates SciPy seeks entry by entry
            tentative, constant = fit_candidates(standard_aggregation(matrix)[0], constant)
            prolong = jacobi_prolongation_smoother(matrix, tentative, matrix, constant, _OMEGA, weighting="local")
            restrict = prolong.T
            self._levels.append(_level(matrix, prolong, restrict))
            matrix = (restrict @ matrix @ prolong).tocsr()
        self._last = matrix.toarray()
        self._coarsest = _inverse(self._last).astype(np.float32)

    def moved(self, scale: float, shift: float) -> Multigrid:
        """Return the cycle for `scale * matrix + shift * identity`: coarse grids are the same, which take longest."""
        moved = copy(self)
        *units, last = self._units
        moved._levels = [level.moved(scale, shift, unit) for level, unit in zip(self._levels, units, strict=True)]
        moved._last = scale * self._last + shift * last.toarray()
        moved._coarsest = _inverse(moved._last).astype(np.float32)
        return moved

    @cached_property
    def _units(self) -> list[Any]:
        """What the identity is on each grid, the coarsest one last."""
        units = [eye_array(self._levels[0].matrix.shape[0] if self._levels else len(self._last), dtype=np.float32)]
        for level in self._levels:
            units.append(level.restrict @ units[-1] @ level.prolong)
        return units

    def __call__(self, right: _Rough, depth: int = 0) -> _Rough:
        """Return the approximate solution, float32 `(n, k)` like `right`."""
        if depth == len(self._levels):
            solved: _Rough = np.einsum("ij,jk->ik", self._coarsest, right)
            return solved
        level = self._levels[depth]
        x = _smooth(level, right, None)
        x += level.prolong @ self(level.restrict @ _short(level.matrix @ x, right), depth + 1)
        return _smooth(level, right, x)


def _nothing() -> None:
    pass


def solve_planar(matrix: Any, right: Columns, meanwhile: _Meanwhile = _nothing) -> Columns:
    """Solve `matrix @ x = right`, exact to rounding, where the unknowns lie in a plane.

    Connected parts are factorised in groups, so memory does not grow with the number of holes; a part too large to
    be factorised goes to `solve`.

    Args:
        matrix: CSR float64 `(n, n)`, symmetric positive definite.
        right: float64 `(n, k)`; a column of zeros gives exactly zeros.
        meanwhile: called about once a second; may raise to give up.

    Raises:
        ArithmeticError: the matrix is not positive definite.
    """
    n_parts, part = connected_components(matrix, directed=False)
    x = np.empty_like(right)
    for rows in _groups(part, n_parts):
        meanwhile()
        block = matrix if len(rows) == len(part) else matrix[rows][:, rows]
        direct = len(rows) <= DIRECT
        x[rows] = _direct(block, right[rows]) if direct else solve(block.tocsr(), right[rows], meanwhile=meanwhile)
    return x


def _groups(part: NDArray[np.integer[Any]], n_parts: int) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of whole parts, in order, as many parts at once as may be factorised together."""
    sizes = np.bincount(part, minlength=n_parts)
    group = np.zeros(n_parts, dtype=np.intp)
    number, filled = 0, 0
    for k, size in enumerate(sizes):
        if filled and filled + size > DIRECT:
            number, filled = number + 1, 0
        group[k] = number
        filled += int(size)
    order = np.argsort(group[part], kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(group[part][order])) + 1)


def _direct(matrix: Any, right: Columns) -> Columns:
    with one_thread():
        try:
            factors = splu(
                matrix.tocsc(),
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                panel_size=_PANEL,
                options={"SymmetricMode": True},
            )
        except RuntimeError as error:
            raise ArithmeticError(f"spline equations of {len(right)} pixels: {error}") from None
        solved: Columns = factors.solve(right)
    return solved


def solve(
    matrix: Any,
    right: Columns,
    start: Columns | None = None,
    meanwhile: _Meanwhile = _nothing,
    *,
    root: Any | None = None,
    tolerance: float = TOLERANCE,
    cycle: Multigrid | None = None,
) -> Columns:
    """Solve `matrix @ x = right` to a relative residual in every column.

    Args:
        matrix: CSR float64 `(n, n)`, symmetric positive definite.
        right: float64 `(n, k)`; a column of zeros gives exactly zeros.
        start: float64 `(n, k)` first guess of the solution.
        meanwhile: called in every iteration; may raise to give up.
        root: CSR float64 `(n, n)`, symmetric positive definite, whose square is close to `matrix`: two cycles for it
            stand for one for `matrix`. That of a plate takes a third of the iterations so, and each of them no longer.
        tolerance: residual norm over right-hand side norm at which a column counts as solved.
        cycle: for the root, or for the matrix if there is none; None = it is made.

    Raises:
        ArithmeticError: no convergence, which means that the matrix is not positive definite.
    """
    if cycle is None:
        cycle = Multigrid(matrix if root is None else root)
    x = np.zeros_like(right) if start is None else start * right.any(axis=0)
    residual = right - matrix @ x
    goal = tolerance**2 * _dot(right, right)
    direction, last = np.zeros_like(right), np.ones(right.shape[1])
    for _ in range(_MAX_ITERATIONS):
        meanwhile()
        size = _dot(residual, residual)
        if (size <= goal).all():
            return x
        scale = np.sqrt(np.where(size > 0, size, 1.0))  # keeps float32 away from its limits
        rough = cycle((residual / scale).astype(np.float32))
        z: Columns = scale * (rough if root is None else cycle(rough))
        now = _dot(residual, z)
        direction *= _ratio(now, last)
        direction += z
        image = matrix @ direction
        step = _ratio(now, _dot(direction, image))
        x += step * direction
        residual -= step * image
        last = now
    raise ArithmeticError(f"spline equations of {len(right)} pixels unsolved after {_MAX_ITERATIONS} iterations")


def _level(matrix: Any, prolong: Any, restrict: Any) -> _Level:
    inverse = 1.0 / matrix.diagonal()
    single = [part.tocsr().astype(np.float32) for part in (matrix, prolong, restrict)]
    return _Level(single[0], inverse[:, None].astype(np.float32), _bound(matrix, inverse), single[1], single[2])


def _bound(matrix: Any, inverse: NDArray[Any]) -> float:
    """Return a bound of the eigenvalues over the diagonal by Gershgorin: no random start as power iteration has."""
    return float((abs(matrix).sum(axis=1) * inverse).max())


def _smooth(level: _Level, right: _Rough, start: _Rough | None) -> _Rough:
    high, low = level.bound, level.bound / _DAMPED_BAND
    centre, half = (high + low) / 2, (high - low) / 2
    residual = right if start is None else _short(level.matrix @ start, right)
    step: Any = level.inverse_diagonal * residual
    step /= centre
    x: _Rough = step.copy() if start is None else start + step
    rho = half / centre
    for _ in range(_DEGREE - 1):
        # what a hole has of voxels fits a cache: everything is done in place
        residual = _short(level.matrix @ x, right)
        following = 1.0 / (2.0 * centre / half - rho)
        residual *= level.inverse_diagonal
        residual *= 2.0 / half
        step *= rho
        step += residual
        step *= following
        x += step
        rho = following
    return x


def _short(product: _Rough, right: _Rough) -> _Rough:
    """Return `right - product` in place of the product."""
    return np.subtract(right, product, out=product)


def _inverse(matrix: Columns) -> Columns:
    """Invert a small positive definite matrix by Gauss-Jordan elimination; LAPACK may thread, this does not.

    PyAMG ends with one empty aggregate where all components were settled on finer levels: a zero row, kept.
    """
    n = len(matrix)
    work = np.concatenate([matrix + np.diag(matrix.diagonal() == 0), np.eye(n)], axis=1)
    for i in range(n):
        work[i] /= work[i, i]
        factor = work[:, i : i + 1].copy()
        factor[i] = 0.0
        work -= factor * work[i]
    return work[:, n:]


def _dot(a: NDArray[Any], b: NDArray[Any]) -> Columns:
    product: Columns = np.einsum("ij,ij->j", a, b)
    return product


def _ratio(a: Columns, b: Columns) -> Columns:
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)
