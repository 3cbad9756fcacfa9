"""Names that follow from names: the stem of an image, its folder, the masks that lie beside it, its results."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.config.lesions import lesions
from pipeline.errors import ConfigError
from pipeline.masks.base import MaskOptions, mask_options
from pipeline.system.paths import kind_of, shortened

RECORD, REPORT, THUMBNAIL = "record.json", "report.html", "thumbnail.webp"
ITEM, CRATE = "item.json", "ro-crate-metadata.json"
"""Files of one image's results, beside its layers."""
SUMMARY, INDEX = "run.json", "index.html"
"""Files of a run, beside the folders of its images."""

_LONGEST = 200
_WORK = ".work"
_SUFFIXES = (".tif", ".TIF", ".tiff", ".jp2", ".nii.gz", ".nii")
_ENDINGS = {"vector": (".geojson", ".gpkg", ".shp"), "l1c": (".jp2", ".gml")}
"""Of the files of some kinds of masks; of the others `_SUFFIXES`."""
_MASK_NAMES = (
    (r"$", "_SCL", "scl"),
    (r"$", "_scl", "scl"),
    (r"$", "_QA_PIXEL", "qa_pixel"),
    (r"$", "_Fmask", "qa_pixel"),
    (r"$", "_mask", "raster"),
    (r"$", "_mask", "vector"),
    (r"_(SR_|ST_)?B\d+$", "_QA_PIXEL", "qa_pixel"),  # Landsat Collection 2
    (r"_B\d+$", "_BQA", "qa_pixel"),  # Landsat Collection 1
    (r"\.B[0-9A]+$", ".Fmask", "qa_pixel"),  # HLS
    (r"_(B[0-9A]{2}|TCI)(_\d0m)?$", "_SCL_20m", "scl"),  # Sentinel-2
    (r"_(B[0-9A]{2}|TCI)$", "_SCL", "scl"),
    (r"^T\w+_(B[0-9A]{2}|TCI)$", "MSK_CLASSI_B00", "l1c"),
    (r"^T\w+_(B[0-9A]{2}|TCI)$", "MSK_CLOUDS_B00", "l1c"),
)
"""What of an image's stem is replaced by what to name its mask, and the kind of the mask; the first file is taken."""


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


def sibling_masks(path: str) -> tuple[MaskOptions, ...]:
    """Look for an image's own masks beside it, by the names that people and products give them.

    `<stem>_mask`, `<stem>_SCL`, `<stem>_QA_PIXEL`; of a band of Landsat, HLS or Sentinel-2 the quality layer of its
    scene; of a BIDS image the lesions of the same subject, session and run, also in `derivatives` (several are all
    taken).
    """
    for name, kind in mask_names(path):
        if kind_of(name) == "file":
            return (mask_options({"kind": kind, "path": name}),)
    return tuple(mask_options({"kind": "raster", "path": str(lesion)}) for lesion in lesions(path))


def mask_names(path: str) -> Iterator[tuple[str, str]]:
    """Yield where the mask of an image may lie, likeliest first, and its kind; looks at names only."""
    if "://" in path:
        return
    folder, stem = Path(path).parent, _one_stem(path)
    for pattern, ending, kind in _MASK_NAMES:
        name, found = re.subn(pattern, ending, stem, count=1)
        places = {"scl": (folder, folder.parent / "R20m"), "l1c": (folder.parent / "QI_DATA",)}.get(kind, (folder,))
        for place in places if found else ():
            for suffix in _ENDINGS.get(kind, _SUFFIXES):
                yield str(place / f"{name}{suffix}"), kind


def is_result(path: str, results: Path | None) -> bool:
    """Return True for what lies in the folder of an image that was restored in `results`, or in their work folder."""
    if results is None or not Path(path).is_relative_to(results):
        return False
    top, *below = Path(path).relative_to(results).parts
    return bool(below) and (top == _WORK or any((results / top / name).exists() for name in (RECORD, _WORK)))
