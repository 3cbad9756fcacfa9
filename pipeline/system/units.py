"""Human units at the edge: `4 GiB`, `60 m`, `3 px`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.geometry.space import METRES_PER_DEGREE
from pipeline.system.paths import shortened

_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_PIXELS = {"px", "pixel", "pixels", "vx", "voxel", "voxels"}
_METRES = {
    **{"um": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3},
    "ft": 0.3048,  # international foot
    "us-ft": 1200 / 3937,  # US survey foot
}
_OTHER_NAMES = {"µm": "um", "μm": "um", "micron": "um", "microns": "um", "feet": "ft", "foot": "ft"}
_LONGEST = 100
_MOST_BYTES = 2**60
MOST_PIXELS = 100_000
"""No length reaches farther: masks grow and gaps are searched as far, so this bounds what they may cost."""
_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-zµμ-]*)\s*")


def parse_bytes(text: str | int) -> int:
    """Return a size in bytes from `4 GiB`, `500 MB` or a plain number of bytes.

    Raises:
        ConfigError: not a size of at least one byte and at most 1 EiB.

    >>> parse_bytes("4 GiB")
    4294967296
    """
    value, unit = _split(str(text), "size", "4 GiB")
    factor = _BYTES.get(unit.upper() or "B")
    if factor is None or not 1 <= value * factor <= _MOST_BYTES:
        raise ConfigError(f"'{shortened(str(text))}' is no size; write it like '4 GiB' or '500 MB'")
    return int(value * factor)


def format_bytes(count: int) -> str:
    """Return a size as people read it; whole binary units stay exact.

    >>> format_bytes(4 * 2**30), format_bytes(1500)
    ('4 GiB', '1500 B')
    """
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} B" if count < 2**20 else f"{count / 2**20:.1f} MiB"


def told_bytes(count: int) -> str:
    """Return a size in GiB, or in a unit in which it is not 0.00.

    >>> told_bytes(3 * 2**29), told_bytes(1500)
    ('1.50 GiB', '1500 B')
    """
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else format_bytes(count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """A distance on the ground, in the body, or in pixels."""

    value: float
    """Magnitude, finite, at least 0."""
    unit: str
    """`px`, `um`, `mm`, `cm`, `m`, `km`, `ft` or `us-ft`; empty for a bare number: pixels, on a grid without a unit."""

    def pixels(self, spacing: tuple[float, ...], units: str, latitude_deg: float | None = None) -> tuple[float, ...]:
        """Return the distance in (fractions of) pixels on each axis.

        Args:
            spacing: step per axis in `units`, memory order (rows first).
            units: world units of the grid: `deg`, `unknown`, or a unit of length as `unit` has it.
            latitude_deg: latitude of the image centre; needed for grids in degrees only.

        Raises:
            ConfigError: the grid has no known length unit, no step, or lies at a pole; the length has no unit and the
                grid has one; or it reaches farther than `MOST_PIXELS`.
        """
        if not self.unit and self.value and units != "unknown":
            ground = "m" if units == "deg" else units
            raise ConfigError(
                f"'{self}' has no unit, and the grid of the image has one ('{units}'): write '{self} px' or "
                f"'{self} {ground}'"
            )
        if self.unit in ("px", ""):
            return (self.value,) * len(spacing)
        metres = self.value * _METRES[self.unit]
        steps = self._steps_m(spacing, units, latitude_deg)
        if not all(step > 0 for step in steps):
            raise ConfigError(f"'{self}' cannot be turned into pixels on a grid with steps {spacing}; give it in px")
        pixels = tuple(metres / step for step in steps)
        if max(pixels) > MOST_PIXELS:
            raise ConfigError(f"'{self}' is {max(pixels):.4g} pixels of this image; at most {MOST_PIXELS} are possible")
        return pixels

    def _steps_m(self, spacing: tuple[float, ...], units: str, latitude_deg: float | None) -> tuple[float, ...]:
        if units in _METRES:
            return tuple(step * _METRES[units] for step in spacing)
        if units != "deg":
            raise ConfigError(f"'{self}' cannot be turned into pixels: the image has units '{units}'; give it in px")
        if latitude_deg is None or abs(latitude_deg) > 85:
            raise ConfigError(
                f"'{self}' cannot be turned into pixels on a grid in degrees at latitude {latitude_deg}; give it in px"
            )
        along = math.cos(math.radians(latitude_deg))
        return (spacing[0] * METRES_PER_DEGREE, spacing[1] * METRES_PER_DEGREE * along)

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}".rstrip()


def unit_of(metres: float) -> str:
    """Return the unit of length that has so many metres, as `Length` names it, or `unknown`.

    >>> unit_of(0.3048), unit_of(0.3048006096012192), unit_of(20.1168)
    ('ft', 'us-ft', 'unknown')
    """
    return next((unit for unit, size in _METRES.items() if math.isclose(size, metres, rel_tol=1e-9)), "unknown")


def parse_length(text: str | float) -> Length:
    """Return the length written as `60 m`, `200 ft`, `2 mm`, `3 px`.

    A bare number counts pixels; `Length.pixels` refuses it on a grid with a unit.

    Raises:
        ConfigError: not a length, or more than `MOST_PIXELS`.
    """
    value, unit = _split(str(text), "length", "60 m', '2 mm' or '3 px")
    if unit in _PIXELS or not unit:
        if value > MOST_PIXELS:
            raise ConfigError(f"'{shortened(str(text))}' is too far; at most {MOST_PIXELS} px are possible")
        return Length(value=value, unit="px" if unit else "")
    unit = _OTHER_NAMES.get(unit, unit)
    if unit not in _METRES or not math.isfinite(value):
        raise ConfigError(f"'{shortened(str(text))}' is no length; write it like '60 m', '2 mm' or '3 px'")
    return Length(value=value, unit=unit)


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    # the pattern takes time with the square of the length
    match = _NUMBER_AND_UNIT.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ConfigError(f"'{shortened(text)}' is no {what}; write it like '{example}'")
    return float(match[1]), match[2]
