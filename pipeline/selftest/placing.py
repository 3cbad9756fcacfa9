"""Hide observed pixels in the shapes of an image's own holes, where such holes could have been.

Deep holes are moved one by one, to where they overlap real ones least; those at an image edge stay at an edge, for
extrapolating is another task than interpolating. Thin ones (dead pixels, lines, lost slices) are laid over the window
as they are and thinned out, so that what is hidden has about the surroundings of a real hole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_cdt, find_objects, label

from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.numerics.alike import alike
from pipeline.numerics.distance import inside
from pipeline.restore.task import Guide, Task
from pipeline.selftest.crowded import THIN, WIDE, clear_of, of_one_channel, share_lost
from pipeline.selftest.shapes import CLEAR, Mask, Shape, Shapes, Sides, of_single_channels, steps_apart, tells
from pipeline.selftest.windows import apart
from pipeline.system.threads import each

_PLACES = 16
"""Places that are tried for a wide hole; the best one is taken."""

SHAPES_PER_WINDOW = 12
"""Wide holes that are tried in a window until enough is hidden."""

DEEP_SHARE = 0.12
"""Share of a window's observed pixels above which no more wide holes are hidden."""

MOST_HIDDEN = 0.6
"""Share of a window's observed pixels that wide holes never exceed."""

_WORST_PLACE = 0.4
"""Share of a wide hole that must fall on observed pixels clear of other holes."""

THIN_SHARE = 0.12
"""Share of a window's observed pixels that is to be hidden in thin holes; half of it will do."""

_TRIES = 16
"""Patterns of thin holes that are laid until so much is hidden; from then on `_MIN_HIDDEN` pixels will do. As many more
are passed over if no piece of them is clear, of single channels no line or slice; of a volume, what has been hidden by
then is enough, and of single channels the first pattern that is not clear: more would lie side by side."""

_MOST_LAYERS = 256
"""Patterns of thin holes that are laid at most: single dead pixels take many until there are enough to count on."""

THIN_WINDOWS = 2
"""Windows that thin holes are hidden in where they are rare: the first that are looked at."""

_MIN_HIDDEN = 64
"""Hidden pixels below which a window tests nothing and is left out."""

_LARGE = 30
"""Pixels from which a piece of a thin hole (a line, a slice) is kept clear of real holes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One window with pseudo-holes on observed pixels."""

    task: Task
    """The window as a block would see it, pseudo-holes marked as holes."""
    truth: NDArray[np.float32]
    """`(c, *spatial)`, what was there, data units; in real holes a plain fill, or the mean of what is observed if they
    are `concerned` in all tests of the window."""
    hidden: Mask
    """`(c, *spatial)`, the pseudo-holes."""
    concerned: Mask
    """`(c, *spatial)`, hole pixels whose fill depends on what is hidden; the others keep theirs."""
    start: tuple[int, ...]
    """First pixel of the window in the image."""


def place(
    read: Callable[[Box], tuple[Window, tuple[Guide, ...]]],
    windows: Sequence[Box],
    shapes: Shapes,
    plain: Callable[[Window], NDArray[np.float32]],
    seed: int,
) -> list[Placement]:
    """Cut the windows and hide observed pixels in them; windows with fewer than 64 hidden pixels are left out.

    Args:
        read: gives a window and what the guides show there.
        windows: where; the same one may come several times.
        shapes: what to hide.
        plain: fill of the real holes that some test leaves as they are.
        seed: of all random draws.
    """
    rng = np.random.default_rng(seed)
    seen = {box: read(box) for box in dict.fromkeys(windows)}
    before: dict[Box, list[Mask]] = {box: [] for box, (window, _) in seen.items() if _seen_everywhere(window)}
    laid: list[tuple[Box, Mask, Mask]] = []
    first = apart(len(windows))[:THIN_WINDOWS]
    for k, box in enumerate(windows):
        if box not in before:
            continue
        window, _ = seen[box]
        some = replace(shapes, thin=()) if shapes.rarely_thin and k not in first else shapes
        hidden = _new(window, some, before[box], rng)
        if hidden.sum() >= _MIN_HIDDEN and _seen_everywhere(replace(window, valid=window.valid & ~hidden)):
            laid.append((box, hidden, _concerned(window.hole | hidden, hidden)))
    spared = {box: np.zeros_like(seen[box][0].hole) for box, _, _ in laid}
    for box, _, concerned in laid:
        spared[box] |= seen[box][0].hole & ~concerned
    truths = dict(
        zip(spared, each(plain, [replace(seen[box][0], hole=hole) for box, hole in spared.items()]), strict=True)
    )
    placed = []
    for box, hidden, concerned in laid:
        window, guides = seen[box]
        valid = window.valid & ~hidden
        values = np.where(valid, window.values, np.float32(0))
        tested = replace(window, values=values, valid=valid, hole=window.hole | hidden)
        task = Task(window=tested, guides=guides, patch=min(box.shape))
        placed.append(Placement(task=task, truth=truths[box], hidden=hidden, concerned=concerned, start=box.start))
    return placed


