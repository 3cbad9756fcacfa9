"""Results as Markdown tables in docs/performance.md, and as JSON beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed.rows import ROWS, TABLES, Row

MARK = ("<!-- made -->", "<!-- end -->")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one row took; the best of its rounds.

    Attributes:
        name: of the row.
        command: what ran, with SCENE for the folder of the scene.
        scene: the command that writes the scene.
        cpu_s: processor seconds, children included.
        wall_s: wall seconds.
        unit_s: processor seconds of the unit, measured just before.
        peak_mb: peak resident memory of the largest process, 10^6 bytes.
        psnr: of hole pixels, dB; None where the truth is not known.
        planned_mb: peak that `plan` names; None where it was not asked.
        scheduling_ms: processor time of client and scheduler a patch; None for what is no such row.
        stages: seconds of the stages of a run.
        machine: processor and day.
        quick: of a small scene: tries the code, says nothing of speed.
    """

    name: str
    command: str
    scene: str
    cpu_s: float
    wall_s: float
    unit_s: float
    peak_mb: float
    psnr: float | None = None
    planned_mb: float | None = None
    scheduling_ms: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    machine: str = ""
    quick: bool = False

    @property
    def units(self) -> float:
        """Processor time in units of the time of GDAL's fill."""
        return self.cpu_s / self.unit_s


Costs = dict[str, Cost]


def load(path: Path) -> Costs:
    """Return the results of earlier calls; none if there are none."""
    if not path.exists():
        return {}
    return {entry["name"]: Cost(**entry) for entry in json.loads(path.read_text())["rows"]}


def save(path: Path, costs: Costs) -> None:
    """Write all results, in the order of the rows."""
    known = [costs[row.name] for row in ROWS if row.name in costs]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".partial")
    draft.write_text(json.dumps({"rows": [asdict(cost) for cost in known]}, indent=1) + "\n")
    draft.replace(path)


def number(row: Row, costs: Costs) -> float:
    """Return what the marks of a row are of; NaN if a row that it needs was not measured."""
    cost, kind = costs[row.name], TABLES[row.table].number
    if kind == "ratio":
        other = costs.get(row.against)
        if other is None:
            return math.nan
        # workers are compared by wall time, tools by processor time: theirs over ours
        return other.wall_s / cost.wall_s if row.table == "workers" else cost.cpu_s / other.cpu_s
    if kind == "planned":
        return cost.peak_mb / cost.planned_mb if cost.planned_mb and row.tool == "run" else math.nan
    if kind == "assembly":
        return 100 * cost.stages["assemble"] / cost.wall_s
    other_kinds = {"wall_s": cost.wall_s, "scheduling": cost.scheduling_ms, "units": cost.units}
    value = other_kinds[kind]
    return math.nan if value is None else value


def verdict(row: Row, value: float) -> str:
    """Say which mark a number reaches."""
    if row.floor is None or row.goal is None or math.isnan(value):
        return ""
    more = row.goal > row.floor
    reaches = [value >= mark if more else value <= mark for mark in (row.floor, row.goal)]
    return "goal" if reaches[1] else "floor" if reaches[0] else "**below the floor**"


def tables(costs: Costs) -> str:
    """Return all tables with a measured row."""
    parts = []
    for key, table in TABLES.items():
        rows = [row for row in ROWS if row.table == key and row.name in costs]
        if not rows:
            continue
        parts += [f"### {table.title}", "", table.text, "", *_table(rows, costs), ""]
        parts += _commands(rows, costs)
    missing = [row.name for row in ROWS if row.name not in costs]
    if missing:
        gpu = all(row.gpu for row in ROWS if row.name in missing)
        why = "there was no GPU" if gpu else "not measured yet"
        parts += [f"Rows without a number ({why}): {'; '.join(missing)}.", ""]
    machines = sorted({cost.machine for cost in costs.values()})
    return "\n".join([*parts, f"Measured on: {'; '.join(machines)}."])


def _table(rows: Sequence[Row], costs: Costs) -> list[str]:
    kind = TABLES[rows[0].table].number
    name = {
        "units": "units", "ratio": "times as fast", "wall_s": "wall, s", "planned": "peak / planned",
        "scheduling": "ms a patch", "assembly": "% of the wall",
    }[kind]  # fmt: skip
    lines = [
        f"| | {name} | floor | goal | | CPU s | wall s | peak MB | PSNR, dB | most of it |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cost, value = costs[row.name], number(row, costs)
        digits = 3 if kind == "scheduling" else 2
        cells = [
            row.name, _shown(value, digits), _shown(row.floor), _shown(row.goal), verdict(row, value),
            _shown(cost.cpu_s, 1), _shown(cost.wall_s, 1), _shown(cost.peak_mb, 0), _shown(cost.psnr, 2),
            _most(cost.stages),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _commands(rows: Sequence[Row], costs: Costs) -> list[str]:
    seen: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        seen.setdefault((costs[row.name].scene, costs[row.name].command), []).append(row.name)
    lines = ["<details><summary>Commands</summary>", "", "<!-- not run: takes minutes -->", "```sh"]
    for (scene, command), names in seen.items():
        lines += [f"# {'; '.join(names)}", *filter(None, [scene]), command]
    return [*lines, "```", "", "</details>", ""]


def _shown(value: float | None, digits: int | None = None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:g}" if digits is None else f"{value:.{digits}f}"


def _most(stages: Mapping[str, Any]) -> str:
    largest = sorted(stages.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in largest)


def write_page(path: Path, costs: Costs) -> None:
    """Write the tables between the marks of the page.

    Raises:
        ValueError: the page has no marks.
    """
    text = path.read_text(encoding="utf-8")
    before, mark, rest = text.partition(MARK[0])
    _, end, after = rest.partition(MARK[1])
    if not mark or not end:
        raise ValueError(f"{path}: has no {MARK[0]} ... {MARK[1]} to write between")
    path.write_text(f"{before}{MARK[0]}\n{tables(costs)}\n{MARK[1]}{after}", encoding="utf-8")
