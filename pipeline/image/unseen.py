"""Say which references and auxiliaries show hardly anything of what is to be restored: they lead hardly anywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.image.open import OpenGuide
from pipeline.image.scene import Scene
from pipeline.masks.base import KEEP

_LEAST = 0.1
"""Share of the pixels to restore from which nothing is said."""

_EDGE = {2: 512, 3: 64}
"""Edge of the windows that are looked at, by dimension."""

_LOOKS = 8
"""Number of these windows."""


def unseen_notices(scene: Scene) -> list[str]:
    """Return what the user should know of guides that their own masks or missing values hide at the holes."""
    looks = _windows(scene)
    said = []
    for ref, guide in zip(scene.job.guides, scene.guides, strict=True):
        counts = np.sum([_seen(guide, box, hole) for box, hole in looks], axis=0) if looks else np.zeros(2)
        seen, total = (int(n) for n in counts)
        if total and seen < _LEAST * total:
            shown = f"{100 * seen / total:.2g} % of" if seen else "nothing of"
            name = f"{ref.role} {guide.source.paths[0]}"
            hidden = f"it shows {shown} what is to be restored, as its own mask or missing values hide the rest"
            if ref.role == "auxiliary":
                # a lesion lies in all contrasts of a head
                said.append(f"{name}: {hidden}. Right for a lesion that is in both; else see its `mask:`")
            else:
                said.append(f"WARNING: {name}: {hidden}. Look at its `mask:`, or give a date that shows more")
    return said


def _windows(scene: Scene) -> list[tuple[Box, NDArray[np.bool_]]]:
    """Return windows with holes, spread over the image, and the pixels that are holes of any channel."""
    some = scene.states.spread_over_holes(scene.shape, _EDGE[scene.ndim], _LOOKS)
    return [(box, np.asarray(scene.image.holes(box).any(axis=0))) for box in some]


def _seen(guide: OpenGuide, box: Box, hole: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many hole pixels of a window a guide shows, and how many there are."""
    there = np.asarray((guide.mask.read(box) == KEEP).all(axis=0))
    if guide.source.dtype.kind == "f":
        there &= np.isfinite(guide.source.read(box)).all(axis=0)
    return int((there & hole).sum()), int(hole.sum())
