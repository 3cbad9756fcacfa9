"""The other channels of the same image as a reference, where a hole is in some of them only.

A dead detector loses one band, a patient moves at one time point of a series: the other bands and the time points
beside it were there at the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.references.continued import continued
from pipeline.references.estimate import ReferenceFill, reference_fill
from pipeline.references.prediction import Correction, Prediction
from pipeline.references.relation import Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """Which channels tell about one channel, and how they are related to it."""

    channels: tuple[int, ...]
    relation: Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """For every channel what tells about it, best first; part of the plan.

    The second tells where one of the first's channels is not observed either, and so on.
    """

    of: tuple[tuple[Sibling, ...], ...]

    @property
    def every(self) -> list[tuple[int, Sibling]]:
        """Return all of them, each with the channel that it tells about, channel by channel."""
        return [(k, sibling) for k, some in enumerate(self.of) for sibling in some]


def sibling_fill(
    window: Window, siblings: Siblings, base: NDArray[np.float32], beyond: Correction | None = None
) -> ReferenceFill:
    """Estimate the holes of each channel of a window from its siblings.

    Args:
        window: as in `reference_fill`.
        siblings: of its channels.
        base: as there.
        beyond: what the whole image says beside them, `(n, *spatial)` in the order of `Siblings.every`; None = nothing.

    Raises:
        ValueError: the window has other channels.
    """
    corrections = [None if beyond is None else beyond.some([i]) for i in range(len(siblings.every))]
    ends = np.cumsum([len(some) for some in siblings.of])
    parts = [
        _channel_fill(window, k, list(zip(some, corrections[end - len(some) : end], strict=True)), base[k : k + 1])
        for k, (some, end) in enumerate(zip(siblings.of, ends, strict=True))
    ]
    return ReferenceFill(
        values=np.concatenate([p.values for p in parts]),
        usable=np.concatenate([p.usable for p in parts]),
        reliability=np.concatenate([p.reliability for p in parts]),
    )


def _channel_fill(
    window: Window, k: int, siblings: Sequence[tuple[Sibling, Correction | None]], base: NDArray[np.float32]
) -> ReferenceFill:
    """Return what siblings say about channel `k`, `(1, *spatial)`; where one ends the next goes on without a seam."""
    one = slice(k, k + 1)
    alone = replace(
        window,
        values=window.values[one],
        valid=window.valid[one],
        hole=window.hole[one],
        guess=None if window.guess is None else window.guess[one],
    )
    nothing = np.zeros_like(base)
    values = np.where(alone.valid, alone.values, base)
    result = ReferenceFill(values=values, usable=np.zeros_like(alone.hole), reliability=nothing)
    if not alone.hole.any():
        return result
    for sibling, beyond in reversed(siblings):
        others = list(sibling.channels)
        values, valid = window.values[others], window.valid[others]
        predicted = None
        if beyond is not None:
            predicted = replace(Prediction.of(sibling.relation, values, valid, window.spacing), beyond=beyond)
        own = np.where(alone.hole, result.values, base)
        better = reference_fill(alone, values, valid, sibling.relation, own, predicted=predicted)
        said = better.values
        if result.usable.any():
            followed = own + continued(said - own, better.usable, alone)
            said = np.where(alone.hole & ~better.usable, followed, said)
        result = ReferenceFill(
            values=said,
            usable=better.usable | result.usable,
            reliability=np.where(better.usable, better.reliability, result.reliability),
        )
    return result
