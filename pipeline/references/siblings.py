"""The other channels of the same image as a reference, where a hole is in some of them only.

A dead detector loses one band, a patient moves at one time point of a series: the other bands and the time points
beside it were there at the same place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.references.estimate import ReferenceFill, reference_fill
from pipeline.references.relation import Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """Which channels tell about one channel, and how they are related to it."""

    channels: tuple[int, ...]
    relation: Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """For every channel the channels that tell about it, None where there are none; part of the plan."""

    of: tuple[Sibling | None, ...]


def sibling_fill(window: Window, siblings: Siblings, base: NDArray[np.float32]) -> ReferenceFill:
    """Estimate the holes of each channel of a window from its siblings.

    Raises:
        ValueError: the window has other channels.
    """
    parts = []
    for k, sibling in enumerate(siblings.of):
        one = slice(k, k + 1)
        if sibling is None or not window.hole[k].any():
            nothing = np.zeros_like(base[one])
            values = np.where(window.valid[one], window.values[one], base[one])
            unusable = np.zeros(nothing.shape, dtype=np.bool_)
            parts.append(ReferenceFill(values=values, usable=unusable, trust=nothing, reliability=nothing))
            continue
        alone = replace(
            window,
            values=window.values[one],
            valid=window.valid[one],
            hole=window.hole[one],
            guess=None if window.guess is None else window.guess[one],
        )
        others = list(sibling.channels)
        parts.append(reference_fill(alone, window.values[others], window.valid[others], sibling.relation, base[one]))
    return ReferenceFill(
        values=np.concatenate([p.values for p in parts]),
        usable=np.concatenate([p.usable for p in parts]),
        trust=np.concatenate([p.trust for p in parts]),
        reliability=np.concatenate([p.reliability for p in parts]),
    )
