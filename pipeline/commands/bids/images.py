"""What a data set has to restore: its images, the masks that belong to them, and contrasts that may guide."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.commands.bids.lost import lost_slices
from pipeline.config.bids import DESCRIPTION, BidsImage, BidsName, bids_image, bids_name
from pipeline.config.lesions import LESION_NAMES, masks_in, places
from pipeline.errors import ConfigError, SourceError
from pipeline.formats import open_any
from pipeline.formats._view import misfit
from pipeline.formats.base import Source
from pipeline.system.paths import kind_of

MODALITIES = ("T1w", "T2w", "FLAIR", "bold")
_GUIDES = ("T1w", "T2w", "FLAIR", "PDw")
"""Contrasts that may guide each other."""
_NO_MAGNITUDE = ("phase", "real", "imag")
"""Labels of `part`: values that wrap or change sign are no images to fill in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which images of a data set, and what their masks are called.

    Attributes:
        root: top folder of the data set, absolute.
        participants: labels without `sub-`; empty for all.
        sessions: labels without `ses-`; empty for all.
        modalities: suffixes, of `MODALITIES`.
        mask_folders: folders or data sets of masks, looked at first; absolute.
        mask_names: file names of masks with wildcards; empty for the names of lesion masks.
        buffer: how far masks are widened, `1 mm`; empty for not at all.
    """

    root: Path
    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    modalities: tuple[str, ...] = MODALITIES
    mask_folders: tuple[Path, ...] = ()
    mask_names: tuple[str, ...] = ()
    buffer: str = ""

    def entries(self, masks: Sequence[Path]) -> list[dict[str, Any]]:
        """Return the entries of a config's `mask` for some files."""
        widened = {"buffer": self.buffer} if self.buffer else {}
        return [{"kind": "raster", "path": str(mask), **widened} for mask in masks]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInputs:
    """What was found for an image.

    Attributes:
        mask: entries of a config's `mask`; empty if nothing is to be restored.
        auxiliary: entries of `input.auxiliary`.
        remarks: what was found and is not used, and why.
    """

    mask: tuple[dict[str, Any], ...]
    auxiliary: tuple[dict[str, Any], ...]
    remarks: tuple[str, ...]


def participants_of(choice: Choice) -> tuple[str, ...]:
    """Return the labels of the participants that are chosen.

    Raises:
        ConfigError: the data set has no such participant.
    """
    labels = tuple(one.name.removeprefix("sub-") for one in sorted(choice.root.glob("sub-*")) if one.is_dir())
    for label in choice.participants:
        if label not in labels:
            near = difflib.get_close_matches(label, labels, n=1)
            hint = f" - did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--participant-label {label}: {choice.root} has no folder sub-{label}{hint}")
    return choice.participants or labels


def images_of(choice: Choice) -> list[BidsImage]:
    """Return the images that are chosen, in the order of their names.

    Raises:
        ConfigError: the folder is no data set, or has no such participant, session or modality.
    """
    if kind_of(choice.root / DESCRIPTION) != "file":
        home = next((one for one in choice.root.parents if kind_of(one / DESCRIPTION) == "file"), None)
        hint = f"; it lies in one: name {home}, and --participant-label" if home else ""
        raise ConfigError(f"{choice.root}: is no BIDS data set (it has no {DESCRIPTION}){hint}")
    wrong = [name for name in choice.modalities if name not in MODALITIES]
    if wrong:
        raise ConfigError(f"--modalities {wrong[0]}: only {', '.join(MODALITIES)} are restored")
    for folder in choice.mask_folders:
        if kind_of(folder) != "folder":
            raise ConfigError(f"--mask-dir {folder}: is no folder")
    labels = participants_of(choice)
    found = [
        image
        for label in labels
        for image in _of_subject(choice.root / f"sub-{label}", choice.modalities)
        if not choice.sessions or image.name.entities.get("ses") in choice.sessions
    ]
    if not found:
        of = f", sessions {', '.join(choice.sessions)}" if choice.sessions else ""
        who = ", ".join(f"sub-{label}" for label in choice.participants) or "it"
        raise ConfigError(f"{choice.root}: {who} has no {' or '.join(choice.modalities)} images{of}")
    return found


