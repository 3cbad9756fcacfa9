"""Results in object storage: made in a folder of this machine, complete and checked, then sent.

There is no renaming there, only objects that are replaced one by one. So all objects of an image are first sent to
names of their own and read back; a note then says so, and from here on there is no way back, as in `publication`:
whichever run finds the note brings it to its end::

    note -> the old record is removed -> objects are copied, by the server, to their names -> list of them -> new record
         -> objects that only the old results had are removed, by name

So a record is there exactly while all that it speaks of is. What lies below an address `<directory>`::

    <stem>/...                  the results, as in a folder, but without what `verify` needs to compute pixels again
    <stem>/.work/objects.json   what was sent: sizes, hashes, and the server's marks, by which a change is seen later
    .work/<stem>/lock           held by the run that works for this image
    .work/<stem>/new/...        objects on their way
    .work/<stem>/publishing.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.blocks.events import Events
from pipeline.errors import ConfigError, OutputConflict, Unreachable
from pipeline.orders import Order
from pipeline.output.folder import permitted
from pipeline.output.results import RECORD, output_names, own_names
from pipeline.plan.workdir import WorkFolder
from pipeline.system.facts import file_facts
from pipeline.system.files import remove_made
from pipeline.system.lease import Lease, leased
from pipeline.system.objects import PARALLEL, Address, Bucket
from pipeline.system.threads import each, threaded

_WHERE = "output.directory"
_SENT = f"{WorkFolder.NAME}/objects.json"
_Objects = dict[str, dict[str, Any]]
"""Name below the folder of an image -> `bytes`, `sha256`, and once it is published `etag`."""


def delivered(order: Order, make: Callable[[], dict[str, Any]], events: Events, *, overwrite: bool) -> dict[str, Any]:
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
    remote = _Remote(order)
    with leased(remote.bucket, remote.work / "lock", order.work.lease) as lease:
        remote.finish()
        record = remote.owned(overwrite=overwrite or permitted(order))
        if record is None:
            record = make()
            events.stage(order.stem, "upload")
            remote.publish(order.folder, lease)
        else:
            events.already_done(order.stem)
        remote.tidy()
    for name in own_names(order.folder, order.stem):
        remove_made(order.folder / name)
    with suppress(OSError):
        order.folder.rmdir()
    return record


def delivered_before(order: Order, *, overwrite: bool = False) -> dict[str, Any] | None:
    """Return the record of results of this very order that are complete at their address, else None.

    Raises:
        OutputConflict, ConfigError, Unreachable: as `delivered`.
    """
    if not order.address or (remote := _Remote(order)).begun():
        return None
    return remote.owned(overwrite=overwrite or permitted(order))


def send_summary(address: str, path: Path, *, ours: Callable[[bytes], bool]) -> None:
    """Send `run.json` to the address of the results, in the place of one that a run has written.

    Args:
        address: of the results.
        path: of the file.
        ours: says whether an object that has its name may be replaced, by its content.

    Raises:
        OutputConflict: it may not.
    """
    place = Address.of(address, _WHERE) / path.name
    bucket = _bucket(place)
    there = bucket.read(place.key)
    if there is not None and not ours(there.data):
        raise OutputConflict(f"{place} was not written by this program, or is damaged; move it away and run again")
    bucket.write(place.key, path.read_bytes())


def _bucket(address: Address) -> Bucket:
    return Bucket(name=address.bucket, where=_WHERE, refusal=ConfigError)


class _Remote:
    """What lies at the address of one image's results."""

    def __init__(self, order: Order) -> None:
        home = Address.of(order.address, _WHERE)
        self.order = order
        self.bucket = _bucket(home)
        self.results = home / order.stem
        self.work = home / WorkFolder.NAME / order.stem
        for path in order.reads:
            if path.startswith(f"{self.results}/"):
                raise OutputConflict(
                    f"{self.results} is where the results would go, but {path} lies there, which the run reads; choose "
                    "another output.directory"
                )

    def owned(self, *, overwrite: bool) -> dict[str, Any] | None:
        """Return the record of a finished run of the same request; refuse what may not be replaced."""
        prefix = f"{self.results.key}/"
        found = {key.removeprefix(prefix): facts for key, facts in self.bucket.listed(prefix).items()}
        sent, record = self._sent(), self._json(self.results / RECORD)
        ours = {*sent, RECORD, _SENT} if sent else set()
        others = {name for name in found if name not in ours}
        names = output_names(self.order) | {WorkFolder.NAME}
        if clash := sorted(name for name in others if name.split("/")[0] in names):
            raise OutputConflict(f"{self.results / clash[0]} was not written by this program; move it away")
        same = record is not None and record.get("request") == self.order.request
        if found and not same and not overwrite:
            what = "results of another config or input" if ours else "files of something else"
            raise OutputConflict(
                f"{self.results} holds {what}; use --overwrite to replace it, or another output.directory"
            )
        if not same or overwrite:
            return None
        for name, facts in sent.items():
            there = found.get(name)
            if there is None:
                return None
            if (there.size, there.etag) != (facts["bytes"], facts["etag"]):
                raise OutputConflict(
                    f"{self.results / name} was changed since it was written; use --overwrite to make it again"
                )
        return record

    def publish(self, folder: Path, lease: Lease) -> None:
        """Send the finished results in `folder` and give them their names."""
        # what `verify` would need names folders of this machine
        roots = [folder / name for name in own_names(folder, self.order.stem) - {WorkFolder.NAME}]
        files = [path for root in roots for path in ((root, *root.rglob("*")) if root.is_dir() else (root,))]
        local = {path.relative_to(folder).as_posix(): path for path in files if path.is_file()}
        # a run that was taken for dead may still be sending: another one's objects have other names
        new = self.work / "new" / self.order.request[:16]
        there = self._below(new)

        def send(name: str) -> dict[str, Any]:
            facts, key = file_facts(local[name]), (new / name).key
            # what an interrupted run has sent is looked at, not believed
            if there.get(name) == facts["bytes"] and self.bucket.facts(key) == facts:
                return facts
            self.bucket.upload(local[name], key)
            if (arrived := self.bucket.facts(key)) != facts:
                raise Unreachable(
                    f"{new / name}: {facts} was sent, but {arrived} is there; nothing was published, run again"
                )
            return facts

        names = sorted(local)
        with threaded(PARALLEL):
            objects = dict(zip(names, each(send, names), strict=True))
        lease.renew()
        note = {"objects": objects, "replaces": sorted(set(self._sent()) - set(objects)), "new": new.key}
        self.bucket.write(self._note.key, json.dumps(note).encode())
        self.finish()

    def finish(self) -> None:
        """Bring a publication to its end that was begun, by this run or by one that was killed."""
        note = self._json(self._note)
        if note is None:
            return
        new = Address(self.results.bucket, note["new"])
        objects: _Objects = note["objects"]
        if not set(objects) <= set(self._below(new)):
            # removed by somebody since: the results are made again
            self.bucket.remove(self._note.key)
            return
        record = self.results / RECORD
        self.bucket.remove(record.key)
        with threaded(PARALLEL):
            each(
                lambda name: self.bucket.copy((new / name).key, (self.results / name).key),
                sorted(set(objects) - {RECORD}),
            )
            self._list(objects)
            self.bucket.copy((new / RECORD).key, record.key)
            each(lambda name: self.bucket.remove((self.results / name).key), note["replaces"])
        # before what it speaks of: a run that finds it needs all of that
        self.bucket.remove(self._note.key)

    def begun(self) -> bool:
        """Return True if a publication was begun and not brought to its end."""
        return self._json(self._note) is not None

    def tidy(self) -> None:
        """Remove what runs have sent that is no longer needed, also those that were killed."""
        new = self.work / "new"
        with threaded(PARALLEL):
            each(lambda name: self.bucket.remove((new / name).key), sorted(self._below(new)))

    def _list(self, objects: _Objects) -> None:
        """Write the list of what was sent, with the marks that the server gave to the copies."""
        prefix = f"{self.results.key}/"
        found = self.bucket.listed(prefix)
        for name, facts in objects.items():
            if name == RECORD:
                continue
            there = found.get(prefix + name)
            if there is None or there.size != facts["bytes"]:
                raise Unreachable(f"{self.results / name}: the server has not copied all of it; run again")
            facts["etag"] = there.etag
        sent = {name: facts for name, facts in objects.items() if name != RECORD}
        self.bucket.write((self.results / _SENT).key, json.dumps({"objects": sent}, indent=1).encode())

    def _sent(self) -> _Objects:
        return dict((self._json(self.results / _SENT) or {}).get("objects", {}))

    def _below(self, folder: Address) -> Mapping[str, int]:
        """Return the sizes of what lies below an address, by name."""
        prefix = f"{folder.key}/"
        return {key.removeprefix(prefix): facts.size for key, facts in self.bucket.listed(prefix).items()}

    def _json(self, address: Address) -> dict[str, Any] | None:
        """Return the object in a JSON file; None if there is none, or none that can be read."""
        found = self.bucket.read(address.key)
        if found is None:
            return None
        try:
            facts = json.loads(found.data)
        except ValueError:
            return None
        return facts if isinstance(facts, dict) else None

    @property
    def _note(self) -> Address:
        return self.work / "publishing.json"