def _new(window: Window, shapes: Shapes, before: list[Mask], rng: np.random.Generator) -> Mask:
    """Return what to hide in a window, bool `(c, *spatial)`: if holes fit in one place only, pixels beside them next.

    A hole along an edge of the image, from end to end, does; were it deeper, it would have those beside it. Then both
    come again in turn: the network is tested on another channel each time. Volumes are as they were: this was not
    measured there.

    `before` holds what was hidden in this window, the longest ago first; it is added to, or put in order again.
    """
    hidden = hide(window, shapes, rng)
    image = len(window.spacing) == 2
    if image and hidden.sum() >= _MIN_HIDDEN and any(np.array_equal(hidden, one) for one in before):
        beside = window.valid & (inside(np.asarray(~window.hole.any(axis=0))) <= shapes.depth)
        hidden = beside & ~np.any(before, axis=0)
        if not _MIN_HIDDEN <= hidden.sum() <= MOST_HIDDEN * window.valid.sum():
            before.append(before.pop(0))
            return before[-1]
    before.append(hidden)
    return hidden


def _seen_everywhere(window: Window) -> bool:
    """Return True if every channel with holes has observed pixels, too."""
    axes = tuple(range(1, window.hole.ndim))
    return bool((window.valid.any(axis=axes) | ~window.hole.any(axis=axes)).all())


def _concerned(hole: Mask, hidden: Mask) -> Mask:
    """Return the hole pixels in parts with hidden ones; the spline does not couple parts more than two steps apart."""
    result = np.zeros_like(hole)
    for channels in alike(hole, hidden):
        c = channels[0]
        labels, count = label(binary_dilation(hole[c]))
        wanted = np.zeros(count + 1, dtype=np.bool_)
        wanted[labels[hidden[c]]] = True
        wanted[0] = False
        result[channels] = wanted[labels] & hole[c]
    return result


def hide(window: Window, shapes: Shapes, rng: np.random.Generator) -> Mask:
    """Return observed pixels of a window to hide, in the shapes of the image's own holes, bool `(c, *spatial)`."""
    hidden = np.zeros(window.valid.shape, dtype=np.bool_)
    lost = share_lost(window)
    observed = max(int(window.valid.sum()), 1)
    for deep in (shapes.deep, shapes.bare):
        if deep and hidden.sum() <= DEEP_SHARE * observed:
            hidden = _hide_deep(deep, window, hidden, rng, dense=lost > WIDE)
    if shapes.thin:
        apart = lost <= THIN and of_single_channels(shapes.thin)
        hidden |= _sprinkle(shapes, window, hidden, rng, apart=apart)
    return hidden


