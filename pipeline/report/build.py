"""report.html: one self-contained page that shows what was done to an image and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader

from pipeline.formats import open_any
from pipeline.geometry.box import Box
from pipeline.image.open import open_source
from pipeline.masks.base import DOUBT, FILL
from pipeline.plan.layers import from_published
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


def pictures(plan: Plan, record: Mapping[str, Any], folder: Path) -> list[list[Panel]]:
    """Return the four panels of each view."""
    if not plan.blocks:
        return []
    paths: dict[str, Path] = {}
    for output in reversed(record["outputs"]):
        if output["role"] in ("restored", "uncertainty", "source"):
            paths[output["role"]] = folder / output["path"]
    source = open_source(plan.source)
    opened = {role: open_any(str(path)) for role, path in paths.items()}
    # gz volumes are read plane by plane: inflate them once
    staged = {role: image.stage(plan.work.staged) for role, image in opened.items()}
    pulls = Pulls(
        before=lambda box: source.read(box)[list(plan.channels)],
        after=lambda box: staged["restored"].read(box)[list(plan.channels)],
        uncertainty=lambda box: from_published(staged["uncertainty"].read(box), plan),
        origin=lambda box: from_published(staged["source"].read(box), plan),
        doubt=_doubted(plan),
    )
    names = [source.channel_names[c] for c in plan.channels]
    channels = rgb_channels(names) if plan.ndim == 2 else [_busiest(plan)]
    centre, top = _largest_hole(plan, pulls, channels)
    return [panels(view, pulls, channels, top) for view in overview(plan.space.shape, plan.space.spacing, centre)]


def _doubted(plan: Plan) -> Pull | None:
    """Return what gives the doubted pixels of a window, None if there are none."""
    if not plan.doubted:
        return None
    state = zarr.open_array(plan.work.state, mode="r")
    return lambda box: np.asarray(state[box.at()]) == DOUBT


def _busiest(plan: Plan) -> int:
    """Channel to show of a volume series: the one with most hole pixels."""
    if plan.n_state == 1:
        return 0
    state = zarr.open_array(plan.work.state, mode="r")
    counts = np.zeros(state.shape[0], dtype=np.int64)
    for box in Box.whole(plan.space.shape).tiles(state.chunks[1:]):
        part = np.asarray(state[box.at()]) == FILL
        counts += part.reshape(len(counts), -1).sum(axis=1)
    return int(np.argmax(counts))


def _largest_hole(plan: Plan, pulls: Pulls, channels: list[int]) -> tuple[tuple[int, ...], float]:
    """Return a hole pixel deep inside the block with most holes, and the 98th percentile of the uncertainty shown."""
    from scipy.ndimage import distance_transform_edt

    block = max(range(len(plan.blocks)), key=lambda b: plan.blocks[b].holes)
    box = plan.block_box(block)
    box = Box(box.start, tuple(min(b, a + 1024) for a, b in zip(box.start, box.stop, strict=True)))
    origin = pulls.origin(box)
    hole = ((origin != 0) & (origin != 255)).any(axis=0)
    depth = distance_transform_edt(hole)
    deep = np.argwhere(depth >= 0.9 * depth.max())
    # of equally deep pixels (a lost slice has many) the one nearest to the middle shows most
    middle = (np.asarray(plan.space.shape) - 1) / 2 - np.asarray(box.start)
    deepest = deep[int(np.argmin(((deep - middle) ** 2).sum(axis=1)))]
    sigma = np.nan_to_num(pulls.uncertainty(box)[channels]).mean(axis=0)
    inside = sigma[hole & (sigma > 0)]
    top = float(np.percentile(inside, 98)) if inside.size else 1.0
    return tuple(int(a + d) for a, d in zip(box.start, deepest, strict=True)), top
