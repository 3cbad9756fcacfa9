"""Do the numbers of a reference lie a thousand off those of the image? So do those of two Sentinel-2 conventions.

Since processing baseline 04.00 the numbers of a product are 1000 higher than those of an older one of the same ground.
Metadata that say so are lost when bands are stacked, and some catalogs have them wrong. The seasons change bands unlike
one another: the same step in every band is none of theirs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.image.open import OpenGuide
from pipeline.image.scene import Scene
from pipeline.masks.base import KEEP

_STEP, _NEAR = 1000.0, 150.0
"""Numbers; and how far the step of a band may be from that."""
_LOOKS, _EDGE = 3, 64
"""Windows along each axis, and their edge in pixels."""
_ENOUGH = 400
"""Pixels that both show."""


def level_notices(scene: Scene) -> list[str]:
    """Return a warning for each reference whose numbers are about 1000 above or below the image's in every band.

    Reads some windows of image and references; nothing of volumes, and of images without 16 bits.
    """
    source = scene.source
    if source.space.kind != "raster" or source.dtype.kind not in "iu" or source.dtype.itemsize < 2:
        return []
    wanted = [
        k
        for k, (ref, guide) in enumerate(zip(scene.job.guides, scene.guides, strict=True))
        if ref.role == "reference" and guide.source.n_channels == len(scene.image.channels) > 1
    ]
    steps = _steps(scene, wanted) if wanted else {}
    return [_said(scene.guides[k], step) for k, step in steps.items()]


def _said(guide: OpenGuide, step: float) -> str:
    before = guide.shift[0] if guide.shift else 0.0
    added = f", although {before:+g} was added to them" if before else ""
    right = before - (_STEP if step > 0 else -_STEP)
    return (
        f"WARNING: reference {guide.source.paths[0]}: its numbers lie about {abs(step):.0f} "
        f"{'below' if step < 0 else 'above'} those of the image in every band{added}. If both are of Sentinel-2, one "
        "follows the convention before processing baseline 04.00 and the other that since then, no metadata say so: "
        f"write `shift: {right:g}` on the entry of this reference"
    )


def _steps(scene: Scene, guides: list[int]) -> dict[int, float]:
    """Return the common step of each guide that has one, in numbers of the image."""
    found: dict[int, list[NDArray[np.float32]]] = {k: [] for k in guides}
    for box in _boxes(scene.shape):
        pixels = scene.image.read(box)
        kept = (pixels.states == KEEP).all(axis=0)
        for k in guides:
            guide, seen = pixels.guides[k], kept & pixels.guides[k].valid.all(axis=0)
            found[k].append((guide.values - pixels.values)[:, seen])
    steps = {}
    for k, differences in found.items():
        apart = np.concatenate(differences, axis=1)
        if apart.shape[1] < _ENOUGH:
            continue
        middles = np.median(apart, axis=1) + np.subtract(scene.guides[k].centre or 0.0, scene.image.centre)
        step = float(np.median(middles))
        if abs(abs(step) - _STEP) <= _NEAR and (np.abs(middles - step) <= _NEAR).all():
            steps[k] = step
    return steps


def _boxes(shape: tuple[int, ...]) -> list[Box]:
    """Return windows spread over the image; they may meet, but do not overlap."""
    starts = [sorted({n * k // _LOOKS // _EDGE * _EDGE for k in range(_LOOKS)}) for n in shape]
    whole = Box.whole(shape)
    return [Box((row, col), (row + _EDGE, col + _EDGE)) & whole for row in starts[0] for col in starts[1]]
