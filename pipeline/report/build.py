"""report.html: one self-contained page that shows what was done to an image and how good it is."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from ruamel.yaml import YAML

from pipeline.config.names import REPORT, THUMBNAIL
from pipeline.formats.base import Source
from pipeline.image.open import open_source
from pipeline.plan.plan import Plan
from pipeline.report.gallery import Gallery, gallery
from pipeline.report.judgement import advised, judged
from pipeline.report.methods import methods
from pipeline.report.pages import templates
from pipeline.report.styles import write_styles
from pipeline.report.tested import self_test_section
from pipeline.report.viewers import viewers
from pipeline.report.words import register_words, verdict
from pipeline.system.files import finite, remove_made, replacing, write_text

_MAX_BYTES = 5_000_000
"""A page that can be mailed, and opens at once."""
_QUALITIES = (88, 70, 45, 20)


def write_report(plan: Plan, record: Mapping[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """Write what people look at beside the record, from the published files; returns each file with its role.

    These are `report.html`; `thumbnail.webp`, which shows the image before and, beside it, after; and styles for
    rasters. There is no thumbnail if nothing was restored.

    Raises:
        SourceError: the image, or a result, cannot be opened any more.
    """
    leftover = plan.work.staged.exists()
    try:
        source = open_source(plan.source) if plan.blocks else None
        for quality in _QUALITIES:
            html, pictures = _page(plan, record, folder, source, quality)
            if len(html.encode()) < _MAX_BYTES:
                break
    finally:
        if not leftover:
            remove_made(plan.work.staged)
    written = [("report", folder / REPORT)]
    write_text(folder / REPORT, html)
    if pictures:
        written.append(("thumbnail", folder / THUMBNAIL))
        with replacing(folder / THUMBNAIL) as partial:
            partial.write_bytes(pictures.thumbnail)
    styles = write_styles(plan, record, folder, pictures.shades if pictures else None)
    return written + [("style", path) for path in styles]


def _page(
    plan: Plan, record: Mapping[str, Any], folder: Path, source: Source | None, quality: int
) -> tuple[str, Gallery | None]:
    """Return the page and its pictures; neither pictures nor `source`, the image, if nothing was restored."""
    environment = templates()
    environment.filters["dtype"] = lambda name: np.dtype(name).name
    environment.filters["duration"] = lambda s: f"{s:.1f} s" if s < 120 else f"{s / 60:.1f} min"
    environment.filters["mebibytes"] = lambda b: f"{b / 2**20:.0f} MiB"
    environment.filters["yaml"] = _as_yaml
    environment.filters["address"] = quote
    register_words(environment, record, [record["space"]["bands"][c] for c in plan.channels])
    template = environment.get_template("report.html.j2")
    pictures = gallery(plan, record, folder, source, quality=quality) if source else None
    html = template.render(
        record=record,
        verdict=verdict(record),
        judgement=judged(record),
        advice=advised(record),
        methods=methods(record),
        viewers=viewers(
            [output["path"] for output in record["outputs"]], record["space"]["kind"], record["space"]["channels"]
        ),
        tested=self_test_section(plan, record, source, quality) if source and record["self_test"] else None,
        pictures=pictures,
    )
    return html, pictures


def _as_yaml(facts: Mapping[str, Any]) -> str:
    stream = io.StringIO()
    # as JSON has it: without tuples
    YAML().dump(json.loads(json.dumps(finite(facts))), stream)
    return stream.getvalue()
