"""Does what is dark lie where what is bright would cast its shadow? There is one sun: all shadows are displaced alike.

Ground beside holes may be bright here and dark there by chance. But only shadows repeat the pattern of the clouds, in
one direction and, as clouds of one image are about as high, at one distance (by which masks match shadows to clouds:
Zhu & Woodcock 2012, doi:10.1016/j.rse.2011.10.028). So the dark pattern is laid over the bright one at every
displacement at once, by Fourier transform. How well patterns agree that have nothing to do with each other is what the
mirrored bright one shows. Both are looked at without what is broader than scraps of cloud: fields are.

Clouds that a mask names cast shadows that it does not, if it knows of clouds alone: what is bright is then the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from pipeline.evidence.tile import LARGEST, displaced

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

_STRIDE = 2
"""Every so many pixels of a window are looked at; what is looked for is smooth."""

_BROAD = 8.0
"""Deviation of the Gaussian of what is taken off before patterns are compared, pixels."""

_NEAREST, _FARTHEST = 6.0, 48.0
"""Displacements that are looked at, pixels: nearer ones are the dark rims of bright fields."""

_REACH = int(_FARTHEST) // _STRIDE

_AWAY = np.hypot(*np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1]) * _STRIDE
_STEPS = (_AWAY >= _NEAREST) & (_AWAY <= _FARTHEST)
"""Displacements that are looked at, of all in a square."""

_MEET = 0.2
"""Share of the largest overlap of both patterns below which they are not compared: few pixels agree by chance."""

_INSETS = (0.0, 4.0, 8.0)
"""Pixels by which holes are narrowed before they are compared: a mask with a buffer is wider than its clouds, and these
are what casts shadows."""

_SURE, _BEST = 5.0, 1.3
"""Deviations by which what is dark must follow the holes, and times the best agreement with mirrored holes."""

_DARK = 1.0
"""Deviations of the ground by which most of what lies in these shadows must be darker than the rest: all clouds cast
shadows, but one dark field agrees with one hole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """A window as shadows are looked for in it.

    Attributes:
        bright: how much brighter than clear ground, in its deviations, `(rows, cols)`; what is below 0 counts as 0.
        dark: the same for what is darker.
        told: bool `(rows, cols)`, where both are known.
    """

    bright: Field
    dark: Field
    told: Mask


def followed(windows: Sequence[Patterns]) -> float:
    """Return how well the dark pattern follows the bright one at its best displacement, beside what chance gives.

    In standard deviations of the agreement with mirrored patterns, over displacements; the best of those is about 3.
    0 if nothing can be compared.

    Args:
        windows: of one image; the displacement is common to all. Those below 96 px in one direction say nothing: they
            leave few pixels to compare at most displacements.
    """
    own, *_ = _mirrored([(_fine(w.bright, w.told), _fine(w.dark, w.told)) for w in _large(windows)])
    return float(own.max())


def step_of_shadows(windows: Sequence[Patterns]) -> tuple[int, int] | None:
    """Return by how many rows and columns shadows of what the holes hide are displaced; None if there is no proof.

    As `followed`, but for the holes themselves: what is dark lies where their clouds cast shadows. Small holes are few
    patterns, and mirrored ones may agree as well, so that the best of them must be exceeded, too; and most of what lies
    in the shadows must be dark. Where the holes as they are prove nothing, they are narrowed.

    Args:
        windows: of one image; `bright` is what is hidden, 0 or 1, and known everywhere.
    """
    dark = [_fine(w.dark, w.told) for w in _large(windows)]
    for inset in _INSETS:
        step = _step([_narrowed(window, inset) for window in windows], dark)
        if step is not None:
            return step
    return None


def _narrowed(window: Patterns, inset: float) -> Patterns:
    """Return a window with holes narrower by some pixels; at its edges they go on, as clouds do."""
    if not inset:
        return window
    hole = np.pad(window.bright > 0, 1, mode="edge")
    deep = ndimage.distance_transform_edt(hole)[1:-1, 1:-1] > inset
    return replace(window, bright=deep.astype(np.float64))


