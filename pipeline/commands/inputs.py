"""What a user means who names some files: one image with a file a band, several images, a folder, delivered scenes."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.catalog_file import Entry, list_entries
from pipeline.config.names import sibling_masks, stem_of
from pipeline.config.products import open_product
from pipeline.config.products.select import Selection, select
from pipeline.config.series import day_of_name
from pipeline.errors import ConfigError, PipelineError, SourceError
from pipeline.formats import is_image, open_any
from pipeline.formats.base import Source
from pipeline.system.paths import describe, kind_of

_BAND = re.compile(r"(?P<head>.+?_)(?P<band>(?:(?:SR|TOA)_)?B\d{1,2}A?)(?P<tail>(?:_\d+m)?)", re.IGNORECASE)
"""Name of a file that holds one band: `LC08_..._T1_SR_B4`, `le7_..._b4`, `T33UVP_..._B04_10m`."""

_QUALITY = (
    (r"QA_PIXEL", {"kind": "qa_pixel"}),
    (r"pixel_qa", {"kind": "qa_pixel", "layout": "pixel_qa"}),
    (r"BQA", {"kind": "qa_pixel", "layout": "bqa"}),
    (r"SCL(?:_\d+m)?", {"kind": "scl"}),
)
"""Names of the quality bands of a scene after what its files share, and the mask entries that read them."""

_LIKE_A_MASK = re.compile(
    r"(?:^|[_.-])(SCL|QA_PIXEL|BQA|pixel_qa|mask|lesions?|roi|clouds?|label)(?=$|[_.-])", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is to be restored, as it will stand in a config.

    Attributes:
        images: of each image its files; more than one file is a file a band.
        masks: entries that fit all images, their paths with `{stem}` if there are several images.
        masks_beside: files that look like masks, but are named after no image.
        stem: what the results may be called.
        left_out: files that were named, but are masks, or bands on another grid.
        scenes: delivered scenes (folders, archives, STAC Items) whose bands `images` are, as they were named.
        bands: what of a scene is taken.
        brought: the masks that the scenes bring, found without naming them.
        dates: they are rasters of one place, by their grids, and of one day each, by their names.
    """

    images: tuple[tuple[str, ...], ...]
    masks: tuple[dict[str, Any], ...] = ()
    masks_beside: tuple[str, ...] = ()
    stem: str = ""
    left_out: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    bands: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()
    dates: bool = False


def named_entry(names: Sequence[str]) -> Entry | None:
    """Return the entry of the catalog that is named; None where files are.

    Raises:
        ConfigError: it is named together with something else.
    """
    entries = list_entries()
    of_catalog = [name for name in names if name in entries and not kind_of(name)]
    if of_catalog and len(names) > 1:
        raise ConfigError(f"{', '.join(of_catalog)}: a name of the catalog is written into a config of its own")
    return entries[of_catalog[0]] if of_catalog else None


def named_inputs(names: Sequence[str]) -> Inputs:
    """Return what files, folders and patterns stand for.

    Raises:
        SourceError: a file is missing or no image, or there is no image.
        ConfigError: scenes are named together with something else, or their usual bands differ.
    """
    scenes = [select(product, None)[0] for name in names if (product := open_product(name)) is not None]
    if scenes:
        return _of_scenes(names, scenes)
    files = _files(names)
    asked_for = len(names) == 1 and kind_of(names[0]) == "file"
    masks = () if asked_for else tuple(_masks_among(files, names))
    files = [file for file in files if file not in masks]
    if not files:
        raise SourceError(f"{', '.join(names)}: no image here; name a GeoTIFF, a NIfTI or a folder with some")
    images = _images(files, alone=asked_for)
    others: tuple[str, ...] = ()
    if not asked_for:
        images, others = _without_other_bands(images)
    entries_found = _masks_of_all(images)
    first = images[0][0]
    if len({_is_volume(image[0]) for image in images}) > 1:
        raise SourceError(
            f"{', '.join(names)}: rasters and volumes; name those of one kind, and write a config for each"
        )
    return Inputs(
        images=images,
        masks=entries_found,
        masks_beside=_like_masks(Path(first), {file for image in images for file in image}),
        stem=stem_of(images[0]) if len(images) == 1 else Path(first).resolve().parent.name or "batch",
        left_out=(() if entries_found else masks) + others,
        dates=len(images) > 1 and _are_dates([image[0] for image in images]),
    )


