"""Whether the network may compute in bfloat16, which takes half the time: where what is stored hardly tells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.models.base import AUTO, BFLOAT16, FLOAT32, Inpainter
from pipeline.restore.network import asked, refine
from pipeline.restore.recipe import Recipe, narrowed
from pipeline.selftest.network import Refined, networked
from pipeline.selftest.trial import Trial
from pipeline.system.meter import metered

_ALIKE = 0.999
"""Share of the hidden pixels whose estimate must move by less than a stored step."""

_OF_ERROR = 0.01
"""What counts as a step where stored values are continuous, in standard errors before calibration."""

_WORTH = 4
"""Values of the image, in those of the windows, from which on blocks gain more by a decision than it takes."""


def unless_small(recipe: Recipe, values: int, tested: int) -> Recipe:
    """Return the recipe with float32 instead of a decision that would take longer than what it could save.

    Args:
        recipe: of the start.
        values: pixels times channels of the image.
        tested: pixels of all windows; each shows the network one channel.
    """
    if AUTO in recipe.network_precision and values < _WORTH * tested:
        return replace(recipe, network_precision=(FLOAT32,) * len(recipe.network_precision))
    return recipe


def with_precision(model: Inpainter, proposals: Sequence[Refined], recipe: Recipe) -> Recipe:
    """Return the recipe with a precision for each channel, if it asks for a decision (`auto`).

    Every window is looked at once more, unmirrored: a mean of several looks errs less. What moves is the whole
    estimate, with the weight that the network has at each pixel. A window shows the network one channel; in the others
    it moves as much in units of what their values scatter.

    Args:
        model: the network; it has a part in the result.
        proposals: what it would have in the windows that it saw.
        recipe: decisions so far.
    """
    if AUTO not in recipe.network_precision:
        return recipe
    # what is tried here is no part of the run's work
    with metered():
        moved = np.concatenate([_moved(model, one.trial, recipe) for one in proposals], axis=1)
    alike = (moved < 1).mean(axis=1) >= _ALIKE
    return replace(recipe, network_precision=tuple(BFLOAT16 if one else FLOAT32 for one in alike))


def _moved(model: Inpainter, trial: Trial, recipe: Recipe) -> NDArray[np.float64]:
    """Return how far bfloat16 moves the estimate of each channel at the hidden pixels, in steps, `(channels, n)`."""
    channels = len(recipe.typical)
    fine, coarse = (
        _mixed(model, trial, replace(recipe, network_views=1, network_precision=(one,) * channels))
        for one in (FLOAT32, BFLOAT16)
    )
    moved = trial.hidden(np.abs(coarse.draft.mean - fine.draft.mean)).astype(np.float64)
    if not recipe.quantum:
        return np.tile(moved / (_OF_ERROR * trial.hidden(fine.raw)), (channels, 1))
    typical = np.asarray(recipe.typical)
    return np.asarray(np.outer(typical / typical[trial.channels[0]], moved) / recipe.quantum)


def _mixed(model: Inpainter, trial: Trial, recipe: Recipe) -> Trial:
    """Return a trial as a block would restore it, computed by this process whoever computes the windows of others."""
    own = narrowed(recipe, trial.channels)
    ((mean, raw),) = refine(model, [trial.placement.task], [trial.draft], own, testing=True)
    return networked([Refined(trial=trial, mean=mean, asked=asked(model, trial.window), raw=raw)], recipe)[0]
