"""What the self-test showed, as pictures and charts: hidden, restored and true values, and how errors are spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.formats._image import knows_sides
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.image.haze import without_haze
from pipeline.masks.base import evidence
from pipeline.numerics.calibration import Z90
from pipeline.plan.plan import Plan
from pipeline.plan.samples import DISTANCES, SCORES, Samples, Specimen
from pipeline.report.charts import Axis, Chart
from pipeline.report.drawing import colour, ramp, stretch, tinted, webp
from pipeline.report.panels import HOLE_COLOUR, Picture
from pipeline.report.planes import Plane, Planes
from pipeline.report.words import unit_of
from pipeline.system.words import number

_OTHER_GREY = 90
_MOST_OFF = 4.0
"""Standard errors that are shown in the brightest colour."""
_FEWEST = 30
"""Pixels at a distance below which the share that the interval held is not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A test window: what it shows in words, and its pictures in one plane."""

    heading: str
    plane: Plane
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The comparison of one method in one family of holes, in words."""

    method: str
    family: str
    tried: str
    change: str
    standard_error: str
    needed: str
    wins: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestSection:
    """All that the page shows of a self-test."""

    windows: tuple[Window, ...]
    charts: tuple[tuple[Chart, str], ...]
    """Each with its caption."""
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """What all windows have in common: plan, image, its planes, what an element is called."""

    plan: Plan
    source: Source
    planes: Planes
    unit: str


def self_test_section(plan: Plan, record: Mapping[str, Any], source: Source, quality: int) -> SelfTestSection | None:
    """Return what the self-test of an image showed; None where it kept nothing, as those of older versions.

    Args:
        plan: of the finished image.
        record: its record.
        source: the image.
        quality: of the pictures, 1 to 100.
    """
    try:
        samples = Samples.load(plan.work.samples)
    except (OSError, ValueError, KeyError):
        return None
    unit = unit_of(record)
    image = _Image(plan=plan, source=source, planes=Planes(source.space, sure=knows_sides(source)), unit=unit)
    windows = tuple(_window(one, image, quality) for one in samples.specimens)
    charts = (_scatter(samples, plan, unit), _errors(samples, unit), _coverage(samples, unit))
    return SelfTestSection(windows=windows, charts=charts, comparisons=tuple(_comparisons(record)))


def _window(one: Specimen, image: _Image, quality: int) -> Window:
    plan, plane, unit = image.plan, image.planes.part(one.box), image.unit
    channel = plan.channels[one.channel]
    state = zarr.open_array(plan.work.state, mode="r")
    haze = zarr.open_array(plan.work.haze, mode="r") if plan.hazy else None

    def states(box: Box) -> NDArray[np.uint8]:
        return np.asarray(state[box.at()])[[one.channel if plan.n_state > 1 else 0]]

    def evident(box: Box) -> NDArray[np.float64]:
        stored = image.source.read(box)[list(plan.channels)].astype(np.float64)
        return without_haze(stored, np.asarray(state[box.at()]), haze, box)[[one.channel]]

    truth = plane.cut(evident)
    kept = plane.cut(lambda box: evidence(states(box)))[0]

    def shown(values: NDArray[Any]) -> NDArray[Any]:
        return plane.cut(lambda box: values[box.at(of=one.box)[-values.ndim :]][None])

    off, sigma = shown(one.off), shown(one.sigma)
    restored = truth + off.astype(np.float64) * plan.spread[one.channel]
    hidden = sigma[0] > 0
    other = ~hidden & ~kept
    low, high = stretch(truth, kept)
    true, made = colour(truth, low, high), colour(restored, low, high)
    covered = tinted(true, hidden, HOLE_COLOUR, 1.0)
    scores = np.abs(off[0].astype(np.float64)) / np.where(hidden, sigma[0], 1.0)
    # what is exactly right is none of what was observed
    heat = ramp(np.where(hidden, np.maximum(scores / _MOST_OFF, 1e-3), 0.0))
    for picture in (true, made, covered, heat):
        picture[other] = _OTHER_GREY
    captions = (
        ("hidden", f"What the test saw: hidden {unit}s in red, real holes in grey.", covered),
        ("restored", f"The hidden {unit}s as they were restored.", made),
        ("true", "What had been observed there.", true),
        ("off by", f"Error in standard errors, black 0 to pale yellow {_MOST_OFF:.0f} or more; 1.645 hold 90 %.", heat),
    )
    pictures = tuple(Picture(name=n, caption=c, uri=webp(picture, quality)) for n, c, picture in captions)
    band = f", {image.source.channel_names[channel]}" if len(plan.channels) > 1 else ""
    said = f"{one.title}{band}: root mean square error {100 * one.error:.1f} % of the range of the values"
    return Window(heading=said[0].upper() + said[1:], plane=plane, pictures=pictures)


