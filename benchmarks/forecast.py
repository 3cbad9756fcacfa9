"""How well `plan` knows the time: `python -m benchmarks.forecast CONFIG...`.

Each config is planned, then run from the start in a process of its own with one worker. What `plan` foretells is
seconds of one free core, so it is compared with processor time, children included. Constants of
`pipeline/survey/cost.py` are to be fitted anew when usual runs leave 0.7 to 1.3; `seconds` in their records says which.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_WITHIN = (0.7, 1.3)


def foretold(config: Path, *settings: str) -> dict[str, Any]:
    """Return what `plan` says of the time of a run, images of a batch added up."""
    plan = [sys.executable, "-m", "pipeline", "plan", str(config), "--json", *settings]
    done = subprocess.run(plan, check=True, capture_output=True, text=True)
    rows = [row["seconds"] for row in json.loads(done.stdout)["images"] if row["seconds"]]
    return {key: sum(row[key] for row in rows) for key in ("low", "likely", "high")}


def taken(config: Path, *settings: str) -> float:
    """Return the processor time of a run in seconds."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    subprocess.run([sys.executable, "-m", "pipeline", "run", str(config), "--quiet", *settings], check=True)
    return used() - before


def main() -> None:
    """Print a row for each config, and how many are within 30 %."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast", description=__doc__)
    parser.add_argument("configs", nargs="+", type=Path, metavar="CONFIG")
    ratios = []
    print("| config | foretold | span | took | ratio |\n|---|---|---|---|---|")
    for config in parser.parse_args().configs:
        with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
            settings = ("--set", "compute.executor=serial", "--set", f"output.directory={folder}")
            said, took = foretold(config, *settings), taken(config, *settings)
        ratios.append(said["likely"] / took)
        span = f"{said['low']:.0f} to {said['high']:.0f} s"
        print(f"| {config} | {said['likely']:.0f} s | {span} | {took:.0f} s | {ratios[-1]:.2f} |", flush=True)
    within = sum(_WITHIN[0] <= ratio <= _WITHIN[1] for ratio in ratios)
    print(f"{within} of {len(ratios)} within 30 %", file=sys.stderr)


if __name__ == "__main__":
    main()
