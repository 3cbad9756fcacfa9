"""From rows of cases to the table of the project's goals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.quality.cases import AREA_FAMILIES, HELPED_FAMILIES
from benchmarks.quality.fills import COPY, REGRESSION
from benchmarks.quality.runner import ALONE, OURS
from benchmarks.quality.scores import bootstrap, psnr, spearman

WORSE_DB = 0.05
Row = dict[str, Any]
Groups = dict[str, list[float]]
Statistic = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the table.

    Attributes:
        title: what is measured.
        unit: `dB`, `%` or empty.
        floor: what must hold; NaN = for information.
        goal: what is aimed at.
        value: measured.
        low, high: 95 % interval over places; NaN if there is only one.
        places, cases: how many.
        less: True if small values are good.
        note: what a reader should know.
    """

    title: str
    unit: str
    floor: float
    goal: float
    value: float
    low: float = math.nan
    high: float = math.nan
    places: int = 0
    cases: int = 0
    less: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """Say which mark the measured value reaches."""
        if math.isnan(self.value):
            return "not measured"
        if math.isnan(self.floor):
            return ""
        sign = -1 if self.less else 1
        if sign * self.value >= sign * self.goal:
            return "goal"
        return "floor" if sign * self.value >= sign * self.floor else "**below the floor**"


def decibel(row: Row, method: str) -> float:
    """Return the hole-only PSNR of a method in a case, mean over channels."""
    return psnr(row["methods"][method]["mse"], row["range"])


def single_image(row: Row) -> list[str]:
    """Return the classical single-image fills of a row."""
    return [name for name in row["methods"] if name not in (OURS, ALONE, REGRESSION, COPY)]


def best_classical(rows: Sequence[Row]) -> str:
    """Return the single-image fill with the highest mean PSNR over the rows; one that all of them have."""
    shared = set.intersection(*(set(single_image(row)) for row in rows))
    return max(sorted(shared), key=lambda name: float(np.mean([decibel(row, name) for row in rows])))


def of_family(rows: Iterable[Row], *families: str) -> list[Row]:
    """Return the rows of some families that have scores."""
    return [row for row in rows if row["family"] in families and "error" not in row]


def grouped(rows: Sequence[Row], value: Callable[[Row], float]) -> Groups:
    """Return one value a row by place; rows without a finite value are left out."""
    groups: Groups = {}
    for row in rows:
        number = value(row)
        if math.isfinite(number):
            groups.setdefault(row["place"], []).append(number)
    return groups


def gains(rows: Sequence[Row], over: str | None = None) -> dict[str, float]:
    """Return the gain over a method, else over the best classical fill of each row's family, dB, by case."""
    found: dict[str, float] = {}
    for family in sorted({row["family"] for row in rows}):
        members = of_family(rows, family)
        base = over or best_classical(members)
        found |= {row["case"]: decibel(row, OURS) - decibel(row, base) for row in members}
    return found


