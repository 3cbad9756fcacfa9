"""How well `plan` knows the time: `python -m benchmarks.forecast [--only NAME]...`.

Each row of `benchmarks.speed` is planned, then run in a process of its own; what `plan` foretells is seconds of one
free core, so it is compared with processor time. Constants of `pipeline/survey/cost.py` are to be fitted anew when the
ratio of a row leaves 0.7 to 1.3; `--stages` shows which of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed import DEMO, ROOT, SCENES, measured, prepared, stages

_WITHIN = (0.7, 1.3)


def foretold(command: list[str]) -> dict[str, Any]:
    """Return what `plan` says of the time of a run that `prepared` gave."""
    config = next(word for word in command if word.endswith(".json"))
    plan = [sys.executable, "-m", "pipeline", "plan", config, "--json"]
    done = subprocess.run(plan, cwd=ROOT, check=True, capture_output=True, text=True)
    facts: dict[str, Any] = json.loads(done.stdout)["images"][0]["seconds"]
    return facts


def main() -> None:
    """Print a row for each scene, and how many are within 30 %."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="rows whose name starts with this")
    parser.add_argument("--stages", action="store_true", help="print the seconds of each stage, too")
    options = parser.parse_args()
    names = [n for n in (*SCENES, DEMO) if not options.only or any(n.startswith(o) for o in options.only)]
    ratios = []
    print("| run with defaults, one core | foretold | span | took | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
        for k, name in enumerate(names):
            command = prepared(name, Path(folder) / str(k))
            said = foretold(command)
            took, _ = measured(command)
            ratios.append(said["likely"] / took)
            span = f"{said['low']:.0f} to {said['high']:.0f}"
            print(f"| {name} | {said['likely']:.0f} s | {span} s | {took:.0f} s | {ratios[-1]:.2f} |", flush=True)
            if options.stages:
                print(stages(Path(folder) / str(k)), file=sys.stderr)
    within = sum(_WITHIN[0] <= ratio <= _WITHIN[1] for ratio in ratios)
    print(f"{within} of {len(ratios)} within 30 %", file=sys.stderr)


if __name__ == "__main__":
    main()
