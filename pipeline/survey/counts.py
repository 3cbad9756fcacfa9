"""How much there is to do in each stage of a run: pixels, values, files; see `cost` for the seconds of each.

What is counted: pixels of the windows in which thin cloud is looked for and of the self-test, hole pixels of the coarse
fill, pixels that blocks estimate, files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from pipeline.evidence.mark import bands_again, bands_of, looked_pixels
from pipeline.geometry.box import Box
from pipeline.image.scene import Scene
from pipeline.image.workspace import estimate_box
from pipeline.numerics.parts import parts_of
from pipeline.plan.plan import Plan, patches_with_holes
from pipeline.references.joint import MOST_SETS
from pipeline.selftest.guides import related_pixels
from pipeline.selftest.placing import DEEP_SHARE, MOST_HIDDEN, SHAPES_PER_WINDOW, THIN_SHARE, THIN_WINDOWS
from pipeline.selftest.shapes import Shapes
from pipeline.selftest.windows import PLACEMENTS
from pipeline.system.signals import stop_if_asked

Counts = Mapping[str, float]
"""How much there is to do of each of `cost.SECONDS`."""
_GROWS = {2: 1.0, 3: 1.5}
"""Power of the hidden share of a window that the time of the self-test grows with, by dimensions: splines of a void
took four times as long as those of blobs of which 0.4 times as much was hidden."""
_SAMPLED, _PER_BLOCK = 50, 8
"""Blocks, and patches of each, of which it is looked how much is estimated."""


def survey_counts(scene: Scene, plan: Plan, shapes: Shapes, window: int) -> dict[str, Counts]:
    """Return what the survey does before blocks, stage by stage; `windows`: what is done in those of the self-test."""
    channels, related = len(scene.image.channels), related_bands(scene)
    consulted = likely_consulted(scene)
    looked, weighed = looked_pixels(scene), scene.job.model.traits.weighed
    share = _hidden_share(shapes, window, scene.states.kept / (scene.states.kept + scene.states.holes))
    hidden = weighed * PLACEMENTS * channels * window * share ** _GROWS[scene.ndim]
    return {
        "look": {"look": 1.0, "look value": channels * math.prod(scene.shape)},
        "doubt": {
            "doubt": float(looked > 0),
            "doubt pixel": looked,
            "doubt value": looked * sum(bands_of(scene)),
            "again value": looked * bands_again(scene),
        },
        "test": {
            "test": float(weighed),
            "relation": float(weighed * len(related)),
            "relation band": float(weighed * sum(related)),
            f"relation value {scene.ndim}": float(weighed * sum(related) * related_pixels(scene.shape)),
        },
        "windows": {
            f"test hidden {scene.ndim}": hidden,
            f"networked {scene.ndim}": hidden * (plan.model is not None),
            f"consulted {scene.ndim}": float(weighed * PLACEMENTS * channels * window * consulted),
        },
        "coarse": coarse_counts(scene, plan.guess_factor),
    }


def coarse_counts(scene: Scene, factor: int) -> Counts:
    """Return what the coarse fill does on cells of `factor` pixels, in doubted pixels, too, once they are known."""
    channels, cell = len(scene.image.channels), factor**scene.ndim
    unknowns = (scene.states.holes + scene.states.doubted) * channels / scene.states.n_state
    return {
        "coarse": 1.0,
        "coarse value": channels * math.prod(scene.shape) / cell,
        f"coarse {scene.ndim}": unknowns / cell,
    }


def related_bands(scene: Scene) -> list[int]:
    """Return the number of bands in each relation that is asked, about.

    Several references are asked together; one of them by itself only where it sees what the others do not.
    """
    files = sum(guide.source.n_channels for guide in scene.guides)
    own = len(scene.image.channels) * scene.has_siblings
    return [bands for bands in (files, own) if bands]


def likely_consulted(scene: Scene) -> int:
    """Return how many relations estimates ask, about; see `references.joint.common_sets`.

    A guide with a mask of its own is missing at some holes, and what sees the others is asked together, or by itself.
    """
    masked, n = sum(bool(guide.mask.parts) for guide in scene.guides), len(scene.guides)
    together = sum(math.comb(masked, missing) for missing in range(masked + 1) if n - missing > 1)
    alone = math.comb(masked, n - 1) if n else 0
    return min(together, MOST_SETS) + alone + scene.has_siblings


def _hidden_share(shapes: Shapes, window: int, observed: float) -> float:
    """Return which part of a window of the self-test will be hidden, about; see `selftest.placing.hide`.

    `observed` is the part of it that is observed, which shares of what is hidden are of.
    """
    hidden = 0.0
    if shapes.deep:
        sizes = np.asarray([shape.mask[0].sum() for shape in shapes.deep], dtype=np.float64)
        usual = float((sizes**2).sum() / max(sizes.sum(), 1.0)) / window
        hidden += max(usual, min(SHAPES_PER_WINDOW * float(sizes.mean()) / window, DEEP_SHARE * observed))
    if shapes.thin:
        hidden += THIN_SHARE * observed * (THIN_WINDOWS / PLACEMENTS if shapes.rarely_thin else 1.0)
    return min(hidden, MOST_HIDDEN * observed)


def block_counts(plan: Plan, estimated: float, related: int, hazy: float) -> Counts:
    """Return what blocks do where so many relations are asked; `hazy`: how likely haze was taken off, 0 to 1."""
    return {
        "block": len(plan.blocks),
        f"estimate {plan.ndim}": estimated,
        f"guided {plan.ndim}": estimated * min(related, 1),
        f"besides {plan.ndim}": estimated * max(related - 1, 0),
        "hazy": estimated * hazy,
    }


def file_counts(plan: Plan, values: int) -> Counts:
    """Return what is written of so many pixels times channels."""
    in_blocks = min(values, len(plan.blocks) * math.prod(plan.block) * len(plan.channels))
    return {"files": 1.0, "file value": in_blocks, "moved value": values - in_blocks}


def estimated_values(scene: Scene, plan: Plan) -> tuple[float, float]:
    """Return the pixels times channels that all blocks estimate, and that a network looks at once for that.

    These are windows around the holes of patches, and the parts of them that hold holes.
    """
    blocks = plan.blocks[:: -(-len(plan.blocks) // _SAMPLED) or 1]
    sizes = [size for block in blocks for size in _estimated_pixels(scene, plan, block.index)]
    estimated, seen = np.mean(sizes or [(0, 0)], axis=0) * plan.forwards * len(plan.channels)
    return float(estimated), float(seen)


def _estimated_pixels(scene: Scene, plan: Plan, index: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the pixels that are estimated, and looked at, for some patches of a block."""
    stop_if_asked()
    lattice, image = scene.lattice, scene.image
    start = tuple(i * n for i, n in zip(index, plan.block, strict=True))
    box = Box(start, tuple(a + n for a, n in zip(start, plan.block, strict=True))) & Box.whole(scene.shape)
    patches = list(patches_with_holes(lattice, box, image.holes(box)))
    some = patches[:: -(-len(patches) // _PER_BLOCK) or 1]
    holes = [np.asarray(image.holes(lattice.support(patch)).any(axis=0)) for patch in some]
    return [
        (estimate_box(lattice, patch, hole).size, sum(part.own.size for part in parts_of(hole, len(plan.channels))))
        for patch, hole in zip(some, holes, strict=True)
    ]
