"""What BIDS 1.11 says of names, folders and sidecars (https://bids-specification.readthedocs.io).

A file of a data set is called `sub-01_ses-1_acq-fast_T1w.nii.gz`: entities (`sub-01`), a suffix (`T1w`), an extension.
It lies in `sub-01/ses-1/anat/` below the folder with `dataset_description.json`. Its metadata stand in JSON files
beside it and in the folders above (the inheritance principle).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import ConfigError, SourceError
from pipeline.system.paths import dangling, kind_of, read_bounded

DESCRIPTION = "dataset_description.json"
PROGRAM = "inpaint-pipeline"
"""Name of this program in the descriptions of data sets."""
RESULTS = "inpainting"
"""Folder of a data set of derivatives in which the results of each image lie, with config, record and report."""
_ENTITY = re.compile(r"([a-z]+)-([A-Za-z0-9+]+)")
_DEPTH = 7
"""Folders from an image up to the top of its data set: datatype, session, subject, and those of a derivative."""
_MOST_BYTES = 16 * 2**20
"""Of a JSON file; some converters write every DICOM field of every slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BidsName:
    """The parts of a file name.

    Attributes:
        entities: labels by entity, in the order of the name.
        suffix: `T1w`, `bold`, `mask`.
        extension: with its dot, `.nii.gz`.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str

    def __str__(self) -> str:
        """Return the file name; `desc` comes last of the entities, as the standard has it."""
        ordered = sorted(self.entities.items(), key=lambda item: item[0] == "desc")
        return "_".join([*(f"{key}-{label}" for key, label in ordered), self.suffix]) + self.extension


def bids_name(name: str) -> BidsName | None:
    """Return the parts of a file name; None if it is not one of BIDS. Names of sidecars higher up have no subject.

    >>> bids_name("sub-01_task-rest_bold.nii.gz").entities
    {'sub': '01', 'task': 'rest'}
    """
    stem, dot, extension = name.partition(".")
    *parts, suffix = stem.split("_")
    found = [_ENTITY.fullmatch(part) for part in parts]
    if not dot or not re.fullmatch("[A-Za-z0-9]+", suffix):
        return None
    labels = {entity[1]: entity[2] for entity in found if entity}
    return BidsName(entities=labels, suffix=suffix, extension=dot + extension) if len(labels) == len(parts) else None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A BIDS data set: its top folder, absolute."""

    root: Path

    @cached_property
    def description(self) -> dict[str, Any]:
        """Content of `dataset_description.json`.

        Raises:
            SourceError: it is missing or damaged.
        """
        return read_object(self.root / DESCRIPTION)

    @property
    def link(self) -> str:
        """Name of the data set in BIDS URIs: `raw`, of a derivative the letters of its folder's name."""
        if self.description.get("DatasetType", "raw") != "derivative":
            return "raw"
        return re.sub("[^A-Za-z0-9]", "", self.root.name) or "derivative"

    @property
    def makers(self) -> list[str]:
        """Names of the programs that made it, as `GeneratedBy` has them."""
        entries = self.description.get("GeneratedBy")
        named = [one.get("Name") for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
        return [name for name in named if isinstance(name, str)]


def dataset_of(path: str | Path) -> Dataset | None:
    """Return the data set that a file lies in: the nearest folder above with a `dataset_description.json`."""
    if "://" in str(path):
        return None
    return next((Dataset(root=root) for root in roots_above(Path(path))), None)


def roots_above(path: Path) -> Iterator[Path]:
    """Yield the top folders of the data sets that a file lies in, nearest first: a derivative lies in another one."""
    return (root for root in list(path.parents)[:_DEPTH] if kind_of(root / DESCRIPTION) == "file")


@dataclass(frozen=True, kw_only=True)
class BidsImage:
    """An image of a data set.

    Attributes:
        path: the file, absolute.
        dataset: the data set it lies in.
        name: the parts of its name.
    """

    path: Path
    dataset: Dataset
    name: BidsName

    @property
    def within(self) -> str:
        """Path below the top of the data set."""
        return self.path.relative_to(self.dataset.root).as_posix()

    @property
    def session(self) -> PurePosixPath:
        """Folder of subject and session, below the top of any data set that has them: `sub-01/ses-1`."""
        labels = self.name.entities
        return PurePosixPath(*(f"{key}-{labels[key]}" for key in ("sub", "ses") if key in labels))

    @property
    def folder(self) -> PurePosixPath:
        """Folder of the same subject, session and datatype: `sub-01/ses-1/anat`."""
        return self.session / self.path.parent.name

    def metadata(self) -> dict[str, Any]:
        """Return what the JSON files beside it and above say of the image; the nearest and most specific wins.

        Raises:
            SourceError: one of them cannot be read.
        """
        found: dict[str, Any] = {}
        below = self.path.parent.relative_to(self.dataset.root)
        folders = [self.dataset.root, *(self.dataset.root / up for up in [*reversed(below.parents[:-1]), below])]
        for folder in folders:
            sidecars = [(one, bids_name(one.name)) for one in sorted(folder.glob(f"*{self.name.suffix}.json"))]
            meant = [(one, name) for one, name in sidecars if name and self._is_said_by(name)]
            for one, _ in sorted(meant, key=lambda item: len(item[1].entities)):
                found |= read_object(one)
        return found

    def _is_said_by(self, sidecar: BidsName) -> bool:
        ours = self.name.entities
        return sidecar.suffix == self.name.suffix and sidecar.entities.items() <= ours.items()


def bids_image(path: str | Path) -> BidsImage:
    """Return what BIDS says of an image by its path; reads no pixels.

    Raises:
        ConfigError: it is no NIfTI of a BIDS data set; says what is missing.
    """
    path = Path(path)
    dataset, name = dataset_of(path), bids_name(path.name)
    if name is None or "sub" not in name.entities or name.extension not in (".nii", ".nii.gz"):
        why = "its name is not like sub-01_T1w.nii.gz"
    elif dataset is None:
        why = f"no folder above it has a {DESCRIPTION}"
    elif path.parent.name.startswith(("sub-", "ses-")) or f"sub-{name.entities['sub']}" not in path.parts:
        why = f"it does not lie in a folder like sub-{name.entities['sub']}/anat"
    else:
        return BidsImage(path=path, dataset=dataset, name=name)
    raise ConfigError(f"{path}: is no image of a BIDS data set ({why})")


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """An image of a data set, and the data set of derivatives that its restoration goes to.

    Attributes:
        target: top folder of the derivatives, absolute.
        image: the image.
        metadata: what its sidecars say.
        reads: every file that the run reads, absolute; the image first.
    """

    target: Path
    image: BidsImage
    metadata: Mapping[str, Any]
    reads: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where the files go, absolute."""
        return self.target / self.image.folder

    def name(self, role: str, extension: str = "") -> str:
        """Return the file name of a layer: `sub-01_desc-inpainted_T1w.nii.gz`, `sub-01_desc-inpaintedT1w_mask.nii.gz`.

        A description that the image has comes first in the new one: `desc-preprocInpainted`.
        """
        given = self.image.name
        before = given.entities.get("desc", "")
        desc = f"{before}Inpainted" if before else "inpainted"
        suffix = given.suffix if role == "restored" else role
        desc += "" if role == "restored" else given.suffix
        entities = {**given.entities, "desc": desc}
        return str(BidsName(entities=entities, suffix=suffix, extension=extension or given.extension))

    def own_uri(self, path: Path) -> str:
        """Return the BIDS URI of a file below `target`; outside of it its name alone, as folders may be private."""
        inside = path.is_relative_to(self.target)
        return f"bids::{path.relative_to(self.target).as_posix()}" if inside else path.name

    def sources(self) -> tuple[list[str], dict[str, str]]:
        """Return the BIDS URIs of what was read, as far as it lies in data sets, and the links that explain them."""
        uris, links = [], {}
        for text in self.reads:
            dataset = dataset_of(text)
            if dataset is None:
                continue
            if dataset.root == self.target:
                uris.append(self.own_uri(Path(text)))
                continue
            links[dataset.link] = os.path.relpath(dataset.root, self.target)
            uris.append(f"bids:{dataset.link}:{Path(text).relative_to(dataset.root).as_posix()}")
        return list(dict.fromkeys(uris)), links


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a data set.

    Raises:
        SourceError: there is no such file, or it holds no JSON object.
    """
    if leads := dangling(path):
        raise SourceError(f"{path}: is a link to {leads}, which is not there; fetch it (git-annex, datalad)")
    try:
        content = json.loads(read_bounded(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path}: cannot be read as JSON ({error}); correct it") from None
    if not isinstance(content, dict):
        raise SourceError(f"{path}: holds no JSON object ({{...}}); correct it")
    return content
