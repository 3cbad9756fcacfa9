"""GDAL's settings, handles and errors in one place; nothing else in the package opens a raster file.

A file is opened by the one driver that its first bytes ask for, out of a short list: GDAL's two hundred others
never see it, and nothing that a local file says makes the program reach the network or a file of another kind.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import rasterio
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning
from rasterio.windows import Window

from pipeline.errors import PlanRefused, SourceError
from pipeline.formats import _vrt
from pipeline.formats._archive import ZIP
from pipeline.formats._complete import TIFF, require_plain_sidecars
from pipeline.formats._drivers import require_drivers
from pipeline.formats._files import (
    first_bytes,
    how_it_starts,
    require_file,
    suffix_matches,
    untrusted,
)
from pipeline.formats._foreign import advice
from pipeline.formats._jp2 import require_sound_boxes, require_sound_boxes_in_archive
from pipeline.geometry.box import Box
from pipeline.system.paths import is_address

IMAGE_DRIVERS = ("GTiff", "JP2OpenJPEG", "VRT", "netCDF")
MASK_DRIVERS = (*IMAGE_DRIVERS, "PNG", "JPEG")
MAGIC = {
    "GTiff": TIFF,
    "JP2OpenJPEG": (b"\0\0\0\x0cjP  ", b"\xffO\xffQ"),
    "netCDF": (b"CDF\1", b"CDF\2", b"CDF\5"),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
}
_SUFFIXES = {
    "JP2OpenJPEG": (".jp2", ".j2k"),
    "VRT": (".vrt",),
    "netCDF": (".nc",),
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
}
_NAMES = {"GTiff": "GeoTIFF", "JP2OpenJPEG": "JPEG 2000"}
_BESIDE = ":::BASE:::"
_MAX_READS = 1_000_000
"""Sources of a VRT, those of VRTs in it counted each time; real mosaics have some thousands."""
_MAX_DEPTH = 16
_LARGEST_INT8 = 127
_PROJ = ("PROJ_DATA", "PROJ_LIB")
"""Where PROJ looks for its data base instead of beside itself; installers of other programs set them."""
_filters = threading.RLock()


def gdal_env(*, remote: bool = False, writing: bool = False) -> Any:
    """Return the GDAL environment for one call.

    Locally the folder is listed, because masks and RPCs may lie in sidecar files; over HTTP a listing costs
    one request a file and is switched off. The size of GDAL's cache is not touched: where one thread sets it, tiles
    that another has not written yet are lost. `system.process` sets it, once.

    Args:
        remote: what is read lies elsewhere; if not, reading it does not reach the network.
        writing: while a file is written, pixels are read from anywhere.
    """
    options: dict[str, Any] = {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}
    if not remote and not writing:
        # the only name that may be fetched, and there is none
        options["CPL_VSIL_CURL_ALLOWED_FILENAME"] = "none"
    if remote:
        options = {
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "GDAL_HTTP_MAX_RETRY": 3,
            "GDAL_HTTP_RETRY_DELAY": 1,
            "VSI_CACHE": True,
        }
    return rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_VRT_ENABLE_PYTHON="NO", **options)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence rasterio's warning about images without georeference: they are welcome here."""
    # filters are global to the process, so the lock keeps threads from undoing each other's
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


class _Undecodable:
    """A hook for exceptions that nobody can catch; it drops those of rasterio's log of what GDAL says.

    A message may quote bytes of a damaged file that are no text: a traceback for every one would reach the user.
    """

    def __init__(self) -> None:
        self._before = sys.unraisablehook

    def __call__(self, args: Any) -> None:
        if not isinstance(args.exc_value, UnicodeDecodeError):
            self._before(args)


class _Unraised:
    """A hook for the same exceptions, which are printed before they are given to the other; they come from nowhere."""

    def __init__(self) -> None:
        self._before = sys.excepthook

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if trace is not None or not isinstance(error, UnicodeDecodeError):
            self._before(kind, error, trace)


def open_dataset(path: str, drivers: tuple[str, ...] = IMAGE_DRIVERS, *, inspected: bool = False) -> Any:
    """Open one raster file for reading (headers only).

    Args:
        path: a file or URL.
        drivers: which of GDAL's drivers may open it.
        inspected: what a VRT reads was looked at before.

    Raises:
        SourceError: missing, unreadable, not one of the supported drivers, or a VRT that reads what it must not.
        PlanRefused: GDAL lacks a driver on this machine, or no reference system can be looked up.
    """
    _require_reference_systems()
    # before GDAL: opening a VRT may open what it reads
    if not inspected and not is_address(path) and _is_vrt(path):
        vrt_sources(path)
    if not inspected and path.startswith(ZIP) and suffix_matches(path, _SUFFIXES["JP2OpenJPEG"]):
        require_sound_boxes_in_archive(path)
    dataset = _open_alone(path, drivers)
    try:
        if not inspected and is_address(path) and dataset.driver == "VRT":
            vrt_sources(path)
    except SourceError:
        dataset.close()
        raise
    return dataset


