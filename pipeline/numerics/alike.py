"""Which channels of a window have the same masks, so that work on a mask is done once for all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def alike(*masks: NDArray[np.bool_]) -> list[list[int]]:
    """Return the channels whose masks are all equal, group by group; ascending, groups by their first channel.

    Args:
        masks: bool `(c, *spatial)` each; one plane that is broadcast over the channels is compared with nothing.

    >>> alike(np.array([[True, False], [False, False], [True, False]]))
    [[0, 2], [1]]
    """
    channels = range(len(masks[0]))
    if all(mask.strides[0] == 0 for mask in masks):
        return [list(channels)]
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for channel in channels:
        key = tuple(np.packbits(mask[channel]).tobytes() for mask in masks)
        groups.setdefault(key, []).append(channel)
    return list(groups.values())
