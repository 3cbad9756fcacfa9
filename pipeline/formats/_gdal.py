"""GDAL's settings, handles and errors in one place; nothing else in the package opens a raster file."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from pipeline.errors import SourceError
from pipeline.formats._files import first_bytes, is_remote, require_file
from pipeline.geometry.box import Box

DRIVERS = ("GTiff", "COG", "JP2OpenJPEG", "VRT")
_filters = threading.RLock()


def gdal_env(*, remote: bool = False) -> Any:
    """Return the GDAL environment for one call.

    Locally the folder is listed, because masks and RPCs may lie in sidecar files; over HTTP a listing costs
    one request a file and is switched off.
    """
    options: dict[str, Any] = {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}
    if remote:
        options = {
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "GDAL_HTTP_MAX_RETRY": 3,
            "GDAL_HTTP_RETRY_DELAY": 1,
            "VSI_CACHE": True,
        }
    return rasterio.Env(GDAL_CACHEMAX=128, GDAL_TIFF_INTERNAL_MASK=True, **options)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence rasterio's warning about images without georeference: they are welcome here."""
    # filters are global to the process, so the lock keeps threads from undoing each other's
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_dataset(path: str) -> Any:
    """Open one raster file for reading (headers only).

    Raises:
        SourceError: missing, unreadable or not one of the supported drivers.
    """
    require_file(path)
    try:
        with quiet(), gdal_env(remote=is_remote(path)):
            dataset = rasterio.open(path)
    except RasterioError as error:
        start = first_bytes(path, 12)
        seen = f" (it starts with {start!r})" if start else ""
        raise SourceError(
            f"{path}: not a readable GeoTIFF or JPEG 2000{seen}: {error}; check that the copy is complete"
        ) from error
    if dataset.driver not in DRIVERS:
        dataset.close()
        raise SourceError(f"{path}: this is {dataset.driver}, not GeoTIFF or JPEG 2000; convert it with gdal_translate")
    return dataset


@contextmanager
def reading(path: str, box: Box) -> Iterator[None]:
    """Turn GDAL's errors into a `SourceError` that names the file and the window."""
    try:
        with gdal_env(remote=is_remote(path)):
            yield
    except RasterioError as error:
        cause = error.__cause__ or error
        rows, cols = zip(box.start, box.stop, strict=True)
        raise SourceError(
            f"{path}: cannot read rows {rows[0]}-{rows[1]}, columns {cols[0]}-{cols[1]}: {cause}; "
            "the file is truncated or damaged, copy it again"
        ) from error


def require_complete(dataset: Any, path: str) -> None:
    """Check cheaply that a local TIFF reaches to the end of its last tile.

    Raises:
        SourceError: the file is shorter than its own index says.
    """
    if is_remote(path) or dataset.driver not in {"GTiff", "COG"}:
        return
    found = Path(path).stat().st_size
    for band in {1, dataset.count}:
        rows, cols = dataset.block_shapes[band - 1]
        last = f"{(dataset.width - 1) // cols}_{(dataset.height - 1) // rows}"
        offset = dataset.get_tag_item(f"BLOCK_OFFSET_{last}", "TIFF", bidx=band)
        size = dataset.get_tag_item(f"BLOCK_SIZE_{last}", "TIFF", bidx=band)
        if offset and size and int(offset) + int(size) > found:
            raise SourceError(
                f"{path}: truncated: {found} bytes found, but the last block of band {band} ends at byte "
                f"{int(offset) + int(size)}; copy the file again"
            )


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
            handles[key] = open_dataset(self._paths[index])
        return handles[key]

    def close(self) -> None:
        """Drop all handles; GDAL closes a file with its last reference."""
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return (DatasetPool, (self._paths,))
