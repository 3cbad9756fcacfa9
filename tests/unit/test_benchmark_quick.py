"""The quick part of the quality benchmark: which cases it takes, and what is said from them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.quality import quick
from benchmarks.quality.cases import Case
from benchmarks.quality.runner import OURS
from benchmarks.quality.scenes import Scene
from benchmarks.quality.table import CHANGED, Line


def _case(family: str, place: str, number: int) -> Case:
    scene = Scene(name=f"{place}-scene", place=place, sensor="none", load=None, files=())
    return Case(family=family, scene=scene, number=number, draw=None)


CASES = [_case(family, place, number) for family in ("a", "b", "c") for place in ("x", "y") for number in range(4)]


def _full(**seconds: float) -> quick.Full:
    """Say what cases of a family cost; of others nothing is known."""
    return {
        case.name: quick.Stored(key=case.name, db=30.0, cpu_seconds=seconds[case.family] + case.number)
        for case in CASES
        if case.family in seconds
    }


def test_every_family_is_seen_and_the_time_is_kept():
    """However long one family takes, each has a case; beyond that there is time for what is planned."""
    chosen = quick.subset(CASES, _full(a=5000.0, b=30.0, c=30.0), jobs=2)
    assert {case.family for case in chosen} == {"a", "b", "c"}
    assert sum(case.family == "a" for case in chosen) == 1
    cheap = quick.subset(CASES, _full(a=100.0, b=100.0, c=100.0), jobs=1)
    assert len(cheap) < len(CASES)
    assert sum(100 + case.number for case in cheap) <= quick.MINUTES * 60 * quick.SPARE


def test_cheap_cases_of_different_places_come_first():
    """Two cases of a family are of two places, each the cheapest there, in the order of the benchmark."""
    chosen = quick.subset(CASES, _full(a=150.0, b=150.0, c=150.0), jobs=1)
    assert [(case.family, case.scene.place, case.number) for case in chosen] == [
        (family, place, 0) for family in ("a", "b", "c") for place in ("x", "y")
    ]


def test_the_choice_does_not_depend_on_what_is_not_known():
    """Without stored results the same cases are taken every time."""
    once, again = (quick.subset(cases, {}, jobs=1) for cases in (CASES, CASES))
    assert [case.name for case in once] == [case.name for case in again]
    assert {case.family for case in once} == {"a", "b", "c"}


def _row(case: str, mse: float, key: str = "k") -> dict:
    return {
        "case": case, "family": "a", "scene": "s", "key": key, "range": [10.0], "cpu_seconds": 0.1, "seconds": 3.0,
        "methods": {OURS: {"mse": [mse]}},
    }  # fmt: skip


def test_cases_are_compared_with_what_is_stored(tmp_path):
    """What a full run keeps is found again; cases of another content are left out, and that is said."""
    path = tmp_path / "full.json"
    assert quick.stored(path) == {}
    quick.store([_row("one", 1.0), _row("two", 1.0), {"case": "failed", "error": "no"}], path)
    full = quick.stored(path)
    assert full["one"] == quick.Stored(key="k", db=20.0, cpu_seconds=3.0)
    said: list[str] = []
    quick.compare([_row("one", 0.1), _row("two", 1.0, key="other"), _row("new", 1.0)], full, said.append)
    assert "1 of 3 cases" in said[0]
    assert said[-1].startswith("| all | 1 | +10.000 dB")


def _line(title: str, value: float, ends: tuple[float, float], *, places: int = 3, less: bool = False) -> Line:
    return Line(
        title=title, unit="dB", floor=1.0, goal=2.0, value=value, low=ends[0], high=ends[1],
        left_out=dict.fromkeys("xyz"[:places], value), places=places, cases=places, less=less,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (_line("clearly", 3.0, (2.0, 4.0)), True),
        (_line("clearly not", 0.0, (-1.0, 0.5)), False),
        (_line("perhaps", 1.5, (0.5, 2.0)), None),
        (_line("small is good", 0.5, (0.1, 0.9), less=True), True),
        (_line("small is good, is not", 4.0, (2.0, 5.0), less=True), False),
        (_line("one place", 3.0, (math.nan, math.nan), places=1), None),
        (replace(_line("one place", 3.0, (math.nan, math.nan), places=1), left_out={}), None),
        (_line(CHANGED, 4.0, (math.nan, math.nan), less=True), False),
    ],
)
def test_floors_are_judged_where_a_part_can_tell(line, verdict):
    """The interval decides; one place never does, one wrong pixel always."""
    assert quick.judged(line) is verdict
    said: list[str] = []
    assert quick.judge([line], said.append) == ([line.title] if verdict is False else [])
    assert line.title in "".join(said)


def test_lines_without_a_floor_are_not_judged():
    """They are for information."""
    line = replace(_line("information", 3.0, (2.0, 4.0)), floor=math.nan)
    assert quick.judged(line) is None
    assert quick.judge([line], lambda _: None) == []
