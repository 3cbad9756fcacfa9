"""Hole-only scores and the statistics of the table: plain numpy, nothing of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Z90 = 1.645
"""Half width of the 90 % interval in standard errors, as the uncertainty layer defines it."""
PERFECT_DB = 99.0
"""What an exact result counts."""

Field = NDArray[np.floating]
Mask = NDArray[np.bool_]


def robust_range(values: Field, counted: Mask) -> NDArray[np.float64]:
    """Return p99 - p1 of each channel `(c,)` over the pixels that count, `(*spatial)`."""
    low, high = np.percentile(values[:, counted].astype(np.float64), (1, 99), axis=1)
    return np.asarray(high - low)


def psnr(mse: Sequence[float] | Field, span: Sequence[float] | Field) -> float:
    """Return the mean over channels of `20 log10(R / RMSE)`, dB; channels without range or pixels are left out."""
    error, reach = np.asarray(mse, dtype=float), np.asarray(span, dtype=float)
    usable = np.isfinite(error) & (reach > 0)
    if not usable.any():
        return float("nan")
    with np.errstate(divide="ignore"):
        decibel = 10 * np.log10(reach[usable] ** 2 / error[usable])
    return float(np.minimum(decibel, PERFECT_DB).mean())


def squared_error(estimate: Field, truth: Field, scored: Mask) -> NDArray[np.float64]:
    """Return the mean squared error of each channel `(c,)` over `scored` `(c, *spatial)`; NaN without pixels."""
    error = np.where(scored, estimate.astype(np.float64) - truth, 0.0) ** 2
    axes = tuple(range(1, error.ndim))
    count = scored.sum(axis=axes)
    total = error.sum(axis=axes)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def by_part(estimate: Field, truth: Field, scored: Mask, labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the mean squared error per part and channel, `(parts, c)`; NaN for a part without scored pixels.

    Args:
        estimate: `(c, *spatial)`.
        truth: the same shape.
        scored: bool `(*spatial)`.
        labels: `(*spatial)`, part of each pixel from 1; 0 belongs to none.
    """
    where = np.where(scored, labels, 0).ravel()
    length = int(labels.max()) + 1
    count = np.bincount(where, minlength=length)[1:]
    error = (estimate.astype(np.float64) - truth) ** 2
    total = np.stack([np.bincount(where, band.ravel(), minlength=length)[1:] for band in error], axis=1)
    return np.asarray(np.where(count[:, None] > 0, total / np.maximum(count[:, None], 1), np.nan))


def tiles(shape: tuple[int, ...], edge: int) -> NDArray[np.int64]:
    """Return the number, from 1, of the tile of `edge` pixels a side that each pixel lies in."""
    label = np.zeros(shape, dtype=np.int64)
    for axis, n in enumerate(shape):
        index = np.arange(n) // edge
        label = label * (int(index[-1]) + 1) + index.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return label + 1


def coverage(error: Field, sigma: Field) -> float:
    """Return the share of errors inside the 90 % interval."""
    return float((np.abs(error) <= Z90 * sigma).mean())


def agreement(target: Field, guide: Field, common: Mask) -> tuple[float, float]:
    """Say how alike two dates are: share of variance explained by a linear map of all bands, share of changed pixels.

    A pixel has changed if the map is off by more than a quarter of the range, mean over channels.

    Args:
        target: `(c, *spatial)`.
        guide: `(c_guide, *spatial)`.
        common: bool `(*spatial)`, pixels that both dates show.
    """
    y = target[:, common].astype(np.float64).T
    x = np.column_stack([guide[:, common].astype(np.float64).T, np.ones(len(y))])
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    explained = 1 - rest.var(axis=0) / np.maximum(y.var(axis=0), 1e-12)
    span = np.maximum(robust_range(target, common), 1e-12)
    return float(explained.mean()), float((np.abs(rest) / span > 0.25).mean())


def rim_seam(estimate: Field, truth: Field, hole: Mask) -> float:
    """Return the mean jump over the hole's rim against that of the truth; 1 is ideal, NaN without a rim."""
    return _ratio(estimate, truth, lambda one, other: one != other, hole)


def gradient_ratio(estimate: Field, truth: Field, hole: Mask) -> float:
    """Return the summed absolute differences inside the hole against those of the truth; 1 is as sharp."""
    return _ratio(estimate, truth, lambda one, other: one & other, hole)


def _ratio(estimate: Field, truth: Field, pairs: Callable[[Mask, Mask], Mask], hole: Mask) -> float:
    ratios = []
    for y, x in zip(estimate, truth, strict=True):
        ours = theirs = 0.0
        for axis in range(hole.ndim):
            near = tuple(slice(1, None) if a == axis else slice(None) for a in range(hole.ndim))
            far = tuple(slice(None, -1) if a == axis else slice(None) for a in range(hole.ndim))
            use = pairs(hole[near], hole[far])
            ours += float(np.abs(y[near].astype(np.float64) - y[far])[use].sum())
            theirs += float(np.abs(x[near].astype(np.float64) - x[far])[use].sum())
        if theirs > 0:
            ratios.append(ours / theirs)
    return float(np.mean(ratios)) if ratios else float("nan")


def bootstrap(
    groups: Mapping[str, Sequence[float]],
    statistic: Callable[[NDArray[np.float64]], float] = lambda values: float(values.mean()),
    *,
    folds: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return a statistic over all values and its 95 % interval from resampling whole groups.

    The cluster bootstrap (Davison and Hinkley 1997, ch. 3.8): groups are drawn with replacement, their values kept
    together. With one group the interval is not known: NaN.

    Args:
        groups: place or subject to its values.
        statistic: of a 1-D array.
        folds: number of resamplings.
        seed: of the resampling.
    """
    parts = [np.asarray(values, dtype=float) for _, values in sorted(groups.items()) if len(values)]
    if not parts:
        return float("nan"), float("nan"), float("nan")
    value = statistic(np.concatenate(parts))
    if len(parts) < 2:
        return value, float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([parts[i] for i in rng.integers(len(parts), size=len(parts))])) for _ in range(folds)
    ]
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return value, float(low), float(high)


def without_one(
    groups: Mapping[str, Sequence[float]], statistic: Callable[[NDArray[np.float64]], float]
) -> dict[str, float]:
    """Return the statistic without each group, by group: the jackknife over places; nothing for a single group."""
    parts = {name: np.asarray(values, dtype=float) for name, values in sorted(groups.items()) if len(values)}
    if len(parts) < 2:
        return {}
    return {
        name: statistic(np.concatenate([values for other, values in parts.items() if other != name])) for name in parts
    }


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the rank correlation; NaN for fewer than three pairs or constant values."""
    a, b = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)
