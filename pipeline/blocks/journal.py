"""What is committed: a folder with one append-only file per worker, a line per block, written after its bytes are safe.

Completion is never inferred from files that happen to exist. A line ends with a checksum of its own: one that is torn
or damaged is ignored, and so is one of another plan. Order of a commit: objects written and fsynced -> line appended
and fsynced.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat

from pipeline.errors import IntegrityError
from pipeline.system.files import remove_made, sync
from pipeline.system.meter import Uses, add

_SEAL = re.compile(rb', "crc32": "(?P<sum>[0-9a-f]{8})"\}\n?')
"""How a line ends: with the checksum of what stands before it. With a digit changed it would be JSON all the same."""
_SEALED = len(', "crc32": "00000000"}')

_WHOSE = re.compile(rb'\{"block": (?P<block>\d{1,18}), .*"plan": "(?P<plan>[0-9a-f]*)"')
"""What the quick look reads of a line: a tenth of the time of reading it as JSON."""


_Count = Annotated[int, Field(ge=0, strict=True)]


class _Line(BaseModel):
    """What a line says, see `BlockResult`; its numbers are added up."""

    block: _Count
    plan: str
    patches: _Count
    peak_rss_bytes: _Count
    by_source: dict[Annotated[int, Field(ge=0, le=255)], _Count]
    seconds: dict[str, FiniteFloat]
    sha256: dict[str, str]
    channels_a_pass: _Count | None = None
    work: dict[str, tuple[FiniteFloat, FiniteFloat, FiniteFloat]] = {}


def commit(folder: Path, digest: str, block: int, facts: Mapping[str, Any]) -> None:
    """Append the line that makes block `block` of plan `digest` count as done."""
    folder.mkdir(parents=True, exist_ok=True)
    line = sealed(json.dumps({"block": block, "plan": digest, **facts}, sort_keys=True).encode())
    path = folder / f"{socket.gethostname()}-{os.getpid()}.jsonl"
    created = not path.exists()
    with path.open("ab") as stream:
        # a torn line of an earlier process with this pid must not swallow ours
        stream.write((line if created else b"\n" + line) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if created:
        sync(folder)


@dataclass(slots=True, kw_only=True)
class Totals:
    """What all committed blocks say together."""

    patches: int = 0
    peak_rss_bytes: int = 0
    """Of the largest process."""
    by_source: dict[int, int] = field(default_factory=dict)
    """Pixels by code of the source layer."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage of a block, all processes together."""
    reduced: dict[int, int] = field(default_factory=dict)
    """Blocks by channels that the network took a pass, of those for which a full GPU made them fewer than usual."""
    work: Uses = field(default_factory=dict)
    """What was counted, see `system.meter`."""


