"""Which values of a drawn mask file are holes, and which values it holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError

_MOST_VALUES = 64
"""A mask with more values than these holds no labels."""
_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The values that mean hole: one of `values`, above `threshold`, any of `bits`; without these all but 0 and NaN."""

    values: tuple[float, ...] | None = None
    threshold: float | None = None
    bits: tuple[int, ...] | None = None

    def of(self, codes: NDArray[Any]) -> NDArray[np.bool_]:
        """Return True where a code means hole; same shape."""
        if self.values is not None:
            return np.asarray(np.isin(codes, self.values))
        if self.threshold is not None:
            return np.asarray(codes > self.threshold)
        if self.bits is not None:
            return np.asarray((codes.astype(np.int64) & sum(1 << bit for bit in set(self.bits))) != 0)
        # Only NaN differs from itself.
        return np.asarray((codes != 0) & (codes == codes))  # noqa: PLR0124

    @property
    def chosen(self) -> str:
        """What the config says, as it would be written there; empty if it leaves the choice to the file."""
        given = {"values": self.values, "threshold": self.threshold, "bits": self.bits}
        return ", ".join(f"{k}: {list(v) if isinstance(v, tuple) else v}" for k, v in given.items() if v is not None)

    def require_fits(self, path: str, dtype: np.dtype[Any]) -> None:
        """Check that a file of this dtype can have what is asked for.

        Raises:
            SourceError: bits of values that are no whole numbers.
        """
        if self.bits is not None and dtype.kind not in "iub":
            raise SourceError(f"{path}: `bits` need whole numbers, found {dtype}; use `values` or `threshold`")


@dataclass(kw_only=True)
class Tally:
    """Counts the values of a mask, all of them as long as they are few."""

    counts: Counter[float] = field(default_factory=Counter)
    """Pixels of each value; only of 0 once there are too many values."""
    many: bool = False
    low: float = np.inf
    high: float = -np.inf
    marked: bool = False
    """A hole was among them."""
    unknown: int = 0
    """Pixels that are NaN."""

    def add(self, codes: NDArray[Any], hole: NDArray[np.bool_]) -> None:
        """Count the values of some pixels, NaN left out, and note whether any of them is a hole."""
        self.marked = self.marked or bool(hole.any())
        if codes.dtype.kind == "f":
            self.unknown += int(np.isnan(codes).sum())
        codes = codes[np.isfinite(codes)] if codes.dtype.kind == "f" else codes.ravel()
        if not codes.size:
            return
        self.low, self.high = min(self.low, float(codes.min())), max(self.high, float(codes.max()))
        if self.many:
            self.counts[0.0] += int((codes == 0).sum())
            return
        for value, count in zip(*np.unique(codes, return_counts=True), strict=True):
            self.counts[float(value)] += int(count)
        if len(self.counts) > _MOST_VALUES:
            self.many, self.counts = True, Counter({0.0: self.counts[0.0]})

    @property
    def binary(self) -> bool:
        """No two values beside 0."""
        return not self.many and len(set(self.counts) - {0.0}) <= 1

    def __str__(self) -> str:
        """Say which values there are, the most frequent first, with the number of pixels of each."""
        if self.many:
            zeros = f", 0 in {self.counts[0.0]} pixels"
            return f"more than {_MOST_VALUES} values from {self.low:g} to {self.high:g}{zeros}"
        shown = ", ".join(f"{value:g} ({count} px)" for value, count in self.counts.most_common(_SHOWN))
        more = len(self.counts) - _SHOWN
        return f"{shown} and {more} more" if more > 0 else shown


def value_notices(path: str, tally: Tally, marks: Marks, advice: str = "") -> tuple[str, ...]:
    """Return what the user should know of a mask file's values: not binary, none marked, or not numbers.

    `advice` says what to write for a file that is not binary, if more is known of it than its values.
    """
    said = (f"{path}: is NaN in {tally.unknown} pixels, which are kept; write a number there if they are holes",)
    return (said if tally.unknown else ()) + _number_notices(path, tally, marks, advice)


def _number_notices(path: str, tally: Tally, marks: Marks, advice: str) -> tuple[str, ...]:
    if marks.chosen:
        nothing = not tally.marked and tally.counts
        return (f"{path}: {marks.chosen} marks nothing; the mask holds {tally}",) if nothing else ()
    if tally.binary:
        return ()
    whole = not tally.many and all(value == int(value) for value in tally.counts)
    # without a 0 the most frequent value is what surrounds the holes
    around = 0.0 if tally.counts[0.0] or tally.many else tally.counts.most_common(1)[0][0]
    first = min((v for v in tally.counts if v != around), default=1.0)
    middle = 0.5 if tally.high < 2 else tally.high / 2
    choice = "Choose with " + (f"`values: [{first:g}]` or `bits: [...]`" if whole else f"`threshold: {middle:.3g}`")
    return (
        f"{path}: the mask is not binary, it holds {tally}; everything but 0 was taken as a hole. "
        f"{advice or choice} on this entry",
    )
