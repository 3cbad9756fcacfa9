"""Local mean and scale of the observed pixels: the same code for training and inference, channel by channel.

The statistics form a continuous field rather than one number a patch, so neighbouring patches see nearly the
same normalised values. Over a large hole they fade into those of wider windows (push-pull: Gortler et
al., The Lumigraph, SIGGRAPH 1996).

What a network sees is divided by statistics of wide windows, which leave the structure in it. How far off a pixel is
follows from what is beside it: a scale of the same width says the same of calm water and of the coast 16 pixels away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.numerics.alike import alike
from pipeline.numerics.between import between
from pipeline.numerics.beyond import Beyond, handed_over
from pipeline.numerics.column import column
from pipeline.numerics.distance import inside
from pipeline.numerics.pixels import Pixels

Array = NDArray[np.float32]

CLIP = 6.0
"""Normalised inputs are clipped to +-CLIP: one glint or dead pixel must not swamp a patch."""
_CELL = {2: 8, 3: 4}
_SIGMAS = (18.0, 6.0, 2.0)
_CLOSER = {2: (4, 2), 3: (2,)}
"""Cells, in pixels, on which the local scale gets windows as narrow as one of them where enough is observed."""
_PRIOR = 0.05
_AROUND = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatistics:
    """Mean and scale fields of one channel, float32, in data units; the scale is positive."""

    mean: Array
    scale: Array


def local_statistics(
    values: Array, valid: NDArray[np.bool_], floor: float, beyond: Beyond | None = None
) -> LocalStatistics:
    """Return windowed mean and standard deviation of the observed pixels.

    The window is Gaussian, 16 pixels (2-D) or 8 voxels (3-D) wide. A channel without observed pixels is
    described by all its values.

    Args:
        values: `spatial`, finite.
        valid: `spatial`; True = observed.
        floor: smallest scale, in data units.
        beyond: what the whole image says of this channel, `(1, *spatial)`, for pixels around which the window does not
            show all that counts; None = it does everywhere.
    """
    return statistics_of_channels(values[None], valid[None], np.asarray([floor]), beyond)[0]


def statistics_of_channels(
    values: Array, valid: NDArray[np.bool_], floor: NDArray[np.floating], beyond: Beyond | None = None
) -> list[LocalStatistics]:
    """Return `local_statistics` of several channels.

    Args:
        values: `(c, *spatial)`, finite.
        valid: `(c, *spatial)`; True = observed.
        floor: `(c,)`, smallest scale of each channel, data units.
        beyond: of these channels; None = windows show all that counts.
    """
    ndim, shape = values.ndim - 1, values.shape[1:]
    cell = _CELL[ndim]
    sums, centre = _sums(values, valid, cell)
    middle, power = _local(sums, _SIGMAS)
    coarse = middle + centre, _deviation(middle, power)
    mean, scale = (_refined(part, shape, cell).astype(np.float32) for part in coarse)
    if beyond is not None:
        some: int | slice = slice(1) if beyond.shared else slice(None)
        seen = beyond.seen(beyond.distance[some], some)
        mean, scale = handed_over(mean, beyond.mean, seen), handed_over(scale, beyond.scale, seen)
    scale = _above(column(floor, ndim), scale)
    return [LocalStatistics(mean=own, scale=width) for own, width in zip(mean, scale, strict=True)]


def local_scales(
    values: Array, valid: NDArray[np.bool_], floor: NDArray[np.floating], pixels: Pixels
) -> tuple[Array, Array]:
    """Return the `scale` of `local_statistics`, and that of a closer window, at some pixels of channels, `(c, n)` each.

    The closer one is Gaussian, 2 pixels wide beside observed pixels, and as wide as the other far from them.

    Args:
        values: `(c, *spatial)`, finite.
        valid: `(c, *spatial)`; True = observed.
        floor: `(c,)`, smallest scale of each channel, data units.
        pixels: `(n,)`, where.
    """
    ndim, shape = values.ndim - 1, values.shape[1:]
    cell, closest = _CELL[ndim], _CLOSER[ndim][-1]
    sums, _ = _sums(values, valid, closest)
    moments = _local([averaged(field, cell // closest) for field in sums], _SIGMAS)
    wide = refined_at(_deviation(*moments), shape, cell, pixels)
    for closer in _CLOSER[ndim]:
        fields = [averaged(field, closer // closest) for field in sums]
        about = [_refined(part, fields[0].shape[1:], cell // closer) for part in moments]
        cell, moments = closer, _local(fields, (1.0,), about)
    close = refined_at(_deviation(*moments), shape, cell, pixels)
    smallest = column(floor, 1)
    return _above(smallest, wide.astype(np.float32)), _above(smallest, close.astype(np.float32))


def _sums(values: Array, valid: NDArray[np.bool_], cell: int) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Return what moments are made of, on cells of so many pixels, and the centre that values are counted from.

    These are the observed shares, the values around the centre and their squares, `(c or 1, *cells)` each, of channels
    without any observed pixel those of all; the centre is `(c, 1, ...)`, data units.
    """
    ndim, inner = values.ndim - 1, tuple(range(1, values.ndim))
    weight = valid[:1] if valid.strides[0] == 0 else valid
    weight = weight | ~weight.any(axis=inner, keepdims=True)
    seen = np.broadcast_to(weight, values.shape)
    centre = column([own[k].mean(dtype=np.float64) for own, k in zip(values, seen, strict=True)], ndim)
    shifted = np.where(seen, values - centre.astype(np.float32), np.float32(0)).astype(np.float64)
    return [averaged(field, cell) for field in (weight.astype(np.float64), shifted, shifted**2)], centre


