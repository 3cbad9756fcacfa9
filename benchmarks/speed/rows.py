"""What is measured: one entry a row, with the scene, what runs on it, and the marks it has to reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TENSION: Mapping[str, Any] = {"model": {"kind": "tension"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        table: the table it stands in, see `TABLES`.
        name: unique; what `--only` asks for, from its beginning.
        scene: a key of `scenes.SCENES`; empty where nothing is restored.
        tool: `run` or `plan` (this program), `scheduling` (`benchmarks.cluster`), or a key of `rivals.TOOLS`.
        settings: sections of the config beside input, mask and output; for other tools their options.
        against: row whose time is divided by this one's.
        floor, goal: of the number that the table is about; None = for information.
        gpu: needs a GPU; without one the row is left out, and the page says so. `--quick` takes the CPU as device then.
        quick: measured by `--quick`, on a small scene.
    """

    table: str
    name: str
    scene: str
    tool: str = "run"
    settings: Mapping[str, Any] = field(default_factory=dict)
    against: str = ""
    floor: float | None = None
    goal: float | None = None
    gpu: bool = False
    quick: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What the rows of a table are about."""

    title: str
    number: str
    """The number that floor and goal are of: `units`, `ratio`, `wall_s`, `planned` (peak over planned memory),
    `scheduling` (milliseconds a patch) or `assembly` (percent of the wall time)."""
    text: str


TABLES = {
    "defaults": Table(
        title="Runs with defaults",
        number="units",
        text="Processor time, children included, in units of GDAL's `fillnodata`: read, fill and write "
        "2048 x 2048 x 4 with 10 % cloud, measured beside each row.",
    ),
    "workers": Table(
        title="More workers",
        number="ratio",
        text="Wall time of the whole run with one worker over that with two, on two cores.",
    ),
    "scheduling": Table(
        title="What giving out work takes",
        number="scheduling",
        text="Processor time of client and scheduler for each patch: 2000 blocks of 21 patches, all hole, given to two "
        "workers that do nothing, through the loop and the scheduler of a real run.",
    ),
    "assembly": Table(
        title="From blocks to files",
        number="assembly",
        text="Share of the wall time of a run that goes into the final files, from the first byte to the check.",
    ),
    "methods": Table(
        title="Other methods on the same image and holes",
        number="units",
        text="PSNR counts hole pixels only; its range is the 1st to 99th percentile of each band, its value the mean "
        "over bands.",
    ),
    "inferers": Table(
        title="Other sliding windows with the same network",
        number="ratio",
        text="The same network (`optical`), patch (256) and overlap (32), one view, every hole pixel from the network; "
        "processor time of the other tool over ours, whole processes. Others look at every patch, ours at those with "
        "holes; 100 % means a hole in every patch.",
    ),
    "memory": Table(
        title="Memory",
        number="planned",
        text="Images of which next to nothing is stored, with eight small holes. Peak resident memory of the largest "
        "process over the peak that `plan` names.",
    ),
    "gpu": Table(title="On a GPU", number="wall_s", text="Wall seconds of the whole run, `device: cuda`."),
}


def _inferers() -> list[Row]:
    rows = []
    for share, floor, goal in ((100, 1, 1.3), (30, 2, 2.5), (10, 4, 8), (2, 10, 30)):
        scene, ours = f"holes {share}", f"network everywhere, {share} % holes"
        rows.append(Row(table="inferers", name=ours, scene=scene, tool="forced"))
        for tool in ("monai", "torchio"):
            rows.append(
                Row(
                    table="inferers", name=f"{tool}, {share} % holes", scene=scene, tool=tool, against=ours,
                    floor=floor if tool == "monai" else None, goal=goal if tool == "monai" else None,
                )
            )  # fmt: skip
    return rows


def _memory() -> list[Row]:
    rows = []
    for kind in ("GeoTIFF", "zarr"):
        for size in (0.1, 1, 10, 100):
            tool = "plan" if size == 100 else "run"
            what = "planned only" if size == 100 else "restored"
            rows.append(
                Row(
                    table="memory", name=f"{kind}, {size:g} gigapixels, {what}", scene=f"sparse {kind} {size:g}",
                    tool=tool, settings=TENSION, quick=size == 0.1,
                    floor=1.15 if tool == "run" else None, goal=1.05 if tool == "run" else None,
                )
            )  # fmt: skip
    return rows


def _workers(count: int) -> Mapping[str, Any]:
    return {**TENSION, "compute": {"executor": "local", "workers": count}}


ROWS: tuple[Row, ...] = (
    Row(table="defaults", name="2048 x 2048 x 4, 10 % cloud", scene="large", floor=8, goal=3),
    Row(table="defaults", name="300 x 300 x 6, 10 % cloud", scene="crop", floor=3, goal=1.5),
    Row(table="defaults", name="256 x 256 x 12, one reference", scene="reference", floor=7, goal=3),
    Row(table="defaults", name="demo: 1024 x 1024 x 6, 48 % holes, reference", scene="demo", floor=14, goal=5),
    Row(table="defaults", name="head, four blobs", scene="head", floor=8, goal=3),
    Row(table="defaults", name="head, void of 12 % of the brain", scene="void", floor=22, goal=10, quick=False),
    Row(table="defaults", name="10,980 x 10,980 x 4, 10 % cloud", scene="tile", floor=250, goal=100, quick=False),
    Row(table="defaults", name="the same, spline alone", scene="tile", settings=TENSION, quick=False),
    Row(table="defaults", name="the same, GDAL fillnodata", scene="tile", tool="gdal", quick=False),
    Row(table="workers", name="one worker", scene="wide", settings=_workers(1)),
    Row(
        table="workers", name="two workers", scene="wide", settings=_workers(2), against="one worker",
        floor=1.7, goal=1.95,
    ),
    Row(table="scheduling", name="client and scheduler", scene="", tool="scheduling", floor=0.05, goal=0.005),
    Row(
        table="assembly", name="assembly, 2048 x 2048 x 4, spline alone", scene="large", settings=TENSION,
        floor=10, goal=3,
    ),
    Row(
        table="assembly", name="assembly, 10,980 x 10,980 x 4, spline alone", scene="tile", settings=TENSION,
        floor=10, goal=3, quick=False,
    ),
    Row(table="methods", name="this program", scene="large"),
    Row(table="methods", name="this program, spline alone", scene="large", settings=TENSION),
    Row(table="methods", name="GDAL fillnodata", scene="large", tool="gdal"),
    Row(table="methods", name="OpenCV inpaint, Telea", scene="large", tool="telea"),
    Row(table="methods", name="OpenCV inpaint, Navier-Stokes", scene="large", tool="navier_stokes"),
    Row(table="methods", name="scikit-image inpaint_biharmonic", scene="large", tool="biharmonic"),
    *_inferers(),
    *_memory(),
    Row(table="gpu", name="GPU: demo", scene="demo", gpu=True, floor=20, goal=6),
    Row(table="gpu", name="GPU: 2048 x 2048 x 4, 30 % cloud", scene="holes 30", gpu=True, floor=15, goal=5),
    Row(
        table="gpu", name="GPU: 10,980 x 10,980 x 4, 10 % cloud", scene="tile", gpu=True, floor=240, goal=60,
        quick=False,
    ),
)  # fmt: skip