class Committed(Mapping[int, dict[str, Any]]):
    """The facts of committed blocks, read from the journal when they are asked for: a million fit a small memory."""

    def __init__(self, files: Sequence[Path], digest: str, blocks: int) -> None:
        """Take up the complete lines of plan `digest`, which has so many blocks; of two for one the later counts."""
        self._files = files
        self._places: dict[int, int] = {}
        for number, path in enumerate(files):
            offset = number << _OFFSET_BITS
            with path.open("rb") as stream:
                for line in stream:
                    facts = _parsed(line)
                    if facts is not None and facts["plan"] == digest and facts["block"] < blocks:
                        self._places[facts["block"]] = offset
                    offset += len(line)

    def __getitem__(self, block: int) -> dict[str, Any]:
        """Return the facts of a block.

        Raises:
            KeyError: it is not committed.
            IntegrityError: its line was changed meanwhile.
        """
        ((_, facts),) = self._read([block])
        return facts

    def __iter__(self) -> Iterator[int]:
        """Return the block numbers."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return how many blocks are committed."""
        return len(self._places)

    def each(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield blocks and their facts in the order of the journal: straight through, holding one at a time.

        Raises:
            IntegrityError: a line was changed meanwhile.
        """
        return self._read(sorted(self._places, key=self._places.__getitem__))

    def totals(self) -> Totals:
        """Return what all blocks say together."""
        result = Totals()
        for _, facts in self.each():
            result.patches += facts["patches"]
            result.peak_rss_bytes = max(result.peak_rss_bytes, facts["peak_rss_bytes"])
            for code, count in facts["by_source"].items():
                result.by_source[int(code)] = result.by_source.get(int(code), 0) + int(count)
            for stage, seconds in facts["seconds"].items():
                result.seconds[stage] = result.seconds.get(stage, 0.0) + seconds
            if channels := facts.get("channels_a_pass"):
                result.reduced[channels] = result.reduced.get(channels, 0) + 1
            add(result.work, facts.get("work", {}))
        return result

    def _read(self, blocks: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        places = ((block, *divmod(self._places[block], 1 << _OFFSET_BITS)) for block in blocks)
        for number, group in groupby(places, key=lambda place: place[1]):
            with self._files[number].open("rb") as stream:
                for block, _, offset in group:
                    stream.seek(offset)
                    facts = _parsed(stream.readline())
                    if facts is None or facts["block"] != block:
                        raise IntegrityError(f"{self._files[number]}: the line of block {block} was changed meanwhile")
                    yield block, facts


_OFFSET_BITS = 48
"""A place in the journal is the number of the file and, in the lower bits, the byte at which the line begins."""


def committed(folder: Path, digest: str, blocks: int = sys.maxsize) -> Committed:
    """Return the facts of every committed block of plan `digest`, which has so many blocks; other lines are skipped."""
    return Committed(_files(folder), digest, blocks)


def numbers(folder: Path, digest: str, blocks: int = sys.maxsize) -> set[int]:
    """Return the numbers of the committed blocks of a plan as `committed` does, in seconds for a million of them.

    What a whole line says is not looked at: one that no block has written shows when its block is read.
    """
    plan, done = digest.encode(), set()
    for path in _files(folder):
        with path.open("rb") as stream:
            for line in stream:
                found = _WHOSE.match(line)
                if found and found["plan"] == plan and int(found["block"]) < blocks and _whole(line):
                    done.add(int(found["block"]))
    return done


def begun_with(folder: Path) -> str | None:
    """Return the digest of the plan that the first whole line of the journal is of; None without any."""
    for path in _files(folder):
        with path.open("rb") as stream:
            for line in stream:
                found = _WHOSE.match(line)
                if found and _whole(line):
                    return found["plan"].decode()
    return None


def of_other_hosts(folder: Path) -> bool:
    """Say whether another machine has written into the journal."""
    own = f"{socket.gethostname()}-"
    return any(not path.name.startswith(own) for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    """Return the files of a journal; a pipe among them would be waited for without end."""
    return sorted(path for path in folder.glob("*.jsonl") if path.is_file())


def sealed(line: bytes) -> bytes:
    """Return a line, a JSON object, with its checksum as the last key."""
    return line[:-1] + b', "crc32": "%08x"}' % zlib.crc32(line[:-1])


def _whole(line: bytes) -> bool:
    """Say whether a line is as it was written: neither torn nor damaged."""
    seal = _SEAL.fullmatch(line, max(0, len(line.rstrip(b"\n")) - _SEALED))
    return seal is not None and zlib.crc32(line[: seal.start()]) == int(seal["sum"], 16)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the facts of a line; None if it is torn, damaged, or none that a block has written."""
    if not _whole(line):
        return None
    try:
        facts: dict[str, Any] = json.loads(line)
        _Line.model_validate(facts)
    except (ValueError, RecursionError):
        # somebody else has written it, checksum and all
        return None
    return facts


def forget(folder: Path) -> None:
    """Drop every line: the blocks they speak of do not exist any more."""
    remove_made(folder)