def _local(
    fields: Sequence[NDArray[np.float64]], sigmas: Sequence[float], wider: Sequence[NDArray[np.float64]] | None = None
) -> list[NDArray[np.float64]]:
    """Return the local mean, around the centre, and mean square of each channel on cells, `(c, *cells)` each.

    Args:
        fields: see `_sums`.
        sigmas: of the windows, in cells, narrower and narrower.
        wider: what counts where they see too little, on the same cells; without, the moments of all observed pixels.
    """
    count, *totals = fields
    inner = tuple(range(1, count.ndim))
    n = np.maximum(count.sum(axis=inner, keepdims=True), 1e-12)
    moments = list(wider) if wider else [total.sum(axis=inner, keepdims=True) / n for total in totals]
    # together: the call takes longer than the sums in small windows
    together, parts = np.concatenate(fields), np.cumsum([len(field) for field in fields])[:-1]
    for sigma in sigmas:
        widths = (0, *(sigma,) * len(inner))
        around = np.split(gaussian_filter(together, widths, mode="nearest"), parts)
        moments = [
            (field + _PRIOR * other) / (around[0] + _PRIOR) for field, other in zip(around[1:], moments, strict=True)
        ]
    return moments


def _deviation(mean: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.maximum(power - mean**2, 0.0)))


def _above(floor: float | NDArray[np.floating], scale: Array) -> Array:
    return np.maximum(scale, np.maximum(floor, np.finfo(np.float32).tiny * 1e6).astype(np.float32))


def varied(values: Array, floor: Array) -> NDArray[np.bool_]:
    """Say around which voxels of a volume values vary by more than a floor; around all pixels of an image.

    Head and air share a window, and the local scale, which is smoothed over one, is far above the noise of air beside a
    head.

    Args:
        values: `(c, *spatial)`, around 0.
        floor: smallest standard deviation that counts, over 5 x 5 x 5 voxels; `(c, 1, ...)`, data units.
    """
    if values.ndim < 4:
        return np.ones(values.shape, dtype=np.bool_)
    mean = values.astype(np.float64)
    power = mean * mean
    for axis in (1, 2, 3):
        mean, power = _around(mean, axis), _around(power, axis)
    mean /= _AROUND**3
    power /= _AROUND**3
    mean *= mean
    power -= mean
    return np.asarray(power > floor.astype(np.float64) ** 2)


