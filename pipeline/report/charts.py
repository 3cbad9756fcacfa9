"""Small charts as SVG in the page: drawn in the colours of its text, so they suit light and dark."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from pipeline.system.words import number

_WIDTH, _HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 44
_LEAST_STEPS = 64
"""How many numbers of 64 bits an axis reaches over at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis shows: its name, its ends, and where it has ticks with which texts."""

    name: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]] = ()

    @classmethod
    def of(cls, name: str, values: NDArray[np.floating]) -> Axis:
        """Return an axis with a few round ticks on which all values have a place."""
        low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        if values.size:
            low, high = float(values.min()), float(values.max())
        # ends that numbers of 64 bits cannot tell apart, or steps between them that vanish, have no ticks
        least = max(_LEAST_STEPS * float(np.spacing(max(abs(low), abs(high)))), sys.float_info.min)
        if high - low < least:
            low, high = low - max(0.5, least), low + max(0.5, least)
        power = 10.0 ** math.floor(math.log10((high - low) / 3))
        step = max(s * power for s in (1, 2, 5) if s * power <= (high - low) / 2.5)
        ticks = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
        return cls(name=name, low=low, high=high, ticks=[(float(t), number(float(t))) for t in ticks])


class Chart:
    """A chart in the making; every method adds something.

    Args:
        title: what it shows, in a sentence for those who cannot see it.
        across: the horizontal axis.
        up: the vertical one.
    """

    def __init__(self, title: str, across: Axis, up: Axis) -> None:
        self.title, self.across, self.up = title, across, up
        self._parts: list[str] = []

    def points(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
        """Add points `(n,)` each; those beyond the axes are left out."""
        inside = (x >= self.across.low) & (x <= self.across.high) & (y >= self.up.low) & (y <= self.up.high)
        path = "".join(f"M{self._x(a):.1f} {self._y(b):.1f}h0" for a, b in zip(x[inside], y[inside], strict=True))
        self._parts.append(f'<path class="points" d="{path}"/>')

    def line(self, x: Sequence[float], y: Sequence[float], style: str = "line") -> None:
        """Add a line through some points."""
        path = " ".join(f"{self._x(a):.1f},{self._y(b):.1f}" for a, b in zip(x, y, strict=True))
        self._parts.append(f'<polyline class="{style}" points="{path}"/>')

    def bars(self, edges: Sequence[float], heights: Sequence[float]) -> None:
        """Add bars between edges `(n + 1,)` of heights `(n,)`."""
        for a, b, height in zip(edges[:-1], edges[1:], heights, strict=True):
            left, top, foot = self._x(a), self._y(min(height, self.up.high)), self._y(max(0.0, self.up.low))
            width = max(0.5, self._x(b) - left - 1)
            self._parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(0.0, foot - top):.1f}"/>'
            )

    def text(self, x: float, y: float, said: str) -> None:
        """Add a short text over a place."""
        self._parts.append(f'<text x="{self._x(x):.1f}" y="{self._y(y) - 4:.1f}">{escape(said)}</text>')

    def __html__(self) -> str:
        """Return the chart as it stands in a page."""
        frame = (
            f'<path class="axis" d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}"/>'
            f'<text x="{(_WIDTH + _LEFT) / 2:.0f}" y="{_HEIGHT - 6}">{escape(self.across.name)}</text>'
            f'<text x="0" y="0" transform="translate(12 {(_HEIGHT - _BOTTOM) / 2:.0f}) rotate(-90)">'
            f"{escape(self.up.name)}</text>"
        )
        marks = [
            f'<text x="{self._x(v):.1f}" y="{_HEIGHT - _BOTTOM + 15}">{escape(t)}</text>' for v, t in self.across.ticks
        ]
        marks += [
            f'<text class="tick" x="{_LEFT - 5}" y="{self._y(v) + 4:.1f}">{escape(t)}</text>' for v, t in self.up.ticks
        ]
        return Markup(
            f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(self.title)}">'
            f"{''.join(self._parts)}{frame}{''.join(marks)}</svg>"
        )

    def _x(self, value: float) -> float:
        share = (value - self.across.low) / (self.across.high - self.across.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        share = (value - self.up.low) / (self.up.high - self.up.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
