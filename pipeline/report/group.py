"""index.html: one page for all images of an output folder, those that need a human eye first."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from pipeline.config.names import INDEX, RECORD
from pipeline.errors import IntegrityError
from pipeline.report.judgement import LEVELS, judged, relative_error
from pipeline.report.pages import templates
from pipeline.report.words import made_of, verdict
from pipeline.system.files import read_json, write_text
from pipeline.system.words import in_percent, precise_percent

_GENERATOR = "inpaint-pipeline"
_MAX_BYTES = 5_000_000
"""A page that can be mailed, and opens at once."""
_PROBED = 20
_THUMBNAILS = ((128, 60), (80, 50), (48, 40), (32, 25))
"""Height in pixels and quality of the thumbnails; the first that keep the page below its limit are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the page.

    Attributes:
        stem: name of the image.
        level: `failed`, or how far the result is to be trusted.
        state: the same in words.
        said: sentences: the verdict, or what went wrong.
        filled: share of the pixels that was restored, in words.
        error: the error to expect, in words.
        notes: what the run remarked on.
        report: address of the report; empty if there is none.
        thumbnail: a small picture, before beside after; None without one.
        order: sorts the lines.
    """

    stem: str
    level: str
    state: str
    said: tuple[str, ...]
    filled: str = ""
    error: str = ""
    notes: tuple[str, ...] = ()
    report: str = ""
    thumbnail: Path | None = None
    order: tuple[int, float]


def finished_row(folder: Path, record: Mapping[str, Any], top: Path | None = None) -> Row:
    """Return the line of a finished image.

    Args:
        folder: of its results.
        record: its record.
        top: folder of the page; None = the one around that of the results.
    """
    there = folder.relative_to(top or folder.parent).as_posix()
    judgement, error = judged(record), relative_error(record)
    paths = {output["role"]: output["path"] for output in reversed(record["outputs"])}
    thumbnail = folder / paths["thumbnail"] if "thumbnail" in paths else None
    return Row(
        stem=record["stem"],
        level=judgement.level,
        state=judgement.words,
        said=(*judgement.reasons, made_of(record) or verdict(record)),
        filled=in_percent(record["holes"]["fraction"]),
        error=precise_percent(error) if error is not None else "",
        notes=tuple(record["notices"]),
        report=f"{quote(there)}/{quote(paths['report'])}" if "report" in paths else "",
        thumbnail=thumbnail if thumbnail and thumbnail.exists() else None,
        order=(1 + LEVELS.index(judgement.level), -(error or 0.0)),
    )


def finished_rows(directory: Path) -> list[Row]:
    """Return the lines of all finished images of an output folder."""
    rows = []
    for path in sorted(directory.glob(f"*/{RECORD}")):
        try:
            rows.append(finished_row(path.parent, read_json(path) or {}))
        except (IntegrityError, AttributeError, IndexError, KeyError, TypeError, ValueError):
            # whatever a damaged or foreign record lacks: the page of all others must not fail for it
            said = "Its record cannot be read; run again with --overwrite"
            rows.append(Row(stem=path.parent.name, level="failed", state="damaged", said=(said,), order=(0, 0.0)))
    return rows


def failed_row(failure: Mapping[str, Any], finished: Row | None) -> Row:
    """Return the line of an image that failed.

    Args:
        failure: `stem`, `error`, `exit_code`, as in `run.json`.
        finished: the line of an earlier result that is still there, or None.
    """
    earlier = ("The result of an earlier run is still there.",) if finished else ()
    return Row(
        stem=failure["stem"],
        level="failed",
        state=f"{failure.get('state', 'failed')}, exit code {failure['exit_code']}",
        said=(failure["error"], *earlier),
        report=finished.report if finished else "",
        thumbnail=finished.thumbnail if finished else None,
        order=(0, 0.0),
    )


def rows_of(finished: Iterable[Row], failures: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return the lines of a page: what needs a human eye first, first."""
    rows = {row.stem: row for row in finished}
    for failure in failures:
        rows[failure["stem"]] = failed_row(failure, rows.get(failure["stem"]))
    return sorted(rows.values(), key=lambda row: (*row.order, row.stem))


def is_foreign(directory: Path) -> bool:
    """Say whether the folder has an `index.html` that this program did not write."""
    path = directory / INDEX
    try:
        return f'content="{_GENERATOR}"' not in path.read_text(encoding="utf-8", errors="replace")[:1000]
    except FileNotFoundError:
        return False


def write_group(directory: Path, rows: Sequence[Row]) -> Path:
    """Write `index.html` into an output folder, in one step and in the place of an earlier one; returns its path.

    Raises:
        OSError: the folder cannot be written.
    """
    template = templates().get_template("group.html.j2")
    html = ""
    shown = [row for row in rows if row.thumbnail]
    for size in (*_THUMBNAILS, None):
        if size is not None and _expected_bytes(shown, *size) > _MAX_BYTES:
            continue
        pictures = {row.stem: _embedded(row.thumbnail, *size) for row in shown if row.thumbnail and size}
        html = template.render(rows=rows, pictures=pictures, generator=_GENERATOR, counts=_counts(rows))
        if len(html.encode()) < _MAX_BYTES:
            break
    # jobs of a batch may finish at the same time
    write_text(directory / INDEX, html, shared=True)
    return directory / INDEX


def _counts(rows: Sequence[Row]) -> list[tuple[str, str, int]]:
    """Return level, words and number of images of each level that there is."""
    words = {"failed": "failed", "poor": "not to be relied on", "look": "to look at", "sound": "sound"}
    levels = [row.level for row in rows]
    return [(level, said, levels.count(level)) for level, said in words.items() if level in levels]


def _expected_bytes(rows: Sequence[Row], height: int, quality: int) -> float:
    """Return how large the thumbnails of all rows will about be, from a few of them."""
    some = rows[:: max(1, len(rows) // _PROBED)]
    sizes = [len(_embedded(row.thumbnail, height, quality)) for row in some if row.thumbnail]
    return len(rows) * sum(sizes) / max(1, len(sizes))


def _embedded(path: Path, height: int, quality: int) -> str:
    """Return a thumbnail as a data URI, of a height at most."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((4 * height, height))
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=quality, method=0)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
