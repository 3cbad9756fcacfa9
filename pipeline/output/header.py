"""Compare the header of a restored image with that of its input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.formats.base import Source
from pipeline.geometry.space import same_crs

_HEADER = ("dtype", "channel_names", "nodata", "scale_offset")
_HEADER_ATTRIBUTES = (
    "colorinterp",
    "units",
    "nodata_declared",
    "gcps",
    "rpcs",
    "pixdim",
    "xyzt_units",
    "qform_code",
    "sform_code",
)

_NOT_COMPARED = ("INPAINT_", "PROCESSING_SOFTWARE", "PROCESSING_VERSION", "STATISTICS_")
"""Tags of the default domain that are of this run, or no longer hold."""
_GENERATED_NAME = re.compile(r"(band|volume)(_\d+)?")
"""Names that readers give to channels without one; they count positions, which a selection of bands changes."""


def differences(source: Source, restored: Source, *, selected: bool = False) -> list[str]:
    """Return in which of grid, dtype, nodata, scale, names and the format's own fields two images differ.

    `selected` leaves out colours: what TIFF can say about those depends on how many bands stand beside each other.
    """
    wrong = [
        f"{name}: {_given(source, name)} -> {_given(restored, name)}"
        for name in _HEADER
        if not _same(_given(source, name), _given(restored, name))
    ]
    grid, given = source.space, restored.space
    # one reference system may be written in many words
    if replace(grid, crs=given.crs) != given or not same_crs(grid.crs, given.crs):
        wrong.append(f"grid: {grid.mismatch(given) or 'reference system or units'}")
    for name in _HEADER_ATTRIBUTES if _comparable(source, restored) else ():
        before, after = source.attributes.get(name), restored.attributes.get(name)
        if name == "colorinterp":
            before, after = (None, None) if selected else (_roles(before), _roles(after))
        if name == "units" and before and after:
            # GDAL makes one up where a reference system has a unit of heights
            after = [new if old else old for old, new in zip(before, after, strict=True)]
        if name in source.attributes and not _same(before, after):
            wrong.append(f"{name}: {before} -> {after}")
    return wrong


def _roles(colours: Any) -> Any:
    """Return colour roles as far as TIFF holds them: its first band without a role is gray, others are undefined."""
    return None if colours is None else ["undefined" if name == "gray" else name for name in colours]


def _comparable(source: Source, restored: Source) -> bool:
    """Attributes are those of the format and of the first file: none to compare across formats or a file a band."""
    return source.kind == restored.kind and len(source.paths) == 1


def lost_tags(source: Source, restored: Source) -> list[str]:
    """Return the tags of a raster (dataset and bands, all domains) that its restored image does not have."""
    if not _comparable(source, restored):
        return []
    before, after = dict(_tags(source)), dict(_tags(restored))
    return [" ".join(filter(None, name)) for name, value in before.items() if after.get(name) != value]


def _tags(source: Source) -> Iterator[tuple[tuple[str, str, str], str]]:
    attributes = source.attributes
    named = [("", {"": attributes.get("tags", {}), **attributes.get("domains", {})})]
    named += [(f"band {at}", found) for at, found in enumerate(attributes.get("band_tags", ()), start=1)]
    for where, domains in named:
        for domain, tags in domains.items():
            for key, value in tags.items():
                if domain or not key.startswith(_NOT_COMPARED):
                    yield (where, domain, key), value


def _given(source: Source, name: str) -> Any:
    """A header field of a source, without what its reader made up."""
    if name == "channel_names":
        return tuple("" if _GENERATED_NAME.fullmatch(n) else n for n in source.channel_names)
    return getattr(source, name)


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        return len(before) == len(after) and all(_same(a, b) for a, b in zip(before, after, strict=True))
    if isinstance(before, float) and isinstance(after, float) and np.isnan(before) and np.isnan(after):
        return True
    if isinstance(before, np.dtype) and isinstance(after, np.dtype):
        return bool(before.newbyteorder("=") == after.newbyteorder("="))
    return bool(before == after)
