"""Set up the self-test of an image: which fills compete, where, and with which hole shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.fills._candidates import default_fills
from pipeline.fills.base import FillSpec, Window
from pipeline.geometry.box import Box
from pipeline.geometry.orientation import Orientation, coarsest_axis
from pipeline.image.scan import ValueScan
from pipeline.image.scene import Scene
from pipeline.models.base import Inpainter, precision_of
from pipeline.numerics.calibration import STORED_OF_REFERENCES
from pipeline.numerics.situation import flat
from pipeline.references.reliance import UNUSED
from pipeline.restore.recipe import STORED, Recipe
from pipeline.restore.task import Guide
from pipeline.selftest.carry import Carry, carried
from pipeline.selftest.guides import FittedGuide, fitted_guides
from pipeline.selftest.judge import judge
from pipeline.selftest.placing import Placement, place
from pipeline.selftest.precision import unless_small
from pipeline.selftest.rim import Rim, check_rim, check_rim_of_guide
from pipeline.selftest.rings import pooled
from pipeline.selftest.verdict import Verdict
from pipeline.selftest.windows import candidate_windows, draw, hole_shapes, largest, test_windows

_RIM_WINDOWS = 3
"""Windows in which the rim of the mask is looked at."""

_WIDEST_RING = 4
"""Pixels: rings of 1, 2 and 4 are looked at as long as all of them are contaminated."""

_WIDEST = 3e38
"""Just inside the range of float32."""


def self_test(scene: Scene, model: Inpainter | None) -> Verdict:
    """Decide fill, references, network weight and error bars of an image on pixels hidden on purpose.

    `model` is the network, None without one. Models that take the place of the restoration are not tested.
    """
    start = start_recipe(scene, model)
    choice = scene.job.model
    if not choice.traits.weighed:
        wide = replace(start, network=flat(1.0), low=(-_WIDEST,) * len(start.low), high=(_WIDEST,) * len(start.high))
        return Verdict(recipe=wide, note=f"model {choice.kind}: no self-test")
    guides = _guides(scene)
    rng = np.random.default_rng(scene.job.seed)
    shapes = hole_shapes(scene, rng)
    tests = test_windows(scene, shapes.depth, rng)
    placements = place(partial(_compared, scene), tests, shapes, start.fill, scene.job.seed)
    tested = sum(placement.task.window.hole[0].size for placement in placements)
    start = unless_small(start, len(start.floor) * math.prod(scene.shape), tested)
    if guides and all(guide.is_reference for guide in guides):
        start = replace(start, referenced=STORED_OF_REFERENCES)
    fills = default_fills(scene.source.space.ndim, scene.spacing)
    forced = choice.fill is not None
    if forced:
        # the user chose the fill: the others are only measured beside it
        fills = [start.fill, *(f for f in fills if f.label != start.fill.label)]
    # where doubted pixels were found the rim is known, and they are holes of these windows
    contaminated = bool(scene.states.doubted or scene.states.hazy)
    rim, carry = (Rim(), Carry()) if contaminated else _rim(scene, start, rng)
    start = replace(start, rim=carry.by_depth)
    if contaminated:
        placements = [_among_contaminated(scene, placement) for placement in placements]
    verdict = judge(placements, fills, guides, model, start, scene.values.spread, forced=forced)
    space = scene.source.space
    across = Orientation.of(space).axes[coarsest_axis(space)] if space.ndim == 3 else None
    return with_rim(replace(verdict, samples=verdict.samples and verdict.samples.cropped(across)), rim, carry)


def _among_contaminated(scene: Scene, placement: Placement) -> Placement:
    """Return the placement with what contaminated pixels around add to the bars of what is hidden and of the holes."""
    hidden = placement.hidden
    box = Box(placement.start, tuple(a + n for a, n in zip(placement.start, hidden.shape[1:], strict=True)))
    around = scene.image.contamination(box, hidden)
    return replace(placement, task=replace(placement.task, around=around))


def _compared(scene: Scene, box: Box) -> tuple[Window, tuple[Guide, ...]]:
    """Return a window whose fills are only compared, with what the guides show there."""
    window, guides = scene.window(box)
    return replace(window, rough=True), guides


def _guides(scene: Scene) -> list[FittedGuide]:
    """Return the references and auxiliaries of an image with their relations to it."""
    labels = [*(f"{ref.role} {k} ({ref.label})" for k, ref in enumerate(scene.job.guides)), "other channels"]
    return fitted_guides(scene, labels, little=scene.little_trusted, clear=scene.clear)


def with_rim(verdict: Verdict, rim: Rim, carry: Carry) -> Verdict:
    """Return the verdict with what the rim of the mask is like; the error to expect counts what it carries."""
    if not carry.by_depth:
        return replace(verdict, rim=rim)
    return replace(
        verdict,
        rim=replace(rim, carried=carry.mean),
        predicted_rmse=tuple(math.hypot(*both) for both in zip(verdict.predicted_rmse, carry.mean, strict=False)),
    )


def _rim(scene: Scene, start: Recipe, rng: np.random.Generator) -> tuple[Rim, Carry]:
    """Check the rim of the mask in a few windows with holes; a single window is looked at twice."""
    fill, seed = default_fills(scene.ndim, scene.spacing)[0], scene.job.seed
    chosen = _rim_windows(scene, 1, rng)
    found, step = check_rim(chosen.windows, fill, start.floor, seed, chosen.starts), 1
    if not found.wider_px and scene.source.space.kind == "volume":
        found = _rim_of_auxiliaries(scene, chosen, fill) or found
    while found.open and not found.seen_in and step < _WIDEST_RING:
        wide = _rim_windows(scene, 2 * step, rng)
        beyond = check_rim(wide.windows, fill, start.floor, seed, wide.starts)
        if not beyond.tested_px:
            break
        found, step = found.farther(beyond, 2 * step), 2 * step
        if found.ring_px == step:
            chosen = wide
    if not found.wider_px:
        return found, Carry()
    return found, carried(chosen.windows, fill, found.wider_px // found.ring_px, found.ring_px, seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RimWindows:
    """Windows in which the rim is looked at."""

    windows: list[Window]
    """On cells of some pixels."""
    guides: list[tuple[Guide, ...]]
    """What the guides show in them, pixel by pixel."""
    starts: list[tuple[int, ...]]
    """Where they begin, cells."""


def _rim_windows(scene: Scene, step: int, rng: np.random.Generator) -> _RimWindows:
    """Draw windows with holes, on cells of `step` pixels."""
    boxes, holes, kept = candidate_windows(scene, tuple(step * n for n in largest(scene)), rng)
    some = draw(boxes, np.sqrt(holes * kept), _RIM_WINDOWS, rng)
    some = some * (2 if len(some) == 1 and scene.ndim == 2 else 1)
    read = [_compared(scene, box) for box in some]
    return _RimWindows(
        windows=[pooled(window, step) for window, _ in read],
        guides=[seen for _, seen in read],
        starts=[tuple(first // step for first in box.start) for box in some],
    )


def _rim_of_auxiliaries(scene: Scene, chosen: _RimWindows, fill: FillSpec) -> Rim | None:
    """Look at the rim in other contrasts: a lesion is as wide in one as in another, but need not show in both."""
    for k, ref in enumerate(scene.job.guides):
        if ref.role == "auxiliary":
            shown = [seen[k] for seen in chosen.guides]
            there = check_rim_of_guide(chosen.windows, shown, fill, scene.job.seed, chosen.starts)
            if there.wider_px:
                return replace(there, seen_in=ref.label)
    return None


def start_recipe(scene: Scene, model: Inpainter | None = None) -> Recipe:
    """Return the recipe before the self-test: default fill, floors and limits of the file, nothing else used."""
    values = scene.values
    spread = values.spread
    floor = np.maximum(0.01 * spread, values.quantum * 12**-0.5)
    floor = np.maximum(floor, np.finfo(np.float32).tiny * 1e6)
    low, high = _limits(values, little=bool(scene.little_trusted and scene.guides))
    fills = default_fills(scene.source.space.ndim, scene.spacing)
    choice = scene.job.model
    return Recipe(
        fill=FillSpec(STORED) if choice.traits.sees_stored else choice.fill or fills[0],
        floor=tuple(float(v) for v in floor),
        # p1 to p99 spans 4.65 standard deviations of a normal distribution
        typical=tuple(float(v) for v in np.maximum(spread / 4.65, floor)),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        quantum=values.quantum,
        network_precision=(precision_of(model),) * len(spread),
        relations=(None,) * scene.n_guides,
        references=(UNUSED,) * scene.n_guides,
    )


def _limits(values: ValueScan, *, little: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what may be written per channel, data units, `(c,)`: up to a twentieth of the range beyond what was seen.

    Nothing beyond an end where values pile up: a limit of what is measured is one in the holes, too. Where so little
    is seen beside another date, that does not bound what the date shows.
    """
    margin = np.where(values.piled, 0.0, 0.05 * values.spread)
    beyond, centre = np.full_like(margin, _WIDEST) if little else margin, np.asarray(values.centre)
    exact = np.clip([values.low - beyond[0] - centre, values.high + beyond[1] - centre], -_WIDEST, _WIDEST)
    low, high = exact.astype(np.float32)
    # rounded inwards
    return (
        np.where(low < exact[0], np.nextafter(low, high), low),
        np.where(high > exact[1], np.nextafter(high, low), high),
    )
