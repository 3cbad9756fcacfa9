"""Attack the program and count the harm: `python -m benchmarks.faults` (`--quick` for a tenth of it)."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.faults.attacks import Tally, damage, kills
from benchmarks.faults.mutants import mutants
from benchmarks.faults.outages import outages

ATTACKS = {"kills": (kills, 200), "damage": (damage, 200), "mutants": (mutants, 2000)}
ON_REQUEST = {"outages": (outages, 100)}
"""Needs Slurm, which it starts."""


def main() -> int:
    """Run the attacks that were asked for, print a table, and return 1 if any did harm."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=sorted(ATTACKS | ON_REQUEST), help="this attack; may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the strikes")
    parser.add_argument("--times", type=int, default=1, help="strikes in multiples of the usual number")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    options = parser.parse_args()
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for name in options.only or ATTACKS:
            attack, usual = (ATTACKS | ON_REQUEST)[name]
            n = usual * options.times // (10 if options.quick else 1)
            tallies[name] = attack(Path(folder) / name, n, options.seed, lambda text: print(text, file=sys.stderr))
    print("| attack | strikes | harm |\n|---|---|---|")
    for name, tally in tallies.items():
        print(f"| {name} | {tally.struck} | {len(tally.wrong)} |")
        for line in tally.wrong[:10]:
            print(f"  {line}", file=sys.stderr)
    for kinds in (tally.kinds for tally in tallies.values() if tally.kinds):
        print("\n| kind | strikes | harm | most blocks computed again by one |\n|---|---|---|---|")
        for kind, (struck, harm, repeated) in kinds.items():
            print(f"| {kind} | {struck} | {harm} | {repeated} |")
    return int(any(tally.wrong for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
