"""The land below the clouds: fields, woods, rivers, towns and roads as class, vigour and texture maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from pipeline.synthetic.noise import Array, fractal, smoothstep

FIELD, GRASS, WOOD, WATER, TOWN, ROAD = range(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """Maps of one place, all of shape `(y, x)`; one pixel is 10 m.

    Attributes:
        cover: FIELD, GRASS, WOOD, WATER, TOWN or ROAD.
        parcel: number of the field.
        parcels: how many numbers there are.
        texture: fine multiplicative texture around 1.
        vigour: within-field variation of greenness around 0.
        conifer: share of conifers in a wood, 0 to 1.
        roof: index of the roof colour in a town; 0 = garden.
        soil: slow variation of the soil colour, 0 (dark) to 1 (light).
    """

    cover: NDArray[np.uint8]
    parcel: NDArray[np.int32]
    parcels: int
    texture: Array
    vigour: Array
    conifer: Array
    roof: NDArray[np.uint8]
    soil: Array


def landscape(rng: np.random.Generator, shape: tuple[int, int]) -> Landscape:
    """Draw one place of this shape in pixels."""
    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    warp = 6.0 * fractal(rng, shape, slope=2.0, longest=300, shortest=40)
    parcel, parcels, edge = _parcels(rng, rows + warp, cols - warp)
    cover = np.full(shape, FIELD, dtype=np.uint8)
    pasture = rng.random(parcels) < rng.uniform(0.08, 0.3)
    cover[pasture[parcel]] = GRASS
    woods = fractal(rng, shape, slope=1.7, longest=220, shortest=6)
    cover[woods > rng.uniform(0.7, 1.5)] = WOOD
    hedge = fractal(rng, shape, slope=1.0, longest=60, shortest=6) > rng.uniform(0.6, 1.2)
    cover[edge & hedge & (cover == FIELD)] = WOOD
    cover[edge & ~hedge & (woods < -0.8)] = GRASS
    river, banks = _river(rng, rows, cols, width=rng.uniform(5, 11))
    brook, brook_banks = _river(rng, rows, cols, width=rng.uniform(0.6, 1.4))
    cover[(banks | brook_banks) & (cover != WATER)] = WOOD
    roof = _towns(rng, rows, cols)
    cover[(roof > 0) | _gardens(roof)] = TOWN
    for _ in range(int(rng.integers(3, 6))):
        cover[_road(rng, rows, cols)] = ROAD
    water = river | brook | (fractal(rng, shape, slope=2.0, longest=150, shortest=10) > 3.1)
    cover[water & (cover != ROAD)] = WATER
    return Landscape(
        cover=cover,
        parcel=parcel,
        parcels=parcels,
        texture=_texture(rng, cover),
        vigour=_field_variation(rng, shape),
        conifer=smoothstep(fractal(rng, shape, slope=1.8, longest=180, shortest=8), -0.6, 0.9),
        roof=roof,
        soil=smoothstep(fractal(rng, shape, slope=1.6, longest=400, shortest=4), -1.6, 1.6),
    )


def _parcels(rng: np.random.Generator, y: Array, x: Array) -> tuple[NDArray[np.int32], int, NDArray[np.bool_]]:
    """Cut blocks of land (Voronoi cells) into strips; return parcel number, count and boundary pixels."""
    pitch = rng.uniform(70, 150)
    grid = np.stack(
        np.meshgrid(
            np.arange(-pitch, y.max() + 2 * pitch, pitch),
            np.arange(-pitch, x.max() + 2 * pitch, pitch),
            indexing="ij",
        ),
        -1,
    )
    sites = grid.reshape(-1, 2) + rng.uniform(-0.45, 0.45, (grid[..., 0].size, 2)) * pitch
    _, block = cKDTree(sites).query(np.stack([y.ravel(), x.ravel()], -1), workers=1)
    block = block.reshape(y.shape)
    n = len(sites)
    # Blocks share one survey direction, as real parcels do.
    angle = rng.uniform(0, np.pi) + rng.choice([0.0, np.pi / 2], n) + rng.normal(0, 0.12, n)
    width = rng.uniform(9, 34, n)[block]
    length = rng.uniform(35, 120, n)[block]
    u = y * np.cos(angle)[block] + x * np.sin(angle)[block]
    v = -y * np.sin(angle)[block] + x * np.cos(angle)[block]
    strip = np.floor(u / width).astype(np.int64)
    shifted = v + 37.0 * np.sin(strip * 12.9898 + block)
    cell = np.floor(shifted / length).astype(np.int64)
    key = (block * 4096 + (strip % 4096)) * 4096 + cell % 4096
    _, number = np.unique(key.ravel(), return_inverse=True)
    parcel: NDArray[np.int32] = number.reshape(y.shape).astype(np.int32)
    edge: NDArray[np.bool_] = np.zeros(block.shape, dtype=bool)
    edge[:, 1:] |= parcel[:, 1:] != parcel[:, :-1]
    edge[1:] |= parcel[1:] != parcel[:-1]
    return parcel, int(parcel.max()) + 1, edge


def _course(rng: np.random.Generator, y: Array, x: Array, wander: float, longest: float) -> tuple[Array, Array]:
    """Return the distance in pixels to a wandering line across the scene, and the position along it."""
    angle = rng.uniform(0, np.pi)
    centre = rng.uniform(0.2, 0.8, 2) * (y.shape[0], y.shape[1])
    u = (y - centre[0]) * np.cos(angle) + (x - centre[1]) * np.sin(angle)
    v = -(y - centre[0]) * np.sin(angle) + (x - centre[1]) * np.cos(angle)
    reach = int(2 * np.hypot(*y.shape)) + 8
    line = wander * fractal(rng, (reach,), slope=2.0, longest=longest, shortest=longest / 8)
    position = np.clip(u + reach / 2, 0, reach - 1)
    offset = np.interp(position, np.arange(reach), line)
    steepness = np.interp(position, np.arange(reach), np.hypot(1.0, np.gradient(line)))
    return np.asarray(np.abs(v - offset) / steepness, dtype=np.float32), np.asarray(position, dtype=np.float32)


def _river(rng: np.random.Generator, y: Array, x: Array, width: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    bend = 5.0 * fractal(rng, y.shape, slope=2.0, longest=90, shortest=16)
    distance, position = _course(rng, y + bend, x - bend, wander=rng.uniform(25, 60), longest=rng.uniform(180, 400))
    half = width * (1.0 + 0.3 * np.sin(position / 47.0))
    fringe = half + 1.5 + 5.0 * np.clip(fractal(rng, y.shape, slope=1.2, longest=40), -0.3, 3.0)
    return distance < half, distance < fringe


def _road(rng: np.random.Generator, y: Array, x: Array) -> NDArray[np.bool_]:
    distance, _ = _course(rng, y, x, wander=rng.uniform(2, 14), longest=rng.uniform(300, 700))
    return distance < rng.uniform(0.55, 1.3)


def _towns(rng: np.random.Generator, y: Array, x: Array) -> NDArray[np.uint8]:
    """Return roof colours (1-4) of one town and a few villages; streets and gardens are 0."""
    roof = np.zeros(y.shape, dtype=np.uint8)
    sizes = [rng.uniform(35, 75), *rng.uniform(8, 18, int(rng.integers(2, 6)))]
    for size in sizes:
        centre = rng.uniform(0.08, 0.92, 2) * y.shape
        angle = rng.uniform(0, np.pi)
        u = (y - centre[0]) * np.cos(angle) + (x - centre[1]) * np.sin(angle)
        v = -(y - centre[0]) * np.sin(angle) + (x - centre[1]) * np.cos(angle)
        ragged = size * (1 + 0.35 * fractal(rng, y.shape, slope=1.6, longest=size * 2, shortest=6))
        inside = np.hypot(u, v) < ragged
        street = (np.mod(u, rng.uniform(6, 9)) < 1.1) | (np.mod(v, rng.uniform(9, 14)) < 1.1)
        lot = np.floor(u / 2.3).astype(np.int64) * 7919 + np.floor(v / 2.7).astype(np.int64) * 104729
        draw = rng.random(4096)[lot % 4096]
        density = 0.75 * np.clip(1.15 - np.hypot(u, v) / ragged, 0.2, 1.0)
        colour = np.where(draw < 0.6 * density, 1, np.where(draw < 0.92 * density, 2, np.where(draw < density, 3, 0)))
        roof[inside] = np.where(street, 4, colour)[inside]
    return roof


def _gardens(roof: NDArray[np.uint8]) -> NDArray[np.bool_]:
    closed: NDArray[np.bool_] = ndimage.binary_closing(roof > 0, iterations=2)
    return closed


def _texture(rng: np.random.Generator, cover: NDArray[np.uint8]) -> Array:
    strength = np.array([0.018, 0.03, 0.12, 0.02, 0.10, 0.04], dtype=np.float32)
    crowns = fractal(rng, cover.shape, slope=0.7, longest=24, shortest=2.0)
    relief = fractal(rng, cover.shape, slope=1.9, longest=300, shortest=10)
    return np.asarray(np.exp(strength[cover] * crowns + 0.03 * relief), dtype=np.float32)


def _field_variation(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    zones = fractal(rng, shape, slope=1.3, longest=90, shortest=2.5)
    rows = fractal(rng, shape, slope=0.8, longest=40, shortest=2.0, stretch=(1.0, 9.0))
    return np.asarray(0.8 * zones + 0.35 * rows, dtype=np.float32)
