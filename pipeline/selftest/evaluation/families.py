"""Families of holes that an evaluation hides: the image's own, and those that people know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipeline.errors import ConfigError
from pipeline.fills.base import Window
from pipeline.image.scene import Scene
from pipeline.numerics.column import column
from pipeline.numerics.statistics import varied
from pipeline.selftest.evaluation import holes
from pipeline.selftest.placing import hide
from pipeline.selftest.shapes import Mask, Shapes
from pipeline.selftest.windows import hole_shapes, largest, test_extent

OWN = "own"
"""Name of the family of the image's own shapes."""

_POINTS = 0.3
_CLOUD = 0.2
"""Share of the pixels of a window that points and clouds hide."""

_REGION = 4
"""Part of the shortest side of a window that the side of the square or ball of `region` is: one in four."""

_SLICES = 2
"""Neighbouring slices that are lost."""

_BLOBS = 4
_RADII = (3.0, 5.0)
"""Number of blobs in a window, and their half axes in steps of the finest axis."""

_FLAT = 0.01
"""Standard deviation, in robust ranges of the channel, below which nothing is seen in a volume: air."""

_SMALLEST = 24
"""Extent of a window, pixels, below which it has no room for squares."""

Draw = Callable[[np.random.Generator, Window], Mask]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Holes of one kind."""

    name: str
    """As in tables and on the command line."""
    title: str
    """What they are, for people: follows `in`."""
    extent: tuple[int, ...]
    """Of the windows to hide them in, pixels."""
    draw: Draw
    """Gives what is to be hidden in a window, bool `(c | 1, *spatial)`."""


TITLES = {
    2: {
        OWN: "holes like its own",
        "points": "single pixels, 30 % of them",
        "stripes": "stripes 1 to 14 pixels wide",
        "clouds": "clouds over 20 % of the ground",
        "region": "one large square",
    },
    3: {
        OWN: "holes like its own",
        "slices": "two lost slices in a row",
        "blobs": "blobs of 6 to 10 voxels",
        "region": "one large ball",
    },
}
"""Families of images and of volumes, and what they are."""


def families(scene: Scene, wanted: tuple[str, ...], rng: np.random.Generator) -> list[Family]:
    """Return the families that are wanted, all without any, in the order of `TITLES`.

    Args:
        scene: the opened image.
        wanted: names.
        rng: draws the windows that the image's own shapes are taken from.

    Raises:
        ConfigError: there is no such family for the image's number of dimensions.
    """
    titles = TITLES[scene.ndim]
    unknown = [name for name in wanted if name not in titles]
    if unknown:
        raise ConfigError(
            f"no family of holes '{unknown[0]}' in {scene.ndim} dimensions (there are {', '.join(titles)})"
        )
    names = [name for name in titles if not wanted or name in wanted]
    shapes = hole_shapes(scene, rng) if OWN in names else None
    return [
        Family(name=name, title=titles[name], extent=_extent(scene, name, shapes), draw=_draw(scene, name, shapes))
        for name in names
    ]


def _extent(scene: Scene, name: str, shapes: Shapes | None) -> tuple[int, ...]:
    if name in ("clouds", "region"):
        return largest(scene)
    return test_extent(scene, shapes.depth if name == OWN and shapes else 0.0)


def _draw(scene: Scene, name: str, shapes: Shapes | None) -> Draw:
    if name == OWN and shapes:
        return lambda rng, window: hide(window, shapes, rng)
    ways = _IN_RASTERS if scene.ndim == 2 else _IN_VOLUMES
    return lambda rng, window: ways[name](rng, window, np.asarray(telling(scene, window).any(axis=0)))[None]


def telling(scene: Scene, window: Window) -> Mask:
    """Return where something is observed and seen, `(c, *spatial)`: all of a raster, in volumes where values vary.

    What is restored without error in the air around a head says nothing about the head.
    """
    if not window.valid.any():
        return window.valid
    floor = column(_FLAT * scene.values.spread, scene.ndim, np.float32)
    usual = np.median(window.values[window.valid])
    return np.asarray(window.valid & varied(np.where(window.valid, window.values, usual), floor))


def _points(rng: np.random.Generator, _: Window, content: holes.Hole) -> holes.Hole:
    return holes.points(rng, content.shape, _POINTS)


def _stripes(rng: np.random.Generator, _: Window, content: holes.Hole) -> holes.Hole:
    return holes.wedges(rng, content.shape)


def _clouds(rng: np.random.Generator, _: Window, content: holes.Hole) -> holes.Hole:
    return holes.cloud(rng, content.shape, _CLOUD)


def _square(rng: np.random.Generator, _: Window, content: holes.Hole) -> holes.Hole:
    shortest = min(content.shape)
    if shortest < _SMALLEST:
        return np.zeros_like(content)
    return holes.squares(rng, content.shape, shortest // _REGION, 1)


def _slices(rng: np.random.Generator, window: Window, content: holes.Hole) -> holes.Hole:
    """Lose slices across the axis of the largest step, the first of several."""
    axis = int(np.argmax(window.spacing))
    turned = np.moveaxis(content, axis, 0)
    groups = max(1, turned.shape[0] // 20)
    if turned.shape[0] < 4 * _SLICES:
        return np.zeros_like(content)
    return np.moveaxis(holes.slices(rng, turned.shape, _SLICES, groups), 0, axis)


def _blobs(rng: np.random.Generator, window: Window, content: holes.Hole) -> holes.Hole:
    body = ndimage.binary_fill_holes(content)
    return holes.blobs(rng, np.asarray(body), _RADII, _BLOBS, window.spacing)


def _ball(rng: np.random.Generator, window: Window, content: holes.Hole) -> holes.Hole:
    radius = min(n * s for n, s in zip(content.shape, window.spacing, strict=True)) / min(window.spacing) / _REGION
    return holes.blobs(rng, np.ones_like(content), (radius / 1.25, radius / 1.25), 1, window.spacing)


_Way = Callable[[np.random.Generator, Window, holes.Hole], holes.Hole]
_IN_RASTERS: dict[str, _Way] = {"points": _points, "stripes": _stripes, "clouds": _clouds, "region": _square}
_IN_VOLUMES: dict[str, _Way] = {"slices": _slices, "blobs": _blobs, "region": _ball}
