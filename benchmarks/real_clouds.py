"""Real clouds with a clear date beside them: does its structure arrive in the holes, and is haze filled in?

    INPAINT_DATA=... python -m benchmarks.real_clouds [--only NAME]... [--fast] [--write]

Ten Sentinel-2 pairs of `satellite/s2_cr_*`: a cloudy date is restored with the clear date of the same season as
reference (without a mask of its own). The mask is what a decent detector gives: blue 500 above the clear date (cloud)
or near infrared 800 below it (shadow), specks removed, widened by 2 px. Haze and thin cloud stay outside, as they do in
practice. Nobody knows what was under the clouds, so the clear date is the yardstick. Measured in the holes, 3 px from
their edge, bands 2, 3, 4 and 8:

- led: share of hole pixels that the reference leads;
- detail: correlation with the clear date after taking off a Gaussian blur of 6 px (a copy of it has 1);
- contrast: standard deviation of that detail over the clear date's;
- ground: the same two of the cloudy date itself where it is seen, at least 10 px from the mask and not hazier than the
  median there, if that is 5000 pixels: what a perfect restoration would have if the ground under the clouds is like it;
- excess: mean of restored minus clear date, less the median difference of the dates over pixels at least 10 px from the
  mask and not hazier than their median, in shares of the clear date's 1-99 % range; haze is positive, most in blue.

Where the ground itself differs between the dates (shortwave infrared outside the mask lower by more than a quarter of
its range, or the snow index higher by 0.25: snow or wet ground) the level cannot be judged: no part of the mean.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.blocks.events import Events
from pipeline.run import run

ROOT = Path(__file__).resolve().parents[1]
Field = NDArray[np.float64]
BANDS = (1, 2, 3, 7)
ENOUGH = 5000
GREEN, SHORTWAVE = 2, 11
PAGE, PICTURE = ROOT / "docs/real-clouds.md", ROOT / "docs/images/real-clouds.webp"


class Pair(NamedTuple):
    """Two dates of a place."""

    name: str
    cloudy: Path
    clear: Path


class Measured(NamedTuple):
    """What one pair gave; shares of 1."""

    holes: float
    led: float
    detail: float
    contrast: float
    ground: tuple[float, float]
    excess: tuple[float, float, float]
    ground_differs: bool


def pairs(data: Path) -> Iterator[Pair]:
    """Yield the pairs of the test data."""
    for cloudy in sorted((data / "satellite").glob("s2_cr_*/*_cloudy_*.tif")):
        clear = cloudy.with_name(cloudy.name.replace("_cloudy", ""))
        if clear.exists():
            yield Pair(f"{cloudy.parent.name[6:]}-{cloudy.stem.rsplit('_', 1)[-1]}", cloudy, clear)


def read(path: Path) -> Field:
    """Return all bands of a raster, float64 `(c, rows, cols)`."""
    with rasterio.open(path) as file:
        return np.asarray(file.read().astype(np.float64))


def cloud_mask(cloudy: Field, clear: Field) -> NDArray[np.bool_]:
    """Return what a decent detector finds of clouds and shadows, bool `(rows, cols)`."""
    found = (cloudy[1] - clear[1] > 500) | (cloudy[7] - clear[7] < -800)
    return np.asarray(ndimage.binary_dilation(ndimage.binary_opening(found, iterations=1), iterations=2))


def restored(pair: Pair, folder: Path, overrides: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Restore a pair by the ordinary command; returns `restored`, `source` and, if there is one, `doubt`."""
    hole = cloud_mask(read(pair.cloudy), read(pair.clear))
    with rasterio.open(pair.cloudy) as file:
        profile = file.profile | {"count": 1, "dtype": "uint8", "nodata": None}
    with rasterio.open(folder / "mask.tif", "w", **profile) as file:
        file.write(hole.astype(np.uint8), 1)
    config = folder / "config.yaml"
    config.write_text(
        f"input: {{source: {pair.cloudy}, references: [{{path: {pair.clear}, mask: []}}]}}\n"
        f"mask: [{{kind: raster, path: {folder / 'mask.tif'}}}]\noutput: {{directory: {folder / 'out'}}}\n",
        encoding="utf-8",
    )
    run(config, ["compute.executor=serial", *overrides], overwrite=True, events=Events())
    found = (folder / "out").glob("*/*_*.tif")
    return {path.stem.rsplit("_", 1)[-1]: read(path) for path in found}


def detail(band: Field, seen: NDArray[np.bool_]) -> Field:
    """Return a band without its coarse part, which is told from the pixels that are seen."""
    share = np.maximum(ndimage.gaussian_filter(seen.astype(np.float64), 6), 1e-6)
    return np.asarray(band - ndimage.gaussian_filter(np.where(seen, band, 0.0), 6) / share)


def likeness(image: Field, clear: Field, seen: NDArray[np.bool_], some: NDArray[np.bool_]) -> tuple[float, float]:
    """Return correlation of detail with the clear date and contrast over it, at some of the pixels that are seen."""
    fine = [(detail(image[b], seen)[some], detail(clear[b], seen)[some]) for b in BANDS]
    return (
        float(np.mean([np.corrcoef(ours, theirs)[0, 1] for ours, theirs in fine])),
        float(np.mean([ours.std() / theirs.std() for ours, theirs in fine])),
    )


