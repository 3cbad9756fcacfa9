"""Which base fill each family of holes gets, decided on what the candidates make of hidden pixels."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec
from pipeline.numerics.situation import FAMILIES
from pipeline.restore.estimate import base_fill, filled
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Draft
from pipeline.selftest.scores import NOTICEABLE_DB, TOLERATED, family_scores, harmed, psnr_of, stand_alone, wide_holes
from pipeline.selftest.site import FEWEST_HIDDEN, Site, channel_scale, shares_of, unit_of
from pipeline.selftest.trial import Trial
from pipeline.selftest.verdict import Row
from pipeline.selftest.weights import FILLS_OF_IMAGES_RISK, RISK, Comparison, better_one, replaced
from pipeline.selftest.windows import apart
from pipeline.system.threads import each

_LOOKS = (1, 2, 4)
"""Windows after which fills that cannot win any more drop out."""

_HOPELESS_DB = {1: 1.0, 2: 0.5}
"""What a fill must lose against the best one in a family of holes to be hopeless there, by windows tried; in more of
them as in the last."""


_STIFFEST_AT_EDGES = 0.9
"""Tension of the stiffest spline that may be used at an image's edge: beyond it one runs on as it was going."""

_PRICE_DB = 2.0
"""Gain in wide holes that is deducted for harm if all single ones become noticeably worse, and its share if a share of
them beyond `TOLERATED` does; 5 dB, as with references, leave elevations a slack spline."""

_MEASURED = 2
"""Windows in which all fills are tried where the user chose one."""


@dataclass(kw_only=True)
class _Tried:
    """What a fill makes of the windows that it was tried in."""

    spec: FillSpec
    errors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    """At the hidden pixels of each window, by its number, `(n,)`, data units."""
    mse: dict[int, float] = field(default_factory=dict)
    """Mean over channels of the mean squared error over the squared robust range, by window."""
    seconds: float = 0.0
    usable: bool = True
    """False if its solver gave up in some window: all errors are NaN."""

    @property
    def tension(self) -> float:
        """Return the `t` of a spline, 0 of other fills."""
        return float(self.spec.options.get("t", 0.0))

    def over(self, windows: Iterable[int]) -> NDArray[np.float32]:
        """Return the errors in some windows, one after the other, `(n,)`; NaN if the fill cannot be used."""
        error = np.concatenate([self.errors[k] for k in windows])
        return error if self.usable else np.full_like(error, np.nan)

    def psnr_over(self, windows: Iterable[int]) -> float:
        """Return the PSNR in some windows, dB; NaN if the fill cannot be used."""
        return psnr_of([self.mse[k] for k in windows]) if self.usable else float("nan")


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
    tried = [_Tried(spec=spec) for spec in candidates]
    default = _raced(sites, tried, spread, forced=forced)
    best = (default,) * 3 if forced else _best(sites, tried, default)
    thin, deep, border = (candidates[b] for b in best)
    recipe = replace(
        recipe,
        fill=deep,
        thin_fill=None if thin == deep else thin.begun_as(deep) if len(sites[0].window.spacing) == 2 else thin,
        border_fill=None if border == deep else border,
    )
    rows = [_row(sites, one, tried[default], [b == k for b in best]) for k, one in enumerate(tried)]
    wanted = {spec.label for spec in recipe.fills}
    some = [replace(site, made={k: v for k, v in site.made.items() if k in wanted}) for site in sites]
    return recipe, rows, [Trial.of(*both) for both in zip(sites, each(partial(_drafted, recipe), some), strict=True)]


def _raced(sites: Sequence[Site], tried: Sequence[_Tried], spread: NDArray[np.float64], *, forced: bool) -> int:
    """Try all fills in a first window and in ever more those that may still win; returns the number of the default.

    The default, the first fill that can be used, is tried in all windows: the others are measured against it.
    """
    order = apart(len(sites))
    default, left, seen = 0, set(range(len(tried))), 0
    for look in (*(n for n in _LOOKS if n < len(sites)), len(sites)):
        _try(sites, order[seen:look], [tried[k] for k in sorted(left)], spread)
        usable = next((k for k in sorted(left) if tried[k].usable), default)
        default, seen = 0 if forced else usable, look
        if look == len(sites):
            break
        if forced:
            left = {default} if look >= _MEASURED else left
        else:
            left = {default, *_hopeful(sites, sorted(order[:look]), tried, left, default)}
    return default


