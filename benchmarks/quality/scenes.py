"""What is tested on: real images, where they were taken, and whether the shipped weights have seen them.

Bands of optical scenes come as (red, near infrared, short-wave infrared); with references green is added in front.

"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

Array = NDArray[Any]
Crop = tuple[int, int, int, int]

USGS = "Landsat, USGS, public domain"
COPERNICUS = "contains modified Copernicus Sentinel data"


def data_folder() -> Path:
    """Return the folder with `satellite/` and `medical/`.

    Raises:
        SystemExit: INPAINT_DATA is not set to such a folder.
    """
    folder = Path(os.environ.get("INPAINT_DATA", ""))
    if not (folder / "satellite").is_dir():
        raise SystemExit("set INPAINT_DATA to the folder with satellite/ and medical/ (see data_catalog.yaml)")
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """Another image of the same grid: values `(c, *spatial)`, and what its user knows to be hidden, if anything."""

    values: Array
    hidden: NDArray[np.bool_] | None = None
    auxiliary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A piece of a real image.

    Attributes:
        values: `(c, *spatial)` in the stored dtype, all clean where not `hidden`.
        hidden: bool `spatial`; pixels that really are clouds: masked as a user would, never scored.
        counted: bool `spatial`; where errors count (foreground of a volume).
        spacing: step per axis, mm for volumes.
        nodata: of the file, or None.
        guides: references and auxiliaries.
        unshown: score what the masks of the guides hide, not what all guides show.
    """

    values: Array
    hidden: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    spacing: tuple[float, ...]
    nodata: float | None = None
    guides: tuple[Guide, ...] = ()
    unshown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One image to cut test holes into.

    Attributes:
        name: as in tables and `--scenes`.
        place: place or subject; scenes of one place are resampled together.
        sensor: instrument or contrast.
        unseen: True if no image of this sensor or contrast is in the training set of the shipped weights.
        load: returns the image.
        files: of the data folder.
        part: of the image that is used, `(top, left, bottom, right)` or `(z, y, x, z, y, x)` in shares; () = any.
        credit: attribution; pictures are published only of scenes that have one.
    """

    name: str
    place: str
    sensor: str
    load: Callable[[], Image]
    files: tuple[str, ...]
    part: tuple[float, ...] = ()
    unseen: bool = False
    credit: str = ""


def read_raster(file: str, bands: tuple[int, ...], crop: Crop | None = None) -> Array:
    """Read bands (from 1) of a part `(x, y, width, height)` of a raster, `(c, y, x)`."""
    window = None if crop is None else rasterio.windows.Window(*crop)
    with warnings.catch_warnings():
        # some of the files do not say where they are
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        source = rasterio.open(data_folder() / "satellite" / file)
    with source:
        values: Array = source.read(list(bands), window=window)
    return values


def flat(values: Array, **options: Any) -> Image:
    """Return an optical image; `options` are fields of `Image`."""
    shape = values.shape[1:]
    return Image(
        values=values,
        hidden=options.pop("hidden", np.zeros(shape, dtype=bool)),
        counted=np.ones(shape, dtype=bool),
        spacing=(1.0, 1.0),
        **options,
    )


def optical(
    name: str, place: str, sensor: str, file: str, bands: tuple[int, ...], crop: Crop | None = None, **more: Any
) -> Scene:
    """Return a scene without references."""
    return Scene(
        name=name,
        place=place,
        sensor=sensor,
        load=lambda: flat(read_raster(file, bands, crop)),
        files=(f"satellite/{file}",),
        **more,
    )


S2, S2_REF = (4, 8, 12), (3, 4, 8, 12)
L8, L8_REF = (3, 4, 5), (2, 3, 4, 5)
L7, L7_REF = (3, 4, 5), (2, 3, 4, 5)
FIRST = "l8_corumba/LC08_L1TP_227074_20190809_20200827_02_T1.tif"
SECOND = "l8_corumba/LC08_L1TP_227074_20190825_20200826_02_T1.tif"
CHIAPAS_1999 = "le7_chiapas/LE70220491999322EDC01_stack.gtif"
CHIAPAS_2002 = "le7_chiapas/LE70220492002106EDC00_stack.gtif"
EAST = (0.0, 0.5, 1.0, 1.0)
CORUMBA_CROPS: tuple[Crop, ...] = ((405, 0, 256, 256), (405, 320, 256, 256), (405, 640, 256, 256))
LAZIO = ("p100", "p500")


def single_scenes() -> list[Scene]:
    """Return the scenes of the single-image families."""
    lazio = [
        optical(
            f"lazio-{p}",
            "Lazio",
            "Sentinel-2",
            f"s2_cr_lazio/ROIs1868_summer_s2_102_{p}.tif",
            S2,
            credit=COPERNICUS,
        )
        for p in LAZIO
    ]
    pairs = [
        optical(f"pair-{n}", f"pair {n}", "Sentinel-2", f"s2_masked_pairs/{n}_target.tif", S2, credit=COPERNICUS)
        for n in ("581", "4287")
    ]
    corumba = [
        optical(f"corumba-{k}", "Corumba", "Landsat 8", SECOND, L8, crop, part=EAST, credit=USGS)
        for k, crop in enumerate(CORUMBA_CROPS)
    ]
    chiapas = optical("chiapas-1999", "Chiapas", "Landsat 7", CHIAPAS_1999, L7, unseen=True, credit=USGS)
    bahamas = optical(
        "bahamas",
        "Bahamas",
        "Landsat 7 RGB, 300 m, uint8",
        "rgb_bahamas_nodata/RGB.byte.tif",
        (1, 2, 3),
        (176, 352, 256, 256),
        unseen=True,
        credit=USGS,
    )
    return [*lazio, *pairs, *corumba, chiapas, bahamas]
