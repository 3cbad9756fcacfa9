"""Sentinel-2 products of ESA: SAFE folders of level 2A or 1C, and zip archives of them.

The numbers: https://sentiwiki.copernicus.eu/web/s2-products. Since processing baseline 04.00 reflectance is
(stored + BOA_ADD_OFFSET) / BOA_QUANTIFICATION_VALUE, with an offset of -1000 in every band; before, there was none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.products.base import Container, Product, ProductBand, cloud_mask, require_bands
from pipeline.errors import SourceError
from pipeline.formats._xml import parsed_xml
from pipeline.masks.base import MaskOptions
from pipeline.system.paths import is_address

FAMILY = "sentinel-2"
COMMON: dict[str, tuple[float, tuple[str, ...]]] = {
    "B01": (60, ("coastal",)),
    "B02": (10, ("blue",)),
    "B03": (10, ("green",)),
    "B04": (10, ("red",)),
    "B05": (20, ("rededge071", "rededge1", "rededge")),
    "B06": (20, ("rededge075", "rededge2", "rededge")),
    "B07": (20, ("rededge078", "rededge3", "rededge")),
    "B08": (10, ("nir",)),
    "B8A": (20, ("nir08",)),
    "B09": (60, ("nir09",)),
    "B10": (60, ("cirrus",)),
    "B11": (20, ("swir16",)),
    "B12": (20, ("swir22",)),
}
"""Of each band the edge of its own pixels in metres and the names of its spectral range, in the order of `band_id`."""
SCALE = 1e-4
OFFSET = -1000.0
"""Of all bands since baseline 04.00."""
_FIRST_WITH_OFFSET = "04.00"
_OLD_QUANTITY = ("L2A_BOA_QUANTIFICATION_VALUE",)
"""Of Sen2Cor before 2.5, in products of level 2A until 2018."""
_OWN_BASELINE = "99.99"
"""Of products that users make themselves with Sen2Cor: it says nothing of the numbers."""
_METADATA = re.compile(r"(?:^|/)MTD_MSI(L1C|L2A)\.xml$")
_BAND = re.compile(r"_(B\d[\dA])(?:_(\d\d)m)?\.(?:jp2|tiff?)$", re.IGNORECASE)
_CLASSES = re.compile(r"_SCL(?:_(\d\d)m)?\.(?:jp2|tiff?)$", re.IGNORECASE)
_CLOUDS = re.compile(r"(?:^|[/_])MSK_(?:CLASSI_B00\.jp2|CLOUDS_(?:\w+_)?B00(?:_MSIL1C)?\.gml)$", re.IGNORECASE)
_BASELINE_IN_NAME = re.compile(r"_N(\d\d)(\d\d)_")
_DATE_IN_NAME = re.compile(r"_(\d{4})(\d\d)(\d\d)T")
_TILE = re.compile(r"(?:^|/)GRANULE/([^/]+)/")
_LEVEL_IN_NAME = re.compile(r"_MSI(L1C|L2A)_")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What the metadata say."""

    baseline: str = ""
    offsets: Mapping[str, float] | None = None
    """By band; None if nothing says it."""
    scale: float = SCALE
    date: str | None = None


def recognised(path: str) -> Product | None:
    """Return the product in a SAFE folder, an archive of one, or beside its metadata file; None if it is none.

    Raises:
        SourceError: damaged or incomplete, or an archive of several.
    """
    place = Path(path)
    if is_address(path):
        return None
    if place.is_file() and (_METADATA.search(place.name) or place.name == "manifest.safe"):
        place = place.parent
    if place.is_dir():
        top = _top_of_folder(place)
        return _product(path, Container(path=str(place)), top) if top is not None else None
    if place.suffix.lower() != ".zip":
        return None
    container = Container(path=path)
    tops = sorted({name[: found.start()] for name in container.names if (found := _METADATA.search(name))})
    if len(tops) > 1:
        raise SourceError(f"{path}: an archive of {len(tops)} products; unpack it and name the SAFE folder of one")
    return _product(path, container, tops[0]) if tops else None


def baseline_offset(baseline: str) -> float | None:
    """Return the offset of a processing baseline such as `04.00`, None for any other text and where none is known.

    >>> baseline_offset("02.14"), baseline_offset("05.09"), baseline_offset("1.2.0"), baseline_offset("99.99")
    (0.0, -1000.0, None, None)
    """
    if not re.fullmatch(r"\d\d\.\d\d", baseline) or baseline == _OWN_BASELINE:
        return None
    return OFFSET if baseline >= _FIRST_WITH_OFFSET else 0.0


