"""report.html: one self-contained page that shows what was done to an image and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader

from pipeline.plan.plan import Plan
from pipeline.report.gallery import gallery
from pipeline.report.words import speak, verdict
from pipeline.system.files import remove_made, write_text

_MAX_BYTES = 5_000_000
"""A page that can be mailed, and opens at once."""
_QUALITIES = (88, 70, 45, 20)


def write_report(plan: Plan, record: Mapping[str, Any], folder: Path) -> Path:
    """Write `report.html` beside the record from the published files; returns its path.

    Raises:
        SourceError: the image, or a result, cannot be opened any more.
    """
    leftover = plan.work.staged.exists()
    try:
        for quality in _QUALITIES:
            html = _page(plan, record, folder, quality)
            if len(html.encode()) < _MAX_BYTES:
                break
    finally:
        if not leftover:
            remove_made(plan.work.staged)
    path = folder / "report.html"
    write_text(path, html)
    return path


def _page(plan: Plan, record: Mapping[str, Any], folder: Path, quality: int) -> str:
    # names of files and dtypes ("<u2") stand in the page: all of it is escaped
    environment = Environment(loader=PackageLoader("pipeline.report"), autoescape=True, trim_blocks=True)
    environment.filters["dtype"] = lambda name: np.dtype(name).name
    environment.filters["duration"] = lambda s: f"{s:.1f} s" if s < 120 else f"{s / 60:.1f} min"
    environment.filters["mebibytes"] = lambda b: f"{b / 2**20:.0f} MiB"
    speak(environment, record)
    template = environment.get_template("report.html.j2")
    pictures = gallery(plan, record, folder, quality=quality)
    return template.render(record=record, verdict=verdict(record), pictures=pictures)
