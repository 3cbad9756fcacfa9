"""How far a result is to be trusted, by the self-test: one of three levels, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.image.classes import LIKE_CODES
from pipeline.system.words import precise_percent

Level = Literal["sound", "look", "poor"]
LEVELS: tuple[Level, ...] = ("poor", "look", "sound")
"""What needs a human eye first, first."""
LEVEL_WORDS: Mapping[Level, str] = {"poor": "do not rely on it", "look": "look at it", "sound": "sound"}

_VARIATION = 1 / 4.65
"""Standard deviation of normally distributed values over their range from the 1st to the 99th percentile. The image's
mean, put into every hole, is off by about as much: 90 real images have 0.17 to 0.37."""
_NOTABLE = 0.5
"""Share of that from which the error is worth a look."""
UNVALUED = "marked, but without a value (nodata)"
"""Why pixels were left that a mask marks where the image has nothing, as the record says it."""
_OVER_THE_EDGE = 0.01
"""Share of what was asked for up to which such pixels are those of clouds that reach over the edge of the image."""
_HELD_POOR, _HELD_LOOK = 0.75, 0.85
"""Share of hidden pixels in the 90 % interval below which error bars are much, or noticeably, too narrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The level of a result, and sentences that say why it is not the best one."""

    level: Level
    reasons: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Return the level in words."""
        return LEVEL_WORDS[self.level]


def judged(record: Mapping[str, Any]) -> Judgement:
    """Judge the result that a record describes."""
    holes, test = record["holes"], record.get("self_test")
    poor, look = [], []
    error = relative_error(record)
    if error is not None and error >= _VARIATION:
        poor.append(
            f"the error to expect, {error_text(error)}, is very large: from about {precise_percent(_VARIATION)} on "
            "one value for all holes, the mean of the image, may be no worse"
        )
    elif error is not None and error >= _NOTABLE * _VARIATION:
        look.append(
            f"the error to expect, {error_text(error)}, is large ({precise_percent(_NOTABLE * _VARIATION)} or more)"
        )
    held = test.get("coverage_90") if test else None
    if held is not None and held < _HELD_LOOK:
        (poor if held < _HELD_POOR else look).append(
            f"error bars are too narrow: the 90 % interval held {100 * held:.0f} % of hidden values"
        )
    if any(LIKE_CODES in notice for notice in record.get("notices", ())):
        look.append(f"{LIKE_CODES}, and a mean of codes names nothing")
    if wider := ((test or {}).get("rim") or {}).get("wider_px"):
        look.append(f"pixels beside the mask do not fit what surrounds them: it should be wider by {wider} px")
    if test and test.get("note"):
        look.append(test["note"])
    if holes["pixels"] and not test:
        look.append("nothing was hidden to test it")
    if _left_to_do(holes):
        look.append(str(holes["account"]))
    return Judgement(level="poor" if poor else "look" if look else "sound", reasons=(*poor, *look))


def _left_to_do(holes: Mapping[str, Any]) -> bool:
    """Say whether pixels were left that somebody may have wanted."""
    left = dict(holes.get("left") or {})
    unvalued = left.pop(UNVALUED, 0)
    return bool(left) or unvalued > _OVER_THE_EDGE * holes.get("asked", 0)


def advised(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what would make the result better, or safer to use, as far as the record knows."""
    rim = (record.get("self_test") or {}).get("rim") or {}
    advice = [rim["advice"]] if rim.get("advice") else []
    error = relative_error(record)
    if error is None or error < _NOTABLE * _VARIATION:
        return tuple(advice)
    if not record["references"]:
        volume = record["space"]["kind"] == "volume"
        what, key = ("contrast of the same person", "auxiliary") if volume else ("date of the same place", "references")
        advice.append(f"all comes from the image itself: another {what}, in `input.{key}`, tells most about holes")
    if record["config"]["output"]["refuse_above"] is None:
        advice.append("`output.refuse_above: 0.1` leaves out pixels whose standard error is above a tenth of the range")
    return tuple(advice)


def judgement_text(record: Mapping[str, Any]) -> str:
    """Return the judgement of a result with its reasons, for the command line."""
    judgement, error, account = judged(record), relative_error(record), record["holes"].get("account")
    if judgement.level == "sound":
        return "sound by its self-test" + (f", the error to expect is {error_text(error)}" if error is not None else "")
    # the account has a line of its own
    reasons = [reason for reason in judgement.reasons if reason != account]
    return f"{judgement.words}: {'; '.join(reasons) or 'not all that was asked for was restored'}"


def relative_error(record: Mapping[str, Any]) -> float | None:
    """Return the root mean square error to expect over the range of the values, mean over channels; None if unknown.

    The range of a channel is that from its 1st to its 99th percentile.
    """
    test = record.get("self_test") or {}
    # records of older versions have no range
    pairs = zip(test.get("predicted_rmse") or (), test.get("value_range") or (), strict=False)
    shares = [error / spread for error, spread in pairs if error is not None and spread]
    return math.sqrt(sum(share**2 for share in shares) / len(shares)) if shares else None


def error_text(error: float) -> str:
    """Return an error relative to the range of the values in words.

    >>> error_text(0.0234)
    '2.3 % of the range of the values'
    """
    return f"{precise_percent(error)} of the range of the values"