@cache
def _require_reference_systems() -> None:
    """Check that PROJ finds its data base: without it names of reference systems are lost from files, without a word.

    Raises:
        PlanRefused: it does not; names the variables of the environment that say where it is.
    """
    try:
        with gdal_env():
            CRS.from_epsg(4326)
    except CRSError as error:
        said = ", ".join(f"{name}={os.environ[name]}" for name in _PROJ if name in os.environ)
        remedy = f"{said} is not the data base of this environment; unset it" if said else "install rasterio again"
        raise PlanRefused(f"PROJ cannot look up reference systems ({error}): {remedy}, and run again") from None


def vrt_sources(path: str) -> tuple[str, ...]:
    """Return every file that a VRT reads, those of VRTs within it included, each once.

    Raises:
        SourceError: it reads a file that is missing or of a kind that is not supported, reads itself, or, being a
            local file, a URL.
    """
    reads: dict[str, int] = {}
    _walk(path, reads, ())
    return tuple(name for name in reads if name != path)


def _walk(path: str, reads: dict[str, int], chain: tuple[str, ...]) -> int:
    """Note in `reads` how many reads each file stands for, and return the number for `path`."""
    if path in reads:
        return reads[path]
    if path in chain or len(chain) > _MAX_DEPTH:
        raise SourceError(f"{chain[0]}: a VRT that reads itself, or VRTs nested too deep; build one GeoTIFF of it")
    text = _vrt_text(path)
    count = 1
    for source in () if text is None else _sources(path, text):
        try:
            count += _walk(source, reads, (*chain, path))
        except SourceError as error:
            raise error if chain else SourceError(f"{path}: cannot be read: {error}") from error
    if count > _MAX_READS:
        raise SourceError(f"{path}: a VRT that makes {count} reads, more than {_MAX_READS}; build one GeoTIFF of it")
    reads[path] = count
    return count


def _vrt_text(path: str) -> bytes | None:
    """Return the content of a VRT, None for another raster (which was opened, to see that it does no harm)."""
    if not is_address(path):
        require_file(path)
        if _is_vrt(path):
            return first_bytes(path, _vrt.LARGEST + 1)
    with _open_alone(path, MASK_DRIVERS) as dataset:
        return dataset.tags(ns="xml:VRT")["xml:VRT"].encode() if dataset.driver == "VRT" else None


def _sources(path: str, text: bytes) -> Iterator[str]:
    """Yield the files that one VRT names, as they are to be opened.

    Raises:
        SourceError: a local VRT names a URL, one from elsewhere a local file.
    """
    remote = is_address(path)
    base = path.partition("?")[0].rpartition("/")[0] if remote else str(Path(path).resolve().parent)
    contents = _vrt.contents(path, text)
    wrong = [] if remote else list(contents.addresses)
    names = []
    for reference in contents.files:
        foreign = _vrt.is_address(reference.name)
        found = reference.relative and not foreign and not reference.name.startswith("/")
        name = f"{base}/{reference.name}" if found else reference.name
        wrong += [name] if is_address(name) != remote or (foreign and not remote) else []
        names.append(name)
    if wrong:
        where = "elsewhere may only read what lies there" if remote else "on this machine may only read files"
        raise SourceError(f"{path}: a VRT {where}, but it names {wrong[0]!r}; give that image itself if you trust it")
    yield from names


def _open_alone(path: str, drivers: tuple[str, ...]) -> Any:
    """Open a raster whatever it reads, but for overviews that lie in a file of any name."""
    if is_address(path):
        dataset = _open_remote(path, drivers)
    else:
        require_file(path)
        require_plain_sidecars(path)
        driver = _driver(path, drivers)
        if driver == "JP2OpenJPEG":
            require_sound_boxes(path)
        dataset = _open_with(path, driver)
    with untrusted(path, "damaged metadata", "copy the file again"):
        overviews = dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE", "")
    if overviews and (not overviews.startswith(_BESIDE) or "/" in overviews):
        dataset.close()
        raise SourceError(f"{path}: says that its overviews are in {overviews!r}; delete them (gdaladdo -clean)")
    return dataset


