"""What may leave the machine: paths without the folders that they lie in, addresses without what opens them.

The names of folders may be those of patients. So in record.json, run.json and report.html a file that lies below the
folder of the config is named relative to the file that names it, and any other by its last name alone; the config's own
paths are relative to the config, as in the config. `output.paths: absolute` leaves them as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.batch import SourceSpec
from pipeline.config.schema import RunConfig
from pipeline.errors import ConfigError
from pipeline.formats._archive import ZIP
from pipeline.orders import Order
from pipeline.plan.workdir import fetched_from
from pipeline.system.paths import at_home, is_address
from pipeline.system.redact import redacted, redacted_facts

_PATH_KEYS = {"source", "path", "references", "auxiliary", "weights", "directory", "bids", "scratch"}
_ABSOLUTE = re.compile(r"(?<![\w:/.~*>-])/[^\s'\",;:()<>]+")
"""A path in a sentence; it ends at the first space, so those that are known are looked for before."""
_FOLDER = "(folder)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Says how paths and addresses appear in a file that may leave the machine."""

    folder: Path
    """Where that file lies, absolute."""
    base: Path
    """Folder of the config, absolute; what lies below it may be named with its folders."""
    absolute: bool = False
    """Leave paths as they are."""
    known: tuple[str, ...] = ()
    """Absolute paths that texts may speak of; found there even with spaces in them."""

    def path(self, text: str) -> str:
        """Return a path or URL as it appears in facts, relative to `folder` where it may be."""
        return self._shown(text, self.folder)

    def config(self, value: Any, key: str = "") -> Any:
        """Return JSON values of a config, its paths relative to `base` where they may be."""
        if isinstance(value, Mapping):
            return {name: self.config(item, str(name)) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.config(item, key) for item in value]
        if not isinstance(value, str):
            return value
        outside = value.startswith(("/", "~")) or os.path.normpath(value).split("/")[0] == ".."
        if key not in _PATH_KEYS or not outside:
            return redacted(value)
        if is_address(value):
            return self._shown(value, self.base)
        return self._shown(os.path.normpath(self.base / at_home(value)), self.base)

    def text(self, text: str) -> str:
        """Return a sentence with its paths and addresses as `path` gives them."""
        text = redacted(text)
        if self.absolute:
            return text
        for path in sorted({path for path in self.known if path.startswith("/")}, key=len, reverse=True):
            text = re.sub(re.escape(path) + r"(?![\w/-])", lambda found: self.path(found[0]), text)
        for folder in sorted({str(up) for path in self.known for up in Path(path).parents}, key=len, reverse=True):
            if folder.startswith("/") and folder != "/" and not self._may_name(folder):
                text = re.sub(re.escape(folder) + r"(?:/|(?![\w-]))", _without_folder, text)
        return _ABSOLUTE.sub(lambda found: self.path(found[0]), text)

    def _shown(self, text: str, start: Path) -> str:
        text = fetched_from(text) or text
        if text.startswith(ZIP):
            return ZIP + self._shown(text.removeprefix(ZIP), start)
        if self.absolute or not text.startswith("/") or text.startswith("/vsi"):
            return redacted(text)
        if self._may_name(text) and self._may_name(str(start)):
            return os.path.relpath(text, start)
        return Path(text).name

    def _may_name(self, path: str) -> bool:
        """Return True for `base` and what is below it, unless that is the root, the home folder or above it."""
        home = Path(at_home("~"))
        private = {Path("/"), home, *home.parents}
        return self.base not in private and Path(path).is_relative_to(self.base)


def _without_folder(found: re.Match[str]) -> str:
    return "" if found[0].endswith("/") else _FOLDER


def published_record(record: Mapping[str, Any], order: Order) -> dict[str, Any]:
    """Return a record as it may leave the machine; it lies in the folder of the results."""
    known = tuple(str(path) for path in order.reads)
    publisher = _publisher(order.config, order.folder, order.base, known)
    changed = {
        "inputs": _files(record["inputs"], publisher),
        "masks": [
            {"entry": publisher.config(mask["entry"]), "files": _files(mask["files"], publisher)}
            for mask in record["masks"]
        ],
        "references": [
            reference | {"paths": [publisher.path(path) for path in reference["paths"]]}
            for reference in record["references"]
        ],
        "config": publisher.config(record["config"]),
        "notices": [publisher.text(notice) for notice in record["notices"]],
    }
    published: dict[str, Any] = redacted_facts({**record, **changed})
    return published


def published_texts(texts: Iterable[str], order: Order, folder: Path) -> list[str]:
    """Return sentences about the files of an order as they may leave the machine in a file that lies in `folder`."""
    publisher = _publisher(order.config, folder, order.base, tuple(str(path) for path in order.reads))
    return [publisher.text(text) for text in texts]


def published_summary(summary: Mapping[str, Any], config: RunConfig, specs: Sequence[SourceSpec]) -> dict[str, Any]:
    """Return the content of run.json as it may leave the machine; it lies in the folder of the run."""
    base = config.path.parent if config.path else Path.cwd()
    folder = config.folder
    known = [*_paths_of(specs), *(str(folder / spec.stem) for spec in specs), str(config.path or base), str(folder)]
    publisher = _publisher(summary["config"], folder, base, tuple(known))
    said = {
        key: [row | {"error": publisher.text(row["error"])} if "error" in row else row for row in summary[key]]
        for key in ("sources", "cubes")
        if key in summary
    }
    return {**summary, **said, "config": publisher.config(summary["config"])}


def _publisher(config: Mapping[str, Any], folder: Path, base: Path, known: tuple[str, ...]) -> Publisher:
    output, compute, model = (config.get(name) or {} for name in ("output", "compute", "model"))
    places = (output.get("directory"), output.get("bids"), compute.get("scratch"), model.get("weights"))
    return Publisher(
        folder=folder,
        base=base,
        absolute=output.get("paths") == "absolute",
        known=(*known, *(str(place) for place in places if place)),
    )


def _files(facts: Iterable[Mapping[str, Any]], publisher: Publisher) -> list[dict[str, Any]]:
    shown = []
    for fact in facts:
        belonging = {"files": _files(fact["files"], publisher)} if "files" in fact else {}
        shown.append({**fact, "path": publisher.path(str(fact["path"])), **belonging})
    return shown


def _paths_of(specs: Iterable[SourceSpec]) -> Iterable[str]:
    for spec in specs:
        yield from spec.paths
        for entry in spec.mask:
            # a path that cannot be made is nowhere to be found
            with suppress(ConfigError):
                yield from entry.resolved(spec.resolve.absolute).reads()
        yield from _paths_of((*spec.references, *spec.auxiliary))