def _try(sites: Sequence[Site], windows: Sequence[int], tried: Sequence[_Tried], spread: NDArray[np.float64]) -> None:
    """Fill some windows with each fill."""
    some = _together([one.spec for one in tried], volume=len(sites[0].window.spacing) == 3)
    wanted = [(k, specs) for k in windows for specs in some]
    done = each(_made, [(sites[k], specs) for k, specs in wanted])
    seconds: dict[tuple[int, str], float] = {}
    for (k, _), (fills, times) in zip(wanted, done, strict=True):
        sites[k].made.update(fills)
        seconds |= {(k, label): value for label, value in times.items()}
    for k, one in product(windows, tried):
        site, took = sites[k], seconds[k, one.spec.label]
        if not math.isfinite(took):
            one.usable = False
            site.made[one.spec.label] = np.full_like(site.placement.truth, np.nan)
        made = site.fill(one.spec)
        one.errors[k], one.mse[k] = site.error_of(made), site.normalised_mse_of(made, spread)
        one.seconds += took if math.isfinite(took) else 0.0


def _together(specs: Sequence[FillSpec], *, volume: bool) -> list[list[FillSpec]]:
    """Return fills in groups: those that begin alike are made together, in volumes those that differ in tension, too.

    They share work.
    """
    found: dict[str, list[FillSpec]] = {}
    for spec in specs:
        begun = spec.begun_with
        alike = {name: value for name, value in begun.options.items() if name != "t" or not volume}
        found.setdefault(replace(begun, options=alike).label, []).append(spec)
    return list(found.values())


def _hopeful(
    sites: Sequence[Site], windows: Sequence[int], tried: Sequence[_Tried], left: set[int], default: int
) -> set[int]:
    """Return the numbers of the fills that may still be noticeably better than all others in a family of holes.

    All of those left if what was hidden in the windows tells nothing.
    """
    some = [sites[k] for k in windows]
    own = {k: tried[k].over(windows) for k in left if tried[k].usable}
    if default not in own:
        return left
    scale, unit = channel_scale(some, own[default]), unit_of(some)
    errors = {k: error / scale for k, error in own.items()}
    lost_db = _HOPELESS_DB[min(len(windows), max(_HOPELESS_DB))]
    hopeful: set[int] = set()
    inside = default
    for family, share in zip(FAMILIES, shares_of(some), strict=True):
        if share.sum() < FEWEST_HIDDEN:
            continue
        stiffest = _stiffest_at_edges(tried[default], tried[inside])
        rivals = [k for k in errors if family != "border" or tried[k].tension <= stiffest]
        squares = {k: float((share * errors[k] ** 2).sum()) for k in rivals}
        leader = min(squares, key=lambda k: (squares[k], k))
        inside = leader if family == "deep" else inside
        near = {k for k, square in squares.items() if square < squares[leader] * 10 ** (lost_db / 10)}
        if len(windows) > 1:
            near = {k for k in near if _may_win(errors[leader], errors[k], share, unit)}
        hopeful |= {leader, *near}
    return hopeful or left


def _may_win(
    best: NDArray[np.floating], error: NDArray[np.floating], share: NDArray[np.float32], unit: NDArray[np.intp]
) -> bool:
    """Say whether what was tried leaves it open that errors `(n,)` are noticeably smaller than the best ones so far."""
    found = replaced(best, error, share, unit)
    return found is None or found.change - found.error < 10 ** (-NOTICEABLE_DB / 10) - 1


def _row(sites: Sequence[Site], one: _Tried, usual: _Tried, best: Sequence[bool]) -> Row:
    """Return a line of the table; `best` says for each family of holes whether the fill was chosen for it."""
    windows = sorted(one.errors)
    seen, error, before = [sites[k] for k in windows], one.over(windows), usual.over(windows)
    sure = _compared(seen, before, error) if one is not usual else (None,) * len(FAMILIES)
    families = family_scores(seen, before, error, [float(b) for b in best], sure)
    gain = one.psnr_over(windows) - usual.psnr_over(windows)
    return Row(
        method=one.spec.label,
        psnr_db=usual.psnr_over(range(len(sites))) + gain,
        gain_db=gain,
        weight=sum(f.weight * f.pixels for f in families) / max(sum(f.pixels for f in families), 1),
        seconds=one.seconds,
        windows=len(windows),
        chosen=any(best),
        families=families,
    )


