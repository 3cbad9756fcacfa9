"""The whole image on cells of some pixels a side: what is observed in each, made in one pass of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.image.scan import SCAN_EXTENT, block_sum, cell_sizes, cells_of
from pipeline.image.window import OpenImage
from pipeline.masks.base import NEVER, evidence
from pipeline.system.signals import stop_if_asked

_CHUNK = {2: 512, 3: 96}
"""Extent of the pieces that the fill is stored in, by dimensions: about a patch."""

_STRIP = 1 << 18
"""Cells that are taken together at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What the observed pixels of each cell of an image look like, `(c, *cells)`.

    Attributes:
        mean: float32, centred values, data units; 0 where nothing is observed.
        variance: float32, mean squared deviation from it; one 0 that is broadcast where cells are pixels.
        count: int32, observed pixels.
        usable: bool, any pixel is observed or a hole.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    count: NDArray[np.int32]
    usable: NDArray[np.bool_]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """True where any pixel is observed."""
        return np.broadcast_to((self.count[:1] if self.count.strides[0] == 0 else self.count) > 0, self.count.shape)

    def pooled(self, factor: int) -> Cells:
        """Return the same of cells `factor` times as wide."""
        if factor == 1:
            return self
        n_state = 1 if self.count.strides[0] == 0 else len(self.count)
        shape = (len(self.mean), *(-(-n // factor) for n in self.mean.shape[1:]))
        count = np.stack([block_sum(plane, factor) for plane in self.count[:n_state]])
        usable = np.stack([block_sum(plane, factor) > 0 for plane in self.usable[:n_state]])
        mean, variance = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
        # strip by strip: in float64 a plane is larger than all that is kept of it
        rows = max(1, _STRIP // max(1, math.prod(shape[2:]) * factor ** len(shape[1:])))
        for c, first in product(range(len(mean)), range(0, shape[1], rows)):
            to, own = slice(first, first + rows), slice(first * factor, (first + rows) * factor)
            weight, exact = self.count[c, own], self.mean[c, own].astype(np.float64)
            n = np.maximum(count[min(c, n_state - 1), to], 1)
            middle = sums((weight * exact)[None], factor)[0] / n
            power = sums((weight * (self.variance[c, own] + np.square(exact)))[None], factor)[0] / n
            mean[c, to], variance[c, to] = middle, np.maximum(power - np.square(middle), 0.0)
        return Cells(
            mean=mean,
            variance=variance,
            count=np.broadcast_to(count.astype(np.int32), shape),
            usable=np.broadcast_to(usable, shape),
        )


def coarse_values(image: OpenImage, factor: int) -> Cells:
    """Return what cells of `factor` pixels a side look like."""
    shape, n_state = image.shape, image.n_state
    cells = tuple(-(-n // factor) for n in shape)
    total = np.zeros((len(image.channels), *cells), dtype=np.float64 if factor > 1 else np.float32)
    seen = np.zeros((n_state, *cells), dtype=np.int32)
    usable = np.zeros((n_state, *cells), dtype=np.bool_)
    variance = np.zeros((total.shape if factor > 1 else (1,) * total.ndim), dtype=np.float32)
    for box in aligned_tiles(shape, factor):
        stop_if_asked()
        states = image.states(box)
        valid = evidence(states)
        values = image.values(box, states)
        part = planes_of(box, factor)
        if valid.all():
            seen[part], usable[part] = cell_sizes(box.shape, factor), True
        else:
            seen[part] = sums(valid.astype(np.int32), factor)
            usable[part] = sums((states != NEVER).astype(np.int32), factor) > 0
        if not values.any():
            continue
        total[part] = sums(values, factor)
        if factor > 1:
            n = np.maximum(seen[part], 1)
            power = sums(np.square(values, dtype=np.float64), factor)
            variance[part] = np.maximum(power / n - np.square(total[part] / n), 0.0)
    total /= np.maximum(seen, 1)
    mean = total.astype(np.float32, copy=False)
    return Cells(
        mean=mean,
        variance=np.broadcast_to(variance, total.shape),
        count=np.broadcast_to(seen, total.shape),
        usable=np.broadcast_to(usable, total.shape),
    )


def sums(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return the sums of `(n, *spatial)` over cells, those of decimal numbers in float64."""
    if factor == 1:
        return values
    dtype = np.float64 if values.dtype.kind == "f" else values.dtype
    result = values
    for axis, n in enumerate(values.shape[1:], start=1):
        if n % factor:
            result = np.add.reduceat(result, np.arange(0, n, factor), axis=axis, dtype=dtype)
        else:
            # the same sums, three times as fast
            cells = (*result.shape[:axis], n // factor, factor, *result.shape[axis + 1 :])
            result = result.reshape(cells).sum(axis=axis + 1, dtype=dtype)
    return result


def planes_of(box: Box, factor: int) -> tuple[slice, ...]:
    """Return the slices of `(n, *cells)` that a box of whole cells, or one that ends with the image, stands for."""
    return (slice(None), *cells_of(box, factor))


def aligned_tiles(shape: tuple[int, ...], factor: int) -> Iterator[Box]:
    """Yield boxes that cover an image in one pass and cut no cell."""
    tile = tuple(max(factor, n // factor * factor) for n in SCAN_EXTENT[len(shape)])
    return Box.whole(shape).tiles(tile)


def save_cells(path: Path, values: NDArray[np.float32]) -> None:
    """Write `(n, *cells)` to a zarr array; what is 0 takes no room."""
    chunks = (1, *(min(n, _CHUNK[values.ndim - 1]) for n in values.shape[1:]))
    array = zarr.create_array(path, shape=values.shape, chunks=chunks, dtype="float32", fill_value=0, overwrite=True)
    array[:] = values
