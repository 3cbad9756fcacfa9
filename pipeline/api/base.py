"""What each kind of image in memory can do, and which pixels of an array are marked as holes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError

Keep = Callable[[str, Callable[[Path], None]], Path]
"""Keeps a file of this name that the function writes, and returns where."""


class Kind(Protocol):
    """An image of one kind."""

    def saved(self, keep: Keep, stem: str) -> str:
        """Return the path of the image as a file."""

    def entry(self, holes: Any, keep: Keep) -> dict[str, Any]:
        """Return the mask entry of holes in memory, which lie on the grid of the image."""

    def layer(self, path: Path) -> Any:
        """Return a layer of the result in the kind of the image."""


def hole_mask(holes: Any) -> NDArray[np.bool_]:
    """Return which pixels are holes: as in a mask file, all but 0, NaN and what is masked.

    Raises:
        SourceError: they are no numbers.
    """
    values = holes if isinstance(holes, np.ma.MaskedArray) else np.asarray(holes)
    if values.dtype.kind not in "biuf":
        raise SourceError(f"holes of type {values.dtype} say nothing; give True or a number other than 0 where one is")
    known = ~np.ma.getmaskarray(values)
    plain = np.asarray(values)
    return np.asarray(known & (plain != 0) & ~np.isnan(plain))


def require_shape(holes: NDArray[np.bool_], *shapes: tuple[int, ...]) -> None:
    """Refuse holes whose shape is none of these, of which the first is that of the image.

    Raises:
        SourceError: names both shapes.
    """
    if holes.shape not in shapes:
        last = len(shapes[0]) == holes.ndim + 1 and shapes[0][:-1] == holes.shape
        hint = "; bands come first: `numpy.moveaxis(image, -1, 0)`" if last else ""
        raise SourceError(f"holes of shape {holes.shape} do not fit an image of shape {shapes[0]}{hint}")
