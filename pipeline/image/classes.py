"""Do the whole numbers of an image name things (kinds of cover, parts of a brain) instead of measuring something?

Between two classes there is no third, so what lies between their codes is nonsense. A colour table or an intent code
says so; where nothing does, the values show it: pixels of a class lie together as those of flat ground do, but beside
them is any other class, where a measured quantity would have to pass through the levels between. Of hardly any values
no order could be told, and none is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.image.scan import StateScan
from pipeline.image.window import OpenImage
from pipeline.masks.base import KEEP
from pipeline.numerics.replicated import pixel_size
from pipeline.plan.job import Job

LIKE_CODES = "the values look like codes of classes"
"""What the notice says, and judgements look for in a record."""
_LOOKS, _EDGE = 8, {2: 192, 3: 48}
"""Windows with holes that are looked at, and their edge in pixels, by dimensions."""
_FEWEST, _MOST = 4, 1000
"""Frequent values from which an order could be told, and most values that classes have."""
_SO_FEW = 5
"""Values up to which an image whose pixels lie together names things, in order or not: tissues, a mask of clouds."""
_FREQUENT = 50
"""Pixels from which a value says how its pixels lie."""
_BORDERS = 300
"""Pairs of unlike neighbours from which these say something."""
_TOGETHER = 0.5
"""Share of the neighbours of a typical value that have it, too, beyond what chance gives, from which its pixels lie
together."""
_UNORDERED = 0.6
"""Share of unlike neighbours that skip a value, and how far apart they lie in the order of values, over those of
random pairs, from which that order means nothing."""


def class_notices(image: OpenImage, states: StateScan, job: Job) -> list[str]:
    """Return what the user should know of channels whose values look like codes of classes.

    Nothing if the nearest observed pixel is copied as it is, which is what such an image wants. Reads some windows, one
    if its values are too many to be codes.
    """
    fill = job.model.fill
    found = _class_channels(image, states)
    if not found or (fill is not None and fill.kind == "nearest" and not job.guides):
        return []
    names = [image.source.channel_names[image.channels[c]] for c in found]
    return [
        f"WARNING: {'channel' if len(names) == 1 else 'channels'} {', '.join(names)}: {LIKE_CODES}: "
        "few whole numbers that lie in patches. They are restored as numbers all the same, and what lies "
        "between two codes is another one or none. If they name things, `model: {kind: nearest}` copies the class of "
        "the nearest observed pixel; leave out references then, and do not use the standard errors"
    ]


def _class_channels(image: OpenImage, states: StateScan) -> list[int]:
    """Return the positions of the restored channels whose values look like codes of classes."""
    left = list(range(len(image.channels)))
    pieces: list[list[NDArray[np.float64]]] = [[] for _ in left]
    for box in states.spread_over_holes(image.shape, _EDGE[len(image.shape)], _LOOKS):
        stored = image.source.read(box)[list(image.channels)].astype(np.float64)
        seen = np.where(image.states(box) == KEEP, stored, np.nan)
        for c in left:
            pieces[c].append(seen[c])
        left = [c for c in left if len(_levels(pieces[c][-1:])) <= _MOST]
        if not left:
            break
    return [c for c in left if are_classes(pieces[c])]


def are_classes(pieces: Sequence[NDArray[np.floating]]) -> bool:
    """Say whether values look like codes of classes.

    Args:
        pieces: windows `(*spatial)`; NaN = not observed.
    """
    levels = _levels(pieces)
    if len(levels) > _MOST or (levels != np.rint(levels)).any():
        return False
    if not len(levels) or levels[-1] - levels[0] < 2:
        # of no values, one or two that follow one another no mean is another code
        return False
    first, second = _neighbours(pieces, levels)
    count = np.bincount(np.concatenate([first, second]), minlength=len(levels))
    frequent = count >= 2 * _FREQUENT
    unlike = first != second
    so_few = len(levels) <= _SO_FEW
    if frequent.sum() < (1 if so_few else _FEWEST) or unlike.sum() < _BORDERS:
        return False
    alike = 2 * np.bincount(first[~unlike], minlength=len(levels))[frequent] / count[frequent]
    chance = count[frequent] / count.sum()
    if np.median((alike - chance) / (1 - chance)) < _TOGETHER:
        return False
    return so_few or min(_disorder(first[unlike], second[unlike], len(levels))) >= _UNORDERED


def _levels(pieces: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Return the different observed values, ascending."""
    values = [np.unique(piece[np.isfinite(piece)]) for piece in pieces]
    return np.unique(np.concatenate([*values, np.empty(0)]))


def _disorder(first: NDArray[np.intp], second: NDArray[np.intp], n_levels: int) -> tuple[float, float]:
    """Return how often unlike neighbours skip a level, and how many levels lie between, over those of random pairs."""
    share = np.bincount(np.concatenate([first, second]), minlength=n_levels) / (2 * len(first))
    apart = np.abs(np.subtract.outer(np.arange(n_levels), np.arange(n_levels)))
    chance = np.outer(share, share) * (apart > 0)
    chance /= chance.sum()
    steps = np.abs(first - second)
    skipped = float((chance * (apart > 1)).sum())
    return float((steps > 1).mean()) / max(skipped, 1e-9), float(steps.mean()) / float((chance * apart).sum())


def _neighbours(
    pieces: Sequence[NDArray[np.floating]], levels: NDArray[np.floating]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the levels of all pairs of neighbours; of pixels that were repeated, every n-th along an axis counts."""
    pairs = []
    for piece in pieces:
        steps = [max(1, round(size)) for size in pixel_size(piece)]
        thinned = piece[tuple(slice(step // 2, None, step) for step in steps)]
        for axis in range(piece.ndim):
            line = np.moveaxis(thinned, axis, 0)
            both = np.isfinite(line[1:]) & np.isfinite(line[:-1])
            pairs.append(np.stack([line[:-1][both], line[1:][both]]))
    first, second = np.searchsorted(levels, np.concatenate(pairs, axis=1))
    return first, second
