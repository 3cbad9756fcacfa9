"""How well `plan` knows time and memory of a run: `python -m benchmarks.forecast CONFIG...`.

Each config, of one image, is run from the start in a process of its own with one worker. What `plan` foretells is
seconds of one free core, so it is compared with processor time, stage by stage, and the peak of the process with the
memory that is foretold. Constants of `pipeline/survey/cost.py` are to be fitted anew when usual runs leave 0.7 to 1.3:
`--fit` prints those that fit the configs best. The speed of the machine is taken off them: that of each run, as it
was told there.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

_WITHIN = (0.7, 1.3)
_NOTED_S = 0.3
"""Seconds of a stage below which it counts less in the fit."""
_SURVEY = {"look": ("masks", "statistics"), "doubt": ("doubt",), "windows": ("self-test",), "coarse": ("coarse fill",)}
"""Stages of a forecast that the record has under other names; that of the self-test is told in two parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run took and what was foretold, by stage; seconds of a processor."""

    speed: float
    """Of the machine: how long work takes here, as a multiple of what the constants say."""
    counts: Mapping[str, Mapping[str, float]]
    """What there was to do, by stage and name of a constant."""
    took: Mapping[str, float]
    """Without the network."""
    network: float
    """Seconds of the network in all stages."""
    likely: float
    low: float
    high: float
    total: float
    peak: float
    planned: float
    """Memory of the process, MiB: what it took, and what `plan` says."""


def one(config: Path, settings: Sequence[str], output: Path) -> dict[str, Any]:
    """Run a config in this process, with results in `output`, and return the fields of a `Run`.

    All clocks count processor time from here on.
    """
    with mock.patch("time.perf_counter", time.process_time):
        from pipeline.evidence.mark import bands_of, looked_pixels
        from pipeline.plan.memory import doubt_bytes, process_bytes
        from pipeline.run import run
        from pipeline.survey import cost, survey
        from pipeline.system.process import settle

        settle()
        heard: dict[str, Any] = {}

        def listening(*asked: Any) -> cost.Forecast:
            ahead = cost.forecast(*asked)
            scene, plan, _ = asked
            heard.update(counts=ahead.counts, speed=cost._speed(), **asdict(ahead.cost.total()))
            held = {"doubt": doubt_bytes(looked_pixels(scene), *bands_of(scene)), "tested": math.prod(ahead.extent)}
            heard["planned"] = process_bytes(plan, scene.source.n_channels, **held) / 2**20
            return ahead

        with mock.patch.object(survey, "forecast", listening):
            entry = run(config, [*settings, f"output.directory={output}"])["sources"][0]
    return heard | measured(output / entry["directory"])


def measured(folder: Path) -> dict[str, Any]:
    """Return what the finished run in `folder` took, from its record and journal."""
    record = json.loads((folder / "record.json").read_text())
    work = folder / ".work"
    lines = [json.loads(line) for path in work.glob("journal/*.jsonl") for line in path.read_text().split("\n") if line]
    in_survey = _network(json.loads((work / "survey.json").read_text())["work"])
    in_blocks = sum(_network(line.get("work", {})) for line in lines)
    seconds = record["seconds"]
    took = {stage: sum(seconds.get(name, 0.0) for name in names) for stage, names in _SURVEY.items()}
    took["start"] = time.process_time() - seconds["total"] + sum(seconds.get(k, 0.0) for k in ("model", "forecast"))
    took |= {"blocks": seconds["blocks"] - in_blocks, "files": seconds["assemble"] + seconds["report"]}
    took["windows"] -= in_survey
    return {
        "took": took,
        "network": in_survey + in_blocks,
        "total": time.process_time(),
        "peak": record["peak_rss_bytes"] / 2**20,
    }


def _network(work: Mapping[str, Sequence[float]]) -> float:
    return sum(use[0] for name, use in work.items() if name.startswith("network"))


def in_process(config: Path, settings: Sequence[str]) -> Run:
    """Return what `one` does in a new process."""
    with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
        settings = [*settings, "compute.executor=serial", "compute.device=cpu"]
        told = Path(folder) / "told.json"
        command = [sys.executable, "-m", "benchmarks.forecast", "--one", str(told), str(config)]
        subprocess.run([*command, *(word for text in settings for word in ("--set", text))], check=True)
        return Run(**json.loads(told.read_text()))


def fitted(runs: Sequence[Run]) -> dict[str, float]:
    """Return the seconds for each of what is counted that make forecasts of stages relatively best, none below 0."""
    from scipy.optimize import nnls

    found: dict[str, float] = {}
    for stages in (("start",), ("look",), ("doubt",), ("test", "windows"), ("coarse",), ("blocks",), ("files",)):
        counted = [{k: v for stage in stages for k, v in run.counts[stage].items()} for run in runs]
        took = np.asarray([run.took[stages[-1]] for run in runs])
        names = list(dict.fromkeys(name for some in counted for name, count in some.items() if count))
        weight = 1 / (took + _NOTED_S)
        table = np.asarray(
            [[run.speed * c.get(name, 0.0) for name in names] for run, c in zip(runs, counted, strict=True)]
        )
        scale = np.abs(table).max(axis=0)
        best, _ = nnls(table / scale * weight[:, None], took * weight)
        found |= dict(zip(names, (best / scale).tolist(), strict=True))
    return found


def table(runs: Mapping[str, Run]) -> str:
    """Return a table of time and memory, a row for each run."""
    rows = ["| config | foretold | span | took | ratio | planned | peak | ratio |", "|---" * 8 + "|"]
    for name, run in runs.items():
        rows.append(
            f"| {name} | {run.likely:.1f} s | {run.low:.1f} to {run.high:.1f} s | {run.total:.1f} s "
            f"| {run.likely / run.total:.2f} | {run.planned:.0f} MiB | {run.peak:.0f} MiB "
            f"| {run.peak / run.planned:.2f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Print a row for each config and how many are within 30 %; with `--fit`, the constants that would fit best."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast", description=__doc__)
    parser.add_argument("configs", nargs="+", type=Path, metavar="CONFIG")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--fit", action="store_true", help="print the constants that fit these runs best")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="add what was measured to this file, and fit all in it"
    )
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        options.one.write_text(
            json.dumps(one(options.configs[0].resolve(), options.settings, options.one.parent / "out"))
        )
        return
    kept = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}
    runs = {name: Run(**run) for name, run in kept.items()}
    for config in options.configs:
        name = " ".join([str(config), *options.settings])
        runs[name] = in_process(config, options.settings)
        print(table({name: runs[name]}), flush=True)
        if options.keep:
            options.keep.write_text(json.dumps({name: asdict(run) for name, run in runs.items()}))
    ratios = [run.likely / run.total for run in runs.values()]
    print(table(runs))
    print(f"{sum(_WITHIN[0] <= ratio <= _WITHIN[1] for ratio in ratios)} of {len(ratios)} within 30 %", file=sys.stderr)
    if options.fit:
        print("\n".join(f'    "{name}": {value:.2g},' for name, value in fitted(list(runs.values())).items()))


if __name__ == "__main__":
    main()
