"""Re-check the first three promises on a finished run, from the files alone.

Observed pixels and header are the input's; every restored pixel has a source and an uncertainty; patches computed
again, cut into other blocks than the run used, give the bytes that were published.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.blocks.block import blend, one_thread
from pipeline.blocks.composite import composite
from pipeline.errors import IntegrityError, OutputConflict, SourceError
from pipeline.formats import files_of, open_any
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.image.open import open_source
from pipeline.image.workspace import Workspace, open_workspace
from pipeline.masks.base import mask_options
from pipeline.output.assemble import Written, as_published, is_filled, opaque_where_filled
from pipeline.output.header import differences, lost_tags
from pipeline.output.results import LOOKS, changed, kept_plan, of_record, record_of, work_folder
from pipeline.plan.layers import from_published, known_codes, to_published
from pipeline.plan.plan import OtherVersion, Plan, load_plan
from pipeline.plan.refs import SourceRef
from pipeline.plan.workdir import WorkFolder, fetched_from
from pipeline.restore.codes import NEVER_TOUCHED, OBSERVED, REFUSED
from pipeline.system.facts import input_facts
from pipeline.system.files import remove_made
from pipeline.system.redact import is_redacted
from pipeline.system.room import full_disk_message, is_full
from pipeline.system.threads import each

IMAGES = ("restored", "display")
"""Roles of layers whose observed pixels and header are those of the input."""
_WINDOW = {2: (512, 1024), 3: (64, 128, 128)}
"""Extent of what is compared at once, in each thread, pixels."""
_RECOMPUTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise: its name, whether it held (None = could not be checked), and the numbers."""

    name: str
    held: bool | None
    detail: str
    unread: bool = False
    """It could not be checked as a file is damaged, gone, or another than the run had."""


def verify(folder: Path) -> list[Check]:
    """Check the finished image in `folder` (it holds `record.json`).

    Raises:
        SourceError: no finished run there.
    """
    record = record_of(folder)
    with of_record(folder):
        return _verified(folder, record)


def _verified(folder: Path, record: dict[str, Any]) -> list[Check]:
    try:
        promises = _promises(folder, record)
    except SourceError as error:
        promises = [_unchecked(str(error), unread=True)]
    except OtherVersion as error:
        promises = [_unchecked(str(error))]
    except IntegrityError as error:
        promises = [Check(name="pixels", held=False, detail=str(error))]
    return [_hashes(folder, record), *promises]


def _unchecked(why: str, *, unread: bool = False) -> Check:
    return Check(name="pixels", held=None, detail=f"{why}: only hashes could be checked", unread=unread)


def _promises(folder: Path, record: dict[str, Any]) -> list[Check]:
    work = work_folder(folder, record)
    if not work.plan.exists():
        return [_unchecked(f"{work.path} is gone")]
    plan = kept_plan(work, record)
    inputs = [path for ref in (plan.source, *(g.source for g in plan.guides)) for path in ref.paths]
    gone = ""
    if any(is_redacted(path) for path in inputs):
        gone = "an input's address is kept without user, password and query"
    elif any(fetched_from(path) and not Path(path).exists() for path in inputs):
        gone = "an input lies in object storage, and its copy is not kept"
    if gone:
        return [_unchecked(gone)]
    if others := _changed_inputs(plan, record):
        return [_unchecked(f"other than the run had: {', '.join(others)}", unread=True)]
    # the run that made it may have been in this process, and its staged copies are gone
    open_workspace.cache_clear()
    with _writable(work) as place:
        leftover = place.staged.exists()
        try:
            return _checks(folder, load_plan(place), record)
        finally:
            open_workspace.cache_clear()
            if not leftover and place.staged.exists():
                remove_made(place.staged)


@contextmanager
def _writable(work: WorkFolder) -> Iterator[WorkFolder]:
    """Give the work folder of finished results; of those that nobody may write to, one of links to what it holds.

    Inflated copies of compressed images need a place.
    """
    if os.access(work.path, os.W_OK):
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="inpaint-pipeline-") as folder:
        for held in work.path.iterdir():
            Path(folder, held.name).symlink_to(held.absolute())
        yield WorkFolder(Path(folder))


def _changed_inputs(plan: Plan, record: dict[str, Any]) -> list[str]:
    """Return the files that the run read and that are others now: of them its promises say nothing."""
    images = [path for ref in (plan.source, *(g.source for g in plan.guides)) for path in ref.paths]
    masks = [path for g in plan.guides for entry in g.masks for path in mask_options(entry).reads()]
    noted = [file for mask in record["masks"] for file in mask["files"]]
    # masks of the image itself come first: the work folder has what they said
    facts = [*record["inputs"][: len(images)], *noted[len(noted) - len(masks) :]]
    now = input_facts([*images, *masks], files_of)
    # what is gone is told where it is opened; an address has no hash
    known = [(one, then) for one, then in zip(now, facts, strict=True) if one["sha256"] and then["sha256"]]
    return [one["path"] for one, then in known if _hashes_of(one) != _hashes_of(then)]


