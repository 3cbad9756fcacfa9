"""What can be called: the commands of the command line, with their config as values."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.api.base import Keep, Kind
from pipeline.api.given import mask_entries, path_of, sections_of, several
from pipeline.api.images import File, kind_of
from pipeline.api.messages import Logged, in_words_of_calls, require_own_process
from pipeline.commands.evaluate import evaluate_table
from pipeline.commands.plan import plan_table
from pipeline.config.catalog import resolve_sources
from pipeline.config.names import RECORD
from pipeline.config.schema import load_config
from pipeline.errors import ConfigError, OutputConflict, PipelineError
from pipeline.formats import open_any
from pipeline.formats.base import Source
from pipeline.report.judgement import Judgement, judged
from pipeline.report.methods import Methods, methods
from pipeline.report.words import verdict
from pipeline.run import run
from pipeline.system.room import what_to_do
from pipeline.system.words import listed

Image = Any
"""An array, a `xarray.DataArray`, a nibabel image, or the path of a file; see `restore`."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Restored:
    """What `restore` gives back; each layer is of the kind that the image was given in.

    Attributes:
        values: the image with its holes restored; observed pixels are the same bytes.
        uncertainty: float32, one standard error in the units of the data: 0 where observed, NaN where never touched.
        source: uint8 codes of where each value came from: 0 observed, 1 classical, 2 network, 10+k reference k, 253
            several references together, 254 refused, 255 never touched; one plane if all bands share their holes.
        display: with `output={"display": True}` an image for looking at, not for measuring, else None.
        record: the content of `record.json`.
        folder: where the files are, None if they were temporary.
    """

    values: Image
    uncertainty: Image
    source: Image
    record: dict[str, Any]
    folder: Path | None
    display: Image = None

    @property
    def judgement(self) -> Judgement:
        """How far to trust it by its self-test: `level` (sound, look, poor), and `reasons` why it is not sound."""
        return judged(self.record)

    @property
    def methods(self) -> Methods:
        """What was done, for a paper: `text`, the `works` that it cites, and the same as `bibtex`."""
        return methods(self.record)

    def __repr__(self) -> str:
        """Say how far to trust it and what was restored, not all the numbers."""
        return f"<Restored, {self.judgement.words}: {verdict(self.record)}>"


def restore(
    image: Image,
    holes: Image | Sequence[Mapping[str, Any]] | None = None,
    *,
    references: Sequence[Any] = (),
    auxiliary: Sequence[Any] = (),
    folder: str | Path | None = None,
    overwrite: bool = False,
    **sections: Any,
) -> Restored:
    """Restore what is hidden in one image, as `inpaint-pipeline run` does, to the same bytes.

    Args:
        image: `(y, x)` or `(band, y, x)` array of a raster; a `xarray.DataArray` of the same, whose last two dimensions
            are space, with grid and CRS as CF conventions and rioxarray write them; a nibabel NIfTI image, 3-D or 4-D;
            or the path of a file, whose layers come back as arrays `(c, *spatial)`. NaN is not observed.
        holes: what is to be restored: True or non-zero in an array, DataArray or nibabel image on the grid of the
            image, a path, or entries as in the `mask` section of a config. None: sections or the image say it.
        references: other dates of the same place: images as above, or pairs `(image, its holes)`.
        auxiliary: co-registered images of another kind, likewise.
        folder: where results are kept, with report and record, and images that were given in memory; None: nowhere.
            Calling again with the same arguments gives the results that are there.
        overwrite: results of another call in that folder may be replaced.
        sections: sections of a config as values, e.g. `model={"kind": "tension"}`, `compute={"device": "cuda"}`.

    Raises:
        PipelineError: as the command line; its `exit_code` says of which kind.
        TypeError: the image is of no kind that is known.
    """
    kind = kind_of(image)
    call = _Call(holes=holes, references=references, auxiliary=auxiliary, sections=sections)
    with call.config(kind, folder) as config:
        (entry,) = run(config, overwrite=overwrite, events=Logged(config.parent.parent))["sources"]
        results = load_config(config).folder / entry["directory"]
        record = json.loads((results / RECORD).read_text())
        layers = {output["role"]: results / output["path"] for output in record["outputs"]}
        return Restored(
            values=kind.layer(layers["restored"]),
            uncertainty=kind.layer(layers["uncertainty"]),
            source=kind.layer(layers["source"]),
            record=record,
            folder=None if folder is None else results,
            display=kind.layer(layers["display"]) if "display" in layers else None,
        )


