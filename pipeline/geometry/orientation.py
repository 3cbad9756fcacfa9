"""How a stored volume lies in the patient: its axes on those to the right, the front and the head (RAS+).

Canonical order in memory is `(z, y, x)`: z to the head (S), y to the front (A), x to the patient's right (R). For an
oblique volume these are the nearest axes. The algebra is that of `nibabel.orientations`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.geometry.space import NOWHERE, ROUNDED, Space, index_to_world, same_crs

ENDS = (("I", "S"), ("P", "A"), ("L", "R"))
"""Letters at the beginning and the end of each canonical axis."""

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Orientation:
    """How to turn arrays `(..., *stored)` into `(..., z, y, x)` and back, without computing on values.

    Attributes:
        axes: the stored axis that is nearest to canonical z, y, x; of a raster its own axes.
        backwards: True where that axis runs the other way.
    """

    axes: tuple[int, ...]
    backwards: tuple[bool, ...]

    @classmethod
    def none(cls, ndim: int) -> Orientation:
        """Return the orientation that changes nothing."""
        return cls(tuple(range(ndim)), (False,) * ndim)

    @classmethod
    def of(cls, space: Space) -> Orientation:
        """Return how the volume `space` lies; of a raster, and of axes that lie in one plane: as stored."""
        from nibabel.orientations import io_orientation

        found = io_orientation(space.matrix) if space.kind == "volume" else np.full((3, 2), np.nan)
        if np.isnan(found).any():
            return cls.none(space.ndim)
        # nibabel counts i, j, k and x, y, z; memory has them the other way round
        rows = {2 - int(world): (2 - axis, bool(sign < 0)) for axis, (world, sign) in enumerate(found)}
        return cls(tuple(rows[c][0] for c in range(3)), tuple(rows[c][1] for c in range(3)))

    @classmethod
    def between(cls, space: Space, target: Space) -> Orientation | None:
        """Return how to turn arrays on `space` so that they lie on `target`; None where that takes more than a turn.

        The pixels of both are then the same ones, but for rounding (`ROUNDED`): axes are named in another order, or
        counted from the other end. `canonical` turns arrays, `stored_box` finds a box of `target` in `space`.
        """
        unlike = space.crs and target.crs and not same_crs(space.crs, target.crs)
        if unlike or space.kind != target.kind or sorted(space.shape) != sorted(target.shape):
            return None
        try:
            steps = np.linalg.solve(index_to_world(space), index_to_world(target))[:-1, :-1]
        except np.linalg.LinAlgError:
            return None
        whole = np.rint(steps)
        if not (np.abs(whole).sum(axis=0) == 1).all() or not (np.abs(whole).sum(axis=1) == 1).all():
            return None
        axes = tuple(int(np.flatnonzero(column)[0]) for column in whole.T)
        turn = cls(axes, tuple(bool(whole[axis, at] < 0) for at, axis in enumerate(axes)))
        if turn.changes and NOWHERE in (space.affine, target.affine):
            # a raster file without a place does not say which way its rows run
            return None
        return None if target.mismatch(turned_space(space, turn), tolerance=ROUNDED) else turn

    @property
    def changes(self) -> bool:
        """True if it turns anything."""
        return self != Orientation.none(len(self.axes))

    def canonical(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return `(..., *stored)` as a view `(..., *canonical)`."""
        lead = values.ndim - len(self.axes)
        turned = values.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return np.flip(turned, self._flipped(lead))

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return `(..., *canonical)` as a view `(..., *stored)`: the inverse of `canonical`."""
        lead = values.ndim - len(self.axes)
        straight = np.flip(values, self._flipped(lead))
        return straight.transpose(*range(lead), *(lead + int(axis) for axis in np.argsort(self.axes)))

    def _flipped(self, lead: int) -> tuple[int, ...]:
        return tuple(lead + axis for axis, back in enumerate(self.backwards) if back)

    def canonical_shape(self, shape: tuple[Number, ...]) -> tuple[Number, ...]:
        """Return stored extents or steps, one number an axis, in canonical order."""
        return tuple(shape[axis] for axis in self.axes)

    def stored_shape(self, shape: tuple[Number, ...]) -> tuple[Number, ...]:
        """Return canonical extents or steps, one number an axis, in stored order."""
        return tuple(shape[self.axes.index(axis)] for axis in range(len(shape)))

    def canonical_box(self, box: Box, shape: tuple[int, ...]) -> Box:
        """Return where a box of the stored image of extent `shape` lies in the canonical one."""
        turned = Box(self.canonical_shape(box.start), self.canonical_shape(box.stop))
        return _mirrored(turned, self.canonical_shape(shape), self.backwards)

    def stored_box(self, box: Box, shape: tuple[int, ...]) -> Box:
        """Return where a box of the canonical image lies in the stored one, of extent `shape`."""
        straight = _mirrored(box, self.canonical_shape(shape), self.backwards)
        return Box(self.stored_shape(straight.start), self.stored_shape(straight.stop))


def canonical_space(space: Space) -> Space:
    """Return the grid of the volume `space` after `Orientation.of(space).canonical`: same voxels, same places."""
    return turned_space(space, Orientation.of(space))


def turned_space(space: Space, turn: Orientation) -> Space:
    """Return the grid of an image on `space` after `turn.canonical`: same pixels, same places."""
    rows = np.reshape(space.affine, (space.ndim, -1))
    # column c of the turned matrix is the step along its axis c; a pixel of a raster starts at its corner, so that of
    # an axis that is turned round lies one further than its index
    first = turn.stored_box(Box((0,) * space.ndim, (1,) * space.ndim), space.shape)
    ends = first.start if space.kind == "volume" else _ends(first, turn)
    last = space.ndim - 1
    steps = [rows[:, last - axis] * (-1 if back else 1) for axis, back in zip(turn.axes, turn.backwards, strict=True)]
    origin = rows[:, :-1] @ np.asarray(ends[::-1], dtype=np.float64) + rows[:, -1]
    affine = tuple(np.column_stack([*steps[::-1], origin]).ravel().tolist())
    return replace(space, shape=turn.canonical_shape(space.shape), affine=affine)


def _ends(first: Box, turn: Orientation) -> tuple[int, ...]:
    """Return the outer corner of the pixel that is first after a turn, in stored order."""
    backwards = dict(zip(turn.axes, turn.backwards, strict=True))
    return tuple(b if backwards[axis] else a for axis, (a, b) in enumerate(zip(first.start, first.stop, strict=True)))


def coarsest_axis(space: Space) -> int:
    """Return the canonical axis of the largest steps of a volume, z of equal ones: a plane across it shows most."""
    steps = Orientation.of(space).canonical_shape(space.spacing)
    return max(range(3), key=lambda axis: (round(steps[axis] / min(steps), 2), -axis))


def tilts(space: Space) -> tuple[float, float, float]:
    """Return the angles in degrees between the volume's axes and z, y, x; below 55, because each takes the nearest."""
    rows = np.reshape(canonical_space(space).affine, (3, 4))[:, :3]
    cosines = np.clip(np.abs(np.diag(rows)) / np.linalg.norm(rows, axis=0), 0, 1)
    x, y, z = (math.degrees(math.acos(c)) for c in cosines)
    return z, y, x


def _mirrored(box: Box, shape: tuple[int, ...], backwards: tuple[bool, ...]) -> Box:
    ends = [
        (n - b, n - a) if back else (a, b) for a, b, n, back in zip(box.start, box.stop, shape, backwards, strict=True)
    ]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
