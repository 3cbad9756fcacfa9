"""One round for each family of holes: hide, decide as a run would, restore with every method, score.

The image's own self-test is done again in each round, on an image in which what is scored is hidden: nothing that is
decided, fitted or calibrated has seen it. So the scores are those of a run on an image with such holes, but for the
coarse fill that patches of large images start from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.orientation import Orientation
from pipeline.image.scene import Scene
from pipeline.models.base import Inpainter
from pipeline.numerics.column import column
from pipeline.restore.recipe import Recipe
from pipeline.selftest.evaluation.families import TITLES, Family, families
from pipeline.selftest.evaluation.hiding import Holdout, hiding, holdouts
from pipeline.selftest.evaluation.methods import RUN, candidates, restorations
from pipeline.selftest.evaluation.scoring import Counted, counted, joined
from pipeline.selftest.evaluation.table import Row, best_of, table
from pipeline.selftest.setup import self_test
from pipeline.system.signals import stop_if_asked
from pipeline.system.threads import each

WINDOWS = 4
"""Windows that a family is hidden in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A part of a window to look at: stored values of a few channels, `(c, rows, columns)`; masks `(rows, columns)`."""

    true: NDArray[np.float64]
    restored: NDArray[np.float64]
    hidden: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    """Pixels that are observed where nothing is hidden."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What was found in one family of holes; without rows nothing of it could be hidden."""

    family: str
    title: str
    rows: tuple[Row, ...] = ()
    windows: int = 0
    holes: int = 0
    pixels: int = 0
    best_fill: str = ""
    """Name of the classical fill with the highest PSNR."""
    decisions: tuple[str, ...] = ()
    """What a run would use where such holes are, in words."""
    example: Example | None = None

    def facts(self) -> list[dict[str, Any]]:
        """Return the rows as JSON values."""
        head = {"family": self.family, "windows": self.windows, "holes": self.holes, "pixels": self.pixels}
        return [head | row.facts() for row in self.rows]


def rounds(
    scene: Scene,
    model: Inpainter | None,
    wanted: Sequence[str],
    shown: Sequence[int],
    tell: Callable[[str], None],
) -> list[Round]:
    """Evaluate an image, family by family.

    Args:
        scene: the opened image, with its doubted pixels marked.
        model: the network, None without one.
        wanted: names of families, all without any.
        shown: channels of the examples.
        tell: hears which round begins.

    Raises:
        ConfigError: there is no such family.
    """
    done = []
    kinds = families(scene, tuple(wanted), _rng(scene, 0))
    for number, family in enumerate(kinds, start=1):
        stop_if_asked()
        tell(f"{family.title} ({number} of {len(kinds)})")
        # the draws of a family are the same whichever others are wanted
        done.append(_round(scene, model, family, 1 + list(TITLES[scene.ndim]).index(family.name), shown))
    return done


def _rng(scene: Scene, number: int) -> np.random.Generator:
    return np.random.default_rng([scene.job.seed, number])


def _round(scene: Scene, model: Inpainter | None, family: Family, number: int, shown: Sequence[int]) -> Round:
    some = holdouts(scene, family, WINDOWS, _rng(scene, number))
    if not some:
        return Round(family=family.name, title=family.title)
    with hiding(scene, some) as told:
        verdict = self_test(told, model)
        # the rim that may be contaminated is that of the mask: what is hidden here lies elsewhere
        recipe = replace(verdict.recipe, rim=())
        most = max(range(len(some)), key=lambda k: int(some[k].scored.sum()))
        look = partial(_looked, told, recipe, model, shown)
        found = each(look, [(holdout, k == most) for k, holdout in enumerate(some)])
    total = joined([one for one, _ in found])
    fills = [spec.label for spec in candidates(scene)]
    rows = tuple(table(total, fills, scene.values.spread, scene.job.seed))
    best = best_of(rows, fills)
    return Round(
        family=family.name,
        title=family.title,
        rows=rows,
        best_fill=best.method if best else "",
        windows=len(some),
        holes=len(total.pixels),
        pixels=int(total.pixels.sum()),
        decisions=verdict.decisions,
        example=found[most][1],
    )


def _looked(
    scene: Scene, recipe: Recipe, model: Inpainter | None, shown: Sequence[int], which: tuple[Holdout, bool]
) -> tuple[Counted, Example | None]:
    """Return what was counted in one window and, if that is wanted, the window to look at."""
    stop_if_asked()
    holdout, as_example = which
    found = restorations(scene, recipe, model, holdout.box)
    example = _example(scene, holdout, found[RUN].mean, list(shown)) if as_example else None
    return counted(scene, holdout, found), example


def _example(scene: Scene, holdout: Holdout, restored: NDArray[np.float32], shown: list[int]) -> Example:
    """Return the window of an image; of a volume a plane through what is hidden, with the head or the front on top."""
    centre = column(scene.image.centre, scene.ndim)
    hidden = np.broadcast_to(holdout.hidden, holdout.before.valid.shape)
    true = holdout.before.values + centre
    after = np.where(hidden, restored + centre, true)
    one = Example(
        true=true[shown],
        restored=after[shown],
        hidden=np.asarray(hidden[shown].any(axis=0)),
        seen=np.asarray(holdout.before.valid[shown].all(axis=0)),
    )
    return one if scene.ndim == 2 else _of_volume(one, Orientation.of(scene.source.space))


def _of_volume(one: Example, turn: Orientation) -> Example:
    axis, number = _plane(turn.canonical(one.hidden))

    def plane(values: NDArray[Any]) -> NDArray[Any]:
        part = np.take(turn.canonical(values), number, values.ndim - 3 + axis)
        return np.flip(part, -2)

    return Example(true=plane(one.true), restored=plane(one.restored), hidden=plane(one.hidden), seen=plane(one.seen))


def _plane(hidden: NDArray[np.bool_]) -> tuple[int, int]:
    """Return axis and number of a plane with much hidden that is not all hidden."""
    shares = [hidden.mean(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    axis = int(np.argmin([share.max() for share in shares]))
    return axis, int(np.argmax(shares[axis]))
