"""One image of a run with everything that is said about it, and what must not be among several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config.fields import Bands, SourceText
from pipeline.config.lesions import lesions
from pipeline.config.names import mask_names
from pipeline.config.placeholders import PathResolver
from pipeline.config.products.levels import Levels
from pipeline.config.products.select import Selection
from pipeline.errors import ConfigError, PipelineError
from pipeline.masks.base import MaskOptions
from pipeline.system.paths import shortened
from pipeline.system.words import listed


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """One image of a run, with everything that is said about it.

    Attributes:
        name: catalog name, else the stem.
        stem: file name without suffixes, as a plain name; unique within a run; names the output folder.
        kind: format module, None = find out.
        paths: absolute paths or URLs; several are one image with a file a band.
        bands: bands to use, None = all.
        nodata: overrides the file's own; None = the file's; NaN = none at all (no stored integer equals it,
            and NaN in float data never was an observation).
        mask: entries to open with `open_masks(spec.mask, source, spec.resolve)`; empty if nothing is known.
        clear: guides only: the config says that nothing is hidden in it (`mask: []`).
        resolve: turns the paths of `mask` into absolute ones.
        references: other dates of the same place.
        auxiliary: co-registered images of another kind.
        date: acquisition date as given.
        license: licence as given.
        sha256: expected hash of each path that has one.
        resample: guides only: read on the grid of the image to restore.
        selection: bands of a delivered scene; None for files that were named.
        levels: what the numbers mean, None if nothing says it.
        shift: guides only: what is added to each channel so that its numbers mean what those of the image mean.
        notices: what was found on the way here, for the user and the record.
        problem: why this image of a batch cannot be restored, e.g. a reference of its own that is missing.
    """

    name: str
    stem: str
    paths: tuple[str, ...]
    resolve: PathResolver
    kind: str | None = None
    bands: Bands | None = None
    nodata: float | None = None
    mask: tuple[MaskOptions, ...] = ()
    clear: bool = False
    references: tuple[SourceSpec, ...] = ()
    auxiliary: tuple[SourceSpec, ...] = ()
    date: str | None = None
    license: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)
    resample: bool = False
    selection: Selection | None = None
    levels: Levels | None = None
    shift: tuple[float, ...] = ()
    notices: tuple[str, ...] = ()
    problem: PipelineError | None = None

    @property
    def repeats(self) -> bool:
        """Return True if the bands of a scene have several pixel sizes."""
        return self.selection is not None and bool(self.selection.repeated)


def require_no_masks(source: SourceText, specs: Sequence[SourceSpec]) -> None:
    """Check that no image of a batch is the mask of another.

    Raises:
        ConfigError: one is; names the masks, and what leaves them out.
    """
    images = {path: spec for spec in specs for path in spec.paths}
    masks: dict[str, str] = {}
    for spec in specs if len(specs) > 1 else ():
        for path in _mask_paths(spec):
            if path in images and images[path] is not spec:
                masks[path] = Path(path).name.replace(spec.stem, "*", 1)
    if not masks:
        return
    names = sorted(Path(path).name for path in masks)
    patterns = ", ".join(f'"{pattern}"' for pattern in sorted(set(masks.values())))
    raise ConfigError(
        f"input.source: {shortened(str(source))} also takes masks of its images: {listed(names)}. Leave "
        f"them out with `exclude: [{patterns}]` under input, or give them a folder of their own"
    )


def _mask_paths(spec: SourceSpec) -> Iterator[str]:
    yield from (name for name, _ in mask_names(spec.paths[0]))
    yield from map(str, lesions(spec.paths[0]))
    for entry in spec.mask:
        # what is wrong with a path is said when it is opened
        with suppress(ConfigError):
            yield from entry.resolved(spec.resolve.absolute).reads()
