"""What a mask promises, and how several masks make one.

A mask module (its file name is the `kind`) offers a frozen pydantic `Options` model whose `kind` is a
`Literal` of the module name, and::

    def open_mask(options: Options, source: Source, resolve: Callable[[str], str]) -> Mask

`resolve` turns a path of the config into an absolute one (relative paths are relative to the config file).
The three states of a pixel are named here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.errors import ConfigError
from pipeline.formats._view import View
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space
from pipeline.masks._dilate import dilate, reach_of
from pipeline.registry import load
from pipeline.system.units import parse_length

KEEP, FILL, NEVER = 0, 1, 2
"""Observed and trusted / a hole to be restored / outside the image content, must never be touched."""

DOUBT = 3
"""Observed and kept, but no evidence: it looks like thin cloud, haze or shadow. No mask says so, the survey does."""

HAZY = 4
"""Observed and kept; evidence once the haze, thin cloud or shadow over it is taken off. The survey says so, too."""


def evidence(states: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels that others may be restored from, same shape: trusted and, without their haze, hazy ones."""
    return np.asarray((states == KEEP) | (states == HAZY))


FillNodata = Literal["drawn", "never", "inside", "all"]
Resolve = Callable[[str], str]

_WIDEST_WINDOW = 1 << 25
"""Pixels that a buffer may make a mask look at around one pixel: what is read at once stays bounded by this."""


def _checked_length(text: object) -> object:
    if not isinstance(text, str | int | float):
        return text
    length = parse_length(text)
    if not math.isfinite(length.value):
        raise ConfigError(f"'{text}' is no length; write it like '60 m', '2 mm' or '3 px'")
    return str(length)


LengthText = Annotated[str, BeforeValidator(_checked_length)]
"""A length in a config, e.g. `3 px`, `60 m`, `2 mm`; a bare number counts pixels."""


