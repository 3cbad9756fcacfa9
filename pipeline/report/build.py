"""report.html: one self-contained page that shows what was done to an image and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader

from pipeline.plan.plan import Plan
from pipeline.report.gallery import gallery
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
    template = environment.get_template("report.html.j2")
    pictures = gallery(plan, record, folder, quality=quality)
    return template.render(record=record, verdict=verdict(record), pictures=pictures)


def verdict(record: Mapping[str, Any]) -> str:
    """Return the one-sentence summary on top of the page."""
    holes = record["holes"]
    if not holes["pixels"]:
        what = "Nothing to restore: the masks mark no pixel that may be changed. The output equals the input."
        return f"{what} Of what was asked for: {holes['account']}." if holes.get("left") else what
    parts = [f"{100 * holes['fraction']:.2f} % of the pixels were restored"]
    if holes.get("left"):
        parts.append(str(holes["account"]))
    sources = ", ".join(
        f"{100 * n / sum(holes['by_source'].values()):.0f} % {name}" for name, n in holes["by_source"].items()
    )
    parts.append(f"from: {sources}")
    test = record["self_test"]
    if test and test["coverage_90"] is not None:
        parts.append(f"the 90 % interval held {100 * test['coverage_90']:.0f} % of hidden test pixels")
    return "; ".join(parts) + "."