def _open_remote(path: str, drivers: tuple[str, ...]) -> Any:
    by_name = [d for d in drivers if suffix_matches(path, _SUFFIXES.get(d, ()))]
    errors: list[SourceError | PlanRefused] = []
    for driver in dict.fromkeys((*by_name, *drivers)):
        try:
            return _open_with(path, driver)
        except (SourceError, PlanRefused) as error:
            errors.append(error)
    raise errors[0]


def _open_with(path: str, driver: str) -> Any:
    # headers are read by way of a VRT
    require_drivers(driver, "VRT")
    if not isinstance(sys.unraisablehook, _Undecodable):
        sys.unraisablehook = _Undecodable()
    # the library of the command line puts a hook of its own there
    if not isinstance(sys.excepthook, _Unraised):
        sys.excepthook = _Unraised()
    start = first_bytes(path, 12)
    seen = f" (it starts with {start!r})" if start else ""
    remedy = (
        "check the address, and that this machine reaches it" if is_address(path) else "check that the copy is complete"
    )
    with (
        untrusted(path, f"not a readable {_NAMES.get(driver, driver)}{seen}", remedy),
        quiet(),
        gdal_env(remote=is_address(path)),
    ):
        return _open_netcdf(path) if driver == "netCDF" else rasterio.open(path, driver=driver)


def _open_netcdf(path: str) -> Any:
    """Open a netCDF in which values out of the valid range stay as they are: `never` knows them, GDAL replaces them."""
    dataset = rasterio.open(path, driver="netCDF", HONOUR_VALID_RANGE="NO")
    if "int8" in dataset.dtypes:
        said = " ".join(dataset.tags(1).get(key, "") for key in ("valid_max", "valid_range"))
        if any(int(digits) > _LARGEST_INT8 for digits in re.findall(r"\d+", said)):
            # such bytes have no sign, which GDAL tells only where it minds the range itself
            dataset.close()
            return rasterio.open(path, driver="netCDF")
    return dataset


def _is_vrt(path: str) -> bool:
    # as GDAL tells it; a file that is something else as well is not let in as either
    return b"<VRTDataset" in first_bytes(path, 1024)


def _driver(path: str, drivers: tuple[str, ...]) -> str:
    """Return the driver that the first bytes of a local file ask for.

    Raises:
        SourceError: none of `drivers`.
    """
    start = first_bytes(path, 12)
    driver = next((name for name, magic in MAGIC.items() if start.startswith(magic)), None)
    if _is_vrt(path):
        driver = "VRT" if driver is None else None
    if driver in drivers:
        return driver
    known = " or ".join(dict.fromkeys(_NAMES.get(name, name) for name in drivers if name != "VRT"))
    if driver is not None:
        raise SourceError(f"{path}: this is {driver}, not {known}; convert it with gdal_translate")
    raise SourceError(
        advice(path)
        or f"{path}: not a readable {known} ({how_it_starts(path)}); check that the copy is complete, "
        "or convert it with gdal_translate"
    )


def window_of(box: Box) -> Window:
    """Return a box of an image as rasterio names it."""
    (row, col), (rows, cols) = box.start, box.shape
    return Window(col, row, cols, rows)


@contextmanager
def reading(path: str, box: Box) -> Iterator[None]:
    """Turn GDAL's errors into a `SourceError` that names the file and the window."""
    rows, cols = zip(box.start, box.stop, strict=True)
    window = f"rows {rows[0]}-{rows[1]}, columns {cols[0]}-{cols[1]}"
    remedy = "the file is truncated or damaged, copy it again"
    if is_address(path):
        remedy = "run again when the server is there, or fetch the file first"
    with untrusted(path, f"cannot read {window}", remedy), gdal_env(remote=is_address(path)):
        yield


class DatasetPool:
    """One open dataset a file and thread, opened on first use; pickles as the list of paths."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._local = threading.local()

    def get(self, index: int) -> Any:
        """Return this thread's dataset of file `index`."""
        handles: dict[str, Any] = self._local.__dict__
        # a forked child must not share its parent's file position, hence the process id
        key = f"{os.getpid()}-{index}"
        if key not in handles:
            handles[key] = open_dataset(self._paths[index], inspected=True)
        return handles[key]

    def close(self) -> None:
        """Drop all handles; GDAL closes a file with its last reference."""
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return (DatasetPool, (self._paths,))
