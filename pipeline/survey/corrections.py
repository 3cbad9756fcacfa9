"""What the observed pixels of the whole image say beside the relations of its guides, on cells; see `Correction`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.image.scene import Scene
from pipeline.masks.base import evidence
from pipeline.numerics.beyond import push_pull
from pipeline.references.estimate import correction
from pipeline.references.joint import guides_of
from pipeline.references.prediction import Prediction
from pipeline.references.relation import Relation
from pipeline.references.siblings import Sibling, Siblings
from pipeline.restore.recipe import Recipe
from pipeline.survey.cells import Cells, aligned_tiles, planes_of, sums
from pipeline.system.signals import stop_if_asked

_MOST = 40_000
"""Most cells: a regression around each takes as much memory as in a patch of so many pixels."""


def correction_step(shape: Sequence[int]) -> int:
    """Return how many cells a side are taken together for at most `_MOST` of them."""
    return math.ceil((math.prod(shape) / _MOST) ** (1 / len(shape)) - 1e-9) or 1


def corrections(scene: Scene, recipe: Recipe, cells: Cells, cell: int) -> list[NDArray[np.float32]]:
    """Return values and logarithm of the ratio for each consulted relation, float32 `(n, *cells)` each.

    `n` is the number of channels, or that of `Siblings.every`.

    Args:
        scene: the image.
        recipe: the relations.
        cells: of the whole image, at most `_MOST`.
        cell: their size, pixels.
    """
    numbers, result = guides_of(recipe.relations), []
    for k, relation in recipe.consulted:
        if isinstance(relation, Siblings):
            parts = [_of_sibling(cells, c, sibling, scene.spacing, cell) for c, sibling in relation.every]
            result += [np.concatenate(part) for part in zip(*parts, strict=True)]
        else:
            window = _on_cells(cells, list(range(len(cells.mean))), scene.spacing)
            result += _values_and_ratio(window, relation, *_means(scene, numbers[k], cell), cell)
    return result


def _on_cells(cells: Cells, channels: list[int], spacing: tuple[float, ...]) -> Window:
    """Return some channels of the whole image as one window of cells."""
    valid = cells.valid[channels]
    return Window(values=cells.mean[channels], valid=valid, hole=cells.usable[channels] & ~valid, spacing=spacing)


def _of_sibling(
    cells: Cells, channel: int, sibling: Sibling, spacing: tuple[float, ...], cell: int
) -> list[NDArray[np.float32]]:
    """Return values and logarithm of the ratio for one channel, `(1, *cells)` each."""
    stop_if_asked()
    others = list(sibling.channels)
    seen = np.asarray(cells.valid[others].all(axis=0))
    return _values_and_ratio(_on_cells(cells, [channel], spacing), sibling.relation, cells.mean[others], seen, cell)


def _values_and_ratio(
    window: Window, relation: Relation, reference: NDArray[np.float32], seen: NDArray[np.bool_], cell: int
) -> list[NDArray[np.float32]]:
    """Return values and logarithm of the ratio of one relation, `(c, *cells)` each.

    Where the reference shows nothing stands what is said around: whoever interpolates must not meet a 0 there.
    """
    predicted = Prediction.on_cells(relation, reference, seen)
    found = correction(window, relation, predicted, cell)
    told = (seen & (window.valid | window.hole).any(axis=0)).astype(np.float64)
    result = []
    for field in (found.values, np.log(found.ratio)):
        around = push_pull(told, np.where(told > 0, field, 0.0)) if told.any() else field
        result.append(np.where(told > 0, field, around).astype(np.float32))
    return result


def _means(scene: Scene, numbers: Sequence[int], cell: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return means of the bands of guides `(bands, *cells)`, over pixels observed in both if there are any.

    Also where the guides show anything, bool `cells`.
    """
    shape = tuple(-(-n // cell) for n in scene.shape)
    guides = [scene.guides[k] for k in numbers]
    bands = sum(guide.source.n_channels for guide in guides)
    mean, seen = np.zeros((bands, *shape), dtype=np.float32), np.zeros(shape, dtype=np.bool_)
    for box in aligned_tiles(scene.shape, cell):
        stop_if_asked()
        looks = [guide.read(box) for guide in guides]
        valid = np.all([look.valid.all(axis=0) for look in looks], axis=0)
        known = valid & evidence(scene.image.states(box)).any(axis=0)
        some, all_ = (sums(part[None].astype(np.int32), cell)[0] for part in (known, valid))
        values = np.concatenate([look.values for look in looks])
        of_known, of_all = (sums(np.where(part, values, np.float32(0)), cell) for part in (known, valid))
        part = planes_of(box, cell)
        mean[part] = np.where(some > 0, of_known / np.maximum(some, 1), of_all / np.maximum(all_, 1))
        seen[part[1:]] = all_ > 0
    return mean, seen
