"""Who may write to the folder of an image: refused, locked, found finished, or claimed for a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.config.batch import SourceSpec
from pipeline.errors import IntegrityError, OutputConflict, PipelineError
from pipeline.orders import Order
from pipeline.output.publication import finish_publication
from pipeline.output.results import RENDERINGS, REPORTS, changed, output_names, own_names, read_record
from pipeline.plan.workdir import WorkFolder, working
from pipeline.system.files import remove_made, write_text
from pipeline.system.lock import NoLocks, joined, locked, numbers_made_up
from pipeline.system.room import what_to_do

_OVERWRITE = "overwrite"
_Does = Callable[[], None]


@contextmanager
def claimed(order: Order, *, overwrite: bool) -> Iterator[dict[str, Any] | None]:
    """Hold the folders of an image for a run; gives the record if an earlier run has finished it, else None.

    What an earlier run published stays as it is until the new results are complete and checked.

    Raises:
        OutputConflict: the folder holds other results, a run with another config, or what the run reads; it is in use,
            or cannot be written.
    """
    _refuse_to_replace_inputs(order)
    _make(order)
    try:
        with _held_beside(order, locked), locked(order.work.lock):
            with suppress(IntegrityError):
                # a damaged note: the run is made again, and nothing that lies aside is touched
                finish_publication(order)
            finished = _owned(order, overwrite=overwrite)
            if finished is None:
                _begin(order, overwrite=overwrite)
            yield finished
            if not order.work.plan.exists():
                _clear_unfinished(order)
    finally:
        _drop_empty(order)


@contextmanager
def shared(
    order: Order, prepare: _Does, prepared: Callable[[], bool], wait: _Does, *, overwrite: bool
) -> Iterator[dict[str, Any] | None]:
    """Hold the folders of an image together with other shares of the same run; as `claimed`, but nothing is published.

    Args:
        order: the image.
        prepare: makes all that the shares need, called by the first of them alone.
        prepared: says whether it is there.
        wait: called now and then while another process has the folders for itself; may raise to give up.
        overwrite: results of another request may be replaced.

    Raises:
        OutputConflict: as `claimed`; or another run works here with another config or input.
    """
    _refuse_to_replace_inputs(order)
    _make(order)
    finished: dict[str, Any] | None = None

    def begin() -> None:
        nonlocal finished
        with suppress(IntegrityError):
            finish_publication(order)
        # a share never drops what the others have done
        foreign = request_of(order.work)[0] != order.request
        finished = _owned(order, overwrite=overwrite and foreign)
        if finished is None:
            if foreign:
                _begin(order, overwrite=overwrite)
            prepare()

    def begun() -> bool:
        return finished is not None or (request_of(order.work)[0] == order.request and prepared())

    def together(path: Path) -> AbstractContextManager[None]:
        return joined(path, lambda: None, lambda: True, wait)

    try:
        with _held_beside(order, together), joined(order.work.lock, begin, begun, wait):
            yield finished
    finally:
        _drop_empty(order)


@contextmanager
def _held_beside(order: Order, hold: Callable[[Path], AbstractContextManager[None]]) -> Iterator[None]:
    """Hold the output, too, if the run works in a scratch folder: another run may have a scratch folder of its own.

    Where the file system of the output has no locks nobody is kept out.
    """
    with ExitStack() as stack:
        if order.beside != order.work:
            try:
                stack.enter_context(hold(order.beside.lock))
            except NoLocks:
                order.beside.lock.unlink(missing_ok=True)
        yield


@contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """Keep runs from replacing the results in `folder` while something is written there.

    Where no lock can be made beside it (a folder of results that was moved, a weak file system) nobody is kept out.

    Raises:
        OutputConflict: a run works for these results.
    """
    work = WorkFolder.running(folder.resolve().parent, folder.resolve().name)
    with ExitStack() as stack:
        if os.access(folder.resolve().parent, os.W_OK):
            stack.callback(_drop_if_empty, work)
            try:
                stack.enter_context(locked(work.lock, what=str(folder)))
            except NoLocks:
                work.lock.unlink(missing_ok=True)
        yield


def _make(order: Order) -> None:
    for work in (order.beside, order.work):
        if work.path.is_symlink():
            # what is removed in a work folder would be removed where the link leads
            raise OutputConflict(f"{work.path} is a link; remove it, or choose another {_key(order, work)}")
        try:
            work.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            todo = what_to_do(work.path, error, f"choose another {_key(order, work)}")
            where = order.folder if work == order.beside else work.path
            raise OutputConflict(f"{where}: cannot write ({error.strerror or error}); {todo}") from error
        if not os.path.samestat(work.path.stat(), work.path.stat()):
            raise OutputConflict(numbers_made_up(work.path))


def _key(order: Order, work: WorkFolder) -> str:
    """Return the key of the config that says where a work folder lies, with what helps where several users share it."""
    return "output.directory" if work == order.beside else "compute.scratch, one of your own for these results"


def _owned(order: Order, *, overwrite: bool) -> dict[str, Any] | None:
    """Return the record of a finished run of the same request; refuse what may not be replaced."""
    folder = order.folder
    known, permitted = request_of(order.work)
    # an overwriting run that was ended goes on without being told again
    may_replace = overwrite or (permitted and known == order.request)
    if folder.is_symlink() or folder.is_file():
        raise OutputConflict(f"{folder} is no folder of its own; remove it, or choose another output.directory")
    for path in (order.beside.exchange, order.beside.aside):
        if path.exists():
            raise OutputConflict(
                f"{path} was left by a run that was ended while it published, and its note is damaged; look at what it "
                "holds, move it away and run again"
            )
    record = read_record(folder)
    ours = own_names(folder, order.stem)
    others = {path.name for path in folder.iterdir()} - ours if folder.is_dir() else set()
    clash = sorted(others & output_names(order))
    if clash:
        raise OutputConflict(f"{folder / clash[0]} was not written by this program; move it away")
    request = record["request"] if record else request_of(WorkFolder.of(folder))[0]
    same = request == order.request
    if not may_replace and ((ours or others) and not (same or ours == {WorkFolder.NAME})):
        what = "results of another config, input or version of this program" if ours else "files of something else"
        raise OutputConflict(f"{folder} holds {what}; use --overwrite to replace it, or another output.directory")
    if not overwrite and order.work.plan.exists() and known != order.request:
        raise OutputConflict(
            f"{order.work.path} holds a run of another config, input or version of this program that is not finished; "
            f"use --overwrite to drop it, or another {_key(order, order.work)}"
        )
    if not overwrite:
        _require_none_elsewhere(order)
    if not same or may_replace or record is None:
        return None
    missing, other = changed(folder, record)
    if other:
        # a `report` that was ended has written some of its files, and not yet what the record says of them
        drawn = all(name in (*REPORTS, *RENDERINGS) for name in other)
        again = f"`inpaint-pipeline report {folder}` makes it again" if drawn else "use --overwrite to make it again"
        raise OutputConflict(
            f"{folder / other[0]} is not what was written (size and hash are other than in record.json); {again}"
        )
    return None if missing else record


def _require_none_elsewhere(order: Order) -> None:
    """Refuse to begin anew while what another run of the image has computed lies in another folder.

    Raises:
        OutputConflict: names that folder, and how to go on from it.
    """
    for work in (order.beside, working(order.beside)):
        if work != order.work and work.plan.exists():
            place = work.path.parent.parent
            how = "without compute.scratch" if work == order.beside else f"with compute.scratch: {place}"
            raise OutputConflict(
                f"{work.path} holds a run of this image that is not finished; run it {how} to go on from there, or use "
                f"--overwrite to drop it and begin anew in {order.work.path.parent.parent}"
            )


def _drop_elsewhere(order: Order) -> None:
    """Remove what an unfinished run left in a scratch folder that is not that of this one.

    Raises:
        OutputConflict: that run still works there.
    """
    work = working(order.beside)
    if work not in (order.work, order.beside) and work.path.is_dir():
        with locked(work.lock):
            for path in (*work.own, work.fetched, work.lease):
                remove_made(path)
        _drop_if_empty(work)


def _begin(order: Order, *, overwrite: bool) -> None:
    """Make the work folder that of this request; what another one left there is removed.

    Raises:
        OutputConflict: it, or the folder that the results will replace, cannot be written.
    """
    if order.folder.is_dir() and not os.access(order.folder, os.W_OK | os.X_OK):
        raise OutputConflict(
            f"{order.folder}: no permission to replace what is in it; ask its owner, or choose another output.directory"
        )
    known, permitted = request_of(order.work)
    if overwrite or known != order.request:
        _drop_elsewhere(order)
        _clear(order)
    lines = [order.request, *([_OVERWRITE] if overwrite or (permitted and known == order.request) else [])]
    try:
        write_text(order.work.request, "\n".join(lines) + "\n")
        if order.beside != order.work:
            write_text(order.beside.elsewhere, f"{order.work.path}\n")
    except OSError as error:
        raise OutputConflict(
            f"{order.work.path}: cannot write ({error.strerror or error}); "
            + what_to_do(order.work.path, error, "choose another output.directory")
        ) from error


def permitted(order: Order) -> bool:
    """Return True if a run of this very request that is not finished was told to overwrite."""
    return (order.request, True) in (request_of(order.work), request_of(WorkFolder.of(order.folder)))


def request_of(work: WorkFolder) -> tuple[str, bool]:
    """Return the request that a work folder belongs to, and whether its run was told to overwrite."""
    try:
        known, *more = work.request.read_text().split() or [""]
    except (OSError, ValueError):
        return "", False
    return known, _OVERWRITE in more


def _clear(order: Order) -> None:
    for work in {order.work, order.beside}:
        for path in work.own:
            remove_made(path)


def _clear_unfinished(order: Order) -> None:
    """Drop what only an unfinished run needs."""
    _clear(order)
    for path in (order.work.fetched, order.work.lease):
        remove_made(path)
    for work in {order.work, order.beside}:
        for path in work.path.glob(".*.partial"):
            remove_made(path)


def _drop_empty(order: Order) -> None:
    """Remove the work folders if nothing is left in them."""
    for work in {order.work, order.beside}:
        _drop_if_empty(work)


def _drop_if_empty(work: WorkFolder) -> None:
    with suppress(OSError):
        work.path.rmdir()
        work.path.parent.rmdir()


def _refuse_to_replace_inputs(order: Order) -> None:
    """Refuse results in a folder that the run reads from, whichever of its names the config uses.

    Raises:
        OutputConflict: names the file.
    """
    here = Path(os.path.realpath(order.folder))
    for path in order.reads:
        if Path(os.path.realpath(path)).is_relative_to(here):
            raise OutputConflict(
                f"{order.folder} is where the results would go, but {path} lies there, which the run reads; "
                "choose another output.directory"
            )


def require_apart(folder: Path, specs: Sequence[SourceSpec]) -> None:
    """Refuse a batch of which an image reads the results of another: what it reads would depend on their order.

    Args:
        folder: of all results.
        specs: the images of the batch.

    Raises:
        OutputConflict: names the image and the file.
    """
    homes = {os.path.realpath(folder / spec.stem): spec.stem for spec in specs}
    for spec in specs if len(specs) > 1 else ():
        for path in _named(spec):
            stems = {homes[str(one)] for one in Path(os.path.realpath(path)).parents if str(one) in homes}
            if stems - {spec.stem}:
                raise OutputConflict(
                    f"{spec.stem} reads {path}, a result of {stems.pop()}, which the same run restores; restore one "
                    "after the other, with a config each"
                )


def _named(spec: SourceSpec) -> Iterator[str]:
    """Yield the files that an image, its guides and their masks name; what cannot be said fails in its turn."""
    for one in (spec, *spec.references, *spec.auxiliary):
        yield from one.paths
        with suppress(PipelineError):
            for entry in one.mask:
                yield from entry.resolved(one.resolve).reads()