def _of_scenes(names: Sequence[str], scenes: Sequence[Selection]) -> Inputs:
    """Return what to write for delivered scenes, which bring their masks.

    Raises:
        ConfigError: something else is named with them, or their usual bands differ.
    """
    if len(scenes) < len(names):
        raise ConfigError(f"{', '.join(names)}: scenes and other files; write a config for each")
    first = scenes[0]
    bands = tuple(band.name for band in first.bands)
    differs = next((one for one in scenes if tuple(band.name for band in one.bands) != bands), None)
    if differs is not None:
        raise ConfigError(
            f"{first.product.name} has the bands {', '.join(bands)}, {differs.product.name} "
            f"{', '.join(band.name for band in differs.bands)}; write a config for each"
        )
    masks = [str(entry.model_dump()["path"]) for one in scenes for entry in one.product.mask]
    return Inputs(
        images=tuple(one.paths for one in scenes),
        brought=tuple(masks) if len(masks) == len(scenes) else (),
        stem=first.product.name if len(scenes) == 1 else "scenes",
        scenes=tuple(names),
        bands=bands,
    )


def bands_beside(path: str) -> tuple[str, ...]:
    """Return the files of the bands of a scene that has a file a band, in their order; just `path` if it is none.

    They are named alike but for the band, and lie on one grid in one type: a sharper or coarser band is no part of it.
    """
    own = _BAND.fullmatch(_stem(path))
    if not own or "://" in path:
        return (path,)
    alike = re.compile(
        rf"{re.escape(own['head'])}(?P<series>SR_|TOA_)?B(?P<number>\d{{1,2}})(?P<more>A?){re.escape(own['tail'])}",
        re.IGNORECASE,
    )
    bands: list[tuple[int, str, str]] = []
    series = alike.fullmatch(_stem(path))
    for other in sorted(Path(path).parent.iterdir()):
        match = alike.fullmatch(_stem(str(other))) if other.suffix.lower() == Path(path).suffix.lower() else None
        if match and series and (match["series"] or "").lower() == (series["series"] or "").lower():
            bands.append((int(match["number"]), match["more"], str(Path(path).parent / other.name)))
    with suppress(PipelineError):
        first = _facts(path)
        return tuple(file for _, _, file in sorted(bands) if file == path or _matches(file, first)) or (path,)
    return (path,)


def _facts(path: str) -> Source:
    source = open_any(path)
    source.close()
    return source


def _matches(path: str, first: Source) -> bool:
    try:
        other = _facts(path)
    except PipelineError:
        return False
    return other.n_channels == 1 and other.dtype == first.dtype and not first.space.mismatch(other.space)


def _stem(path: str) -> str:
    return stem_of((path,))


def _files(names: Sequence[str]) -> list[str]:
    """Return the images that files, folders and patterns stand for, each once."""
    files: list[str] = []
    for name in names:
        what = kind_of(name)
        if what == "special":
            raise SourceError(f"{name}: is {describe(name)}; give an image file")
        if what == "folder" and not is_image(name):
            inside = sorted(str(Path(name) / one.name) for one in Path(name).iterdir())
            files += [one for one in inside if not Path(one).name.startswith(".") and is_image(one)]
        elif not what and set(name) & set("*?["):
            files += sorted(one for one in glob.glob(name) if is_image(one))  # noqa: PTH207 - keeps names as given
        else:
            files.append(name)
    return list(dict.fromkeys(files))