def _hashes_of(fact: Mapping[str, Any]) -> list[str]:
    return [file["sha256"] for file in (fact, *fact.get("files", ()))]


def _checks(folder: Path, plan: Plan, record: dict[str, Any]) -> list[Check]:
    outputs = {o["role"]: o for o in reversed(record["outputs"])}
    layers = [open_layer(plan.source, folder / outputs[r]["path"], r) for r in ("restored", "uncertainty", "source")]
    source = open_source(plan.source)
    checks = [
        observed_pixels(plan, source, layers[0], layers[2]),
        header(source, layers[0], selected=plan.source.bands is not None),
        codes_and_uncertainty(plan, layers[1], layers[2], record["holes"]["by_source"]),
        recomputed(plan, *layers),
    ]
    if "display" in outputs:
        display = open_layer(plan.source, folder / outputs["display"]["path"], "display")
        check = observed_pixels(plan, source, display, layers[2])
        checks.append(replace(check, name="observed pixels of the display product"))
    return checks


def quick_check(plan: Plan, source: Source, written: Sequence[Written]) -> None:
    """Check observed pixels and header before anything is published.

    Raises:
        IntegrityError: an observed pixel or the header differs; a bug, please report it.
        OutputConflict: a file cannot be read back.
    """
    with _read_back(written):
        _quick_check(plan, source, written)


@contextmanager
def _read_back(written: Sequence[Written]) -> Iterator[None]:
    """Tell what is wrong with a file that was just written: GDAL says nothing of a disk that is full when it closes it.

    Raises:
        OutputConflict: it is not whole.
    """
    try:
        yield
    except SourceError as error:
        path = next((w.path for w in written if str(w.path) in str(error)), None)
        if path is None:
            raise
        if is_full(path.parent):
            raise OutputConflict(full_disk_message(path, errno.ENOSPC)) from error
        raise OutputConflict(
            f"{path}: was not written whole ({error}); see to the disk, its quota and limits, and run again to continue"
        ) from error


def _quick_check(plan: Plan, source: Source, written: Sequence[Written]) -> None:
    for kind in {w.kind for w in written}:
        layers = {w.role: open_layer(plan.source, w.path, w.role, kind) for w in written if w.kind == kind}
        # gz volumes are read window by window, and again for the report: inflate them once
        layers = {role: layer.stage(plan.work.staged) for role, layer in layers.items() if role in (*IMAGES, "source")}
        checks = []
        for role in [role for role in IMAGES if role in layers]:
            checks.append(observed_pixels(plan, source, layers[role], layers["source"]))
            checks.append(header(source, layers[role], selected=plan.source.bands is not None))
        for check in checks:
            if not check.held:
                raise IntegrityError(f"{plan.source.paths[0]}: {check.name}: {check.detail}; nothing was published")


def open_layer(ref: SourceRef, path: Path, role: str, kind: str | None = None) -> Source:
    """Open a layer; an image as its input was opened: `input.nodata` overrules it, and changes no header."""
    return open_any(str(path), kind=kind, nodata=ref.nodata if role in IMAGES else None)


def observed_pixels(plan: Plan, source: Source, restored: Source, origin: Source) -> Check:
    """Compare every pixel that was not restored with the input, bit for bit."""
    # where validity stands beside the values, only the same format has a place for it
    apart = source.kind == restored.kind and bool(source.attributes.get("validity"))

    def look(box: Box) -> tuple[int, int, int]:
        """Return how many observed pixels differ, how many there are, and how many are valid in one file only."""
        before, after = source.read(box), restored.read(box)
        moved = np.ones(before.shape, dtype=bool)
        code = from_published(origin.read(box), plan)
        moved[list(plan.channels)] = np.broadcast_to(
            (code == OBSERVED) | (code == NEVER_TOUCHED), (len(plan.channels), *box.shape)
        )
        if source.fixed_channels:
            before = opaque_where_filled(before, is_filled(code), source)
        different = int((_bits(before) != _bits(after))[moved].sum())
        unlike = _unlike_validity(plan, source.never(box), restored.never(box), code) if apart else 0
        return different, int(moved.sum()), unlike

    different, kept, unlike = (sum(counts) for counts in zip(*each(look, _windows(plan)), strict=True))
    detail = f"{different} of {kept} observed pixels differ"
    if apart:
        detail += f"; {unlike} pixels are valid or not (mask, alpha) other than they should be"
    return Check(name="observed pixels", held=not different and not unlike, detail=detail)


