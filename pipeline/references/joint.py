"""Several guides at once: one relation of all their bands, where all of them see.

One after the other, a guide only finds what those before it left. Two contrasts that tell tissues apart only together,
or the visible bands of a date in one file and the infrared ones in another, are worth more in one relation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.references.align import aligned
from pipeline.references.relation import Relation
from pipeline.references.siblings import Siblings

_COMMON = 0.1
"""Share of the hole pixels that are seen by just these guides from which the guides have a relation of their own."""

MOST_SETS = 3
"""Such relations, at most."""

MOST_BANDS = 48
"""Bands of all guides in one relation, at most: those of the first guides in the order of the config."""

MaskedBands = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""What a guide shows in a window, `(bands, *spatial)`, and where it is valid, `(1 | bands, *spatial)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """How several guides together are related to the image; part of the plan.

    Attributes:
        guides: their numbers, ascending.
        offsets: misregistration of each, as `Relation.offset`.
        relation: of all their bands, one guide after the other; without an offset of its own.
        leader: number of the guide that alone explains nearly as much, None if there is none.
    """

    guides: tuple[int, ...]
    offsets: tuple[tuple[float, ...], ...]
    relation: Relation
    leader: int | None = None


AnyRelation = Relation | Siblings | Joint | None


def guides_of(relations: Sequence[AnyRelation]) -> list[tuple[int, ...]]:
    """Return the numbers of the guides that each relation is about.

    Joint ones come first and name theirs; the others follow, one for each guide.
    """
    first = sum(isinstance(relation, Joint) for relation in relations)
    return [r.guides if isinstance(r, Joint) else (k - first,) for k, r in enumerate(relations)]


def stacked(guides: Sequence[MaskedBands], offsets: Sequence[Sequence[float]]) -> MaskedBands:
    """Return the bands of several guides at their places, and where all of them are seen, `(1, *spatial)`."""
    parts = []
    for (values, valid), offset in zip(guides, offsets, strict=True):
        seen = np.asarray(valid.all(axis=0)) & np.isfinite(values).all(axis=0)
        parts.append(aligned(values, seen, offset))
    both = np.asarray(np.all([seen for _, seen in parts], axis=0))
    return np.concatenate([values for values, _ in parts]), both[None]


def common_sets(seen: NDArray[np.bool_], bands: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the sets of two and more guides that deserve a relation, the largest first.

    Args:
        seen: `(guides, n)`, which guides see each of some hole pixels.
        bands: of each guide.
    """
    patterns, counts = np.unique(seen.T, axis=0, return_counts=True)
    found: dict[tuple[int, ...], int] = {}
    for pattern, count in zip(patterns, counts, strict=True):
        numbers = np.flatnonzero(pattern)
        few = numbers[np.cumsum(np.asarray(bands)[numbers]) <= MOST_BANDS]
        some = tuple(int(k) for k in few)
        found[some] = found.get(some, 0) + int(count)
    enough = [some for some, count in found.items() if len(some) > 1 and count >= _COMMON * seen.shape[1]]
    frequent = sorted(enough, key=lambda some: (-found[some], some))[:MOST_SETS]
    return sorted(frequent, key=lambda some: (-len(some), some))
