"""Print the table of restoration quality: `INPAINT_DATA=... python -m benchmarks.quality`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# a worker a core: arithmetic libraries with threads of their own would only get in each other's way
from benchmarks.quality import draws, quick
from benchmarks.quality.cases import Case, all_cases
from benchmarks.quality.document import Report, write_document
from benchmarks.quality.pool import Row, measured
from benchmarks.quality.runner import Settings, software_state
from benchmarks.quality.show import print_cases, print_change, print_table

ROOT = Path(__file__).resolve().parents[2]


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], metavar="FAMILY", help="this family, or all that start with this"
    )
    parser.add_argument(
        "--scenes", action="append", default=[], metavar="NAME", help="this scene, or all that start with this"
    )
    parser.add_argument("--cases", type=int, metavar="N", help="at most this many holes a family and scene")
    parser.add_argument("--quick", action="store_true", help="a part that sees every family, in about 20 minutes")
    parser.add_argument(
        "--draws",
        type=int,
        choices=range(1, 10),
        default=1,
        metavar="N",
        help="restore with N seeds where much depends on which pixels the self-test hides; means are judged",
    )
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--reuse", action="store_true", help="take results of the same case and state from --out")
    parser.add_argument("--state", help="name of the software state; default: a hash of code and weights")
    parser.add_argument("--against", metavar="STATE", help="also print the change since this state, case by case")
    parser.add_argument("--out", type=Path, default=ROOT / "out/quality", help="where results are kept")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--details", action="store_true", help="print every case, too")
    parser.add_argument("--write", action="store_true", help="write docs/quality.md and its pictures")
    return parser.parse_args()


STORED = ROOT / "docs/quality.json"
"""What the last full run found."""


def chosen(options: argparse.Namespace) -> list[Case]:
    """Return the cases that the command line asks for; a whole name means only that one."""
    cases = all_cases()
    families, scenes = {case.family for case in cases}, {case.scene.name for case in cases}

    def wanted(name: str, asked: Sequence[str], known: set[str]) -> bool:
        return not asked or any(name == a or (a not in known and name.startswith(a)) for a in asked)

    some = [
        case
        for case in cases
        if wanted(case.family, options.only, families)
        and wanted(case.scene.name, options.scenes, scenes)
        and (options.cases is None or case.number < options.cases)
    ]
    return quick.subset(some, quick.stored(STORED), options.jobs) if options.quick else some


def logged(cases: Sequence[Case], settings: Settings, jobs: int) -> list[Row]:
    """Return the rows of cases, in their order; each goes to the log of the state as soon as it is measured."""
    started = time.monotonic()
    order = {case.name: k for k, case in enumerate(cases)}
    rows = []
    with (settings.out / f"{settings.state}.jsonl").open("a") as log:
        for done, row in enumerate(measured(cases, settings, jobs), start=1):
            rows.append(row)
            log.write(json.dumps(row) + "\n")
            log.flush()
            failed = f": {row['error']}" if "error" in row else ""
            clock = f"{time.monotonic() - started:.0f} s"
            print(f"{done}/{len(cases)} {clock} {row['case']}{failed}", file=sys.stderr, flush=True)
    return sorted(rows, key=lambda row: order[row["case"]])


def main() -> None:
    """Measure and print; end with 1 if a case failed or a floor is missed."""
    options = arguments()
    if options.quick and options.write:
        sys.exit("--quick measures a part of the cases; the page shows all of them: leave one of the two out")
    if options.quick and options.draws > 1:
        sys.exit("--quick measures one draw, which is that of the last full run: leave --draws out")
    cases = chosen(options)
    if options.list or not cases:
        print("\n".join(case.name for case in cases) or "no such case; see --list")
        return
    settings = Settings(out=options.out.resolve(), state=options.state or software_state(), reuse=options.reuse)
    settings.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    rows = logged(cases, settings, options.jobs)
    again = draws.settings_of(settings, options.draws)[1:]
    more = [logged(draws.drawn(cases), one, options.jobs) for one in again]
    every = [row for draw in (rows, *more) for row in draw]
    if options.details:
        for draw in (rows, *more):
            print_cases(draw)
    seconds = time.monotonic() - started
    lines = draws.mean_table(rows, more)
    print_table(lines, every, settings.state, seconds)
    if scatters := draws.scatters(rows, more):
        print(f"\n{draws.markdown(scatters)}")
    if options.against:
        folders = [settings.out / draws.name_of(options.against, number) for number in range(options.draws)]
        print_change(list(zip((rows, *more), folders, strict=True)), options.against)
    if options.write:
        report = Report(
            rows=rows,
            draws=more,
            cases={case.name: case for case in cases},
            settings=settings,
            complete=len(cases) == len(all_cases()),
        )
        write_document(report, ROOT / "docs/quality.md")
        if report.complete:
            quick.store(rows, STORED, more)
    failed = sum("error" in row for row in every)
    below = [line.title for line in lines if not line.holds]
    if options.quick:
        quick.compare(rows, quick.stored(STORED), print)
        below = quick.judge(lines, print)
    if failed or below:
        sys.exit(f"{failed} cases failed; below the floor: {', '.join(below) or 'nothing'}")


if __name__ == "__main__":
    main()