def _top_of_folder(place: Path) -> str | None:
    if any((place / f"MTD_MSI{level}.xml").is_file() for level in ("L2A", "L1C")):
        return ""
    # without its metadata the name still says what a product is
    return "" if place.name.upper().endswith(".SAFE") and _LEVEL_IN_NAME.search(place.name) else None


def _product(path: str, container: Container, top: str) -> Product:
    names = [name for name in container.names if name.startswith(top)]
    tiles = {found[1] for name in names if (found := _TILE.search(name)) and _BAND.search(name)}
    if len(tiles) > 1:
        raise SourceError(
            f"{path}: a product of {len(tiles)} tiles, as they were delivered until December 2016; name the files of "
            "the bands of one tile instead, as a list in the list of input.source"
        )
    metadata = next((name for name in names if _METADATA.search(name) and "/" not in name[len(top) :].strip("/")), "")
    folder = (Path(top).name if top else Path(container.path).resolve().name) or Path(path).stem
    level = found[1] if (found := (_METADATA.search(metadata) or _LEVEL_IN_NAME.search(folder))) else "L2A"
    said = _read(container, metadata) if metadata else _Said(baseline=_baseline_of_name(folder))
    what = f"Sentinel-2 {level}" + (f", processing baseline {said.baseline}" if said.baseline else "")
    date = said.date or ("-".join(found.groups()) if (found := _DATE_IN_NAME.search(folder)) else None)
    return Product(
        name=re.sub(r"\.SAFE$", "", folder, flags=re.IGNORECASE),
        path=path,
        what=what,
        family=FAMILY,
        bands=require_bands(path, what, _bands(container, names, said)),
        files=(container.path,) if container.is_archive else (container.full(metadata),) if metadata else (),
        mask=_mask(container, names),
        date=date,
        nodata=0,
    )


def _mask(container: Container, names: Sequence[str]) -> tuple[MaskOptions, ...]:
    """Return the scene classes of level 2A, else the cloud mask of level 1C."""
    classes = sorted(
        (found[1] or "", name) for name in names if (found := _CLASSES.search(name)) and "QI_DATA" not in name
    )
    if classes:
        return cloud_mask("scl", container.full(classes[0][1]))
    clouds = next((name for name in names if _CLOUDS.search(name)), None)
    return cloud_mask("l1c", container.full(clouds)) if clouds else ()


def _bands(container: Container, names: Sequence[str], said: _Said) -> list[ProductBand]:
    bands = []
    for name in names:
        found = _BAND.search(name)
        # masks of detectors and of lost pixels are called after bands, too
        if not found or found[1].upper() not in COMMON or "QI_DATA" in name or "MSK_" in name:
            continue
        band = found[1].upper()
        own, common = COMMON[band]
        offset = said.offsets.get(band) if said.offsets is not None else baseline_offset(said.baseline)
        bands.append(
            ProductBand(
                name=band,
                path=container.full(name),
                common=common,
                metres=float(found[2] or own),
                offset=offset,
                scale=said.scale,
                aside=band == "B10",
            )
        )
    order = list(COMMON)
    return sorted(bands, key=lambda band: (order.index(band.name), band.metres or 0))


def _baseline_of_name(folder: str) -> str:
    found = _BASELINE_IN_NAME.search(folder)
    return f"{found[1]}.{found[2]}" if found else ""


def _read(container: Container, metadata: str) -> _Said:
    where = f"{container.path}/{metadata}"
    found = parsed_xml(where, container.read(metadata))

    def first(*tags: str) -> str:
        return next((text for tag in tags for e in found.get(tag, ()) if (text := (e.text or "").strip())), "")

    offsets = dict.fromkeys(COMMON, 0.0)
    ids = list(COMMON)
    try:
        for element in (*found.get("BOA_ADD_OFFSET", ()), *found.get("RADIO_ADD_OFFSET", ())):
            offsets[ids[int(element.get("band_id", ""))]] = _number(element.text or "")
        scale = 1 / _number(first("BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE", *_OLD_QUANTITY) or f"{1 / SCALE}")
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise SourceError(
            f"{where}: offset or quantification of a band is unreadable ({error}); fetch it again"
        ) from None
    return _Said(
        baseline=first("PROCESSING_BASELINE"),
        offsets=offsets,
        scale=scale,
        date=first("PRODUCT_START_TIME", "DATATAKE_SENSING_START") or None,
    )


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text.strip()} is no number")
    return value
