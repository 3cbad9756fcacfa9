"""What all fills share: checks, and the value of pixels that no estimate reaches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window


def check(window: Window, ndim: tuple[int, ...]) -> None:
    """Refuse windows that no fill can work on.

    Raises:
        ValueError: shapes differ, a dimension is unsupported, a spacing is not positive, a pixel is both
            valid and hole, or a channel with holes has neither a valid pixel nor a guess.
    """
    shape = window.values.shape
    if any(part.shape != shape for part in (window.valid, window.hole)) or (
        window.guess is not None and window.guess.shape != shape
    ):
        raise ValueError(
            f"values {shape}, valid {window.valid.shape}, hole {window.hole.shape} and guess differ in shape"
        )
    if len(shape) - 1 not in ndim:
        raise ValueError(f"this fill works in {ndim} spatial dimensions, the window has shape {shape}")
    if len(window.spacing) != len(shape) - 1 or min(window.spacing) <= 0:
        raise ValueError(f"spacing {window.spacing} must be positive, one step per axis of {shape[1:]}")
    if (window.valid & window.hole).any():
        raise ValueError("a pixel cannot be both valid and hole")
    for channel in range(shape[0]):
        if window.guess is None and window.hole[channel].any() and not window.valid[channel].any():
            raise ValueError(
                f"channel {channel} has holes but not one valid pixel: give a guess, widen the window or "
                "choose another fill"
            )


def background(window: Window) -> NDArray[np.float32]:
    """Return a finite `(c, *spatial)` start: observed where valid, else guess, else mean of the valid pixels.

    Pixels that are neither valid nor hole always get the mean (zero without valid pixels): they must carry
    no information.
    """
    axes = tuple(range(1, window.values.ndim))
    total = np.where(window.valid, window.values, 0.0).sum(axis=axes, dtype=np.float64, keepdims=True)
    count = window.valid.sum(axis=axes, keepdims=True)
    result = np.broadcast_to(total / np.maximum(count, 1), window.values.shape).astype(np.float32)
    if window.guess is not None:
        np.copyto(result, window.guess, where=window.hole)
    np.copyto(result, window.values, where=window.valid)
    return result


def box_of(mask: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    """Return slices of the bounding box of a non-empty `mask`, widened by `margin` inside the array."""
    slices = []
    for axis, extent in enumerate(mask.shape):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        found = np.flatnonzero(mask.any(axis=others))
        slices.append(slice(max(0, int(found[0]) - margin), min(extent, int(found[-1]) + 1 + margin)))
    return tuple(slices)
