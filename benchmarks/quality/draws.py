"""How much results depend on which observed pixels the self-test hides: cases restored with several seeds.

The first draw is that of the default seed, with which settings were chosen; nothing was chosen on the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.cases import AREA_FAMILIES, DRAWN_FAMILIES, Case
from benchmarks.quality.gains import Row, best_classical, by_family, gains, of_family, parts_worse
from benchmarks.quality.runner import Settings
from benchmarks.quality.table import Line, quality_table

Draws = Sequence[Sequence[Row]]
"""The rows of each draw beyond the first."""
HEAD = (
    "| | cases | mean over draws | first draw | smallest and largest draw | deviation of a case between draws "
    "| first draw over the others |\n|---|---|---|---|---|---|---|"
)


def name_of(state: str, number: int) -> str:
    """Return the name under which results of a draw are kept, by its number from 0."""
    return f"{state}-draw{number + 1}" if number else state


def settings_of(settings: Settings, count: int) -> list[Settings]:
    """Return the settings of each draw; the first are those that are given."""
    return [replace(settings, state=name_of(settings.state, k), seed=settings.seed + k) for k in range(count)]


def drawn(cases: Sequence[Case]) -> list[Case]:
    """Return the cases that are restored with several seeds."""
    return [case for case in cases if case.family in DRAWN_FAMILIES]


def mean_table(rows: Sequence[Row], more: Draws) -> list[Line]:
    """Return the lines of the table; values and ends of intervals are means over draws.

    Args:
        rows: of the first draw.
        more: of the others; a case that failed, or was not restored again, counts as in the first.
    """
    tables = [quality_table(_exchanged(rows, again)) for again in ((), *more)]
    return [_mean(lines) for lines in zip(*tables, strict=True)]


def _exchanged(rows: Sequence[Row], again: Sequence[Row]) -> list[Row]:
    good = {row["case"]: row for row in again if "error" not in row}
    return [row if "error" in row else good.get(row["case"], row) for row in rows]


def _mean(lines: Sequence[Line]) -> Line:
    first = lines[0]
    if np.array_equal([line.value for line in lines], [first.value] * len(lines), equal_nan=True):
        return first
    places = [place for place in first.left_out if all(place in line.left_out for line in lines)]
    return replace(
        first,
        value=float(np.mean([line.value for line in lines])),
        low=float(np.mean([line.low for line in lines])),
        high=float(np.mean([line.high for line in lines])),
        left_out={place: float(np.mean([line.left_out[place] for line in lines])) for place in places},
        note=f"mean of {len(lines)} draws; in the first: {first.note}" if first.note else f"mean of {len(lines)} draws",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """What a number is in each draw.

    Attributes:
        title: what is measured.
        unit: `dB` or `%`.
        values: `(cases, draws)`.
        weights: of the cases, `(cases,)`.
    """

    title: str
    unit: str
    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def by_draw(self) -> NDArray[np.float64]:
        """The mean over cases in each draw, `(draws,)`."""
        return np.asarray(np.average(self.values, axis=0, weights=self.weights))

    @property
    def of_a_case(self) -> float:
        """The standard deviation of a case between draws, root of the mean square over cases."""
        return float(np.sqrt(np.average(self.values.var(axis=1, ddof=1), weights=self.weights)))

    @property
    def luck(self) -> tuple[float, float]:
        """How much higher the first draw is than the mean of the others, and its standard error (NaN for one case)."""
        over = self.values[:, 0] - self.values[:, 1:].mean(axis=1)
        mean, n = float(np.average(over, weights=self.weights)), len(over)
        if n < 2:
            return mean, math.nan
        parts = self.weights * (over - mean)
        return mean, float(np.sqrt((parts**2).sum() * n / (n - 1)) / self.weights.sum())


def scatters(rows: Sequence[Row], more: Draws) -> list[Scatter]:
    """Return the gain of each drawn family over its best classical fill, and the share of hole components it harms."""
    good = [{row["case"]: row for row in draw if "error" not in row} for draw in (rows, *more)]
    shared = [name for name in good[0] if all(name in draw for draw in good)] if more else []
    draws = [[draw[name] for name in shared] for draw in good]
    found = []
    for family in by_family(draws[0]):
        gain = [gains(of_family(draw, family)) for draw in draws]
        values = np.array([list(one.values()) for one in gain]).T
        found.append(Scatter(title=family, unit="dB", values=values, weights=np.ones(len(values))))
    area = [of_family(draw, *AREA_FAMILIES) for draw in draws]
    if area[0]:
        found.append(_worse(area))
    return found


def _worse(draws: Sequence[Sequence[Row]]) -> Scatter:
    bases = {family: best_classical(members) for family, members in by_family(draws[0]).items()}
    counted = [[parts_worse([row], "components", bases)[row["place"]] for row in draw] for draw in draws]
    values = [[100 * float(np.mean(parts)) if parts else 0.0 for parts in draw] for draw in counted]
    return Scatter(
        title="hole components made worse than the best classical by > 0.05 dB",
        unit="%",
        values=np.array(values).T,
        weights=np.array([float(len(parts)) for parts in counted[0]]),
    )


def markdown(found: Sequence[Scatter]) -> str:
    """Return the table of what differs between draws."""
    return "\n".join([HEAD, *(_line(one) for one in found)])


def _line(one: Scatter) -> str:
    digits, sign = (".3f", "+") if one.unit == "dB" else (".1f", "")
    draws, (luck, error) = one.by_draw, one.luck
    cells = (
        one.title,
        str(len(one.values)),
        f"{draws.mean():{sign}{digits}} {one.unit}",
        f"{draws[0]:{sign}{digits}} {one.unit}",
        f"{draws.min():{sign}{digits}} .. {draws.max():{sign}{digits}} {one.unit}",
        f"{one.of_a_case:{digits}} {one.unit}",
        f"{luck:+{digits}}" + ("" if math.isnan(error) else f" +- {error:{digits}}") + f" {one.unit}",
    )
    return "| " + " | ".join(cells) + " |"
