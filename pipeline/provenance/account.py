"""What was asked for and what became of it: pixels to restore, restored, left and why, in numbers and in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.plan.plan import Plan
from pipeline.report.judgement import UNVALUED
from pipeline.restore.codes import REFUSED, source_name


def account(plan: Plan, states: Mapping[str, int], by_source: Mapping[str, int]) -> dict[str, Any]:
    """Return the numbers of pixels (planes counted apart) that were asked for, filled and left, and a sentence of them.

    Args:
        plan: the plan.
        states: what the survey counted.
        by_source: restored pixels by the name of their source.

    Returns:
        `asked`, `filled`, `left` (number by reason, none of 0) and `account`, the sentence.
    """
    refused = by_source.get(source_name(REFUSED, ()), 0)
    reasons = {
        "wider than max_gap or around the content": states.get("wide", 0),
        UNVALUED: states.get("left", 0),
        "in channels without any value": states.get("marked_empty", 0),
        "refused as too uncertain": refused,
    }
    left = {reason: number for reason, number in reasons.items() if number}
    filled = sum(by_source.values()) - refused
    asked = filled + sum(left.values())
    return {"asked": asked, "filled": filled, "left": left, "account": _sentence(plan, asked, filled, left)}


def _sentence(plan: Plan, asked: int, filled: int, left: Mapping[str, int]) -> str:
    what = "voxels" if plan.ndim == 3 else "pixels"
    over = f" over {plan.n_state} channels" if plan.n_state > 1 else ""
    if not asked:
        return f"no {what} to restore were found"
    if not left and filled == 1:
        return f"the one {what.removesuffix('s')} to restore{over} was filled"
    if not left:
        return f"all {filled:,} {what} to restore{over} were filled"
    why = ", ".join(f"{number:,} {reason}" for reason, number in left.items())
    return f"{filled:,} of {asked:,} {what} to restore{over} were filled, {asked - filled:,} left: {why}"
