"""What a mask promises, and how several masks make one.

A mask module (its file name is the `kind`) offers a frozen pydantic `Options` model whose `kind` is a
`Literal` of the module name, and::

    def open_mask(options: Options, source: Source, resolve: Callable[[str], str]) -> Mask

`resolve` turns a path of the config into an absolute one (relative paths are relative to the config file).
The three states of a pixel are named here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space
from pipeline.registry import load
from pipeline.system.units import parse_length

KEEP, FILL, NEVER = 0, 1, 2
"""Observed and trusted / a hole to be restored / outside the image content, must never be touched."""

State = Literal[0, 1, 2]
FillNodata = Literal["never", "inside", "all"]
Resolve = Callable[[str], str]


def _checked_length(text: object) -> object:
    return str(parse_length(text)) if isinstance(text, str | int | float) else text


LengthText = Annotated[str, BeforeValidator(_checked_length)]
"""A length in a config, e.g. `3 px`, `60 m`, `2 mm`; a bare number counts pixels."""


class MaskOptions(BaseModel):
    """Options common to all masks.

    `buffer` widens the holes: `3 px` (pixels or voxels, in every direction) or a length (`60 m`, `2 mm`).
    `invert` swaps hole and kept pixels before the buffer is applied; never-touch pixels stay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    buffer: LengthText = Field(default="0 px", description="Widen the holes: '3 px', '60 m', '2 mm'.")
    invert: bool = Field(default=False, description="Swap hole and kept pixels (before the buffer).")


