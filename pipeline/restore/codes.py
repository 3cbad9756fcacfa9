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


OBSERVED, CLASSICAL, NETWORK, REFERENCE, SEVERAL, REFUSED, NEVER_TOUCHED = 0, 1, 2, 10, 253, 254, 255
"""Codes of the source layer; reference k (counted from 0) has code `REFERENCE + k`, the image's own
channels come after the last. `SEVERAL` is a relation of several guides of which none would do alone."""
