"""What the self-tests of many images find about networks: `NETWORKS` in `pipeline/selftest/prior.py`.

    INPAINT_DATA=... python -m benchmarks.prior_network [--only FAMILY]... [--cases N] [--without PLACE]

The holes are those of `benchmarks.quality`, in scenes whose pixels the weights were not trained on. For each network,
family of holes and distance to observed pixels: the blend weight with the smallest squared error on hidden pixels, each
place counting the same, and what it does to the squared error there. Last, the share of single wide pseudo-holes that
get worse by the weights with the table of the package, before any caution: paste the table, and run again.
`--without` leaves a place out, to judge the rest on it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.prior import GRID, Sums, cells
from benchmarks.quality import engine
from benchmarks.quality.cases import Case, all_cases
from benchmarks.quality.trained import seen
from pipeline.models.base import Inpainter
from pipeline.numerics.situation import FAMILIES, KNOTS
from pipeline.selftest import network, setup
from pipeline.selftest.changes import Change
from pipeline.selftest.judge import judge
from pipeline.selftest.trial import evidence_of

TESTED = ("cloud", "region 32", "points 30 %", "blob T1")


class _Seen(BaseException):
    """Ends a run as soon as the network is weighed; the run reports whatever is an `Exception`."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one self-test says: the network, squared errors at each weight over those without, and harm."""

    name: str
    ratios: Sums
    tells: Any
    harmed: float


def found(case: Case, folder: Path) -> Found | None:
    """Return what the self-test of a case finds, or None if it never comes to a network."""
    image, hole = case.build()
    models: list[Inpainter] = []
    kept: list[Found] = []

    def judged(placements: Any, fills: Any, guides: Any, model: Inpainter, *rest: Any, **more: Any) -> Any:
        models.append(model)
        return judge(placements, fills, guides, model, *rest, **more)

    def watched(change: Change, lowered: Any) -> float:
        share = change.harmed(lowered(1.0))
        cells_of = cells(evidence_of(change.proposals, change.drafts.cells))
        kept.append(Found(models[0].name, *cells_of, share))
        raise _Seen

    with mock.patch.object(network, "_caution", watched), mock.patch.object(setup, "judge", judged):
        try:
            engine.restore(image, hole, folder)
        except _Seen:
            return kept[0]
    return None


def table(parts: list[tuple[str, Found]]) -> None:
    """Print what is found about one network: `parts` are places and what their self-tests say."""
    knots = [(family, knot) for family, row in zip(FAMILIES, KNOTS, strict=True) for knot in row]
    print("| holes | distance | places | best weight | squared error |\n|---|---|---|---|---|")
    for j, (family, knot) in enumerate(knots):
        by_place: dict[str, list[Sums]] = defaultdict(list)
        for place, one in parts:
            if one.tells[j]:
                by_place[place].append(np.log(np.maximum(one.ratios[j], 1e-6)))
        best = "- | -"
        if by_place:
            mean = np.exp(np.mean([np.mean(rows, axis=0) for rows in by_place.values()], axis=0))
            k = int(np.argmin(mean))
            best = f"{GRID[k]:.1f} | {mean[k] - 1:+.1%}"
        print(f"| {family} | {knot:g} | {len(by_place)} | {best} |")
    shares = [one.harmed for _, one in parts if np.isfinite(one.harmed)]
    print(f"single wide pseudo-holes made worse: {np.mean(shares):.1%} of {len(shares)} files\n" if shares else "")


def main() -> None:
    """Run the self-tests and print a table for each network that had a part in one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prior_network", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="FAMILY")
    parser.add_argument("--cases", type=int, default=1, metavar="N", help="at most this many holes a family and scene")
    parser.add_argument("--without", default="", metavar="PLACE")
    options = parser.parse_args()
    parts: dict[str, list[tuple[str, Found]]] = defaultdict(list)
    for case in all_cases():
        wanted = case.family in (options.only or TESTED) and case.number < options.cases
        if not wanted or case.scene.place == options.without or seen(case.scene) == "yes":
            continue
        with tempfile.TemporaryDirectory() as folder:
            one = found(case, Path(folder) / "run")
        if one is not None:
            parts[one.name].append((case.scene.place, one))
        print(f"{case.name}: {one.name if one else 'no network was weighed'}", flush=True)
    for name, rows in sorted(parts.items()):
        print(f"\n{name}")
        table(rows)


if __name__ == "__main__":
    main()