class Mask(Protocol):
    """Says which of the three states every pixel of a source has. Picklable, thread-safe, deterministic.

    A mask may set `claims_nodata = True`: its holes are then restored even where the source has nodata. Only
    masks that speak about nodata itself do so.
    """

    @property
    def notices(self) -> tuple[str, ...]:
        """Facts the user should know, e.g. that the mask was warped to the image grid."""
        ...

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return KEEP/FILL/NEVER for `box`, shape `(1, *box.shape)` or `(c, *box.shape)`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPart:
    """One entry of the config: a mask, whether it is inverted, and how far its holes are widened.

    Attributes:
        mask: as opened by its module.
        invert: swap hole and kept pixels.
        radii: buffer in pixels on each spatial axis; the dilation is by the ellipsoid with these half-axes,
            which is a ball in world units.
        shape: spatial shape of the image.
    """

    mask: Mask
    invert: bool
    radii: tuple[float, ...]
    shape: tuple[int, ...]

    def read(self, box: Box) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return `(hole, never, claimed)`, each bool `(1 or c, *box.shape)`.

        Reads a halo as wide as the buffer, so a window gives what the whole image would.
        """
        halo = tuple(int(r + 1e-9) for r in self.radii)
        outer = box.grow(halo) & Box.whole(self.shape)
        states = self.mask.read(outer)
        core = box.at(of=outer)
        hole = states == (KEEP if self.invert else FILL)
        claimed = hole[core] & getattr(self.mask, "claims_nodata", False)
        wide = dilate(hole, self.radii)[core] if any(halo) else hole[core]
        return wide, states[core] == NEVER, claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedMask:
    """The union of all entries, minus what must never be touched. A `Mask` itself.

    Attributes:
        parts: entries of the config.
        source: the image, asked for its nodata.
        fill_nodata: `never` - nodata is never touched; `inside` - nodata under a mask's hole is restored;
            `all` - every nodata pixel is a hole.
        notices: what the masks had to say.
    """

    parts: tuple[MaskPart, ...]
    source: Source
    fill_nodata: FillNodata = "never"
    notices: tuple[str, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return KEEP/FILL/NEVER for `box`, shape `(c, *box.shape)`, or `(1, *box.shape)` for all channels.

        `box` must lie inside the image. Reading in tiles gives what reading at once gives.
        """
        nodata = self.source.never(box)
        hole = outside = claimed = np.zeros((1, *box.shape), dtype=bool)
        for part in self.parts:
            fill, never, claim = part.read(box)
            hole, outside, claimed = hole | fill, outside | never, claimed | claim
        untouchable = outside | nodata
        if self.fill_nodata == "all":
            hole = hole | untouchable
        elif self.fill_nodata == "inside":
            hole = (hole & ~outside) | claimed
        else:
            hole = (hole & ~untouchable) | claimed
        hole, untouchable = np.broadcast_arrays(hole, untouchable)
        states = np.where(hole, FILL, np.where(untouchable, NEVER, KEEP)).astype(np.uint8)
        return self._without_fixed_channels(states)

    def _without_fixed_channels(self, states: NDArray[np.uint8]) -> NDArray[np.uint8]:
        fixed = getattr(self.source, "fixed_channels", ())  # alpha says where data are; it is no data
        if not fixed:
            return states
        full = np.broadcast_to(states, (self.source.n_channels, *states.shape[1:])).copy()
        full[list(fixed)] = NEVER
        return full


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
        source: the image.
        resolve: turns a path of the config into an absolute one.
        fill_nodata: what happens to nodata pixels, see `ComposedMask`.

    Raises:
        ConfigError: an option does not fit the image (band, slice, buffer unit).
        SourceError: a mask file cannot be read or lies on another place.
    """
    parts = []
    for entry in entries:
        mask: Mask = load("masks", entry.kind).open_mask(entry, source, resolve)
        radii = pixels_on(source.space, entry.buffer)
        parts.append(MaskPart(mask=mask, invert=entry.invert, radii=radii, shape=source.space.shape))
    notices = tuple(note for part in parts for note in part.mask.notices)
    return ComposedMask(parts=tuple(parts), source=source, fill_nodata=fill_nodata, notices=notices)


def pixels_on(space: Space, length: str) -> tuple[float, ...]:
    """Return a length as pixels on each axis of `space`, memory order.

    Raises:
        ConfigError: the grid has no length unit, so only `px` can be used.
    """
    latitude, units = None, space.units
    if space.kind == "volume" and units == "unknown":
        units = "mm"  # headers often leave the unit out, and NIfTI tools read millimetres then
    if space.kind == "raster":
        rows, cols = space.shape
        latitude = space.affine[3] * cols / 2 + space.affine[4] * rows / 2 + space.affine[5]
    return parse_length(length).pixels(space.spacing, units, latitude)


def dilate(hole: NDArray[np.bool_], radii: Sequence[float]) -> NDArray[np.bool_]:
    """Widen holes by the ellipsoid with half-axes `radii` (pixels) around every hole pixel, per channel.

    The ellipsoid is a set of runs along the last axis: the holes are widened step by step along it, and each
    width is laid where the runs of that width lie. Whole numbers only, so a window agrees with the image.

    Args:
        hole: bool `(c, *spatial)`.
        radii: per spatial axis, at least 0.
    """
    result = hole.copy()
    if not hole.any():
        return result
    runs = _runs(radii)
    widened = hole.copy()
    for width in range(max(runs) + 1):
        if width:
            before = widened.copy()
            widened[..., 1:] |= before[..., :-1]
            widened[..., :-1] |= before[..., 1:]
        for offset in runs.get(width, ()):
            here = tuple(slice(max(o, 0), n + min(o, 0)) for o, n in zip(offset, hole.shape[1:], strict=False))
            there = tuple(slice(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, hole.shape[1:], strict=False))
            result[(slice(None), *here)] |= widened[(slice(None), *there)]
    return result


def _runs(radii: Sequence[float]) -> dict[int, list[tuple[int, ...]]]:
    """Cut an ellipsoid into runs along its last axis: half-length in pixels -> offsets on the other axes."""
    *across, along = radii
    runs: dict[int, list[tuple[int, ...]]] = {}
    # The margin keeps pixels at exactly the radius in, whichever way the rounding goes.
    for offset in product(*(range(-int(r + 1e-9), int(r + 1e-9) + 1) for r in across)):
        left = 1.0 - sum((o / r) ** 2 for o, r in zip(offset, across, strict=True) if o)
        if left >= -1e-9:
            runs.setdefault(int(along * max(left, 0.0) ** 0.5 + 1e-9), []).append(offset)
    return runs


def channel_index(band: int | str, source: Source) -> int:
    """Return the 0-based channel for a 1-based number or a name.

    Raises:
        ConfigError: the image has no such band.
    """
    from pipeline.errors import ConfigError

    names = source.channel_names
    if isinstance(band, str) and band in names:
        return names.index(band)
    if isinstance(band, int) and 1 <= band <= source.n_channels:
        return band - 1
    raise ConfigError(
        f"{source.paths[0]}: no band {band!r}; it has {source.n_channels}: {', '.join(names) or 'unnamed'}"
    )


def states_from(hole: NDArray[np.bool_], never: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Return FILL where `hole`, NEVER where `never`, else KEEP."""
    states = np.where(hole, FILL, KEEP).astype(np.uint8)
    if never is not None:
        states[np.broadcast_to(never, states.shape)] = NEVER
    return states
