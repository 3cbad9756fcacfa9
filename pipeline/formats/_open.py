"""Open any image without saying what it is: by name first, by content where the name says nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType

from pipeline import registry
from pipeline.errors import SourceError
from pipeline.formats._files import require_file, suffix_matches
from pipeline.formats._foreign import advice
from pipeline.formats.base import Source


def open_any(
    paths: str | Sequence[str],
    *,
    kind: str | None = None,
    bands: Sequence[int | str] | None = None,
    nodata: float | None = None,
) -> Source:
    """Open one image (headers only); several paths are one image with a file a band.

    Args:
        paths: a file, folder (zarr) or URL, or several of one format.
        kind: name of the format; None = found from the suffix, else from the first bytes.
        bands: bands or volumes to use, by 1-based index or by name.
        nodata: overrides what the file declares.

    Raises:
        SourceError: missing, damaged, of no known format, or not suited; the message says what to do.
        ConfigError: `kind` is no known format.
    """
    files = (paths,) if isinstance(paths, str) else tuple(str(path) for path in paths)
    if not files:
        raise SourceError("no file given; name at least one")
    for path in files:
        require_file(path, folder=True)
    module = registry.load("formats", kind) if kind else _sniff(files[0])
    source: Source = module.open_source(files, bands=bands, nodata=nodata)
    return source


def is_image(path: str) -> bool:
    """Return True if the name or the first bytes are those of a known format; opens nothing."""
    return _format_of(path) is not None


def _sniff(path: str) -> ModuleType:
    module = _format_of(path)
    if module is None:
        if said := advice(path):
            raise SourceError(said)
        known = ", ".join(suffix for found in _modules() for suffix in found.SUFFIXES)
        raise SourceError(f"{path}: neither name nor content is that of a known format; known are {known}")
    return module


def _format_of(path: str) -> ModuleType | None:
    for module in _modules():
        if suffix_matches(path, module.SUFFIXES):
            return module
    return next((module for module in _modules() if module.sniff(path)), None)


def _modules() -> Iterator[ModuleType]:
    """Yield the formats, each imported when it is its turn."""
    for name in registry.kinds("formats"):
        yield registry.load("formats", name)
