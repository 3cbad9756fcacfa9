"""Where a cube lies: in a folder of this machine, or at an address; who may write there, and how it takes its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.config.names import RECORD
from pipeline.errors import OutputConflict
from pipeline.formats._zarr_cube import METADATA, attributes_in, attributes_of, is_intact, seal_of
from pipeline.output.sending import LIST, WHERE, Bundle
from pipeline.system.facts import file_facts
from pipeline.system.files import remove_made, replace_folder, sync_tree, write_text
from pipeline.system.lease import Lease, leased
from pipeline.system.lock import locked
from pipeline.system.objects import PARALLEL, Address
from pipeline.system.threads import each, threaded


def _foreign(name: str) -> OutputConflict:
    return OutputConflict(f"{name} is no cube of this program; move it away, or choose another output.directory")


class FolderTarget:
    """A folder of this machine: where a cube will lie, beside the results of its dates.

    Every method may raise `OutputConflict`; those of `AddressTarget`, which are called alike and ask a server,
    `Unreachable` and `ConfigError`, too.
    """

    def __init__(self, path: Path, work: Path) -> None:
        self._path, self._work = path, work
        self._aside = work / "aside.zarr"

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self._path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only run that makes it for the duration of the block; what a killed one began has its end first."""
        with locked(self._work / "lock"):
            # what stepped aside has its name again unless another has taken it
            if self._aside.exists() and not self._path.exists():
                self._aside.rename(self._path)
            remove_made(self._aside)
            yield

    def attributes(self) -> dict[str, Any] | None:
        """Return what the cube that is there says of itself; None if there is none.

        Raises:
            OutputConflict: something else has its name.
        """
        if not self._path.exists() and not self._path.is_symlink():
            return None
        found = None if self._path.is_symlink() else attributes_of(self._path)
        if found is None:
            raise _foreign(self.name)
        return found

    def intact(self) -> bool:
        """Return True if the cube that is there is as it was written, by its own hash."""
        return is_intact(self._path)

    def results(self, stem: str) -> Path:
        """Return the folder that has the record of a date: that beside it."""
        return self._path.parent / stem

    def bring(self, stem: str, layers: Iterable[Mapping[str, Any]]) -> None:
        """Have some outputs of a record in that folder: everything is here already."""

    def put(self, building: Path) -> None:
        """Give a finished cube its name: exchange it with what is there in one step, or let that step aside."""
        sync_tree(building)
        replace_folder(self._path, building, self._aside)
        for old in (self._aside, building):
            remove_made(old)


class AddressTarget:
    """An address in object storage: dates are fetched from there, the cube is made here and sent."""

    def __init__(self, address: str, name: str, work: Path) -> None:
        home = Address.of(address, WHERE)
        listed = Bundle.work_of(home, name) / LIST
        self._bundle = Bundle(home=home, name=name, head=METADATA, listed=listed)
        self._work, self._dates, self._lease = work, work / "dates", work / "lease"
        self._held: Lease | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self._bundle.place)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold both locks, and bring a publication that was begun to its end."""
        bundle = self._bundle
        with locked(self._work / "lock"), leased(bundle.bucket, bundle.work / "lock", self._lease) as self._held:
            bundle.finish()
            yield
            bundle.tidy()
        for done in (self._dates, self._lease):
            remove_made(done)

    def attributes(self) -> dict[str, Any] | None:
        """Return what the cube that is there says of itself."""
        if not self._bundle.found():
            return None
        found = attributes_in(self._bundle.json_of(self._bundle.place / METADATA))
        if found is None:
            raise _foreign(self.name)
        return found

    def intact(self) -> bool:
        """Return True if its objects are those that were sent, by the server's marks."""
        bundle = self._bundle
        found, said = bundle.found(), bundle.json_of(bundle.listed) or {}
        sent = said.get("objects", {})
        if set(found) != {*sent, METADATA} or any(bundle.missing_and_changed(sent, found)):
            return False
        return bool(bundle.bucket.facts((bundle.place / METADATA).key) == said.get("head"))

    def results(self, stem: str) -> Path:
        """Fetch the record of a date."""
        folder = self._dates / stem
        folder.mkdir(parents=True, exist_ok=True)
        if found := self._bundle.bucket.read((self._bundle.home / stem / RECORD).key):
            write_text(folder / RECORD, found.data.decode())
        return folder

    def bring(self, stem: str, layers: Iterable[Mapping[str, Any]]) -> None:
        """Fetch outputs, and compare them with the record."""
        folder = self._dates / stem
        for layer in layers:
            path, facts = layer["path"], {"bytes": layer["bytes"], "sha256": layer["sha256"]}
            there = self._bundle.home / stem / path
            # it was written elsewhere since: nothing outside of the folder is read or removed for it
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise OutputConflict(
                    f"{self._bundle.home / stem / RECORD}: names {path}, which is outside of its folder"
                )
            if (folder / path).exists() and file_facts(folder / path) == facts:
                continue
            remove_made(folder / path)
            with threaded(PARALLEL):
                each(self._fetch, [key for key in self._bundle.bucket.listed(there.key) if _belongs(key, there.key)])
            if not (folder / path).exists() or file_facts(folder / path) != facts:
                raise OutputConflict(
                    f"{there} is not what its record says; run again with --overwrite to make it again"
                )

    def _fetch(self, key: str) -> None:
        target = self._dates / key.removeprefix(f"{self._bundle.home.key}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        self._bundle.bucket.download(key, target)

    def put(self, building: Path) -> None:
        """Send it; what is there stays until all of it has arrived."""
        files = {path.relative_to(building).as_posix(): path for path in building.rglob("*") if path.is_file()}
        assert self._held is not None, "only while it is held"
        self._bundle.publish(files, seal_of(building)[:16], self._held, replaces=self._bundle.found())
        remove_made(building)


def _belongs(key: str, path: str) -> bool:
    """Return True for an output, the files in it if it is a folder, and the sidecar of a raster."""
    within = key.startswith(f"{path}/") and ".." not in key.split("/")
    return within or key in (path, f"{path}.aux.xml")


Target: TypeAlias = FolderTarget | AddressTarget
"""Where a cube lies."""
