"""A part of the cases that sees every family and ends in twenty minutes, and what can be said from it.

The choice is fixed: in each family the cheapest case of each place, then the second cheapest, and so on; families take
turns until the time is used up. What a case costs, and how well it was restored, stands in the stored results of the
last full run. Without those every case counts as average, and the order is that of a hash of the names.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, zip_longest
from pathlib import Path

from benchmarks.quality.cases import Case
from benchmarks.quality.gains import Row, by_family, decibel
from benchmarks.quality.runner import OURS
from benchmarks.quality.table import CHANGED, Line

MINUTES = 20.0
SPARE = 0.8
"""Share of the time that is planned for: cases are of different length, and the last one runs on one core."""
UNKNOWN_S = 60.0
"""Processor seconds of a case of which nothing is stored."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a full run found of one case: hash of its content, PSNR of its hole pixels in dB, processor seconds.

    `draws` are the PSNR with other seeds, if it was restored with several.
    """

    key: str
    db: float
    cpu_seconds: float
    draws: tuple[float, ...] = ()


Full = Mapping[str, Stored]
"""By the name of the case."""


def store(rows: Sequence[Row], path: Path, more: Sequence[Sequence[Row]] = ()) -> None:
    """Keep what later runs are compared with; `more` are the rows of other draws."""
    again: dict[str, list[float]] = {}
    for row in chain.from_iterable(more):
        if "error" not in row:
            again.setdefault(row["case"], []).append(_db(row))
    kept = {
        name: asdict(Stored(key=row["key"], db=_db(row), cpu_seconds=_cost(row), draws=tuple(again.get(name, ()))))
        for name, row in sorted((row["case"], row) for row in rows if "error" not in row)
    }
    path.write_text(json.dumps(kept, indent=0) + "\n")


def _db(row: Row) -> float:
    return round(decibel(row, OURS), 4)


def _cost(row: Row) -> float:
    # a result that was kept from before took no time now
    return round(max(row["cpu_seconds"], row["seconds"]), 1)


def stored(path: Path) -> Full:
    """Return what the last full run found; nothing if none was kept."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    return {name: Stored(**facts | {"draws": tuple(facts.get("draws", ()))}) for name, facts in kept.items()}


def subset(cases: Sequence[Case], full: Full, jobs: int) -> list[Case]:
    """Return the cases of a quick run, at least one a family, in the order of the benchmark."""

    def cost(case: Case) -> float:
        return full[case.name].cpu_seconds if case.name in full else UNKNOWN_S

    left = MINUTES * 60 * jobs * SPARE
    chosen = set()
    for turn, members in enumerate(zip_longest(*_ranked(cases, cost))):
        for case in filter(None, members):
            if turn == 0 or cost(case) <= left:
                chosen.add(case.name)
                left -= cost(case)
    return [case for case in cases if case.name in chosen]


def _ranked(cases: Sequence[Case], cost: Callable[[Case], float]) -> list[list[Case]]:
    """Return the cases of each family: the cheapest of each place, then the second of each, cheap ones first."""
    families: dict[str, dict[str, list[Case]]] = {}
    for case in sorted(cases, key=lambda case: (cost(case), hashlib.sha256(case.name.encode()).digest())):
        families.setdefault(case.family, {}).setdefault(case.scene.place, []).append(case)
    return [list(filter(None, chain.from_iterable(zip_longest(*places.values())))) for places in families.values()]


def compare(rows: Sequence[Row], full: Full, say: Say) -> None:
    """Say how the cases changed since the last full run, by family and on the whole."""
    good = [row for row in rows if "error" not in row]
    same = [row for row in good if row["case"] in full and full[row["case"]].key == row["key"]]
    say(f"\nchange since the last full run: {len(same)} of {len(good)} cases are stored and the same\n")
    if not same:
        return
    say("| family | cases | mean | worst | in |\n|---|---|---|---|---|")
    changes = {row["case"]: decibel(row, OURS) - full[row["case"]].db for row in same}
    for family, members in by_family(same).items():
        values = [(changes[row["case"]], row["scene"]) for row in members]
        mean, worst = sum(change for change, _ in values) / len(values), min(values)
        say(f"| {family} | {len(values)} | {mean:+.3f} dB | {worst[0]:+.3f} dB | {worst[1]} |")
    say(f"| all | {len(same)} | {sum(changes.values()) / len(same):+.3f} dB | {min(changes.values()):+.3f} dB | |")


def judged(line: Line) -> bool | None:
    """Say whether a floor holds, as far as a part of the cases can tell; None if it cannot.

    It can where the 95 % interval over places lies on one side of the floor, and where nothing is averaged: one changed
    pixel is one too many in any part.
    """
    if math.isnan(line.floor) or math.isnan(line.value):
        return None
    if line.title == CHANGED:
        return line.holds
    if line.places < 2 or math.isnan(line.low):
        return None
    ends = [value <= line.floor if line.less else value >= line.floor for value in (line.low, line.high)]
    return ends[0] if ends[0] == ends[1] else None


def judge(lines: Sequence[Line], say: Say) -> list[str]:
    """Say which floors hold, which do not and which this part cannot tell; returns the titles of those that do not."""
    marked = [line for line in lines if not math.isnan(line.floor)]
    verdicts = {line.title: judged(line) for line in marked}
    for text, verdict in (("hold", True), ("**do not hold**", False), ("cannot be judged on these cases", None)):
        titles = [title for title, found in verdicts.items() if found is verdict]
        if titles:
            say(f"\n{len(titles)} floors {text}: {'; '.join(titles)}")
    return [title for title, found in verdicts.items() if found is False]
