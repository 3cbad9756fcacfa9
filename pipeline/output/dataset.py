"""Results become part of a BIDS data set of derivatives: the same bytes under the standard's names, with sidecars.

The folder of the results stays as it is; files of the data set are hard links to it, or copies on another file system.
What is put there is listed, with hashes, in the sidecar of the restored image, and the sidecar carries its own hash: so
a later run knows what is its own, and replaces nothing else. The sidecar comes last; a run that was ended before goes
on, as what lies there already is what it would write.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.bids import DESCRIPTION, PROGRAM, Dataset, Derivation, read_object
from pipeline.errors import IntegrityError, OutputConflict, PipelineError
from pipeline.formats import open_any
from pipeline.formats.base import Layer, WriteOptions
from pipeline.geometry.box import Box
from pipeline.numerics.column import column
from pipeline.orders import Order
from pipeline.output.assemble import is_filled
from pipeline.plan.memory import ASSEMBLY_BYTES
from pipeline.registry import load
from pipeline.system.facts import file_facts
from pipeline.system.files import finite, publish, remove_made, replacing, sealed, unsealed, write_json, write_text
from pipeline.system.lock import in_turn

FILES = "Inpainting"
"""Key of a sidecar that holds what is ours; in it `Files` lists what was put into the data set."""
_BYTES_A_VALUE = 32
_LOCK, _IGNORE, _README = ".inpaint-pipeline.lock", ".bidsignore", "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivativeLayers:
    """The files of an image that go into a data set, and what they say on the whole.

    Attributes:
        files: path by role: `restored`, `mask`, `uncertainty`, `source`, and `doubt` if there is one.
        expected_error: root mean square of the standard errors of restored voxels, in physical units; None if none was.
        mean_restored: mean of the restored values, in physical units.
    """

    files: Mapping[str, Path]
    expected_error: float | None
    mean_restored: float | None


@contextmanager
def derivative_layers(order: Order, record: Mapping[str, Any]) -> Iterator[DerivativeLayers]:
    """Yield the layers of a finished image, with a mask that is 1 where a voxel was restored; it is gone afterwards."""
    outputs = {o["role"]: order.folder / o["path"] for o in reversed(record["outputs"]) if _is_nifti(o["path"])}
    files = {role: outputs[role] for role in ("restored", "uncertainty", "source", "doubt") if role in outputs}
    folder = order.beside.dataset
    remove_made(folder)
    folder.mkdir(parents=True)
    mask = folder / f"mask{order.bids.image.name.extension if order.bids else '.nii.gz'}"
    try:
        sums = _write_mask(files, mask)
        yield DerivativeLayers(files={**files, "mask": mask}, expected_error=sums.error, mean_restored=sums.mean)
    finally:
        remove_made(folder)


def _is_nifti(path: str) -> bool:
    return path.endswith((".nii", ".nii.gz"))


@dataclass(slots=True)
class _Sums:
    """Sums over restored voxels."""

    voxels: int = 0
    squares: float = 0.0
    values: float = 0.0

    @property
    def error(self) -> float | None:
        return math.sqrt(self.squares / self.voxels) if self.voxels else None

    @property
    def mean(self) -> float | None:
        return self.values / self.voxels if self.voxels and self.values else None


def _write_mask(files: Mapping[str, Path], mask: Path) -> _Sums:
    """Write the mask, and sum up over what it marks."""
    restored, uncertainty, source = (open_any(str(files[role])) for role in ("restored", "uncertainty", "source"))
    staged = [image.stage(mask.parent) for image in (restored, uncertainty, source)]
    slope, offset = (column(pair, 3, np.float64) for pair in zip(*restored.scale_offset, strict=True))
    # of some volumes of a series only, the other layers hold no more than these
    chosen = slice(None) if restored.n_channels == uncertainty.n_channels else slice(0, 0)
    sums = _Sums()

    def pull(box: Box) -> NDArray[np.uint8]:
        values, errors, codes = (image.read(box) for image in staged)
        filled = is_filled(codes)
        each = np.broadcast_to(filled, errors.shape)
        sums.voxels += int(each.sum())
        sums.squares += float(np.square(errors[each], dtype=np.float64).sum())
        sums.values += float((values * slope + offset)[chosen][each[chosen]].sum())
        return filled.astype(np.uint8)

    layer = Layer(role="mask", n_channels=source.n_channels, dtype=np.dtype("uint8"), channel_names=("mask",))
    # beside a byte of the mask values and standard errors are held, some copies of them in float64
    each = _BYTES_A_VALUE * restored.n_channels // source.n_channels
    options = WriteOptions(scratch=mask.parent, memory_bytes=max(1, ASSEMBLY_BYTES // each))
    try:
        load("formats", source.kind).write(layer, mask, source, pull, options)
    finally:
        for image in (*staged, restored, uncertainty, source):
            image.close()
    return sums


def require_derivatives_free(place: Derivation) -> None:
    """Check, before anything is computed, that the results can go into the data set.

    Raises:
        OutputConflict: the folder is no data set of this program, or a file of another origin has the name of a result.
    """
    require_ours(place.target, place.sources()[1])
    ours = _known(place)
    for role in ("restored", "mask", "uncertainty", "source", "doubt"):
        for name in (place.name(role), place.name(role, ".json")):
            if (place.folder / name).exists() and name not in ours:
                raise OutputConflict(_foreign(place.folder / name))


def add_derivatives(
    place: Derivation, files: Mapping[str, Path], sidecars: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any],
    ignored: Sequence[str],
) -> None:  # fmt: skip
    """Put the files of an image into the data set with their sidecars; what is there already stays.

    Args:
        place: the image, and the data set.
        files: path by role; linked, or copied where that cannot be.
        sidecars: content by role; that of `restored` gets the list of all files.
        about: content of `dataset_description.json`; what others have added to the one there stays.
        ignored: lines that `.bidsignore` must have.

    Raises:
        OutputConflict: the data set or a file is of another origin or was changed; nothing of it is replaced.
    """
    sidecar = place.folder / place.name("restored", ".json")
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        with in_turn(place.target / _LOCK):
            _describe(place.target, about, ignored)
        # runs of one image with folders of their own do not keep each other out
        with in_turn(sidecar.with_name(f".{sidecar.stem}.lock")):
            _put_all(place, files, sidecars, sidecar)
    except PipelineError:
        raise
    except OSError as error:
        raise OutputConflict(
            f"{place.folder}: cannot write the derivatives ({error.strerror or error}); the results themselves are "
            "complete. Remove the cause and run again"
        ) from error


def _put_all(
    place: Derivation, files: Mapping[str, Path], sidecars: Mapping[str, Mapping[str, Any]], sidecar: Path
) -> None:
    """Put files and sidecars where they belong, that of the restored image last."""
    ours, listed = _known(place), {}
    for role, path in files.items():
        listed[place.name(role)] = _put(path, place.folder / place.name(role), ours)
    for role in files.keys() - {"restored"}:
        name = place.name(role, ".json")
        listed[name] = _put_json(sidecars[role], place.folder / name, ours)
    for name in ours.keys() - listed.keys() - {sidecar.name}:
        # a layer that these results do not have
        if (place.folder / name).is_file() and file_facts(place.folder / name)["sha256"] == ours[name]:
            remove_made(place.folder / name)
    main = sidecars["restored"]
    content = finite({**main, FILES: {**main[FILES], "Files": dict(sorted(listed.items()))}})
    if not _is_annotated(sidecar, content):
        _put_json(sealed(content), sidecar, ours)


def _known(place: Derivation) -> dict[str, str]:
    """Return the hashes of the files that an earlier run put there, by name; none if its sidecar was changed since."""
    sidecar = place.folder / place.name("restored", ".json")
    if not sidecar.exists():
        return {}
    with suppress(PipelineError, LookupError, TypeError, AttributeError):
        listed = unsealed(sidecar, read_object(sidecar))[FILES]["Files"].items()
        beside = {name: sha256 for name, sha256 in listed if "/" not in name}
        return {**beside, sidecar.name: file_facts(sidecar)["sha256"]}
    return {}


def _is_annotated(sidecar: Path, content: Mapping[str, Any]) -> bool:
    """Return True if somebody has added to a sidecar of these very results; what was added stays."""
    with suppress(PipelineError):
        there = read_object(sidecar)
        return there.get(FILES) == content[FILES] and set(content) <= set(there) and not _is_intact(sidecar, there)
    return False


def _is_intact(sidecar: Path, there: dict[str, Any]) -> bool:
    with suppress(IntegrityError):
        unsealed(sidecar, there)
        return True
    return False


def _put(source: Path, target: Path, ours: Mapping[str, str]) -> str:
    """Give a file its name in the data set and return its hash."""
    if target.exists() and target.samefile(source):
        return str(file_facts(target)["sha256"])
    sha256 = str(file_facts(source)["sha256"])
    if _may_write(target, sha256, ours):
        with replacing(target) as partial:
            # what a run left here that was killed may be a link to the very results
            partial.unlink(missing_ok=True)
            try:
                os.link(source, partial)
            except OSError:
                shutil.copyfile(source, partial)
    return sha256


def _put_json(content: Mapping[str, Any], target: Path, ours: Mapping[str, str]) -> str:
    beside = target.with_name(f".{target.name}.new")
    try:
        write_json(beside, content)
        sha256 = str(file_facts(beside)["sha256"])
        if _may_write(target, sha256, ours):
            publish(beside, target)
        return sha256
    finally:
        beside.unlink(missing_ok=True)


def _may_write(target: Path, sha256: str, ours: Mapping[str, str]) -> bool:
    """Return False if the target is there already.

    Raises:
        OutputConflict: something else is.
    """
    if not target.exists() and not target.is_symlink():
        return True
    there = file_facts(target)["sha256"] if target.is_file() else None
    if there == sha256:
        return False
    if there is None or there != ours.get(target.name):
        raise OutputConflict(_foreign(target))
    return True


def _foreign(path: Path) -> str:
    return f"{path} is not what this program wrote, or was changed since; move it away and run again"


def require_ours(root: Path, links: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return the description of the data set, empty if there is none.

    Raises:
        OutputConflict: it is a data set of something else, or one of its links leads elsewhere.
    """
    path = root / DESCRIPTION
    if not path.exists():
        return {}
    dataset = Dataset(root=root)
    try:
        there = dataset.description
    except PipelineError as error:
        raise OutputConflict(f"{error}; or choose another folder for the derivatives") from None
    if PROGRAM not in dataset.makers:
        makers = ", ".join(dataset.makers)
        what = f"derivatives of {makers}" if makers else "a data set that this program did not make"
        raise OutputConflict(
            f"{root} holds {what} ({DESCRIPTION} does not name {PROGRAM} in GeneratedBy); choose a folder of its own, "
            f"e.g. {root / 'derivatives' / PROGRAM}"
        )
    known = _links(there)
    for name, link in links.items():
        if known.get(name, link) != link:
            raise OutputConflict(
                f"{root} holds derivatives of another data set ({name}: {known[name]}, here {link}); choose another "
                f"folder for the derivatives, or correct DatasetLinks in its {DESCRIPTION} if that was moved"
            )
    return there