def untrained(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of scenes that no shipped weights have seen; all rows if fewer than three places are left."""
    fair = [row for row in rows if row["trained"] != "yes"]
    return fair if len({row["place"] for row in fair}) > 2 else list(rows)


def gain_line(
    title: str,
    rows: Sequence[Row],
    floor: float,
    goal: float,
    *,
    over: str | None = None,
    statistic: Statistic = np.mean,
) -> Line:
    """Return a statistic of the gain over a method, else over the best classical fill of the family."""
    if not rows:
        return Line(title=title, unit="dB", floor=floor, goal=goal, value=math.nan)
    gain = gains(rows, over)
    fair = untrained(rows)
    groups = grouped(fair, lambda row: gain[row["case"]])
    value, low, high = bootstrap(groups, lambda values: float(statistic(values)))
    return Line(
        title=title,
        unit="dB",
        floor=floor,
        goal=goal,
        value=value,
        low=low,
        high=high,
        places=len(groups),
        cases=len(fair),
        note=_against(rows, fair, gain, over, statistic),
    )


def _against(
    rows: Sequence[Row], fair: Sequence[Row], gain: dict[str, float], over: str | None, statistic: Statistic
) -> str:
    notes = []
    if over is None:
        best = dict.fromkeys(best_classical(of_family(rows, f)) for f in dict.fromkeys(r["family"] for r in rows))
        oracle = np.mean([decibel(r, OURS) - max(decibel(r, m) for m in single_image(r)) for r in fair])
        notes += [f"against {', '.join(best)}", f"{oracle:+.2f} against the best fill of each file"]
    trained = [row for row in rows if row["trained"] == "yes"]
    if len(fair) < len(rows):
        value = float(statistic([gain[r["case"]] for r in rows]))
        notes.append(f"{value:+.2f} with {len(trained)} cases of trained places")
    elif trained:
        notes.append(f"{len(trained)} of the cases from trained places")
    return "; ".join(notes)


def share_line(title: str, groups: Groups, floor: float, goal: float, **options: Any) -> Line:
    """Return a mean of 0/1 values as a percentage."""
    value, low, high = bootstrap(groups)
    return Line(
        title=title,
        unit="%",
        floor=floor,
        goal=goal,
        value=100 * value,
        low=100 * low,
        high=100 * high,
        places=len(groups),
        cases=sum(len(v) for v in groups.values()),
        **options,
    )


def parts_worse(rows: Sequence[Row], part: str, against: str | None = None) -> Groups:
    """Return 1 for each hole component or tile that is worse by more than 0.05 dB than the named fill, else 0.

    Without a name it is the best classical fill of each family.
    """
    groups: Groups = {}
    for family in sorted({row["family"] for row in rows}):
        members = of_family(rows, family)
        base = against or best_classical(members)
        for row in members:
            ours, theirs = (row["methods"][m][part] for m in (OURS, base))
            worse = [
                float(psnr(a, row["range"]) - psnr(b, row["range"]) < -WORSE_DB)
                for a, b in zip(ours, theirs, strict=True)
            ]
            groups.setdefault(row["place"], []).extend(worse)
    return groups


def coverage_lines(rows: Sequence[Row]) -> list[Line]:
    """Return the share of files whose 90 % interval holds 85-95 % of the truth: all, and borders alone."""
    lines = []
    for title, members in (
        ("90 % interval: files between 85 and 95 %", rows),
        ("... files with holes at a border", [r for r in rows if r["family"].startswith("border")]),
    ):
        groups = grouped(members, lambda row: float(0.85 <= row["coverage"] <= 0.95))
        below = np.mean([r["coverage"] < 0.85 for r in members]) if members else math.nan
        mean = np.mean([r["coverage"] for r in members]) if members else math.nan
        note = f"mean coverage {100 * mean:.1f} %; {100 * below:.0f} % of the files below 85 %"
        lines.append(share_line(title, groups, 85, 97, note=note))
    return lines


def predicted_line(rows: Sequence[Row]) -> Line:
    """Return the rank correlation of the error that the self-test predicts with the true one, over files."""
    pairs = []
    for row in rows:
        truth, span = np.asarray(row["methods"][OURS]["mse"], dtype=float), np.asarray(row["range"])
        told = np.asarray(row["predicted"], dtype=float)
        use = np.isfinite(truth) & (span > 0)
        if told.size == truth.size and use.any():
            relative = [float(np.sqrt(np.mean(m[use] / span[use] ** 2))) for m in (told**2, truth)]
            pairs.append((row["place"], *relative))
    groups: dict[str, list[float]] = {}
    for index, (place, *_) in enumerate(pairs):
        groups.setdefault(place, []).append(index)

    def rank(index: Any) -> float:
        chosen = [pairs[int(i)] for i in index]
        return spearman([p[1] for p in chosen], [p[2] for p in chosen])

    value, low, high = bootstrap(groups, rank)
    ratio = np.median([p[2] / max(p[1], 1e-12) for p in pairs]) if pairs else math.nan
    note = f"median true / predicted {ratio:.2f}; {len(rows) - len(pairs)} files without a prediction"
    return Line(
        title="file error predicted by the self-test, Spearman",
        unit="",
        floor=0.85,
        goal=0.95,
        value=value,
        low=low,
        high=high,
        places=len(groups),
        cases=len(pairs),
        note=note,
    )


def unseen_line(rows: Sequence[Row]) -> Line:
    """Return how much smaller the mean gain is on sensors and contrasts that training never saw, same families.

    Families with helpers are left out: what another date is worth is a matter of the place, not of the sensor.
    """
    rows = [row for row in rows if row["family"] not in HELPED_FAMILIES]
    gain = gains(rows)
    kinds: dict[str, dict[bool, list[tuple[str, float]]]] = {}
    for row in rows:
        # the same holes in T1 and in other contrasts are one family here
        family = "blob" if row["family"].startswith("blob") else row["family"]
        kinds.setdefault(family, {}).setdefault(bool(row["unseen"]), []).append((row["place"], gain[row["case"]]))
    both = {family: sides for family, sides in kinds.items() if len(sides) == 2}
    flat = [(place, value, side, family) for family, s in both.items() for side, v in s.items() for place, value in v]
    groups: dict[str, list[float]] = {}
    for index, (place, *_) in enumerate(flat):
        groups.setdefault(place, []).append(index)

    def loss(index: Any) -> float:
        chosen = [flat[int(i)] for i in index]
        per_family = []
        for family in both:
            seen, unseen = ([v for _, v, s, f in chosen if f == family and s is side] for side in (False, True))
            if seen and unseen:
                per_family.append(np.mean(seen) - np.mean(unseen))
        return float(np.mean(per_family)) if per_family else math.nan

    value, low, high = bootstrap(groups, loss) if flat else (math.nan,) * 3
    note = ", ".join(sorted({r["sensor"] for r in rows if r["unseen"]}))
    return Line(
        title="unseen sensor or contrast: loss against seen",
        unit="dB",
        floor=0.3,
        goal=0.1,
        value=value,
        low=low,
        high=high,
        places=len(groups),
        cases=len(flat),
        less=True,
        note=note,
    )


def changed_line(rows: Sequence[Row]) -> Line:
    """Return the number of observed pixels that changed, over all cases."""
    total = float(sum(row["changed"] for row in rows)) if rows else math.nan
    places = len({row["place"] for row in rows})
    return Line(
        title="observed pixels changed",
        unit="",
        floor=0,
        goal=0,
        value=total,
        places=places,
        cases=len(rows),
        less=True,
    )


def information(title: str, rows: Sequence[Row], key: str) -> Line:
    """Return the mean of a number of each row that has no mark to reach."""
    groups = grouped(rows, lambda row: float(row[key]))
    value, low, high = bootstrap(groups)
    places, cases = len(groups), sum(len(v) for v in groups.values())
    return Line(
        title=title,
        unit="",
        floor=math.nan,
        goal=math.nan,
        value=value,
        low=low,
        high=high,
        places=places,
        cases=cases,
    )


def single_image_lines(good: Sequence[Row]) -> list[Line]:
    """Return the lines of one optical image without helpers."""
    return [
        gain_line("points 30 %", of_family(good, "points 30 %"), 0.8, 2.0),
        gain_line("points 80 %", of_family(good, "points 80 %"), 0.2, 0.8),
        gain_line("stripes", of_family(good, "stripes"), 0.2, 1.0),
        gain_line("cloud and region, single image", of_family(good, "cloud", "region 32", "region 64"), 0, 0.5),
        *(gain_line(f"... {f}", of_family(good, f), math.nan, math.nan) for f in ("cloud", "region 32", "region 64")),
        gain_line("border", of_family(good, "border"), 0, 0.2),
    ]


def reference_lines(good: Sequence[Row]) -> list[Line]:
    """Return the lines of the families with another date."""
    clear, cloudy, changed = (of_family(good, f"{kind} reference") for kind in ("clear", "cloudy", "changed"))
    lines = [
        gain_line("one clear reference, over the best single-image fill", clear, 3, 4.5),
        gain_line("... median", clear, 1.5, 3, statistic=np.median),
        gain_line("... over multi-band regression + spline residual", clear, 0.2, 1.0, over=REGRESSION),
    ]
    if cloudy:
        alone = parts_worse(untrained(cloudy), "tiles", ALONE)
        share = 100 * np.mean(np.concatenate(list(alone.values())))
        groups = parts_worse(untrained(cloudy), "tiles")
        note = f"against the best classical fill; {share:.1f} % against the own result without the reference"
        title = "cloudy reference: hole tiles worse than the single-image fill"
        lines += [
            share_line(title, groups, 5, 1, less=True, note=note),
            gain_line("... mean gain", cloudy, 0, 1),
            gain_line("... over the own result without the reference", cloudy, math.nan, math.nan, over=ALONE),
        ]
    return [
        *lines,
        gain_line("reference with real change, over single image", changed, 0, 2),
        gain_line("radar as auxiliary", of_family(good, "radar"), math.nan, math.nan),
    ]


def volume_lines(good: Sequence[Row]) -> list[Line]:
    """Return the lines of volumes."""
    aux = of_family(good, "auxiliary contrast")
    nan = math.nan
    return [
        gain_line("slice drop 1-3, over the best of tension / cubic / linear", of_family(good, "slice drop"), 0.2, 1.5),
        gain_line("... slices of 2.4 to 6.5 mm", of_family(good, "thick slice drop"), nan, nan),
        gain_line("blob in T1, over 3-D tension", of_family(good, "blob T1"), 0, 0.6),
        gain_line("... in other contrasts", of_family(good, "blob other contrast"), nan, nan),
        gain_line("border slab", of_family(good, "border slab"), nan, nan),
        gain_line("auxiliary contrast, blob, over the best single-volume fill", aux, 0.5, 3),
        gain_line("... worst case", aux, -0.1, 0, statistic=np.min),
        gain_line("... over multi-band regression + spline residual", aux, nan, nan, over=REGRESSION),
        gain_line("slices of one volume of a series", of_family(good, "series"), nan, nan),
        gain_line("CT, blobs in bone", of_family(good, "CT metal"), nan, nan),
    ]


def quality_table(rows: Sequence[Row]) -> list[Line]:
    """Return the lines of the table for what was measured."""
    good = [row for row in rows if "error" not in row]
    area = of_family(good, *AREA_FAMILIES)
    lines = [
        *single_image_lines(good),
        *reference_lines(good),
        *volume_lines(good),
        *coverage_lines(good),
        predicted_line(good),
        share_line(
            "hole components made worse than the best classical by > 0.05 dB",
            parts_worse(area, "components"),
            8,
            1,
            less=True,
        ),
        changed_line(good),
        unseen_line(good),
        information("rim seam, area holes of one image (1 is ideal)", area, "seam"),
        information("gradients in area holes of one image, share of the truth's", area, "gradient"),
        information("... with a clear reference", of_family(good, "clear reference"), "gradient"),
    ]
    return [line for line in lines if line.cases]
