"""What the bands of one-file-a-band images are called: what is their own in the names of their files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.system.paths import is_address

_CUT = re.compile(r"[_.-]")
_SIZE = re.compile(r"_\d+m$")
"""Of a pixel, as Sentinel-2 writes it behind the band."""


def stem_of_file(path: str) -> str:
    """Return the name of a file without its suffix; the query of a URL, which may hold a signature, is no name."""
    return Path(path.split("?", 1)[0] if is_address(path) else path).stem


def band_stems(files: Sequence[str]) -> list[str]:
    """Return a name for each file: its stem without what all of them have in common at both ends.

    Whole words only, and no name is left that is only digits or not one's own.

    >>> band_stems(["T33_B02_10m.jp2", "T33_B8A_10m.jp2"]), band_stems(["S2_2021.tif", "S2_2022.tif"])
    (['B02', 'B8A'], ['S2_2021', 'S2_2022'])
    """
    stems = [stem_of_file(file) for file in files]
    if len(set(stems)) < 2:
        return stems
    first = _whole_words(os.path.commonprefix(stems))  # noqa: RUF071 - names, letter by letter
    rest = [stem[first:] for stem in stems]
    last = _whole_words(os.path.commonprefix([name[::-1] for name in rest]))  # noqa: RUF071
    short = [name[: len(name) - last] for name in rest]
    plain = [_SIZE.sub("", name) for name in short]
    short = plain if len(set(plain)) == len(plain) else short
    own = len(set(short)) == len(short) and all(name and not name.isdigit() for name in short)
    return short if own else stems


def _whole_words(common: str) -> int:
    """Return how much of what names have in common goes up to a separator."""
    return max((found.end() for found in _CUT.finditer(common)), default=0)
