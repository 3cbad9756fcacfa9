"""Planes of the published layers: one a restored channel, and one a channel that has nothing to be restored from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plan.plan import Plan


def to_published(values: NDArray[Any], plan: Plan, empty: float) -> NDArray[Any]:
    """Return planes of the restored channels as planes of all published ones; those of empty channels hold `empty`."""
    if not plan.empty:
        return values
    result = np.full((len(plan.published), *values.shape[1:]), empty, dtype=values.dtype)
    result[_places(plan)] = values
    return result


def from_published(values: NDArray[Any], plan: Plan) -> NDArray[Any]:
    """Return of the planes of a published layer those of the restored channels, `(1 or c, ...)`."""
    return values[_places(plan)] if plan.empty else values


def _places(plan: Plan) -> list[int]:
    return [plan.published.index(c) for c in plan.channels]
