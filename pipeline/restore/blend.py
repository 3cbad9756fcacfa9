"""How one estimate is blended over another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.column import column
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Draft

CARRIED = 0.5
"""Share of a reference in the mean from which its own calibration holds."""

NAMED = 0.05
"""Weight from which the source layer names a method."""


def limited(draft: Draft, proposal: NDArray[np.float32], limit: float | None) -> NDArray[np.float32]:
    """Return the proposal with steps above `limit` local standard deviations shortened, none longer than twice that.

    The self-test sets the limit to the largest steps that proved good: what goes beyond them was never tested.
    """
    if limit is None:
        return proposal
    step = proposal - draft.mean
    size, most = np.abs(step), np.float32(limit) * draft.scale
    shortened = draft.mean + np.sign(step) * most * (2 - most / np.maximum(size, most))
    return np.where(size <= most, proposal, shortened).astype(np.float32)


def carried(trust: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far a pixel counts as restored from references: fully where they make half of its mean."""
    return np.asarray(np.minimum(trust / np.float32(CARRIED), np.float32(1)))


def mix(mean: NDArray[np.float32], proposal: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the blend of two estimates; exactly `mean` at weight 0 and where they agree, exactly `proposal` at 1."""
    blend = mean + np.asarray(weight, dtype=np.float32) * (proposal - mean)
    return np.where(weight == 1, proposal, np.where(weight == 0, mean, blend)).astype(np.float32)


def typical_scale(recipe: Recipe, like: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the recipe's scale of the whole image, one value a channel, in the shape of `like` `(c, *spatial)`."""
    return np.broadcast_to(column(recipe.typical, like.ndim - 1, np.float32), like.shape).copy()


def floors(recipe: Recipe) -> NDArray[np.float32]:
    """Return the smallest local scale of each channel, float32 `(c,)`, data units."""
    return np.asarray(recipe.floor, dtype=np.float32)
