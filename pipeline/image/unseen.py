"""Say which references and auxiliaries show hardly anything of what is to be restored: they lead hardly anywhere.

One that was blanked with a number at the same pixels seems to show them all, and leads astray: no pixel that can be
hidden looks like those.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from pipeline.geometry.box import Box
from pipeline.image.open import OpenGuide, computable
from pipeline.image.scene import Scene
from pipeline.masks.base import KEEP

_LEAST = 0.1
"""Share of the pixels to restore from which nothing is said."""

_BLANK, _USUAL = 0.9, 0.05
"""Share of the pixels to restore that one value has where they were blanked, and which it does not have around."""

_AROUND, _FEWEST = 3, 30
"""How far around holes is, in pixels, and pixels from which shares are told."""

_EDGE = {2: 512, 3: 64}
"""Edge of the windows that are looked at, by dimension."""

_LOOKS = 8
"""Number of these windows."""


def unseen_notices(scene: Scene) -> list[str]:
    """Return what the user should know of guides that are hidden at the holes, or hold one number there."""
    looks = _windows(scene)
    said = []
    for ref, guide in zip(scene.job.guides, scene.guides, strict=True):
        name = f"{ref.role} {guide.source.paths[0]}"
        counts = np.sum([_seen(guide, box, hole) for box, hole in looks], axis=0) if looks else np.zeros(2)
        seen, total = (int(n) for n in counts)
        if total and seen < _LEAST * total:
            shown = f"{100 * seen / total:.2g} % of" if seen else "nothing of"
            hidden = f"it shows {shown} what is to be restored, as its own mask or missing values hide the rest"
            if ref.role == "auxiliary":
                # a lesion lies in all contrasts of a head
                said.append(f"{name}: {hidden}. Right for a lesion that is in both; else see its `mask:`")
            else:
                said.append(f"WARNING: {name}: {hidden}. Look at its `mask:`, or give a date that shows more")
        elif looks and (blank := _blank(guide, looks)):
            share, value = blank
            said.append(
                f"WARNING: {name}: {100 * share:.3g} % of what is to be restored is exactly {value:.17g} in it, and "
                "hardly anything around, as if the same pixels had been blanked there: holes would be filled by that. "
                f"If so, write `nodata: {value:.17g}` on its entry"
            )
    return said


def _windows(scene: Scene) -> list[tuple[Box, NDArray[np.bool_]]]:
    """Return windows with holes, spread over the image, and the pixels that are holes of any channel."""
    some = scene.states.spread_over_holes(scene.shape, _EDGE[scene.ndim], _LOOKS)
    return [(box, np.asarray(scene.image.holes(box).any(axis=0))) for box in some]


def _blank(guide: OpenGuide, looks: list[tuple[Box, NDArray[np.bool_]]]) -> tuple[float, float] | None:
    """Return the share of hole pixels that have one value which hardly any around has, and that value; else None."""
    inside: list[NDArray[Any]] = []
    around: list[NDArray[Any]] = []
    for box, hole in looks:
        there, values = np.asarray((guide.mask.read(box) == KEEP).all(axis=0)), guide.source.read(box)
        rim = binary_dilation(hole, iterations=_AROUND) & ~hole
        inside.append(values[:, hole & there])
        around.append(values[:, rim & there])
    for hidden, beside in zip(np.concatenate(inside, axis=1), np.concatenate(around, axis=1), strict=True):
        if min(hidden.size, beside.size) < _FEWEST:
            continue
        values, counts = np.unique(hidden, return_counts=True)
        value, share = values[counts.argmax()], counts.max() / hidden.size
        if share >= _BLANK and (beside == value).mean() <= _USUAL:
            return float(share), float(value)
    return None


def _seen(guide: OpenGuide, box: Box, hole: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many hole pixels of a window a guide shows, and how many there are."""
    there = np.asarray((guide.mask.read(box) == KEEP).all(axis=0))
    if guide.source.dtype.kind == "f":
        there &= computable(guide.source.read(box)).all(axis=0)
    return int((there & hole).sum()), int(hole.sum())
