"""Rows and lines as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality.gains import Row, best_classical, decibel, of_family
from benchmarks.quality.runner import OURS
from benchmarks.quality.scores import psnr
from benchmarks.quality.table import Line

HEAD = (
    "| | floor | goal | measured | 95 % interval | one place left out | places / cases | verdict | |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def print_table(lines: Sequence[Line], rows: Sequence[Row], state: str, seconds: float) -> None:
    """Print the table, and of the rows of all draws what they took and which failed."""
    cpu = sum(row.get("cpu_seconds", 0) for row in rows)
    print(f"\nsoftware state {state}, {len(rows)} cases, {seconds:.0f} s of wall and {cpu:.0f} s of CPU time\n")
    print(markdown(lines))
    for row in rows:
        if "error" in row:
            print(f"\nFAILED {row['case']}: {row['error']}")


def markdown(lines: Sequence[Line]) -> str:
    """Return the table."""
    return "\n".join([HEAD, *(_line(line) for line in lines)])


def _line(line: Line) -> str:
    interval = "" if math.isnan(line.low) else f"{_number(line.low, line)} .. {_number(line.high, line)}"
    ends = [value for value in line.left_out.values() if not math.isnan(value)]
    without = f"{_number(min(ends), line)} .. {_number(max(ends), line)}" if ends else ""
    mark = "" if math.isnan(line.floor) else ("<= " if line.less else "")
    cells = (
        line.title,
        mark + _number(line.floor, line),
        mark + _number(line.goal, line),
        _number(line.value, line),
        interval,
        without,
        f"{line.places} / {line.cases}",
        line.verdict,
        line.note,
    )
    return "| " + " | ".join(cells) + " |"


def _number(value: float, line: Line) -> str:
    if math.isnan(value):
        return ""
    if line.unit == "dB":
        return f"{value:+.2f} dB"
    return f"{value:.1f} %" if line.unit == "%" else f"{value:.2f}".rstrip("0").rstrip(".")


def print_cases(rows: Sequence[Row]) -> None:
    """Print one line a case: dB, gain over the family's best classical fill, what the run used."""
    for family in dict.fromkeys(row["family"] for row in rows):
        members = of_family(rows, family)
        if not members:
            continue
        best = best_classical(members)
        print(f"\n{family}, best classical: {best}")
        for row in members:
            ours = decibel(row, OURS)
            recipe = row["recipe"]
            used = f"{recipe['fill']}, network {recipe['network_weight']:.1f}"
            if recipe["reference_weights"]:
                used += ", references " + " ".join(f"{w:.1f}" for w in recipe["reference_weights"])
            number = row["case"].rsplit(" / ", 1)[1]
            print(
                f"  {row['scene']:16} {number} {ours:6.2f} dB {ours - decibel(row, best):+6.2f}"
                f"  90 %: {100 * row['coverage']:5.1f}  seam {row['seam']:.2f}  gradients {row['gradient']:.2f}"
                f"  {row['seconds']:4.0f} s  {used}"
            )


def print_change(draws: Sequence[tuple[Sequence[Row], Path]], state: str) -> None:
    """Print the mean change in dB of each family since another state, and its worst case; same cases only.

    `draws` are the rows of each draw with the folder of the other state's.
    """
    print(f"\nchange since {state}\n\n| family | cases | mean | worst | in |\n|---|---|---|---|---|")
    for family in dict.fromkeys(row["family"] for rows, _ in draws for row in rows):
        changes = []
        for row, path in (
            (row, folder / f"{row['key']}.json") for rows, folder in draws for row in of_family(rows, family)
        ):
            if path.exists():
                before = psnr(json.loads(path.read_text())["methods"][OURS]["mse"], row["range"])
                changes.append((decibel(row, OURS) - before, row["scene"]))
        if changes:
            mean, worst = sum(c for c, _ in changes) / len(changes), min(changes)
            print(f"| {family} | {len(changes)} | {mean:+.3f} dB | {worst[0]:+.3f} dB | {worst[1]} |")
