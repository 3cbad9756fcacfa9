"""Pictures of one plane of a restored image: before, after, holes, uncertainty, what it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.base import FOR_LOOKING_AT, Pull
from pipeline.image.open import OpenGuide
from pipeline.masks.base import DOUBT, HAZY, KEEP
from pipeline.report.bands import rgb_channels, wavelengths
from pipeline.report.drawing import (
    DOUBT_COLOUR,
    HAZE_COLOUR,
    RAMP,
    beside,
    colour,
    css,
    ramp,
    stretch,
    tinted,
    webp,
)
from pipeline.report.planes import Plane
from pipeline.restore.codes import NEVER_TOUCHED, OBSERVED, source_colour
from pipeline.system.words import in_percent, number

_THUMBNAIL = 128
"""Longer edge of a picture of the whole image in a list, in pixels."""
HOLE_COLOUR = (230, 60, 40)
_MASK_COLOUR = (240, 170, 30)
_LED_COLOUR = (0, 200, 160)
_NEVER_GREY = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture: what it is called, what it shows in a full sentence, WebP as a data URI."""

    name: str
    caption: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A colour bar: CSS colours from left to right, what its ends mean, and the unit."""

    colours: tuple[str, ...]
    low: str
    high: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """Where the pixels come from: stored input, restored, standard error, source codes, states, display.

    States are there if any pixel is doubted or hazy.
    """

    before: Pull
    after: Pull
    uncertainty: Pull
    origin: Pull
    states: Pull | None = None
    display: Pull | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How an image is shown.

    Attributes:
        channels: red, green and blue, or one for grey; positions among the restored channels.
        names: of those channels.
        of_several: the image has other channels, too.
        units: of those channels; may be empty.
        scales: `(scale, offset)` of those channels: what a colour bar says is physical where the file knows how.
        sigma_scale: the same for standard errors.
        sigma_top: uncertainty that is shown in the brightest colour.
        noun: what the elements of the image are called, `pixels` or `voxels`.
        quality: of WebP, 1 to 100.
    """

    channels: Sequence[int]
    names: Sequence[str]
    of_several: bool
    units: str
    scales: Sequence[tuple[float, float]]
    sigma_scale: float
    sigma_top: float
    noun: str
    quality: int

    def picture(self, name: str, caption: str, values: NDArray[Any]) -> Picture:
        """Return values `(rows, columns, 3)` as a picture."""
        return Picture(name=name, caption=caption, uri=webp(values, self.quality))


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All pictures of one plane."""

    plane: Plane
    before: Picture
    after: Picture
    holes: Picture
    uncertainty: Picture
    values_bar: Bar | None
    sigma_bar: Bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """The pixels of one plane, `(c, rows, columns)` of the shown channels; the other arrays `(rows, columns)`."""

    plane: Plane
    before: NDArray[Any]
    after: NDArray[Any]
    sigma: NDArray[Any]
    origin: NDArray[np.uint8]
    states: NDArray[np.uint8] | None

    @classmethod
    def of(cls, plane: Plane, readers: Readers, channels: Sequence[int]) -> Pixels:
        """Read them."""
        chosen = list(channels)
        codes = plane.cut(readers.origin)
        # one plane of codes speaks for all channels; else a pixel shows its hole in whichever shown channel has one
        origin = codes[chosen if len(codes) > 1 else [0]].max(axis=0)
        states = None
        if readers.states is not None:
            states = np.where(origin == OBSERVED, plane.cut(readers.states).max(axis=0), KEEP)
        return cls(
            plane=plane,
            before=plane.cut(readers.before)[chosen],
            after=plane.cut(readers.after)[chosen],
            sigma=np.nan_to_num(plane.cut(readers.uncertainty))[chosen].mean(axis=0),
            origin=origin,
            states=states,
        )

    @property
    def hole(self) -> NDArray[np.bool_]:
        """True where something was restored, `(rows, columns)`."""
        return np.asarray((self.origin != OBSERVED) & (self.origin != NEVER_TOUCHED))

    @property
    def stretch(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The 2nd and the 98th percentile of what was observed, `(c, 1, 1)` each; of a lost slice, of what it got."""
        seen = self.origin == OBSERVED
        return stretch(self.before, seen) if seen.any() else stretch(self.after, self.hole)


