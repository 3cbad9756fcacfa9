"""Where index meets world: shape + affine + reference system as one immutable value.

Raster: `affine` is the 2-D pixel-corner matrix `(a, b, c, d, e, f)` from (col, row) to (x, y) in CRS units.
Volume: `affine` holds the first three rows of the 4x4 voxel-centre matrix (i, j, k) -> RAS+ mm, row by row.
`shape` is in memory order in both cases: `(y, x)` or `(z, y, x)`; volumes are stored (i, j, k) and transposed
once, so `shape == (k, j, i)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box

METRES_PER_DEGREE = 40_007_863.0 / 360.0
"""Of latitude, on average: the circumference of the WGS 84 meridian."""
ROUNDED = 0.05
"""Share of a pixel by which programs move a grid when they write its numbers anew. Nothing is interpolated for it: no
voxel is taken for another, and a T2 that far off tells 0.003 dB less of a T1."""
SAME = 1e-3
"""Share of a pixel below which a shift is not worth a word."""
NOWHERE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""What a raster file without a place is read with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Grid of one image.

    Attributes:
        kind: `raster` (2-D, Earth observation) or `volume` (3-D, medical).
        shape: spatial extent in pixels or voxels, `(y, x)` or `(z, y, x)`.
        affine: 6 numbers (raster) or 12 numbers (volume), row-major, index to world.
        crs: WKT of the coordinate system; empty if the file has none. Volumes: the `RAS+` convention.
        units: world units (`m`, `ft`, `us-ft`, `km`, `deg`, `mm`, ..., `unknown`).
    """

    kind: Literal["raster", "volume"]
    shape: tuple[int, ...]
    affine: tuple[float, ...]
    crs: str = ""
    units: str = "unknown"

    @property
    def ndim(self) -> int:
        """2 for rasters, 3 for volumes."""
        return len(self.shape)

    @property
    def unit(self) -> str:
        """What one value of the grid is called: `pixel`, in volumes `voxel`."""
        return "voxel" if self.kind == "volume" else "pixel"

    @property
    def spacing(self) -> tuple[float, ...]:
        """Step per axis in memory order, in world units (`mm` for volumes, CRS units for rasters)."""
        if self.kind == "raster":
            a, b, _, d, e, _ = self.affine
            return (math.hypot(b, e), math.hypot(a, d))
        columns = [math.sqrt(sum(self.affine[4 * r + c] ** 2 for r in range(3))) for c in range(3)]
        return tuple(reversed(columns))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The 4x4 matrix of a volume, (i, j, k, 1) -> (x, y, z, 1)."""
        return np.vstack([np.reshape(self.affine, (3, 4)), (0, 0, 0, 1)])

    @property
    def axis_codes(self) -> str:
        """Where the axes i, j, k of a volume point, and how far off they are: `LAS`, or `PIR, oblique by 12.3°`."""
        from nibabel.orientations import aff2axcodes

        codes = "".join(code or "?" for code in aff2axcodes(self.matrix))
        nearest = np.abs(self.matrix[:3, :3] / self.spacing[::-1]).max(axis=1).min()
        angle = math.degrees(math.acos(min(1.0, float(nearest))))
        return f"{codes}, oblique by {angle:.1f}°" if round(angle, 1) else codes

    def part(self, box: Box) -> Space:
        """Return the grid of a part of the image; without a place in the world a part of a raster has none either."""
        if self.kind == "raster" and self.affine == NOWHERE:
            return replace(self, shape=box.shape)
        rows = np.reshape(self.affine, (self.ndim, -1)).tolist()
        moved = [[*steps, sum(s * n for s, n in zip(steps, box.start[::-1], strict=True)) + at] for *steps, at in rows]
        return replace(self, shape=box.shape, affine=tuple(v for row in moved for v in row))

    def mismatch(self, other: Space, *, tolerance: float = SAME) -> str:
        """Say in one line how `other` lies on another grid; empty string if it is the same.

        `tolerance` is how far corners may lie apart, in the shortest step. The same numbers in two reference systems
        are two places; where one of the two has none, the numbers decide.
        """
        if self.shape != other.shape:
            return f"shape {self.shape} against {other.shape}"
        if self.crs and other.crs and not same_crs(self.crs, other.crs):
            return f"reference system {_crs_name(self.crs)} against {_crs_name(other.crs)}"
        return self._apart(other) if self.offset(other) > tolerance else ""

    def _apart(self, other: Space) -> str:
        width = len(self.affine) // self.ndim
        ours, theirs = (np.reshape(space.affine, (self.ndim, width)) for space in (self, other))
        if np.allclose(ours[:, :-1], theirs[:, :-1], rtol=1e-9, atol=0):
            distance = math.hypot(*(ours - theirs)[:, -1])
            return f"origins {_digits(distance)}{'' if self.units == 'unknown' else ' ' + self.units} apart"
        if self.kind == "volume" and self.axis_codes != other.axis_codes:
            return f"voxel axes {self.axis_codes} against {other.axis_codes}"
        return f"affine {_short(self.affine)} against {_short(other.affine)}"

    def offset(self, other: Space) -> float:
        """Return how far corners of another image of the same shape lie off at most, in the shortest step."""
        rows = np.reshape(self.affine, (self.ndim, -1)) - np.reshape(other.affine, (self.ndim, -1))
        # those of a raster are corners of pixels, those of a volume centres of voxels
        last = 0 if self.kind == "raster" else 1
        ends = np.meshgrid(*((0, n - last) for n in reversed(self.shape)), indexing="ij")
        corners = np.stack([*map(np.ravel, ends), np.ones(2**self.ndim)])
        return float(np.linalg.norm(rows @ corners, axis=0).max()) / (min(self.spacing) or 1.0)

    def offset_text(self, other: Space) -> str:
        """Say in words that `other`, which counts as the same grid, lies a little off; empty if not worth a word."""
        share = self.offset(other)
        return (
            f"lies off the image's grid by up to {share:.1g} of a {self.unit}; taken {self.unit} by {self.unit}"
            if share > SAME
            else ""
        )

    def far(self, pixels: float) -> str:
        """Return a distance in words: pixels, and its length along the finest axis where the grid has a unit.

        Degrees are told as metres in the middle of the image.
        """
        step, unit = min(self.spacing), self.units
        if unit == "deg" and self.kind == "raster":
            rows, cols = self.shape
            latitude = self.affine[3] * cols / 2 + self.affine[4] * rows / 2 + self.affine[5]
            up, across = self.spacing
            step, unit = min(up, across * abs(math.cos(math.radians(latitude)))) * METRES_PER_DEGREE, "m"
        return f"{pixels:.0f} px" + ("" if unit == "unknown" else f" ({_digits(pixels * step)} {unit})")

    def describe(self) -> str:
        """One line for messages: shape, spacing, origin, reference system (of a volume: where its axes point)."""
        origin = (self.affine[2], self.affine[5]) if self.kind == "raster" else self.affine[3::4]
        name = f"voxel axes {self.axis_codes}" if self.kind == "volume" else _crs_name(self.crs)
        turned = self._turned if self.kind == "raster" else ""
        return f"shape {self.shape}, step {_short(self.spacing)} {self.units}, origin {_short(origin)}, {turned}{name}"

    @property
    def _turned(self) -> str:
        """How a raster lies if its rows do not run south and its columns east: `rows run north, `."""
        a, b, _, d, e, _ = self.affine
        if not self.crs:
            return ""
        if b or d:
            return f"rotated by {math.degrees(math.atan2(d, a)):.3g}°, "
        return ("rows run north, " if e > 0 else "") + ("columns run west, " if a < 0 else "")


def index_to_world(space: Space) -> NDArray[np.float64]:
    """Return the homogeneous matrix `(n + 1, n + 1)` from index in memory order (pixel centres) to the world."""
    if space.kind == "raster":
        a, b, c, d, e, f = space.affine
        # corner affine in (col, row) -> centre matrix in (row, col)
        return np.array([[b, a, c + (a + b) / 2], [e, d, f + (d + e) / 2], [0.0, 0.0, 1.0]])
    return space.matrix[:, [2, 1, 0, 3]]


def same_crs(a: str, b: str) -> bool:
    """Return True if two WKT texts describe one reference system, whatever words they use for it."""
    if a == b:
        return True
    if not a or not b:
        return False
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        one, other = CRS.from_wkt(a), CRS.from_wkt(b)
        code = one.to_epsg()
        return bool(one == other or (code is not None and code == other.to_epsg()))
    except CRSError:
        return False


def _crs_name(wkt: str) -> str:
    return wkt.split('"')[1] if '"' in wkt else (wkt or "no CRS")


def _digits(length: float) -> str:
    return f"{length:,.0f}" if length >= 1000 else f"{length:.3g}"


def _short(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{v:.6g}" for v in numbers) + ")"
