"""Heads as magnetic resonance sees them: labels with folded cortex, a contrast, bias field, Rician noise.

With a random contrast a volume resembles no sequence in particular, which is how networks learn anatomy
rather than brightness (domain randomisation, Billot et al., SynthSeg, Medical Image Analysis 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.synthetic.noise import Array, fractal

AIR, SCALP, MUSCLE, SKULL, CSF, GREY, WHITE, NUCLEI, EYE = range(9)
# Round numbers of a T1-weighted gradient echo at 3 T, in the order of the labels.
_T1 = np.array([0, 900, 430, 70, 170, 500, 720, 590, 190], dtype=np.float32)
_BRAIN_MM = np.array([68.0, 84.0, 66.0], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrainVolume:
    """One head; all arrays have shape `(z, y, x)`: feet to head, back to front, left to right.

    Attributes:
        image: int16, the volume as it came from the scanner, spoilt where `artefact` is set.
        truth: int16, the same without the artefacts.
        artefact: bool, blobs and one lost axial slice.
        labels: uint8 tissue of each voxel: AIR, SCALP, MUSCLE, SKULL, CSF, GREY, WHITE, NUCLEI or EYE.
        spacing_mm: edge of the (cubic) voxel.
    """

    image: NDArray[np.int16]
    truth: NDArray[np.int16]
    artefact: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    spacing_mm: float


def brain_volume(shape: tuple[int, int, int] = (96, 112, 96), seed: int = 0, *, contrast: str = "t1") -> BrainVolume:
    """Draw a head that fills the volume; the same arguments give the same bytes.

    Args:
        shape: `(z, y, x)`; the voxel size follows from it, 1.9 mm for the default.
        seed: any non-negative integer.
        contrast: `t1`, or `random` for intensities drawn anew for every tissue.
    """
    rng = np.random.default_rng([seed, 3])
    spacing = float(max(164.0 / shape[0], 204.0 / shape[1], 170.0 / shape[2]))
    labels = _labels(rng, shape, spacing)
    means = _T1 if contrast == "t1" else _random_contrast(rng)
    truth = _scan(rng, labels, means)
    artefact = _artefacts(rng, labels, spacing)
    image = np.where(artefact, _spoilt(rng, truth), truth).astype(np.int16)
    return BrainVolume(image=image, truth=truth, artefact=artefact, labels=labels, spacing_mm=spacing)


def _labels(rng: np.random.Generator, shape: tuple[int, int, int], spacing: float) -> NDArray[np.uint8]:
    grid = np.meshgrid(*[(np.arange(n, dtype=np.float32) - (n - 1) / 2) * spacing for n in shape], indexing="ij")
    warped = [g + 2.5 * _noise(rng, shape, 140 / spacing, 80 / spacing, slope=2.5) for g in grid]
    z, y, x = warped[0] - 8.0, warped[1], warped[2]
    half = _BRAIN_MM * rng.uniform(0.93, 1.04, 3).astype(np.float32)
    flat = np.where(z < 0, 0.62, 1.0)
    cerebrum = _depth(z / flat, y, x, half)
    cerebellum = _depth(z + 46, y + 46, np.abs(x) - 14, np.array([24, 30, 36], np.float32))
    stem = np.where((z < -30) & (z > -90), 13.0 - np.hypot(y + 18, x), -50.0)
    brain = np.maximum(np.maximum(cerebrum, cerebellum), stem)
    head = np.maximum(_depth(z + 4, y, x, half + np.array([17, 15, 14], np.float32)), _neck(z, y, x))
    labels = np.full(shape, AIR, dtype=np.uint8)
    rough = 1.2 * _noise(rng, shape, 40 / spacing, 8 / spacing)
    labels[head + rough > 0] = SCALP
    labels[(head + rough > 4.5) & (_noise(rng, shape, 30 / spacing, 6 / spacing) - z / 60 > 0.4)] = MUSCLE
    labels[brain > -8.5] = SKULL
    labels[brain > -3.0 - 0.4 * rough] = CSF
    _eyes(labels, z, y, x)
    inside = brain > 0
    labels[inside] = _cortex(rng, inside, cerebrum, cerebellum, x, spacing)[inside]
    _deep(labels, rng.uniform(0.8, 1.5), z, y, x)
    return labels


def _noise(
    rng: np.random.Generator, shape: tuple[int, ...], longest: float, shortest: float, slope: float = 1.6
) -> Array:
    return fractal(rng, shape, slope=slope, longest=longest, shortest=max(2.0, shortest))


def _depth(z: Array, y: Array, x: Array, half: Array) -> Array:
    """Return roughly the depth in mm below the surface of an ellipsoid with these half axes."""
    radius = np.sqrt((z / half[0]) ** 2 + (y / half[1]) ** 2 + (x / half[2]) ** 2)
    return np.asarray((1.0 - radius) * float(half.mean()), dtype=np.float32)


def _neck(z: Array, y: Array, x: Array) -> Array:
    face = _depth(z + 55, y - 42, x, np.array([62, 46, 48], np.float32))
    column = np.where(z < -40, 50.0 - np.hypot(y + 14, 1.1 * x), -50.0)
    return np.asarray(np.maximum(face, column), dtype=np.float32)


def _cortex(
    rng: np.random.Generator,
    inside: NDArray[np.bool_],
    cerebrum: Array,
    cerebellum: Array,
    x: Array,
    spacing: float,
) -> NDArray[np.uint8]:
    """Fold the surface: furrows are the zero set of band-limited noise, grey matter lines them."""
    shape = inside.shape
    waves = _noise(rng, shape, 26 / spacing, 12 / spacing, slope=2.2)
    folia = _noise(rng, shape, 14 / spacing, 5 / spacing, slope=2.2)
    furrow = (np.abs(waves) < 0.2) & (cerebrum < 21 + 5 * folia)
    furrow |= (np.abs(folia) < 0.2) & (cerebellum > 0) & (cerebrum < 0)
    furrow |= (np.abs(x) < 1.3) & (cerebrum < 38) & (cerebellum < 0)
    away = ndimage.distance_transform_edt(inside & ~furrow, sampling=spacing)
    ribbon = rng.uniform(3.0, 4.0) + 0.4 * _noise(rng, shape, 60 / spacing, 10 / spacing)
    ribbon = np.where((cerebellum > 0) & (cerebrum < 0), 1.8, ribbon)
    tissue = np.where(away < ribbon, GREY, WHITE).astype(np.uint8)
    tissue[furrow & (away == 0)] = CSF
    return tissue


def _eyes(labels: NDArray[np.uint8], z: Array, y: Array, x: Array) -> None:
    ball = np.sqrt((z + 28) ** 2 + (y - 76) ** 2 + (np.abs(x) - 32) ** 2)
    labels[ball < 15] = SCALP
    labels[ball < 12] = EYE


def _deep(labels: NDArray[np.uint8], size: float, z: Array, y: Array, x: Array) -> None:
    """Set lateral and third ventricles and the grey nuclei beside them; the callosal body lies above."""
    arch = z - 12 + (y / 30) ** 2 * 6
    side = np.abs(x) - 9 - 0.12 * np.abs(y)
    lateral = np.sqrt((arch / (7 * size)) ** 2 + (y / 40) ** 2 + (side / (5 * size)) ** 2)
    third = np.sqrt(((z + 2) / 12) ** 2 + (y / 16) ** 2 + (x / (1.6 * size)) ** 2)
    core = np.sqrt((z / 24) ** 2 + (y / 46) ** 2 + (x / 34) ** 2) < 1
    labels[core & (labels != CSF)] = WHITE
    caudate = np.sqrt(((z - 6) / 13) ** 2 + ((y - 12) / 24) ** 2 + ((np.abs(x) - 17) / 5) ** 2)
    thalamus = np.sqrt(((z + 1) / 11) ** 2 + ((y + 12) / 17) ** 2 + ((np.abs(x) - 11) / 9) ** 2)
    putamen = np.sqrt(((z + 2) / 11) ** 2 + (y / 22) ** 2 + ((np.abs(x) - 27) / 6) ** 2)
    labels[np.minimum(np.minimum(caudate, thalamus), putamen) < 1] = NUCLEI
    labels[np.minimum(lateral, third) < 1] = CSF


def _random_contrast(rng: np.random.Generator) -> Array:
    means = rng.uniform(60, 950, _T1.size).astype(np.float32)
    means[AIR] = 0.0
    return means


def _scan(rng: np.random.Generator, labels: NDArray[np.uint8], means: Array) -> NDArray[np.int16]:
    shape = labels.shape
    tissue = means[labels] * (1.0 + 0.035 * fractal(rng, shape, slope=1.2, longest=20, shortest=2.0))
    blurred = ndimage.gaussian_filter(tissue, rng.uniform(0.45, 0.65))
    bias = np.exp(0.09 * fractal(rng, shape, slope=2.5, longest=160, shortest=60))
    noise = rng.uniform(6, 16)
    real, imaginary = noise * rng.standard_normal((2, *shape), dtype=np.float32)
    magnitude = np.hypot(blurred * bias + real, imaginary)
    return np.asarray(np.clip(np.round(magnitude), 0, 4095), dtype=np.int16)


def _artefacts(rng: np.random.Generator, labels: NDArray[np.uint8], spacing: float) -> NDArray[np.bool_]:
    """Mark three to six blobs of 5-10 mm radius inside the brain and one axial slice of the upper brain."""
    mask = np.zeros(labels.shape, dtype=bool)
    candidates = np.argwhere(np.isin(labels, (GREY, WHITE)))
    grids = np.ogrid[tuple(slice(n) for n in labels.shape)]
    for centre in candidates[rng.integers(0, len(candidates), int(rng.integers(3, 7)))]:
        radius = rng.uniform(5, 10) / spacing
        squash = rng.uniform(0.7, 1.3, 3)
        mask |= sum(((g - c) * s) ** 2 for g, c, s in zip(grids, centre, squash, strict=True)) < radius**2
    mask[int(labels.shape[0] * rng.uniform(0.55, 0.75))] = True
    return mask


def _spoilt(rng: np.random.Generator, truth: NDArray[np.int16]) -> Array:
    """Return what stands in the spoilt voxels: near silence with a few bright spikes."""
    level = rng.rayleigh(12.0, truth.shape)
    return np.asarray(np.where(rng.random(truth.shape) < 0.01, 1500.0, level), dtype=np.float32)