def view_of(pixels: Pixels, rendering: Rendering) -> View:
    """Return the pictures of one plane."""
    low, high = pixels.stretch
    before, after = colour(pixels.before, low, high), colour(pixels.after, low, high)
    never = pixels.origin == NEVER_TOUCHED
    marked = tinted(before, pixels.hole, HOLE_COLOUR, 0.65)
    said = f"{rendering.noun.capitalize()} to restore in red; dark grey is never touched."
    if pixels.states is not None:
        marked = tinted(marked, pixels.states == DOUBT, DOUBT_COLOUR, 0.5)
        marked = tinted(marked, pixels.states == HAZY, HAZE_COLOUR, 0.5)
        said = (
            f"{rendering.noun.capitalize()} to restore in red; observed ones that look like cloud or shadow, kept "
            "but not used, in blue; those used without the haze or shadow over them in light blue."
        )
    marked[never] = _NEVER_GREY
    heat = ramp(np.where(pixels.hole, pixels.sigma / max(rendering.sigma_top, 1e-30), 0.0))
    heat[never] = _NEVER_GREY
    ranges = ", ".join(
        f"{name} {number(a * s + o)} to {number(b * s + o)}"
        for name, a, b, (s, o) in zip(rendering.names, low.ravel(), high.ravel(), rendering.scales, strict=True)
    )
    unit = f" {rendering.units}" if rendering.units else ""

    picture, (scale, offset), grey = rendering.picture, rendering.scales[0], len(low) == 1
    which = f": {rendering.names[0]}" if grey and rendering.of_several else ""
    stretched = "" if grey else f" Colours: {ranges}{unit}."
    ends = [number(float(v.ravel()[0]) * scale + offset) for v in (low, high)]
    return View(
        plane=pixels.plane,
        before=picture("before", f"The input as stored{which}.{stretched}", before),
        after=picture("after", "The restored image, in the same colours.", after),
        holes=picture("holes", said, marked),
        uncertainty=picture("uncertainty", "One standard error of what was restored; black was observed.", heat),
        values_bar=Bar(colours=("#000", "#fff"), low=ends[0], high=ends[1], unit=rendering.units) if grey else None,
        sigma_bar=Bar(
            colours=("#000", *(css(shade) for shade in RAMP)),
            low="0",
            high=number(rendering.sigma_top * rendering.sigma_scale) + " or more",
            unit=rendering.units,
        ),
    )


def display_pictures(pixels: Pixels, display: Pull, rendering: Rendering) -> tuple[Picture, Picture]:
    """Return the restored image and the display product of one plane, in the same colours."""
    sharp = pixels.plane.cut(display)[list(rendering.channels)]
    mean, texture = (colour(values, *pixels.stretch) for values in (pixels.after, sharp))
    return (
        rendering.picture("restored", "The scientific result: the mean of what may be there.", mean),
        rendering.picture("display product", f"{FOR_LOOKING_AT.capitalize()}.", texture),
    )


def thumbnail(pixels: Pixels) -> bytes:
    """Return a plane before and, beside it, after, as a small WebP in true proportion."""
    low, high = pixels.stretch
    width, height = pixels.plane.extent
    size = [max(1, round(_THUMBNAIL * edge / max(width, height))) for edge in (width, height)]
    return beside([colour(values, low, high) for values in (pixels.before, pixels.after)], (size[0], size[1]))


def origin_picture(pixels: Pixels, rendering: Rendering) -> Picture:
    """Return the source layer in colours over the darkened image."""
    picture = 0.45 * colour(pixels.after, *pixels.stretch)
    for code in np.unique(pixels.origin[pixels.hole]):
        picture = tinted(picture, pixels.origin == code, source_colour(int(code)), 0.8)
    picture[pixels.origin == NEVER_TOUCHED] = _NEVER_GREY
    return rendering.picture("source", "What led where: the source layer in colours.", picture)


def guide_pictures(guide: OpenGuide, code: int, pixels: Pixels, rendering: Rendering) -> tuple[Picture, ...]:
    """Return a reference or auxiliary with its own mask, its difference to the image, and where it leads there.

    Args:
        guide: the open image.
        code: its code in the source layer.
        pixels: of the restored image, in the plane to show.
        rendering: how the restored image is shown.
    """
    names = guide.source.channel_names
    chosen = rgb_channels(names, wavelengths(guide.source)) if pixels.plane.across is None else [0]
    values = pixels.plane.cut(guide.source.read)[chosen]
    masked = (pixels.plane.cut(guide.mask.read) != KEEP).any(axis=0) | ~np.isfinite(values).all(axis=0)
    picture = tinted(colour(values, *stretch(values, ~masked)), masked, _MASK_COLOUR, 0.65)
    led = pixels.origin == code
    leads = 0.6 * colour(pixels.after, *pixels.stretch)
    leads = tinted(leads, led, _LED_COLOUR, 0.5)
    share = masked.mean()
    hidden = f"{100 * share:.0f} % of it, masked or without data, in yellow" if share else "none of it is masked here"
    part = led.sum() / max(1, pixels.hole.sum())

    off, most = _difference(pixels, values, masked)
    return (
        rendering.picture("itself", f"The same place, stretched by itself; {hidden}.", picture),
        rendering.picture(
            "difference",
            f"How far it is from the image where both are observed, each stretched by itself: black 0 to pale yellow "
            f"{in_percent(most)} or more of the stretch.",
            off,
        ),
        rendering.picture(
            "where it leads",
            f"It leads in {100 * part:.0f} % of the restored {rendering.noun} shown here, in green.",
            leads,
        ),
    )


def _difference(pixels: Pixels, values: NDArray[Any], masked: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Return how far a guide is from the image where both are observed, and which share of the stretch is brightest."""
    both = (pixels.origin == OBSERVED) & ~masked
    own, other = (
        colour(part, *stretch(part, both)).mean(axis=-1) / 255 for part in (pixels.before, np.nan_to_num(values))
    )
    off = np.where(both, np.abs(own - other), 0.0)
    most = max(float(np.percentile(off[both], 98)) if both.any() else 0.0, 0.01)
    picture = ramp(off / most)
    picture[~both] = _NEVER_GREY
    return picture, most
