"""A commented start config for a user's own files (`config new FILE`)."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.commands.inputs import Inputs, named_entry, named_inputs
from pipeline.config.catalog_file import Entry
from pipeline.errors import OutputConflict, SourceError
from pipeline.formats import open_any
from pipeline.formats.base import Source
from pipeline.image.lost import Lost, looked_through
from pipeline.system.paths import is_address
from pipeline.system.yaml_files import parse_value

_CATALOG = """\
# {name}: {title}
input:
  source: {name}                   # as the catalog says, with its mask and references
output:
  directory: {directory}
# compute: {{workers: auto, memory_per_worker: 4 GiB, device: auto}}
"""

_RASTER = """\
# {name}: {facts}
input:
  source:{source}
{more}{series}{region}  # nodata: 0                      # if the file does not say which value means not observed
  # fill_nodata: drawn             # nodata to restore: drawn (under a mask file) | never | inside (any mask) | all
  # references:                    # other dates of the same place help most
  #   - {{path: other_date.tif, mask: [{{kind: scl, path: other_date_SCL.tif}}]}}
mask:{kind}                              # holes = union of the entries
{mask}
  # - {{kind: scl, path: SCL.tif, buffer: 60 m}}              # Sentinel-2 scene classes
  # - {{kind: qa_pixel, path: QA_PIXEL.TIF, buffer: 60 m}}    # quality codes of Landsat, HLS, MODIS, VIIRS
  # - {{kind: raster, path: my_mask.tif}}                     # any raster; non-zero = hole; threshold, values, bits
  # - {{kind: vector, path: my_clouds.geojson}}               # shapes
  # - {{kind: omnicloudmask, red: 3, green: 2, nir: 4}}       # no mask: finds clouds; needs an extra, docs/masks.md
  # - {{kind: nodata, max_gap: 20 px}}                        # stripes and dropped lines
output:
  directory: {directory}
{cube}  # format: [same, zarr]
  # display: true                  # also an image for looking at, not for measuring: with texture in wide holes
  # refuse_above: 0.2              # leave pixels unrestored that are less certain: share of the value range
# compute: {{workers: auto, memory_per_worker: 4 GiB, device: auto}}
"""

_VOLUME = """\
# {name}: {facts}
# No medical device: for research only.
input:
  source:{source}
{more}{region}  # auxiliary: [flair.nii.gz]      # another contrast of the same head, on the same grid
mask:                              # holes = union of the entries
{mask}
  # - {{kind: raster, path: lesions.nii.gz, buffer: 1 mm}}    # non-zero = restore; same grid
  # - {{kind: slices, slices: [41, 42], axis: k}}             # lost slices, counted from 0
  # - {{kind: threshold, above: 2000, physical: true, buffer: 6 mm}}   # metal in CT
output:
  directory: {directory}
  # display: true                  # also an image for looking at, not for measuring: with texture in wide holes
  # refuse_above: 0.2              # leave voxels unrestored that are less certain: share of the value range
