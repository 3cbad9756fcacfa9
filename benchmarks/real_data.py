"""Run the tool on real images of both worlds, verify each run, and write the table `docs/real-data.md`.

    INPAINT_DATA=/path/to/data python -m benchmarks.real_data [--only NAME]... [--out out/real-data]

Every case is an ordinary config handed to the ordinary command line; only holes that the data do not have are drawn
here (clouds on the clear Landsat scene, lost slices, a lesion in a healthy head).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("INPAINT_DATA", "data"))
CORUMBA = "satellite/l8_corumba/LC08_L1TP_227074_20190809_20200827_02_T1.tif"


def cloud_holes(shape: tuple[int, ...], share: float, sigma: float, seed: int) -> NDArray[np.uint8]:
    """Smooth random blobs that cover `share` of the image."""
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return (field > np.quantile(field, 1 - share)).astype(np.uint8)


def draw_raster_mask(image: Path, target: Path) -> Path:
    """Write a mask with clouds on the grid of a raster."""
    with rasterio.open(image) as like:
        profile = {"driver": "GTiff", "height": like.height, "width": like.width, "count": 1, "dtype": "uint8"}
        with rasterio.open(target, "w", crs=like.crs, transform=like.transform, **profile) as out:
            out.write(cloud_holes(like.shape, 0.25, 14, seed=1), 1)
    return target


def draw_volume_mask(image: Path, target: Path) -> Path:
    """Write a mask with blobs inside the bright part of a volume."""
    like = nib.load(image)
    data = np.asarray(like.dataobj)
    holes = cloud_holes(data.shape, 0.02, 4, seed=2) * (data > np.percentile(data, 60))
    nib.save(nib.Nifti1Image(holes.astype(np.uint8), like.affine), target)
    return target


def cases(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the config of every case, by name; a key `refused` holds the expected exit code."""
    corumba = draw_raster_mask(DATA / CORUMBA, folder / "corumba_holes.tif")
    head = draw_volume_mask(DATA / "medical/child_head_t1/sag_anon_t1.nii.gz", folder / "head_holes.nii.gz")
    raw = DATA / "medical/ms_long_patient01_raw"
    pairs = DATA / "satellite/s2_masked_pairs"
    thick = {
        "source": str(raw / "study1_T1W.nii.gz"),
        "auxiliary": [{"path": str(raw / "study1_FLAIR.nii.gz")}],
    }
    slices = [{"kind": "slices", "slices": [12, 20, 21], "axis": "k"}]
    series = [
        {"kind": "slices", "slices": [9, 10], "axis": "k", "volumes": [3]},
        {"kind": "slices", "slices": [5], "axis": "k", "volumes": [7]},
    ]
    return {
        "le7-colombia": {"input": {"source": "le7-colombia"}},
        "l8-colombia": {"input": {"source": "l8-colombia"}},
        "s2-masked-4287": {
            "input": {"source": str(pairs / "4287_input.tif")},
            "mask": [{"kind": "raster", "path": str(pairs / "4287_mask.tif"), "buffer": "3 px"}],
        },
        "s2-volga-p840": {"input": {"source": "s2-volga-p840"}},
        "l8-corumba": {"input": {"source": "l8-corumba"}, "mask": [{"kind": "raster", "path": str(corumba)}]},
        "l8-corumba-single": {
            "input": {"source": str(DATA / CORUMBA)},
            "mask": [{"kind": "raster", "path": str(corumba)}],
        },
        "rgb-bahamas": {
            "input": {"source": "rgb-bahamas"},
            "mask": [{"kind": "threshold", "band": 1, "above": 150, "buffer": "2 px"}],
        },
        "ms-patient19": {"input": {"source": "ms-patient19"}},
        "pcasl-series": {"input": {"source": "pcasl-series"}, "mask": series},
        "ms-long-thick-refused": {"input": thick, "mask": slices, "refused": 2},
        "ms-long-thick": {
            "input": {**thick, "auxiliary": [{"path": str(raw / "study1_FLAIR.nii.gz"), "resample": True}]},
            "mask": slices,
        },
        "ct-abdomen": {
            "input": {"source": "ct-abdomen"},
            "mask": [{"kind": "threshold", "above": 1500, "physical": True, "buffer": "6 mm"}],
        },
        "child-head-t1": {"input": {"source": "child-head-t1"}, "mask": [{"kind": "raster", "path": str(head)}]},
    }


