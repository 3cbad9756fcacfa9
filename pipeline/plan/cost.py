"""How long a run takes: spans of seconds on one core, stage by stage, and how they are said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pipeline.system.words import in_words

_COUNTS_S = 5.0
"""Seconds that took as long as foretold which a pace has beside those that were measured: short stages say little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Seconds on one core that is free: at least, likely, at most."""

    low: float = 0.0
    likely: float = 0.0
    high: float = 0.0

    @classmethod
    def around(cls, likely: float, spread: float) -> Span:
        """Return `likely` with `spread` (a factor above 1) to either side."""
        return cls(low=likely / spread, likely=likely, high=likely * spread)

    def __add__(self, other: Span) -> Span:
        """Return the time of both, one after the other."""
        return Span(low=self.low + other.low, likely=self.likely + other.likely, high=self.high + other.high)

    def over(self, workers: int) -> Span:
        """Return the time if `workers` share the work."""
        n = max(1, workers)
        return Span(low=self.low / n, likely=self.likely / n, high=self.high / n)

    def times(self, pace: float) -> Span:
        """Return the time where all takes `pace` times as long."""
        return Span(low=self.low * pace, likely=self.likely * pace, high=self.high * pace)

    def __str__(self) -> str:
        """Return it in words.

        >>> str(Span(low=14.2, likely=20.1, high=94.0))
        'about 20 s (14 s to 1.6 min)'
        """
        return f"about {in_words(self.likely)} ({in_words(self.low)} to {in_words(self.high)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the stages of a run take."""

    opened: Span = field(default_factory=Span)
    """Start of the program, masks, statistics: over as soon as this can be told; in one process."""
    survey: Span
    """Look for thin cloud, self-test and coarse fill, or what is left of them; in one process."""
    blocks: Span
    """All blocks on one core."""
    files: Span
    """Final files, checks and report; in one process."""

    def total(self, workers: int = 1) -> Span:
        """Return the time from start to end with that many workers for the blocks."""
        return self.opened + self.to_go(workers)

    def to_go(self, workers: int = 1) -> Span:
        """Return the time from when this is told to the end with that many workers for the blocks."""
        return self.survey + self.blocks.over(workers) + self.files

    def paced(self, foretold: float, took: float) -> Cost:
        """Return what is left at the pace of what is over: it was foretold to take so many seconds and took so many."""
        pace = (took + _COUNTS_S) / (foretold + _COUNTS_S)
        left = {name: getattr(self, name).times(pace) for name in ("survey", "blocks", "files")}
        return replace(self, **left)
