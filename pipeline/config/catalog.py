"""From names, paths and globs to the images of a run.

A catalog (`data_catalog.yaml`) gives names to data: where they are, under which licence, what is hidden in
them. Names are looked up in the catalog beside the config or in its parents, then in the one that is shipped.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from pipeline.config.batch import SourceSpec, require_no_masks
from pipeline.config.catalog_file import Entry, generated, list_entries
from pipeline.config.fetched import matching
from pipeline.config.fields import SourceText
from pipeline.config.names import INDEX, RECORD, SUMMARY, is_result
from pipeline.config.placeholders import PathResolver, resolver_of
from pipeline.config.products import may_be_product, open_product
from pipeline.config.products.base import InputError
from pipeline.config.schema import InputConfig, ReferenceConfig, RunConfig
from pipeline.config.series import as_series
from pipeline.config.source import Asked, NamedImage, on_levels_of
from pipeline.errors import ConfigError, PipelineError, SourceError
from pipeline.system import yaml_files
from pipeline.system.facts import sha256_of_input
from pipeline.system.objects import is_object
from pipeline.system.paths import barred, dangling, describe, is_address, kind_of, looks_alike, same_name, shortened

_GLOB_SIGNS = set("*?[")
_TAKEN = {SUMMARY, INDEX, RECORD, "cube.zarr"}
"""Names beside the folders of the images, and the one by which a folder is known as that of an image."""


def resolve_sources(config: RunConfig) -> list[SourceSpec]:
    """Return the images of a run, in order, with masks, references and licences.

    What the config says wins over the catalog. A flat list whose files are all single-band rasters on one
    grid is one image with a file a band; any other list is a batch; an inner list always is one image (see
    `docs/decisions/list-of-files.md`).

    Raises:
        ConfigError: unknown catalog name (with the nearest), unset environment variable, a glob that takes masks, too.
        SourceError: no such file, nothing matches the glob.
    """
    base = config.path.parent if config.path else Path.cwd()
    finder = _Finder(base=base, catalogs=base, results=config.folder)
    given = config.input
    specs = []
    asked = Asked(bands=given.bands, nodata=given.nodata, mask=config.mask, mask_base=base, grid=given.grid)
    for found in _without(_once(finder.images(given.source, dates=given.series)), given.exclude):
        specs += [_with_guides(_placed(spec, config), found, given, finder) for spec in found.specs(asked)]
    if all(spec.problem for spec in specs):
        raise next(spec.problem for spec in specs if spec.problem)
    require_no_masks(given.source, specs)
    if given.series:
        specs = as_series(specs, given.series_references)
    return _with_unique_stems(specs)


def _placed(spec: SourceSpec, config: RunConfig) -> SourceSpec:
    """Return a spec whose problem, if a key of `input` is the cause, says in which line that is."""
    if not isinstance(spec.problem, InputError):
        return spec
    key, text = spec.problem.key, spec.problem.text
    return dataclasses.replace(spec, problem=ConfigError(f"{config.where(f'input.{key}')}: {text}"))


def _with_guides(spec: SourceSpec, found: NamedImage, given: InputConfig, finder: _Finder) -> SourceSpec:
    """Return the spec of an image with its references and auxiliaries, or with what is wrong with them."""
    if spec.problem:
        return spec
    entry = found.entry.config if found.entry else None
    ours = dataclasses.replace(finder, image=found.paths)
    home = dataclasses.replace(finder, base=Path(found.base), image=found.paths)
    try:
        references = ours.guides(given.references, spec) or home.guides(entry.references if entry else (), spec)
        auxiliary = ours.guides(given.auxiliary, spec) or home.guides(entry.auxiliary if entry else (), spec)
    except PipelineError as error:
        return dataclasses.replace(spec, problem=error)
    return dataclasses.replace(
        spec,
        references=tuple(on_levels_of(one, spec, "reference") for one in references),
        auxiliary=tuple(on_levels_of(one, spec, "auxiliary") for one in auxiliary),
    )


def _once(images: Sequence[NamedImage]) -> list[NamedImage]:
    """Return each image once, also if two globs take it.

    Raises:
        ConfigError: an image is to have the same file as two of its bands.
    """
    for image in images:
        if twice := [path for path in image.paths if image.paths.count(path) > 1]:
            raise ConfigError(f"input.source: {twice[0]} is named twice as a band of one image; name each file once")
    return list({(image.paths, image.entry and image.entry.name): image for image in images}.values())


def _without(images: Sequence[NamedImage], patterns: tuple[str, ...]) -> list[NamedImage]:
    """Leave out the images of which a file is called like one of the patterns.

    Raises:
        SourceError: none is left.
    """
    left = [i for i in images if not any(fnmatch(Path(path).name, p) for path in i.paths for p in patterns)]
    if not left:
        raise SourceError(f"input.exclude: {', '.join(patterns)} leaves none of {len(images)} image(s); narrow it")
    return left


def verify_sha256(path: str | Path, expected: str) -> None:
    """Compare a file with its hash, reading it in pieces.

    Raises:
        SourceError: missing, no file, or another hash; names both.
    """
    if other := other_content(path, expected):
        raise SourceError(other)


def other_content(path: str | Path, expected: str) -> str:
    """Return what to say of a file whose content has another hash, empty if it is the right one.

    Raises:
        SourceError: it cannot be read.
    """
    if kind_of(path) == "special":
        raise SourceError(f"{path}: is {describe(path)}; give a file")
    try:
        digest = sha256_of_input(Path(path))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    if digest == expected.lower():
        return ""
    return (
        f"{path}: sha256 is {digest}, the catalog expects {expected.lower()}; "
        "fetch the file again, or correct the catalog if the change is wanted"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finder:
    """Finds images seen from one folder."""

    base: Path
    catalogs: Path | None = None
    """Folder from which catalogs are looked for; None = no names count."""
    image: tuple[str, ...] = ()
    """Files of the image that placeholders mean, if there is one."""
    results: Path | None = None
    """Where the run writes: what it has written is no image to restore when it is run again."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Return what the catalogs name; these are read when it is asked for, which takes half a second."""
        return list_entries(self.catalogs) if self.catalogs else {}

    def images(self, source: SourceText, *, names: bool = True, dates: bool = False) -> list[NamedImage]:
        """Return the images that a source stands for; with `dates` a flat list is no image with a file a band."""
        if isinstance(source, str):
            return self._one(source, names=names)
        if not dates and len(set(source)) > 1 and self._is_file_a_band(source):
            paths = tuple(p for item in source for p in self._files(str(item)))
            return [NamedImage(paths=paths, base=str(self.base))]
        found: list[NamedImage] = []
        for item in source:
            if isinstance(item, str):
                found += self._one(item, names=names)
            else:
                paths = tuple(p for part in item for p in self._files(part))
                alone = len(paths) == 1
                found.append(self._named(paths[0]) if alone else NamedImage(paths=paths, base=str(self.base)))
        return found

    def guides(self, references: Iterable[ReferenceConfig], image: SourceSpec) -> tuple[SourceSpec, ...]:
        specs = []
        for given in references:
            asked = Asked(bands=given.bands, nodata=given.nodata, mask=given.mask, mask_base=self.base, like=image)
            for spec in (spec for found in self._others(given.source, image) for spec in found.specs(asked)):
                if isinstance(spec.problem, ConfigError):
                    raise ConfigError(f"{given.source} among the references or auxiliaries: {spec.problem}")
                if spec.problem:
                    raise spec.problem
                if given.shift is not None:
                    # what the user says goes before what the metadata say
                    spec = dataclasses.replace(spec, shift=(given.shift,), levels=None)  # noqa: PLW2901
                specs.append(dataclasses.replace(spec, date=given.date or spec.date, resample=given.resample))
        return tuple(specs)

    def _others(self, source: SourceText, image: SourceSpec) -> list[NamedImage]:
        """Return the images that a guide's source stands for; a glob of dates leaves out the image that it is to help.

        Raises:
            SourceError: it matches nothing else.
        """
        found = self.images(source)
        if not isinstance(source, str) or not _GLOB_SIGNS & set(source):
            return found
        if others := [one for one in found if one.paths != image.paths]:
            return others
        raise SourceError(f"{source}: no file matches but the image itself")

    def _one(self, text: str, *, names: bool) -> list[NamedImage]:
        if names and self._is_name(text):
            return entry_images(self.entries[text])
        return [self._named(path) for path in self._files(text)]

    def _is_name(self, text: str) -> bool:
        """Say whether a catalog names it; a path with a folder in it, to a file that is there, is no name."""
        if "/" in text and "://" not in text and kind_of(self._path(text)) == "file":
            return False
        return text in self.entries

    def _named(self, path: str) -> NamedImage:
        named = NamedImage(paths=(path,), base=str(self.base))
        try:
            return dataclasses.replace(named, product=open_product(path))
        except SourceError as error:
            return dataclasses.replace(named, problem=error)

    def _files(self, text: str) -> list[str]:
        path = self._path(text)
        if is_object(path) and _GLOB_SIGNS & set(path):
            if matches := matching(path):
                return matches
            raise SourceError(f"{path}: no object matches")
        what = "file" if is_address(path) else kind_of(path)
        if what == "special":
            raise SourceError(f"{path}: is {describe(path)}; give a file")
        if what:
            return [path]
        if folder := barred(path):
            raise SourceError(f"{path}: no permission to look into {folder}; change its mode or owner")
        if _GLOB_SIGNS & set(path):
            matches = _glob(Path(path))
            if left := [match for match in matches if not is_result(match, self.results)]:
                return left
            only = f" but results of this config in {self.results}" if matches else ""
            raise SourceError(f"{path}: no file matches{only}")
        raise self._missing(text, path)

    def _missing(self, text: str, path: str) -> PipelineError:
        """Return the error of a text that names nothing: a file that is not there, or a word that no catalog has."""
        if "/" in text or Path(text).suffix:
            if leads := dangling(path):
                return SourceError(f"{path}: no such file; it is a link to {leads}, which is not there")
            missed = self._resolver().missed(text)
            near = f"; {missed}" if missed else _in_gdals_words(text) or _near_files(Path(path))
            return SourceError(f"{path}: no such file{near}")
        hint = yaml_files.nearest(text, self.entries)
        return ConfigError(
            f"'{shortened(text)}' is no file in {self.base} and no name in a catalog{hint} "
            f"(names: {', '.join(sorted(self.entries)) or 'none'})"
        )

    def _path(self, text: str) -> str:
        return self._resolver()(text)

    def _resolver(self) -> PathResolver:
        base = str(self.base)
        return resolver_of(self.image, base) if self.image else PathResolver(base=base)

    def _is_file_a_band(self, items: tuple[str | tuple[str, ...], ...]) -> bool:
        """True for two or more files that are single-band rasters of one grid."""
        if len(items) < 2 or not all(isinstance(item, str) for item in items):
            return False
        if any(self._is_name(str(item)) or _GLOB_SIGNS & set(item) for item in items):
            return False
        if any(is_object(self._path(str(item))) for item in items):
            # whether they are bands of one image stands in files that are not here
            raise ConfigError(
                "input.source: a list with addresses of object storage says by lists in it what is one image: "
                "[[red, nir]] is one image of two files, [[a], [b]] are two images"
            )
        from pipeline.formats import open_any

        if any(may_be_product(path) for item in items for path in self._files(str(item))):
            return False
        first = failure = None
        for item in items:
            try:
                source = open_any(self._files(str(item))[0])
            except SourceError as error:
                # what the others are decides whether it is a band of theirs or an image that fails alone
                failure = failure or error
                continue
            single = source.space.kind == "raster" and source.n_channels == 1
            first = first or source.space
            mismatch = first.mismatch(source.space)
            source.close()
            if not single or mismatch:
                return False
        if failure is not None:
            raise failure
        return True


