"""The results of an image in object storage: made in a folder of this machine, complete and checked, then sent.

A record is there exactly while all that it speaks of is: it is the head of the bundle that is sent (see `sending`).
What lies below an address `<directory>`::

    <stem>/...                  the results, as in a folder, but without what `verify` needs to compute pixels again
    <stem>/.work/objects.json   what was sent
    .work/<stem>/               while a run works for it
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.blocks.events import Events
from pipeline.config.names import RECORD
from pipeline.errors import OutputConflict
from pipeline.orders import Order
from pipeline.output.folder import permitted
from pipeline.output.results import output_names, own_names
from pipeline.output.sending import LIST, WHERE, Bundle, bucket_of
from pipeline.plan.workdir import WorkFolder
from pipeline.system.files import remove_made
from pipeline.system.lease import leased
from pipeline.system.objects import Address

_LISTED = f"{WorkFolder.NAME}/{LIST}"


def make_and_deliver(
    order: Order, make: Callable[[], dict[str, Any]], events: Events, *, overwrite: bool
) -> dict[str, Any]:
    """Make the results of an image and send them to its address; the record of those that are there already.

    What was there stays until the new results are complete and checked, there, too. The copies in `order.folder` go
    when all is done; until then a rerun goes on with them.

    Args:
        order: the image; its folders on this machine are held by the caller.
        make: makes the results in `order.folder` and returns their record.
        events: hears of progress.
        overwrite: results of another config or input may be replaced.

    Raises:
        OutputConflict: another run holds the address, or other results or files of something else are there.
        ConfigError: there is no such bucket, or no permission to write there.
        Unreachable: the server does not answer; run again.
    """
    bundle = _bundle(order)
    with leased(bundle.bucket, bundle.work / "lock", order.work.lease) as lease:
        bundle.finish()
        record = _owned(bundle, order, overwrite=overwrite or permitted(order))
        if record is None:
            record = make()
            events.stage(order.stem, "upload")
            bundle.publish(_files(order), order.request[:16], lease)
        else:
            events.already_done(order.stem)
        bundle.tidy()
    for name in own_names(order.folder, order.stem):
        remove_made(order.folder / name)
    with suppress(OSError):
        order.folder.rmdir()
    return record


def delivered_before(order: Order, *, overwrite: bool = False) -> dict[str, Any] | None:
    """Return the record of results of this very order that are complete at their address, else None.

    Raises:
        OutputConflict, ConfigError, Unreachable: as `make_and_deliver`.
    """
    if not order.address or (bundle := _bundle(order)).begun():
        return None
    return _owned(bundle, order, overwrite=overwrite or permitted(order))


def send_summary(address: str, path: Path, *, ours: Callable[[bytes], bool]) -> None:
    """Send `run.json` to the address of the results, in the place of one that a run has written.

    Args:
        address: of the results.
        path: of the file.
        ours: says whether an object that has its name may be replaced, by its content.

    Raises:
        OutputConflict: it may not.
    """
    place = Address.of(address, WHERE) / path.name
    bucket = bucket_of(place)
    there = bucket.read(place.key)
    if there is not None and not ours(there.data):
        raise OutputConflict(f"{place} was not written by this program, or is damaged; move it away and run again")
    bucket.write(place.key, path.read_bytes())


def _bundle(order: Order) -> Bundle:
    home = Address.of(order.address, WHERE)
    place = home / order.stem
    for path in order.reads:
        if path.startswith(f"{place}/"):
            raise OutputConflict(
                f"{place} is where the results would go, but {path} lies there, which the run reads; choose "
                "another output.directory"
            )
    return Bundle(home=home, name=order.stem, head=RECORD, listed=place / _LISTED)


def _owned(bundle: Bundle, order: Order, *, overwrite: bool) -> dict[str, Any] | None:
    """Return the record of a finished run of the same request; refuse what may not be replaced."""
    found, sent = bundle.found(), bundle.sent()
    record = bundle.json_of(bundle.place / RECORD)
    ours = {*sent, RECORD, _LISTED} if sent else set()
    others = {name for name in found if name not in ours}
    names = output_names(order) | {WorkFolder.NAME}
    if clash := sorted(name for name in others if name.split("/")[0] in names):
        raise OutputConflict(f"{bundle.place / clash[0]} was not written by this program; move it away")
    same = record is not None and record.get("request") == order.request
    if found and not same and not overwrite:
        what = "results of another config, input or version of this program" if ours else "files of something else"
        raise OutputConflict(f"{bundle.place} holds {what}; use --overwrite to replace it, or another output.directory")
    if not same or overwrite:
        return None
    missing, changed = bundle.missing_and_changed(sent, found)
    if changed:
        raise OutputConflict(
            f"{bundle.place / changed[0]} was changed since it was written; use --overwrite to make it again"
        )
    return None if missing else record


def _files(order: Order) -> dict[str, Path]:
    # what `verify` would need names folders of this machine
    roots = [order.folder / name for name in own_names(order.folder, order.stem) - {WorkFolder.NAME}]
    files = [path for root in roots for path in ((root, *root.rglob("*")) if root.is_dir() else (root,))]
    return {path.relative_to(order.folder).as_posix(): path for path in files if path.is_file()}
