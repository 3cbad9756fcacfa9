"""What is committed: a folder with one append-only file per worker, a line per block, written after its bytes are safe.

Completion is never inferred from files that happen to exist. A torn last line is ignored; a line of another plan is
refused. Order of a commit: objects written and fsynced -> line appended and fsynced.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.errors import IntegrityError
from pipeline.system.files import remove_made, sync
from pipeline.system.meter import Uses, add

_FACTS = {"plan": str, "sha256": dict, "by_source": dict, "seconds": dict, "patches": int, "peak_rss_bytes": int}
"""What every line says beside its block, and as what."""

_NUMBERS = rb'\{(?:"[a-z0-9]+": [0-9.e+-]+(?:, )?)*\}'
_LINE = re.compile(
    rb'\{"block": (?P<block>\d+), "by_source": ' + _NUMBERS + rb', (?:"channels_a_pass": \d+, )?"patches": \d+, '
    rb'"peak_rss_bytes": \d+, '
    rb'"plan": "(?P<plan>[0-9a-f]*)", "seconds": ' + _NUMBERS + rb", "
    rb'"sha256": \{(?:"[a-z]+": "[0-9a-f]{64}"(?:, )?)*\}(?:, "work": \{[^{}]*\})?\}'
)
"""A line as `commit` writes it; to match it takes a tenth of the time of reading it as JSON."""


def commit(folder: Path, digest: str, block: int, facts: Mapping[str, Any]) -> None:
    """Append the line that makes block `block` of plan `digest` count as done."""
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"block": block, "plan": digest, **facts}, sort_keys=True)
    path = folder / f"{socket.gethostname()}-{os.getpid()}.jsonl"
    created = not path.exists()
    with path.open("ab") as stream:
        # a torn line of an earlier process with this pid must not swallow ours
        stream.write((line if created else "\n" + line).encode() + b"\n")
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
    """What was read, filled and passed through the network; blocks of older versions do not say."""


class Committed(Mapping[int, dict[str, Any]]):
    """The facts of committed blocks, read from the journal when they are asked for: a million fit a small memory."""

    def __init__(self, files: Sequence[Path], digest: str) -> None:
        """Take up the complete lines of plan `digest`; of two lines for a block the later one counts."""
        self._files = files
        self._places: dict[int, int] = {}
        for number, path in enumerate(files):
            offset = number << _OFFSET_BITS
            with path.open("rb") as stream:
                for line in stream:
                    facts = _parsed(line)
                    if facts is not None and facts["plan"] == digest:
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


def committed(folder: Path, digest: str) -> Committed:
    """Return the facts of every committed block of plan `digest`; unreadable lines and other plans are skipped."""
    return Committed(sorted(folder.glob("*.jsonl")), digest)


def numbers(folder: Path, digest: str) -> set[int]:
    """Return the numbers of the committed blocks of plan `digest`, in seconds for a million of them."""
    plan, done = digest.encode(), set()
    for path in folder.glob("*.jsonl"):
        with path.open("rb") as stream:
            for line in stream:
                found = _LINE.fullmatch(line.rstrip(b"\n"))
                if found and found["plan"] == plan:
                    done.add(int(found["block"]))
    return done


def of_other_hosts(folder: Path) -> bool:
    """Say whether another machine has written into the journal."""
    own = f"{socket.gethostname()}-"
    return any(not path.name.startswith(own) for path in folder.glob("*.jsonl"))


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the facts of a line; None if it is torn or damaged."""
    try:
        facts = json.loads(line)
    except ValueError:
        return None
    return facts if _complete(facts) else None


def _complete(facts: Any) -> bool:
    """Say whether a line has all that is asked of it later: a damaged one may be JSON all the same."""
    return (
        isinstance(facts, dict)
        and isinstance(facts.get("block"), int)
        and all(isinstance(facts.get(key), kind) for key, kind in _FACTS.items())
        and _measured(facts.get("work", {}))
    )


def _measured(work: Any) -> bool:
    """Say whether this is what was measured in a block; lines of older versions have nothing of it."""
    return isinstance(work, dict) and all(
        isinstance(use, list) and len(use) == 3 and all(isinstance(number, int | float) for number in use)
        for use in work.values()
    )


def forget(folder: Path) -> None:
    """Drop every line: the blocks they speak of do not exist any more."""
    remove_made(folder)
