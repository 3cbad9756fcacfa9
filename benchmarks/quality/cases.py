"""The test cases: which holes are cut into which scene, family by family."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.quality import holes, missed, pairs, volumes
from benchmarks.quality.scenes import Image, Scene, single_scenes

Spoil = Callable[[np.random.Generator, Image, NDArray[np.bool_]], Image]
Draw = Callable[[np.random.Generator, Image], NDArray[np.bool_]]
AREA_FAMILIES = ("cloud", "region 32", "region 64", "border")
"""Single-image families whose hole components are counted one by one."""
HELPED_FAMILIES = (
    "clear reference",
    "mostly hidden, clear reference",
    "cloudy reference",
    "changed reference",
    "two middling references",
    "radar",
    "auxiliary contrast",
    "several contrasts, large void",
)
"""Families with another image beside the one that is restored."""
HAZY_FAMILIES = (
    "haze ring",
    "missed thin cloud",
    "mostly hidden, haze ring",
    "haze ring, cloudy date",
    "missed thin cloud, cloudy date",
)
"""Families with contaminated pixels outside the mask."""
VOLUME_FAMILIES = (
    "slice drop",
    "thick slice drop",
    "blob T1",
    "blob other contrast",
    "lesion shape",
    "border slab",
    "series",
    "CT metal",
)
"""Families of volumes on their own."""
DRAWN_FAMILIES = (
    "cloud",
    "region 32",
    "region 64",
    "border",
    "mostly hidden, clear reference",
    "blob T1",
    "blob other contrast",
    "lesion shape",
    "CT metal",
)
"""Families that `--draws` restores with several seeds.

Few wide holes can be hidden in these images, so what is chosen follows which. Points, stripes and slices are hidden a
hundred times over; with one clear date the relation is told by all that is observed. Borders do not depend on the draw,
as a hole along an edge fits in one place only; they are here for the single holes, which are counted in all wide ones.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test hole in one scene.

    Attributes:
        family: as in tables and `--only`.
        scene: the image.
        number: of the case within family and scene; seeds the hole.
        draw: makes the hole, `(*spatial)` or `(c, *spatial)`.
        also_alone: restore it without its guides, too.
        spoil: what the mask missed: changes observed pixels before the image is restored; it is restored without, too.
    """

    family: str
    scene: Scene
    number: int
    draw: Draw
    also_alone: bool = False
    spoil: Spoil | None = None

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

    def given(self, image: Image, hole: NDArray[np.bool_]) -> Image:
        """Return the image as it is to be restored."""
        if self.spoil is None:
            return image
        seed = hashlib.sha256(f"{self.name} / missed".encode()).digest()
        return self.spoil(np.random.default_rng(list(seed[:8])), image, hole)


def content_key(image: Image, hole: NDArray[np.bool_], given: Image) -> str:
    """Return a hash of everything that a method is given and scored on."""
    digest = hashlib.sha256() if given is image else hashlib.sha256(np.ascontiguousarray(given.values).tobytes())
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


def _cases(
    family: str, scenes: Sequence[Scene], draws: Sequence[Draw], *, also_alone: bool = False, first: int = 0
) -> list[Case]:
    return [
        Case(family=family, scene=scene, number=k, draw=draw, also_alone=also_alone)
        for scene in scenes
        for k, draw in enumerate(draws, start=first)
    ]


def hazy_cases() -> list[Case]:
    """Return clouds with haze around them, and with thin cloud and shadow beside them, outside the mask.

    Scenes with a clear date are restored with it. In some of them clouds and haze leave little, in others the date has
    clouds of its own, and what lies under both is scored.
    """
    paired = pairs.clear_pairs()
    names = {scene.name for scene in paired}
    scenes = [*(scene for scene in single_scenes() if scene.name not in names), *paired]
    kinds = {"haze ring": missed.haze_ring, "missed thin cloud": missed.thin_cloud}
    return [
        *(
            Case(family=family, scene=scene, number=0, draw=_cloud(0.2), spoil=spoil)
            for family, spoil in kinds.items()
            for scene in scenes
        ),
        *_mostly_hidden_in_haze(),
        *(
            Case(family=f"{family}, cloudy date", scene=scene, number=0, draw=_cloud(0.2), spoil=spoil)
            for family, spoil in kinds.items()
            for scene in (pairs.under_clouds(one, 0.35) for one in paired)
        ),
    ]


def _mostly_hidden_in_haze() -> list[Case]:
    """Return scenes that are mostly hidden, or nearly whole, with haze around what hides them."""
    nearly = {scene.name for scene in pairs.nearly_hidden_pairs()}
    return [
        Case(
            family="mostly hidden, haze ring",
            scene=scene,
            number=0,
            draw=_overcast(0.9, strip=False) if scene.name in nearly else _overcast(0.6, strip=True),
            spoil=missed.haze_ring,
        )
        for scene in pairs.mostly_hidden_pairs()
        if scene.place != "Pucallpa"
    ]


def _cloud(share: float) -> Draw:
    return lambda rng, image: holes.cloud(rng, _shape(image), share)


def _squares(size: int, count: int) -> Draw:
    return lambda rng, image: holes.squares(rng, _shape(image), size, count)


def _points(share: float) -> Draw:
    return lambda rng, image: holes.points(rng, _shape(image), share)


def _overcast(share: float, *, strip: bool) -> Draw:
    return lambda rng, image: holes.overcast(rng, _shape(image), share, strip=strip)


def _margin(depth: int, *sides: tuple[int, bool]) -> Draw:
    return lambda _, image: holes.margin(_shape(image), depth, sides)


def single_image_cases() -> list[Case]:
    """Return the families of one optical image without helpers."""
    scenes = single_scenes()
    stripes: Draw = lambda rng, image: holes.wedges(rng, _shape(image))  # noqa: E731
    return [
        *_cases("points 30 %", scenes, [_points(0.3)]),
        *_cases("points 80 %", scenes, [_points(0.8)]),
        *_cases("stripes", scenes, [stripes]),
        *_cases("cloud", scenes, [_cloud(0.12), _cloud(0.3)]),
        *_cases("region 32", scenes, [_squares(32, 8)]),
        *_cases("region 64", scenes, [_squares(64, 4)]),
        *_cases("border", scenes, [_margin(16, (0, True)), _margin(16, (0, False), (1, True))]),
    ]


def paired_cases() -> list[Case]:
    """Return the families with another date or sensor of the same place."""
    draws = [_cloud(0.25), _squares(48, 5)]
    overcast = [_overcast(0.6, strip=True), _overcast(0.75, strip=False)]
    return [
        *_cases("clear reference", pairs.clear_pairs(), draws),
        *_cases("clear reference", pairs.clear_pairs_of_trained_places(), draws[:1]),
        *_cases("mostly hidden, clear reference", pairs.mostly_hidden_pairs(), overcast),
        *_cases("mostly hidden, clear reference", pairs.nearly_hidden_pairs(), [_overcast(0.93, strip=False)], first=2),
        *_cases("cloudy reference", pairs.cloudy_pairs(), draws, also_alone=True),
        *_cases("cloudy reference", pairs.cloudy_pairs_of_trained_places(), draws[:1], also_alone=True),
        *_cases("changed reference", pairs.changed_pairs(), draws),
        *_cases("two middling references", pairs.middling_pairs(), draws),
        *_cases("radar", pairs.radar_pairs(), draws[:1]),
    ]


def _slices(number: int) -> Draw:
    return lambda rng, image: holes.slices(rng, _shape(image), number, groups=3)


def _blobs(low: float, high: float, count: int) -> Draw:
    return lambda rng, image: holes.blobs(rng, image.counted, (low, high), count, image.spacing)


def _void(share: float) -> Draw:
    return lambda rng, image: holes.void(rng, image.counted, share)


def _lesions(patient: str) -> Draw:
    """Return holes in the shapes of another subject's lesions, around the middle of the piece."""
    return lambda _, image: volumes.lesions(patient, _shape(image)) & image.counted


