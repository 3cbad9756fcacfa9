"""Exemplar fill: copy look-alike patches from the observed part of the image, from the rim inward.

Sharper than any spline and less exact: a texture for the eye. Each layer of a hole is matched by PatchMatch
(Barnes et al. 2009, doi:10.1145/1531326.1531330) in its parallel form, on the leading principal components, and
compared where something is known: the peeling order of Criminisi et al. (2004, doi:10.1109/TIP.2004.833105).

Also known as: patchmatch, criminisi, texture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from pipeline.fills import tension
from pipeline.fills._common import background, check
from pipeline.fills.base import Window

NDIM = (2,)

_COMPONENTS = 3
_LAYER = 2
"""Pixels of depth that are matched at once."""
_COPIED = 0.5
"""Weight of a pixel filled before, against an observed one, in the comparison of two patches."""
_UNKNOWN = 0.3
"""Weight of a pixel that has only its spline value yet."""

Places = NDArray[np.intp]


@dataclass(slots=True)
class _Search:
    """The state of the matching.

    Attributes:
        features: float32 `(k, y, x)`; what is compared.
        trust: float32 `(y, x)`; weight of each pixel on the target's side.
        sources: bool `(y, x)`; centres of fully observed patches.
        best: `(2, y, x)`; where each pixel copies from, -1 if undecided.
        cost: float32 `(y, x)`; how unlike the two patches are.
        radius: of the patch.
    """

    features: NDArray[np.float32]
    trust: NDArray[np.float32]
    sources: NDArray[np.bool_]
    best: Places
    cost: NDArray[np.float32]
    radius: int

    def offer(self, targets: Places, candidates: Places) -> None:
        """Let each target `(2, n)` take its candidate `(2, n)` if that is legal and more alike than its best."""
        rows, columns = self.sources.shape
        v, u = candidates
        legal = (v >= 0) & (v < rows) & (u >= 0) & (u < columns)
        legal[legal] = self.sources[v[legal], u[legal]]
        targets, candidates = targets[:, legal], candidates[:, legal]
        cost = self._compare(targets, candidates)
        better = cost < self.cost[tuple(targets)]
        y, x = targets[:, better]
        self.best[:, y, x] = candidates[:, better]
        self.cost[y, x] = cost[better]

    def neighbours(self, targets: Places, step: tuple[int, int]) -> Places:
        """Return the sources that continue what the pixels `step` before the targets copy."""
        shift = np.array(step)[:, None]
        y, x = np.clip(targets - shift, 0, np.array(self.sources.shape)[:, None] - 1)
        found = self.best[:, y, x]
        return np.where(found >= 0, found + shift, -1)

    def _compare(self, targets: Places, sources: Places) -> NDArray[np.float32]:
        """Return the weighted mean square difference of the patches around `targets` and `sources`, `(n,)`."""
        total = np.zeros(targets.shape[1], dtype=np.float32)
        weights = np.zeros_like(total)
        limit = np.array(self.sources.shape)[:, None] - 1
        for dy in range(-self.radius, self.radius + 1):
            for dx in range(-self.radius, self.radius + 1):
                shift = np.array([[dy], [dx]])
                y, x = np.clip(targets + shift, 0, limit)
                v, u = sources + shift
                difference = self.features[:, y, x] - self.features[:, v, u]
                weight = self.trust[y, x]
                total += weight * np.einsum("cn,cn->n", difference, difference)
                weights += weight
        cost: NDArray[np.float32] = (total / np.maximum(weights, 1e-6)).astype(np.float32)
        return cost


def fill(
    window: Window,
    *,
    size: Annotated[int, Field(ge=3, le=255)] = 7,
    sweeps: Annotated[int, Field(ge=1, le=1000)] = 3,
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0,
) -> NDArray[np.float32]:
    """Fill the holes with copies of observed pixels whose surroundings look alike.

    Where no whole patch is observed, the tension spline stands.

    Args:
        window: 2-D window.
        size: patch edge in pixels, odd.
        sweeps: rounds of matching per layer.
        seed: start of the random search; the same seed gives the same bytes.

    Returns:
        float32 `(c, *spatial)`: observed values where valid, copies in holes, finite elsewhere.

    Raises:
        ValueError: `size` is even or below 3, `sweeps` below 1, or the window cannot be filled.
    """
    check(window, NDIM)
    if size < 3 or size % 2 == 0 or sweeps < 1:
        raise ValueError(f"patch size {size} must be odd and at least 3, sweeps = {sweeps} at least 1")
    result = tension.fill(window) if window.hole.any() else background(window)
    complete: NDArray[np.bool_] = np.all(window.valid, axis=0)
    hole: NDArray[np.bool_] = np.any(window.hole, axis=0)
    radius = size // 2
    sources = ndimage.binary_erosion(complete, np.ones((size, size)))
    if not hole.any() or not sources.any():
        return result
    search = _Search(
        features=_features(result, complete),
        trust=np.where(complete, 1.0, _UNKNOWN).astype(np.float32),
        sources=sources,
        best=np.full((2, *hole.shape), -1, dtype=np.intp),
        cost=np.full(hole.shape, np.inf, dtype=np.float32),
        radius=radius,
    )
    depth = -(-ndimage.distance_transform_cdt(~complete, metric="chessboard") // _LAYER) * hole
    random = np.random.default_rng(seed)
    for layer in range(1, int(depth.max()) + 1):
        targets = np.array(np.nonzero(depth == layer))
        _match(search, targets, sweeps, random)
        _copy(search, targets, window, result)
    return result


def _copy(search: _Search, targets: Places, window: Window, result: NDArray[np.float32]) -> None:
    """Copy what was found for a layer, into the features that the next layer is compared by and into the result."""
    (y, x), (v, u) = targets, search.best[:, targets[0], targets[1]]
    search.features[:, y, x] = search.features[:, v, u]
    search.trust[y, x] = _COPIED
    for channel in range(len(result)):
        own = window.hole[channel, y, x]
        result[channel, y[own], x[own]] = result[channel, v[own], u[own]]


def _features(values: NDArray[np.float32], complete: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return up to `_COMPONENTS` principal components of the standardised bands, float32 `(k, y, x)`."""
    known = values[:, complete].astype(np.float64)
    mean, scale = known.mean(axis=1), known.std(axis=1)
    scale[scale <= 0] = 1.0
    standard = (known - mean[:, None]) / scale[:, None]
    _, vectors = np.linalg.eigh(np.einsum("in,jn->ij", standard, standard) / known.shape[1])
    lead = vectors[:, ::-1][:, :_COMPONENTS].T / scale
    centred = values.astype(np.float64) - mean[:, None, None]
    features: NDArray[np.float32] = np.einsum("kc,cyx->kyx", lead, centred).astype(np.float32)
    return features


def _match(search: _Search, targets: Places, sweeps: int, random: np.random.Generator) -> None:
    """Improve all matches of a layer at once: random sources, neighbours' offsets, sources near the best."""
    legal = np.argwhere(search.sources).T
    n, extent = targets.shape[1], max(search.sources.shape)
    for _ in range(sweeps):
        search.offer(targets, legal[:, random.integers(legal.shape[1], size=n)])
        for jump in (search.radius, 1):
            for step in ((0, jump), (0, -jump), (jump, 0), (-jump, 0)):
                search.offer(targets, search.neighbours(targets, step))
        for reach in (extent // 8, extent // 32, 2):
            best = search.best[:, targets[0], targets[1]]
            search.offer(targets, best + random.integers(-reach, reach + 1, size=(2, n)))
