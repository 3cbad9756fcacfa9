"""Images that lie in object storage are copied to this machine before anything is opened, with what belongs to them.

A copy lies in a folder that is named after the server's marks of its content: it never changes, and an object that was
changed is another copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.config.batch import SourceSpec
from pipeline.config.placeholders import PathResolver
from pipeline.errors import SourceError
from pipeline.formats._complete import SIDECARS
from pipeline.system.objects import PARALLEL, Address, Bucket, Found, is_object
from pipeline.system.threads import each, threaded


def with_copies(spec: SourceSpec, into: Path) -> SourceSpec:
    """Return the spec of an image whose files, masks and guides are all on this machine.

    Args:
        spec: as the config says it.
        into: folder of the copies; nothing is made there if nothing lies elsewhere.

    Raises:
        SourceError: there is no such object, or it may not be read.
        Unreachable: the server does not answer.
        OSError: no space for the copy.
    """
    paths = {path: copied(path, into) for path in spec.paths}
    return replace(
        spec,
        paths=tuple(paths.values()),
        sha256={paths[path]: expected for path, expected in spec.sha256.items()},
        resolve=_Copying(
            base=spec.resolve.base,
            stem=spec.resolve.stem,
            folder=spec.resolve.folder,
            files_only=spec.resolve.files_only,
            into=into,
        ),
        references=tuple(with_copies(one, into) for one in spec.references),
        auxiliary=tuple(with_copies(one, into) for one in spec.auxiliary),
    )


def copied(path: str, into: Path) -> str:
    """Return the path of a copy of what lies at an address in object storage; any other path comes back as it is.

    Raises:
        SourceError, Unreachable, OSError: as `with_copies`.
    """
    if not is_object(path):
        return path
    address = Address.of(path, "input")
    bucket = Bucket(name=address.bucket, where=str(address), refusal=SourceError)
    found = {key: facts for key, facts in bucket.listed(address.key).items() if _belongs(key, address.key)}
    if not any(key == address.key or key.startswith(f"{address.key}/") for key in found):
        raise SourceError(f"{address}: no such object; check the address")
    home = into / _mark(found) / address.bucket

    def fetch(key: str) -> None:
        target = home / key
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            bucket.download(key, target)

    with threaded(PARALLEL):
        each(fetch, sorted(found))
    return str(home / address.key)


def matching(pattern: str) -> list[str]:
    """Return the addresses that match one with wildcards in its key, sorted; `*` stays within one name.

    Raises:
        SourceError, Unreachable: as `with_copies`.
    """
    address = Address.of(pattern, "input")
    fixed = address.key.partition("*")[0].partition("?")[0].partition("[")[0]
    found = Bucket(name=address.bucket, where=str(address), refusal=SourceError).listed(fixed)
    wanted = address.key.split("/")
    return [str(Address(address.bucket, key)) for key in sorted(found) if _matches(key.split("/"), wanted)]


def _matches(names: list[str], patterns: list[str]) -> bool:
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


def _belongs(key: str, image: str) -> bool:
    """Return True for an image itself, what is read with it, and what lies in it if it is a folder."""
    inside = key.startswith(f"{image}/") and not key.endswith("/") and ".." not in key.split("/")
    return key == image or inside or key in {image + suffix for suffix in SIDECARS}


def _mark(found: Mapping[str, Found]) -> str:
    return hashlib.sha256(repr(sorted((key, f.size, f.etag) for key, f in found.items())).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copying(PathResolver):
    """Gives the copies of paths that lie in object storage; `absolute` still gives their addresses."""

    into: Path

    def __call__(self, text: str) -> str:
        """Return an absolute path of this machine."""
        return copied(PathResolver.__call__(self, text), self.into)