def measured(pair: Pair, layers: dict[str, NDArray[np.generic]]) -> Measured:
    """Compare a restored image with both dates."""
    cloudy, clear, result = read(pair.cloudy), read(pair.clear), layers["restored"]
    hole = cloud_mask(cloudy, clear)
    deep, far = ndimage.binary_erosion(hole, iterations=3), ~ndimage.binary_dilation(hole, iterations=10)
    far = far if far.sum() >= 500 else ~hole
    haze = (cloudy - clear)[1]
    far &= haze <= np.median(haze[far])
    fine, contrast = likeness(result, clear, np.ones_like(hole), deep)
    reach = np.ptp(np.percentile(clear, (1, 99), axis=(1, 2)), axis=0)
    level = np.median((cloudy - clear)[:, far], axis=1)
    source = layers["source"][0]
    return Measured(
        holes=float(hole.mean()),
        led=float(((source >= 10) & (source < 254))[hole].mean()),
        detail=fine,
        contrast=contrast,
        ground=likeness(cloudy, clear, ~hole, far) if far.sum() >= ENOUGH else (np.nan, np.nan),
        excess=tuple(float(((result - clear)[b][deep].mean() - level[b]) / reach[b]) for b in BANDS[:3]),
        ground_differs=ground_differs(cloudy, clear, ~hole),
    )


def ground_differs(cloudy: Field, clear: Field, seen: NDArray[np.bool_]) -> bool:
    """Say whether the ground between the clouds is another one: darker in shortwave infrared, or snowy."""
    away = np.median((cloudy - clear)[SHORTWAVE][seen]) / np.ptp(np.percentile(clear[SHORTWAVE], (1, 99)))
    snow = [np.median(((d[GREEN] - d[SHORTWAVE]) / (d[GREEN] + d[SHORTWAVE] + 1))[seen]) for d in (cloudy, clear)]
    return bool(away < -0.25 or snow[0] - snow[1] > 0.25)


def strip(pair: Pair, layers: dict[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    """Return cloudy date, holes (red) and doubted pixels (blue), restored image and clear date side by side."""
    cloudy, clear = read(pair.cloudy), read(pair.clear)
    hole, doubt = cloud_mask(cloudy, clear), layers.get("doubt")
    colours = [3, 2, 1]

    def shown(values: Field, like: Field) -> Field:
        low, high = np.percentile(like[colours], (1, 99.5), axis=(1, 2))
        scaled = (values[colours] - low[:, None, None]) / (high - low)[:, None, None]
        return np.moveaxis(np.clip(scaled, 0, 1), 0, -1)

    before = shown(cloudy, layers["restored"])
    marked = before.copy()
    if doubt is not None:
        marked[doubt[0] > 0] = (0.24, 0.47, 1.0)
    marked[hole] = (0.9, 0.24, 0.16)
    parts = [before, marked, shown(layers["restored"], layers["restored"]), shown(clear, clear)]
    return np.asarray(255 * np.concatenate(parts, axis=1), dtype=np.uint8)


def table(rows: dict[str, Measured]) -> str:
    """Return the measured pairs and their mean as a Markdown table."""
    lines = [
        "| pair | holes | led | detail (ground) | contrast (ground) | excess blue / green / red |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        line = _line(name, row, row.excess)
        lines.append(f"{line[:-1]}(ground differs) |" if row.ground_differs else line)
    found = list(rows.values())
    same = [row.excess for row in found if not row.ground_differs]
    told = [row.ground for row in found if np.isfinite(row.ground).all()]
    mean = Measured(
        *(float(np.mean([getattr(row, name) for row in found])) for name in ("holes", "led", "detail", "contrast")),
        ground=tuple(np.mean(told, axis=0)) if told else (np.nan, np.nan),
        excess=tuple(np.mean(same, axis=0)) if same else (),
        ground_differs=False,
    )
    return "\n".join([*lines, _line("**mean**", mean, mean.excess)])


def _line(name: str, row: Measured, excess: Sequence[float]) -> str:
    parts = [
        f"{value:.2f}" + (f" ({ground:.2f})" if np.isfinite(ground) else "")
        for value, ground in zip((row.detail, row.contrast), row.ground, strict=True)
    ]
    cells = [name, f"{row.holes:.0%}", f"{row.led:.0%}", *parts, " / ".join(f"{v:+.2f}" for v in excess) or "-"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Restore and measure the pairs, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_clouds", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--fast", action="store_true", help="without the network")
    parser.add_argument("--write", action="store_true", help="put table and pictures into docs/real-clouds.md")
    options = parser.parse_args()
    overrides = ["model.kind=tension"] if options.fast else []
    rows, strips = {}, []
    for pair in pairs(Path(os.environ["INPAINT_DATA"])):
        if options.only and pair.name not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            layers = restored(pair, Path(folder), overrides)
        rows[pair.name] = measured(pair, layers)
        strips.append(strip(pair, layers))
        print(table({pair.name: rows[pair.name]}).splitlines()[2], flush=True)
    print(table(rows))
    if options.write:
        before, _, after = PAGE.read_text(encoding="utf-8").partition("<!-- made -->")
        end = after.partition("<!-- end -->")[2]
        PAGE.write_text(f"{before}<!-- made -->\n{table(rows)}\n<!-- end -->{end}", encoding="utf-8")
        Image.fromarray(np.concatenate(strips)).save(PICTURE, "WEBP", quality=80, method=6)


if __name__ == "__main__":
    main()
