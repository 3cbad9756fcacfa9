"""Look at a few small pieces of an image, where all of it would be too much."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pipeline.formats.base import Source
from pipeline.geometry.box import Box

_AT, _EDGE = (0.25, 0.5, 0.75), 64
"""Where on the diagonal they lie, and how large they are along each axis, pixels."""


def pieces(source: Source) -> list[NDArray[Any]]:
    """Return stored values of three pieces on the diagonal of an image, each `(c, *spatial)`; smaller at its edges."""
    shape, read = source.space.shape, []
    for share in _AT:
        start = tuple(max(0, int(share * n) - _EDGE // 2) for n in shape)
        read.append(source.read(Box(start, tuple(a + _EDGE for a in start)) & Box.whole(shape)))
    return read
