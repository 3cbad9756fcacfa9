"""What the self-test found, in numbers for the record and in words for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.models.base import BFLOAT16
from pipeline.plan.samples import Samples
from pipeline.restore.recipe import Recipe
from pipeline.selftest.rim import Rim
from pipeline.selftest.weights import Comparison
from pipeline.system.words import counted, in_percent

_BETWEEN = re.compile(r"(?<=\)) \+ (?=(?:reference|auxiliary) \d+ \()")
"""Stands between the names of guides that are heard together."""

FAMILY_NAMES = {
    "thin": "thin holes (dead pixels, lines, lost slices)",
    "deep": "wide holes (clouds, regions, blobs)",
    "border": "holes at the image's edge",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyScore:
    """What a method does in one family of holes."""

    family: str
    """Thin, deep or border."""
    pixels: int
    """Hidden pixels of this family, over all channels."""
    gain_db: float
    """For fills over the default one, for references and network of the blend over what came before."""
    weight: float
    """Share of the method in the result, 0 to 1."""
    comparison: Comparison | None = None
    """How sure it is, over the family as a whole: of a fill against the default one, of references and network at the
    best of their weights against what came before; None where too little was hidden to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the self-test table."""

    method: str
    """Name."""
    psnr_db: float
    """Over hidden pixels, the method used fully; range p1-p99 of observed values."""
    gain_db: float
    """Over the default fill, for references and network over what came before them."""
    weight: float
    """Share of it in the result, mean over hidden pixels."""
    seconds: float
    """Time it took."""
    windows: int | None = None
    """Windows it was tried in: what cannot win any more after the first ones is tried in no others. None = all."""
    chosen: bool
    """It has a part in the result."""
    families: tuple[FamilyScore, ...] = ()
    """The same by hole family, only those that were tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Outcome of the self-test."""

    recipe: Recipe
    """The decisions."""
    rows: tuple[Row, ...] = ()
    """The table."""
    placements: int = 0
    """Number of windows used; with fewer than 2 too little is observed, and nothing beyond the default is used."""
    hidden_pixels: int = 0
    """Pixels scored, over all channels."""
    coverage_90: float | None = None
    """Share of errors inside the 90 % interval as it is published; what is fitted is so on one half of the windows, and
    counted on the other."""
    coverage_90_by_channel: tuple[float | None, ...] = ()
    """The same for each channel; None for one in which nothing was tested."""
    predicted_rmse: tuple[float, ...] = ()
    """Error to expect in the real holes of each channel, data units."""
    calibration: str = "fitted"
    """`fitted` on this image, or `stored` if too little is observed."""
    decisions: tuple[str, ...] = ()
    """Sentences that say which tool is used for which holes."""
    rim: Rim = field(default_factory=Rim)
    """Whether observed pixels beside the mask look contaminated."""
    note: str = ""
    """Sentence for people, empty if all went well."""
    samples: Samples | None = None
    """Windows and hidden pixels to look at; None where nothing was tested."""


def sentences(recipe: Recipe, fills: Sequence[Row], tools: Sequence[Row]) -> tuple[str, ...]:
    """Say for each tested family of holes which tools are used, and what they gain.

    Args:
        recipe: the decisions.
        fills: lines of the base fills.
        tools: lines of references, auxiliaries and the network, in the order in which they are blended in.
    """
    said = []
    for family, spec in zip(FAMILY_NAMES, recipe.fills, strict=True):
        if not any(score.family == family for row in fills for score in row.families):
            continue
        parts = [spec.label, *_parts(tools, family)]
        said.append(f"{FAMILY_NAMES[family]}: {', '.join(parts)}")
    if recipe.network_weight > 0 and BFLOAT16 in recipe.network_precision:
        count = f"{recipe.network_precision.count(BFLOAT16)} of {len(recipe.network_precision)} channels"
        said.append(f"the network computes in bfloat16 for {count}: this moves last digits only")
    return tuple(said)


def _parts(tools: Sequence[Row], family: str) -> list[str]:
    """Say which part each method has in a family of holes; sets of guides without a part are counted only."""
    parts, sets = [], 0
    for row in tools:
        part = _part(row, family)
        if not part and _BETWEEN.search(row.method):
            sets += 1
            continue
        name, _, reason = row.method.partition(": ")
        parts.append(part or f"{name} not used" + (f" ({reason})" if reason else ""))
    return parts + ([f"{counted(sets, 'set')} of several guides together not used"] if sets else [])


def _part(row: Row, family: str) -> str:
    """Say which part a method has in a family of holes, empty if none; it agrees with the table and `Row.chosen`."""
    score = next((score for score in row.families if score.family == family), None)
    if score is not None and score.weight > 0:
        return f"{_shortly(row.method)} at {in_percent(score.weight)} ({score.gain_db:+.2f} dB)"
    if row.chosen and not any(one.weight > 0 for one in row.families):
        return f"{_shortly(row.method)} only where nothing could be tested"
    return ""


def _shortly(method: str) -> str:
    """Return the name of several guides without what stands in brackets behind each.

    >>> _shortly("reference 0 (may) + reference 1 (june) + auxiliary 2 (radar)"), _shortly("reference 0 (may)")
    ('reference 0, reference 1 and auxiliary 2 together', 'reference 0 (may)')
    """
    *first, last = (part.partition(" (")[0] for part in _BETWEEN.split(method))
    return f"{', '.join(first)} and {last} together" if first else method
