"""What patches cannot see where holes go on beyond them, told from the whole image on cells; see `Beyond`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.image.beyond import coarse_window
from pipeline.image.contamination import together
from pipeline.image.scene import Scene
from pipeline.masks.base import DOUBT, HAZY, evidence
from pipeline.numerics.beyond import push_pull
from pipeline.numerics.situation import across
from pipeline.restore.recipe import Recipe
from pipeline.survey.cells import Cells, aligned_tiles, planes_of, sums
from pipeline.survey.corrections import correction_step, corrections
from pipeline.system.signals import stop_if_asked

Array = NDArray[np.float32]

_LEAST = {2: 4, 3: 2}
"""Smallest cell by dimensions, pixels: distances are off by half of it."""
_MOST, _MOST_VALUES = 500_000, 2_000_000
"""Most cells, and values of all channels in them, so that a larger image does not take more memory."""
_AROUND = {2: 8, 3: 4}
"""Smallest cell of what surroundings look like, pixels; that of local statistics in windows."""


def beyond_fields(scene: Scene, recipe: Recipe, cells: Cells, factor: int) -> tuple[int, Array] | None:
    """Return the cell size in pixels and the fields `(n, *cells)`, in the order of `image.beyond.read_beyond`.

    None where one patch covers the image, or no hole pixel is so deep that a patch could miss what is around it.

    Args:
        scene: the image.
        recipe: what the self-test decided.
        cells: of the whole image.
        factor: size of these, pixels.
    """
    if math.prod(scene.lattice.counts) == 1:
        return None
    cell = factor * -(-_LEAST[scene.ndim] // factor)
    most = min(_MOST, _MOST_VALUES / len(cells.mean))
    while math.prod(-(-n // cell) for n in scene.shape) > most:
        cell += factor
    cells = cells.pooled(cell // factor)
    places = _places(cells, scene.image.n_state, scene.spacing)
    # around each pixel that it has a say in a patch shows at least its margin
    several = [o for o, n in zip(scene.lattice.overlap, scene.lattice.counts, strict=True) if n > 1]
    if places[0].max() * cell <= min(several) // 4:
        return None
    places[0] *= np.float32(cell)
    extents = cells.mean.shape[1:]
    wider = -(-_AROUND[scene.ndim] // cell)
    looks = [*_statistics(cells.pooled(wider), (cell * wider) ** scene.ndim), *_contamination(scene, cell * wider)]
    fields = [*places, *(_finer(field, wider, extents) for field in looks)]
    if recipe.consulted:
        step = correction_step(extents)
        said = corrections(scene, recipe, cells.pooled(step), cell * step)
        fields += [_finer(field, step, extents) for field in said]
    return cell, np.concatenate(fields)


def _finer(fields: Array, step: int, shape: tuple[int, ...]) -> Array:
    """Interpolate `(n, *cells)` to the cells of which `step` a side were taken together, one after the other."""
    result = np.empty((len(fields), *shape), dtype=np.float32)
    for field, finer in zip(fields, result, strict=True):
        finer[...] = coarse_window(field[None], step, Box.whole(shape))[0]
    return result


def _places(cells: Cells, n_state: int, spacing: tuple[float, ...]) -> NDArray[np.float32]:
    """Return distances, in cells, and what lies behind, `(2, n_state, *cells)`."""
    valid = cells.valid
    hole = cells.usable & ~valid
    result = np.zeros((2, n_state, *valid.shape[1:]), dtype=np.float32)
    for k in range(n_state):
        stop_if_asked()
        if hole[k].any():
            result[:, k] = across(valid[k], hole[k], spacing)
    return result


def _statistics(cells: Cells, full: int) -> tuple[Array, Array]:
    """Return local mean and standard deviation of observed pixels, `(c, *cells)` each; `full` is a cell's size."""
    mean, scale = np.empty_like(cells.mean), np.empty_like(cells.mean)
    for c, own in enumerate(cells.mean):
        stop_if_asked()
        count = cells.count[c] / full
        centre = float((count * own).sum() / count.sum())
        level = own.astype(np.float64) - centre
        total, power = push_pull(count, np.stack([count * level, count * (cells.variance[c] + np.square(level))]))
        mean[c], scale[c] = total + centre, np.sqrt(np.maximum(power - np.square(total), 0.0))
    return mean, scale


def _contamination(scene: Scene, cell: int) -> tuple[Array, ...]:
    """Return `left` and `factor` of `Contamination`, `(c, *cells)` and `(1, *cells)`; nothing where nothing is."""
    if not (scene.states.hazy or scene.states.doubted):
        return ()
    image, haze = scene.image, scene.image.haze
    errors = np.zeros((1, 1)) if haze is None else np.atleast_2d(haze.attrs["left"])
    scraps = haze is not None and bool(haze.attrs.get("scraps"))
    shape = tuple(-(-n // cell) for n in image.shape)
    amounts, seen, doubted = np.zeros((len(errors), *shape)), np.zeros((1, *shape)), np.zeros((1, *shape))
    for box in aligned_tiles(image.shape, cell):
        stop_if_asked()
        states, part = image.states(box), planes_of(box, cell)
        hazy, doubtful = ((states == state).any(axis=0) for state in (HAZY, DOUBT))
        known = evidence(states).any(axis=0)
        if haze is not None and hazy.any():
            amounts[part] = sums(np.where(hazy & known, np.asarray(haze[box.at()]), 0.0), cell)
        doubtful |= hazy & scraps
        seen[part] = sums((known | doubtful)[None].astype(np.float64), cell)
        doubted[part] = sums(doubtful[None].astype(np.float64), cell)
    full = float(cell**scene.ndim)
    means = push_pull(seen[0] / full, np.concatenate([amounts, doubted]) / full)
    left, factor = together(errors, means[:-1], means[-1])
    return np.broadcast_to(left, (len(image.channels), *shape)).astype(np.float32), factor[None].astype(np.float32)
