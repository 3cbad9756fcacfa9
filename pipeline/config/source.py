"""One image that a config or a catalog names: its files, or the bands of a delivered scene, and what is said of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.config.batch import SourceSpec
from pipeline.config.catalog_file import Entry
from pipeline.config.fields import Bands
from pipeline.config.names import plain_name, sibling_masks, stem_of
from pipeline.config.placeholders import resolver_of
from pipeline.config.products import Product
from pipeline.config.products.base import InputError
from pipeline.config.products.levels import levels_of, levels_of_files, shift_to
from pipeline.config.products.select import Selection, select, select_like
from pipeline.errors import ConfigError, PipelineError, SourceError
from pipeline.masks.base import MaskOptions
from pipeline.system.objects import is_object
from pipeline.system.redact import redacted

MasksAsked = tuple[MaskOptions, ...] | Literal["auto"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a config says of an image beside where it is."""

    bands: Bands | None
    nodata: float | str | None
    mask: MasksAsked
    mask_base: Path
    """Folder that the paths of `mask` are relative to."""
    grid: str = "auto"
    like: SourceSpec | None = None
    """The image that a reference or auxiliary is to help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedImage:
    """One image: its files, the folder its paths are relative to, and its catalog entry if it has one."""

    paths: tuple[str, ...]
    base: str
    entry: Entry | None = None
    product: Product | None = None
    """The scene that its one path stands for."""
    problem: PipelineError | None = None
    """Why that scene cannot be used."""

    def specs(self, asked: Asked) -> list[SourceSpec]:
        """Return the image; several if the bands of a scene are asked for in every size.

        What is wrong with a scene of a batch stands in its spec: the others go on.
        """
        spec = self._spec(asked)
        if self.problem is not None:
            return [spec]
        try:
            if self.product is None:
                return [_of_files(spec, asked)]
            return [_of_selection(spec, one, asked) for one in _chosen(self.product, spec.bands, asked)]
        except (ConfigError, SourceError) as error:
            return [dataclasses.replace(spec, problem=error)]

    def _spec(self, asked: Asked) -> SourceSpec:
        """Return what config and catalog say."""
        entry = self.entry.config if self.entry else None
        stem = stem_of(self.paths)
        found = asked.mask is None or asked.mask == "auto"
        own = found and entry is not None
        nodata = entry.nodata if asked.nodata == "auto" and entry is not None else asked.nodata
        hashes = {Path(p).name: p for p in self.paths}
        return SourceSpec(
            name=self.entry.name if self.entry else stem,
            stem=plain_name(stem),
            paths=self.paths,
            resolve=resolver_of(self.paths, self.base if own else str(asked.mask_base), files_only=True),
            kind=entry.kind if entry else None,
            bands=asked.bands or (entry.bands if entry else None),
            nodata={"auto": None, None: float("nan")}.get(nodata, nodata),  # type: ignore[arg-type]
            mask=(entry.mask if entry else ()) if found else asked.mask,  # type: ignore[arg-type]
            clear=asked.mask == (),
            date=entry.date if entry else None,
            license=entry.license if entry else "",
            sha256={hashes[n]: h for n, h in entry.sha256.items() if n in hashes} if entry else {},
            problem=self.problem,
        )


def _of_files(spec: SourceSpec, asked: Asked) -> SourceSpec:
    if asked.grid != "auto":
        _require_readable(spec)
        raise InputError(f"{redacted(spec.paths[0])} is no scene with bands of several sizes; leave it out", "grid")
    spec = dataclasses.replace(spec, levels=levels_of_files(spec.paths))
    return _with_sibling_masks(spec, asked)


def _chosen(product: Product, bands: Bands | None, asked: Asked) -> list[Selection]:
    image = asked.like.selection if asked.like else None
    return [select_like(product, image, bands)] if image is not None else select(product, bands, asked.grid)


def _of_selection(spec: SourceSpec, selection: Selection, asked: Asked) -> SourceSpec:
    """Return a spec with the files of the bands that were chosen, and what the product says of them."""
    product, said = selection.product, selection.describe()
    mask = spec.mask
    if not mask and (asked.mask is None or asked.mask == "auto") and product.mask:
        (entry,) = mask = product.mask
        file = redacted(str(getattr(entry, "path", ""))).rpartition("/")[2]
        said += f"; mask found in it: {file} (kind {entry.kind}, widened by {entry.buffer})"
    spec = dataclasses.replace(
        spec,
        stem=plain_name(selection.stem),
        paths=selection.paths,
        kind="geotiff",
        bands=None,
        nodata=product.nodata if spec.nodata is None else spec.nodata,
        mask=mask,
        date=spec.date or product.date,
        selection=selection,
        levels=levels_of(selection.bands, product.what),
        notices=(said,),
    )
    return _with_sibling_masks(spec, asked)


def _with_sibling_masks(spec: SourceSpec, asked: Asked) -> SourceSpec:
    """Look for a mask beside the image where one is asked for without saying which; of references, always.

    Raises:
        ConfigError: none is there, and the image is to be restored.
        SourceError: the image cannot be read at all.
    """
    wanted = asked.mask == "auto" or (asked.like is not None and asked.mask is None)
    if spec.mask or not wanted:
        return spec
    found = sibling_masks(spec.paths[0])
    if not found and asked.like is None:
        _require_readable(spec)
        raise ConfigError(
            f"mask: auto: {redacted(spec.paths[0])} brings no mask (a scene's SCL, QA_PIXEL or cloud mask, a file "
            "beside it that is named after it, a catalog's); name one"
        )
    return dataclasses.replace(spec, mask=found)


def _require_readable(spec: SourceSpec) -> None:
    """Check that an image can be opened before a config is blamed: what is damaged looks like what it is not.

    Raises:
        SourceError: it cannot be read.
    """
    from pipeline.formats import open_any

    if not any(is_object(path) for path in spec.paths):
        open_any(spec.paths[0], kind=spec.kind).close()


def on_levels_of(guide: SourceSpec, image: SourceSpec, role: str) -> SourceSpec:
    """Return a reference or auxiliary whose numbers are read in the convention of the image, if both are known."""
    theirs, ours = guide.levels, image.levels
    if theirs is None or ours is None:
        return guide
    name = guide.selection.product.name if guide.selection else redacted(guide.paths[0])
    shift = shift_to(ours, theirs)
    if shift is None:
        said = (
            f"{role} {name}: its numbers have another scale than the image's; the relation to it is learned as they are"
        )
        return dataclasses.replace(guide, notices=(*guide.notices, said))
    if not any(shift):
        return guide
    added = ", ".join(f"{v:+g}" for v in sorted(set(shift)))
    said = (
        f"{role} {name} is read in the convention of the image: {added} is added to its numbers ({role}: "
        f"{theirs.describe()}; image: {ours.describe()})"
    )
    return dataclasses.replace(guide, shift=shift, notices=(*guide.notices, said))
