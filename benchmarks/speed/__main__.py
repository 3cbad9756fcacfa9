"""What a run costs: `make bench`, or `python -m benchmarks.speed [--only NAME]... [--quick] [--rounds N] [--write]`.

Each row is a command in a process of its own; what counts is processor time, children included, and wall time. The unit
is GDAL's `fillnodata` on 2048 x 2048 x 4 (read, fill, write), measured before each row, so that the noise of a shared
machine falls on both. Of several rounds the smallest ratio counts. Results are written as they come, and rows that were
not asked for keep what they had.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.speed.page import Cost, load, save, tables, write_page
from benchmarks.speed.rows import ROWS, Row
from pipeline.system.facts import hardware

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/performance.md"
RESULTS = ROOT / "docs/performance.json"
QUICK = ROOT / "out/speed-quick.json"
_PACKAGE = {"telea": "cv2", "navier_stokes": "cv2", "biharmonic": "skimage", "torchio": "torchio"}
_UNIT = "large"
"""The scene that the unit is measured on."""
_STAGES = ("survey_total", "blocks", "assemble", "report")


class Failed(Exception):
    """A command did not end well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a process and its children used."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    said: str


def measured(command: Sequence[str]) -> Used:
    """Run a command and return what it used.

    Raises:
        Failed: with the end of what it said.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if status:
            raise Failed(f"{' '.join(command)} ended with {process.returncode}:\n{err.read().decode()[-2000:]}")
        unit = 1 if sys.platform == "darwin" else 1024
        return Used(
            cpu_s=used.ru_utime + used.ru_stime,
            wall_s=wall,
            peak_mb=used.ru_maxrss * unit / 1e6,
            said=out.read().decode(),
        )


class Bench:
    """Scenes, made when they are first needed, and the rows that are measured on them."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        # as what is installed is: else each run compiles the program where Python is told to keep nothing of that
        compileall.compile_dir(ROOT / "pipeline", quiet=1)
        day = datetime.now(tz=UTC).date().isoformat()
        self.machine = f"{hardware()['cpu'] or 'unknown processor'}, {os.cpu_count()} cores, {day}"

    def scene(self, name: str) -> Path:
        """Return the folder of a scene."""
        folder = self.folder / name.replace(" ", "-")
        if not (folder / "inputs.json").exists():
            measured([*self._maker(name), str(folder), *(["--quick"] if self.quick else [])])
        return folder

    def unit(self) -> float:
        """Return the processor seconds of the unit."""
        return measured(_rival("gdal", self.scene(_UNIT))).cpu_s

    def cost(self, row: Row) -> Cost:
        """Measure a row."""
        folder = self.scene(row.scene) if row.scene else self.folder
        command = self._command(row, folder)
        unit = self.unit()
        used = measured(command)
        result = Cost(
            name=row.name,
            command=_told(command, folder),
            scene=_told([*self._maker(row.scene), "SCENE"], folder) if row.scene else "",
            cpu_s=used.cpu_s,
            wall_s=used.wall_s,
            unit_s=unit,
            peak_mb=used.peak_mb,
            machine=self.machine,
            quick=self.quick,
        )
        if row.tool == "scheduling":
            return replace(result, scheduling_ms=json.loads(used.said)["scheduling_ms"])
        if row.tool == "plan":
            return replace(result, planned_mb=_planned(used.said))
        if row.tool == "run":
            record = json.loads(next((folder / "out").glob("*/record.json")).read_text())
            stages = {name.removesuffix("_total"): round(record["seconds"][name], 2) for name in _STAGES}
            planned = measured(self._command(replace(row, tool="plan"), folder)).said if row.table == "memory" else ""
            result = replace(result, stages=stages, planned_mb=_planned(planned) if planned else None)
        return replace(result, psnr=self._psnr(row, folder))

    def _maker(self, name: str) -> list[str]:
        return [sys.executable, "-m", "benchmarks.speed.scenes", name]

    def _command(self, row: Row, folder: Path) -> list[str]:
        if row.tool == "scheduling":
            blocks = "200" if self.quick else "2000"
            return [sys.executable, "-m", "benchmarks.cluster", "--only", "scheduling", "--blocks", blocks]
        if row.tool not in ("run", "plan"):
            return _rival(row.tool, folder)
        config = folder / "config.json"
        sections = json.loads((folder / "inputs.json").read_text())
        device = {"device": "cuda" if row.gpu and _has_gpu() else "cpu"}
        compute = {"executor": "serial", **device, **row.settings.get("compute", {})}
        config.write_text(json.dumps(sections | {"output": {"directory": str(folder / "out")}}, indent=1))
        settings = [
            f"--set={section}.{key}={value}"
            for section, values in {**row.settings, "compute": compute}.items()
            for key, value in values.items()
        ]
        options = ["--overwrite", "--quiet"] if row.tool == "run" else ["--json"]
        return [sys.executable, "-m", "pipeline", row.tool, str(config), *settings, *options]

    def _psnr(self, row: Row, folder: Path) -> float | None:
        if row.table not in ("methods", "inferers", "defaults") or not (folder / "truth.npy").exists():
            return None
        made = folder / "other.tif" if row.tool != "run" else next((folder / "out").glob("*/*_restored.*"))
        return float(measured([sys.executable, "-m", "benchmarks.speed.score", str(folder), str(made)]).said)


