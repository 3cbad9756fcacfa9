"""Sentinel-2-like scenes: two dates of one place, clouds with shadows and cirrus on the first, and the truth.

Reflectance x 10000 (uint16) of the six bands that most methods use. Class spectra are round numbers of the
size that spectral libraries give; nothing is copied from one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.synthetic._landscape import FIELD, GRASS, ROAD, TOWN, WATER, WOOD, Landscape, landscape
from pipeline.synthetic.noise import Array, fractal, smoothstep

BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
PIXEL_M = 10.0
NODATA = 0

_GREEN = np.array([[330, 640, 360, 4300, 2000, 950], [480, 860, 640, 3500, 2250, 1250]], np.float32)
_SOIL = np.array([[520, 650, 800, 1300, 2050, 1800], [1150, 1450, 1850, 2500, 3700, 3150]], np.float32)
_PASTURE = np.array([420, 730, 590, 3200, 2350, 1300], np.float32)
_TREES = np.array([[260, 470, 290, 3600, 1650, 720], [190, 320, 220, 2300, 1080, 470]], np.float32)
_WATER = np.array([560, 520, 340, 160, 70, 50], np.float32)
_ROAD = np.array([1050, 1200, 1300, 1750, 2050, 1850], np.float32)
_ROOFS = np.array(
    [
        [520, 760, 680, 2900, 2100, 1300],
        [1050, 1200, 1650, 2100, 2500, 2200],
        [1500, 1580, 1620, 1900, 2100, 1950],
        [3000, 3100, 3200, 3500, 3300, 3000],
        [950, 1030, 1080, 1450, 1700, 1550],
    ],
    np.float32,
)
_CLOUD = np.array([1.0, 0.97, 0.98, 1.02, 0.62, 0.47], np.float32)
_CIRRUS = np.array([1.0, 0.95, 0.95, 0.95, 0.55, 0.45], np.float32)
_HAZE = np.array([150, 95, 60, 25, 8, 4], np.float32)
_SHADE = np.array([0.52, 0.58, 0.62, 0.70, 0.72, 0.72], np.float32)


class Scl:
    """Codes of the Sentinel-2 scene classification layer that the scenes use."""

    NODATA, SHADOW, VEGETATION, BARE, WATER = 0, 3, 4, 5, 6
    CLOUD_MEDIUM, CLOUD_HIGH, CIRRUS = 8, 9, 10


class _Season(NamedTuple):
    """State of the fields on one date: vigour of each parcel (0 bare .. 1 lush), light and water factors."""

    vigour: Array
    hue: Array
    light: Array
    river: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpticalScene:
    """Dates of one place; the first has clouds, the others are clear.

    Attributes:
        images: per date, uint16 `(6, y, x)`, reflectance x 10000, 0 = nodata.
        truths: per date, the same without clouds, shadows and cirrus.
        scl: per date, uint8 `(ceil(y/2), ceil(x/2))` scene classification at 20 m.
        cloudy: bool `(y, x)`; True where cloud, shadow or cirrus altered the first date by more than 2 %.
    """

    images: tuple[NDArray[np.uint16], ...]
    truths: tuple[NDArray[np.uint16], ...]
    scl: tuple[NDArray[np.uint8], ...]
    cloudy: NDArray[np.bool_]


def optical_scene(
    shape: tuple[int, int] = (1024, 1024), seed: int = 0, dates: int = 2, *, swath_edge: bool = False
) -> OpticalScene:
    """Draw a scene; the same arguments give the same bytes.

    Args:
        shape: `(y, x)` in pixels of 10 m.
        seed: any non-negative integer.
        dates: number of dates, at least 1.
        swath_edge: leave a wedge of nodata along one side, as at the rim of an orbit.
    """
    rng = np.random.default_rng([seed, 2])
    land = landscape(rng, shape)
    season = _first_season(rng, land.parcels)
    truths, images, scls = [], [], []
    cloudy = np.zeros(shape, dtype=bool)
    for date in range(dates):
        if date:
            season = _later(rng, season)
        surface = _sense(rng, _surface(land, season))
        truths.append(_store(surface))
        codes = _surface_codes(land, season)
        if date == 0:
            surface, codes, cloudy = _veil(rng, surface, codes)
        images.append(_store(surface))
        scls.append(codes)
    if swath_edge:
        outside = _wedge(shape)
        cloudy &= ~outside
        for stack in (*truths, *images):
            stack[:, outside] = NODATA
        for codes in scls:
            codes[outside[::2, ::2]] = Scl.NODATA
    return OpticalScene(images=tuple(images), truths=tuple(truths), scl=tuple(scls), cloudy=cloudy)


def varied_scene(shape: tuple[int, int] = (256, 256), seed: int = 0) -> Array:
    """Draw a clear scene for training: farmland or wild land, flat or hilly, of 10 to 20 m pixels, sharp or soft.

    How strong texture, relief and optics may be was set so that spectra and the errors of splines in holes lie
    among those of real Sentinel-2 and Landsat tiles (docs/decisions/training.md).

    Args:
        shape: `(y, x)` in pixels.
        seed: any non-negative integer; the same arguments give the same bytes.

    Returns:
        float32 `(6, y, x)`, reflectance x 10000 of `BANDS`.
    """
    rng = np.random.default_rng([seed, 6])
    zoom = int(rng.integers(1, 3))
    large = (shape[0] * zoom, shape[1] * zoom)
    land = landscape(rng, large)
    absent = [kind for kind, share in ((WATER, 0.4), (TOWN, 0.5), (ROAD, 0.3)) if rng.random() < share]
    land = replace(land, cover=np.where(np.isin(land.cover, absent), FIELD, land.cover).astype(np.uint8))
    wild = rng.random() < 0.5
    if wild:
        land = _overgrown(rng, land)
    season = _first_season(rng, land.parcels)
    if wild:
        season = season._replace(vigour=np.sort(season.vigour), hue=np.sort(season.hue))
    surface = _surface(land, season) * _rough(rng, large)
    seen = surface.reshape(len(BANDS), shape[0], zoom, shape[1], zoom).mean(axis=(2, 4))
    return _store(_sense(rng, np.asarray(seen, dtype=np.float32), rng.uniform(0.45, 0.9))).astype(np.float32)


def _overgrown(rng: np.random.Generator, land: Landscape) -> Landscape:
    """Replace most fields by vegetation without straight edges: each "parcel" is a height line of noise."""
    shape = land.cover.shape
    growth = fractal(rng, shape, slope=rng.uniform(1.1, 1.7), longest=rng.uniform(60, 300), shortest=2.0)
    levels = 512
    line = np.clip((growth + 3.0) / 6.0 * levels, 0, levels - 1).astype(np.int32)
    wood = fractal(rng, shape, slope=1.4, longest=120, shortest=2.5) > rng.uniform(-0.5, 1.5)
    cover = np.where(np.isin(land.cover, (FIELD, GRASS)) & wood, WOOD, land.cover).astype(np.uint8)
    return replace(land, cover=cover, parcel=line, parcels=levels)


def _rough(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Return factors around 1 of fine texture and of light on slopes."""
    strength = np.exp(rng.uniform(np.log(0.008), np.log(0.08)))
    grain = strength * fractal(rng, shape, slope=rng.uniform(0.4, 1.2), longest=60, shortest=2.0)
    if rng.random() < 0.4:
        height = fractal(rng, shape, slope=2.0, longest=rng.uniform(60, 250), shortest=3.0)
        lit = np.gradient(height)[int(rng.integers(2))]
        grain = grain + rng.uniform(0.03, 0.25) * lit / max(float(lit.std()), 1e-6)
    return np.asarray(np.exp(np.clip(grain, -1.0, 1.0)), dtype=np.float32)


