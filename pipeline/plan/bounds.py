"""What the numbers of any plan are within: one that was edited so that it fits its own hash may hold others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from pipeline.errors import IntegrityError
from pipeline.models.base import AUTO, BFLOAT16, FLOAT32
from pipeline.numerics.calibration import Calibration
from pipeline.plan.plan import Plan
from pipeline.restore.recipe import Recipe

_Bound = tuple[str, Iterable[float], float, float]
"""Name, numbers, least and most."""


def require_bounds(plan: Plan, holes: int) -> None:
    """Check the numbers that blocks compute with, and that blocks hold as many holes as the survey counted.

    Args:
        plan: the plan.
        holes: hole pixels of all planes.

    Raises:
        IntegrityError: names what no survey of this version writes.
    """
    bad = next((name for name, values, least, most in _bounds(plan) if not _within(values, least, most)), "")
    bad = bad or _unlike(plan, holes)
    if bad:
        raise IntegrityError(f"{plan.work.plan}: is damaged (no survey writes such {bad})")


def _within(values: Iterable[float], least: float, most: float) -> bool:
    return all(math.isfinite(value) and least <= value <= most for value in values)


def _bounds(plan: Plan) -> Iterator[_Bound]:
    recipe, most = plan.recipe, math.inf
    yield "cells", (plan.guess_factor, plan.batch), 1, most
    yield "cells", (plan.beyond_cell, plan.doubted, plan.hazy), 0, most
    yield "blocks", plan.block, 1, most
    yield "centre", plan.centre, -most, most
    yield "spread", plan.spread, 0, most
    yield "recipe.network", [v for curve in recipe.network.all for v in curve.values], 0, 1
    if recipe.network_referenced:
        yield "recipe.network_referenced", [v for curve in recipe.network_referenced.all for v in curve.values], 0, 1
    if recipe.network_limit is not None:
        yield "recipe.network_limit", (recipe.network_limit,), 0, most
    if recipe.network_views is not None:
        yield "recipe.network_views", (recipe.network_views,), 1, most
    for reliance in recipe.references:
        yield "recipe.references", (*reliance.near, *reliance.far, *(reliance.thin or ()), reliance.gate), 0, 1
    yield "recipe.error_power", (recipe.error_power, recipe.quantum), 0, most
    yield from (("recipe.calibration", values, 0, most) for c in _calibrations(recipe) for values in _factors(c))
    yield "recipe.rim", [v for curve in recipe.rim for v in curve.values], 0, most
    yield "recipe.floor", (*recipe.floor, *recipe.typical), 0, most
    yield "recipe.low", (high - low for low, high in zip(recipe.low, recipe.high, strict=False)), 0, most


def _calibrations(recipe: Recipe) -> tuple[Calibration, Calibration]:
    return recipe.single, recipe.referenced


def _factors(calibration: Calibration) -> Iterator[Iterable[float]]:
    yield from (curve.values for curve in calibration.factors.all)
    yield calibration.tested_to
    yield calibration.growth.roots


def _unlike(plan: Plan, holes: int) -> str:
    """Return what of a plan does not fit the rest of it, empty if all does."""
    c, recipe, grid = len(plan.channels), plan.recipe, _grid(plan)
    each = (plan.centre, plan.spread, plan.nodata, plan.refused, recipe.floor, recipe.typical, recipe.low, recipe.high)
    if any(len(values) != c for values in each) or len(recipe.network_precision) not in (0, c):
        return "lists of channels"
    if len(set(plan.channels)) != c or plan.n_state not in (1, c) or len(recipe.relations) != len(recipe.references):
        return "channels"
    if not {FLOAT32, BFLOAT16, AUTO}.issuperset(recipe.network_precision):
        return "recipe.network_precision"
    places = {block.index for block in plan.blocks}
    inside = all(len(i) == plan.ndim and all(0 <= a < n for a, n in zip(i, grid, strict=True)) for i in places)
    counted = all(block.holes > 0 and block.patches > 0 for block in plan.blocks)
    if not inside or not counted or len(places) < len(plan.blocks) or plan.n_holes * plan.n_state != holes * c:
        return "blocks"
    return ""


def _grid(plan: Plan) -> tuple[int, ...]:
    return tuple(-(-n // b) for n, b in zip(plan.space.shape, plan.block, strict=True))
