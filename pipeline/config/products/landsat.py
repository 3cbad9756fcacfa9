"""Landsat scenes of USGS as they are unpacked: a file a band, QA_PIXEL and the metadata file (MTL) in one folder.

Collection 2, level 2: reflectance = stored * 0.0000275 - 0.2 in every scene
(https://www.usgs.gov/landsat-missions/landsat-collection-2-level-2-science-products).
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.config.products.base import Product, ProductBand, cloud_mask, require_bands
from pipeline.errors import SourceError
from pipeline.system.paths import is_address, kind_of

OLI: dict[str, tuple[str, ...]] = {
    "B1": ("coastal",),
    "B2": ("blue",),
    "B3": ("green",),
    "B4": ("red",),
    "B5": ("nir08", "nir"),
    "B6": ("swir16",),
    "B7": ("swir22",),
    "B8": ("pan",),
    "B9": ("cirrus",),
    "B10": ("lwir11",),
    "B11": ("lwir12",),
}
TM: dict[str, tuple[str, ...]] = {
    "B1": ("blue",),
    "B2": ("green",),
    "B3": ("red",),
    "B4": ("nir08", "nir"),
    "B5": ("swir16",),
    "B6": ("lwir",),
    "B7": ("swir22",),
    "B8": ("pan",),
}
SCALE, OFFSET = 2.75e-5, -0.2 / 2.75e-5
"""Of surface reflectance in Collection 2."""
_ASIDE = {"pan", "cirrus", "lwir", "lwir11", "lwir12"}
_MTL = re.compile(r"(?P<scene>L[COTEM]0[1-9]_.+)_MTL\.(?:txt|xml|json)$", re.IGNORECASE)
_BAND = re.compile(r"_(?P<series>SR_|ST_)?(?P<band>B\d{1,2})(?:_VCID_1)?\.TIFF?$", re.IGNORECASE)
_DATE = re.compile(rb"DATE_ACQUIRED\W+(\d{4}-\d\d-\d\d)")
_TIME = re.compile(rb"SCENE_CENTER_TIME\W+(\d\d:\d\d:\d\d)")
_HEAD = 1 << 20
_METRES = 30.0


def family_of(name: str) -> str:
    """Return the family of a scene, by the first letters of its name.

    >>> family_of("LC08_L2SP_008059"), family_of("LE07_L2SP_008059")
    ('landsat-oli', 'landsat-tm')
    """
    return "landsat-oli" if name.upper().startswith(("LC", "LO")) else "landsat-tm"


def recognised(path: str) -> Product | None:
    """Return the scene in a folder with one MTL file, or the one that an MTL file belongs to; None if it is none.

    Raises:
        SourceError: the folder holds several scenes, or there is no band beside the MTL file.
    """
    if is_address(path):
        return None
    place = Path(path)
    if kind_of(place) == "file":
        found = _MTL.fullmatch(place.name)
        return _product(path, place.parent, found["scene"], place) if found else None
    if kind_of(place) != "folder":
        return None
    scenes = {found["scene"]: file for file in sorted(place.iterdir()) if (found := _MTL.fullmatch(file.name))}
    if len(scenes) > 1:
        raise SourceError(
            f"{path}: holds {len(scenes)} Landsat scenes; for one, name its MTL file, {sorted(scenes)[0]}_MTL.txt; "
            f"for a batch: {place / '*_MTL.txt'}"
        )
    return next((_product(path, place, scene, file) for scene, file in scenes.items()), None)


def _product(path: str, folder: Path, scene: str, metadata: Path) -> Product:
    beside = [file for file in sorted(folder.iterdir()) if file.name.upper().startswith(f"{scene.upper()}_")]
    quality = next((str(file) for file in beside if file.name.upper().endswith("_QA_PIXEL.TIF")), None)
    head = _head(metadata)
    date, time = _DATE.search(head), _TIME.search(head)
    what = f"Landsat {scene[2:4].lstrip('0')} {'level 2' if '_L2S' in scene.upper() else 'level 1'}"
    return Product(
        name=scene,
        path=path,
        what=what,
        family=family_of(scene),
        bands=require_bands(path, what, _bands(scene, beside)),
        files=(str(metadata),),
        mask=cloud_mask("qa_pixel", quality) if quality else (),
        date=date[1].decode() + (f"T{time[1].decode()}Z" if time else "") if date else None,
    )


def _bands(scene: str, files: list[Path]) -> list[ProductBand]:
    commons = OLI if family_of(scene) == "landsat-oli" else TM
    second = "_L2S" in scene.upper() and re.search(r"_02_(T1|T2|RT)$", scene.upper())
    bands = []
    for file in files:
        found = _BAND.search(file.name)
        if not found:
            continue
        name, reflectance = found["band"].upper(), (found["series"] or "").upper() == "SR_"
        common = commons.get(name, ())
        bands.append(
            ProductBand(
                name=name,
                path=str(file),
                common=common,
                metres=_METRES / 2 if "pan" in common else _METRES,
                offset=OFFSET if second and reflectance else None,
                scale=SCALE if second and reflectance else None,
                aside=bool(_ASIDE & set(common)),
            )
        )
    return sorted(bands, key=lambda band: int(band.name[1:]))


def _head(metadata: Path) -> bytes:
    try:
        with metadata.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise SourceError(f"{metadata}: cannot be read ({error.strerror}); check its permissions") from None