def _of_subject(subject: Path, suffixes: Sequence[str]) -> Iterator[BidsImage]:
    for session in (subject, *sorted(subject.glob("ses-*"))):
        for datatype in ("anat", "func"):
            for path in sorted((session / datatype).glob("*.nii*")):
                name = bids_name(path.name)
                if name and _is_wanted(name, suffixes):
                    yield bids_image(path)


def _is_wanted(name: BidsName, suffixes: Sequence[str]) -> bool:
    magnitude = name.entities.get("part") not in _NO_MAGNITUDE
    return name.suffix in suffixes and name.extension in (".nii", ".nii.gz") and magnitude


def find_inputs(image: BidsImage, choice: Choice) -> ImageInputs:
    """Look for the masks of an image, in a series for lost slices, and for contrasts that may guide.

    Raises:
        SourceError: the image, a mask or a sidecar cannot be read; or the image is there twice, packed and not.
    """
    packed = image.path.name.endswith(".gz")
    twin = image.path.with_name(image.path.name.removesuffix(".gz") if packed else f"{image.path.name}.gz")
    if kind_of(twin):
        raise SourceError(f"{image.path}: {twin.name} beside it is the same image to BIDS; keep one of the two")
    source = open_any(str(image.path))
    try:
        masks, remarks = _masks(image, choice, source)
        entries = choice.entries(masks)
        if image.name.suffix == "bold":
            lost = lost_slices(image.path, _slice_axis(image))
            entries += lost.entries()
            if lost.volumes:
                remarks.append(f"volumes {', '.join(map(str, lost.volumes))} are lost as a whole and stay as they are")
        guides = _guides(image, choice, source, masks) if entries else ([], [])
    finally:
        source.close()
    return ImageInputs(mask=tuple(entries), auxiliary=tuple(guides[0]), remarks=(*remarks, *guides[1]))


def mask_search(image: BidsImage, choice: Choice) -> str:
    """Return in words what would have been a mask of an image, and where."""
    names = choice.mask_names or LESION_NAMES
    where = [*map(str, choice.mask_folders), str(image.folder), f"derivatives/*/{image.session}"]
    return f"{', '.join(names)} in {', '.join(where)}"


def _masks(image: BidsImage, choice: Choice, source: Source) -> tuple[list[Path], list[str]]:
    """Return the masks on the grid of the image, of the first place that has any, and what is said of the others."""
    remarks = []
    for place in places(image.path, image.name, choice.mask_folders):
        fitting = []
        for mask in masks_in(place, image.name, choice.mask_names):
            if problem := _misfit(mask, source):
                remarks.append(f"mask {mask.name} lies on another grid and is not used: {problem}")
            else:
                fitting.append(mask)
        if fitting:
            return fitting, remarks
    return [], remarks


def _guides(
    image: BidsImage, choice: Choice, source: Source, masks: Sequence[Path]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the other contrasts of the session as auxiliaries, with their masks, and what is said of the others.

    A lesion is one in every contrast: what the image's lesion masks hide is hidden in its guides, too.
    """
    if image.name.suffix not in _GUIDES:
        return [], []
    guides, remarks = [], []
    for other in _of_subject(image.dataset.root / image.session.parts[0], _GUIDES):
        same_session = other.session == image.session
        if not same_session or other.name.suffix == image.name.suffix:
            continue
        if problem := _misfit(other.path, source):
            remarks.append(f"{other.path.name} lies on another grid and is no guide: {problem}")
            continue
        own, _ = _masks(other, choice, source)
        hidden = own if choice.mask_names else list(dict.fromkeys([*masks, *own]))
        guides.append({"path": str(other.path), "mask": choice.entries(hidden)})
    return guides, remarks


def _misfit(path: Path, source: Source) -> str:
    other = open_any(str(path))
    try:
        return misfit(other, source)
    finally:
        other.close()


def _slice_axis(image: BidsImage) -> str:
    axis = str(image.metadata().get("SliceEncodingDirection", "k"))[:1]
    return axis if axis in "ijk" else "k"
