"""Patches that touch holes, and the largest windows that they are estimated from."""

from __future__ import annotations

import numpy as np

from pipeline.geometry.box import Box
from pipeline.image.scene import Scene
from pipeline.image.workspace import estimate_box
from pipeline.numerics.parts import parts_of
from pipeline.plan.plan import Plan, patches_with_holes
from pipeline.system.signals import stop_if_asked


def largest_windows(scene: Scene, plan: Plan) -> tuple[int, int]:
    """Return the pixels of the largest window that a patch is estimated from, and that a network looks at of one."""
    largest = np.zeros(2, dtype=np.int64)
    for index in touched_patches(scene):
        stop_if_asked()
        hole = np.asarray(scene.image.holes(scene.lattice.support(index)).any(axis=0))
        seen = [part.own.size for part in parts_of(hole, len(plan.channels))]
        largest = np.maximum(largest, (estimate_box(scene.lattice, index, hole).size, max(seen, default=0)))
    return int(largest[0]), int(largest[1])


def touched_patches(scene: Scene) -> list[tuple[int, ...]]:
    """Return the patches of the whole lattice that touch a hole: what one block the size of the image would run."""
    lattice = scene.lattice
    touched = np.zeros(lattice.counts, dtype=np.bool_)
    for box in Box.whole(lattice.shape).tiles(scene.image.state.chunks[1:]):
        stop_if_asked()
        if not scene.states.near_holes(box):
            continue
        hole = scene.image.holes(box)
        for index in patches_with_holes(lattice, box, hole):
            touched[index] = True
    return [tuple(map(int, index)) for index in np.argwhere(touched)]
