"""What a run costs: `make bench`, or `python -m benchmarks.speed [--only NAME]... [--rounds N] [--write]`.

Scenes come from the project's own generators. Each row is the ordinary command with its defaults in a process of its
own; what counts is processor time, children included. The unit is GDAL's `fillnodata` on the scene of 2048 x 2048 x 4
(read, fill, write), measured in the same round, so the noise of a shared machine falls on both. Of several rounds the
smallest ratio counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.quality import engine, holes  # noqa: E402
from benchmarks.quality.scenes import Guide, Image, flat  # noqa: E402
from pipeline.synthetic.brain import brain_volume  # noqa: E402
from pipeline.synthetic.demo import write_demo_sentinel  # noqa: E402
from pipeline.synthetic.optical import optical_scene  # noqa: E402

PAGE = ROOT / "docs/performance.md"
MARK = ("<!-- made -->", "<!-- end -->")
GDAL = """
import sys, rasterio
from rasterio.fill import fillnodata
with rasterio.open(sys.argv[1]) as image, rasterio.open(sys.argv[2]) as mask:
    kept = (mask.read(1) == 0).astype("uint8")
    with rasterio.open(sys.argv[3], "w", **image.profile) as sink:
        for band in range(1, image.count + 1):
            sink.write(fillnodata(image.read(band), kept, max_search_distance=200.0), band)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took.

    Attributes:
        name: of the row.
        cpu_s: processor time, children included.
        wall_s: wall time.
        units: `cpu_s` over that of GDAL in the same round.
        stages: seconds of each stage, as in the record; empty for GDAL.
    """

    name: str
    cpu_s: float
    wall_s: float
    units: float
    stages: dict[str, float]


def large(seed: int = 3, size: int = 2048) -> tuple[Image, NDArray[np.bool_]]:
    """Return farmland of four bands with a tenth under clouds."""
    values = optical_scene((size, size), seed, dates=1).truths[0][1:5]
    return flat(values), holes.cloud(np.random.default_rng(seed), (size, size), 0.1)


def crop() -> tuple[Image, NDArray[np.bool_]]:
    """Return a piece of 300 x 300 pixels of six bands with a tenth under clouds."""
    values = optical_scene((300, 300), 4, dates=1).truths[0]
    return flat(values), holes.cloud(np.random.default_rng(4), (300, 300), 0.1)


def with_reference() -> tuple[Image, NDArray[np.bool_]]:
    """Return 256 x 256 pixels of twelve bands (two dates of six) with two later dates as one reference."""
    dates = optical_scene((256, 256), 5, dates=4).truths
    image, other = (np.concatenate(pair) for pair in (dates[:2], dates[2:]))
    return flat(image, guides=(Guide(values=other),)), holes.cloud(np.random.default_rng(5), (256, 256), 0.1)


def head() -> tuple[Image, NDArray[np.bool_]]:
    """Return a head of 1.3 mm with four blobs of 8 mm."""
    drawn = brain_volume((126, 156, 130), 1)
    counted = drawn.truth > np.percentile(drawn.truth, 60)
    hole = holes.blobs(np.random.default_rng(1), counted, (8, 8), 4, (drawn.spacing_mm,) * 3)
    image = Image(
        values=drawn.truth[None], hidden=np.zeros_like(hole), counted=counted, spacing=(drawn.spacing_mm,) * 3
    )
    return image, hole


SCENES: dict[str, Callable[[], tuple[Image, NDArray[np.bool_]]]] = {
    "300 x 300 x 6, 10 % cloud": crop,
    "256 x 256 x 12, 10 % cloud, one reference": with_reference,
    "2048 x 2048 x 4, 10 % cloud": large,
    "head 126 x 156 x 130, four blobs": head,
}
DEMO = "demo: 1024 x 1024 x 6, 48 % holes, one reference"
UNIT = "GDAL fillnodata, 2048 x 2048 x 4"


def prepared(name: str, folder: Path) -> list[str]:
    """Write a scene and return the command that restores it."""
    folder.mkdir(parents=True)
    config = folder / "config.json"
    inputs: dict[str, Any]
    if name == DEMO:
        files = write_demo_sentinel(folder)
        clouds = ["cloud_shadow", "cloud_medium", "cloud_high", "thin_cirrus"]
        masks = [{"kind": "scl", "path": str(files[kind]), "classes": clouds} for kind in ("scl", "reference_scl")]
        inputs = {"source": str(files["image"]), "references": [{"path": str(files["reference"]), "mask": masks[1:]}]}
        content = {"input": inputs, "mask": masks[:1], "output": {"directory": str(folder / "out")}}
    else:
        image, hole = SCENES[name]()
        suffix = ".tif" if image.values.ndim == 3 else ".nii.gz"
        files = {kind: folder / f"{kind}{suffix}" for kind in ("image", "mask", "reference")}
        engine.write(files["image"], np.where(hole, image.values.max(), image.values).astype(image.values.dtype), image)
        engine.write(files["mask"], hole[None].astype(np.uint8), image)
        inputs = {"source": str(files["image"])}
        for guide in image.guides:
            engine.write(files["reference"], guide.values, image)
            inputs["references"] = [{"path": str(files["reference"]), "mask": []}]
        content = {
            "input": inputs,
            "mask": [{"kind": "raster", "path": str(files["mask"])}],
            "output": {"directory": str(folder / "out")},
        }
    # blocks in the same process: processor time does not depend on how many workers there are
    config.write_text(json.dumps(content | {"compute": {"executor": "serial"}}))
    return [sys.executable, "-m", "pipeline", "run", str(config), "--overwrite", "--quiet"]


def measured(command: list[str]) -> tuple[float, float]:
    """Return processor seconds and wall seconds of a command.

    Raises:
        SystemExit: it failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{said.decode()[-2000:]}")
    wall = time.perf_counter() - started
    return used.ru_utime + used.ru_stime, wall