def _unlike_validity(plan: Plan, before: NDArray[np.bool_], after: NDArray[np.bool_], code: NDArray[np.uint8]) -> int:
    """Count restored pixels that a reader would take for nothing, and others that are valid in one file only."""
    channels, filled = list(plan.channels), is_filled(code)
    shape = (before.shape[0] if before.shape[0] > 1 else after.shape[0], *before.shape[1:])
    before, after = np.broadcast_to(before, shape), np.broadcast_to(after, shape)
    hidden = after[channels] if len(after) > 1 else after
    alone = ~filled.any(axis=0)
    changed = (before.all(axis=0) != after.all(axis=0)) & alone & ~(code == REFUSED).any(axis=0)
    return int((hidden & filled).any(axis=0).sum()) + int(changed.sum())


def header(source: Source, restored: Source, *, selected: bool = False) -> Check:
    """Compare the header of a restored image with the input's; `selected`: some of its bands were asked for."""
    wrong, lost = differences(source, restored, selected=selected), lost_tags(source, restored)
    detail = "; ".join(wrong) or ("all fields equal" if not lost else f"equal but for tags: {', '.join(lost)}")
    return Check(name="header", held=not wrong, detail=detail)


def codes_and_uncertainty(plan: Plan, uncertainty: Source, origin: Source, by_source: dict[str, int]) -> Check:
    """Check that restored pixels have a known source and a positive uncertainty, and others none.

    Known are the codes that this plan can give, see `known_codes`; `uncertainty` is float32 `(c, *spatial)`, `origin`
    uint8 `(1 or c, *spatial)`, and `by_source` counts the restored pixels of the record by code.
    """
    known = known_codes(plan)
    bad = restored = 0
    for box in _windows(plan):
        code, sigma = (from_published(layer.read(box), plan) for layer in (origin, uncertainty))
        code = code[: plan.n_state]
        full = np.broadcast_to(code, sigma.shape)
        hole = (full != OBSERVED) & (full != NEVER_TOUCHED)
        bad += int((~np.isin(full, known)).sum()) + int((hole & ~(sigma > 0)).sum())
        bad += int(((full == OBSERVED) & (sigma != 0)).sum()) + int(((full == NEVER_TOUCHED) & ~np.isnan(sigma)).sum())
        restored += int(((code != OBSERVED) & (code != NEVER_TOUCHED)).sum())
    counted = sum(by_source.values())
    held = bad == 0 and restored == counted
    detail = f"{restored} restored pixels, {counted} in the record, {bad} without a consistent source and uncertainty"
    return Check(name="source and uncertainty", held=held, detail=detail)


def recomputed(plan: Plan, restored: Source, uncertainty: Source, origin: Source) -> Check:
    """Compute some patches again as blocks of their own and compare with the published bytes."""
    if not plan.blocks:
        return Check(name="recomputed", held=True, detail="no holes, nothing to compute")
    workspace = open_workspace(plan.workdir, plan.digest)
    image = workspace.image
    different = compared = 0
    with threadpool_limits(limits=1):
        one_thread(plan)
        for box in _sample_boxes(workspace):
            pixels = image.read(plan.read_box(box))
            layers = composite(plan, image.source.read(box), pixels.states_of(box), blend(workspace, pixels, box))
            values, code = layers["restored"], layers["origin"]
            if image.source.fixed_channels:
                values = opaque_where_filled(values, is_filled(code), image.source)
            different += int((_bits(values) != _bits(restored.read(box))).sum())
            different += int((to_published(code, plan, NEVER_TOUCHED) != origin.read(box)).sum())
            sigma = to_published(as_published(layers["uncertainty"], plan, image.source), plan, np.nan)
            different += int((_bits(sigma) != _bits(uncertainty.read(box))).sum())
            compared += box.size
    return Check(
        name="recomputed",
        held=different == 0,
        detail=f"{different} values differ in {compared} recomputed pixels",
    )


def _sample_boxes(workspace: Workspace) -> Iterator[Box]:
    """Windows of half a patch in blocks spread over the plan; never the run's own blocks."""
    plan = workspace.plan
    size = tuple(max(1, p // 2) for p in plan.lattice.patch)
    step = max(1, len(plan.blocks) // _RECOMPUTED)
    for block in range(0, len(plan.blocks), step)[:_RECOMPUTED]:
        for box in plan.block_box(block).tiles(size):
            if workspace.image.holes(box).any():
                yield box
                break


def _hashes(folder: Path, record: dict[str, Any]) -> Check:
    missing, other = changed(folder, record)
    wrong = [*(f"{name} is missing" for name in missing), *(f"{name} was changed" for name in other)]
    return Check(name="files", held=not wrong, detail="; ".join(wrong) or f"{_compared(record)} hashes match")


def _compared(record: dict[str, Any]) -> int:
    return sum(output["role"] not in LOOKS for output in record["outputs"])


def _windows(plan: Plan) -> list[Box]:
    return list(Box.whole(plan.space.shape).tiles(_WINDOW[plan.ndim]))


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Values as unsigned integers of the same width, so that NaN payloads and negative zeros count."""
    native = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="), copy=False)
    return native.view(f"u{native.dtype.itemsize}")
