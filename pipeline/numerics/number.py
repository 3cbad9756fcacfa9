"""Numbers as they were written: whole ones of 64 bits do not survive a float."""

from __future__ import annotations

_EXACT = 2**53


def exact(value: float) -> float:
    """Return a number as a float, or as it is if it is whole and a float might be another number.

    >>> exact(7), exact(2**64 - 1)
    (7.0, 18446744073709551615)
    """
    return value if isinstance(value, int) and abs(value) > _EXACT else float(value)
