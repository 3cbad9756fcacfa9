"""Scenes with helpers: other dates, clear, cloudy or changed, and radar.

The holes are cut into the clear date; what hides the other date is told by a mask only where the scene says so.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.quality.holes import cloud
from benchmarks.quality.scenes import (
    CHIAPAS_1999,
    CHIAPAS_2002,
    COPERNICUS,
    CORUMBA_CROPS,
    EAST,
    FIRST,
    L7_REF,
    L8_REF,
    LAZIO,
    S2_REF,
    SECOND,
    USGS,
    Array,
    Crop,
    Guide,
    Image,
    Scene,
    flat,
    read_raster,
)

CHANGED = 0.12
"""Share of the reference that simulated change replaces."""


def pair(
    name: str,
    place: str,
    sensor: str,
    files: tuple[str, str],
    bands: tuple[int, ...],
    crop: Crop | None = None,
    **more: Any,
) -> Scene:
    """Return a scene with the second file as a reference; option `changed` pastes change into it."""
    changed = more.pop("changed", False)

    def load() -> Image:
        target, other = (read_raster(file, bands, crop) for file in files)
        return flat(target, guides=(Guide(values=with_change(other) if changed else other),))

    return Scene(name=name, place=place, sensor=sensor, load=load, files=tuple(f"satellite/{f}" for f in files), **more)


def with_change(values: Array) -> Array:
    """Replace 12 % of an image, in blobs, by another part of itself: fields that are no longer what they were."""
    blobs = cloud(np.random.default_rng(12), values.shape[1:], CHANGED)
    elsewhere = np.roll(values[:, ::-1], (61, 97), axis=(1, 2))
    return np.where(blobs, elsewhere, values)


def _sentinel(place: str, group: str, season: str, patch: str) -> Scene:
    folder = f"s2_cr_{place.lower()}/ROIs{season}_s2"
    files = (f"{folder}_{group}_{patch}.tif", f"{folder}_cloudy_{group}_{patch}.tif")
    return pair(f"{place.lower()}-{patch}", place, "Sentinel-2", files, S2_REF, credit=COPERNICUS)


def lazio_pairs(**more: Any) -> list[Scene]:
    """Return the Lazio tiles: the other date has 1-8 % of thin cloud and its shadow, unmasked."""
    folder = "s2_cr_lazio/ROIs1868_summer_s2"
    return [
        pair(
            f"lazio-{p}",
            "Lazio",
            "Sentinel-2",
            (f"{folder}_102_{p}.tif", f"{folder}_cloudy_102_{p}.tif"),
            S2_REF,
            credit=COPERNICUS,
            **more,
        )
        for p in LAZIO
    ]


def corumba(number: int, *, reverse: bool = False, **more: Any) -> Scene:
    """Return a crop of the eastern half; `reverse` restores the first date from the second."""
    files = (FIRST, SECOND) if reverse else (SECOND, FIRST)
    name = f"corumba-{number}{'-first' if reverse else ''}"
    crop = CORUMBA_CROPS[number]
    return pair(name, "Corumba", "Landsat 8", files, L8_REF, crop, part=EAST, credit=USGS, **more)


def masked_pair(number: str, *, told: bool, radar: bool = False) -> Scene:
    """Return a pair of unknown place; the mask of the cloudy date is used if `told`, else nobody knows of it."""
    folder = f"s2_masked_pairs/{number}"

    def load() -> Image:
        target = read_raster(f"{folder}_target.tif", S2_REF)
        if radar:
            return flat(target, guides=(Guide(values=read_raster(f"{folder}_input.tif", (1, 2)), auxiliary=True),))
        other = read_raster(f"{folder}_input.tif", tuple(b + 2 for b in S2_REF))
        hidden = read_raster(f"{folder}_mask.tif", (1,))[0] > 0 if told else None
        return flat(target, guides=(Guide(values=other, hidden=hidden),))

    return Scene(
        name=f"pair-{number}",
        place=f"pair {number}",
        sensor="Sentinel-2",
        load=load,
        files=(f"satellite/{folder}_target.tif",),
        credit=COPERNICUS,
    )


def chiapas(*, year: int, told: bool = True, changed: bool = False) -> Scene:
    """Return one of two seasons three years apart; clouds of 2002 are holes of the target, told of as a reference."""

    def load() -> Image:
        clear, other = (read_raster(file, L7_REF) for file in (CHIAPAS_1999, CHIAPAS_2002))
        clouds = _clouds(read_raster(CHIAPAS_2002, (8,))[0])
        if year == 1999:
            return flat(clear, guides=(Guide(values=other, hidden=clouds if told else None),))
        return flat(other, hidden=clouds, guides=(Guide(values=with_change(clear) if changed else clear),))

    return Scene(
        name=f"chiapas-{year}",
        place="Chiapas",
        sensor="Landsat 7",
        load=load,
        files=(f"satellite/{CHIAPAS_1999}", f"satellite/{CHIAPAS_2002}"),
        unseen=True,
        credit=USGS,
    )


def _clouds(codes: Array) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(codes != 0, iterations=2))


def _peru(year: int, other: int) -> Scene:
    files = (f"landsat_peru_years/landsat_{year}.tif", f"landsat_peru_years/landsat_{other}.tif")
    return pair(f"peru-{year}", "Pucallpa", "Landsat composite", files, (4, 3, 2, 1), (200, 60, 256, 256), credit=USGS)


def clear_pairs() -> list[Scene]:
    """Return pairs whose other date is clear, or whose clouds are told of."""
    return [
        *lazio_pairs(),
        *(masked_pair(n, told=True) for n in ("581", "4287")),
        *(corumba(k, reverse=r) for k in (1, 2) for r in (False, True)),
        chiapas(year=1999),
        chiapas(year=2002),
    ]


def under_clouds(scene: Scene, share: float) -> Scene:
    """Return a pair with clouds over a share of its other date, too, that are told of; what they hide is scored."""

    def load() -> Image:
        image = scene.load()
        digest = hashlib.sha256(f"{scene.name} / clouds of the date".encode()).digest()
        clouds = cloud(np.random.default_rng(list(digest[:8])), image.values.shape[1:], share)
        guides = (replace(one, hidden=clouds if one.hidden is None else clouds | one.hidden) for one in image.guides)
        return replace(image, guides=tuple(guides), unshown=True)

    return replace(scene, load=load)


def clear_pairs_of_trained_places() -> list[Scene]:
    """Return clear pairs at places that the shipped weights know; twenty years lie between those of Peru."""
    return [_peru(1990, 2010), _peru(2010, 1990), _sentinel("Chicago", "101", "1868_summer", "p840")]


def mostly_hidden_pairs() -> list[Scene]:
    """Return pairs of five places whose other date is clear, or whose clouds are told of; weights know the last."""
    return [*nearly_hidden_pairs(), chiapas(year=2002), masked_pair("581", told=True), _peru(1990, 2010)]


def nearly_hidden_pairs() -> list[Scene]:
    """Return those of them that are hidden nearly whole, too."""
    return [*lazio_pairs()[1:], corumba(2)]


def cloudy_pairs() -> list[Scene]:
    """Return pairs whose other date is cloudy and nobody says where."""
    return [
        *(masked_pair(n, told=False) for n in ("581", "4287")),
        chiapas(year=1999, told=False),
    ]


def cloudy_pairs_of_trained_places() -> list[Scene]:
    """Return cloudy pairs at places whose clear date the shipped weights know."""
    return [
        *(_sentinel("Volga", "136", "1970_fall", p) for p in ("p100", "p140", "p316", "p500", "p840")),
        *(_sentinel("Llanos", "85", "1970_fall", p) for p in ("p492", "p753")),
    ]


def changed_pairs() -> list[Scene]:
    """Return clear pairs with real change (fire scars) or with 12 % of the reference replaced."""
    return [
        corumba(0),
        corumba(0, reverse=True),
        *lazio_pairs(changed=True),
        corumba(1, changed=True),
        corumba(2, changed=True),
        chiapas(year=2002, changed=True),
    ]


def halved(scene: Scene) -> Scene:
    """Return a scene whose reference comes as two: visible bands in one file, infrared ones in the other."""

    def load() -> Image:
        image = scene.load()
        (both,) = image.guides
        return replace(image, guides=tuple(replace(both, values=part) for part in (both.values[:2], both.values[2:])))

    return replace(scene, name=f"{scene.name}-halved", load=load)


def middling_pairs() -> list[Scene]:
    """Return pairs with two references of which neither tells much alone."""
    whole = [*lazio_pairs(), masked_pair("581", told=True), corumba(1), corumba(2, reverse=True), chiapas(year=1999)]
    return [halved(scene) for scene in whole]


def radar_pairs() -> list[Scene]:
    """Return optical images with radar of another day as an auxiliary."""
    return [masked_pair(n, told=False, radar=True) for n in ("581", "4287")]
