"""All pictures of the report of one image: opened, placed and drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.formats import open_any
from pipeline.formats._image import knows_sides
from pipeline.formats.base import Pull, Source
from pipeline.geometry.box import Box
from pipeline.image.open import open_guide
from pipeline.masks.base import FILL, NEVER
from pipeline.plan.layers import from_published, to_published
from pipeline.plan.plan import Plan
from pipeline.report.bands import rgb_channels, wavelengths
from pipeline.report.drawing import css
from pipeline.report.highlights import Highlights, find_highlights
from pipeline.report.panels import (
    Picture,
    Pixels,
    Readers,
    Rendering,
    View,
    display_pictures,
    guide_pictures,
    origin_picture,
    thumbnail,
    view_of,
)
from pipeline.report.planes import Plane, Planes
from pipeline.report.styles import Shades
from pipeline.restore.codes import (
    CLASSICAL,
    NETWORK,
    NEVER_TOUCHED,
    OBSERVED,
    REFERENCE,
    REFUSED,
    SEVERAL,
    source_colour,
    source_name,
)
from pipeline.system.threads import each
from pipeline.system.words import number

_CHEAP = 1 << 24
"""Pixels of a raster whose references are read whole for a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Pictures under one heading, which links find by its anchor."""

    anchor: str
    heading: str
    text: str
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideView:
    """A reference or auxiliary: what it is called, its share of the result, its pictures or why there are none."""

    role: str
    label: str
    share: float
    pictures: tuple[Picture, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """What the result was made of: the whole image, a plane through the largest hole, or what is around that.

    Attributes:
        image: the pictures of the image.
        origin: its source layer.
        legend: colour, name and share of the restored pixels of everything that led somewhere.
        guides: references and auxiliaries.
    """

    image: View
    origin: Picture
    legend: tuple[tuple[str, str, float], ...]
    guides: tuple[GuideView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """The plane of the largest hole: as restored, and as the display product has it."""

    plane: Plane
    pictures: tuple[Picture, Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """All pictures of a report.

    Attributes:
        sections: the whole image first, then details.
        composition: what the result was made of.
        axes: where the stored axes of a volume point, e.g. `PIR`; empty for rasters.
        thumbnail: before and after beside each other, a small WebP.
        shades: how other programs are to show the same.
        display: the restored image and the display product around the largest hole, None if there is no such product.
    """

    sections: tuple[Section, ...]
    composition: Composition
    axes: str
    thumbnail: bytes
    shades: Shades
    display: Display | None = None


def gallery(plan: Plan, record: Mapping[str, Any], folder: Path, source: Source, *, quality: int = 88) -> Gallery:
    """Draw the published files of a finished image of which something was restored.

    Args:
        plan: its plan.
        record: its record, with the outputs.
        folder: where the outputs lie.
        source: the image.
        quality: of the pictures, 1 to 100.

    Raises:
        SourceError: a result cannot be opened any more.
    """
    readers = _readers(plan, record, folder, source)
    names = [source.channel_names[c] for c in plan.channels]
    channels = _channels(plan, names, [wavelengths(source)[c] for c in plan.channels])
    highlights = find_highlights(plan, readers.origin, readers.uncertainty, channels)
    rendering = _rendering(plan, source, channels, highlights.usual, quality)
    planes = Planes(source.space, sure=knows_sides(source))
    wholes = [Pixels.of(plane, readers, channels) for plane in planes.whole(highlights.holes[0].centre)]
    views = tuple(each(partial(view_of, rendering=rendering), wholes))
    first = Section(
        anchor="whole",
        heading=("The whole part" if plan.source.region else "The whole image")
        if plan.ndim == 2
        else "Three planes through the largest hole",
        text="",
        views=views,
    )
    details = [
        Pixels.of(planes.detail(place.centre), readers, channels)
        for place in (*highlights.holes, *highlights.uncertain)
    ]
    close = tuple(each(partial(view_of, rendering=rendering), details))
    # guides are read whole where that is cheap, else around the largest hole
    cheap = plan.ndim == 3 or math.prod(plan.space.shape) <= _CHEAP
    pixels, view = (wholes[planes.coarsest], views[planes.coarsest]) if cheap else (details[0], close[0])
    return Gallery(
        sections=(first, *_details(highlights, close, rendering)),
        composition=_composition(plan, record, source, pixels, view, rendering),
        axes=source.space.axis_codes if plan.ndim == 3 else "",
        thumbnail=thumbnail(wholes[planes.coarsest]),
        shades=_shades(plan, wholes[planes.coarsest], rendering),
        display=_display(readers, details[0], rendering),
    )


def _display(readers: Readers, pixels: Pixels, rendering: Rendering) -> Display | None:
    if readers.display is None:
        return None
    return Display(plane=pixels.plane, pictures=display_pictures(pixels, readers.display, rendering))


def _shades(plan: Plan, pixels: Pixels, rendering: Rendering) -> Shades:
    low, high = (values.ravel() for values in pixels.stretch)
    shown = [plan.channels[c] for c in rendering.channels]
    return Shades(
        bands=[c + 1 for c in shown],
        ranges=[(a * s + o, b * s + o) for a, b, (s, o) in zip(low, high, rendering.scales, strict=True)],
        sigma_band=plan.published.index(shown[0]) + 1,
        sigma_top=rendering.sigma_top * rendering.sigma_scale,
    )


def _details(highlights: Highlights, views: tuple[View, ...], rendering: Rendering) -> Iterator[Section]:
    n = len(highlights.holes)
    sizes = ", ".join(f"{place.size:,.0f}" for place in highlights.holes)
    near = f" Holes less than {highlights.cell} {rendering.noun} apart count as one." if highlights.cell > 1 else ""
    yield Section(
        anchor="largest",
        heading="The largest holes" if n > 1 else "The largest hole",
        text=f"At full resolution; {sizes} {rendering.noun}.{near}",
        views=views[:n],
    )
    if highlights.uncertain:
        tops = ", ".join(number(place.size * rendering.sigma_scale) for place in highlights.uncertain)
        yield Section(
            anchor="unsure",
            heading="Where the uncertainty is largest",
            text=f"At full resolution; standard errors of {tops}{' ' + rendering.units if rendering.units else ''}.",
            views=views[n:],
        )


def _composition(
    plan: Plan, record: Mapping[str, Any], source: Source, pixels: Pixels, view: View, rendering: Rendering
) -> Composition:
    by_source = record["holes"]["by_source"]
    total = max(1, sum(by_source.values()))
    roles = [guide.role for guide in plan.guides]
    codes = (CLASSICAL, NETWORK, *(REFERENCE + k for k in range(len(roles) + 1)), SEVERAL, REFUSED)
    shares = {code: by_source.get(source_name(code, roles), 0) / total for code in codes}
    guides = []
    for k, guide in enumerate(plan.guides):
        facts = {"role": guide.role, "label": guide.label, "share": shares[REFERENCE + k]}
        try:
            opened = open_guide(guide, source)
            pictures = guide_pictures(opened, REFERENCE + k, pixels, rendering)
        except PipelineError as error:
            guides.append(GuideView(**facts, missing=str(error)))
        else:
            guides.append(GuideView(**facts, pictures=pictures))
    return Composition(
        image=view,
        origin=origin_picture(pixels, rendering),
        legend=tuple((css(source_colour(c)), source_name(c, roles), share) for c, share in shares.items() if share),
        guides=tuple(guides),
    )


def _rendering(plan: Plan, source: Source, channels: Sequence[int], usual: float, quality: int) -> Rendering:
    shown = [plan.channels[c] for c in channels]
    scales = [source.scale_offset[c] for c in shown]
    given = list(source.attributes.get("units", ()))
    units = {str(given[c]) for c in shown if c < len(given)}
    return Rendering(
        channels=channels,
        names=[source.channel_names[c] for c in shown],
        of_several=len(plan.channels) > 1,
        units=units.pop() if len(units) == 1 else "",
        scales=scales,
        # the uncertainty file of a volume is in physical units already
        sigma_scale=abs(scales[0][0]) if plan.ndim == 2 else 1.0,
        sigma_top=usual,
        noun="pixels" if plan.ndim == 2 else "voxels",
        quality=quality,
    )


def _readers(plan: Plan, record: Mapping[str, Any], folder: Path, source: Source) -> Readers:
    paths: dict[str, Path] = {}
    for output in reversed(record["outputs"]):
        if output["role"] in ("restored", "uncertainty", "source", "display"):
            paths[output["role"]] = folder / output["path"]
    # gz volumes are read plane by plane: inflate them once
    staged = {role: open_any(str(path)).stage(plan.work.staged) for role, path in paths.items()}
    state = zarr.open_array(plan.work.state, mode="r")

    def before(box: Box) -> NDArray[Any]:
        return source.read(box)[list(plan.channels)]

    def kept(box: Box) -> NDArray[np.uint8]:
        never = np.asarray(state[box.at()])[: plan.n_state] == NEVER
        codes = np.where(never, np.uint8(NEVER_TOUCHED), np.uint8(OBSERVED))
        return from_published(to_published(codes, plan, NEVER_TOUCHED), plan)

    blocks = partial(_where_computed, frozenset(block.index for block in plan.blocks), plan.block)
    return Readers(
        before=before,
        after=blocks(lambda box: staged["restored"].read(box)[list(plan.channels)], before),
        uncertainty=blocks(
            lambda box: from_published(staged["uncertainty"].read(box), plan),
            lambda box: np.zeros((len(plan.channels), *box.shape), dtype=np.float32),
        ),
        origin=blocks(lambda box: from_published(staged["source"].read(box), plan), kept),
        states=_states(plan),
        display=(lambda box: staged["display"].read(box)[list(plan.channels)]) if "display" in staged else None,
    )


def _where_computed(computed: frozenset[tuple[int, ...]], block: tuple[int, ...], result: Pull, image: Pull) -> Pull:
    """Return what reads a result, but where no block was computed what the image says: next to nothing, if it is large.

    There the results are made of the image alone, and checked against it.
    """

    def pull(box: Box) -> NDArray[Any]:
        indices = (tuple(a // n for a, n in zip(tile.start, block, strict=True)) for tile in box.tiles(block))
        return result(box) if any(index in computed for index in indices) else image(box)

    return pull


def _states(plan: Plan) -> Pull | None:
    """Return what gives the states of a window, None if no pixel is doubted or hazy."""
    if not plan.doubted and not plan.hazy:
        return None
    state = zarr.open_array(plan.work.state, mode="r")
    return lambda box: np.asarray(state[box.at()])


def _channels(plan: Plan, names: Sequence[str], wavelength: Sequence[float | None]) -> list[int]:
    """Return the channels to show: natural colours, one volume of a series; where holes differ, one that has some."""
    usual = rgb_channels(names, wavelength) if plan.ndim == 2 else [0]
    if plan.n_state == 1:
        return usual
    state = zarr.open_array(plan.work.state, mode="r")
    counts = np.zeros(state.shape[0], dtype=np.int64)
    for box in Box.whole(plan.space.shape).tiles(state.chunks[1:]):
        part = np.asarray(state[box.at()]) == FILL
        counts += part.reshape(len(counts), -1).sum(axis=1)
    return usual if plan.ndim == 2 and counts[usual].any() else [int(np.argmax(counts))]
