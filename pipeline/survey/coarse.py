"""The coarse fill of the whole image at a bounded size, from which every patch starts."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from pipeline.evidence.mark import looked_at
from pipeline.fills._candidates import default_fills
from pipeline.fills.base import Window
from pipeline.image.scene import Scene
from pipeline.plan.memory import MOST_UNKNOWNS, check_survey, most_unknowns
from pipeline.restore.estimate import base_fill, where
from pipeline.restore.recipe import Recipe
from pipeline.survey.beyond import beyond_fields
from pipeline.survey.cells import coarse_values, save_cells
from pipeline.system.process import give_back

_MAX_EXACT_VALUES = 16_000_000
_MAX_COARSE_VALUES = 4_000_000
"""A coarse fill only has to say what no patch can see; so a larger image does not take more memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coarse:
    """What was made of the whole image on cells.

    Attributes:
        fill_cell: size of a cell of the coarse fill, pixels.
        beyond_cell: size of a cell of what patches cannot see; 0 = they see all.
        sha256: hash of both arrays; empty if nothing had to be computed.
    """

    fill_cell: int
    beyond_cell: int = 0
    sha256: str = ""


def coarse_fill(scene: Scene, recipe: Recipe, factor: int) -> Coarse:
    """Fill the whole image at a bounded size and store it, with what patches cannot see beside it.

    At cell size 1 this is the base fill itself, exact and without seams; else patches start from it. `factor` is the
    size of a cell, see `coarse_factor`.
    """
    if recipe.sees_stored:
        save_cells(scene.job.work.coarse, np.zeros((len(scene.image.channels),) + (1,) * scene.ndim, dtype=np.float32))
        return Coarse(fill_cell=max(scene.shape))
    # what the self-test left: the arrays that follow are of the whole image and have pages of their own
    give_back()
    window, beyond_cell, beyond = _coarse_window(scene, recipe, factor)
    if factor > 1:
        # one fill for all families of holes, which therefore need not be told apart: that takes the most memory
        guess = default_fills(scene.ndim, scene.spacing)[0](window)
    else:
        # what is observed stands in the image, and nothing of it is ever asked for here
        guess = np.where(window.valid, np.float32(0), base_fill(recipe, window, where(window)))
    save_cells(scene.job.work.coarse, guess)
    digest = hashlib.sha256(guess.data)
    digest.update(beyond)
    # factors of the fill lie free in the heap in pieces, beside which blocks would grow
    del window, guess
    give_back()
    return Coarse(fill_cell=factor, beyond_cell=beyond_cell, sha256=digest.hexdigest())


def _coarse_window(scene: Scene, recipe: Recipe, factor: int) -> tuple[Window, int, bytes]:
    """Return the window to fill, and of what patches cannot see, which is stored, the cell size and the hash."""
    cells = coarse_values(scene.image, factor)
    beyond_cell, digest = 0, b""
    found = beyond_fields(scene, recipe, cells, factor)
    if found is not None:
        beyond_cell, fields = found
        save_cells(scene.job.work.beyond, fields)
        digest = hashlib.sha256(fields.tobytes()).digest()
    valid = cells.valid
    hole = cells.usable & ~valid
    return Window(values=cells.mean, valid=valid, hole=hole, spacing=scene.spacing), beyond_cell, digest


def coarse_factor(scene: Scene) -> int:
    """Return the cell size that keeps values and unknowns of the coarse fill below fixed bounds.

    Once contaminated pixels are known they are unknowns, too, and no more of them than `plan` counted; to be asked
    before they are made holes, as `plan` counts by the holes of the mask.

    Raises:
        PlanRefused: even that does not fit the memory.
    """
    holes, ndim = scene.states.holes, scene.ndim
    n_values = len(scene.image.channels) * math.prod(scene.shape)
    factor = _factor(n_values, holes, MOST_UNKNOWNS, ndim)
    cells = factor**ndim
    exact = math.prod(scene.shape) if factor == 1 else 0
    most = holes
    if looked_at(scene):
        most = most_unknowns(holes, scene.states.n_state * math.prod(scene.shape))
    unknowns = min(MOST_UNKNOWNS, -(-most // cells))
    channels, guided = len(scene.image.channels), bool(scene.guides) or scene.has_siblings
    counts = n_values // cells, unknowns, exact
    check_survey(scene.source.paths[0], counts, channels, scene.job.memory_bytes, guided=guided)
    return max(factor, _factor(n_values, holes + scene.states.doubted, unknowns, ndim))


def _factor(n_values: int, n_unknowns: int, most: int, ndim: int) -> int:
    """Return the smallest cell size with so many unknowns at most; 1 for an exact fill."""
    if n_values <= _MAX_EXACT_VALUES and n_unknowns <= most:
        return 1
    factor = 2
    while n_values / factor**ndim > _MAX_COARSE_VALUES or n_unknowns / factor**ndim > most:
        factor += 1
    return factor
