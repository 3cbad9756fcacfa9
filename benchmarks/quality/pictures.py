"""Pictures of cases: truth, holes, reference, best classical fill, ours, its error and its stated error."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from benchmarks.quality.cases import Case
from benchmarks.quality.engine import Array
from benchmarks.quality.fills import as_stored, estimate_of
from benchmarks.quality.runner import Frame, Settings
from benchmarks.quality.scenes import Image
from benchmarks.quality.scores import robust_range

EDGE, GAP, HEAD = 128, 3, 12
MAX_BYTES = 150_000
FULL_ERROR = 0.25
"""Share of the value range at which the panels of errors are white."""
Panel = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a picture shows of an image: channels as (red, green, blue), a plane, and a part of it."""

    channels: tuple[int, int, int]
    plane: tuple[Any, ...]
    part: tuple[slice, slice]
    stretch: int

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return `(y, x)` or `(3, y, x)` of `(*spatial)` or `(c, *spatial)`."""
        spatial = values[(..., *self.plane)]
        cut = np.repeat(spatial, self.stretch, axis=-2)[(..., *self.part)]
        return cut[list(self.channels)] if cut.ndim == 3 else cut


def save_strip(path: Path, cases: list[tuple[Case, dict[str, Any]]], best: str, settings: Settings) -> None:
    """Write one row of panels a case, as a palette PNG of at most 150 kB."""
    rows = [panels(case, row, best, settings) for case, row in cases]
    titles = list(max(rows, key=len))
    width = len(titles) * (EDGE + GAP) - GAP
    canvas = Picture.new("RGB", (width, HEAD + len(rows) * (EDGE + GAP) - GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((column * (EDGE + GAP), 0), title, fill="black")
        for line, row in enumerate(rows):
            if title not in row:
                continue
            tile = Picture.fromarray(row[title])
            canvas.paste(tile, (column * (EDGE + GAP), HEAD + line * (EDGE + GAP)))
    path.parent.mkdir(parents=True, exist_ok=True)
    for colours in (128, 64, 32, 16):
        buffer = io.BytesIO()
        canvas.quantize(colours).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    path.write_bytes(buffer.getvalue())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tone:
    """How values become colours: black at `low`, white at `low + span`, both `(c, 1, ...)`."""

    view: View
    low: Array
    span: Array

    @classmethod
    def of(cls, view: View, values: Array, counted: NDArray[np.bool_]) -> Tone:
        """Return the tone of an image, from the 1st to the 99th percentile of the pixels that count."""
        column = (-1,) + (1,) * counted.ndim
        low = np.percentile(values[:, counted], 1, axis=1).reshape(column)
        span = np.maximum(robust_range(values, counted), 1e-12).reshape(column)
        return cls(view=view, low=low, span=span)

    def colour(self, values: Array) -> Panel:
        """Return the panel of an image."""
        shown = np.clip((values.astype(np.float64) - self.low) / self.span, 0, 1)
        return _square(np.moveaxis((255 * self.view.of(shown)).astype(np.uint8), 0, -1))

    def grey(self, error: Array, hole: NDArray[np.bool_]) -> Panel:
        """Return the panel of an error, the mean over the channels that have holes."""
        share = np.where(hole, error / self.span, 0).sum(axis=0) / np.maximum(hole.sum(axis=0), 1)
        shown = np.clip(255 / FULL_ERROR * self.view.of(share), 0, 255).astype(np.uint8)
        return _square(np.repeat(shown[..., None], 3, axis=2))


def panels(case: Case, row: dict[str, Any], best: str, settings: Settings) -> dict[str, Panel]:
    """Return the panels of a case, `(EDGE, EDGE, 3)` each, by title."""
    image, hole = case.build()
    given = case.given(image, hole)
    frame = Frame.of(image, hole)
    view = choose_view(image, frame.scored)
    tone = Tone.of(view, image.values, frame.counted)
    ours, sigma = _result(image, hole, settings.out / settings.state / f"{row['key']}.npz")
    classical = as_stored(estimate_of(given, hole, best), image.values.dtype)
    truth = tone.colour(image.values)
    holes = tone.colour(given.values).copy()
    holes[_square(view.of(np.asarray(hole.any(axis=0))))] = 255
    found = {"truth": truth, "holes": holes}
    if image.guides:
        guide = image.guides[0].values
        guide = guide if len(guide) == len(hole) else np.repeat(guide[:1], len(hole), axis=0)
        found["helper"] = Tone.of(view, guide, image.counted).colour(guide)
    return found | {
        "best classical": tone.colour(classical),
        "ours": tone.colour(ours),
        "error": tone.grey(np.abs(ours - image.values), hole),
        "stated error": tone.grey(sigma, hole),
    }


def choose_view(image: Image, scored: NDArray[np.bool_]) -> View:
    """Show the part with the most scored hole pixels; of a volume the plane with the most, across lost slices."""
    count = len(image.values)
    area = np.asarray(scored.any(axis=0))
    if area.ndim == 2:
        channels = (2, 1, 0) if count == 3 else (count - 1, count - 2, count - 3)
        return View(channels=channels, plane=(slice(None), slice(None)), part=_window(area), stretch=1)
    channel = int(scored.sum(axis=(1, 2, 3)).argmax())
    across = bool(scored[channel].all(axis=(1, 2)).any() or area.mean(axis=(1, 2)).max() > 0.6)
    axis = 1 if across else 0
    best = int(area.sum(axis=tuple(a for a in range(3) if a != axis)).argmax())
    plane = tuple(best if a == axis else slice(None, None, -1) if a == 0 else slice(None) for a in range(3))
    stretch = max(1, round(image.spacing[0] / image.spacing[2])) if across else 1
    part = _window(np.repeat(np.asarray(area[plane]), stretch, axis=0))
    return View(channels=(channel,) * 3, plane=plane, part=part, stretch=stretch)


def _window(area: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the window of at most 128 pixels a side with the most hole pixels."""
    height, width = (min(EDGE, n) for n in area.shape)
    tops, lefts = (range(0, max(1, n - e + 1), 16) for n, e in zip(area.shape, (height, width), strict=True))
    most = max((int(area[t : t + height, x : x + width].sum()), -t, -x) for t in tops for x in lefts)
    return slice(-most[1], -most[1] + height), slice(-most[2], -most[2] + width)


def _square(panel: NDArray[Any]) -> NDArray[Any]:
    """Centre a panel on a square of the panel size; what is outside stays black."""
    result = np.zeros((EDGE, EDGE, *panel.shape[2:]), dtype=panel.dtype)
    top, left = ((EDGE - n) // 2 for n in panel.shape[:2])
    result[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return result


def _result(image: Image, hole: NDArray[np.bool_], path: Path) -> tuple[Array, Array]:
    stored = np.load(path)
    ours, sigma = image.values.astype(np.float64), np.zeros(hole.shape)
    ours[hole], sigma[hole] = stored["ours"], stored["sigma"]
    return ours, sigma