def _step(windows: Sequence[Patterns], dark: Sequence[Field]) -> tuple[int, int] | None:
    """Return the step that is proved by windows, of the large ones of which the dark pattern is `_fine`."""
    bright = [_fine(w.bright, np.ones_like(w.told)) for w in _large(windows)]
    own, *others = _mirrored(list(zip(bright, dark, strict=True)))
    best = float(own.max())
    if best < max(_SURE, _BEST * max(float(other.max()) for other in others)):
        return None
    row, col = np.argwhere(_STEPS)[int(own.argmax())]
    step = int(row - _REACH) * _STRIDE, int(col - _REACH) * _STRIDE
    cast = [np.where(w.told, displaced(ndimage.label(w.bright > 0)[0], step), 0) for w in windows]
    rest = np.concatenate([w.dark[w.told & (labels == 0)] for w, labels in zip(windows, cast, strict=True)])
    below = np.concatenate([w.dark[labels > 0] for w, labels in zip(windows, cast, strict=True)])
    if not below.size or not rest.size:
        return None
    # narrowed, one large hole may be more than all others together, so holes have a say as pixels have
    each = np.concatenate([_medians(w.dark, labels) for w, labels in zip(windows, cast, strict=True)])
    return step if min(np.median(below), np.median(each)) - np.median(rest) >= _DARK else None


def _medians(values: Field, labels: NDArray[np.intp]) -> Field:
    """Return the median of the values under each label but 0, `(n,)`."""
    found = np.unique(labels[labels > 0])
    return np.asarray(ndimage.median(values, labels, found), dtype=np.float64).reshape(found.size)


def _large(windows: Sequence[Patterns]) -> list[Patterns]:
    return [w for w in windows if min(w.told.shape) >= 2 * _FARTHEST]


def _mirrored(fine: Sequence[tuple[Field, Field]]) -> list[Field]:
    """Return the agreement of patterns at all `_STEPS`, and with each mirrored one, in deviations of the latter."""
    own, *others = (
        _agreement([(bright[::rows, ::cols], dark) for bright, dark in fine])[_STEPS]
        for rows, cols in product((1, -1), repeat=2)
    )
    spread = float(np.std(others))
    return [part / spread if spread > 0 else np.zeros_like(part) for part in (own, *others)]


def _agreement(windows: Sequence[tuple[Field, Field]]) -> Field:
    """Return sums of bright times dark for all displacements up to `_REACH`, over their deviation for random signs."""
    size = 2 * _REACH + 1
    sums = np.zeros((2, size, size))
    for bright, dark in windows:
        # zeros beside a window keep what leaves it on one side from entering on the other
        shape = [fft.next_fast_len(n + _REACH, real=True) for n in bright.shape]
        for k, power in enumerate((1, 2)):
            both = fft.rfft2(dark**power, shape) * np.conj(fft.rfft2(bright**power, shape))
            sums[k] += np.roll(fft.irfft2(both, shape), (_REACH, _REACH), axis=(0, 1))[:size, :size]
    least = max(_MEET * float(sums[1].max()), 1e-9)
    return np.where(sums[1] >= least, sums[0] / np.sqrt(np.maximum(sums[1], least)), 0.0)


def _fine(values: Field, told: Mask) -> Field:
    """Return every `_STRIDE`th pixel of a pattern without what is broad, 0 where it is not told."""
    values = np.clip(values, 0.0, LARGEST)
    broad = ndimage.gaussian_filter(np.where(told, values, 0.0), _BROAD)
    if not told.all():
        broad /= np.maximum(ndimage.gaussian_filter(told.astype(np.float64), _BROAD), 1e-3)
    return np.where(told, values - broad, 0.0)[::_STRIDE, ::_STRIDE]
