"""Hole-only scores and the statistics of the table; what `evaluate` counts, too, it counts by the same functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.numerics.bootstrap import draws, interval
from pipeline.numerics.calibration import Z90
from pipeline.numerics.metrics import PERFECT_DB, channel_mse, gradients_by_part, mean_psnr_db, sums_by_part, tiles
from pipeline.numerics.pixels import neighbours

__all__ = ["PERFECT_DB", "Z90", "channel_mse", "tiles"]

Field = NDArray[np.floating]
Mask = NDArray[np.bool_]


def robust_range(values: Field, counted: Mask) -> NDArray[np.float64]:
    """Return p99 - p1 of each channel `(c,)` over the pixels that count, `(*spatial)`."""
    low, high = np.percentile(values[:, counted].astype(np.float64), (1, 99), axis=1)
    return np.asarray(high - low)


def psnr(mse: Sequence[float] | Field, span: Sequence[float] | Field) -> float:
    """Return the mean over channels of `20 log10(R / RMSE)`, dB; channels without range or pixels are left out."""
    return float(mean_psnr_db(np.asarray(mse, dtype=float), np.asarray(span, dtype=float)))


def by_part(estimate: Field, truth: Field, scored: Mask, labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the mean squared error per part and channel, `(parts, c)`; NaN for a part without scored pixels.

    Args:
        estimate: `(c, *spatial)`.
        truth: the same shape.
        scored: bool `(*spatial)`.
        labels: `(*spatial)`, part of each pixel from 1; 0 belongs to none.
    """
    where, parts = np.where(scored, labels, 0)[None], int(labels.max())
    count = sums_by_part(np.ones((1, *scored.shape)), where, parts)
    total = sums_by_part((estimate.astype(np.float64) - truth) ** 2, where, parts)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


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
    ours, theirs = (_jumps(values, hole) for values in (estimate, truth))
    return _mean_ratio(ours, theirs)


def _jumps(values: Field, hole: Mask) -> Field:
    """Return the sum of absolute differences over the rim of each channel, `(c,)`."""
    total = np.zeros(len(values))
    for near, far in neighbours(hole.ndim):
        rim = hole[near] != hole[far]
        total += np.abs(values[near].astype(np.float64) - values[far])[:, rim].sum(axis=1)
    return total


def gradient_ratio(estimate: Field, truth: Field, hole: Mask) -> float:
    """Return the summed absolute differences inside the hole against those of the truth; 1 is as sharp."""
    ours, theirs = (gradients_by_part(values, hole[None].astype(np.int64), 1)[0] for values in (estimate, truth))
    return _mean_ratio(ours, theirs)


def _mean_ratio(ours: Field, theirs: Field) -> float:
    return float(np.mean(ours[theirs > 0] / theirs[theirs > 0])) if (theirs > 0).any() else float("nan")


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


def bootstrap(
    groups: Mapping[str, Sequence[float]],
    statistic: Callable[[NDArray[np.float64]], float] = lambda values: float(values.mean()),
    *,
    folds: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return a statistic over all values and its 95 % interval from resampling whole groups.

    With one group the interval is not known: NaN.

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
    drawn = [statistic(np.concatenate([parts[i] for i in some])) for some in draws(len(parts), folds, seed)]
    return value, *interval(np.asarray(drawn))