def _describe(root: Path, about: Mapping[str, Any], ignored: Sequence[str]) -> None:
    """Write `dataset_description.json`, `.bidsignore` and a README, or add to them what is missing."""
    links = about["DatasetLinks"]
    there = require_ours(root, links)
    content = {**about, **there, "DatasetLinks": {**_links(there), **links}}
    others = [one for one in there.get("GeneratedBy", ()) if not isinstance(one, dict) or one.get("Name") != PROGRAM]
    content["GeneratedBy"] = [*about["GeneratedBy"], *others]
    if content != there:
        write_json(root / DESCRIPTION, content)
    _ignore(root, ignored)
    if not any(root.glob("README*")):
        write_text(root / _README, _ABOUT)


def _links(description: Mapping[str, Any]) -> dict[str, Any]:
    links = description.get("DatasetLinks")
    return links if isinstance(links, dict) else {}


def ignore(root: Path, lines: Sequence[str]) -> None:
    """Add lines to `.bidsignore` of a data set: what lies there beside what the standard has a name for.

    Raises:
        OSError: it cannot be written.
    """
    with in_turn(root / _LOCK):
        _ignore(root, lines)


def _ignore(root: Path, lines: Sequence[str]) -> None:
    path = root / _IGNORE
    there = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    missing = [line for line in lines if line not in there]
    if missing:
        write_text(path, "\n".join([*there, *missing]) + "\n")


_ABOUT = f"""\
# Restored images

Made by {PROGRAM}: hidden or spoilt voxels are replaced by estimates, all others are those of the source image, bit for
bit. Estimates are for research, not for diagnosis.

- `*_desc-inpainted_*`: the restored image; its JSON says what was filled, from what, and how well
- `*_desc-inpainted*_mask`: 1 where a voxel was restored
- `*_desc-inpainted*_uncertainty`: one standard error, in the units of the image
- `*_desc-inpainted*_source`: a code of where each value came from; its JSON has the list

The last two (and `_doubt`, where observed values are doubted) have no suffix in BIDS, so `.bidsignore` names them.
"""
