"""Processor time of `inpaint-pipeline --help` beside a bare interpreter: `python -m benchmarks.startup`."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

ROUNDS = 15
LIMIT = 0.3


def cpu_seconds(*arguments: str) -> float:
    """Return the user and system time of one interpreter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env={**os.environ, "COLUMNS": "200"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the least of interleaved rounds: what neighbours add is left out."""
    rounds = [(cpu_seconds("-c", "pass"), cpu_seconds("-m", "pipeline", "--help")) for _ in range(ROUNDS)]
    bare, shown = (min(column) for column in zip(*rounds, strict=True))
    print(f"--help {shown:.3f} s, limit {LIMIT} s; bare interpreter {bare:.3f} s; ratio {shown / bare:.1f}")


if __name__ == "__main__":
    main()
