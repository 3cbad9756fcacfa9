"""Restored dates of one place as one zarr v3 store with a time axis, in the words of CF, that xarray opens.

    restored, uncertainty, source, doubt   (time, band, y, x)   doubt only if a date has it
    time, band, y, x, spatial_ref          coordinates

It is written date by date, in chunks of one date and one band. All attributes are numbers, texts or flat lists of them,
so that xarray can write what it opened as netCDF, too.
CF: https://cfconventions.org/Data/cf-conventions/cf-conventions-1.11/cf-conventions.html
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from pipeline.errors import IntegrityError
from pipeline.formats import _zarr_conventions as conventions
from pipeline.formats._image import representable, windows
from pipeline.formats._zarr_write import finish, write_coordinates
from pipeline.formats.base import Role, Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import same_crs
from pipeline.system.files import write_text
from pipeline.system.meter import lap
from pipeline.system.signals import stop_if_asked

_CHUNK = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEAL = "inpaint_pipeline_sha256"
METADATA = "zarr.json"
"""File that says what a store holds: readers look at it first."""
_LONG_NAMES = {
    "restored": "image with its holes restored",
    "uncertainty": "one standard error of restored values, 0 where observed",
    "source": "where each value comes from",
    "doubt": "observed pixels that look like thin cloud, haze or shadow",
}
_NOTHING: dict[str, Any] = {"uncertainty": np.float32("nan"), "source": np.uint8(255), "doubt": np.uint8(0)}
"""What the layers say of channels that are never restored, such as alpha."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeDate:
    """The results of one date.

    Attributes:
        moment: when it was taken.
        layers: the restored image, its uncertainty and source, and `doubt` if there is one, opened.
        guides: name of each reference and auxiliary, in the order of the source codes.
        codes: names of the codes of `source` and `doubt`.
    """

    moment: datetime
    layers: Mapping[Role, Source]
    guides: tuple[str, ...]
    codes: Mapping[Role, Mapping[int, str]]

    def planes(self, role: Role, box: Box) -> NDArray[Any]:
        """Return a layer as it is stored, `(bands, *box.shape)`: one plane for every band of the restored image."""
        restored, values = self.layers["restored"], self.layers[role].read(box) if role in self.layers else None
        if values is not None and len(values) == restored.n_channels:
            return values
        own = [c for c in range(restored.n_channels) if c not in restored.fixed_channels]
        nothing = _NOTHING[role]
        planes = np.full((restored.n_channels, *box.shape), nothing, dtype=nothing.dtype)
        if values is not None:
            planes[own] = values
        return planes


def unlike(one: Source, other: Source) -> str:
    """Say in what `other` differs from `one` so that both cannot be dates of one cube; empty if in nothing."""
    if one.space.mismatch(other.space):
        return f"grid: {other.space.describe()}"
    if not same_crs(one.space.crs, other.space.crs):
        return "grid: only one of both has a reference system"
    for name, said in _FACTS.items():
        if said(one) != said(other):
            return f"{name}: {_text(said(other))} instead of {_text(said(one))}"
    return ""


_FACTS: dict[str, Callable[[Source], Any]] = {
    "type": lambda image: image.dtype.name,
    "bands": lambda image: image.channel_names,
    "bands that are not restored": lambda image: [image.channel_names[c] for c in image.fixed_channels],
    "nodata": lambda image: ["none" if value is None else f"{float(value):g}" for value in image.nodata],
    "scale and offset": lambda image: image.scale_offset,
    "units": lambda image: list(filter(None, image.attributes.get("units", ()))),
}
"""What is the same of all dates of a cube, beside the grid."""


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str) else ", ".join(map(str, value)) or "none"


def write_cube(folder: Path, dates: Sequence[CubeDate], attributes: Mapping[str, Any], memory_bytes: int) -> None:
    """Write dates into the new store `folder`, read all of it back, and seal it.

    Args:
        folder: a path that is not taken.
        dates: in the order of time, all alike (see `unlike`).
        attributes: of the store: numbers, texts, or lists of them.
        memory_bytes: bound on the bytes held at once.

    Raises:
        IntegrityError: what was read back is not what was written.
        OSError: it cannot be written.
        Interrupted: a stop was requested.
    """
    root = zarr.open_group(folder, mode="w", zarr_format=3)
    first = dates[0].layers["restored"]
    root.attrs.update({"Conventions": conventions.CF, **attributes})
    write_coordinates(root, first.space, first.channel_names)
    _write_times(root, [date.moment for date in dates])
    roles: tuple[Role, ...] = ("restored", "uncertainty", "source")
    roles += ("doubt",) if any("doubt" in date.layers for date in dates) else ()
    for role in roles:
        _create(root, role, dates)
    for at, role, box in _pieces(dates, roles, memory_bytes):
        values = dates[at].planes(role, box)
        with lap("encode"):
            root[role][(at, slice(None), *box.slices)] = values
    finish(folder, complete=1)
    written = zarr.open_group(folder, mode="r", zarr_format=3)
    for at, role, box in _pieces(dates, roles, memory_bytes):
        # bytes, so that NaN and negative zeros count
        if written[role][(at, slice(None), *box.slices)].tobytes() != dates[at].planes(role, box).tobytes():
            raise IntegrityError(f"{folder}: {role} of {dates[at].moment} is not what was written; check the disk")
    _seal(folder)