def run_case(name: str, config: dict[str, Any], folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Run and verify one case; returns a row of the table."""
    expected = config.pop("refused", 0)
    config["output"] = {"directory": str(folder / name)}
    path = ROOT / "configs" / f".real-{name}.json"
    path.write_text(json.dumps(config))
    options = [part for override in overrides for part in ("--set", override)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "run", str(path), "--overwrite", "--json", *options],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        path.unlink()
    if done.returncode != expected:
        raise SystemExit(f"{name}: exit code {done.returncode}, expected {expected}\n{done.stderr[-4000:]}")
    if expected:
        message = done.stderr.strip().splitlines()[-4:]
        return {"name": name, "refused": " ".join(message).replace(str(DATA) + "/", "").replace("|", "/")}
    check = subprocess.run(
        [sys.executable, "-m", "pipeline", "verify", str(folder / name)], capture_output=True, text=True, check=False
    )
    if check.returncode:
        raise SystemExit(f"{name}: verify failed\n{check.stdout}{check.stderr[-2000:]}")
    return finished_case(name, folder)


def finished_case(name: str, folder: Path) -> dict[str, Any]:
    """Return the row of a case that was run before."""
    record = next((folder / name).glob("*/record.json"))
    return {"name": name, "record": json.loads(record.read_text())}


def table(rows: list[dict[str, Any]]) -> str:
    """Render the rows as Markdown."""
    lines = [
        "# Real images",
        "",
        "Every row is one run of `inpaint-pipeline run` followed by `inpaint-pipeline verify` (all checks passed).",
        "PSNR: the run's own self-test, observed pixels hidden in the file's own hole shapes, range p1-p99, dB.",
        "**Bold** = base fills used, one for each family of holes; network, references and other channels:",
        "PSNR of the method alone and, in brackets, the weight that",
        "the self-test gave it. Made by `INPAINT_DATA=... python -m benchmarks.real_data`, one row with `--only NAME`.",
        "What runs cost stands in [performance.md](performance.md).",
        "The network saw child-head-t1 and one half of l8-corumba in training: its scores there are not those of a new",
        "image.",
        "",
        "| case | size | holes | fills | references, auxiliaries | network | 90 % interval held | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['name']} | refused with exit code 2, as it should: {row['refused']} ||||||")
        else:
            lines.append(_row(row))
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    record = row["record"]
    test = record["self_test"] or {"methods": [], "coverage_90": None}
    guides = [m for m in test["methods"] if m["method"].startswith(("reference", "auxiliary", "other channels"))]
    network = [m for m in test["methods"] if m["method"].startswith("network")]
    fills = [m for m in test["methods"] if m not in guides and m not in network]
    fill = ", ".join(("**{}**" if m["chosen"] else "{}").format(f"{m['method']} {m['psnr_db']:.2f}") for m in fills)
    held = f"{100 * test['coverage_90']:.1f} %" if test["coverage_90"] is not None else test.get("note", "-")
    size = " x ".join(str(n) for n in (record["space"]["channels"], *record["space"]["shape"]))
    cells = (
        row["name"],
        f"{size} {record['space']['dtype'].lstrip('<|')}",
        f"{100 * record['holes']['fraction']:.2f} %",
        fill,
        weighed(guides),
        weighed(network),
        held,
        f"{record['peak_rss_bytes'] / 2**20:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def weighed(methods: list[dict[str, Any]]) -> str:
    """PSNR of each method alone with its weight in brackets; a dash for none."""
    shown = [f"{m['psnr_db']:.2f} ({m['weight']:.1f})" for m in methods if m["psnr_db"] is not None]
    return ", ".join(shown) or "-"


def main() -> None:
    """Run the cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="run only this case (may be repeated); the table is printed")
    parser.add_argument("--out", type=Path, default=ROOT / "out/real-data")
    parser.add_argument("--reuse", action="store_true", help="do not run again what has a record in the folder")
    parser.add_argument("--set", action="append", default=[], help="passed on to every run")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, config in cases(arguments.out.resolve()).items():
        if arguments.only and name not in arguments.only:
            continue
        folder = arguments.out.resolve()
        if arguments.reuse and list((folder / name).glob("*/record.json")):
            rows.append(finished_case(name, folder))
        else:
            rows.append(run_case(name, config, folder, arguments.set))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    if not arguments.only:
        (ROOT / "docs/real-data.md").write_text(table(rows))


if __name__ == "__main__":
    main()
