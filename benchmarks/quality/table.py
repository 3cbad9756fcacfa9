"""From rows of cases to the table of the project's goals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.quality.cases import AREA_FAMILIES, HAZY_FAMILIES, HELPED_FAMILIES, VOLUME_FAMILIES
from benchmarks.quality.fills import CLUSTERS, REGRESSION
from benchmarks.quality.gains import (
    Groups,
    Row,
    best_classical,
    by_family,
    decibel,
    gains,
    grouped,
    kind,
    of_family,
    parts_worse,
    single_image,
    unseen_losses,
    untrained,
)
from benchmarks.quality.runner import ALONE, CLEAN, OURS
from benchmarks.quality.scores import bootstrap, spearman, without_one

Statistic = Callable[[Any], Any]
Marks = tuple[float, float]
"""Floor and goal."""
SCRIPTS = (REGRESSION, CLUSTERS)
"""Guided restorations that an analyst would script; see `fills`."""
CHANGED = "observed pixels changed"
"""Title of the line that is a count: one is too many, in any part of the cases."""
UNMARKED: Marks = (math.nan, math.nan)


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
        left_out: the value without each place, by place.
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
    left_out: Mapping[str, float]
    places: int
    cases: int
    less: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """Say which mark the measured value reaches, and whether that hangs on one place."""
        if math.isnan(self.value):
            return "not measured"
        if math.isnan(self.floor):
            return ""
        if not self._reaches(self.value, self.floor):
            return "**below the floor**"
        known = {place: value for place, value in self.left_out.items() if not math.isnan(value)}
        needed = [place for place, value in known.items() if not self._reaches(value, self.floor)]
        mark = "goal" if self._reaches(self.value, self.goal) else "floor"
        return f"{mark}, but **below the floor** without {' or '.join(needed)}" if needed else mark

    @property
    def holds(self) -> bool:
        """Say whether the floor holds on all places together; a line without one does."""
        return math.isnan(self.floor) or self._reaches(self.value, self.floor)

    def _reaches(self, value: float, mark: float) -> bool:
        return value <= mark if self.less else value >= mark


def line(
    title: str,
    unit: str,
    marks: Marks,
    groups: Groups,
    statistic: Statistic = np.mean,
    *,
    less: bool = False,
    note: str = "",
) -> Line:
    """Return a statistic of values grouped by place; shares of 1 as percentages if the unit says so."""
    times = 100.0 if unit == "%" else 1.0

    def scaled(values: Any) -> float:
        return times * float(statistic(values))

    value, low, high = bootstrap(groups, scaled)
    return Line(
        title=title,
        unit=unit,
        floor=marks[0],
        goal=marks[1],
        value=value,
        low=low,
        high=high,
        left_out=without_one(groups, scaled),
        places=len(groups),
        cases=sum(len(v) for v in groups.values()),
        less=less,
        note=note,
    )


def indexed(rows: Sequence[Any], place: Callable[[Any], str]) -> Groups:
    """Return the positions of rows by place, for statistics that need whole rows."""
    groups: Groups = {}
    for index, row in enumerate(rows):
        groups.setdefault(place(row), []).append(index)
    return groups


def gain_line(
    title: str,
    rows: Sequence[Row],
    marks: Marks = UNMARKED,
    *,
    over: Sequence[str] = (),
    statistic: Statistic = np.mean,
) -> Line:
    """Return a statistic of the gain over the best of some methods, else over the best classical fill of the family."""
    gain = gains(rows, *over)
    fair = untrained(rows)
    groups = grouped(fair, lambda row: gain[row["case"]])
    return line(title, "dB", marks, groups, statistic, note=_against(rows, fair, gain, over, statistic))


def _against(
    rows: Sequence[Row], fair: Sequence[Row], gain: dict[str, float], over: Sequence[str], statistic: Statistic
) -> str:
    notes = []
    if not over and rows:
        best = dict.fromkeys(best_classical(members) for members in by_family(rows).values())
        oracle = float(statistic([decibel(r, OURS) - max(decibel(r, m) for m in single_image(r)) for r in fair]))
        notes += [f"against {', '.join(best)}", f"{oracle:+.2f} against the best fill of each file"]
    trained = [row for row in rows if row["trained"] == "yes"]
    if len(fair) < len(rows):
        value = float(statistic([gain[r["case"]] for r in rows]))
        notes.append(f"{value:+.2f} with {len(trained)} cases of trained places")
    elif trained:
        notes.append(f"{len(trained)} of the cases from trained places")
    return "; ".join(notes)


def coverage_lines(rows: Sequence[Row]) -> list[Line]:
    """Return the share of files whose 90 % interval holds 85-95 % of the truth: all but hazy ones, and by kind."""
    hazy, rows = of_family(rows, *HAZY_FAMILIES), [row for row in rows if row["family"] not in HAZY_FAMILIES]
    borders = [row for row in rows if row["family"].startswith("border")]
    guided, alone = of_family(rows, *HELPED_FAMILIES), [row for row in rows if row["family"] not in HELPED_FAMILIES]
    volumes = of_family(alone, *VOLUME_FAMILIES)
    rasters = [row for row in alone if row["family"] not in VOLUME_FAMILIES]
    lines = []
    for title, members, marks in (
        ("90 % interval: files between 85 and 95 %", rows, (85, 97)),
        ("... rasters without guides", rasters, (88, 97)),
        ("... volumes without guides", volumes, (80, 97)),
        ("... with guides", guided, (80, 97)),
        ("... with most of the image hidden", of_family(rows, "mostly hidden, clear reference"), UNMARKED),
        ("... files with holes at a border", borders, (85, 97)),
        ("... with haze or thin cloud outside the mask", hazy, UNMARKED),
    ):
        if not members:
            continue
        low, mean = (f([row["coverage"] for row in members]) for f in (lambda c: np.mean(np.array(c) < 0.85), np.mean))
        note = f"mean coverage {100 * mean:.1f} %; {100 * low:.0f} % of the files below 85 %"
        if members is borders:
            shares = (f"{family} {100 * np.mean(_held(part)):.0f} %" for family, part in by_family(members).items())
            note += "; " + ", ".join(shares)
        groups = grouped(members, lambda row: _held([row])[0])
        lines.append(line(title, "%", marks, groups, note=note))
    return lines


def _held(rows: Sequence[Row]) -> list[float]:
    return [float(0.85 <= row["coverage"] <= 0.95) for row in rows]


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

    def rank(index: Any) -> float:
        chosen = [pairs[int(i)] for i in index]
        return spearman([p[1] for p in chosen], [p[2] for p in chosen])

    ratio = np.median([p[2] / max(p[1], 1e-12) for p in pairs]) if pairs else math.nan
    note = f"median true / predicted {ratio:.2f}; {len(rows) - len(pairs)} files without a prediction"
    title = "file error predicted by the self-test, Spearman"
    return line(title, "", (0.85, 0.95), indexed(pairs, lambda p: str(p[0])), rank, note=note)


def unseen_line(rows: Sequence[Row]) -> Line:
    """Return how much smaller the mean gain is on sensors and contrasts that training never saw, same families.

    Families with helpers are left out: what another date is worth is a matter of the place, not of the sensor.
    """
    rows = [row for row in rows if row["family"] not in HELPED_FAMILIES]
    gain = gains(rows)
    known = unseen_losses(rows, gain, [bool(row["unseen"]) for row in rows])
    rows = [row for row in rows if kind(row) in known]

    def loss(index: Any) -> float:
        chosen = [rows[int(i)] for i in index]
        losses = unseen_losses(chosen, gain, [bool(row["unseen"]) for row in chosen])
        return float(np.mean(list(losses.values()))) if losses else math.nan

    note = "; ".join(sorted({r["sensor"] for r in rows if r["unseen"]}))
    note += "; by family: " + ", ".join(f"{family} {value:+.2f}" for family, value in known.items())
    title = "unseen sensor or contrast: loss against seen"
    return line(title, "dB", (0.3, 0.1), indexed(rows, lambda r: str(r["place"])), loss, less=True, note=note)


def changed_line(rows: Sequence[Row]) -> Line:
    """Return the number of observed pixels that changed, over all cases."""
    total = float(sum(row["changed"] for row in rows))
    places = len({row["place"] for row in rows})
    return Line(
        title=CHANGED, unit="", floor=0, goal=0, value=total, left_out={}, places=places, cases=len(rows), less=True
    )


def information(title: str, rows: Sequence[Row], key: str) -> Line:
    """Return the mean of a number of each row that has no mark to reach."""
    return line(title, "", UNMARKED, grouped(rows, lambda row: float(row[key])))


def single_image_lines(good: Sequence[Row]) -> list[Line]:
    """Return the lines of one optical image without helpers."""
    areas = ("cloud", "region 32", "region 64")
    return [
        gain_line("points 30 %", of_family(good, "points 30 %"), (0.8, 2.0)),
        gain_line("points 80 %", of_family(good, "points 80 %"), (0.2, 0.8)),
        gain_line("stripes", of_family(good, "stripes"), (0.2, 1.0)),
        gain_line("cloud and region, single image", of_family(good, *areas), (0, 0.5)),
        *(gain_line(f"... {family}", of_family(good, family)) for family in areas),
        gain_line("border", of_family(good, "border"), (0, 0.2)),
    ]


def reference_lines(good: Sequence[Row]) -> list[Line]:
    """Return the lines of the families with another date."""
    clear, cloudy, changed = (of_family(good, f"{k} reference") for k in ("clear", "cloudy", "changed"))
    two, mostly = (of_family(good, name) for name in ("two middling references", "mostly hidden, clear reference"))
    hazy, thin, little, below_haze, below_thin = (of_family(good, name) for name in HAZY_FAMILIES)
    best = "one clear reference, over the best single-image fill"
    return [
        gain_line(best, clear, (3, 4.5)),
        gain_line("... median", clear, (1.5, 3), statistic=np.median),
        gain_line("... over multi-band regression + spline residual", clear, (0.2, 1.0), over=(REGRESSION,)),
        gain_line("... over the best of that and clusters + ridge + spline residual", clear, (0.1, 0.7), over=SCRIPTS),
        gain_line("... worst case", clear, (-0.2, 0), over=SCRIPTS, statistic=np.min),
        gain_line("most of the image hidden, clear reference, over the best of both", mostly, (0, 0.5), over=SCRIPTS),
        gain_line("... worst case", mostly, (-1, 0), over=SCRIPTS, statistic=np.min),
        gain_line("... over the best single-image fill", mostly, (4, 5)),
        gain_line("two middling references, over the best of both", two, (0, 0.5), over=SCRIPTS),
        *(_cloudy_lines(cloudy) if cloudy else []),
        gain_line("reference with real change, over single image", changed, (0, 2)),
        gain_line("radar as auxiliary", of_family(good, "radar")),
        gain_line("haze ring outside the mask, over the same without", hazy, (-0.5, -0.1), over=(CLEAN,)),
        gain_line("thin cloud and shadow outside the mask, over the same without", thin, (-0.5, -0.1), over=(CLEAN,)),
        gain_line("haze ring, most of the image hidden, over the same without", little, (-3, -0.5), over=(CLEAN,)),
        gain_line("... over the best of both scripts", little, (3, 5), over=SCRIPTS),
        gain_line("haze ring, below clouds of the date, over the same without", below_haze, (-2, -0.5), over=(CLEAN,)),
        gain_line("thin cloud and shadow, below clouds of the date, likewise", below_thin, (-3, -0.5), over=(CLEAN,)),
    ]


def _cloudy_lines(cloudy: Sequence[Row]) -> list[Line]:
    """Count the tiles that a cloudy reference harms: against the same run without it, and the classical fill."""
    family, base = cloudy[0]["family"], best_classical(cloudy)
    fair = untrained(cloudy)
    lines = []
    for title, fill, marks in (
        ("cloudy reference: hole tiles worse than the single-image fill", ALONE, (5, 1)),
        (f"... than {base}", base, UNMARKED),
    ):
        every = np.concatenate(list(parts_worse(cloudy, "tiles", {family: fill}).values()))
        trained = len(cloudy) - len(fair)
        note = f"{100 * every.mean():.1f} % of {len(every)} tiles with {trained} cases of trained places"
        note = f"own result without the reference; {note}" if fill == ALONE else f"best of the family; {note}"
        groups = parts_worse(fair, "tiles", {family: fill})
        lines.append(line(title, "%", marks, groups, less=True, note=note))
    return [
        *lines,
        gain_line("... mean gain", cloudy, (0, 1)),
        gain_line("... over the own result without the reference", cloudy, over=(ALONE,)),
    ]


def volume_lines(good: Sequence[Row]) -> list[Line]:
    """Return the lines of volumes."""
    aux, void = of_family(good, "auxiliary contrast"), of_family(good, "several contrasts, large void")
    slices = "slice drop 1-3, over the best of tension / cubic / linear"
    return [
        gain_line(slices, of_family(good, "slice drop"), (0.2, 1.5)),
        gain_line("... slices of 2.4 to 6.5 mm", of_family(good, "thick slice drop")),
        gain_line("blob in T1, over 3-D tension", of_family(good, "blob T1"), (0, 0.6)),
        gain_line("... in other contrasts", of_family(good, "blob other contrast")),
        gain_line("lesion shapes of other subjects", of_family(good, "lesion shape")),
        gain_line("border slab", of_family(good, "border slab")),
        gain_line("auxiliary contrast, blob, over the best single-volume fill", aux, (0.5, 3)),
        gain_line("... worst case", aux, (-0.1, 0), statistic=np.min),
        gain_line("... over multi-band regression + spline residual", aux, over=(REGRESSION,)),
        gain_line("... over clusters + local + spline residual", aux, (0, 1), over=(CLUSTERS,)),
        gain_line("... worst case", aux, (-0.2, 0), over=(CLUSTERS,), statistic=np.min),
        gain_line("several contrasts, large void, over the best of both", void, (0, 1), over=SCRIPTS),
        gain_line("slices of one volume of a series", of_family(good, "series")),
        gain_line("CT, blobs in bone", of_family(good, "CT metal")),
    ]


def quality_table(rows: Sequence[Row]) -> list[Line]:
    """Return the lines of the table for what was measured."""
    good = [row for row in rows if "error" not in row]
    clear = [row for row in good if row["family"] not in HAZY_FAMILIES]
    area = of_family(good, *AREA_FAMILIES)
    bases = {family: best_classical(members) for family, members in by_family(area).items()}
    worse = "hole components made worse than the best classical by > 0.05 dB"
    lines = [
        *single_image_lines(good),
        *reference_lines(good),
        *volume_lines(good),
        *coverage_lines(good),
        predicted_line(clear),
        line(worse, "%", (8, 1), parts_worse(area, "components", bases), less=True),
        changed_line(good),
        unseen_line(clear),
        information("rim seam, area holes of one image (1 is ideal)", area, "seam"),
        information("gradients in area holes of one image, share of the truth's", area, "gradient"),
        information("... with a clear reference", of_family(good, "clear reference"), "gradient"),
    ]
    return [entry for entry in lines if entry.cases]
