"""A commented start config for a user's own file (`config new FILE`)."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from pipeline.config.names import sibling_masks
from pipeline.errors import SourceError
from pipeline.formats import open_any
from pipeline.formats.base import Source
from pipeline.system.paths import describe, kind_of
from pipeline.system.yaml_files import parse_value

_RASTER = """\
# {name}: {facts}
input:
  source: {source}
  # source: [B02.tif, B03.tif]     # one file a band; or a glob for a batch
  # nodata: 0                      # if the file does not say which value means nothing was observed
  # fill_nodata: drawn             # nodata to restore: drawn (under a mask file) | never | inside (any mask) | all
  # references:                    # other dates of the same place help most
  #   - {{path: other_date.tif, mask: [{{kind: scl, path: other_date_SCL.tif}}]}}
mask:                              # holes = union of the entries
{mask}
  # - {{kind: scl, path: SCL.tif, buffer: 60 m}}              # Sentinel-2 scene classes
  # - {{kind: qa_pixel, path: QA_PIXEL.TIF, buffer: 60 m}}    # quality codes of Landsat, HLS, MODIS, VIIRS
  # - {{kind: raster, path: my_mask.tif}}                     # any raster; non-zero = hole; threshold, values, bits
  # - {{kind: vector, path: my_clouds.geojson}}               # shapes
  # - {{kind: nodata, max_gap: 20 px}}                        # stripes and dropped lines
output:
  directory: {directory}
  # format: [same, zarr]
  # refuse_above: 0.2              # leave pixels unrestored that are less certain: share of the value range
# compute: {{workers: auto, memory_per_worker: 4 GiB, device: auto}}
"""

_VOLUME = """\
# {name}: {facts}
# No medical device: for research only.
input:
  source: {source}
  # auxiliary: [flair.nii.gz]      # another contrast of the same head, on the same grid
mask:                              # holes = union of the entries
{mask}
  # - {{kind: raster, path: lesions.nii.gz, buffer: 1 mm}}    # non-zero = restore; same grid
  # - {{kind: slices, slices: [41, 42], axis: k}}             # lost slices, counted from 0
  # - {{kind: threshold, above: 2000, physical: true, buffer: 6 mm}}   # metal in CT
output:
  directory: {directory}
  # refuse_above: 0.2              # leave voxels unrestored that are less certain: share of the value range
# compute: {{workers: auto, memory_per_worker: 4 GiB, device: auto}}
"""


def config_template(source_path: str | Path, directory: str | Path = ".") -> str:
    """Return YAML text that is a valid config for the file, with the other choices as comments.

    Args:
        source_path: the user's GeoTIFF or NIfTI.
        directory: folder the config will stand in; paths in it are relative to that.

    Raises:
        SourceError: it is missing, a named pipe or a device, or cannot be opened.
    """
    path = Path(source_path)
    if kind_of(path) == "special":
        raise SourceError(f"{path}: is {describe(path)}; give an image file")
    source = open_any(str(path))
    try:
        volume = source.space.kind == "volume"
        name = path.name
        stem = Path(name.removesuffix(".gz")).stem
        return (_VOLUME if volume else _RASTER).format(
            name="".join(c if c.isprintable() else "?" for c in name),
            facts=_facts(source),
            source=_path_as_written(path, directory),
            directory=_as_written(f"out/{stem}"),
            mask=_mask_lines(path, directory, stem, volume=volume),
        )
    finally:
        source.close()


def _facts(source: Source) -> str:
    values = {value for value in source.nodata if value is not None}
    nodata = f"nodata {', '.join(f'{v:g}' for v in sorted(values))}" if values else "no nodata value"
    what = "volume(s)" if source.space.kind == "volume" else "band(s)"
    return f"{source.n_channels} {what}, {source.dtype}, {nodata}; {source.space.describe()}"


def _mask_lines(path: Path, directory: str | Path, stem: str, *, volume: bool) -> str:
    found = [mask.model_dump() for mask in sibling_masks(str(path))]
    if found:
        return "\n".join(
            f"  - {{kind: {m['kind']}, path: {_path_as_written(Path(m['path']), directory)}}}" for m in found
        )
    if volume:
        drawn = _as_written(f"{stem}_mask.nii.gz")
        return f"  - {{kind: raster, path: {drawn}}}   # draw it, or choose another kind below"
    return "  - {kind: nodata, max_gap: 20 px}                          # or another kind below"


def _path_as_written(path: Path, directory: str | Path) -> str:
    """Return the path as it has to stand in a config in `directory`: relative to it, quoted where YAML needs it."""
    text = os.path.relpath(path, directory)
    # a file may be called as if it were in somebody's home folder
    return _as_written(f"./{text}" if text.startswith("~") else text)


def _as_written(text: str) -> str:
    plain = re.fullmatch(r"[\w./-]+", text) and parse_value(text, "") == text
    return text if plain else json.dumps(text, ensure_ascii=False)
