"""The test cases: which holes are cut into which scene, family by family."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import holes
from benchmarks.quality.scenes import Image, Scene, single_scenes

Draw = Callable[[np.random.Generator, Image], NDArray[np.bool_]]
AREA_FAMILIES = ("cloud", "region 32", "region 64", "border")
"""Single-image families whose hole components are counted one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test hole in one scene.

    Attributes:
        family: as in tables and `--only`.
        scene: the image.
        number: of the case within family and scene; seeds the hole.
        draw: makes the hole, `(*spatial)` or `(c, *spatial)`.
        also_alone: restore it without its guides, too.
    """

    family: str
    scene: Scene
    number: int
    draw: Draw
    also_alone: bool = False

    @property
    def name(self) -> str:
        """Unique within the benchmark."""
        return f"{self.family} / {self.scene.name} / {self.number}"

    def build(self) -> tuple[Image, NDArray[np.bool_]]:
        """Return the image and the hole `(c, *spatial)`."""
        image = self.scene.load()
        digest = hashlib.sha256(self.name.encode()).digest()
        rng = np.random.default_rng(list(digest[:8]))
        hole = self.draw(rng, image)
        return image, np.array(np.broadcast_to(hole, image.values.shape))


def content_key(image: Image, hole: NDArray[np.bool_]) -> str:
    """Return a hash of everything that a method is given and scored on."""
    digest = hashlib.sha256()
    parts: list[NDArray] = [image.values, hole, image.hidden, image.counted]  # type: ignore[type-arg]
    for guide in image.guides:
        parts += [guide.values, np.asarray(guide.auxiliary)]
        parts += [] if guide.hidden is None else [guide.hidden]
    for part in parts:
        digest.update(f"{part.dtype.str}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
    digest.update(repr(image.spacing).encode())
    return digest.hexdigest()[:20]


def _shape(image: Image) -> tuple[int, ...]:
    return image.values.shape[1:]


def _cases(family: str, scenes: Sequence[Scene], draws: Sequence[Draw], *, also_alone: bool = False) -> list[Case]:
    return [
        Case(family=family, scene=scene, number=k, draw=draw, also_alone=also_alone)
        for scene in scenes
        for k, draw in enumerate(draws)
    ]


def _cloud(share: float) -> Draw:
    return lambda rng, image: holes.cloud(rng, _shape(image), share)


def _squares(size: int, count: int) -> Draw:
    return lambda rng, image: holes.squares(rng, _shape(image), size, count)


def _points(share: float) -> Draw:
    return lambda rng, image: holes.points(rng, _shape(image), share)


def _margin(depth: int, *sides: tuple[int, bool]) -> Draw:
    return lambda _, image: holes.margin(_shape(image), depth, sides)


def single_image_cases() -> list[Case]:
    """Return the families of one optical image without helpers."""
    scenes = single_scenes()
    stripes: Draw = lambda rng, image: holes.wedges(rng, _shape(image))  # noqa: E731
    return [
        *_cases("points 30 %", scenes, [_points(0.3)]),
        *_cases("points 80 %", scenes, [_points(0.8)]),
        *_cases("stripes", scenes, [stripes, stripes]),
        *_cases("cloud", scenes, [_cloud(0.12), _cloud(0.3)]),
        *_cases("region 32", scenes, [_squares(32, 8)]),
        *_cases("region 64", scenes, [_squares(64, 4)]),
        *_cases("border", scenes, [_margin(16, (0, True)), _margin(16, (0, False), (1, True))]),
    ]


def all_cases() -> list[Case]:
    """Return every case of the benchmark."""
    return single_image_cases()
