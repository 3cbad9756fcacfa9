"""How much of what is hidden lies in thin holes: lost pixels and lines, not clouds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.image.scene import Scene
from pipeline.masks.base import FILL
from pipeline.numerics.distance import around, inside
from pipeline.numerics.situation import CORE_REACH, THIN
from pipeline.system.signals import stop_if_asked

_EXTENT = {2: 256, 3: 64}
_WINDOWS = 48
"""Windows that are looked at, at most, spread over those with holes."""


def thin_share(scene: Scene) -> float:
    """Return the share of the hole pixels that lie in thin holes, 0 to 1, as `Situation` tells them."""
    whole = Box.whole(scene.shape)
    boxes = [box for box in whole.tiles((_EXTENT[scene.ndim],) * scene.ndim) if scene.states.near_holes(box)]
    thin = total = 0
    for box in boxes[:: -(-len(boxes) // _WINDOWS) or 1]:
        stop_if_asked()
        wider = box.grow(int(CORE_REACH[1]) + 2) & whole
        for hole in scene.image.states(wider) == FILL:
            own = hole[box.at(of=wider)[1:]]
            total += int(own.sum())
            thin += int((own & ~_deep(hole)[box.at(of=wider)[1:]]).sum())
    return thin / max(total, 1)


def _deep(hole: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the hole pixels that are rather deep than thin, bool `(*spatial)`."""
    if hole.all() or not hole.any():
        return hole
    core = inside(hole) > THIN
    return np.asarray(hole & (around(core, CORE_REACH[1]) <= sum(CORE_REACH) / 2))
