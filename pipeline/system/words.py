"""Numbers as people read them: times, shares, counts."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence

_COMMANDS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys; lines, tabs and the return of a line that libraries draw progress with stay."""


_IN_LINE: dict[str, str] = {}
"""Names with line breaks that this process has met, and how they are shown."""


def keep_in_line(path: str) -> None:
    """Remember the names in a path that have a line break: `visible` cannot tell it from one between two lines."""
    for name in path.split("/"):
        if name.strip() and {"\n", "\r"} & set(name):
            _IN_LINE[name] = name.replace("\n", "\\n").replace("\r", "\\r")


def visible(text: str) -> str:
    r"""Return a text with escapes in place of characters that command a terminal: a file may have any name.

    Line breaks stay, but for those in names that were told to `keep_in_line`.

    >>> visible("a\x1b[2Jb\tc")
    'a\\x1b[2Jb\tc'
    """
    for name, shown in _IN_LINE.items():
        text = text.replace(name, shown)
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def in_words(seconds: float) -> str:
    """Return a time with two digits, in the unit that people would use.

    >>> in_words(0.3), in_words(42.2), in_words(200), in_words(9000), in_words(1e6)
    ('1 s', '42 s', '3.3 min', '2.5 h', '12 days')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    for size, unit, largest in ((60, "min", 90), (3600, "h", 48)):
        if seconds < largest * size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds / 86400)} days"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def in_percent(share: float) -> str:
    """Return a share in whole per cent; nothing and all are said only of nothing and all.

    >>> in_percent(0.0), in_percent(0.002), in_percent(0.416), in_percent(0.9996), in_percent(1.0)
    ('0 %', '<1 %', '42 %', '>99 %', '100 %')
    """
    if 0 < share < 0.01:
        return "<1 %"
    if 0.99 < share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def precise_percent(share: float) -> str:
    """Return a share in per cent with two digits.

    >>> precise_percent(0.0004), precise_percent(0.0234), precise_percent(0.31)
    ('<0.1 %', '2.3 %', '31 %')
    """
    percent = 100 * share
    return "<0.1 %" if percent < 0.1 else f"{percent:.1f} %" if percent < 9.95 else f"{percent:.0f} %"


def whole_percents(counts: Sequence[int]) -> list[str]:
    """Return the shares of some counts in whole per cent that add up to 100, by largest remainders.

    What is there at all is never said to be 0 %.

    >>> whole_percents([1, 1, 1]), whole_percents([14685, 157, 3])
    (['34 %', '33 %', '33 %'], ['99 %', '1 %', '<1 %'])
    """
    total = sum(counts)
    exact = [100 * count / total for count in counts]
    whole = [math.floor(share) for share in exact]
    # a stable sort: of equal remainders the first gets the unit
    for k in sorted(range(len(counts)), key=lambda k: whole[k] - exact[k])[: 100 - sum(whole)]:
        whole[k] += 1
    return ["<1 %" if count and not share else f"{share} %" for count, share in zip(counts, whole, strict=True)]


def number(value: float) -> str:
    """Return a number with three digits, or with thousands.

    >>> number(0.12345), number(42.0), number(9600.4)
    ('0.123', '42', '9,600')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def counted(n: int, what: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "image"), counted(3, "image")
    ('1 image', '3 images')
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def listed(texts: Collection[str], between: str = ", ", most: int = 3) -> str:
    """Return the first texts of many, and how many there are beside them.

    >>> listed(["a", "b"]), listed(["a", "b", "c", "d", "e"]), listed("abcd", "; ")
    ('a, b', 'a, b, c, and 2 more', 'a; b; c; and 1 more')
    """
    more = [f"and {len(texts) - most:,} more"] if len(texts) > most else []
    return between.join([*list(texts)[:most], *more])


def together(remarks: Sequence[str]) -> list[str]:
    """Return remarks on files, each kind once: of the first file, with the names of the others.

    Of one kind are remarks that differ in the file before the colon, in numbers and in what is in parentheses.

    >>> together(["/a/x.tif: lies 3 m off", "/a/y.tif: is empty", "/a/z.tif: lies 40 m off", "nothing to do"])
    ['/a/x.tif: lies 3 m off (the like of z.tif)', '/a/y.tif: is empty', 'nothing to do']
    """
    first: dict[tuple[str, str], str] = {}
    others: dict[tuple[str, str], list[str]] = {}
    for remark in dict.fromkeys(remarks):
        file, _, text = remark.partition(": ")
        role, _, name = file.rpartition("/")
        kind = role.partition("/")[0], re.sub(r"\(.*\)|[\d.,]+", "", text) or remark
        first.setdefault(kind, remark)
        others.setdefault(kind, []).append(name)
    likes = {kind: list(dict.fromkeys(names[1:])) for kind, names in others.items()}
    return [told + (f" (the like of {', '.join(likes[kind])})" if likes[kind] else "") for kind, told in first.items()]
