"""evaluate.html: scores of every method on hidden pixels, as tables, bars with intervals and pictures, in one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.report.drawing import colour, stretch, tinted, webp
from pipeline.report.pages import templates
from pipeline.report.panels import Picture

_QUALITY = 85
_HIDDEN = (230, 60, 40)
_GREY = 40
_WIDEST_DB = 12.0
"""Bars of methods that lose more are cut off here: they would make all others look alike."""


class Example(Protocol):
    """A part of the image to look at."""

    @property
    def true(self) -> NDArray[np.float64]:
        """Stored values `(1 | 3, rows, columns)`."""

    @property
    def restored(self) -> NDArray[np.float64]:
        """The same with what was hidden as it was restored."""

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """What was hidden, `(rows, columns)`."""

    @property
    def seen(self) -> NDArray[np.bool_]:
        """What is observed, `(rows, columns)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar from the line of no gain, with its interval; all in percent of the width."""

    method: str
    chosen: bool
    text: str
    start: float
    width: float
    low: float
    high: float


def evaluation_page(facts: Mapping[str, Any], examples: Mapping[str, Example], heads: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        facts: what stands in `evaluate.json`.
        examples: a part of the image for some families.
        heads: names of scores in `rows` and their heads in the table.
    """
    environment = templates()
    environment.filters["score"] = score_text
    families = [
        {
            **family,
            "rows": (rows := [row for row in facts["rows"] if row["family"] == family["family"]]),
            "heads": {k: head for k, head in heads.items() if any(row[k] is not None for row in rows)},
            "zero": _line(rows),
            "bars": _bars(rows),
            "pictures": _pictures(examples[family["family"]]) if family["family"] in examples else (),
        }
        for family in facts["families"]
    ]
    return environment.get_template("evaluation.html.j2").render(facts=facts, families=families)


def score_text(row: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return a score of a row and its interval as text; the interval is empty where it is not known."""
    if row[name] is None:
        return "-", ""
    share = name.endswith("_share") or name == "coverage_90"
    digits = 1 if share or name == "sam_deg" else 2
    value, low, high = (
        None if v is None else f"{100 * v if share else v:.{digits}f}"
        for v in (row[name], row[f"{name}_low"], row[f"{name}_high"])
    )
    return f"{value}{' %' if share else ''}", "" if low is None or high is None else f"{low} to {high}"


def _ends(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    values = [row[name] for row in rows for name in ("gain_db", "gain_db_low", "gain_db_high")]
    known = [float(np.clip(value, -_WIDEST_DB, _WIDEST_DB)) for value in values if value is not None]
    return min([-0.5, *known]), max([0.5, *known])


def _line(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return where the line of no gain lies, in percent of the width."""
    low, high = _ends(rows)
    return -100 * low / (high - low)


def _bars(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    low, high = _ends(rows)

    def at(value: float) -> float:
        return 100 * (float(np.clip(value, low, high)) - low) / (high - low)

    bars = []
    for row in rows:
        gain = row["gain_db"]
        if gain is None:
            continue
        ends = [gain if row[name] is None else row[name] for name in ("gain_db_low", "gain_db_high")]
        start, stop = sorted((at(0.0), at(gain)))
        text = f"{gain:+.2f} dB" + (f", {ends[0]:+.2f} to {ends[1]:+.2f}" if ends[0] != ends[1] else "")
        bars.append(
            Bar(
                method=row["method"],
                chosen=row["chosen"],
                text=text,
                start=start,
                width=stop - start,
                low=at(ends[0]),
                high=at(ends[1]),
            )
        )
    return bars


def _pictures(example: Example) -> tuple[Picture, Picture, Picture]:
    """Return what was hidden, restored and true, in the same colours."""
    low, high = stretch(example.true, example.seen)
    true, restored = (colour(values, low, high) for values in (example.true, example.restored))
    for picture in (true, restored):
        picture[~example.seen] = _GREY
    hidden = tinted(true, example.hidden, _HIDDEN, 1.0)
    return (
        Picture(name="hidden", caption="What was hidden, in red; dark grey is not observed.", uri=_webp(hidden)),
        Picture(name="restored", caption="What a run makes of it.", uri=_webp(restored)),
        Picture(name="true", caption="What was observed there.", uri=_webp(true)),
    )


def _webp(picture: NDArray[np.float64]) -> str:
    return webp(picture, _QUALITY)
