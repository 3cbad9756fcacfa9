"""What a mask promises.

A mask module (its file name is the `kind`) offers a frozen pydantic `Options` model whose `kind` is a `Literal`
of the module name, and::

    def open_mask(options: Options, source: Source, resolve: Callable[[str], str]) -> Mask

`resolve` turns a path of the config into an absolute one (relative paths are relative to the config file).
The three states of a pixel are named here and nowhere else.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.geometry.box import Box

KEEP, FILL, NEVER = 0, 1, 2
"""Observed and trusted / a hole to be restored / outside the image content, must never be touched."""


class MaskOptions(BaseModel):
    """Options common to all masks.

    `buffer` widens the holes: `3 px` (pixels or voxels, in every direction) or a length such as `60 m`, `2 mm`.
    `invert` swaps hole and kept pixels before the buffer is applied; never-touch pixels stay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    buffer: str = Field(default="0 px", description="Widen the holes: '3 px', '60 m', '2 mm'.")
    invert: bool = Field(default=False, description="Swap hole and kept pixels (before the buffer).")


class Mask(Protocol):
    """Says for every pixel of a source which of the three states it has. Picklable, thread-safe, deterministic."""

    notices: tuple[str, ...]
    """Facts the user should know, e.g. that the mask was warped to the image grid."""

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return KEEP/FILL/NEVER for `box`, shape `(1, *box.shape)` or `(c, *box.shape)`."""
        ...


State = Literal[0, 1, 2]