def _scatter(samples: Samples, plan: Plan, unit: str) -> tuple[Chart, str]:
    truth, restored = samples.truth.astype(np.float64), samples.restored.astype(np.float64)
    what = "value, data units"
    if len(plan.channels) == 1:
        truth, restored = truth + plan.centre[0], restored + plan.centre[0]
    else:
        what = "value off the channel's median, shares of its range"
        for channel in np.unique(samples.channel):
            own = samples.channel == channel
            middle, spread = np.median(truth[own]), plan.spread[channel] or 1.0
            truth[own], restored[own] = (truth[own] - middle) / spread, (restored[own] - middle) / spread
    axis = Axis.of(f"true {what}", np.percentile(np.concatenate([truth, restored]), (0.2, 99.8)))
    chart = Chart(
        f"Restored against true values of {truth.size} hidden {unit}s",
        axis,
        Axis(name="restored", low=axis.low, high=axis.high, ticks=axis.ticks),
    )
    chart.points(truth, restored)
    chart.line((axis.low, axis.high), (axis.low, axis.high), "dashed")
    linear = np.corrcoef(truth, restored)[0, 1] if truth.std() and restored.std() else float("nan")
    said = f" Their correlation is {linear:.3f}." if np.isfinite(linear) else ""
    return (
        chart,
        f"Restored against true values of {truth.size:,} hidden {unit}s; without error all lie on the line.{said}",
    )


def _errors(samples: Samples, unit: str) -> tuple[Chart, str]:
    total = max(1, round(float(samples.scores.sum())))
    density = samples.scores / total / np.diff(SCORES)
    x = np.linspace(SCORES[0], SCORES[-1], 121)
    normal = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    across = Axis(
        name="error, standard errors",
        low=-5,
        high=5,
        ticks=[(float(v), f"{v:+d}" if v else "0") for v in range(-4, 5, 2)],
    )
    chart = Chart(
        f"Errors of hidden {unit}s in standard errors, beside the normal distribution",
        across,
        Axis(
            name="density", low=0, high=1.1 * max(float(density.max(initial=0.0)), 0.4), ticks=[(0, "0"), (0.4, "0.4")]
        ),
    )
    chart.bars(list(SCORES), list(density))
    chart.line(list(x), list(normal))
    for side in (-Z90, Z90):
        chart.line((side, side), (0, chart.up.high), "dashed")
    caption = (
        f"Errors of {total:,} hidden values in the standard errors that they would be published with, fitted on other "
        "windows where they are fitted; each counts as often as the real holes are as rough around. The curve is the "
        "normal distribution of the same standard error. What matters is the share between the dashed lines, which "
        "should be 90 %; a narrower peak with longer tails is usual."
    )
    return chart, caption


def _coverage(samples: Samples, unit: str) -> tuple[Chart, str]:
    seen, held = samples.seen, samples.held
    used = [k for k in range(len(seen)) if seen[k] >= _FEWEST]
    ends = [number(d) for d in DISTANCES[:-1]]
    labels = [f"{ends[k]}-{ends[k + 1]}" if k + 1 < len(ends) else f"over {ends[k]}" for k in used]
    chart = Chart(
        f"Share of hidden {unit}s that the 90 % interval held, by distance to observed ones",
        Axis(
            name=f"distance to observed {unit}s, {unit}s",
            low=0,
            high=max(1, len(used)),
            ticks=[(place + 0.5, label) for place, label in enumerate(labels)],
        ),
        Axis(name="held by the interval", low=0.0, high=1.1, ticks=[(0, "0"), (0.5, "50 %"), (0.9, "90 %")]),
    )
    for place, k in enumerate(used):
        share = float(held[k] / seen[k])
        chart.bars((place + 0.1, place + 0.9), (share,))
        chart.text(place + 0.5, share, f"{100 * share:.0f} %")
    chart.line((0, max(1, len(used))), (0.9, 0.9), "dashed")
    counts = ", ".join(f"{seen[k]:,.0f} at {label}" for k, label in zip(used, labels, strict=True))
    return (
        chart,
        f"Share that the 90 % interval held, by distance ({counts}). Below the dashed line error bars are too narrow.",
    )


def _comparisons(record: Mapping[str, Any]) -> list[Comparison]:
    names = {"thin": "thin", "deep": "wide", "border": "at the edge"}
    found = []
    for row in record["self_test"]["methods"]:
        for family in row["families"]:
            sure = family.get("comparison")
            if not sure or sure["change"] is None or sure["error"] is None:
                continue
            found.append(
                Comparison(
                    method=row["method"],
                    family=names[family["family"]],
                    tried=f"{100 * sure['weight']:.0f} %",
                    change=f"{100 * sure['change']:+.1f} %",
                    standard_error=f"{100 * sure['error']:.1f} %",
                    needed=f"below {-100 * sure['risk'] * sure['error']:.1f} %",
                    wins=sure["change"] + sure["risk"] * sure["error"] < 0,
                )
            )
    return found