def stages(folder: Path) -> dict[str, float]:
    """Return the seconds that the record of a run names, the larger ones."""
    record = json.loads(next((folder / "out").glob("*/record.json")).read_text())
    return {name: round(s, 2) for name, s in record["seconds"].items() if s >= 0.05}


def rounds(names: list[str], count: int, folder: Path) -> list[Cost]:
    """Measure all rows in turns; of each the round with the smallest ratio counts."""
    commands = {name: prepared(name, folder / str(k)) for k, name in enumerate(names)}
    prepared("2048 x 2048 x 4, 10 % cloud", folder / "unit")
    files = [str(folder / "unit" / f"{kind}.tif") for kind in ("image", "mask", "filled")]
    best: dict[str, Cost] = {}
    for _ in range(count):
        unit, wall = measured([sys.executable, "-c", GDAL, *files])
        row = Cost(name=UNIT, cpu_s=unit, wall_s=wall, units=1.0, stages={})
        best[UNIT] = min(best.get(UNIT, row), row, key=lambda cost: cost.cpu_s)
        for k, (name, command) in enumerate(commands.items()):
            cpu, wall = measured(command)
            row = Cost(name=name, cpu_s=cpu, wall_s=wall, units=cpu / unit, stages=stages(folder / str(k)))
            best[name] = min(best.get(name, row), row, key=lambda cost: cost.units)
            print(f"{name}: {row.units:.1f} units, {cpu:.1f} s", file=sys.stderr, flush=True)
    return list(best.values())


def table(costs: list[Cost]) -> str:
    """Return the rows as Markdown."""
    lines = ["| run with defaults | units | CPU s | wall s | where (seconds) |", "|---|---|---|---|---|"]
    for cost in costs:
        parts = ("survey_total", "model", "self-test", "coarse fill", "blocks", "assemble", "report")
        found = [part for part in parts if part in cost.stages]
        where = ", ".join(f"{part.removesuffix('_total')} {cost.stages[part]:.1f}" for part in found)
        lines.append(f"| {cost.name} | {cost.units:.1f} | {cost.cpu_s:.1f} | {cost.wall_s:.1f} | {where} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the page and its JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="rows whose name starts with this")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--json", type=Path, default=ROOT / "out/speed.json")
    options = parser.parse_args()
    names = [n for n in (*SCENES, DEMO) if not options.only or any(n.startswith(o) for o in options.only)]
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        costs = rounds(names, options.rounds, Path(folder))
    made = table(costs)
    print(made)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1))
    if options.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK[0])
        PAGE.write_text(f"{before}{MARK[0]}\n{made}\n{MARK[1]}{rest.partition(MARK[1])[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
