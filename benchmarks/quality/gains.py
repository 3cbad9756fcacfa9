"""What the rows of cases say: decibels, gains over the classical fills, parts that got worse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.quality.fills import CLUSTERS, COPY, REGRESSION
from benchmarks.quality.runner import ALONE, CLEAN, OURS
from benchmarks.quality.scores import psnr

WORSE_DB = 0.05
Row = dict[str, Any]
Groups = dict[str, list[float]]


def decibel(row: Row, method: str) -> float:
    """Return the hole-only PSNR of a method in a case, mean over channels."""
    return psnr(row["methods"][method]["mse"], row["range"])


def single_image(row: Row) -> list[str]:
    """Return the classical single-image fills of a row."""
    return [name for name in row["methods"] if name not in (OURS, ALONE, CLEAN, REGRESSION, CLUSTERS, COPY)]


def best_classical(rows: Sequence[Row]) -> str:
    """Return the single-image fill with the highest mean PSNR over the rows; one that all of them have."""
    shared = set.intersection(*(set(single_image(row)) for row in rows))
    return max(sorted(shared), key=lambda name: float(np.mean([decibel(row, name) for row in rows])))


def of_family(rows: Iterable[Row], *families: str) -> list[Row]:
    """Return the rows of some families that have scores."""
    return [row for row in rows if row["family"] in families and "error" not in row]


def by_family(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each family, in the order in which families appear."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(row["family"], []).append(row)
    return families


def grouped(rows: Sequence[Row], value: Callable[[Row], float]) -> Groups:
    """Return one value a row by place; rows without a finite value are left out."""
    groups: Groups = {}
    for row in rows:
        number = value(row)
        if math.isfinite(number):
            groups.setdefault(row["place"], []).append(number)
    return groups


def gains(rows: Sequence[Row], *over: str) -> dict[str, float]:
    """Return the gain in dB over the best of some methods in each case, else over its family's best classical fill."""
    found: dict[str, float] = {}
    for members in by_family(rows).values():
        bases = over or (best_classical(members),)
        found |= {row["case"]: decibel(row, OURS) - max(decibel(row, m) for m in bases) for row in members}
    return found


def untrained(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of scenes that no shipped weights have seen; all rows if fewer than three places are left."""
    fair = [row for row in rows if row["trained"] != "yes"]
    return fair if len({row["place"] for row in fair}) > 2 else list(rows)


def parts_worse(rows: Sequence[Row], part: str, bases: Mapping[str, str]) -> Groups:
    """Return by place 1 for each hole component or tile that is worse by more than 0.05 dB than a fill, else 0.

    Args:
        rows: cases.
        part: `components` or `tiles`.
        bases: the fill to compare with, by family.
    """
    groups: Groups = {}
    for row in rows:
        ours, theirs = (row["methods"][m][part] for m in (OURS, bases[row["family"]]))
        changes = [psnr(a, row["range"]) - psnr(b, row["range"]) for a, b in zip(ours, theirs, strict=True)]
        groups.setdefault(row["place"], []).extend(float(change < -WORSE_DB) for change in changes)
    return groups


def kind(row: Row) -> str:
    """Return the family under which sensors and contrasts are compared: blobs are blobs in any of them."""
    return "blob" if row["family"].startswith("blob") else str(row["family"])


def unseen_losses(rows: Sequence[Row], gain: Mapping[str, float], unseen: Sequence[bool]) -> dict[str, float]:
    """Return by family how much smaller the mean gain is in rows that are `unseen`; families with both only."""
    sides: dict[str, tuple[list[float], list[float]]] = {}
    for row, strange in zip(rows, unseen, strict=True):
        sides.setdefault(kind(row), ([], []))[strange].append(gain[row["case"]])
    return {family: float(np.mean(seen) - np.mean(rest)) for family, (seen, rest) in sides.items() if seen and rest}
