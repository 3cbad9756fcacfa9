"""Tables as text: aligned columns, numbers to the right."""

from __future__ import annotations

import math
from collections.abc import Sequence

_GAP = "  "


def aligned(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under their heads, every column as wide as its widest text; numbers stand to the right.

    >>> print(aligned(["image", "holes"], [["a", 5], ["longer", 12]]))
    image   holes
    a           5
    longer     12
    """
    texts = [[as_text(value) for value in row] for row in rows]
    right = [bool(rows) and all(_is_number(row[k]) for row in rows) for k in range(len(heads))]
    widths = [max(len(line[k]) for line in [list(heads), *texts]) for k in range(len(heads))]
    lines = []
    for line in [list(heads), *texts]:
        cells = [t.rjust(w) if r else t.ljust(w) for t, w, r in zip(line, widths, right, strict=True)]
        lines.append(_GAP.join(cells).rstrip())
    return "\n".join(lines)


def as_text(value: object) -> str:
    """Return a value as a table shows it: `-` for what is not known, separators in long counts, four digits of others.

    >>> as_text(None), as_text(1234567), as_text(3.14159)
    ('-', '1,234,567', '3.142')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
