"""Which files belong to an image without being named: what a VRT reads, masks, world files, overviews, RPCs."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import SourceError
from pipeline.formats._files import suffix_matches, untrusted
from pipeline.system.paths import is_address, kind_of

_SHAPEFILE = (".cpg", ".dbf", ".prj", ".qix", ".shx")


def files_of(path: str) -> tuple[str, ...]:
    """Return what belongs to an image or mask beside `path` itself, sorted, each once; what a VRT reads included.

    A Shapefile has its own. A volume is one file and a zarr store one folder: nothing belongs to them. Neither does
    anything to a file that cannot be read: opening it says why.
    """
    from pipeline.formats._gdal import MASK_DRIVERS, open_dataset, vrt_sources

    if not is_address(path) and Path(path).is_dir():
        return ()
    if suffix_matches(path, (".shp",)):
        beside = (str(Path(path).with_suffix(suffix)) for suffix in _SHAPEFILE)
        return tuple(sorted(name for name in beside if kind_of(name) == "file"))
    try:
        with open_dataset(path, MASK_DRIVERS) as dataset:
            read = vrt_sources(path) if dataset.driver == "VRT" else ()
        found = {name for one in (path, *read) for name in (one, *_listed(one))}
    except SourceError:
        return ()
    return tuple(sorted(found - {path}))


def _listed(path: str) -> tuple[str, ...]:
    """Return what GDAL says a raster consists of."""
    from pipeline.formats._gdal import MASK_DRIVERS, gdal_env, open_dataset

    with (
        untrusted(path, "damaged header", "copy the file again"),
        gdal_env(remote=is_address(path)),
        open_dataset(path, MASK_DRIVERS, inspected=True) as dataset,
    ):
        names: list[str] = dataset.files
    # GDAL has names of its own for addresses, that of the file itself among them
    plain = (name.removeprefix("/vsicurl/") for name in names)
    itself = path.partition("://")[2] if "://" in path else path
    return tuple(name for name in plain if not (is_address(path) and name.endswith(itself)))