# compute: {{workers: auto, memory_per_worker: 4 GiB, device: auto}}
"""

_GRID = "  # grid: each                     # every pixel size as an image of its own; 10m: coarser pixels repeated"
_ONE_PLACE = "  # series: true                   # dates of one place? each helps to restore the others\n"
_SERIES = "  series: true                     # dates of one place: each is restored with the others as references\n"
_CUBE = "  # cube: true                     # all dates in one zarr with a time axis, too\n"
_TRIED = {2: (512, 512), 3: (64, 128, 128)}
"""Extent of the part that an image is tried on, by dimensions, pixels."""
_CLASSES = ("scl", "qa_pixel")
"""Kinds of masks of clouds, which have soft rims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A start config, and what its user should know.

    Attributes:
        text: YAML.
        complete: it says which pixels to restore.
        said: what was found, in one line.
    """

    text: str
    complete: bool
    said: str


def config_template(names: str | Path | Sequence[str | Path], directory: str | Path = ".") -> Template:
    """Return a valid config for some files, with the other choices as comments.

    Args:
        names: the user's GeoTIFF or NIfTI; several of them; a folder or pattern; or a name of the catalog.
        directory: folder the config will stand in; paths in it are relative to that.

    Raises:
        SourceError: a file is missing, a named pipe or a device, cannot be opened, or there is none.
        ConfigError: a name of the catalog together with something else.
    """
    given = [str(name) for name in ([names] if isinstance(names, str | Path) else names)]
    if entry := named_entry(given):
        return _of_catalog(entry)
    files = named_inputs(given)
    source = open_any(files.images[0])
    try:
        volume = source.space.kind == "volume"
        lost: list[Lost] = []
        # a run says what is wrong with damaged voxels
        with suppress(SourceError):
            lost = looked_through(source) if len(files.images) == 1 else []
        text = (_VOLUME if volume else _RASTER).format(
            name=_title(files),
            facts=_facts(source),
            source=_source(files, directory),
            more=_other_sources(files, volume=volume),
            series=_SERIES if files.dates else _ONE_PLACE if len(files.images) > 1 else "",
            region=_region(source),
            cube=_CUBE if files.dates else "",
            directory=_as_written(f"out/{files.stem}"),
            mask="\n".join([_mask_lines(files, source, directory), *_lost_lines(lost, source)]),
            kind=" auto" if files.brought else "",
        )
        text = _each(text) if len(files.images) > 1 and not files.scenes else text
    finally:
        source.close()
    return Template(text=text, complete=_marks(files, source), said=_said(files, lost))


def _each(text: str) -> str:
    """Let the examples of masks follow the names of several images, which share no mask."""
    own = {"SCL.tif": "_SCL", "QA_PIXEL.TIF": "_QA_PIXEL", "my_mask.tif": "_mask", "lesions.nii.gz": "_lesions"}
    for example, tail in own.items():
        suffix = example[example.index(".") :]
        text = text.replace(f"path: {example}", f'path: "{{stem}}{tail}{suffix}"')
    return text


def write_template(template: Template, output: Path) -> str:
    """Write a start config and return what to do next.

    Raises:
        OutputConflict: the file exists or cannot be written.
    """
    if output.exists():
        raise OutputConflict(f"{output} exists; choose another name")
    try:
        output.write_text(template.text, encoding="utf-8")
    except OSError as error:
        raise OutputConflict(f"{output}: cannot write ({error.strerror}); choose another name") from error
    about = f" ({template.said})" if template.said else ""
    edit = "" if template.complete else f"say under `mask:` in {output} which pixels to restore, then "
    return f"wrote {output}{about}; next: {edit}inpaint-pipeline plan {shlex.quote(str(output))}"


def _of_catalog(entry: Entry) -> Template:
    facts = entry.config
    text = _CATALOG.format(name=entry.name, title=facts.title, directory=_as_written(f"out/{entry.name}"))
    if not facts.mask:
        text += "# mask: [...]                    # the catalog names no holes: say which pixels to restore\n"
    return Template(text=text, complete=bool(facts.mask), said="a name of the catalog")


def _title(files: Inputs) -> str:
    paths = files.scenes or files.images[0]
    name = (
        Path(paths[0]).name
        if len(files.images) == 1
        else f"{len(files.images)} images, the first {Path(paths[0]).name}"
    )
    return "".join(c if c.isprintable() else "?" for c in name)


def _lost_lines(lost: Sequence[Lost], source: Source) -> list[str]:
    """Return the entries that restore slices which look lost, as comments."""
    series = source.n_channels > 1
    return [f"  # - {entry}   # look lost" for one in lost for entry in one.texts(series=series)]


def _said(files: Inputs, lost: Sequence[Lost]) -> str:
    bands, images = len(files.images[0]), len(files.images)
    parts = [f"bands {', '.join(files.bands)} of a scene"] if files.scenes and images == 1 else []
    if images > 1:
        parts.append(f"{images} dates of one place" if files.dates else f"{images} images")
    elif bands > 1 and not files.scenes:
        parts.append(f"one image of {bands} files, a file a band")
    parts += [f"the mask {Path(path).name}" for path in (*(mask["path"] for mask in files.masks), *files.brought[:1])]
    if any(one.slices for one in lost):
        parts.append("some slices look lost, see its comments")
    if files.left_out:
        parts.append(f"left out {', '.join(Path(path).name for path in files.left_out)}")
    return ", ".join(parts)


def _facts(source: Source) -> str:
    values = {value for value in source.nodata if value is not None}
    # a NaN is like no other
    named = dict.fromkeys(f"{value:g}" for value in sorted(values))
    nodata = f"nodata {', '.join(named)}" if named else "no nodata value"
    what = "volume" if source.space.kind == "volume" else "band"
    count = f"{source.n_channels} {what}{'s' if source.n_channels > 1 else ''}"
    return f"{count}, {source.dtype}, {nodata}; {source.space.describe()}"


def _region(source: Source) -> str:
    """Return a line that restores the middle of an image only; nothing where that is no sooner done."""
    most, shape = _TRIED[source.space.ndim], source.space.shape
    if not any(n > 2 * size for n, size in zip(shape, most, strict=True)):
        return ""
    ranges = [(max(0, (n - size) // 2), min(n, (n + size) // 2)) for n, size in zip(shape, most, strict=True)]
    named = ", ".join(f"{axis}: [{a}, {b}]" for axis, (a, b) in zip("ijk", reversed(ranges), strict=False))
    what = "voxels" if source.space.kind == "volume" else "pixels, or bounds"
    return f"  # region: {{{named}}}   # try a part first: {what}\n"


def _source(files: Inputs, directory: str | Path) -> str:
    """Return the value of `input.source`: a file, the files of the bands, the images of a batch, or scenes."""
    if files.scenes:
        scenes = [_as_written(p) if is_address(p) else _path_as_written(Path(p), directory) for p in files.scenes]
        named = f" {scenes[0]}" if len(scenes) == 1 else "\n" + "\n".join(f"    - {path}" for path in scenes)
        return (
            f"{named}\n  bands: [{', '.join(files.bands)}]   # by name or range (red, nir), of one pixel size\n{_GRID}"
        )
    images = [[_path_as_written(Path(path), directory) for path in image] for image in files.images]
    if len(images) == 1 and len(images[0]) == 1:
        return f" {images[0][0]}"
    inner = "\n".join(f"    - {paths[0]}" if len(paths) == 1 else _inner(paths) for paths in images)
    return "\n" + inner


def _inner(paths: Sequence[str]) -> str:
    first, *rest = paths
    return "\n".join([f"    - - {first}", *(f"      - {path}" for path in rest)])


def _other_sources(files: Inputs, *, volume: bool) -> str:
    if files.scenes or len(files.images) > 1 or len(files.images[0]) > 1:
        return ""
    if volume:
        return "  # source: [a.nii.gz, b.nii.gz]   # or a glob: a batch\n"
    return "  # source: [B02.tif, B03.tif]     # one file a band; or a glob for a batch\n"


def _marks(files: Inputs, source: Source) -> bool:
    """Return True if the config says which pixels to restore: a mask was found, or nodata may be a gap."""
    return bool(files.masks or files.brought) or (
        source.space.kind == "raster" and any(v is not None for v in source.nodata)
    )


def _mask_lines(files: Inputs, source: Source, directory: str | Path) -> str:
    in_metres = source.space.units == "m"
    if files.brought:
        return f"  # auto: what the scene brings ({Path(files.brought[0]).name}), widened by 60 m; or entries such as"
    if files.masks:
        return "\n".join(f"  - {_entry(mask, directory, buffered=in_metres)}" for mask in files.masks)
    beside = []
    for path in files.masks_beside:
        mask = {"kind": _kind(path), "path": path}
        beside.append(f"  # - {_entry(mask, directory, buffered=in_metres)}   # lies beside it")
    if _marks(files, source):
        nothing = "  - {kind: nodata, max_gap: 20 px}                          # or another kind below"
    else:
        nothing = "  # say here which pixels to restore: take one of these lines without its `#`"
    return "\n".join([nothing, *beside])


def _kind(path: str) -> str:
    name = Path(path).name.lower()
    return "scl" if "scl" in name else "qa_pixel" if "qa" in name else "raster"


def _entry(mask: Mapping[str, Any], directory: str | Path, *, buffered: bool) -> str:
    facts = {**mask, "path": _path_as_written(Path(mask["path"]), directory)}
    if buffered and mask["kind"] in _CLASSES:
        facts["buffer"] = "60 m"
    return "{" + ", ".join(f"{key}: {value}" for key, value in facts.items()) + "}"


def _path_as_written(path: Path, directory: str | Path) -> str:
    """Return the path as it has to stand in a config in `directory`: relative to it, quoted where YAML needs it."""
    text = str(path) if "://" in str(path) else os.path.relpath(path, directory)
    # a file may be called as if it were in somebody's home folder
    return _as_written(f"./{text}" if text.startswith("~") else text)


def _as_written(text: str) -> str:
    plain = re.fullmatch(r"[\w./-]+", text) and parse_value(text, "") == text
    # YAML knows escapes for what does not print, and refuses some of it as it is
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