def _metal(rng: np.random.Generator, image: Image) -> NDArray[np.bool_]:
    """Implants sit in bone: blobs of 1-1.5 cm around dense voxels."""
    bone = ndimage.binary_dilation(image.values[0] > 250, iterations=3)
    return holes.blobs(rng, np.asarray(bone), (3, 5), 6, image.spacing)


def _lost_in_time(*lost: tuple[int, tuple[int, ...]]) -> Draw:
    """Lose the slices of single time points, `(time, slices)`."""

    def draw(_: np.random.Generator, image: Image) -> NDArray[np.bool_]:
        hole = np.zeros(image.values.shape, dtype=bool)
        for time, numbers in lost:
            hole[time, list(numbers)] = True
        return hole

    return draw


def volume_cases() -> list[Case]:
    """Return the families of volumes."""
    lesions = [_blobs(6, 8, 6), _blobs(10, 12, 3)]
    heads = [*volumes.t1_volumes(), volumes.flair_volume()]
    oasis, new = ([head for head in heads if head.place.startswith(name)] for name in ("OASIS", "MS patient 19"))
    series = [_lost_in_time((3, (9, 10)), (6, (11, 12, 13)), (7, (5,)))]
    return [
        *_cases("slice drop", heads, [_slices(1), _slices(2), _slices(3)]),
        *_cases("thick slice drop", volumes.thick_volumes(), [_slices(1)]),
        *_cases("blob T1", volumes.t1_volumes(), lesions),
        *_cases("blob other contrast", volumes.other_contrasts(), lesions[:1]),
        *_cases("lesion shape", oasis, [_lesions("ms_patient19_mni")]),
        *_cases("lesion shape", new, [_lesions("ms_patient07_mni")]),
        *_cases("border slab", heads, [_margin(6, (2, True))]),
        *_cases("auxiliary contrast", volumes.guided_volumes(), lesions),
        *_cases("several contrasts, large void", volumes.voided_volumes(), [_void(0.12), _void(0.25)]),
        *_cases("series", [volumes.series()], series),
        *_cases("CT metal", [volumes.computed_tomography()], [_metal, _metal]),
    ]


def all_cases() -> list[Case]:
    """Return every case of the benchmark."""
    return [*single_image_cases(), *paired_cases(), *hazy_cases(), *volume_cases()]
