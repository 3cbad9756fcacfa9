"""Which references, and in which order: `INPAINT_DATA=... python -m benchmarks.reference_order`.

Each date of the New York series (Landsat 8 at 3 km, 2018) gets holes where it is clear; all other dates of the place
are its references, the nearest in time first or last. With `--season N` only N are: those nearest in time, or those
nearest in the time of the year, for dates where that makes a difference. PSNR over the holes in dB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt

from benchmarks.quality.scenes import data_folder
from pipeline.run import run

PLACES = ("013032", "014031", "014032")
DISCS = 7
YEAR = 365.2425
Mask = NDArray[np.bool_]
Choices = dict[str, list[int]]
"""Days of the references by the name of the choice."""


def dates(place: str) -> dict[int, tuple[NDArray[Any], Mask, dict[str, Any]]]:
    """Return by day the bands `(4, y, x)`, which pixels are cloud or shadow, and the raster's profile."""
    folder = data_folder() / "satellite/l8_newyork_series"
    found = {}
    for quality in sorted(folder.glob(f"LC08_L1TP_{place}_*_BQA.TIF")):
        name = quality.name.removesuffix("_BQA.TIF")
        bands = []
        for band in (2, 3, 4, 5):
            with rasterio.open(folder / f"{name}_B{band}.TIF") as source:
                bands.append(source.read(1))
                profile = {**source.profile, "count": 4, "nodata": 0, "photometric": "minisblack"}
        values = np.stack(bands)
        values[:, (values == 0).any(axis=0)] = 0
        with rasterio.open(quality) as source:
            bits = source.read(1)
        # Landsat Collection 1: bit 4 is cloud, bits 7-8 the confidence of its shadow
        cloudy = ((bits & 16) > 0) | ((bits >> 7 & 3) == 3)
        found[datetime.strptime(name[-8:], "%Y%m%d").toordinal()] = values, binary_dilation(cloudy), profile
    return found


def discs(rng: np.random.Generator, valid: Mask) -> Mask:
    """Return holes of 3 to 7 pixels radius that begin at least 5 pixels from the image's end."""
    inside = np.argwhere(distance_transform_edt(valid) > 5)
    grid, hole = np.indices(valid.shape), np.zeros(valid.shape, dtype=bool)
    for _ in range(DISCS):
        centre = inside[rng.integers(len(inside))].reshape(2, 1, 1)
        hole |= ((grid - centre) ** 2).sum(axis=0) < rng.uniform(3, 7) ** 2
    return hole


def write(path: Path, values: NDArray[Any], mask: Mask, profile: dict[str, Any]) -> dict[str, Any]:
    """Write an image and its mask; returns their entry in a config."""
    with rasterio.open(path, "w", **profile) as target:
        target.write(values)
    masked = path.with_name(f"mask-{path.name}")
    with rasterio.open(masked, "w", **{**profile, "count": 1, "dtype": "uint8", "nodata": None}) as target:
        target.write(mask[None].astype(np.uint8))
    return {"path": str(path), "mask": [{"kind": "raster", "path": str(masked)}]}


def by_order(day: int, others: Sequence[int]) -> Choices:
    """Return all other dates in both orders, and none."""
    nearest = sorted(others, key=lambda d: abs(d - day))
    return {"none": [], "near first": nearest, "far first": nearest[::-1]}


def by_season(day: int, others: Sequence[int], few: int) -> Choices:
    """Return few of the other dates, nearest in time or in the time of the year; nothing if they are the same ones."""
    in_time = sorted(others, key=lambda d: abs(d - day))[:few]
    in_season = sorted(others, key=lambda d: abs((d - day + YEAR / 2) % YEAR - YEAR / 2))[:few]
    if set(in_time) == set(in_season):
        return {}
    return {"none": [], "nearest in time": in_time, "nearest in season": in_season}


def scores(place: str, folder: Path, chosen: Callable[[int, Sequence[int]], Choices]) -> Iterator[dict[str, float]]:
    """Yield the PSNR of each date with every choice of its references, under the day of the date."""
    series = dates(place)
    entries = {day: write(folder / f"{day}.tif", *facts) for day, facts in series.items()}
    for k, (day, (values, cloudy, profile)) in enumerate(series.items()):
        choices = chosen(day, [d for d in series if d != day])
        if not choices:
            continue
        valid = values[0] > 0
        hole = discs(np.random.default_rng(k), valid)
        scored, missing = hole & valid & ~cloudy, hole | cloudy
        top = values.reshape(4, -1).max(axis=1).reshape(4, 1, 1)
        image = write(folder / "image.tif", np.where(missing & valid, top, values), missing, profile)
        low, high = np.percentile(values[:, valid & ~cloudy], [1, 99], axis=1)
        result = {}
        for name, order in choices.items():
            config = {
                "input": {
                    "source": image["path"],
                    "references": [{**entries[d], "resample": True} for d in order],
                },
                "mask": image["mask"],
                "output": {"directory": str(folder / "out")},
                "compute": {"executor": "serial"},
            }
            shutil.rmtree(folder / "out", ignore_errors=True)
            (folder / "run.json").write_text(json.dumps(config))
            run(folder / "run.json")
            with rasterio.open(next((folder / "out").rglob("*restored.tif"))) as source:
                error = (source.read().astype(np.float64) - values)[:, scored]
            result[name] = float(np.mean(20 * np.log10((high - low) / np.sqrt((error**2).mean(axis=1)))))
        print(place, date.fromordinal(day), *(f"{name} {value:.2f}" for name, value in result.items()), flush=True)
        yield result


def main() -> None:
    """Print a line a date and what the choice changes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--season", type=int, metavar="N", help="compare which N are taken, not which come first")
    season = parser.parse_args().season
    chosen = partial(by_season, few=season) if season else by_order
    found: list[dict[str, float]] = []
    for place in PLACES:
        with tempfile.TemporaryDirectory() as folder:
            found += scores(place, Path(folder), chosen)
    none, one, other = ("none", *(("nearest in time", "nearest in season") if season else ("near first", "far first")))
    for name, before, after in ((f"{one} over {none}", none, one), (f"{one} over {other}", other, one)):
        change = np.asarray([r[after] - r[before] for r in found])
        print(f"{name}: {change.mean():+.3f} dB ({change.min():+.2f} to {change.max():+.2f}), {len(found)} dates")


if __name__ == "__main__":
    main()
