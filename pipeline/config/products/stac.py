"""STAC Items: a JSON file or address that lists the bands of a scene, wherever they lie.

Specification: https://github.com/radiantearth/stac-spec (1.0 and 1.1), with the extensions eo, raster, proj and those
of the catalogs of Sentinel-2. Of an address only the Item itself is fetched here; bands are read window by window.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, url2pathname, urlopen

from pipeline.config.products import landsat, sentinel2
from pipeline.config.products.base import Product, ProductBand, cloud_mask, require_bands
from pipeline.errors import SourceError
from pipeline.masks.base import MaskOptions
from pipeline.system.paths import is_address, kind_of
from pipeline.system.redact import redacted

_MOST_BYTES = 16 * 2**20
_ANSWER_S = 30.0
_SUFFIXES = (".json", ".geojson")
_IMAGES = (".tif", ".tiff", ".jp2")
_MASKS = (("scl", "scl"), ("qa_pixel", "qa_pixel"), ("fmask", "qa_pixel"))
"""Names of assets that classify pixels, and the kind of mask that reads them."""
_ASIDE = {"cirrus", "pan", "lwir", "lwir11", "lwir12"}
_SIZE = re.compile(r"_(\d\d)m(?:$|\.)")
_BASELINES = (
    "s2:processing_baseline",
    "processing:version",
    "sentinel2:processing_baseline",
    "sentinel:processing_baseline",
)
_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asset:
    """A raster of an Item."""

    key: str
    facts: Mapping[str, Any]
    path: str

    @property
    def is_jp2(self) -> bool:
        """True for JPEG 2000, of which windows are dearer to read."""
        return "jp2" in str(self.facts.get("type", "")).lower() or _path_of(self.path).lower().endswith(".jp2")

    @property
    def mask_kind(self) -> str:
        """Kind of the mask that reads it, empty for bands."""
        stem = Path(_path_of(self.path)).stem.lower()
        names = (_SIZE.sub("", self.key.lower()), _SIZE.sub("", stem))
        found = (kind for word, kind in _MASKS if any(re.search(rf"(?:^|[_.-]){word}(?:$|-jp2$)", n) for n in names))
        return next(found, "")


def _path_of(address: str) -> str:
    """Return the path within an address, without query and fragment; "" if it is no address."""
    try:
        return urlsplit(address).path
    except ValueError:
        return ""


def is_item_address(address: str) -> bool:
    """Return True for an address that is a STAC Item by its name: `.json`, or `.../items/ID` of a STAC API."""
    path = _path_of(address).lower()
    return address.lower().startswith(("http://", "https://")) and (
        path.endswith(_SUFFIXES) or bool(re.search(r"/items/[^/]+$", path))
    )


def recognised(path: str) -> Product | None:
    """Return the scene of a STAC Item; None if the file is none (an address must be one).

    Raises:
        SourceError: it cannot be fetched or read, or no band of it can be used.
    """
    if is_item_address(path):
        item = _parsed(path, _fetched(path))
        if not _is_item(item):
            raise SourceError(f"{redacted(path)}: is no STAC Item ({_kind(item)}); give the address of one Item")
    elif is_address(path) or kind_of(path) != "file" or not path.lower().endswith(_SUFFIXES):
        return None
    else:
        item = _parsed(path, _content(path))
        if not _is_item(item):
            if _kind(item) in ("Catalog", "Collection", "FeatureCollection"):
                raise SourceError(
                    f"{path}: a {_kind(item)}, no STAC Item; give the JSON of one Item (shapes are a mask: kind vector)"
                )
            return None
    return _product(path, item)


def _is_item(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "Feature" and isinstance(item.get("assets"), dict)


def _kind(item: Any) -> str:
    return str(item.get("type", "JSON")) if isinstance(item, dict) else "JSON"


def _fetched(address: str) -> bytes:
    # the scheme was looked at: http or https
    request = Request(address, headers={"Accept": "application/geo+json, application/json"})
    try:
        with urlopen(request, timeout=_ANSWER_S) as answer:
            content: bytes = answer.read(_MOST_BYTES + 1)
    except (URLError, OSError, ValueError) as error:
        said = getattr(error, "reason", None) or error
        raise SourceError(
            f"{redacted(address)}: the STAC Item cannot be fetched ({said}); check address and network"
        ) from None
    return content


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def _parsed(path: str, content: bytes) -> Any:
    if len(content) > _MOST_BYTES:
        raise SourceError(f"{redacted(path)}: more than {_MOST_BYTES} bytes, so this is no STAC Item")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{redacted(path)}: no readable JSON ({error}); fetch the Item again") from None


def _product(path: str, item: Mapping[str, Any]) -> Product:
    properties = item.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    family = _family(properties, str(item.get("id", "")))
    baseline = next((str(properties[key]) for key in _BASELINES if properties.get(key)), "") if _is_s2(family) else ""
    what = f"STAC Item, {family or 'of an unknown sensor'}" + (f", processing baseline {baseline}" if baseline else "")
    if any(properties.get(key) is True for key in _APPLIED):
        what += " with its offset applied"
    assets, problem = _usable(path, item["assets"])
    bands = list(_bands(assets, family, properties.get("gsd")))
    if problem and not bands:
        raise problem
    if _is_s2(family):
        bands = [_with_levels(band, properties, baseline) for band in bands]
    order = list(_table(family))
    bands.sort(key=lambda band: order.index(band.name) if band.name in order else len(order))
    return Product(
        name=str(item.get("id") or Path(_path_of(path)).stem),
        path=path,
        what=what,
        family=family,
        bands=require_bands(redacted(path), what, bands),
        files=(path,),
        mask=_mask(assets),
        date=_date(properties),
        nodata=0 if _is_s2(family) else None,
    )


def _usable(path: str, given: Mapping[str, Any]) -> tuple[list[_Asset], SourceError | None]:
    """Return the rasters that can be opened, JPEG 2000 last, and why the first of the others cannot."""
    assets, problem = [], None
    for key, facts in given.items():
        if not isinstance(facts, dict) or not isinstance(facts.get("href"), str) or not _is_raster(facts):
            continue
        try:
            assets.append(_Asset(key=str(key), facts=facts, path=_located(path, facts["href"])))
        except SourceError as error:
            problem = problem or error
    return sorted(assets, key=lambda asset: asset.is_jp2), problem


def _is_s2(family: str) -> bool:
    return family == sentinel2.FAMILY


def _date(properties: Mapping[str, Any]) -> str | None:
    said = properties.get("datetime") or properties.get("start_datetime")
    return said if isinstance(said, str) else None


def _family(properties: Mapping[str, Any], name: str) -> str:
    said = " ".join(str(properties.get(key, "")) for key in ("constellation", "platform")).lower() + " " + name.lower()
    if "sentinel-2" in said or re.search(r"\bs2[abc]_", said):
        return sentinel2.FAMILY
    if found := re.search(r"landsat[-_ ]?(\d)\b", said):
        return "landsat-oli" if int(found[1]) >= 8 else "landsat-tm"
    return ""


def _bands(assets: list[_Asset], family: str, gsd: object) -> Iterator[ProductBand]:
    """Yield every asset of one band with a spectral range, the first of each name and size; `gsd` is of all."""
    seen = set()
    for asset in assets:
        described = _described(asset.facts)
        if len(described) != 1 or asset.mask_kind:
            continue
        facts = described[0]
        common = str(facts.get("common_name") or facts.get("eo:common_name") or "").lower()
        name = _band_name(family, (str(facts.get("name", "")), _SIZE.sub("", asset.key), common))
        known = _table(family).get(name, ())
        metres = _metres(asset, facts, family, name) or (abs(float(gsd)) if _is_number(gsd) and gsd else None)
        if (common or known) and (name, metres) not in seen:
            seen.add((name, metres))
            yield ProductBand(
                name=name,
                path=asset.path,
                common=tuple(dict.fromkeys(filter(None, (common, *known, asset.key.lower())))),
                metres=metres,
                aside=bool(_ASIDE & {common, *known}),
                **_numbers(asset.facts, facts),
            )


def _described(asset: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what is said of each band of an asset: `bands` of STAC 1.1, `eo:bands` before."""
    said = asset.get("bands") or asset.get("eo:bands") or ()
    return [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []


def _is_raster(asset: Mapping[str, Any]) -> bool:
    media = str(asset.get("type", "")).lower()
    if media:
        return "tiff" in media or "jp2" in media
    return _path_of(str(asset["href"])).lower().endswith(_IMAGES)


def _band_name(family: str, words: tuple[str, ...]) -> str:
    """Return the name of a band as its agency has it, where the Item says it somewhere."""
    table = _table(family)
    for word in filter(None, words):
        plain = word.upper().rpartition("_")[2]
        if found := re.fullmatch(r"B(\d{1,2}|8A)", plain):
            padded = f"B{found[1]:0>2}" if _is_s2(family) else f"B{found[1].lstrip('0')}"
            if padded in table:
                return padded
        ranges = [band for band, names in table.items() if word.lower() in names]
        if len(ranges) == 1:
            return ranges[0]
    return next(filter(None, words), "band")


def _table(family: str) -> Mapping[str, tuple[str, ...]]:
    """Return the names of the spectral ranges of a family's bands, in the order of the bands."""
    if _is_s2(family):
        return {band: names for band, (_, names) in sentinel2.COMMON.items()}
    return {"landsat-oli": landsat.OLI, "landsat-tm": landsat.TM}.get(family, {})


def _metres(asset: _Asset, facts: Mapping[str, Any], family: str, name: str) -> float | None:
    whole, transform = asset.facts, asset.facts.get("proj:transform")
    said = [_raster(whole).get("spatial_resolution")]
    said += [one.get("raster:spatial_resolution") for one in (facts, whole)]
    said += transform[:1] if isinstance(transform, list) else []
    found = _SIZE.search(asset.key) or _SIZE.search(_path_of(asset.path))
    said += [facts.get("gsd"), whole.get("gsd"), int(found[1]) if found else None]
    said += [sentinel2.COMMON[name][0]] if _is_s2(family) and name in sentinel2.COMMON else []
    return next((abs(float(v)) for v in said if _is_number(v) and v), None)


def _raster(asset: Mapping[str, Any]) -> Mapping[str, Any]:
    said = asset.get("raster:bands")
    return said[0] if isinstance(said, list) and said and isinstance(said[0], dict) else {}


def _numbers(asset: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, float | None]:
    """Return scale and offset: physical = (stored + offset) * scale; STAC says stored * scale + offset."""
    raster = _raster(asset)
    scale = raster.get("scale", facts.get("raster:scale", asset.get("raster:scale")))
    offset = raster.get("offset", facts.get("raster:offset", asset.get("raster:offset")))
    if not _is_number(scale) or not scale:
        return {"scale": None, "offset": None}
    # whole numbers stay whole: -0.1 / 0.0001 is not -1000 in binary
    added = round(offset / scale, 6) if _is_number(offset) else None
    return {"scale": float(scale), "offset": added if _is_number(added) else None}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _with_levels(band: ProductBand, properties: Mapping[str, Any], baseline: str) -> ProductBand:
    """Return a band of Sentinel-2 with the offset that its numbers have.

    Older baselines have none, whatever a catalog says of all its Items alike. Earth Search subtracts it in some files
    and says so apart from `raster:bands`, which then still has it.
    """
    applied = next((properties[key] for key in _APPLIED if isinstance(properties.get(key), bool)), None)
    offset = by_baseline = sentinel2.baseline_offset(baseline)
    if by_baseline != 0 and applied:
        offset = 0.0
    elif by_baseline is None or (by_baseline != 0 and applied is None):
        offset = band.offset if band.offset is not None else by_baseline
    return replace(band, offset=offset, scale=band.scale or sentinel2.SCALE)


def _mask(assets: list[_Asset]) -> tuple[MaskOptions, ...]:
    return next((cloud_mask(asset.mask_kind, asset.path) for asset in assets if asset.mask_kind), ())


def _located(item: str, href: str) -> str:
    """Return where an asset lies, as the formats open it.

    Raises:
        SourceError: on no web server and in no local file, or the Item of a web server names a local file.
    """
    remote = is_address(item)
    if re.match(r"https?://", href, re.IGNORECASE):
        return href
    if href.lower().startswith("file://"):
        href = url2pathname(_path_of(href))
    elif is_address(href):
        raise SourceError(
            f"{redacted(item)}: the band at {redacted(href)} is on no web server; give an Item with https addresses "
            "(some catalogs sign them), or fetch the files and name them"
        )
    elif remote:
        return urljoin(item, href)
    if remote:
        raise SourceError(
            f"{redacted(item)}: an Item of a web server names a file of this machine ({href}); not opened"
        )
    return str(Path(Path(item).resolve().parent, href).resolve())