def _hide_deep(shapes: Sequence[Shape], window: Window, hidden: Mask, rng: np.random.Generator, *, dense: bool) -> Mask:
    """Return what is hidden with wide holes of some shapes added: of one channel at a time where these are `dense`.

    It ends when that is enough or no more can be laid.
    """
    observed = max(int(window.valid.sum()), 1)
    sides = tuple((not a, not b) for a, b in window.open_edges) or ((True, True),) * len(window.spacing)
    sizes = np.asarray([shape.mask.sum() for shape in shapes], dtype=np.float64)
    alone = dense and of_single_channels([shape.mask for shape in shapes])
    free: Mask | None = None
    for attempt in range(SHAPES_PER_WINDOW * (len(hidden) if alone else 1)):
        # first a hole as a typical pixel sees it (a large one), then any
        chance = sizes / sizes.sum() if attempt == 0 else None
        shape = shapes[int(rng.choice(len(sizes), p=chance))]
        shape = of_one_channel(shape, rng) if alone else shape
        if alone or free is None:
            free = window.valid & clear_of(window.hole | hidden, shape if alone else None)
        layer = _lay(shape, window.valid, free, sides, rng)
        if layer is not None and not dense and of_single_channels([shape.mask]):
            layer &= ~(window.hole | hidden).any(axis=0)
        if layer is not None and (hidden | layer).sum() <= MOST_HIDDEN * observed:
            hidden, free = hidden | layer, None
        if hidden.sum() > DEEP_SHARE * observed:
            break
    return hidden


def _lay(shape: Shape, valid: Mask, free: Mask, sides: Sides, rng: np.random.Generator) -> Mask | None:
    """Lay a shape where most of it falls on observed pixels clear of other holes; None if no such place was found."""
    best, best_share = None, _WORST_PLACE
    for _ in range(_PLACES):
        laid = _moved(shape, valid.shape, sides, rng)
        if laid is None:
            continue
        share = float((laid & free).sum()) / max(int(laid.sum()), 1)
        if share > best_share:
            best, best_share = laid & valid, share
        if share == 1.0:
            break
    return best


