"""Holes from the quality codes of Landsat, HLS, MODIS, VIIRS and Sentinel-2, by flag name.

`_layouts` says what the codes of each product mean. What a product says was not acquired is never touched, except for
narrow gaps if `fill_gaps` asks for them.

Also known as: qa, quality, landsat, hls, modis, viirs, bitmask.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from pipeline.errors import ConfigError, SourceError
from pipeline.formats.base import Source
from pipeline.masks._dilate import reach_of
from pipeline.masks._grid import RasterCodes, open_codes
from pipeline.masks._layouts import LAYOUTS, CodesMask, Flag, above_percent, layout_of_name
from pipeline.masks.base import FileMaskOptions, LengthText, Resolve, length_on

_BY_DEFAULT = "collection2"
_FLAGS = sorted({flag for layout in LAYOUTS.values() for flag in layout.flags})

LayoutName = Annotated[str, WithJsonSchema({"enum": ["auto", *LAYOUTS]})]
FlagName = Annotated[str, WithJsonSchema({"enum": _FLAGS})]


class Options(FileMaskOptions):
    """Which flags are holes."""

    kind: Literal["qa_pixel"] = "qa_pixel"
    layout: LayoutName = Field(
        default="auto", description="Meaning of the codes; auto: by the name of the file, else Landsat's collection2."
    )
    flags: tuple[FlagName, ...] | None = Field(
        default=None, min_length=1, description="Flags to restore; any one makes a hole; default: clouds and shadows."
    )
    above: int | None = Field(
        default=None, ge=0, le=99, description="Layout cloud_probability: percent above which is cloud; default 40."
    )
    fill_gaps: LengthText | None = Field(
        default=None, description="Restore fill in gaps up to this wide, e.g. '20 px' for SLC-off stripes."
    )
    band: int = Field(default=1, ge=1, description="Band of the file that holds QA.")

    @field_validator("layout")
    @classmethod
    def _layout_exists(cls, name: str) -> str:
        if name not in ("auto", *LAYOUTS):
            raise ValueError(f"no layout '{name}' (known: auto, {', '.join(LAYOUTS)})")
        return name

    @model_validator(mode="after")
    def _flags_exist(self) -> Options:
        if self.layout != "auto":
            flags_of(self, self.layout)
        return self


def flags_of(options: Options, layout: str) -> tuple[Flag, ...]:
    """Return the flags that an entry asks for, or the layout's own.

    Raises:
        ConfigError: the layout has no such flag, or `above` is not for it; says what it has.
    """
    known = LAYOUTS[layout]
    for name in options.flags or ():
        if name not in known.flags:
            raise ConfigError(f"layout '{layout}' has no flag '{name}' (known: {', '.join(known.flags)})")
    if options.above is not None:
        if layout != "cloud_probability":
            raise ConfigError(f"`above` is for layout cloud_probability, not for '{layout}'; choose `flags`")
        return (above_percent(options.above),)
    return tuple(known.flags[name] for name in options.flags or known.default)


def open_mask(options: Options, source: Source, resolve: Resolve) -> CodesMask:
    """Open the QA raster.

    Raises:
        ConfigError: the file's layout has no such flag; `fill_gaps` is a length and the grid has no length unit.
        SourceError: unreadable, not of this place or of a part of it only, not of an integer type, or of a layout that
            its name does not tell.
    """
    codes = open_codes(resolve(options.path), source, (options.band,), options.outside)
    if codes.dtype.kind not in "iu":
        raise SourceError(f"{codes.path}: QA bits need an integer band, found {codes.dtype}")
    layout, notices = (options.layout, ()) if options.layout != "auto" else _layout_of(codes)
    try:
        wanted = flags_of(options, layout)
    except ConfigError as error:
        raise ConfigError(f"{codes.path}: {error}") from None
    limits: tuple[int, ...] = ()
    if options.fill_gaps is not None:
        limits = reach_of(length_on(source, "fill_gaps", options.fill_gaps), source.space.shape)
    return CodesMask(
        codes=codes,
        wanted=wanted,
        layout=layout,
        gap_limits=limits,
        notices=(*codes.notices, *notices),
    )


def _layout_of(codes: RasterCodes) -> tuple[str, tuple[str, ...]]:
    """Return the layout of a file by its name, and what to say of it.

    Raises:
        SourceError: its name does not say, and it has too few bits for Landsat's.
    """
    named = layout_of_name(codes.path)
    if named in (_BY_DEFAULT, "collection2_tm", "scl"):
        return named, ()
    if named:
        return named, (f"{codes.path}: read as layout {named}, by its name; `layout` on this entry says otherwise",)
    if codes.dtype.itemsize * 8 < LAYOUTS[_BY_DEFAULT].width:
        raise SourceError(
            f"{codes.path}: its name does not tell its layout, and {codes.dtype} holds no QA_PIXEL of Landsat's "
            f"Collection 2; set `layout` to one of {', '.join(LAYOUTS)}, or use `kind: raster` with `bits`"
        )
    said = f"{codes.path}: its name does not tell its layout, so it was read as {_BY_DEFAULT}; `layout` says otherwise"
    return _BY_DEFAULT, (said,)
