"""How a stored volume lies in the patient: its axes on those to the right, the front and the head (RAS+).

Canonical order in memory is `(z, y, x)`: z to the head (S), y to the front (A), x to the patient's right (R). For an
oblique volume these are the nearest axes. The algebra is that of `nibabel.orientations`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.geometry.space import Space

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
    turn = Orientation.of(space)
    affine = space.matrix
    # column c of the canonical matrix is the step along x, y, z; its origin is the voxel at canonical (0, 0, 0)
    first = turn.stored_box(Box((0, 0, 0), (1, 1, 1)), space.shape).start
    steps = [affine[:3, 2 - axis] * (-1 if back else 1) for axis, back in zip(turn.axes, turn.backwards, strict=True)]
    origin = affine[:3, :3] @ np.asarray(first[::-1], dtype=np.float64) + affine[:3, 3]
    rows = np.column_stack([*steps[::-1], origin])
    return Space(
        kind="volume",
        shape=turn.canonical_shape(space.shape),
        affine=tuple(rows.ravel().tolist()),
        crs=space.crs,
        units=space.units,
    )


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