def _first_season(rng: np.random.Generator, parcels: int) -> _Season:
    shape_a, shape_b = rng.uniform(0.5, 1.1), rng.uniform(0.5, 1.1)
    return _Season(
        vigour=rng.beta(shape_a, shape_b, parcels).astype(np.float32),
        hue=rng.random(parcels).astype(np.float32),
        light=(1.0 + rng.normal(0, 0.03, len(BANDS))).astype(np.float32),
        river=float(rng.uniform(0.6, 1.8)),
    )


def _later(rng: np.random.Generator, before: _Season) -> _Season:
    """Let time pass: crops ripen together, one field in twelve is ploughed or sown, the light changes."""
    drift = rng.uniform(0.75, 1.1)
    grown = np.clip(before.vigour * drift + rng.normal(0, 0.06, before.vigour.size), 0, 1)
    changed = rng.random(grown.size) < 0.08
    vigour = np.where(changed, rng.random(grown.size), grown).astype(np.float32)
    light = before.light * rng.uniform(0.92, 1.08) * (1.0 + rng.normal(0, 0.025, len(BANDS)))
    return _Season(vigour, before.hue, light.astype(np.float32), before.river * float(rng.uniform(0.8, 1.3)))


def _mix(ends: Array, share: Array) -> Array:
    """Blend two spectra `(2, c)` by a map `(y, x)`; shape `(c, y, x)`."""
    low, high = ends[0][:, None, None], ends[1][:, None, None]
    return np.asarray(low + (high - low) * share[None], dtype=np.float32)


def _surface(land: Landscape, season: _Season) -> Array:
    """Return the reflectance of the ground `(c, y, x)`."""
    vigour = np.clip(season.vigour[land.parcel] + 0.07 * land.vigour, 0.0, 1.0)
    hue = season.hue[land.parcel]
    green = _mix(_GREEN, hue)
    soil = _mix(_SOIL, np.clip(0.55 * land.soil + 0.45 * hue, 0, 1))
    ground = soil + (green - soil) * vigour
    by_cover = {
        GRASS: _PASTURE[:, None, None] * (1.0 + 0.06 * land.vigour + 0.15 * (hue - 0.5)),
        WOOD: _mix(_TREES, land.conifer),
        WATER: np.broadcast_to((_WATER * season.river)[:, None, None], ground.shape),
        ROAD: np.broadcast_to(_ROAD[:, None, None], ground.shape),
        TOWN: np.moveaxis(_ROOFS[land.roof], -1, 0),
    }
    for cover, spectrum in by_cover.items():
        ground = np.where(land.cover == cover, spectrum, ground)
    lit = ground * land.texture * season.light[:, None, None] + _HAZE[:, None, None]
    return np.asarray(lit, dtype=np.float32)