def _rival(tool: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.speed.rivals", tool, str(folder)]


def _told(command: Sequence[str], folder: Path) -> str:
    """Return a command as it stands on the page: without the paths of this machine."""
    words = ["python" if word == sys.executable else word.replace(str(folder), "SCENE") for word in command]
    return " ".join(f"'{word}'" if " " in word else word for word in words)


def _planned(said: str) -> float:
    rows: list[dict[str, Any]] = json.loads(said)["images"]
    return float(rows[0]["peak_GiB"]) * 2**30 / 1e6


def chosen(options: argparse.Namespace) -> list[Row]:
    """Return the rows that are asked for and can be measured here; says which cannot."""
    rows = [row for row in ROWS if not options.only or any(row.name.startswith(name) for name in options.only)]
    if options.quick and not options.only:
        rows = [row for row in rows if row.quick]
    can = []
    for row in rows:
        package = _PACKAGE.get(row.tool)
        if package and find_spec(package) is None:
            print(f"{row.name}: left out, {package} is not installed (pip install --group bench)", file=sys.stderr)
        elif row.gpu and not options.quick and not _has_gpu():
            print(f"{row.name}: left out, there is no GPU", file=sys.stderr)
        else:
            can.append(row)
    return can


def _has_gpu() -> bool:
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="rows whose name starts with this")
    parser.add_argument("--quick", action="store_true", help="small scenes: tries every row in minutes")
    parser.add_argument("--rounds", type=int, default=1, help="times that each row is measured; the best counts")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its JSON")
    parser.add_argument("--folder", type=Path, help="where scenes are made and kept (default: for the time of the run)")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    return parser.parse_args()


def main() -> None:
    """Measure row by row; end with 1 if one failed."""
    options = arguments()
    if options.list:
        print("\n".join(f"{row.table}: {row.name}" for row in ROWS))
        return
    if options.quick and options.write:
        sys.exit("--quick tries the code on small scenes; its numbers say nothing of speed and are not published")
    path = QUICK if options.quick else RESULTS if options.write else ROOT / "out/speed.json"
    costs, failed = load(path), []
    rows = chosen(options)
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        bench = Bench((options.folder or Path(folder)).resolve(), quick=options.quick)
        best: dict[str, Cost] = {}
        for _ in range(options.rounds):
            for row in rows:
                try:
                    cost = bench.cost(row)
                except Failed as error:
                    failed.append(row.name)
                    print(f"{row.name}: FAILED: {error}", file=sys.stderr, flush=True)
                    continue
                best[row.name] = costs[row.name] = min(best.get(row.name, cost), cost, key=lambda found: found.units)
                save(path, costs)
                if options.write:
                    write_page(PAGE, costs)
                print(f"{row.name}: {cost.units:.1f} units, {cost.cpu_s:.1f} s", file=sys.stderr, flush=True)
    print(tables(costs))
    if failed:
        sys.exit(f"failed: {', '.join(dict.fromkeys(failed))}")


if __name__ == "__main__":
    main()
