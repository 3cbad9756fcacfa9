"""Open any image without saying what it is: by name first, by content where the name says nothing."""

from __future__ import annotations

from collections.abc import Sequence
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


def _sniff(path: str) -> ModuleType:
    modules = [registry.load("formats", name) for name in registry.kinds("formats")]
    for module in modules:
        if suffix_matches(path, module.SUFFIXES):
            return module
    for module in modules:
        if module.sniff(path):
            return module
    said = advice(path)
    if said:
        raise SourceError(said)
    known = ", ".join(suffix for module in modules for suffix in module.SUFFIXES)
    raise SourceError(f"{path}: neither name nor content is that of a known format; known are {known}")
