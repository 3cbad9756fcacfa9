"""Trunks as X-ray computed tomography sees them: organs, bones, gas and air in Hounsfield units.

Nothing in them is metal. Attenuations are the round numbers of textbooks; shapes are smooth random bodies, no anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.synthetic.noise import Array, fractal

AIR_HU, LUNG_HU, FAT_HU, WATER_HU, MUSCLE_HU = -1000.0, -820.0, -100.0, 0.0, 55.0
_MARROW_HU, _CORTEX_HU = (120.0, 320.0), (600.0, 1400.0)
_ORGANS_HU = (20.0, 190.0)
"""From unenhanced organs to arterial contrast agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    """A volume in the making: random numbers, attenuations `(z, y, x)`, edge of the voxel, coordinates -1 to 1."""

    rng: np.random.Generator
    hu: Array
    voxel_mm: float
    z: Array
    y: Array
    x: Array

    def smooth(self, longest_mm: float, shortest_mm: float, slope: float = 2.2) -> Array:
        """Return noise of unit deviation with structures between these sizes."""
        longest, shortest = longest_mm / self.voxel_mm, max(2.0, shortest_mm / self.voxel_mm)
        return fractal(self.rng, self.hu.shape, slope=slope, longest=longest, shortest=shortest)

    def bone(self, mask: NDArray[np.bool_]) -> None:
        """Fill a shape with marrow and give it a shell of compact bone."""
        shell = mask & ~ndimage.binary_erosion(mask)
        marrow = self.rng.uniform(*_MARROW_HU) * (1.0 + 0.35 * self.smooth(12, 2, slope=0.6))
        self.hu[mask] = marrow[mask]
        self.hu[shell] = self.rng.uniform(*_CORTEX_HU)


def body_volume(shape: tuple[int, int, int] = (96, 112, 128), seed: int = 0) -> NDArray[np.int16]:
    """Draw a piece of a trunk, feet to head, back to front, left to right; the same arguments give the same bytes.

    Args:
        shape: `(z, y, x)`.
        seed: any non-negative integer; it also decides whether one sees chest or abdomen, how large voxels are
            (1 to 3 mm) and how noisy.

    Returns:
        int16 `(z, y, x)`, Hounsfield units from -1024 to 3071.
    """
    rng = np.random.default_rng([seed, 4])
    grid = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij")
    hu = np.full(shape, AIR_HU, dtype=np.float32)
    draft = _Drawing(rng=rng, hu=hu, voxel_mm=float(rng.uniform(1.0, 3.2)), z=grid[0], y=grid[1], x=grid[2])
    z, y, x = (np.asarray(g + 0.05 * draft.smooth(180, 80), dtype=np.float32) for g in grid)
    draft = replace(draft, z=z, y=y, x=x)
    half = rng.uniform(0.62, 0.8), rng.uniform(0.8, 0.93)
    depth = np.asarray(1.0 - np.hypot(y / half[0], x / half[1]), dtype=np.float32)
    fat = np.float32(rng.uniform(0.06, 0.22)) * (1.0 + 0.35 * draft.smooth(160, 50))
    wall = np.asarray(fat + rng.uniform(0.08, 0.14), dtype=np.float32)
    lean = MUSCLE_HU + 12 * draft.smooth(12, 2, slope=0.8)
    muscle = np.where(np.abs(draft.smooth(36, 5)) < 0.12, FAT_HU, lean)
    septa = FAT_HU + np.where(np.abs(draft.smooth(30, 3)) < 0.04, 70, 0) + 8 * draft.smooth(10, 2, slope=0.8)
    hu[depth > 0] = septa[depth > 0]
    hu[depth > fat] = muscle[depth > fat]
    hu[(depth > 0) & (depth < 0.025)] = WATER_HU + 30
    inside = depth > wall
    hu[inside] = septa[inside]
    _organs(draft, inside)
    if rng.random() < 0.4:
        _lungs(draft, inside)
    _spine(draft, half[0])
    _ribs(draft, depth, wall)
    return _scanned(rng, hu)


