"""What the self-test found, in numbers for the record and in words for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.restore.recipe import Recipe
from pipeline.selftest.rim import Rim

FAMILY_NAMES = {
    "thin": "thin holes (dead pixels, lines, lost slices)",
    "deep": "wide holes (clouds, regions, blobs)",
    "border": "holes at the image's edge",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyScore:
    """What a method does in one family of holes.

    Attributes:
        family: thin, deep or border.
        pixels: hidden pixels of this family, over all channels.
        gain_db: for fills over the default one, for references and network of the blend over what came before.
        weight: share of the method in the result, 0 to 1.
    """

    family: str
    pixels: int
    gain_db: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the self-test table.

    Attributes:
        method: name.
        psnr_db: over hidden pixels, the method used fully; range p1-p99 of observed values.
        gain_db: over the default fill, for references and network over what came before them.
        weight: share of it in the result, mean over hidden pixels.
        seconds: time it took.
        chosen: it has a part in the result.
        families: the same by hole family, only those that were tested.
    """

    method: str
    psnr_db: float
    gain_db: float
    weight: float
    seconds: float
    chosen: bool
    families: tuple[FamilyScore, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Outcome of the self-test.

    Attributes:
        recipe: the decisions.
        rows: the table.
        placements: number of windows used; 0 if too little is observed, then nothing beyond the default is used.
        hidden_pixels: pixels scored, over all channels.
        coverage_90: share of errors inside the 90 % interval, fitted on one half of the windows, counted on the other.
        predicted_rmse: error to expect in the real holes of each channel, data units.
        calibration: `fitted` on this image, or `stored` if too little is observed.
        decisions: sentences that say which tool is used for which holes.
        rim: whether observed pixels beside the mask look contaminated.
        note: sentence for people, empty if all went well.
    """

    recipe: Recipe
    rows: tuple[Row, ...] = ()
    placements: int = 0
    hidden_pixels: int = 0
    coverage_90: float | None = None
    predicted_rmse: tuple[float, ...] = ()
    calibration: str = "fitted"
    decisions: tuple[str, ...] = ()
    rim: Rim = field(default_factory=Rim)
    note: str = ""


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
        parts = [spec.label]
        for row in tools:
            score = next((score for score in row.families if score.family == family), None)
            used = score is not None and score.weight >= 0.005
            parts.append(
                f"{row.method} at {100 * score.weight:.0f} % ({score.gain_db:+.2f} dB)"
                if score is not None and used
                else f"{row.method} not used"
            )
        said.append(f"{FAMILY_NAMES[family]}: {', '.join(parts)}")
    return tuple(said)