def _made(item: tuple[Site, Sequence[FillSpec]]) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """Fill a site with some fills; returns what they make of it and their seconds, infinite where a solver gave up."""
    site, specs = item
    own, prepared = replace(site, made=dict(site.made)), site.prepared()
    seconds: dict[str, float] = {}
    for spec in specs:
        started = time.perf_counter()
        try:
            own.fill(spec, prepared)
        except ArithmeticError:
            seconds[spec.label] = math.inf
        else:
            seconds[spec.label] = time.perf_counter() - started
    return own.made, seconds


def _best(sites: Sequence[Site], tried: Sequence[_Tried], default: int) -> tuple[int, int, int]:
    """Return the number of the best fill of each family of holes.

    At an image edge, where there is only one side to go by, the few holes that can be hidden do not tell whether a
    stiffer spline than the default would gain or lose. It may be used in smooth images, where wide holes want one, too.
    """
    every = range(len(sites))
    usual = tried[default].over(every)
    scale, unit = channel_scale(sites, usual), unit_of(sites)
    rivals = [one.over(every) / scale if one.usable and len(one.errors) == len(sites) else None for one in tried]
    thin, deep, border = shares_of(sites)
    risk = _risk(sites)
    inside = better_one(_worth_their_harm(sites, rivals, default), default, deep, unit, risk)
    stiffest = _stiffest_at_edges(tried[default], tried[inside])
    slack = [r if one.tension <= stiffest else None for one, r in zip(tried, rivals, strict=True)]
    in_thin, at_edges = (
        better_one(some, default, share, unit, risk) for some, share in ((rivals, thin), (slack, border))
    )
    return in_thin, inside, at_edges


def _worth_their_harm(
    sites: Sequence[Site], rivals: Sequence[NDArray[np.float64] | None], default: int
) -> list[NDArray[np.float64] | None]:
    """Return the fills of an image without those that make too many single wide holes worse for what they gain there.

    Fills that are equal on average change ranks from hole to hole: one that wins by little is none the better for it.
    Stripes gain by kriging whatever single pieces of them do; volumes were not looked at.

    Args:
        sites: what is hidden.
        rivals: errors `(n,)` of each fill, in units that make channels comparable; None = it cannot be used.
        default: its position in `rivals`.
    """
    usual = rivals[default]
    if usual is None or len(sites[0].window.spacing) != 2 or not stand_alone(sites):
        return list(rivals)
    holes, deep = wide_holes(sites), shares_of(sites)[1]
    before = float((deep * usual**2).sum())

    def worth(error: NDArray[np.float64]) -> float:
        after = float((deep * error**2).sum())
        gain = 10 * math.log10(max(before, 1e-30) / max(after, 1e-30))
        return gain - _PRICE_DB * max(0.0, harmed(holes, usual, error) - TOLERATED)

    return [error if error is None or k == default or worth(error) >= 0 else None for k, error in enumerate(rivals)]


def _risk(sites: Sequence[Site]) -> float:
    """Return the standard errors that a fill must win by; those of volumes were not looked at."""
    return FILLS_OF_IMAGES_RISK if len(sites[0].window.spacing) == 2 else RISK


def _stiffest_at_edges(usual: _Tried, inside: _Tried) -> float:
    """Return the largest tension that may be used at an image's edge.

    Args:
        usual: the default.
        inside: what is best in wide holes with something observed all around them.
    """
    return max(usual.tension, min(inside.tension, _STIFFEST_AT_EDGES))


def _compared(sites: Sequence[Site], usual: NDArray[np.float32], error: NDArray[np.float32]) -> list[Comparison | None]:
    """Return for each family of holes how sure a fill is, from its errors and the usual ones at all hidden pixels."""
    scale, unit = channel_scale(sites, usual), unit_of(sites)
    return [
        replaced(usual / scale, error / scale, share, unit, _risk(sites)) if share.sum() > 0 else None
        for share in shares_of(sites)
    ]


def _drafted(recipe: Recipe, site: Site) -> Draft:
    """Return what its best fills make of a site."""
    thin = recipe.fills[0]
    if thin.label not in site.made:
        # begun otherwise than it was tried, and asked of thin holes only
        asked = site.placement.concerned & (site.place.shares[0] > 0)
        site.made[thin.label] = thin.over(replace(site.window, asked=asked), site.fill)
    return filled(recipe, site.window, base_fill(recipe, site.window, site.place, site.fill), site.place)