def _around(field: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return sums of `_AROUND` neighbours along an axis, mirrored at its ends; a quarter of SciPy's time for a mean."""
    reach = _AROUND // 2
    along = np.moveaxis(
        np.pad(field, [(reach * (k == axis),) * 2 for k in range(field.ndim)], mode="symmetric"), axis, 0
    )
    n = field.shape[axis]
    total = along[:n] + along[1 : n + 1]
    for k in range(2, _AROUND):
        total += along[k : n + k]
    return np.moveaxis(total, 0, axis)


def depth_channel(valid: NDArray[np.bool_], spacing: tuple[float, ...]) -> Array:
    """Return the log-scaled distance to the nearest observed pixel, 0 on observed ones, about 1 at 64 steps.

    Distance is counted in steps of the finest axis. Without observed pixels it is that of the diagonal.
    """
    step = min(spacing)
    if valid.any():
        distance = inside(~valid, [s / step for s in spacing])
    else:
        distance = np.full(valid.shape, float(np.linalg.norm(valid.shape)))
    return depth_of(distance)


def depth_channels(valid: NDArray[np.bool_], spacing: tuple[float, ...]) -> Array:
    """Return `depth_channel` of each channel, `(c, *spatial)`; equal validity shares one distance transform."""
    depths = np.empty(valid.shape, dtype=np.float32)
    for channels in alike(valid):
        depths[channels] = depth_channel(valid[channels[0]], spacing)
    return depths


def depth_of(distance: NDArray[np.floating]) -> Array:
    """Return what `depth_channel` says at given distances, same shape."""
    return np.asarray(np.log2(1.0 + distance) / 6.0, dtype=np.float32)


def network_input(values: Array, valid: NDArray[np.bool_], statistics: LocalStatistics, depth: Array) -> Array:
    """Stack what the network sees: `(3, *spatial)` = normalised values, validity, depth."""
    normalised = np.clip((values - statistics.mean) / statistics.scale, -CLIP, CLIP)
    return np.stack([normalised, valid.astype(np.float32), depth]).astype(np.float32)


def averaged(field: NDArray[np.float64], cell: int) -> NDArray[np.float64]:
    """Return averages of `(c, *spatial)` over cells of `cell` pixels a side; the last one is filled up with zeros.

    Over several axes shorter than eight NumPy's mean takes ten times as long as sums of strided views, which are added
    up in the same order.
    """
    ends = [-n % cell for n in field.shape[1:]]
    padded = np.pad(field, [(0, 0), *((0, end) for end in ends)]) if any(ends) else field
    if cell >= 8:
        split = [size for n in padded.shape[1:] for size in (n // cell, cell)]
        return np.asarray(padded.reshape(-1, *split).mean(axis=tuple(range(2, 2 * field.ndim, 2))))
    rows = padded[..., ::cell].copy()
    for k in range(1, cell):
        rows += padded[..., k::cell]
    first, *rest = product(range(cell), repeat=field.ndim - 2)
    total: NDArray[np.float64] = rows[_every(cell, first)].copy()
    for place in rest:
        total += rows[_every(cell, place)]
    total /= cell ** (field.ndim - 1)
    return total


def _every(cell: int, place: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the index of the rows at one place of all cells."""
    return (slice(None), *(slice(k, None, cell) for k in place))


def _refined(coarse: NDArray[np.float64], shape: Sequence[int], cell: int) -> NDArray[np.float64]:
    """Interpolate `(c, *cells)` linearly between their centres, axis by axis; beyond the outermost it is constant."""
    fine = coarse
    for axis, n in enumerate(shape, start=1):
        low, high, share = between(n, cell, coarse.shape[axis])
        share = share.reshape([-1 if a == axis else 1 for a in range(coarse.ndim)])
        fine = _interpolated(np.take(fine, low, axis=axis), np.take(fine, high, axis=axis), share)
    return fine


def refined_at(coarse: NDArray[np.float64], shape: Sequence[int], cell: int, pixels: Pixels) -> NDArray[np.float64]:
    """Interpolate `(c, *cells)` linearly between their centres at some pixels, `(c, n)`; constant beyond them.

    Args:
        coarse: float64 `(c, *cells)`.
        shape: of the field whose pixels cells hold; the last cell of an axis may reach beyond it.
        cell: pixels a side of a cell.
        pixels: where, flat in `shape`.
    """
    rows = _refined(coarse, shape[:-1], cell)
    low, high, share = between(shape[-1], cell, coarse.shape[-1])
    row, along = np.divmod(pixels, shape[-1])
    first = row * coarse.shape[-1]
    flat = rows.reshape(len(rows), -1)
    below, above = (np.take(flat, first + end[along], axis=1) for end in (low, high))
    return _interpolated(below, above, share[along])


def _interpolated(
    below: NDArray[np.float64], above: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what lies between two fields; the second one holds it afterwards."""
    above -= below
    above *= share
    above += below
    return above
