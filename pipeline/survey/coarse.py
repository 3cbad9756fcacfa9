"""The coarse fill of the whole image at a bounded size, from which every patch starts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.fills._candidates import default_fills
from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.image.scan import SCAN_EXTENT, cell_sizes, cells_of
from pipeline.image.scene import Scene
from pipeline.image.window import OpenImage
from pipeline.masks.base import NEVER, evidence
from pipeline.plan.memory import check_survey
from pipeline.restore.estimate import base_fill, where
from pipeline.restore.recipe import Recipe
from pipeline.system.signals import stop_if_asked

_MAX_EXACT_VALUES = 16_000_000
_MAX_COARSE_VALUES = 4_000_000
"""A coarse fill only has to say what no patch can see; so a larger image does not take more memory."""
_MAX_UNKNOWNS = 250_000
_CHUNK = {2: 512, 3: 96}
"""Extent of the pieces that the fill is stored in, by dimensions: about a patch."""


def coarse_fill(scene: Scene, recipe: Recipe) -> tuple[int, str]:
    """Fill the whole image at a bounded size and store it; returns the cell size and the hash of the array.

    At cell size 1 this is the base fill itself, exact and without seams; else patches start from it.
    """
    image = scene.image
    if recipe.sees_stored:
        _save(scene, np.zeros((len(image.channels),) + (1,) * scene.ndim, dtype=np.float32))
        return max(scene.shape), ""
    factor = coarse_factor(scene)
    mean, valid, usable = coarse_values(image, factor)
    window = Window(values=mean, valid=valid, hole=usable & ~valid, spacing=image.spacing)
    if factor > 1:
        # one fill for all families of holes, which therefore need not be told apart: that takes the most memory
        guess = default_fills(scene.ndim, image.spacing)[0](window)
    else:
        # what is observed stands in the image, and nothing of it is ever asked for here
        guess = np.where(window.valid, np.float32(0), base_fill(recipe, window, where(window)))
    _save(scene, guess)
    return factor, hashlib.sha256(guess.tobytes()).hexdigest()


def _save(scene: Scene, values: NDArray[np.float32]) -> None:
    path = scene.job.work.coarse
    chunks = (1, *(min(n, _CHUNK[scene.ndim]) for n in values.shape[1:]))
    # compressed: where nothing is hidden it is 0, and it stays beside the results
    array = zarr.create_array(path, shape=values.shape, chunks=chunks, dtype="float32", fill_value=0, overwrite=True)
    array[:] = values


def coarse_factor(scene: Scene) -> int:
    """Return the cell size that keeps values and unknowns of the coarse fill below fixed bounds.

    Raises:
        PlanRefused: even that does not fit the memory.
    """
    ndim = scene.ndim
    n_values = len(scene.image.channels) * math.prod(scene.shape)
    factor = 1
    if n_values > _MAX_EXACT_VALUES or scene.states.holes > _MAX_UNKNOWNS:
        factor = 2
        while n_values / factor**ndim > _MAX_COARSE_VALUES or scene.states.holes / factor**ndim > _MAX_UNKNOWNS:
            factor += 1
    cells = factor**ndim
    exact = math.prod(scene.shape) if factor == 1 else 0
    check_survey(scene.source.paths[0], n_values // cells, scene.states.holes // cells, exact, scene.job.memory_bytes)
    return factor


def coarse_values(image: OpenImage, factor: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return `(mean, valid, usable)` of cells of `factor` pixels, each `(c, *cells)`.

    A cell is valid if any of its pixels is evidence, and usable if any is observed or a hole.
    """
    shape, n_state = image.shape, image.n_state
    cells = tuple(-(-n // factor) for n in shape)
    total = np.zeros((len(image.channels), *cells), dtype=np.float64 if factor > 1 else np.float32)
    seen = np.zeros((n_state, *cells), dtype=np.int32)
    usable = np.zeros((n_state, *cells), dtype=np.bool_)
    for box in _aligned_tiles(shape, factor):
        stop_if_asked()
        states = image.states(box)
        valid = evidence(states)
        values = image.values(box, states)
        part = (slice(None), *cells_of(box, factor))
        if values.any():
            total[part] = _sums(values, factor)
        if valid.all():
            seen[part], usable[part] = cell_sizes(box.shape, factor), True
            continue
        seen[part] = _sums(valid.astype(np.int32), factor)
        usable[part] = _sums((states != NEVER).astype(np.int32), factor) > 0
    mean = (total / np.maximum(seen, 1)).astype(np.float32)
    full = total.shape
    return mean, np.broadcast_to(seen > 0, full), np.broadcast_to(usable, full)


def _sums(values: NDArray[Any], factor: int) -> NDArray[Any]:
    if factor == 1:
        return values
    result: NDArray[Any] = values.astype(np.float64) if values.dtype.kind == "f" else values
    for axis in range(1, values.ndim):
        result = np.add.reduceat(result, np.arange(0, result.shape[axis], factor), axis=axis)
    return result


def _aligned_tiles(shape: tuple[int, ...], factor: int) -> Iterator[Box]:
    tile = tuple(max(factor, n // factor * factor) for n in SCAN_EXTENT[len(shape)])
    return Box.whole(shape).tiles(tile)
