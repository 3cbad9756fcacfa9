"""The record of a raster as a STAC Item (SpatioTemporal Asset Catalog 1.1, https://github.com/radiantearth/stac-spec).

Extensions: projection 2.0, processing 1.2, file 2.1, classification 2.0. Written beside the files, so that a catalogue
can take up the folder as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds, transform_geom

from pipeline.config.names import RECORD
from pipeline.geometry.space import Space
from pipeline.restore.codes import names_of

_EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "processing/v1.2.0", "file/v2.1.0", "classification/v2.0.0")
)
_WGS84 = "EPSG:4326"
_SIDE = 8
"""Pieces of each side of the footprint: a straight line of one reference system is a curve in another."""
_SHA256 = "1220"
"""Multihash prefix: sha2-256, 32 bytes."""
_MEDIA = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".zarr": "application/vnd.zarr; version=3",
    ".html": "text/html",
    ".json": "application/json",
    ".webp": "image/webp",
}
_ROLES = {
    "restored": ("data",),
    "uncertainty": ("metadata", "uncertainty"),
    "source": ("metadata", "source"),
    "doubt": ("metadata", "quality"),
    "display": ("visual",),
    "report": ("overview",),
    "thumbnail": ("thumbnail",),
}


def item(record: Mapping[str, Any], space: Space) -> dict[str, Any] | None:
    """Return the Item of a restored raster; None where its place on earth is not known.

    Args:
        record: with its outputs.
        space: grid of the image.
    """
    if space.kind != "raster" or not space.crs:
        return None
    crs = CRS.from_wkt(space.crs)
    try:
        footprint = _footprint(space, crs)
    except (RasterioError, CPLE_BaseError):
        # a local system: nothing says where on earth it is
        return None
    if not all(map(math.isfinite, footprint["bbox"])):
        return None
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": record["stem"],
        **footprint,
        "properties": {**_when(record), **_projection(space, crs), **_processing(record)},
        "links": [{"rel": "derived_from", "href": entry["path"]} for entry in record["inputs"]],
        "assets": {**_assets(record), "record": _asset(RECORD, "how it was made", ("metadata",))},
    }


def _footprint(space: Space, crs: CRS) -> dict[str, Any]:
    a, b, c, d, e, f = space.affine
    rows, cols = space.shape
    corners = [(0, 0), (cols, 0), (cols, rows), (0, rows), (0, 0)]
    line = [
        (x0 + (x1 - x0) * k / _SIDE, y0 + (y1 - y0) * k / _SIDE)
        for (x0, y0), (x1, y1) in pairwise(corners)
        for k in range(_SIDE)
    ]
    ring = [(a * x + b * y + c, d * x + e * y + f) for x, y in [*line, line[0]]]
    xs, ys = zip(*ring, strict=True)
    geometry = transform_geom(crs, _WGS84, {"type": "Polygon", "coordinates": [ring]}, antimeridian_cutting=True)
    bounds = transform_bounds(crs, _WGS84, min(xs), min(ys), max(xs), max(ys))
    return {"geometry": geometry, "bbox": [round(float(v), 7) for v in bounds]}


def _when(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return when the image was taken; where nobody said it, when it was restored, and that this is so."""
    created, taken = _utc(record["created"]), _utc(record.get("date") or "")
    said = {} if taken else {"inpaint:datetime_of": "restoration: no date was given"}
    return {"datetime": taken or created, "created": created, **said}


def _utc(text: str) -> str | None:
    """Return a date as RFC 3339 in UTC; None if it is written in another way."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _projection(space: Space, crs: CRS) -> dict[str, Any]:
    authority = crs.to_authority()
    place = {"proj:code": ":".join(authority)} if authority else {"proj:code": None, "proj:wkt2": space.crs}
    return {**place, "proj:shape": list(space.shape), "proj:transform": [*space.affine, 0.0, 0.0, 1.0]}


def _processing(record: Mapping[str, Any]) -> dict[str, Any]:
    holes = record["holes"]
    return {
        "processing:software": dict(record["software"]),
        "processing:datetime": _utc(record["created"]),
        "processing:lineage": (
            f"{holes['pixels']} hidden pixels were restored by inpaint-pipeline; observed pixels are unchanged"
        ),
        "inpaint:filled_fraction": holes["fraction"],
        "inpaint:by_source": dict(holes["by_source"]),
        **({"license": record["license"]} if record["license"] else {}),
    }


def _assets(record: Mapping[str, Any]) -> dict[str, Any]:
    assets: dict[str, Any] = {}
    bands = record["space"].get("bands")
    for output in record["outputs"]:
        role, path = output["role"], output["path"]
        if role not in _ROLES:
            continue
        purpose = f", {record['display']['purpose']}" if role == "display" else ""
        asset = _asset(path, role + purpose, _ROLES[role])
        asset |= {"file:size": output["bytes"], "file:checksum": _SHA256 + output["sha256"]}
        if role in ("restored", "uncertainty", "display") and bands:
            asset["bands"] = [{"name": name} for name in bands]
        if role == "source":
            asset["classification:classes"] = _classes(record)
        # the first format is the one that was asked for first
        assets[role if role not in assets else f"{role}-{path.rpartition('.')[2]}"] = asset
    return assets


def _asset(path: str, title: str, roles: Sequence[str]) -> dict[str, Any]:
    suffix = f".{path.rpartition('.')[2]}"
    media = {"type": _MEDIA[suffix]} if suffix in _MEDIA else {}
    return {"href": f"./{path}", "title": title, **media, "roles": list(roles)}


def _classes(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = names_of([guide["role"] for guide in record["references"]])
    return [{"value": code, "name": name.replace(" ", "_"), "description": name} for code, name in names.items()]