def plan(
    image: Image,
    holes: Image | Sequence[Mapping[str, Any]] | None = None,
    *,
    references: Sequence[Any] = (),
    auxiliary: Sequence[Any] = (),
    **sections: Any,
) -> dict[str, Any]:
    """Return what a restoration would take, as `inpaint-pipeline plan --json` does; restores nothing.

    Arguments and errors are those of `restore`.
    """
    call = _Call(holes=holes, references=references, auxiliary=auxiliary, sections=sections)
    with call.config(kind_of(image)) as config:
        (row,) = plan_table(config, ())["images"]
    return dict(row)


def evaluate(
    image: Image,
    holes: Image | Sequence[Mapping[str, Any]] | None = None,
    *,
    references: Sequence[Any] = (),
    auxiliary: Sequence[Any] = (),
    families: Sequence[str] = (),
    folder: str | Path | None = None,
    overwrite: bool = False,
    **sections: Any,
) -> list[dict[str, Any]]:
    """Hide observed pixels, restore them, and return a row for each family of holes and method.

    The values are those of `inpaint-pipeline evaluate --json`; None stands for what is not known.

    Args:
        image: as in `restore`.
        holes: as in `restore`.
        references: as in `restore`.
        auxiliary: as in `restore`.
        families: kinds of holes to hide: own, points, stripes, clouds, region; in volumes own, slices, blobs, region.
            All of them without any.
        folder: where the page, the table and images that were given in memory are kept; None: nowhere.
        overwrite: an evaluation of another call in that folder may be replaced.
        sections: as in `restore`.

    Raises:
        PipelineError: as the command line; its `exit_code` says of which kind.
        TypeError: the image is of no kind that is known.
    """
    call = _Call(holes=holes, references=references, auxiliary=auxiliary, sections=sections)
    with call.config(kind_of(image), folder) as config:
        rows = evaluate_table(config, (), several(families), overwrite=overwrite)["evaluation"]
    return [{key: value for key, value in row.items() if key != "image"} for row in rows]


def open_image(path: str | Path | Sequence[str | Path]) -> Source:
    """Open a file of any known format; several are one image with a file a band. Reads headers only.

    The result has `space` (shape, affine, CRS), `dtype`, `channel_names` and `read(box)`, which gives stored values.

    Raises:
        SourceError: missing, damaged, or of no known format.
    """
    return open_any(str(path) if isinstance(path, str | Path) else [str(p) for p in path])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What was asked for, and the folder in which it becomes a config with the files that it names."""

    holes: Any
    references: Sequence[Any]
    auxiliary: Sequence[Any]
    sections: Mapping[str, Any]

    @contextmanager
    def config(self, kind: Kind, folder: str | Path | None = None) -> Iterator[Path]:
        """Write the config and give its path; without a folder all of it is gone at the end."""
        require_own_process()
        with tempfile.TemporaryDirectory(prefix="inpaint-pipeline-") as temporary:
            home = Path(temporary).resolve() if folder is None else _home(folder)
            keep = partial(_kept, home / "inputs")
            content = self._content(kind, keep)
            content["output"] = _section(content, "output") | {"directory": str(home)}
            text = json.dumps(content, indent=1, sort_keys=True)
            path = keep("config.yaml", lambda path: path.write_text(text))
            with in_words_of_calls(home / "inputs", kept=folder is not None):
                if isinstance(kind, File):
                    _require_one(path, kind)
                yield path

    def _content(self, kind: Kind, keep: Keep) -> dict[str, Any]:
        content = sections_of(self.sections)
        images: dict[str, Any] = {"source": kind.saved(keep, "image")}
        for name, guides in (("references", self.references), ("auxiliary", self.auxiliary)):
            if found := [_guide(one, keep) for one in _guides(guides)]:
                images[name] = found
        given = _section(content, "input")
        if twice := sorted(set(given) & set(images)):
            raise ConfigError(f"{twice[0]} are given as an argument and as input.{twice[0]}; give them once")
        if given.get("region") is not None and not isinstance(kind, File):
            raise ConfigError("input.region is for files: of an array give the part, e.g. image[..., 0:512, 0:512]")
        content["input"] = given | images
        if entries := _entries(kind, self.holes, keep):
            more = content.get("mask", [])
            if isinstance(more, str):
                raise ConfigError(f"mask: '{more}', and holes are given, too; leave one of them out")
            content["mask"] = [*more, *entries]
        return content


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a section.

    Raises:
        ConfigError: it is no mapping.
    """
    section = content.get(name) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{name}: must be a dict of its keys, found {section!r}")
    return section


