"""Which base fill each family of holes gets, decided on what the candidates make of hidden pixels."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec
from pipeline.numerics.situation import FAMILIES
from pipeline.restore.estimate import base_fill, filled
from pipeline.restore.recipe import Recipe
from pipeline.selftest.scores import family_scores, psnr_of
from pipeline.selftest.site import Site, channel_scale, shares_of, unit_of
from pipeline.selftest.trial import Trial
from pipeline.selftest.verdict import Row
from pipeline.selftest.weights import Comparison, better_one, replaced
from pipeline.system.threads import each

_FIRST = 2
"""Windows that all fills are tried in first."""

_HOPELESS_DB = 0.5
"""What a fill must lose there against the best one, in every family of holes, to be tried in no other window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """What a fill makes of all sites."""

    spec: FillSpec
    error: NDArray[np.float32]
    """At the hidden pixels of all sites, `(n,)`, data units; NaN if the fill cannot be used on this image."""
    psnr_db: float
    usable: bool
    seconds: float

    @property
    def tension(self) -> float:
        """Return the `t` of a spline, 0 of other fills."""
        return float(self.spec.options.get("t", 0.0))


def choose_fills(
    sites: Sequence[Site],
    candidates: Sequence[FillSpec],
    recipe: Recipe,
    spread: NDArray[np.float64],
    *,
    forced: bool,
) -> tuple[Recipe, list[Row], list[Trial]]:
    """Try every candidate, give each family of holes its best one, and start the trials with them.

    Args:
        sites: what is hidden.
        candidates: fills to compare, the default first.
        recipe: decisions so far.
        spread: robust range of each channel, `(c,)`.
        forced: use the first candidate whatever the scores; the others are only measured, in a few windows.
    """
    few = sites[:: -(-len(sites) // _FIRST)]
    first = _tried(few, candidates, spread)
    default = 0 if forced else next((k for k, one in enumerate(first) if one.usable), 0)
    kept = sorted({default} if forced else _hopeful(few, first, default))
    everywhere = dict(zip(kept, _tried(sites, [candidates[k] for k in kept], spread), strict=True))
    tried = [everywhere.get(k, one) for k, one in enumerate(first)]
    best = (default,) * 3 if forced else _best(sites, tried, default)
    thin, deep, border = (candidates[b] for b in best)
    recipe = replace(
        recipe,
        fill=deep,
        thin_fill=None if thin == deep else thin,
        border_fill=None if border == deep else border,
    )
    rows = []
    for k, one in enumerate(tried):
        seen, usual = (sites, tried[default]) if k in kept else (few, first[default])
        sure = _compared(seen, usual.error, one.error) if one is not usual else (None,) * len(FAMILIES)
        families = family_scores(seen, usual.error, one.error, [float(b == k) for b in best], sure)
        gain = one.psnr_db - usual.psnr_db
        rows.append(
            Row(
                method=one.spec.label,
                psnr_db=tried[default].psnr_db + gain,
                gain_db=gain,
                weight=sum(f.weight * f.pixels for f in families) / max(sum(f.pixels for f in families), 1),
                seconds=one.seconds + (first[k].seconds if k in kept else 0.0),
                windows=len(seen),
                chosen=k in best,
                families=families,
            )
        )
    return recipe, rows, [_started(recipe, site) for site in sites]


def _hopeful(few: Sequence[Site], first: Sequence[_Tried], default: int) -> set[int]:
    """Return the numbers of the fills that are worth more windows: all if these few tell nothing."""
    gains = [
        {f.family: f.gain_db for f in family_scores(few, first[default].error, one.error, (1.0,) * len(FAMILIES))}
        for one in first
    ]
    best = {family: np.nanmax([gain.get(family, np.nan) for gain in gains]) for family in gains[default]}
    if not best:
        return set(range(len(first)))
    near = {k for k, gain in enumerate(gains) if any(gain[f] > best[f] - _HOPELESS_DB for f in gain)}
    return near | {default}


def _tried(sites: Sequence[Site], specs: Sequence[FillSpec], spread: NDArray[np.float64]) -> list[_Tried]:
    """Fill the sites with each fill; NaN stands for one that cannot be used on this image."""
    tried = []
    for spec, seconds in zip(specs, np.transpose(each(partial(_seconds, specs), sites)), strict=True):
        usable = bool(np.isfinite(seconds).all())
        if not usable:
            for site in sites:
                site.made[spec.label] = np.full_like(site.placement.truth, np.nan)
        made = [site.fill(spec) for site in sites]
        tried.append(
            _Tried(
                spec=spec,
                error=np.concatenate([site.error_of(mean) for site, mean in zip(sites, made, strict=True)]),
                psnr_db=psnr_of([site.normalised_mse_of(mean, spread) for site, mean in zip(sites, made, strict=True)]),
                usable=usable,
                seconds=float(seconds[np.isfinite(seconds)].sum()),
            )
        )
    return tried


def _seconds(specs: Sequence[FillSpec], site: Site) -> list[float]:
    """Fill a site with each fill; returns the seconds that each took, infinite where a solver gave up."""
    seconds = []
    for spec in specs:
        started = time.perf_counter()
        try:
            site.fill(spec)
        except ArithmeticError:
            seconds.append(math.inf)
        else:
            seconds.append(time.perf_counter() - started)
    return seconds


def _best(sites: Sequence[Site], tried: Sequence[_Tried], default: int) -> tuple[int, int, int]:
    """Return the number of the best fill of each family of holes.

    At an image edge, where there is only one side to go by, a stiffer spline than the default gained 0.2 dB at best and
    lost 0.3 at worst, and the few holes that can be hidden there do not tell which: none is used.
    """
    scale, unit = channel_scale(sites, tried[default].error), unit_of(sites)
    full = tried[default].error.size
    rivals = [one.error / scale if one.usable and one.error.size == full else None for one in tried]
    slack = [r if one.tension <= tried[default].tension else None for one, r in zip(tried, rivals, strict=True)]
    thin, deep, border = shares_of(sites)
    return (
        better_one(rivals, default, thin, unit),
        better_one(rivals, default, deep, unit),
        better_one(slack, default, border, unit),
    )


def _compared(sites: Sequence[Site], usual: NDArray[np.float32], error: NDArray[np.float32]) -> list[Comparison | None]:
    """Return for each family of holes how sure a fill is, from its errors and the usual ones at all hidden pixels."""
    scale, unit = channel_scale(sites, usual), unit_of(sites)
    return [
        replaced(usual / scale, error / scale, share, unit) if share.sum() > 0 else None for share in shares_of(sites)
    ]


def _started(recipe: Recipe, site: Site) -> Trial:
    """Return a site with what its best fills make of it."""
    mean = base_fill(recipe, site.window, site.place, site.fill)
    return Trial.of(site, filled(recipe, site.window, mean, site.place))