def _moved(shape: Shape, full: tuple[int, ...], sides: Sides, rng: np.random.Generator) -> Mask | None:
    mask = shape.mask
    slots: list[slice] = [slice(None)]
    for axis, n in enumerate(full[1:]):
        extent = mask.shape[axis + 1]
        low, high = shape.edge[axis]
        if low != high:
            # an edge hole stays at an edge, of either side
            possible = [s for s in (0, 1) if sides[axis][s]]
            if not possible:
                return None
            side = int(rng.choice(possible))
            if side != int(high):
                mask = np.flip(mask, axis=axis + 1)
            start = 0 if side == 0 else n - min(extent, n)
        else:
            if rng.random() < 0.5:
                mask = np.flip(mask, axis=axis + 1)
            room = max(n - extent, 0)
            margin = min(CLEAR, room // 2)
            start = margin + int(rng.integers(room - 2 * margin + 1))
        if extent > n:
            first = int(rng.integers(extent - n + 1)) if low == high else (0 if start == 0 else extent - n)
            mask = np.take(mask, range(first, first + n), axis=axis + 1)
        slots.append(slice(start, start + min(extent, n)))
    result = np.zeros((mask.shape[0], *full[1:]), dtype=np.bool_)
    result[tuple(slots)] = mask
    return np.broadcast_to(result, full)


def _sprinkle(shapes: Shapes, window: Window, hidden: Mask, rng: np.random.Generator, *, apart: bool) -> Mask:
    """Lay a thin pattern over the window, in several places until enough is hidden, and thin it out.

    With `apart` no pixel is hidden in a channel where another one has a hole, unless the pattern has both. Whole pieces
    of it (lines, slices) or single pixels (of dense dead ones) are kept, whichever lie as far from observed pixels as
    those of real thin holes.
    """
    free = window.valid & ~hidden
    if apart:
        free = free & ~(window.hole | hidden).any(axis=0)
    goal = THIN_SHARE * max(int(window.valid.sum()), 1)
    taken = np.asarray(window.hole.any(axis=0) | hidden.any(axis=0))
    result, offered = np.zeros_like(hidden), np.zeros_like(hidden)
    apart_from: NDArray[np.integer] | None = None
    reaches, passed, told = steps_apart(shapes), 0, 0
    for attempt in range(_MOST_LAYERS):
        pattern = shapes.thin[int(rng.integers(len(shapes.thin)))]
        layer = _rolled(pattern, hidden.shape, rng) & free & ~(offered.any(axis=0) if apart else result)
        labels, count = label(layer.any(axis=0), np.ones((3,) * len(window.spacing)))
        if not count:
            continue
        size = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        reach = (*reaches, 0)[min(passed // _TRIES, len(reaches))]
        order = rng.permutation(count)
        clear, large = order, size >= _LARGE
        if large.any():
            apart_from = _chessboard(taken) if apart_from is None else apart_from
            clear = order[~large[order] | (_clearance(labels, apart_from, tells(window, labels, large))[order] > reach)]
        if reach and not (large[clear].any() if apart and large.any() else clear.size):
            passed += 1
            if passed % _TRIES == 0 and len(reaches) > 1 and told >= _MIN_HIDDEN:
                break
            continue
        offered |= layer
        order = clear if clear.size else order
        keep = np.zeros(count + 1, dtype=np.bool_)
        room = goal - result.sum()
        per_channel = max(1, int(layer.sum()) // max(1, int(size.sum())))
        keep[order[: max(1, int(np.searchsorted(np.cumsum(size[order]) * per_channel, room)))] + 1] = True
        added = layer & keep[labels]
        result |= added
        told += int(added.sum()) * bool(large.any() or not apart)
        taken, apart_from = taken | added.any(axis=0), None
        enough = _MIN_HIDDEN if attempt >= _TRIES + passed or (apart and not reach) else 0.5 * goal
        if result.sum() >= enough:
            break
    chance = result.sum() / max(int(offered.sum()), 1)
    single = offered & (rng.random(hidden.shape[1:]) < chance)
    return min((result, single), key=lambda some: abs(_mean_distance(window, some) - shapes.thin_distance))


def _chessboard(taken: Mask) -> NDArray[np.integer]:
    """Return how many steps each pixel keeps from what is taken, `(*spatial)`."""
    if not taken.any():
        return np.full(taken.shape, max(taken.shape))
    return np.asarray(distance_transform_cdt(~taken, "chessboard"))


def _clearance(labels: NDArray[np.integer], apart: NDArray[np.integer], some: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many steps some pieces of `labels` keep from what is taken (`_chessboard`) and from the ends.

    It is 0 for the others.

    An end counts as taken where a piece lies along it; lines and slices that reach from end to end cross it.
    """
    steps, boxes = np.zeros(len(some), dtype=np.int64), find_objects(labels)
    for k in np.flatnonzero(some):
        box = boxes[k]
        inside = [
            min(part.start, n - part.stop) + 1
            for part, n in zip(box, labels.shape, strict=True)
            if 2 * (part.stop - part.start) < n
        ]
        steps[k] = min([int(apart[box][labels[box] == k + 1].min()), *inside])
    return steps


def _mean_distance(window: Window, hidden: Mask) -> float:
    """Return how far hidden pixels lie from observed ones of their channel on average, infinite without any."""
    sampling = [s / min(window.spacing) for s in window.spacing]
    distances: list[NDArray[np.float64]] = []
    for c, where in enumerate(hidden):
        left = window.valid[c] & ~where
        same = c > 0 and np.array_equal(where, hidden[c - 1]) and np.array_equal(window.valid[c], window.valid[c - 1])
        if not same and where.any() and left.any():
            distances.append(inside(~left, sampling)[where])
    return float(np.concatenate(distances).mean()) if distances else np.inf


def _rolled(pattern: Mask, full: tuple[int, ...], rng: np.random.Generator) -> Mask:
    """Flip and roll a pattern at random and cut or repeat it to `full`; never rotate: stripes keep their axis."""
    for axis, n in enumerate(full[1:], start=1):
        if rng.random() < 0.5:
            pattern = np.flip(pattern, axis=axis)
        pattern = np.roll(pattern, int(rng.integers(pattern.shape[axis])), axis=axis)
        if pattern.shape[axis] != n:
            pattern = np.take(pattern, np.arange(n) % pattern.shape[axis], axis=axis)
    return np.broadcast_to(pattern, full)