def _sense(rng: np.random.Generator, surface: Array, softness: float = 1.0) -> Array:
    """Blur by the optics (the short-wave infrared bands have 20 m pixels) and add detector noise."""
    seen = np.empty_like(surface)
    for band, values in enumerate(surface):
        coarse = BANDS[band] in {"B11", "B12"}
        seen[band] = ndimage.gaussian_filter(values, softness * (1.15 if coarse else 0.6), mode="nearest")
    noise = rng.standard_normal(seen.shape, dtype=np.float32)
    return np.asarray(seen + noise * (6.0 + 0.004 * seen), dtype=np.float32)


def _store(surface: Array) -> NDArray[np.uint16]:
    return np.clip(np.round(surface), 1, 16000).astype(np.uint16)


def _surface_codes(land: Landscape, season: _Season) -> NDArray[np.uint8]:
    codes = np.full(land.cover.shape, Scl.VEGETATION, dtype=np.uint8)
    bare = (land.cover == FIELD) & (season.vigour[land.parcel] < 0.35)
    codes[bare | (land.cover == ROAD) | ((land.cover == TOWN) & (land.roof > 0))] = Scl.BARE
    codes[land.cover == WATER] = Scl.WATER
    return codes[::2, ::2].copy()


def _veil(
    rng: np.random.Generator, surface: Array, codes: NDArray[np.uint8]
) -> tuple[Array, NDArray[np.uint8], NDArray[np.bool_]]:
    """Lay cirrus, shadows and clouds over the ground; return image, scene classes and altered pixels."""
    shape = surface.shape[1:]
    cloud, height = _cumulus(rng, shape)
    drop = rng.uniform(26, 44)
    direction = rng.uniform(0.6, 1.2)
    shift = (-drop * np.sin(direction), -drop * np.cos(direction))
    shadow = ndimage.gaussian_filter(ndimage.shift(cloud, shift, order=1, mode="reflect"), 1.5)
    streaks = fractal(rng, shape, slope=1.3, longest=260, shortest=5, stretch=(1.0, 3.5))
    patchy = fractal(rng, shape, slope=2.0, longest=700, shortest=120)
    cirrus = 0.22 * smoothstep(patchy + 0.35 * streaks, 0.75, 2.1)
    veiled = surface * (1.0 - (1.0 - _SHADE[:, None, None]) * shadow)
    veiled = veiled * (1.0 - cirrus) + cirrus * 4800.0 * _CIRRUS[:, None, None]
    bright = (2300.0 + 4300.0 * height) * _CLOUD[:, None, None]
    image = veiled * (1.0 - cloud) + bright * cloud
    image = image * (1.0 + 0.003 * rng.standard_normal(image.shape, dtype=np.float32))
    half = (slice(None, None, 2), slice(None, None, 2))
    near = [ndimage.uniform_filter(f, 2, origin=-1)[half] for f in (cirrus, shadow, cloud)]
    codes[near[0] > 0.045] = Scl.CIRRUS
    codes[near[1] > 0.30] = Scl.SHADOW
    codes[near[2] > 0.12] = Scl.CLOUD_MEDIUM
    codes[near[2] > 0.55] = Scl.CLOUD_HIGH
    cloudy = (cloud > 0.02) | (shadow > 0.05) | (cirrus > 0.01)
    return np.asarray(image, dtype=np.float32), codes, cloudy


def _cumulus(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return opacity (0-1) and brightness (0-1) of a field of clouds with billowed, soft edges."""
    clumps = fractal(rng, shape, slope=2.0, longest=240, shortest=24)
    billow = 1.0 - np.abs(fractal(rng, shape, slope=1.9, longest=60, shortest=4))
    wisps = fractal(rng, shape, slope=1.4, longest=40, shortest=2.5)
    thickness = clumps + 0.30 * billow + 0.05 * wisps
    level = float(np.quantile(thickness, 1.0 - rng.uniform(0.18, 0.28)))
    opacity = smoothstep(thickness, level, level + 0.9) ** 0.8
    relief = np.clip((thickness - level) / 1.8, 0, 1)
    lit = np.gradient(ndimage.gaussian_filter(billow + 0.3 * wisps, 1.0))
    return opacity, np.asarray(np.clip(relief + 1.6 * (lit[0] + lit[1]), 0, 1), dtype=np.float32)


def _wedge(shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]] // 2 * 2
    return np.asarray(cols + 0.21 * rows > shape[1] * 1.13)
