"""What a window cannot see of the image around it: how far observed pixels are, and what they look like.

Where a hole goes on beyond its window, the nearest observed pixel that the window shows need not be the nearest one,
and may be none. What the window itself shows counts as far as it is sure; beyond that counts what was found of the
whole image on coarse cells, and one fades into the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from pipeline.numerics.alike import alike
from pipeline.numerics.distance import inside

Array = NDArray[np.float32]

_SURE = 0.5
"""Share of the distance to where the window is cut up to which its nearest observed pixel tells all: what counts is a
surrounding as wide as a pixel is deep, too."""
_PRIOR = 0.05
"""Weight of what a three times as wide surrounding says, over that of a fully observed one."""
_WIDTH = 2.0
"""Deviation of the Gaussian of each surrounding, cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """What the whole image says of the pixels of a window that cuts through it.

    Attributes:
        distance: float32 `(c, *spatial)`, to the nearest observed pixel in steps of the finest axis, off by about half
            a cell.
        behind: float32 `(c, *spatial)` in [0, 1], share of the pixels of wide holes around that have nothing behind.
        mean: float32 `(c, *spatial)`, local mean of the observed pixels, data units.
        scale: float32 `(c, *spatial)`, their local standard deviation, data units.
        to_cut: float32 `(*spatial)`, distance to the nearest pixel beyond the window that is inside the image; infinite
            if there is none.
        shown: `(c, *spatial)`, what `seen` says where steps differ, see `seen_in_pixels`; None = they are all alike.
    """

    distance: Array
    behind: Array
    mean: Array
    scale: Array
    to_cut: Array
    shown: Array | None = None

    @property
    def shared(self) -> bool:
        """Return True if all channels have the same holes in the whole image."""
        return self.distance.strides[0] == 0

    def of(self, channels: Sequence[int] | NDArray[np.intp]) -> Beyond:
        """Return what is said of some channels."""
        some = list(channels)
        return Beyond(
            distance=self.distance[some],
            behind=self.behind[some],
            mean=self.mean[some],
            scale=self.scale[some],
            to_cut=self.to_cut,
            shown=None if self.shown is None else self.shown[some],
        )

    def bounded(self, distance: Array) -> Array:
        """Return the distance of each pixel, `(c, *spatial)`, from what the window shows of it, infinite without any.

        It is exact where nothing beyond the window can be nearer; elsewhere it lies between the distance to the cut and
        that of the window.
        """
        found = np.clip(self.distance, np.minimum(self.to_cut, distance), distance)
        return np.where(distance <= self.to_cut, distance, found).astype(np.float32)

    def seen(self, distance: Array, some: int | slice | NDArray[np.bool_]) -> Array:
        """Return how far what the window shows around a pixel tells all that counts, in [0, 1], like `distance`.

        Args:
            distance: to the nearest observed pixel, as `bounded` gives it, `(..., *spatial)`.
            some: index of the channels of `distance`.
        """
        return share_seen(distance, self.to_cut) if self.shown is None else self.shown[some]


def share_seen(distance: Array, to_cut: Array) -> Array:
    """Return `Beyond.seen`: 1 up to half of the distance to the cut, 0 from there on; 1 without a cut."""
    nearness = np.where(np.isinf(to_cut), 0.0, distance / np.where(np.isinf(to_cut), 1.0, to_cut))
    return np.asarray(np.clip((1.0 - nearness) / (1.0 - _SURE), 0.0, 1.0), dtype=np.float32)


def handed_over(own: NDArray[np.floating], far: NDArray[np.floating], seen: Array) -> Array:
    """Return `own` where all is seen, exactly, `far` where nothing is, and what lies between elsewhere."""
    return np.where(seen == 1, own, far + seen * (own - far)).astype(np.float32)


def distance_to_cut(shape: Sequence[int], spacing: Sequence[float], open_edges: Sequence[tuple[bool, bool]]) -> Array:
    """Return the distance of each pixel to the nearest one beyond an open edge, in steps of the finest axis.

    Args:
        shape: of the window.
        spacing: step per axis.
        open_edges: per axis `(low, high)`: True where the window's edge cuts through the image.
    """
    result = np.full(tuple(shape), np.inf, dtype=np.float32)
    for axis, (extent, step, (low, high)) in enumerate(zip(shape, spacing, open_edges, strict=True)):
        steps = np.arange(1, extent + 1) * (step / min(spacing))
        nearest = np.minimum(steps if low else np.inf, steps[::-1] if high else np.inf)
        result = np.minimum(result, nearest.reshape([-1 if a == axis else 1 for a in range(len(shape))]))
    return result.astype(np.float32)


def seen_in_pixels(valid: NDArray[np.bool_], open_edges: Sequence[tuple[bool, bool]]) -> Array:
    """Return how far a window shows all that counts around its pixels, in [0, 1], `(c, *spatial)`, distances in pixels.

    A lost thick slice lies as many steps of the finest axis deep as a wide hole, so much around it would seem to be cut
    off; but what tells most about it, the slices beside it, is shown.

    Args:
        valid: bool `(c, *spatial)`; True = observed.
        open_edges: as for `distance_to_cut`.
    """
    to_cut = distance_to_cut(valid.shape[1:], (1.0,) * (valid.ndim - 1), open_edges)
    result = np.empty(valid.shape, dtype=np.float32)
    for channels in alike(valid):
        result[channels] = share_seen(pixels_away(valid[channels[0]]), to_cut)
    return result


def pixels_away(valid: NDArray[np.bool_]) -> Array:
    """Return the distance of each pixel to the nearest observed one, `(*spatial)`, counted in pixels along any axis.

    It is infinite where nothing is observed.
    """
    away = inside(~valid) if valid.any() else np.full(valid.shape, np.inf)
    return away.astype(np.float32)


def push_pull(count: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means around each cell: of a narrow surrounding where enough is observed there, else of wider ones.

    Each surrounding is three times as wide as the one before, up to the whole image (Gortler et al., The Lumigraph,
    SIGGRAPH 1996); it is computed on cells three times as wide, so time and memory go with the number of cells.

    Args:
        count: `(*cells)`, observed share of each cell; not 0 everywhere.
        totals: `(n, *cells)`, sums of the observed values of each cell over the pixels of a full one.
    """
    inner = tuple(range(1, totals.ndim))
    if max(count.shape) <= 3 * _WIDTH:
        wider = totals.sum(axis=inner, keepdims=True) / max(float(count.sum()), 1e-12)
    else:
        less = _thirds(count[None])[0]
        wider = _stretched(push_pull(less, _thirds(totals)), count.shape)
    weight = gaussian_filter(count, _WIDTH, mode="nearest") + _PRIOR
    widths = (0.0, *(_WIDTH,) * count.ndim)
    return np.asarray((gaussian_filter(totals, widths, mode="nearest") + _PRIOR * wider) / weight)


def _thirds(fields: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average `(n, *cells)` over three cells along each axis; what is missing of the last ones counts as empty."""
    padded = np.pad(fields, [(0, 0), *((0, -n % 3) for n in fields.shape[1:])])
    split = [size for n in padded.shape[1:] for size in (n // 3, 3)]
    inner = tuple(range(2, 2 * fields.ndim, 2))
    return np.asarray(padded.reshape(len(fields), *split).mean(axis=inner))


def _stretched(fields: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    fine = [zoom(field, 3, order=1, mode="nearest", grid_mode=True)[tuple(slice(n) for n in shape)] for field in fields]
    return np.asarray(fine)
