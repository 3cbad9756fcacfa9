"""What the codes of quality layers mean: one table, and the mask that reads any of them.

Sources, by row of `LAYOUTS`:

- `collection2`, `collection2_tm`, `radsat`: QA_PIXEL and QA_RADSAT, Landsat 8-9 and 4-7 Collection 2 Level 2 Science
  Product Guides (USGS LSDS-1619, LSDS-1618). Landsat 4 to 7 do not see cirrus. The bit for cloud is set at high
  confidence, as in both layouts of Collection 1.
- `pixel_qa`: Collection 1 surface reflectance (USGS LSDS-1368). `bqa`: Collection 1 Level 1 (USGS LSDS-1834); shadow,
  snow and cirrus by high confidence.
- `hls`: Fmask layer, HLS Product User Guide v2.0, quality assessment layer; bit 0 (cirrus) is reserved there and not
  used, and 255 is fill. `fmask`: class codes of the Fmask software itself (Qiu, Zhu and He 2019).
- `modis_state`: state_1km and state_500m, MOD09 User's Guide, Collection 6.1. `viirs_state`: the same bits in
  SurfReflect_State of VNP09A1 and VNP09H1. `viirs_qf1`, `viirs_qf2`: the daily VNP09GA, VIIRS Surface Reflectance
  User's Guide.
- `scl`: Sentinel-2 MSI Level-2A Algorithm Theoretical Basis Document, scene classification.
- `cloud_probability`: MSK_CLDPRB of Sentinel-2 Level 2A and the output of s2cloudless (Zupanc 2017), in percent; 40 %
  is the threshold of the latter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, WithJsonSchema

from pipeline.geometry.box import Box
from pipeline.masks._gaps import narrow_gaps
from pipeline.masks._grid import RasterCodes
from pipeline.masks._values import Tally
from pipeline.masks.base import states_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Set where the bits of `mask` have one of `values`, or, without values, any bit of `mask` is set."""

    mask: int
    values: tuple[int, ...] = ()

    def of(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return True where the flag is set; same shape."""
        part = codes & self.mask
        return np.isin(part, self.values) if self.values else part != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Meaning of the codes of one product.

    Attributes:
        flags: by name.
        default: those that are holes unless the config says otherwise.
        fill: set where nothing was acquired; None if the layer does not say.
        width: bits of a code as the product stores it.
        names: how its files are called, a regular expression for any part of the name.
        classes: all codes that its files hold, if each is a class of its own; empty if codes are made of bits.
    """

    flags: Mapping[str, Flag]
    default: tuple[str, ...]
    fill: Flag | None
    width: int
    names: str

    classes: frozenset[int] = frozenset()


def _bits(**numbers: int) -> dict[str, Flag]:
    return {name: Flag(mask=1 << bit) for name, bit in numbers.items()}


def _field(first: int, width: int, *values: int) -> Flag:
    """Return a flag of a field of several bits, `first` the lowest, with the values that set it."""
    return Flag(mask=((1 << width) - 1) << first, values=tuple(v << first for v in values))


def _codes(*values: int, width: int = 8) -> Flag:
    return _field(0, width, *values)


def above_percent(percent: int) -> Flag:
    """Return the flag of probabilities above a number of percent."""
    return _codes(*range(percent + 1, 101))


_STATE = Layout(
    flags={
        "cloud": _field(0, 2, 1),
        "mixed": _field(0, 2, 2),
        "clear": _field(0, 2, 0, 3),
        "water": _field(3, 3, 0, 3, 4, 5, 6, 7),
        "cirrus_small": _field(8, 2, 1),
        "cirrus": _field(8, 2, 2, 3),
        **_bits(shadow=2, internal_cloud=10, fire=11, snow=12, adjacent=13, internal_snow=15),
    },
    default=("cloud", "mixed", "shadow", "cirrus", "internal_cloud", "adjacent"),
    fill=_codes(0xFFFF, width=16),
    width=16,
    names=r"(?<!Reflect_)state_(1km|500m)",
)
SclClass = Literal[
    "no_data",
    "saturated",
    "dark_area",
    "cloud_shadow",
    "vegetation",
    "bare_soil",
    "water",
    "unclassified",
    "cloud_medium",
    "cloud_high",
    "thin_cirrus",
    "snow",
]
"""By code, from 0."""


def _class_name(value: object) -> object:
    """Return the name of a class that is given by its code."""
    names = get_args(SclClass)
    return names[value] if type(value) is int and 0 <= value < len(names) else value


SclClassOrCode = Annotated[
    SclClass,
    BeforeValidator(_class_name),
    WithJsonSchema({"anyOf": [{"enum": list(get_args(SclClass))}, {"type": "integer", "minimum": 0, "maximum": 11}]}),
]
"""A class of a config: its name, or its code."""

_COLLECTION2 = Layout(
    flags={**_bits(dilated=1, cirrus=2, cloud=3, shadow=4, snow=5, clear=6, water=7), "cloud_medium": _field(8, 2, 2)},
    default=("dilated", "cirrus", "cloud", "shadow"),
    fill=Flag(mask=1),
    width=16,
    names=r"QA_PIXEL",
)

LAYOUTS: dict[str, Layout] = {
    "collection2_tm": replace(
        _COLLECTION2,
        flags={name: flag for name, flag in _COLLECTION2.flags.items() if name != "cirrus"},
        default=("dilated", "cloud", "shadow"),
        names=r"L[TE]0[457]_\w*_QA_PIXEL",
    ),
    "collection2": _COLLECTION2,
    "radsat": Layout(
        # bit 7 is not used; 5 and 8 are band 6 of Landsat 7 at both gains
        flags={"saturated": Flag(mask=0b1_0111_1111), **_bits(dropped=9, occluded=11)},
        default=("saturated", "dropped"),
        fill=None,
        width=16,
        names=r"QA_RADSAT",
    ),
    "pixel_qa": Layout(
        flags={
            **_bits(clear=1, water=2, shadow=3, snow=4, cloud=5),
            "cloud_medium": _field(6, 2, 2),
            "cirrus": _field(8, 2, 3),
        },
        default=("cirrus", "cloud", "shadow"),
        fill=Flag(mask=1),
        width=16,
        names=r"pixel_qa",
    ),
    "bqa": Layout(
        flags={
            **_bits(cloud=4),
            "cloud_medium": _field(5, 2, 2),
            "shadow": _field(7, 2, 3),
            "snow": _field(9, 2, 3),
            "cirrus": _field(11, 2, 3),
        },
        default=("cirrus", "cloud", "shadow"),
        fill=Flag(mask=1),
        width=16,
        names=r"BQA",
    ),
    "hls": Layout(
        flags={**_bits(cloud=1, adjacent=2, shadow=3, snow=4, water=5), "high_aerosol": _field(6, 2, 3)},
        default=("cloud", "adjacent", "shadow"),
        fill=_codes(255),
        width=8,
        names=r"Fmask",
    ),
    "fmask": Layout(
        flags={"cloud": _codes(4), "shadow": _codes(2), "snow": _codes(3), "water": _codes(1), "clear": _codes(0)},
        default=("cloud", "shadow"),
        fill=_codes(255),
        width=8,
        names=r"Fmask_?[34]\w*",
        classes=frozenset({0, 1, 2, 3, 4, 255}),
    ),
    "modis_state": _STATE,
    "viirs_state": replace(_STATE, names=r"SurfReflect_State\w*"),
    "viirs_qf1": Layout(
        flags={
            "cloud": _field(2, 2, 3),
            "probable_cloud": _field(2, 2, 2),
            "probably_clear": _field(2, 2, 1),
            "clear": _field(2, 2, 0),
            **_bits(night=4, low_sun=5),
        },
        default=("cloud", "probable_cloud"),
        fill=None,
        width=8,
        names=r"SurfReflect_QF1",
    ),
    "viirs_qf2": Layout(
        flags={"cirrus": Flag(mask=0b11 << 6), "water": _field(0, 3, 2, 3), **_bits(shadow=3, high_aerosol=4, snow=5)},
        default=("shadow", "cirrus"),
        fill=None,
        width=8,
        names=r"SurfReflect_QF2",
    ),
    "scl": Layout(
        flags={name: _codes(code) for code, name in enumerate(get_args(SclClass))},
        default=("cloud_shadow", "cloud_medium", "cloud_high", "thin_cirrus"),
        fill=_codes(0),
        width=8,
        names=r"SCL",
        classes=frozenset(range(12)),
    ),
    "cloud_probability": Layout(
        flags={"cloud": above_percent(40)},
        default=("cloud",),
        fill=None,
        width=8,
        names=r"CLD_?PRB",
    ),
}


def layout_of_name(path: str) -> str | None:
    """Return the layout of a file that is called as its product calls it; None for other names.

    >>> layout_of_name("HLS.L30.T13TDE.2021132T173402.v2.0.Fmask.tif")
    'hls'
    """
    name = PurePosixPath(path.partition("?")[0]).name
    for key, layout in LAYOUTS.items():
        if re.search(rf"(?<![A-Za-z])(?:{layout.names})(?![A-Za-z0-9])", name, re.IGNORECASE):
            return key
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodesMask:
    """FILL where any wanted flag is set, NEVER where nothing was acquired, KEEP elsewhere and outside the file.

    With `gap_limits` (pixels per axis) narrow runs of fill are FILL too, although the image has nodata there.
    """

    codes: RasterCodes
    wanted: tuple[Flag, ...]
    layout: str
    """Name of the layout, in `LAYOUTS`."""
    gap_limits: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def fill(self) -> Flag | None:
        """Set where nothing was acquired."""
        return LAYOUTS[self.layout].fill

    @property
    def claims_nodata(self) -> bool:
        """True if gaps are to be restored in spite of the image's nodata."""
        return bool(self.gap_limits)

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return the states, shape `(1, *box.shape)`."""
        outer = box.grow(self.gap_limits or 0) & Box.whole(self.codes.target.shape)
        stored, inside = self.codes.read(outer)
        codes = stored.astype(np.int64)  # a flag may lie beyond the bits of a narrow band
        unseen = inside & self.fill.of(codes) if self.fill else np.zeros_like(inside)
        hole = np.zeros(codes.shape, dtype=bool)
        for flag in self.wanted:
            hole |= flag.of(codes) & inside & ~unseen
        if self.gap_limits:
            gaps = narrow_gaps(unseen, self.gap_limits)
            hole, unseen = hole | gaps, unseen & ~gaps
        return states_from(hole, unseen)[box.at(of=outer)]

    def unsaid(self, box: Box) -> NDArray[np.bool_]:
        """Return True outside the file, shape `(1, *box.shape)`."""
        return ~self.codes.read(box)[1]

    def examine(self) -> tuple[str, ...]:
        """Count the codes under the image and say if they are those of another kind of file."""
        classes, others = LAYOUTS[self.layout].classes, LAYOUTS["fmask"].classes
        if not classes and self.layout != "hls":
            return ()
        tally = Tally()
        for box in self.codes.looked_at():
            codes, inside = self.codes.read(box)
            tally.add(codes[inside], inside)
        found, path = set(tally.counts), self.codes.path
        if self.layout == "hls":
            alike = not tally.many and found <= others and found & {1, 2, 3, 4}
            said = (
                f"{path}: its values, {tally}, are those of Fmask's own class codes; if it is no layer of HLS, write "
            )
            return (f"{said}`layout: fmask` on this entry",) if alike else ()
        drawn = self.layout == "scl" and found <= {0, 1}
        if not tally.many and found <= classes and not drawn:
            return ()
        if drawn and found:
            return (f"{path}: holds {tally}, which are no scene classes: a mask that was drawn is `kind: raster`",)
        return (
            f"{path}: holds {tally}; {self.layout} has the codes {min(classes)} to {max(classes)}, and others count as "
            "observed. A mask that somebody drew (0 and 1, or 0 and 255) is `kind: raster`",
        )
