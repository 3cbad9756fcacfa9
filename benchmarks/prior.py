"""What the self-tests of many images find about references: the table in `pipeline/selftest/prior.py`.

    INPAINT_DATA=... python -m benchmarks.prior [--only NAME]...

For each cell of `references.reliance_cells` (thin holes, wide ones near observed pixels, wide ones far off;
reliabilities 0 to 1): the blend weight with the smallest squared error on hidden pixels of cloudy scenes, each
scene counting the same, and what it does to the squared error there. The table in the package is rounded from it. Of
the ten scenes those that are nearly all hidden are left out: references lead there whatever is tested.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import rasterio
from numpy.typing import NDArray

from benchmarks.real_clouds import Pair, cloud_mask, pairs, read
from pipeline.config.catalog import resolve_sources
from pipeline.config.schema import load_config
from pipeline.evidence.mark import with_doubt
from pipeline.image.scene import Clock, open_scene
from pipeline.orders import order_of
from pipeline.references.reliance import RELIABILITY
from pipeline.selftest import references, setup
from pipeline.selftest.judge import judge
from pipeline.selftest.prior import BELIEFS
from pipeline.selftest.trial import evidence_of
from pipeline.selftest.verdict import Verdict
from pipeline.selftest.weights import Belief, Evidence

Sums = NDArray[np.float64]
GRID = np.linspace(0, 1, 11)
FEWEST = 200
"""Hidden pixels of a cell below which a scene says nothing of it."""


def evidence(pair: Pair, folder: Path) -> Evidence | None:
    """Return what the self-test of a scene sees of its reference; None if nearly all is hidden."""
    with rasterio.open(pair.cloudy) as file:
        profile = file.profile | {"count": 1, "dtype": "uint8", "nodata": None}
    with rasterio.open(folder / "mask.tif", "w", **profile) as file:
        file.write(cloud_mask(read(pair.cloudy), read(pair.clear)).astype(np.uint8), 1)
    config = folder / "config.yaml"
    config.write_text(
        f"input: {{source: {pair.cloudy}, references: [{{path: {pair.clear}, mask: []}}]}}\nmodel: {{kind: tension}}\n"
        f"mask: [{{kind: raster, path: {folder / 'mask.tif'}}}]\noutput: {{directory: {folder / 'out'}}}\n",
        encoding="utf-8",
    )
    loaded = load_config(config)
    order = order_of(loaded, resolve_sources(loaded)[0])
    order.work.path.mkdir(parents=True)
    scene, _ = with_doubt(open_scene(order.job, Clock())[0])
    if scene.little_trusted:
        return None
    seen: list[Evidence] = []

    def watched(consulted: list[references.Consulted], *_: object) -> references.Reliance:
        seen.append(evidence_of(consulted, references.reliance_cells))
        return references.UNUSED

    def measured(placements: Any, fills: Any, guides: Any, *rest: Any, **more: Any) -> Verdict:
        # the default fill alone; a reference is measured also where it would lead
        return judge(placements, fills[:1], [replace(guide, leads=False) for guide in guides], *rest, **more)

    with mock.patch.object(references, "_weighed", watched), mock.patch.object(setup, "judge", measured):
        setup.self_test(scene, None)
    return seen[0] if seen else None


def cells(found: Evidence) -> tuple[Sums, NDArray[np.bool_]]:
    """Return the squared error of each cell at each weight over that without, `(cells, 11)`, and which tell."""
    error, step = found.error.astype(np.float64), found.step.astype(np.float64)
    squares = np.stack([(error + weight * step) ** 2 for weight in GRID])
    count = found.cells.sum(axis=1)
    sums = np.einsum("jn,wn->jw", found.cells, squares)
    return sums / np.maximum(sums[:, :1], 1e-30), count >= FEWEST


def main() -> None:
    """Print the table, and what the package has."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prior", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    options = parser.parse_args()
    parts = []
    for pair in pairs(Path(os.environ["INPAINT_DATA"])):
        if options.only and pair.name not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = evidence(pair, Path(folder))
        if found is not None:
            parts.append(cells(found))
        print(f"{pair.name}: {'nearly all is hidden' if found is None else f'{found.error.size} pixels'}", flush=True)
    print("| holes | reliability | scenes | best weight | squared error | in the package |\n|---|---|---|---|---|---|")
    for j, belief in enumerate(BELIEFS):
        told = [np.log(np.maximum(ratio[j], 1e-6)) for ratio, tells in parts if tells[j]]
        family = ("thin", "near", "far")[j // len(RELIABILITY)]
        print(f"| {family} | {RELIABILITY[j % len(RELIABILITY)]} | {len(told)} | {_best(told)} | {_said(belief)} |")


def _best(told: list[Sums]) -> str:
    if not told:
        return "- | -"
    mean = np.exp(np.mean(told, axis=0))
    best = int(np.argmin(mean))
    return f"{GRID[best]:.1f} | {mean[best] - 1:+.0%}"


def _said(belief: Belief) -> str:
    return f"{belief.weight:.1f}, {belief.change:+.0%}"


if __name__ == "__main__":
    main()
