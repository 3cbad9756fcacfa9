"""What every method makes of one window: the run itself, the run without references, the network, each fill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills._candidates import default_fills
from pipeline.fills.base import FillSpec, Window
from pipeline.geometry.box import Box
from pipeline.image.scene import Scene
from pipeline.models.base import Inpainter
from pipeline.numerics.column import column
from pipeline.references.reliance import UNUSED
from pipeline.restore.estimate import base_fill, classical, finish, refined_by, where
from pipeline.restore.network import counted, refine
from pipeline.restore.recipe import Recipe
from pipeline.restore.task import Estimate, Task

RUN = "run"
"""What `inpaint-pipeline run` would write."""

ALONE = "run without references"
"""The same from the image alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """What a method makes of a window.

    Attributes:
        mean: float32 `(c, *spatial)`, centred, rounded as it would be stored.
        sigma: float32 `(c, *spatial)`, calibrated standard error; None for methods that know none.
    """

    mean: NDArray[np.float32]
    sigma: NDArray[np.float32] | None = None


def candidates(scene: Scene) -> list[FillSpec]:
    """Return the fills that are compared: those of the self-test, and the one that the user chose."""
    fills = default_fills(scene.ndim, scene.spacing)
    chosen = scene.job.model.fill
    return fills if chosen is None else [chosen, *(fill for fill in fills if fill.label != chosen.label)]


def restorations(scene: Scene, recipe: Recipe, model: Inpainter | None, box: Box) -> dict[str, Restoration]:
    """Return what every method makes of a window; a fill whose solver gives up is left out.

    Args:
        scene: the image as it is told.
        recipe: what the self-test decided on it.
        model: the network, None without one.
        box: the window.
    """
    window, guides = scene.window(box)
    fills = _filled(window, candidates(scene))
    base, around = _base(recipe, window, fills), scene.image.contamination(box)
    task = Task(window=window, guides=guides, patch=min(scene.lattice.patch), base=base, around=around)
    restored, alone = _restored(recipe, model, task)
    found = {RUN: restored}
    if any(recipe.reference_weights):
        plain = replace(recipe, references=(UNUSED,) * len(recipe.references), network_referenced=None)
        found[ALONE] = _restored(plain, model if plain.network_weight > 0 else None, task)[0]
    if model is not None and alone is not None and scene.job.model.traits.weighed:
        found[f"network {model.name}"] = Restoration(mean=alone)
    found |= {label: Restoration(mean=mean) for label, mean in fills.items()}
    return {name: replace(one, mean=_as_stored(scene, one.mean)) for name, one in found.items()}


def _filled(window: Window, specs: Sequence[FillSpec]) -> dict[str, NDArray[np.float32]]:
    filled: dict[str, NDArray[np.float32]] = {}

    def fill(spec: FillSpec) -> NDArray[np.float32]:
        if spec.label not in filled:
            filled[spec.label] = spec.over(window, fill)
        return filled[spec.label]

    for spec in specs:
        try:
            fill(spec)
        except ArithmeticError:
            continue
    return {spec.label: filled[spec.label] for spec in specs if spec.label in filled}


def _base(recipe: Recipe, window: Window, fills: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return what the recipe's fills make of the window; what they made of it before is not made again."""

    def fill(spec: FillSpec) -> NDArray[np.float32]:
        known = fills.get(spec.label)
        return spec.over(window, fill) if known is None else known

    return base_fill(recipe, window, where(window), fill)


def _restored(recipe: Recipe, model: Inpainter | None, task: Task) -> tuple[Restoration, NDArray[np.float32] | None]:
    """Return what a run makes of a window, and what the network alone would have."""
    draft, predicted = classical(recipe, task), None
    result: Estimate
    if model is None:
        result = finish(recipe, task, draft, draft.close)
    else:
        used = recipe.network_weight > 0
        # one look is enough for a network that has no part in the result
        looks = recipe if used else replace(recipe, network_views=1)
        (said,) = refine(model, [task], [draft], looks, testing=True)
        counts = counted(model, task, draft.place)
        result = refined_by(recipe, task, draft, said, counts) if used else finish(recipe, task, draft, draft.close)
        predicted = np.where(counts > 0, said[0], draft.mean)
    return Restoration(mean=result.mean, sigma=result.sigma), predicted


def _as_stored(scene: Scene, mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to what the file can hold."""
    dtype = scene.source.dtype
    if dtype.kind not in "iu":
        return mean
    info, centre = np.iinfo(dtype), column(scene.image.centre, scene.ndim)
    stored = np.clip(np.rint(mean.astype(np.float64) + centre), info.min, info.max)
    return np.asarray(stored - centre, dtype=np.float32)
