"""Kinds of cover and a linear map for each: what a field does between two dates a wood need not do.

Clusters of all bands of a reference, a ridge map in each, pulled toward the map of all pixels: the most robust family
of a comparison of gap filling methods (2026, doi:10.1038/s41598-026-39488-2).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.products import inner
from pipeline.references.ridge import OUTLIER, Field, cauchy

KINDS = 8
"""Clusters."""

_PIXELS_PER_KIND = 200
"""Fewest pixels for each cluster on which they are worth fitting."""

_MOST_PIXELS = 8000
"""Pixels that clusters are found on; the maps are fitted on all."""

_ROUNDS = 20
_POOLED = 30.0
"""Pull of a cluster's map toward that of all pixels, as a number of pixels."""
_PENALTY = 1e-3
"""Pull of the map of all pixels toward nothing, as a share of the number of pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Linear maps of standardised bands, one for each kind of cover; part of the plan.

    Attributes:
        centres: `KINDS` rows of standardised band values.
        maps: for each kind, for each band of the image the coefficients of all bands and a constant, data units.
    """

    centres: tuple[tuple[float, ...], ...]
    maps: tuple[tuple[tuple[float, ...], ...], ...]

    def kind(self, z: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the number of each pixel's kind, `(n,)`, from standardised bands `(b, n)`."""
        return _nearest(np.asarray(self.centres), z)

    def __call__(self, z: NDArray[np.float32], kind: NDArray[np.intp]) -> Field:
        """Map standardised bands `(b, n)` of pixels of known kinds to float64 `(c, n)`, each pixel by itself."""
        maps = np.asarray(self.maps, dtype=np.float32)
        own = kind == np.arange(len(maps))[:, None]
        terms = own[:, None] * np.concatenate([z, np.ones((1, z.shape[1]), dtype=np.float32)])
        every = np.moveaxis(maps, 0, 1).reshape(maps.shape[1], -1)
        return inner(every, terms.reshape(-1, z.shape[1]).T).astype(np.float64)


def fit_clusters(y: Field, z: NDArray[np.float32], misfit: Field, outlier: float = OUTLIER) -> Clusters | None:
    """Find kinds of cover and fit their maps; None if there are too few pixels or the bands do not vary.

    Args:
        y: `(n, c)` values of the image.
        z: `(b, n)` standardised bands of the reference at the same pixels.
        misfit: `(n,)` squared misfits of another map, by which outliers lose weight but in odd kinds.
        outlier: robust standard errors beyond which they do.
    """
    if z.shape[1] < KINDS * _PIXELS_PER_KIND or not z.std(axis=1).any():
        return None
    # imported only where there is a reference, and no plan with its relations yet
    from scipy.cluster.vq import kmeans2

    some = np.ascontiguousarray(z[:, :: -(-z.shape[1] // _MOST_PIXELS)].T, dtype=np.float64)
    # starts are spread along the brightness, so nothing is drawn; an empty cluster keeps its start
    order = np.argsort(some.sum(axis=1), kind="stable")
    starts = some[order[(np.arange(KINDS) * 2 + 1) * len(order) // (2 * KINDS)]]
    with warnings.catch_warnings(action="ignore"):
        centres = np.asarray(kmeans2(some, starts, iter=_ROUNDS, minit="matrix", missing="warn")[0])
    terms = np.concatenate([z.astype(np.float64), np.ones((1, z.shape[1]))])
    own = np.eye(len(terms))
    kind = _nearest(centres, z)
    weight = cauchy(misfit / max(float(np.median(misfit)), 1e-12), outlier)
    general = _ridge(terms, y, weight, _PENALTY * z.shape[1] * own)
    weight = np.where(odd_kinds(misfit, kind, outlier)[kind], 1.0, weight)
    maps = []
    for k in range(KINDS):
        part = np.ascontiguousarray(terms[:, kind == k])
        rest = y[kind == k] - np.einsum("bn,bc->nc", part, general)
        maps.append((general + _ridge(part, rest, weight[kind == k], _POOLED * own)).T)
    return Clusters(
        centres=tuple(map(tuple, centres.tolist())),
        maps=tuple(tuple(map(tuple, one.tolist())) for one in maps),
    )


def odd_kinds(misfit: Field, kind: NDArray[np.intp], outlier: float = OUTLIER) -> NDArray[np.bool_]:
    """Return which kinds, `(KINDS,)`, are missed by a map of all pixels, from squared misfits `(n,)`.

    Half of their pixels pass for outliers. A bright tissue or a wetland is none: it needs a map of its own.
    """
    usual = max(float(np.median(misfit)), 1e-12)
    own = [np.median(misfit[kind == k]) if (kind == k).any() else 0.0 for k in range(KINDS)]
    return np.asarray(cauchy(np.asarray(own) / usual, outlier) < 0.5)


def _ridge(terms: Field, y: Field, weight: Field, penalty: Field) -> Field:
    """Return coefficients `(b, c)`; sums by einsum, whose order no BLAS thread changes."""
    weighted = terms * weight
    gram = np.einsum("in,jn->ij", weighted, terms) + penalty
    solved: Field = np.linalg.solve(gram, np.einsum("bn,nc->bc", weighted, y))
    return solved


def _nearest(centres: Field, z: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the number of the nearest centre of each pixel, `(n,)`."""
    product = inner(centres, z.T.astype(np.float64))
    return np.asarray(np.argmin((centres**2).sum(axis=1)[:, None] - 2 * product, axis=0))
