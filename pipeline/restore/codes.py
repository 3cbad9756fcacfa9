"""Where a pixel's value came from: the codes of the source layer and their names."""

from __future__ import annotations

from collections.abc import Sequence

_SOURCE_NAMES = {
    0: "observed",
    1: "classical",
    2: "network",
    253: "several guides",
    254: "refused",
    255: "never_touched",
}


def source_name(code: int, roles: Sequence[str]) -> str:
    """Return the name of a code of the source layer.

    10 + k is `reference k` or `auxiliary k`, counted over both; after the last one come the image's `other channels`.

    Args:
        code: of the source layer.
        roles: `reference` or `auxiliary` for each guide.

    >>> source_name(1, []), source_name(11, ["reference", "auxiliary"]), source_name(10, [])
    ('classical', 'auxiliary 1', 'other channels')
    """
    k = code - REFERENCE
    if k == len(roles):
        return "other channels"
    return _SOURCE_NAMES[code] if code in _SOURCE_NAMES else f"{roles[k]} {k}"


def names_of(roles: Sequence[str]) -> dict[int, str]:
    """Return the name of every code that a source layer may hold; `roles` as in `source_name`.

    >>> list(names_of([]))
    [0, 1, 2, 10, 253, 254, 255]
    """
    guides = range(REFERENCE, REFERENCE + len(roles) + 1)
    codes = (OBSERVED, CLASSICAL, NETWORK, *guides, SEVERAL, REFUSED, NEVER_TOUCHED)
    return {code: source_name(code, roles) for code in codes}


def source_colour(code: int) -> tuple[int, int, int]:
    """Return the colour that a code of the source layer is shown in: red, green, blue of 0 to 255."""
    return _SOURCE_COLOURS.get(code) or _REFERENCE_COLOURS[(code - REFERENCE) % len(_REFERENCE_COLOURS)]


_SOURCE_COLOURS = {
    0: (0, 0, 0),
    1: (150, 150, 150),
    2: (204, 121, 167),
    253: (240, 228, 66),
    254: (213, 94, 0),
    255: (40, 40, 40),
}
_REFERENCE_COLOURS = ((0, 158, 115), (86, 180, 233), (230, 159, 0), (0, 114, 178))
"""The colours of Okabe and Ito, which all readers tell apart: https://jfly.uni-koeln.de/color/"""


OBSERVED, CLASSICAL, NETWORK, REFERENCE, SEVERAL, REFUSED, NEVER_TOUCHED = 0, 1, 2, 10, 253, 254, 255
"""Codes of the source layer; reference k (counted from 0) has code `REFERENCE + k`, the image's own
channels come after the last. `SEVERAL` is a relation of several guides of which none would do alone."""