def _require_one(config: Path, kind: File) -> None:
    """Refuse a path that stands for several images: there is one result.

    Raises:
        ConfigError: names some of them.
    """
    found = [spec.stem for spec in resolve_sources(load_config(config))]
    if len(found) > 1:
        raise ConfigError(f"{kind.path} stands for {len(found)} images: {listed(found)}; give one at a time")


def _home(folder: str | Path) -> Path:
    """Return the folder of results.

    Raises:
        ConfigError: no file system or no writer of images could hold it.
    """
    text = path_of(folder, "folder")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"folder: {text!r} is not UTF-8, which writers of images need; choose another one") from None
    return Path(text)


def _guides(given: Any) -> Sequence[Any]:
    """Return references as a list: a pair of an image and its holes, which are True or False, is one of them."""
    lone = isinstance(given, tuple) and len(given) == 2 and getattr(given[1], "dtype", None) == np.bool_
    return [given] if lone else several(given)


def _guide(guide: Any, keep: Keep) -> dict[str, Any]:
    """Return the entry of a reference or auxiliary, which may come with its holes.

    Raises:
        TypeError: it is no image and no pair.
    """
    if isinstance(guide, tuple) and len(guide) != 2:
        raise TypeError(f"a reference is an image or a pair (image, its holes), found a tuple of {len(guide)}")
    image, holes = guide if isinstance(guide, tuple) else (guide, None)
    kind = kind_of(image)
    mask = _entries(kind, holes, keep)
    return {"source": kind.saved(keep, "guide"), **({"mask": mask} if mask else {})}


def _entries(kind: Kind, holes: Any, keep: Keep) -> list[dict[str, Any]]:
    """Return the mask entries that say where the holes of an image are."""
    if holes is None:
        return []
    if isinstance(holes, str | Path):
        return [{"kind": "raster", "path": path_of(holes, "holes")}]
    if isinstance(holes, Mapping) or (isinstance(holes, Sequence) and all(isinstance(e, Mapping) for e in holes)):
        return mask_entries(holes)
    return [kind.entry(holes, keep)]


def _kept(folder: Path, name: str, write: Callable[[Path], Any]) -> Path:
    """Let a file be written, and keep it in a folder named after its content: nothing else is ever overwritten.

    Raises:
        OutputConflict: it cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as draft:
            written = Path(draft) / name
            write(written)
            home = folder / hashlib.sha256(written.read_bytes()).hexdigest()[:16]
            home.mkdir(exist_ok=True)
            return written.replace(home / name)
    except PipelineError:
        raise
    except OSError as error:
        todo = what_to_do(folder, error, "choose another folder=")
        raise OutputConflict(f"{folder}: cannot write ({error.strerror or error}); {todo}") from error
