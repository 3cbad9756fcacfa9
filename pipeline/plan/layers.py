"""Published layers: a plane a restored channel and one a channel without anything to restore from; codes in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plan.plan import Plan
from pipeline.restore.codes import CLASSICAL, NETWORK, NEVER_TOUCHED, OBSERVED, REFERENCE, REFUSED, SEVERAL


def to_published(values: NDArray[Any], plan: Plan, empty: float) -> NDArray[Any]:
    """Return planes of the restored channels as planes of all published ones.

    Args:
        values: `(c, *spatial)` of the restored channels, or of one plane for all where no channel is empty.
        plan: says which channels are restored, and which are published.
        empty: what planes of channels without any value hold.

    Returns:
        `(published, *spatial)`, the same dtype; `values` themselves where no channel is empty.
    """
    if not plan.empty:
        return values
    result = np.full((len(plan.published), *values.shape[1:]), empty, dtype=values.dtype)
    result[_positions(plan)] = values
    return result


def from_published(values: NDArray[Any], plan: Plan) -> NDArray[Any]:
    """Return of the planes of a published layer those of the restored channels, `(1 or c, ...)`."""
    return values[_positions(plan)] if plan.empty else values


def known_codes(plan: Plan) -> tuple[int, ...]:
    """Return the source codes that a run of `plan` can give, ascending.

    One code for each reference and auxiliary, one for the image's own other channels where their holes differ, and one
    for several guides together.
    """
    n_references = len(plan.guides) + (plan.n_state > 1)
    references = range(REFERENCE, REFERENCE + n_references)
    several = (SEVERAL,) if len(plan.guides) > 1 else ()
    return (OBSERVED, CLASSICAL, NETWORK, *references, *several, REFUSED, NEVER_TOUCHED)


def _positions(plan: Plan) -> list[int]:
    return [plan.published.index(c) for c in plan.channels]
