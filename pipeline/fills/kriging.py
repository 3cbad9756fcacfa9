"""Kriging with the image's own covariance: each hole pixel is the best linear combination of those observed around it.

Ordinary kriging (Cressie 1993, section 3.2) in a small neighbourhood. No covariance model is assumed: the covariances
of all pairs of pixels in the neighbourhood are counted on the window itself, so blur, texture and direction are the
image's own, and lost slices and lines are predicted as slices and lines of this image depend on each other.
Deep inside holes, where little is observed nearby, the tension spline stands.

Also known as: gaussian process, gp, gpr, gaussian, optimal interpolation, variogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

import numpy as np
import pydantic
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.fills import tension
from pipeline.fills._common import check
from pipeline.fills.base import FillSpec, Window
from pipeline.numerics.products import inner

NDIM = (2, 3)
WHOLE = True
"""Covariances are counted on the whole window, around its holes, too, and their shape gives the neighbourhood."""

_SHARE = 1 / 3
"""Share of the neighbourhood that must be observed for a pixel to be kriged."""
_SAMPLES = {2: 8_000, 3: 30_000}
"""Observed pixels that covariances are counted around, by dimensions."""
_NUGGET = 0.01
"""Added to the diagonal, as a share of the semivariance of nearest neighbours: steadies the weights."""
_FLOOR = 0.1
"""Neighbourhoods flatter than this share of the mean variance count less: their details may be noise."""
_CHUNK = 1 << 22

Places = NDArray[np.intp]
Field = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sites:
    """Where to krige and from what, as flat indices of the padded window.

    Attributes:
        pad: padding per axis.
        near: `(k,)` steps from a pixel to its k neighbours.
        pixel: `(n,)` hole pixels to krige, grouped by pattern.
        first: `(p + 1,)` where the pixels of each pattern start.
        pattern: bool `(p, k)`, which neighbours are observed.
        centre: `(m,)` observed pixels to count covariances around.
    """

    pad: tuple[int, ...]
    near: Places
    pixel: Places
    first: Places
    pattern: NDArray[np.bool_]
    centre: Places


def fill(
    window: Window,
    *,
    t: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5,
    isotropic: bool = False,
    reach: Sequence[Annotated[int, pydantic.Field(ge=0, le=64)]] | None = None,
) -> NDArray[np.float32]:
    """Fill the holes by kriging where a third of the neighbourhood is observed, elsewhere by the tension spline.

    Args:
        window: 2-D or 3-D window.
        t: tension of the spline, see `tension.fill`.
        isotropic: see `tension.fill`.
        reach: half width of the neighbourhood per axis, in pixels; by default it is long across holes that are thin
            along one axis only (lost slices, stripes), else a disc or ball.

    Returns:
        float32 `(c, *spatial)`: observed values where valid, estimates in holes, finite elsewhere.

    Raises:
        ValueError: `reach` does not fit the window, or the window cannot be filled (see `tension.fill`).
    """
    return refined(window, tension.fill(window, t=t, isotropic=isotropic), reach=reach)


def begun_with(*, t: float = 0.5, isotropic: bool = False, **_: Any) -> FillSpec:
    """Return the fill whose result is refined."""
    return FillSpec("tension", {"t": t} | ({"isotropic": True} if isotropic else {}))


def refined(
    window: Window, begun: NDArray[np.float32], *, reach: Sequence[int] | None = None, **_: Any
) -> NDArray[np.float32]:
    """Krige where a third of the neighbourhood is observed; elsewhere what was begun stands.

    Args:
        window: see `fill`.
        begun: `(c, *spatial)`, the window filled by `begun_with`.
        reach: see `fill`.

    Raises:
        ValueError: as `fill`.
    """
    check(window, NDIM)
    result = begun.copy()
    for channels in window.hole_groups:
        valid, hole = window.valid[channels[0]], window.hole[channels[0]]
        asked = hole if window.asked is None else hole & window.asked[channels].any(axis=0)
        if not asked.any():
            continue
        offsets = _neighbourhood(hole, reach)
        sites = _sites(valid, hole, asked, offsets)
        if not sites.pixel.size or len(sites.centre) < 10 * len(offsets):
            continue
        for some in _parts(np.asarray(channels), hole.size):
            result[some] = _krige(result[some], sites)
    return result


def _neighbourhood(hole: NDArray[np.bool_], reach: Sequence[int] | None) -> Places:
    """Return the offsets of the neighbours, `(k, ndim)`, without the pixel itself."""
    if reach is not None:
        if len(reach) != hole.ndim or min(reach) < 0 or max(reach) < 1:
            raise ValueError(f"reach = {reach} must give one half width for each of the {hole.ndim} axes, not all 0")
        return _box(reach)
    runs = [hole.sum() / max(1, int((np.diff(hole, axis=a, prepend=False) & hole).sum())) for a in range(hole.ndim)]
    thin = int(np.argmin(runs))
    if all(run > 3 * runs[thin] for a, run in enumerate(runs) if a != thin):
        across, along = (6, 2) if hole.ndim == 2 else (5, 1)
        return _box([across if a == thin else along for a in range(hole.ndim)])
    radius = 3 if hole.ndim == 2 else 2
    box = _box((radius,) * hole.ndim)
    ball: Places = box[(box**2).sum(axis=1) <= radius**2 + 1]
    return ball


def _box(reach: Sequence[int]) -> Places:
    return np.array([o for o in product(*(range(-r, r + 1) for r in reach)) if any(o)], dtype=np.intp)


def _sites(valid: NDArray[np.bool_], hole: NDArray[np.bool_], asked: NDArray[np.bool_], offsets: Places) -> _Sites:
    pad = tuple(int(r) for r in np.abs(offsets).max(axis=0))
    observed = np.pad(valid, [(r, r) for r in pad])
    steps = np.cumprod((1, *observed.shape[:0:-1]))[::-1].astype(np.intp)
    near = offsets @ steps
    pixel = np.flatnonzero(np.pad(asked, [(r, r) for r in pad]))
    kept, packed = [], []
    for part in _parts(pixel, len(near)):
        around = observed.ravel()[part[:, None] + near]
        # most pixels of wide holes see next to nothing: they need not be sorted
        enough = around.sum(axis=1) >= _SHARE * len(near)
        kept.append(part[enough])
        packed.append(np.packbits(around[enough], axis=1))
    patterns, index = np.unique(np.concatenate(packed), axis=0, return_inverse=True)
    order = np.argsort(index.ravel(), kind="stable")
    first = np.searchsorted(index.ravel()[order], np.arange(len(patterns) + 1))
    pattern = np.unpackbits(patterns, axis=1, count=len(near)).astype(bool)
    # never-touch pixels and what lies outside the window carry no information
    usable = np.pad(valid | hole, [(r, r) for r in pad])
    within = ndimage.minimum_filter(usable, size=[2 * r + 1 for r in pad], mode="constant")
    centre = np.flatnonzero(within & observed)
    # a copy: a view would keep all of them
    centre = centre[:: max(1, len(centre) // _SAMPLES[valid.ndim])].copy()
    pixel = np.concatenate(kept)[order]
    return _Sites(pad=pad, near=near, pixel=pixel, first=first, pattern=pattern, centre=centre)


def _krige(start: NDArray[np.float32], sites: _Sites) -> NDArray[np.float32]:
    """Return `start` `(c, *spatial)`, complete with the spline in holes, with kriged values in place of it."""
    padding = [(0, 0), *((r, r) for r in sites.pad)]
    padded = np.pad(start, padding, mode="edge")
    flat = padded.reshape(len(start), -1)
    cross, among = (np.stack(part) for part in zip(*(_covariance(one, sites) for one in flat), strict=True))
    nugget = _NUGGET * (among.diagonal(axis1=1, axis2=2).mean(axis=1) - cross.max(axis=1))
    varied = np.flatnonzero(nugget > 0)
    if not varied.size:
        return start
    cross, among = cross[varied], among[varied] + nugget[varied, None, None] * np.eye(len(sites.near))
    kriged = np.empty((len(varied), len(sites.pixel)), dtype=np.float32)
    size = max(1, _CHUNK // (len(varied) * len(sites.near) ** 2))
    for low in range(0, len(sites.pattern), size):
        patterns = sites.pattern[low : low + size]
        weights = _weights(cross, among, patterns)
        bounds = sites.first[low : low + len(patterns) + 1]
        which = np.repeat(np.arange(len(patterns)), np.diff(bounds))
        own = np.arange(bounds[0], bounds[-1])
        width = len(varied) * len(sites.near)
        for some, rows in zip(_parts(own, width), _parts(which, width), strict=True):
            # relative to the spline, so that a constant surrounding gives the constant exactly
            part = sites.pixel[some]
            level = flat[varied[:, None], part].astype(np.float64)
            above = flat[varied[:, None, None], part[:, None] + sites.near] - level[..., None]
            kriged[:, some] = level + np.einsum("cnk,cnk->cn", above, weights[:, rows])
    flat[varied[:, None], sites.pixel] = kriged
    inner = (slice(None), *(slice(r, r + n) for r, n in zip(sites.pad, start.shape[1:], strict=True)))
    return padded[inner]


def _covariance(flat: NDArray[np.float32], sites: _Sites) -> tuple[Field, Field]:
    """Return covariances of the pixel with its neighbours `(k,)` and among these `(k, k)`, of unit mean variance.

    Counted around observed pixels, holes among the neighbours have their spline value: so the matrix is positive.
    Each neighbourhood is taken relative to its mean (weights sum to one, the level drops out) and to its spread.
    """
    offsets = np.append(0, sites.near)[:, None]
    # neighbours in rows: sums over them go along the centres
    around = (flat[offsets + part].astype(np.float64) for part in _parts(sites.centre, len(offsets)))
    samples = [values - values.mean(axis=0) for values in around]
    variances = [np.square(sample).mean(axis=0) for sample in samples]
    floor = _FLOOR * float(np.concatenate(variances).mean())
    total = np.zeros((len(offsets), len(offsets)))
    if floor > 0:
        for sample, variance in zip(samples, variances, strict=True):
            np.divide(sample, np.sqrt(variance + floor), out=sample)
            total += inner(sample, sample)
    total /= len(sites.centre)
    return total[0, 1:], total[1:, 1:]


def _weights(cross: Field, among: Field, patterns: NDArray[np.bool_]) -> Field:
    """Solve the ordinary kriging system of each pattern `(p, k)`; returns `(c, p, k)`, 0 where not observed.

    Those that see as many neighbours are solved together: their systems hold nothing else, and are far too small for
    LAPACK to spread over threads.
    """
    weights = np.zeros((len(cross), *patterns.shape))
    count = patterns.sum(axis=1)
    for n in np.unique(count):
        own = np.flatnonzero(count == n)
        seen = np.nonzero(patterns[own])[1].reshape(len(own), n)
        right = cross[:, seen]
        right = np.stack([right, np.ones_like(right)], axis=-1)
        solved = np.linalg.solve(among[:, seen[:, :, None], seen[:, None, :]], right)
        simple, ones = solved[..., 0], solved[..., 1]
        missing = (1.0 - simple.sum(axis=-1)) / ones.sum(axis=-1)
        weights[:, own[:, None], seen] = simple + missing[..., None] * ones
    return weights


def _parts(indices: Places, width: int) -> list[Places]:
    """Cut indices so that an array of them by `width` stays small."""
    size = max(1, _CHUNK // width)
    return [indices[low : low + size] for low in range(0, len(indices), size)] or [indices]