def entry_images(entry: Entry) -> list[NamedImage]:
    """Return the images of an entry of the catalog; what is made on use is made now.

    Raises:
        ConfigError, SourceError: a file is missing or cannot be used; names the entry.
    """
    base = generated(entry) if entry.config.generator else entry.catalog.parent
    try:
        found = _Finder(base=base).images(entry.config.path, names=False)
        for image in found:
            if image.problem:
                raise image.problem
    except (ConfigError, SourceError) as error:
        raise type(error)(f"catalog entry '{entry.name}': {error}") from None
    return [dataclasses.replace(one, entry=entry) for one in found]


def _with_unique_stems(specs: list[SourceSpec]) -> list[SourceSpec]:
    """Return the images with names that no other has, nor one that file systems may take for the same."""
    own = {same_name(spec.stem) for spec in specs}
    taken = set(_TAKEN)
    unique = []
    for spec in specs:
        stem, count = spec.stem, 1
        while same_name(stem) in taken or (count > 1 and same_name(stem) in own):
            count += 1
            stem = f"{spec.stem}-{count}"
        taken.add(same_name(stem))
        unique.append(spec if count == 1 else dataclasses.replace(spec, stem=stem))
    return unique


def _glob(pattern: Path) -> list[str]:
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if _GLOB_SIGNS & set(part))
    try:
        return sorted(str(p) for p in Path(*parts[:first]).glob(str(Path(*parts[first:]))))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{pattern}: is no glob ({error}); write it like 'folder/*.tif'") from None


def _in_gdals_words(text: str) -> str:
    """Say what to do with GDAL's name of a part of a file, such as `NETCDF:"sst.nc":sst`; empty for other texts.

    >>> _in_gdals_words("NETCDF:sst.nc:sst")
    "; this is GDAL's name of a part of a file: write it to one, `gdal_translate 'NETCDF:sst.nc:sst' part.tif`"
    """
    if not re.match(r"[A-Z][A-Z0-9_]+:.", text):
        return ""
    return f"; this is GDAL's name of a part of a file: write it to one, `gdal_translate '{text}' part.tif`"


def _near_files(path: Path) -> str:
    if kind_of(path.parent) != "folder":
        return f" (folder {path.parent} does not exist)"
    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return ""
    return f"; {said}" if (said := looks_alike(path.name, names)) else yaml_files.nearest(path.name, names)
