"""Objects under one name at an address, of which one, the head, is there exactly while all that it speaks of is.

There is no renaming there, only objects that are replaced one by one. So all of them are first sent to names of their
own and read back; a note then says so, and from here on there is no way back, as in `publication`: whichever run finds
the note brings it to its end::

    note -> the old head is removed -> objects are copied, by the server, to their names -> list of them -> new head
         -> objects that only the old ones had are removed, by name

What lies in the work folder of a name, `<directory>/.work/<name>`::

    lock                held by the run that works for it
    new/...             objects on their way
    publishing.json     the note
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, Unreachable
from pipeline.plan.workdir import WorkFolder
from pipeline.system.facts import file_facts
from pipeline.system.lease import Lease
from pipeline.system.objects import PARALLEL, Address, Bucket, Found
from pipeline.system.threads import each, threaded

WHERE = "output.directory"
LIST = "objects.json"
"""List of what was sent: sizes, hashes, and the server's marks, by which a change is seen later."""
Objects = dict[str, dict[str, Any]]
"""Name below the bundle -> `bytes`, `sha256`, and once it is published `etag`."""


def bucket_of(address: Address) -> Bucket:
    """Return the bucket that results go to."""
    return Bucket(name=address.bucket, where=WHERE, refusal=ConfigError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What is sent to an address as one.

    Every method raises `ConfigError` if there is no such bucket, or no permission to write there, and `Unreachable` if
    the server does not answer.

    Attributes:
        home: the address of all results.
        name: of the bundle in it.
        head: name in the bundle of what a reader looks at first.
        listed: where the list of what was sent lies.
    """

    home: Address
    name: str
    head: str
    listed: Address

    @property
    def bucket(self) -> Bucket:
        """Where it lies."""
        return bucket_of(self.home)

    @property
    def place(self) -> Address:
        """Where its objects lie."""
        return self.home / self.name

    @property
    def work(self) -> Address:
        """Where runs work for it."""
        return self.work_of(self.home, self.name)

    @staticmethod
    def work_of(home: Address, name: str) -> Address:
        """Return where runs work for what has this name."""
        return home / WorkFolder.NAME / name

    def found(self) -> dict[str, Found]:
        """Return the objects that are there, by name."""
        prefix = f"{self.place.key}/"
        return {key.removeprefix(prefix): facts for key, facts in self.bucket.listed(prefix).items()}

    def sent(self) -> Objects:
        """Return what was sent, the head left out; empty if nothing was, or nobody knows."""
        return dict((self.json_of(self.listed) or {}).get("objects", {}))

    def missing_and_changed(self, sent: Objects, found: Mapping[str, Found]) -> tuple[list[str], list[str]]:
        """Return the names of what was sent that are gone, and of what is not as it was sent."""
        changed = [
            name
            for name, facts in sent.items()
            if (there := found.get(name)) and (there.size, there.etag) != (facts["bytes"], facts["etag"])
        ]
        return [name for name in sent if name not in found], changed

    def publish(self, local: Mapping[str, Path], mark: str, lease: Lease, replaces: Collection[str] = ()) -> None:
        """Send files and give them their names.

        Args:
            local: file by name in the bundle; the head is one of them.
            mark: what they were made of: another run's objects on their way have other names.
            lease: the lock, which this run must still hold.
            replaces: names of objects that go, beside those that were sent before.

        Raises:
            OutputConflict: another run has taken this one for dead.
        """
        new = self.work / "new" / mark
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
        gone = sorted({*self.sent(), *replaces} - set(objects))
        note = {"objects": objects, "replaces": gone, "new": new.key}
        self.bucket.write(self._note.key, json.dumps(note).encode())
        self.finish()

    def finish(self) -> None:
        """Bring a publication to its end that was begun, by this run or by one that was killed."""
        note = self.json_of(self._note)
        if note is None:
            return
        new = Address(self.home.bucket, note["new"])
        objects: Objects = note["objects"]
        if not set(objects) <= set(self._below(new)):
            # removed by somebody since: the results are made again
            self.bucket.remove(self._note.key)
            return
        head = self.place / self.head
        self.bucket.remove(head.key)
        with threaded(PARALLEL):
            each(
                lambda name: self.bucket.copy((new / name).key, (self.place / name).key),
                sorted(set(objects) - {self.head}),
            )
            self._list(objects)
            self.bucket.copy((new / self.head).key, head.key)
            each(lambda name: self.bucket.remove((self.place / name).key), note["replaces"])
        # before what it speaks of: a run that finds it needs all of that
        self.bucket.remove(self._note.key)

    def begun(self) -> bool:
        """Return True if a publication was begun and not brought to its end."""
        return self.json_of(self._note) is not None

    def tidy(self) -> None:
        """Remove what runs have sent that is no longer needed, also those that were killed."""
        new = self.work / "new"
        with threaded(PARALLEL):
            each(lambda name: self.bucket.remove((new / name).key), sorted(self._below(new)))

    def json_of(self, address: Address) -> dict[str, Any] | None:
        """Return the object in a JSON file; None if there is none, or none that can be read."""
        found = self.bucket.read(address.key)
        if found is None:
            return None
        try:
            facts = json.loads(found.data)
        except ValueError:
            return None
        return facts if isinstance(facts, dict) else None

    def _list(self, objects: Objects) -> None:
        """Write the list of what was sent, with the marks that the server gave to the copies."""
        found = self.found()
        for name, facts in objects.items():
            if name == self.head:
                continue
            there = found.get(name)
            if there is None or there.size != facts["bytes"]:
                raise Unreachable(f"{self.place / name}: the server has not copied all of it; run again")
            facts["etag"] = there.etag
        sent = {name: facts for name, facts in objects.items() if name != self.head}
        said = {"objects": sent, "head": objects[self.head]}
        self.bucket.write(self.listed.key, json.dumps(said, indent=1).encode())

    def _below(self, folder: Address) -> Mapping[str, int]:
        """Return the sizes of what lies below an address, by name."""
        prefix = f"{folder.key}/"
        return {key.removeprefix(prefix): facts.size for key, facts in self.bucket.listed(prefix).items()}

    @property
    def _note(self) -> Address:
        return self.work / "publishing.json"
