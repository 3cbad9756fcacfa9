"""What contaminated pixels around holes add to error bars: pixels hidden elsewhere do not show it.

What is wrongly taken off as haze, or left, is much the same all along a rim and goes into the hole as it is. Where
pixels are doubted, or scraps of cloud and shadow were taken off them, some that are contaminated still pass for ground,
and what was hidden for the self-test lies farther from clouds than the holes do.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.geometry.box import Box
from pipeline.masks.base import DOUBT, FILL, HAZY, evidence
from pipeline.numerics.column import column
from pipeline.numerics.distance import inside
from pipeline.numerics.statistics import averaged, refined_at
from pipeline.restore.task import Contamination

_AROUND = 6.0
"""Deviation of the Gaussian by which pixels around a hole pixel count, pixels; that of deeper ones is their depth: by a
narrow one the nearest pixel alone would count, and sectors with different nearest pixels would show."""

_WIDTH = float(np.sqrt((_AROUND / 2) ** 2 - 1 / 4))
"""Its deviation on cells of a third of it, cells: averages over cells and lines between them blur by the rest."""

_DOUBTED = 1.3
"""Factor of the standard error where all pixels around are doubted, or scraps were taken off them: ten synthetic clouds
needed 0.9 to 2.2."""


def contamination(states: NDArray[np.uint8], haze: zarr.Array | None, box: Box) -> Contamination | None:
    """Return what contaminated pixels around them add to the error bars of hole pixels.

    It follows the pixels around, the nearest ones first: their mean amount of haze, and the share of doubted ones and
    of scraps that were taken off.

    Args:
        states: `(n_state, *box.shape)`.
        haze: amounts `(k, *spatial)`, attributes `left` and `scraps`, see `WorkFolder.haze`; None = there is none.
        box: where.

    Returns:
        None if no pixel of the box is hazy or doubted.
    """
    hazy, doubted = (np.asarray((states == state).any(axis=0)) for state in (HAZY, DOUBT))
    if not (hazy | doubted).any():
        return None
    amounts, errors = np.zeros((1, *box.shape)), np.zeros((1, 1))
    if haze is not None:
        # beside scraps others are missed, whether what lies below them is used or not
        doubted |= hazy & bool(haze.attrs.get("scraps"))
        amounts, errors = np.where(hazy, np.asarray(haze[box.at()]), 0.0), np.atleast_2d(haze.attrs["left"])
    seen = np.asarray(evidence(states).any(axis=0))
    hole = states == FILL
    inner = np.asarray(hole.any(axis=0))
    means = _means_around(amounts, seen, inner)
    left, factor = together(errors, means, _means_around([doubted], seen | doubted, inner)[0])
    return Contamination(
        left=np.where(hole, left, 0.0).astype(np.float32), factor=np.where(hole, factor, 1.0).astype(np.float32)
    )


def together(
    errors: NDArray[np.float64],
    amounts: Iterable[NDArray[np.float64]],
    doubted: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return standard error `(c, *spatial)`, data units, and factor `(*spatial)` of what is around pixels.

    Args:
        errors: that an amount of 1 of each spectrum leaves, `(k, c)`.
        amounts: mean around each pixel, `(k, *spatial)`.
        doubted: share of doubted pixels around, `(*spatial)`.
    """
    # what is wrong with one spectrum says nothing of another
    parts = [column(own, doubted.ndim) * part for own, part in zip(errors, amounts, strict=True)]
    return np.sqrt(np.sum(np.square(parts), axis=0)), 1.0 + (_DOUBTED - 1.0) * doubted


def _means_around(
    several: Iterable[NDArray[np.generic]], some: NDArray[np.bool_], asked: NDArray[np.bool_]
) -> list[NDArray[np.float64]]:
    """Return means of values over some of the pixels around each one that is asked for, 0 elsewhere and without any.

    Args:
        several: values `(*spatial)`, one or more.
        some: bool `(*spatial)`, the pixels that count.
        asked: bool `(*spatial)`.
    """
    values = [np.where(some, one, 0).astype(np.float64) for one in several]
    results = [np.zeros(some.shape) for _ in values]
    telling, at = [k for k, one in enumerate(values) if one.any()], np.flatnonzero(asked)
    if not telling or not at.size:
        return results
    level = np.log2(np.maximum(inside(~some).ravel()[at], _AROUND) / _AROUND)
    cells = np.stack([some.astype(np.float64), *(values[k] for k in telling)])
    for k in range(int(np.ceil(level.max())) + 1):
        cells = averaged(cells, 2)
        share = np.maximum(0.0, 1.0 - np.abs(level - k))
        near = share > 0
        if not near.any():
            continue
        around = ndimage.gaussian_filter(cells, (0, *(_WIDTH,) * some.ndim), mode="constant")
        weight, *totals = refined_at(around, some.shape, 2 ** (k + 1), at[near])
        for number, total in zip(telling, totals, strict=True):
            mean = np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), 0.0)
            results[number].ravel()[at[near]] += share[near] * mean
    return results
