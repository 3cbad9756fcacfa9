"""Trunks as X-ray computed tomography sees them: organs, bones, gas and air in Hounsfield units.

Nothing in them is metal. Attenuations are the round numbers of textbooks; shapes are smooth random bodies, no anatomy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.synthetic.noise import Array, fractal

AIR_HU, LUNG_HU, FAT_HU, WATER_HU, MUSCLE_HU = -1000.0, -820.0, -100.0, 0.0, 55.0
_MARROW_HU, _CORTEX_HU = (120.0, 320.0), (600.0, 1400.0)
_ORGANS_HU = (20.0, 190.0)
"""From unenhanced organs to arterial contrast agent."""


def body_volume(shape: tuple[int, int, int] = (96, 112, 128), seed: int = 0) -> NDArray[np.int16]:
    """Draw a piece of a trunk, feet to head, back to front, left to right; the same arguments give the same bytes.

    Args:
        shape: `(z, y, x)`.
        seed: any non-negative integer; it also decides whether one sees chest or abdomen, the voxel size (1 to
            3 mm) and the dose.

    Returns:
        int16 `(z, y, x)`, Hounsfield units from -1024 to 3071.
    """
    rng = np.random.default_rng([seed, 4])
    grid = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij")
    z, y, x = (np.asarray(g + 0.05 * _smooth(rng, shape, 90, 40), dtype=np.float32) for g in grid)
    half = rng.uniform(0.62, 0.8), rng.uniform(0.8, 0.93)
    depth = 1.0 - np.hypot(y / half[0], x / half[1])
    fat = np.float32(rng.uniform(0.06, 0.22)) * (1.0 + 0.35 * _smooth(rng, shape, 80, 30))
    wall = np.asarray(fat + rng.uniform(0.08, 0.14), dtype=np.float32)
    hu = np.full(shape, AIR_HU, dtype=np.float32)
    hu[depth > 0] = FAT_HU
    marbled = MUSCLE_HU + np.where(_smooth(rng, shape, 20, 5) > 1.1, FAT_HU - MUSCLE_HU, 0)
    hu[depth > fat] = marbled[depth > fat]
    hu[(depth > 0) & (depth < 0.025)] = WATER_HU + 30
    inside = depth > wall
    hu[inside] = FAT_HU
    _organs(rng, hu, inside)
    if rng.random() < 0.4:
        _lungs(rng, hu, inside, x, z)
    _spine(rng, hu, (z, y, x), half[0])
    _ribs(rng, hu, depth, wall, (z, y, x))
    return _scanned(rng, hu)


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], longest: float, shortest: float) -> Array:
    return fractal(rng, shape, slope=2.2, longest=longest, shortest=shortest)


def _organs(rng: np.random.Generator, hu: Array, inside: NDArray[np.bool_]) -> None:
    """Fill the cavity with lobes of constant attenuation, vessels in them, and loops with gas, parted by fat."""
    shape = hu.shape
    for _ in range(int(rng.integers(4, 9))):
        lobe = _smooth(rng, shape, rng.uniform(50, 110), rng.uniform(14, 30)) > rng.uniform(0.3, 1.1)
        level = rng.uniform(*_ORGANS_HU)
        texture = 1.0 + 0.06 * fractal(rng, shape, slope=1.2, longest=24, shortest=2.5)
        hu[lobe & inside] = (level * texture)[lobe & inside]
        vessels = lobe & inside & (np.abs(_smooth(rng, shape, 26, 8)) < 0.08)
        hu[vessels] = level + rng.uniform(20, 160)
    loops = np.abs(_smooth(rng, shape, 34, 14)) < rng.uniform(0.15, 0.35)
    part = inside & loops & (_smooth(rng, shape, 120, 50) > 0.4)
    hu[part] = rng.uniform(10, 60)
    gas = part & (ndimage.distance_transform_edt(part) > 2.0) & (_smooth(rng, shape, 60, 20) > 0.6)
    hu[gas] = AIR_HU + 30


def _lungs(rng: np.random.Generator, hu: Array, inside: NDArray[np.bool_], x: Array, z: Array) -> None:
    shape = hu.shape
    dome = z > rng.uniform(-0.5, 0.4) + 0.15 * _smooth(rng, shape, 120, 50)
    lung = inside & dome & (np.abs(x) > 0.14 + 0.06 * _smooth(rng, shape, 60, 20))
    tissue = LUNG_HU + 60 * fractal(rng, shape, slope=1.0, longest=20, shortest=2.2)
    vessel = (np.abs(_smooth(rng, shape, 16, 5)) < 0.1) & (np.abs(_smooth(rng, shape, 22, 6)) < 0.5)
    hu[lung] = np.where(vessel, 30.0, tissue)[lung]


def _spine(rng: np.random.Generator, hu: Array, grid: tuple[Array, Array, Array], half: float) -> None:
    """Set vertebral bodies with discs between them, their canal and spinous processes."""
    z, y, x = grid
    centre = -half * rng.uniform(0.42, 0.55)
    radius = np.hypot((y - centre) / 0.15, x / 0.14)
    beat = np.mod(z * rng.uniform(2.2, 3.6) + rng.uniform(0, 1), 1.0)
    disc = beat < 0.18
    _bone(rng, hu, (radius < 1) & ~disc)
    hu[(radius < 1) & disc] = 90
    canal = np.hypot((y - centre + 0.21) / 0.06, x / 0.06)
    arch = (canal < 1.7) | ((np.abs(x) < 0.035) & (y < centre - 0.2) & (y > centre - 0.38) & (beat > 0.45))
    _bone(rng, hu, arch & (y < centre - 0.08))
    hu[canal < 1] = WATER_HU + 15


def _ribs(rng: np.random.Generator, hu: Array, depth: Array, wall: Array, grid: tuple[Array, Array, Array]) -> None:
    z, y, x = grid
    slant = z + rng.uniform(0.3, 0.8) * y
    beat = np.abs(np.mod(slant * rng.uniform(2.5, 4.0), 1.0) - 0.5)
    sheet = np.abs(depth - wall + 0.045)
    _bone(rng, hu, (np.hypot(beat / 0.13, sheet / 0.032) < 1) & (np.abs(x) > 0.12))


def _bone(rng: np.random.Generator, hu: Array, mask: NDArray[np.bool_]) -> None:
    """Fill a shape with marrow and give it a shell of compact bone."""
    shell = mask & ~ndimage.binary_erosion(mask)
    marrow = rng.uniform(*_MARROW_HU) * (1.0 + 0.3 * fractal(rng, hu.shape, slope=0.8, longest=12, shortest=2.0))
    hu[mask] = marrow[mask]
    hu[shell] = rng.uniform(*_CORTEX_HU)


def _scanned(rng: np.random.Generator, hu: Array) -> NDArray[np.int16]:
    """Blur by the reconstruction kernel and add its noise, which is smooth along the same lengths."""
    kernel = rng.uniform(0.45, 0.9)
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), kernel)
    noise *= rng.uniform(4, 22) / max(float(noise.std()), 1e-6)
    seen = ndimage.gaussian_filter(hu, kernel) + noise
    return np.asarray(np.clip(np.round(seen), -1024, 3071), dtype=np.int16)