def _masks_among(files: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the files that are masks of others, or quality bands of a scene.

    Those that nobody has named, as they lie in a folder, are masks if they are called like some, too; but not all of
    them (`roi_1.tif`, `roi_2.tif`).
    """
    named = {str(getattr(mask, "path", "")) for file in files for mask in sibling_masks(file)}
    quality = re.compile("|".join(rf".*_{pattern}" for pattern, _ in _QUALITY), re.IGNORECASE)
    masks = [file for file in files if file in named or quality.fullmatch(_stem(file))]
    like = [file for file in files if file not in masks and file not in names and _LIKE_A_MASK.search(_stem(file))]
    return masks + like if len(masks) + len(like) < len(files) else masks


def _images(files: Sequence[str], *, alone: bool) -> tuple[tuple[str, ...], ...]:
    if alone:
        return (bands_beside(files[0]),)
    images: list[tuple[str, ...]] = []
    for file in files:
        if any(file in image for image in images):
            continue
        bands = tuple(band for band in bands_beside(file) if band in files)
        images.append(bands or (file,))
    flat = [image[0] for image in images]
    # files of one band each on one grid are one image wherever a config lists them
    if len(images) == len(files) > 1 and _one_image(flat):
        return (tuple(flat),)
    return tuple(images)


def _without_other_bands(images: Sequence[tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Leave out bands that belong to the scene of an image, but lie on another grid: a sharper or a thermal one."""
    scenes = [match["head"] for image in images if len(image) > 1 if (match := _BAND.fullmatch(_stem(image[0])))]
    others = tuple(
        image[0]
        for image in images
        if len(image) == 1 and _BAND.fullmatch(_stem(image[0])) and _stem(image[0]).startswith(tuple(scenes))
    )
    return tuple(image for image in images if image[0] not in others), others


def _are_dates(files: Sequence[str]) -> bool:
    days = {day_of_name(Path(file).name) for file in files}
    if None in days or len(days) < len(files):
        return False
    first, *others = (_facts(file) for file in files)
    alike = (not first.space.mismatch(other.space) and first.n_channels == other.n_channels for other in others)
    return first.space.kind == "raster" and bool(first.space.crs) and all(alike)


def _is_volume(path: str) -> bool:
    return _facts(path).space.kind == "volume"


def _one_image(files: Sequence[str]) -> bool:
    first = _facts(files[0])
    single = first.space.kind == "raster" and first.n_channels == 1
    return single and all(_matches(file, first) for file in files[1:])


def _masks_of_all(images: Sequence[tuple[str, ...]]) -> tuple[dict[str, Any], ...]:
    """Return the mask entries that were found for the first image; of several images each must have one like it."""
    every = [_masks_of(image[0]) for image in images]
    if len(images) == 1:
        return every[0]
    entries = [masks[0] if len(masks) == 1 else None for masks in every]
    first = entries[0]
    patterns = {
        str(Path(entry["path"]).parent / Path(entry["path"]).name.replace(stem_of(image), "{stem}"))
        for entry, image in zip(entries, images, strict=True)
        if entry is not None
    }
    same = None not in entries and len(patterns) == 1
    return ({**first, "path": patterns.pop()},) if same and first is not None else ()


def _masks_of(path: str) -> tuple[dict[str, Any], ...]:
    beside = [mask.model_dump() for mask in sibling_masks(path)]
    if beside:
        return tuple({key: facts[key] for key in ("kind", "path")} for facts in beside)
    own = _BAND.fullmatch(_stem(path))
    if not own or "://" in path:
        return ()
    there = sorted(Path(path).parent.iterdir())
    for pattern, entry in _QUALITY:
        wanted = re.compile(re.escape(own["head"]) + pattern, re.IGNORECASE)
        for file in there:
            if wanted.fullmatch(_stem(file.name)) and is_image(str(file)):
                return ({**entry, "path": str(Path(path).parent / file.name)},)
    return ()


def _like_masks(path: Path, images: set[str]) -> tuple[str, ...]:
    if "://" in str(path) or kind_of(path.parent) != "folder":
        return ()
    beside = sorted(str(path.parent / one.name) for one in path.parent.iterdir())
    stems = {_stem(one) for one in beside}
    like = [
        one
        for one in beside
        # that of another image is not meant
        if one not in images and _LIKE_A_MASK.search(_stem(one)) and _stem(one).rpartition("_")[0] not in stems
        if is_image(one)
    ]
    volume = _is_volume(str(path)) if like else False
    with suppress(PipelineError):
        return tuple(one for one in like if _is_volume(one) == volume)
    return ()