def _organs(draft: _Drawing, inside: NDArray[np.bool_]) -> None:
    """Fill the cavity with lobes, vessels in them and in the fat between, and loops of gut with gas."""
    rng, hu = draft.rng, draft.hu
    for _ in range(int(rng.integers(4, 9))):
        lobe = inside & (draft.smooth(rng.uniform(60, 200), rng.uniform(16, 40)) > rng.uniform(0.3, 1.1))
        level = rng.uniform(*_ORGANS_HU)
        texture = level + 10 * draft.smooth(16, 2, slope=0.8)
        hu[lobe] = texture[lobe]
        vessels = lobe & (np.abs(draft.smooth(40, 8)) < 0.06) & (np.abs(draft.smooth(50, 10)) < 0.5)
        hu[vessels] = level + rng.uniform(20, 160)
    between = inside & (hu < -40) & (np.abs(draft.smooth(40, 6)) < 0.08) & (np.abs(draft.smooth(50, 8)) < 0.6)
    hu[between] = rng.uniform(20, 220)
    loops = np.abs(draft.smooth(70, 22)) < rng.uniform(0.2, 0.45)
    part = inside & loops & (draft.smooth(240, 80) > 0.2)
    content = rng.uniform(10, 60) + 25 * draft.smooth(20, 3, slope=1.0)
    hu[part] = content[part]
    gas = part & (ndimage.distance_transform_edt(part) > 1.5) & (draft.smooth(70, 16) > 0.6)
    hu[gas] = AIR_HU + 30


def _lungs(draft: _Drawing, inside: NDArray[np.bool_]) -> None:
    dome = draft.z > draft.rng.uniform(-0.5, 0.4) + 0.15 * draft.smooth(240, 100)
    lung = inside & dome & (np.abs(draft.x) > 0.14 + 0.06 * draft.smooth(120, 40))
    tissue = LUNG_HU + 60 * draft.smooth(20, 2, slope=1.0)
    vessel = (np.abs(draft.smooth(24, 5)) < 0.1) & (np.abs(draft.smooth(34, 6)) < 0.5)
    draft.hu[lung] = np.where(vessel, 30.0, tissue)[lung]


def _spine(draft: _Drawing, half: float) -> None:
    """Set vertebral bodies with discs between them, their canal and spinous processes."""
    z, y, x, rng = draft.z, draft.y, draft.x, draft.rng
    centre = -half * rng.uniform(0.42, 0.55)
    radius = np.hypot((y - centre) / 0.15, x / 0.14)
    beat = np.mod(z * rng.uniform(2.2, 3.6) + rng.uniform(0, 1), 1.0)
    disc = beat < 0.18
    draft.bone((radius < 1) & ~disc)
    draft.hu[(radius < 1) & disc] = 90
    canal = np.hypot((y - centre + 0.21) / 0.06, x / 0.06)
    arch = (canal < 1.7) | ((np.abs(x) < 0.035) & (y < centre - 0.2) & (y > centre - 0.38) & (beat > 0.45))
    draft.bone(arch & (y < centre - 0.08))
    draft.hu[canal < 1] = WATER_HU + 15


def _ribs(draft: _Drawing, depth: Array, wall: Array) -> None:
    slant = draft.z + draft.rng.uniform(0.3, 0.8) * draft.y
    beat = np.abs(np.mod(slant * draft.rng.uniform(2.5, 4.0), 1.0) - 0.5)
    sheet = np.abs(depth - wall + 0.045)
    draft.bone((np.hypot(beat / 0.13, sheet / 0.032) < 1) & (np.abs(draft.x) > 0.12))


def _scanned(rng: np.random.Generator, hu: Array) -> NDArray[np.int16]:
    """Blur by the reconstruction kernel and add its noise, which is smooth along the same lengths."""
    kernel = rng.uniform(0.3, 0.7)
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), kernel)
    noise *= rng.uniform(5, 28) / max(float(noise.std()), 1e-6)
    seen = ndimage.gaussian_filter(hu, kernel) + noise
    return np.asarray(np.clip(np.round(seen), -1024, 3071), dtype=np.int16)
