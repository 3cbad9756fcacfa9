"""Which bands of an image are red, green and blue, by what the file says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.formats.base import Source

_RGB_NAMES = (
    ("red", "green", "blue"),
    ("b04", "b03", "b02"),
    ("b4", "b3", "b2"),
    ("sr_b4", "sr_b3", "sr_b2"),
)
_RGB_UM = (0.66, 0.56, 0.48)
_FAR_UM = 0.06
"""Wavelength from which a band is another colour, in micrometres."""
_TO_UM = {
    "micrometers": 1.0,
    "micrometer": 1.0,
    "um": 1.0,
    "µm": 1.0,
    "nanometers": 1e-3,
    "nanometer": 1e-3,
    "nm": 1e-3,
}


def rgb_channels(names: Sequence[str], wavelength: Sequence[float | None] = ()) -> list[int]:
    """Return the channels to show as red, green, blue, or one channel for grey, as positions in `names`.

    Args:
        names: of the channels.
        wavelength: of each, micrometres, None where it is not known; names come first.
    """
    lower = [n.lower() for n in names]
    for wanted in _RGB_NAMES:
        found = [next((i for i, n in enumerate(lower) if n == w or n.endswith("_" + w)), None) for w in wanted]
        if None not in found:
            return [i for i in found if i is not None]
    known = [(um, i) for i, um in enumerate(wavelength) if um is not None]
    near = [min((abs(um - wanted), i) for um, i in known) for wanted in _RGB_UM] if known else []
    if near and max(off for off, _ in near) < _FAR_UM and len({i for _, i in near}) == len(_RGB_UM):
        return [i for _, i in near]
    if len(names) == 3:
        return [0, 1, 2]
    if len(names) >= 12:
        # unnamed bands in this number are Sentinel-2 in its usual order
        return [3, 2, 1]
    return [2, 1, 0] if len(names) > 3 else [0]


def wavelengths(source: Source) -> list[float | None]:
    """Return the central wavelength of each channel, micrometres; None where the file does not say it.

    Read are GDAL's own (`CENTRAL_WAVELENGTH_UM` in the domain `IMAGERY`) and that of ENVI (`wavelength`).
    """
    tags: Sequence[Mapping[str, Any]] = source.attributes.get("band_tags", ())
    return [_wavelength(one) for one in tags] if len(tags) == source.n_channels else [None] * source.n_channels


def _wavelength(tags: Mapping[str, Mapping[str, str]]) -> float | None:
    found = tags.get("IMAGERY", {}).get("CENTRAL_WAVELENGTH_UM")
    plain = {key.lower(): value for key, value in tags.get("", {}).items()}
    unit = _TO_UM.get(plain.get("wavelength_units", "nanometers").lower())
    try:
        if found is not None:
            return float(found)
        return float(plain["wavelength"]) * unit if "wavelength" in plain and unit else None
    except ValueError:
        return None
