"""Masks of BIDS images, found by name: beside the image, in the data set's derivatives, or where a user says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.config.bids import DESCRIPTION, PROGRAM, BidsName, Dataset, bids_name, roots_above
from pipeline.errors import SourceError
from pipeline.system.paths import dangling, kind_of

LESION_NAMES = ("*_roi.nii.gz", "*lesion*_mask.nii.gz", "*lesion*_dseg.nii.gz")
"""Names of lesion masks in words, for messages; `.nii` is found, too."""
_FREE = {"label", "desc", "res"}
"""BIDS entities in which a mask may differ from its image."""


def lesions(path: str) -> list[Path]:
    """Return the lesion masks of a BIDS image, those beside it, else those of the data set's derivatives."""
    image = bids_name(Path(path).name)
    if image is None or "://" in path:
        return []
    for place in places(Path(path), image):
        if found := masks_in(place, image):
            return found
    return []


def places(path: Path, image: BidsName, others: Sequence[Path] = ()) -> Iterator[tuple[Path, ...]]:
    """Yield where masks of an image may lie, likeliest first; each place is the folders that are looked at together.

    Args:
        path: the image.
        image: the parts of its name.
        others: folders or data sets of masks, looked at before all others: flat, or by subject and session.
    """
    for other in others:
        yield (other, *_of_session(other, image))
    yield (path.parent,)
    for root in roots_above(path):
        if kind_of(root / "derivatives") == "folder":
            for made in sorted((root / "derivatives").iterdir()):
                if not _is_own(made):
                    yield _of_session(made, image)


def _is_own(derivatives: Path) -> bool:
    """Return True for restored images: what an earlier run has filled is no mask."""
    if kind_of(derivatives / DESCRIPTION) != "file":
        return False
    with suppress(SourceError):
        return PROGRAM in Dataset(root=derivatives).makers
    return False


def masks_in(place: Sequence[Path], image: BidsName, patterns: Sequence[str] = ()) -> list[Path]:
    """Return the masks of an image in some folders, sorted by name.

    Args:
        place: the folders.
        image: the parts of its name.
        patterns: file names with wildcards that are masks; without one the names of lesion masks.
    """
    files = [one for folder in place if kind_of(folder) == "folder" for one in sorted(folder.iterdir())]
    masks = [one for one in files if _is_mask(one.name, image, patterns)]
    # a link to what was not fetched (git-annex) is a mask that is missing, which whoever opens it says
    return [one for one in masks if kind_of(one) == "file" or dangling(one)]


def _of_session(root: Path, image: BidsName) -> tuple[Path, ...]:
    """Return the folders of an image's subject and session in a data set, whatever the datatype."""
    labels = image.entities
    session = root.joinpath(*(f"{key}-{labels[key]}" for key in ("sub", "ses") if key in labels))
    if "sub" not in labels or kind_of(session) != "folder":
        return ()
    return (session, *(one for one in sorted(session.iterdir()) if kind_of(one) == "folder"))


def _is_mask(name: str, image: BidsName, patterns: Sequence[str]) -> bool:
    """Return True for the name of a mask whose entities (session, run, ...) do not contradict the image's."""
    plain = name.removesuffix(".gz").removesuffix(".nii")
    *parts, suffix = plain.split("_")
    ours = image.entities
    said = dict(part.split("-", 1) for part in parts if "-" in part)
    # a contrast within the name: sub-01_FLAIR_roi, sub-01_T1w_label-lesion_roi
    contrasts = {part for part in parts if "-" not in part and "lesion" not in part.lower()}
    if plain == name or said.get("sub") != ours.get("sub") or said.get("ses", "") != ours.get("ses", ""):
        return False
    if not contrasts <= {image.suffix} or any(
        ours.get(key, label) != label for key, label in said.items() if key not in _FREE
    ):
        return False
    if patterns:
        return any(fnmatchcase(name, pattern) for pattern in patterns)
    named = "lesion" in plain.lower()
    # a region of interest that is said to be of something else is no lesion
    return (named and suffix in ("mask", "roi", "dseg")) or (suffix == "roi" and not {"label", "desc"} & set(said))