def _pieces(dates: Sequence[CubeDate], roles: Sequence[Role], memory_bytes: int) -> Iterator[tuple[int, Role, Box]]:
    space, count = dates[0].layers["restored"].space, dates[0].layers["restored"].n_channels
    tile = tuple(min(_CHUNK, n) for n in space.shape)
    for at, date in enumerate(dates):
        for role in roles:
            width = date.layers[role].dtype.itemsize if role in date.layers else 1
            for box in windows(space.shape, tile, count * width, memory_bytes):
                stop_if_asked()
                yield at, role, box


def _write_times(root: Any, moments: Sequence[datetime]) -> None:
    seconds = np.asarray([math.floor((moment - _EPOCH).total_seconds()) for moment in moments], dtype=np.int64)
    attributes = {
        "standard_name": "time",
        "long_name": "time of acquisition",
        "axis": "T",
        "units": "seconds since 1970-01-01 00:00:00",
        "calendar": "standard",
    }
    root.create_array("time", data=seconds, dimension_names=("time",), attributes=attributes)


def _create(root: Any, role: Role, dates: Sequence[CubeDate]) -> None:
    restored = dates[0].layers["restored"]
    layer = next(date.layers[role] for date in dates if role in date.layers)
    shape = (len(dates), restored.n_channels, *restored.space.shape)
    nodata = None
    if role in ("restored", "uncertainty"):
        declared = restored.nodata if role == "restored" else (math.nan,)
        nodata = representable(next((value for value in declared if value is not None), None), layer.dtype)
    attributes = {
        "long_name": _LONG_NAMES[role],
        "grid_mapping": "spatial_ref",
        "coordinates": "spatial_ref",
        **(_attributes_of_codes(role, dates) if role in ("source", "doubt") else _attributes_of_values(role, restored)),
    }
    if nodata is not None:
        attributes["_FillValue"] = conventions.fill_value_attribute(nodata, layer.dtype)
    root.create_array(
        role,
        shape=shape,
        chunks=(1, 1, *(min(_CHUNK, n) for n in shape[2:])),
        dtype=layer.dtype,
        compressors=ZstdCodec(level=3, checksum=True),
        fill_value=0 if nodata is None else layer.dtype.type(nodata),
        dimension_names=("time", "band", "y", "x"),
        attributes=attributes,
    )


def _attributes_of_values(role: Role, restored: Source) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    scales = restored.scale_offset if role == "restored" else tuple((scale, 0.0) for scale, _ in restored.scale_offset)
    if len(set(scales)) > 1:
        # CF has one pair for a variable: these are for people
        attributes["band_scales"], attributes["band_offsets"] = map(list, zip(*scales, strict=True))
    elif scales[0] != (1.0, 0.0):
        attributes["scale_factor"], attributes["add_offset"] = scales[0]
    units = set(restored.attributes.get("units", ()))
    if len(units) == 1 and "" not in units:
        attributes["units"] = units.pop()
    return attributes | ({"ancillary_variables": "uncertainty source"} if role == "restored" else {})


def _attributes_of_codes(role: Role, dates: Sequence[CubeDate]) -> dict[str, Any]:
    found: dict[int, dict[str, None]] = {}
    for date in dates:
        for code, name in date.codes[role].items():
            found.setdefault(code, {})[name] = None
    attributes = {
        "standard_name": "status_flag",
        **conventions.flags({code: " or ".join(names) for code, names in found.items()}),
    }
    if role == "source":
        attributes["comment"] = "10 + k is guide k of that date, from 0; `guides` names them, a text a date"
        attributes["guides"] = [", ".join(date.guides) for date in dates]
    return attributes


def _seal(folder: Path) -> None:
    path = folder / METADATA
    metadata = json.loads(path.read_bytes())
    metadata["attributes"][_SEAL] = _content(folder, metadata)
    write_text(path, json.dumps(metadata, indent=2))


def is_intact(folder: Path) -> bool:
    """Return True if a store is as `write_cube` left it: every byte of its arrays, every attribute."""
    try:
        metadata = json.loads((folder / METADATA).read_bytes())
        return bool(metadata["attributes"].pop(_SEAL) == _content(folder, metadata))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def attributes_of(folder: Path) -> dict[str, Any] | None:
    """Return the attributes of a store that `write_cube` has made, whatever became of it since; None if it has not."""
    try:
        return attributes_in(json.loads((folder / METADATA).read_bytes()))
    except (OSError, ValueError):
        return None


def attributes_in(metadata: Any) -> dict[str, Any] | None:
    """Return the attributes that stand in the metadata of a store that `write_cube` has made; None if it has not."""
    attributes = metadata.get("attributes") if isinstance(metadata, dict) else None
    return dict(attributes) if isinstance(attributes, dict) and _SEAL in attributes else None


def seal_of(folder: Path) -> str:
    """Return the hash of all that a store that `write_cube` has made holds, as it says itself."""
    return str(json.loads((folder / METADATA).read_bytes())["attributes"][_SEAL])


def _content(folder: Path, metadata: Mapping[str, Any]) -> str:
    """Return a hash of all files of a store, the top one as `metadata`."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / METADATA:
            with path.open("rb") as file:
                digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
