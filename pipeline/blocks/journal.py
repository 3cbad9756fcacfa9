"""What is committed: a folder with one append-only file per worker, a line per block, written after its bytes are safe.

Completion is never inferred from files that happen to exist. A torn last line is ignored; a line of another plan is
refused. Order of a commit: objects written and fsynced -> line appended and fsynced.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.system.files import remove_made, sync

_FACTS = {"plan": str, "sha256": dict, "by_source": dict, "seconds": dict, "patches": int, "peak_rss_bytes": int}
"""What every line says beside its block, and as what."""

_NUMBERS = rb'\{(?:"[a-z0-9]+": [0-9.e+-]+(?:, )?)*\}'
_LINE = re.compile(
    rb'\{"block": (?P<block>\d+), "by_source": ' + _NUMBERS + rb', (?:"channels_a_pass": \d+, )?"patches": \d+, '
    rb'"peak_rss_bytes": \d+, '
    rb'"plan": "(?P<plan>[0-9a-f]*)", "seconds": ' + _NUMBERS + rb", "
    rb'"sha256": \{(?:"[a-z]+": "[0-9a-f]{64}"(?:, )?)*\}\}'
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


def committed(folder: Path, digest: str) -> dict[int, dict[str, Any]]:
    """Return the facts of every committed block of plan `digest`; unreadable lines and other plans are skipped."""
    done: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                facts = json.loads(line)
            except ValueError:
                continue
            if _complete(facts) and facts["plan"] == digest:
                done[facts["block"]] = facts
    return done


def numbers(folder: Path, digest: str) -> set[int]:
    """Return the numbers of the committed blocks of plan `digest`, in seconds for a million of them."""
    plan, done = digest.encode(), set()
    for path in folder.glob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            found = _LINE.fullmatch(line)
            if found and found["plan"] == plan:
                done.add(int(found["block"]))
    return done


def of_other_hosts(folder: Path) -> bool:
    """Say whether another machine has written into the journal."""
    own = f"{socket.gethostname()}-"
    return any(not path.name.startswith(own) for path in folder.glob("*.jsonl"))


def _complete(facts: Any) -> bool:
    """Say whether a line has all that is asked of it later: a damaged one may be JSON all the same."""
    return (
        isinstance(facts, dict)
        and isinstance(facts.get("block"), int)
        and all(isinstance(facts.get(key), kind) for key, kind in _FACTS.items())
    )


def forget(folder: Path) -> None:
    """Drop every line: the blocks they speak of do not exist any more."""
    remove_made(folder)
