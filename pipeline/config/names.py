"""Names that follow from names: the stem of an image, its folder, the mask that lies beside it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import ConfigError
from pipeline.masks.base import MaskOptions, mask_options
from pipeline.system.paths import kind_of, shortened

_LONGEST = 200
_MASK_SIBLINGS = {"SCL": "scl", "scl": "scl", "QA_PIXEL": "qa_pixel", "mask": "raster"}
_SUFFIXES = (".tif", ".TIF", ".tiff", ".nii.gz", ".nii")


def stem_of(paths: tuple[str, ...]) -> str:
    """Return the file name without suffixes; for a file a band, what the names share up to a separator.

    Raises:
        ConfigError: a URL cannot be read as one.
    """
    stems = [_one_stem(path) for path in paths]
    if len(stems) == 1:
        return stems[0]
    shared = os.path.commonprefix(stems)  # noqa: RUF071 - names, letter by letter
    cut = max(shared.rfind("_"), shared.rfind("-"))
    return shared[:cut] if cut > 0 else stems[0]


def _one_stem(path: str) -> str:
    # what follows the path of a URL (a signed query, say) is none of its name
    try:
        place = urlsplit(path).path if "://" in path else path
    except ValueError as error:
        raise ConfigError(f"'{shortened(path)}' is no URL ({error}); correct it") from None
    name = place.rstrip("/").rsplit("/", 1)[-1]
    return Path(name.removesuffix(".gz")).stem if name.endswith(".gz") else Path(name).stem


def plain_name(text: str) -> str:
    """Return a text as the name of a folder of ours, whatever a file or URL is called.

    Separators and control characters become `_`, leading dots go (`..` is no name, and `.work` is taken), and what is
    left has at most 200 bytes in UTF-8.

    >>> plain_name("../B 02"), plain_name("..")
    ('_B 02', 'image')
    """
    kept = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in text).lstrip(". ").rstrip()
    return kept.encode()[:_LONGEST].decode(errors="ignore") or "image"


def sibling_mask(path: str) -> tuple[MaskOptions, ...]:
    """Look for an image's own mask beside it: `<stem>_SCL.tif`, `_QA_PIXEL.TIF`, `_mask.nii.gz`."""
    if "://" in path:
        return ()
    folder, stem = Path(path).parent, _one_stem(path)
    for ending, kind in _MASK_SIBLINGS.items():
        for suffix in _SUFFIXES:
            candidate = folder / f"{stem}_{ending}{suffix}"
            if kind_of(candidate) == "file":
                return (mask_options({"kind": kind, "path": str(candidate)}),)
    return ()
