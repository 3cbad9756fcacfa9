"""Where a pixel's value came from: the codes of the source layer and their names."""

from __future__ import annotations

_SOURCE_NAMES = {
    0: "observed",
    1: "classical",
    2: "network",
    253: "several guides",
    254: "refused",
    255: "never_touched",
}


def source_name(code: int, n_references: int) -> str:
    """Return the name of a code of the source layer; 10+k is `reference k`, after the last one `other channels`."""
    if code == REFERENCE + n_references:
        return "other channels"
    return _SOURCE_NAMES.get(code, f"reference {code - REFERENCE}")


OBSERVED, CLASSICAL, NETWORK, REFERENCE, SEVERAL, REFUSED, NEVER_TOUCHED = 0, 1, 2, 10, 253, 254, 255
"""Codes of the source layer; reference k (counted from 0) has code `REFERENCE + k`, the image's own
channels come after the last. `SEVERAL` is a relation of several guides of which none would do alone."""