class MaskOptions(BaseModel):
    """Options common to all masks.

    `buffer` widens the holes: `3 px` (pixels or voxels, in every direction) or a length (`60 m`, `2 mm`).
    `invert` swaps hole and kept pixels before the buffer is applied; never-touch pixels stay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    drawn: ClassVar[bool] = False
    """True for kinds whose holes somebody drew: holes whatever the image has there, if `fill_nodata` is `drawn`."""

    kind: str
    buffer: LengthText = Field(default="0 px", description="Widen (dilate) the holes: '3 px', '60 m', '2 mm'.")
    invert: bool = Field(default=False, description="Swap hole and kept pixels (before the buffer).")

    def resolved(self, resolve: Resolve) -> MaskOptions:
        """Return these options with absolute paths.

        Raises:
            ConfigError, SourceError: as `resolve`.
        """
        path = getattr(self, "path", None)
        return self if path is None else self.model_copy(update={"path": resolve(path)})

    def reads(self) -> tuple[str, ...]:
        """Return the files that the mask reads beside the image, of resolved options."""
        path = getattr(self, "path", None)
        return () if path is None else (path,)


class FileMaskOptions(MaskOptions):
    """Options common to masks that a file holds pixel by pixel."""

    path: str = Field(
        description="Mask file; '{stem}' and '{folder}' stand for the image's own name and folder, '{stem:-3}' for a "
        "part of the name."
    )
    outside: Literal["keep"] | None = Field(
        default=None,
        description="keep: what the file does not cover counts as observed, however much of the image that is.",
    )


class Mask(Protocol):
    """Says which of the three states every pixel of a source has. Picklable, thread-safe, deterministic.

    A mask may set `claims_nodata = True`: its holes are then restored even where the source has nodata. Only
    masks that speak about nodata itself do so. It may set `by_value = True`: the image's own values make it, so that
    others like them lie beside its holes. It may offer `unsaid(box)`, bool `(1 or c, *box.shape)`: True where
    its file does not speak of the place, so that an inverted mask marks no hole there. It may offer
    `examine()`, which looks at the values of its file and returns notices; it is called once a run.
    """

    @property
    def notices(self) -> tuple[str, ...]:
        """Facts the user should know, e.g. that the mask was warped to the image grid."""
        ...

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return KEEP/FILL/NEVER for `box`, shape `(1, *box.shape)` or `(c, *box.shape)`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Holes:
    """What one entry says about a window; each bool `(1 or c, *box.shape)`."""

    wide: NDArray[np.bool_]
    """Its holes, widened by the buffer."""
    never: NDArray[np.bool_]
    """Outside the content of the image."""
    claimed: NDArray[np.bool_]
    """Holes, without the buffer, that are to be restored even where the image has nodata."""
    drawn: NDArray[np.bool_]
    """Holes, without the buffer, that somebody drew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPart:
    """One entry of the config: a mask, whether it is inverted, and how far its holes are widened."""

    mask: Mask
    """As opened by its module."""
    invert: bool
    """Swap hole and kept pixels."""
    radii: tuple[float, ...]
    """Buffer in pixels on each spatial axis: half-axes of an ellipsoid, which is a ball in world units."""
    shape: tuple[int, ...]
    """Spatial shape of the image."""
    drawn: bool = False
    """Somebody drew its holes."""

    def read(self, box: Box) -> Holes:
        """Return what the entry says about `box`.

        Reads a halo as wide as the buffer, so a window gives what the whole image would.
        """
        halo = reach_of(self.radii, self.shape)
        outer = box.grow(halo) & Box.whole(self.shape)
        states = self.mask.read(outer)
        core = box.at(of=outer)
        hole = states == (KEEP if self.invert else FILL)
        unsaid = getattr(self.mask, "unsaid", None) if self.invert else None
        if unsaid is not None:
            hole = hole & ~unsaid(outer)
        return Holes(
            wide=dilate(hole, self.radii)[core] if any(halo) else hole[core],
            never=states[core] == NEVER,
            claimed=hole[core] & getattr(self.mask, "claims_nodata", False),
            drawn=hole[core] & self.drawn,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedMask:
    """The union of all entries, minus what must never be touched. A `Mask` itself."""

    parts: tuple[MaskPart, ...]
    """Entries of the config."""
    source: Source
    """The image, asked for its nodata."""
    fill_nodata: FillNodata = "never"
    """Which nodata pixels are holes: those that a mask `drawn` by somebody marks (not those of its buffer); `never`
    any; those `inside` a mask's holes; `all`."""
    background: tuple[float, ...] = ()
    """What each channel of the image holds in an empty background; empty = there is none. It is nodata, and nodata that
    no `fill_nodata: all` means."""
    notices: tuple[str, ...] = ()
    """What the masks had to say."""
    view: View | None = None
    """How the image is seen, if only a part of it is restored; the entries and `source` are those of the whole."""

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return KEEP/FILL/NEVER for `box`, shape `(c, *box.shape)`, or `(1, *box.shape)` for all channels.

        `box` must lie inside the image (of a part: inside that). Reading in tiles gives what reading at once gives.
        """
        return self.look(box)[0]

    @property
    def max_gap(self) -> str | None:
        """The longest run of nodata that is a hole, if a mask picks nodata by that; the widest of several."""
        gaps = [gap for part in self.parts if (gap := getattr(part.mask, "max_gap", None))]
        return max(gaps, key=lambda gap: max(pixels_on(self.source.space, gap)), default=None)

    def look(self, box: Box) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return what `read` does, where that is a hole over nodata because somebody drew it, and what is left.

        The second is bool, `(1 or c, *box.shape)`; it is False everywhere unless `fill_nodata` is `drawn`. The third,
        likewise, is True where a mask marks a pixel that is never touched all the same, as it has no value.
        """
        if self.view is None:
            return self._look(box)
        states, over_nodata, left = self._look(self.view.place(box))
        return self.view.seen(states), self.view.seen(over_nodata), self.view.seen(left)

    def _look(self, box: Box) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
        empty = holds(self.source.read(box), self.background) if self.background else np.zeros((1, *box.shape), bool)
        nodata = self.source.never(box) | empty
        hole = outside = claimed = drawn = np.zeros((1, *box.shape), dtype=bool)
        for part in self.parts:
            said = part.read(box)
            hole, outside, claimed = hole | said.wide, outside | said.never, claimed | said.claimed
            drawn = drawn | said.drawn
        if self.fill_nodata != "drawn":
            drawn = np.zeros_like(drawn)
        untouchable, marked = outside | nodata, hole
        if self.fill_nodata == "all":
            hole = hole | (untouchable & ~empty)
        elif self.fill_nodata == "inside":
            hole = (hole & ~outside) | claimed
        else:
            hole = (hole & ~untouchable) | claimed | drawn
        hole, untouchable = np.broadcast_arrays(hole, untouchable)
        states = np.where(hole, np.uint8(FILL), np.where(untouchable, np.uint8(NEVER), np.uint8(KEEP)))
        return self._without_fixed_channels(states), drawn & nodata & ~claimed, marked & (states == NEVER)

    def examine(self) -> tuple[str, ...]:
        """Look at the values of mask files and return what the user should know of them; reads what the run reads.

        Raises:
            SourceError: a file is damaged.
        """
        masks = [part.mask for part in self.parts]
        return tuple(note for mask in masks if hasattr(mask, "examine") for note in mask.examine())

    def _without_fixed_channels(self, states: NDArray[np.uint8]) -> NDArray[np.uint8]:
        fixed = getattr(self.source, "fixed_channels", ())  # alpha says where data are; it is no data
        if not fixed:
            return states
        full = np.broadcast_to(states, (self.source.n_channels, *states.shape[1:])).copy()
        full[list(fixed)] = NEVER
        return full


def holds(values: NDArray[np.generic], background: Sequence[float]) -> NDArray[np.bool_]:
    """Return where all channels `(c, ...)` hold what they hold in an empty background, bool `(1, ...)`."""
    told = [channel == value for channel, value in zip(values, background, strict=True)]
    return np.asarray(np.logical_and.reduce(told))[None]


def mask_options(entry: Mapping[str, Any]) -> MaskOptions:
    """Return the checked options of one mask entry, `{kind: ..., ...}`.

    Raises:
        ConfigError: no such kind.
        pydantic.ValidationError: an option is unknown or wrong.
    """
    options: MaskOptions = load("masks", str(entry.get("kind"))).Options.model_validate(entry)
    return options


def open_masks(
    entries: Iterable[MaskOptions], source: Source, resolve: Resolve, fill_nodata: FillNodata = "never"
) -> ComposedMask:
    """Open every mask entry on the grid of `source` and compose them.

    Args:
        entries: validated options; each entry's `kind` names its module.
        source: the image, or a view of it: entries speak of the whole image as its file has it.
        resolve: turns a path of the config into an absolute one.
        fill_nodata: what happens to nodata pixels, see `ComposedMask`.

    Raises:
        ConfigError: an option does not fit the image (band, slice, buffer unit), or a buffer is too wide for it.
        SourceError: a mask file cannot be read or lies on another place.
    """
    parts, said = [], []
    view = source if isinstance(source, View) else None
    source = view.whole if view is not None else source
    for entry in entries:
        mask: Mask = load("masks", entry.kind).open_mask(entry, source, resolve)
        radii = length_on(source, "buffer", entry.buffer)
        _require_bounded(entry.buffer, radii, source)
        part = MaskPart(mask=mask, invert=entry.invert, radii=radii, shape=source.space.shape, drawn=type(entry).drawn)
        parts.append(part)
        if any(radii) and not any(reach_of(radii, source.space.shape)):
            unit = source.space.unit
            said.append(f"{source.paths[0]}: a buffer of {entry.buffer} is less than one {unit}: nothing is widened")
    notices = (*(note for part in parts for note in part.mask.notices), *said)
    return ComposedMask(parts=tuple(parts), source=source, fill_nodata=fill_nodata, notices=notices, view=view)


def _require_bounded(buffer: str, radii: tuple[float, ...], source: Source) -> None:
    """Refuse a buffer for which windows of any size would have to be read.

    Raises:
        ConfigError: names the image, the buffer and the widest that it could have.
    """
    shape = source.space.shape
    around = math.prod(min(n, 2 * reach + 1) for n, reach in zip(shape, reach_of(radii, shape), strict=True))
    if around > _WIDEST_WINDOW:
        widest = int(_WIDEST_WINDOW ** (1 / len(shape)) - 1) // 2
        raise ConfigError(
            f"{source.paths[0]}: a buffer of {buffer} would look at {around} pixels around each one; up to {widest} px "
            f"fit any image. Give a narrower one, or widen the holes in a mask file of your own (`kind: raster`)"
        )


def length_on(source: Source, key: str, length: str) -> tuple[float, ...]:
    """Return a length of the config as pixels on each axis of an image.

    Raises:
        ConfigError: as `pixels_on`; names the image and the key.
    """
    try:
        return pixels_on(source.space, length)
    except ConfigError as error:
        raise ConfigError(f"{source.paths[0]}: {key}: {error}") from None


def pixels_on(space: Space, length: str) -> tuple[float, ...]:
    """Return a length as pixels on each axis of `space`, memory order; always finite.

    Raises:
        ConfigError: the grid has no length unit, so only `px` can be used, or the length is no number of pixels.
    """
    latitude, units = None, space.units
    if space.kind == "volume" and units == "unknown":
        units = "mm"  # headers often leave the unit out, and NIfTI tools read millimetres then
    if space.kind == "raster":
        rows, cols = space.shape
        latitude = space.affine[3] * cols / 2 + space.affine[4] * rows / 2 + space.affine[5]
    try:
        pixels = parse_length(length).pixels(space.spacing, units, latitude)
    except ZeroDivisionError:
        pixels = (math.inf,)
    if not all(math.isfinite(n) for n in pixels):
        raise ConfigError(f"'{length}' is no number of pixels on a grid of {space.spacing} {units}; give it in px")
    return pixels


def channel_index(band: int | str, source: Source) -> int:
    """Return the 0-based channel for a 1-based number or a name.

    Raises:
        ConfigError: the image has no such band.
    """
    names = source.channel_names
    if isinstance(band, str) and band in names:
        return names.index(band)
    if isinstance(band, int) and 1 <= band <= source.n_channels:
        return band - 1
    raise ConfigError(
        f"{source.paths[0]}: no band {band!r}; it has {source.n_channels}: {', '.join(names) or 'unnamed'}"
    )


def states_from(hole: NDArray[np.bool_], never: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Return FILL where `hole`, NEVER where `never`, else KEEP; all of one shape, `(1 or c, *spatial)`."""
    states = np.where(hole, np.uint8(FILL), np.uint8(KEEP))
    if never is not None:
        states[np.broadcast_to(never, states.shape)] = NEVER
    return states
