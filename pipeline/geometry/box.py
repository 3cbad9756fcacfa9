"""A box: the half-open integer range `[start, stop)` on every axis, in pixels or voxels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """An N-d half-open index range; axes are in memory order, `(y, x)` or `(z, y, x)`.

    >>> Box((0, 2), (4, 8)).shape
    (4, 6)
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise ValueError(f"start {self.start} and stop {self.stop} differ in length")

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """Return the box that covers an array of this shape."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.start)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent on each axis, never negative."""
        return tuple(max(0, b - a) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of pixels or voxels inside."""
        n = 1
        for extent in self.shape:
            n *= extent
        return n

    @property
    def empty(self) -> bool:
        """True if no pixel lies inside."""
        return self.size == 0

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices for indexing an array whose origin is the image's."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def __and__(self, other: Box) -> Box:
        """Return the intersection (possibly empty)."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(max(s, min(a, b)) for s, a, b in zip(start, self.stop, other.stop, strict=True))
        return Box(start, stop)

    def grow(self, margin: int | Sequence[int]) -> Box:
        """Return the box widened by `margin` on both sides of each axis."""
        m = (margin,) * self.ndim if isinstance(margin, int) else tuple(margin)
        return Box(
            tuple(a - k for a, k in zip(self.start, m, strict=True)),
            tuple(b + k for b, k in zip(self.stop, m, strict=True)),
        )

    def shift(self, offset: Sequence[int]) -> Box:
        """Return the box moved by `offset`."""
        return Box(
            tuple(a + k for a, k in zip(self.start, offset, strict=True)),
            tuple(b + k for b, k in zip(self.stop, offset, strict=True)),
        )

    def within(self, outer: Box) -> tuple[slice, ...]:
        """Return slices that select this box from an array that covers `outer`.

        Raises:
            ValueError: this box is not contained in `outer`.
        """
        if any(a < o for a, o in zip(self.start, outer.start, strict=True)) or any(
            b > o for b, o in zip(self.stop, outer.stop, strict=True)
        ):
            raise ValueError(f"{self} is not inside {outer}")
        return tuple(slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, outer.start, strict=True))

    def at(self, channels: slice = slice(None), *, of: Box | None = None) -> tuple[slice, ...]:
        """Return the index of this box in an array `(c, *spatial)` that covers `of`; without `of`, the whole image.

        Raises:
            ValueError: this box is not contained in `of`.

        >>> Box((4,), (6,)).at(of=Box((3,), (9,)))
        (slice(None, None, None), slice(1, 3, None))
        """
        return (channels, *(self.slices if of is None else self.within(of)))

    def tiles(self, shape: Sequence[int]) -> Iterator[Box]:
        """Cut into boxes of at most `shape`, anchored to the origin of the index space, in C order.

        >>> [b.start for b in Box((0,), (10,)).tiles((4,))]
        [(0,), (4,), (8,)]
        """
        if self.empty:
            return
        ranges = [range(a // n, max(a // n, -(-b // n))) for a, b, n in zip(self.start, self.stop, shape, strict=True)]
        for index in product(*ranges):
            tile = Box(
                tuple(i * n for i, n in zip(index, shape, strict=True)),
                tuple((i + 1) * n for i, n in zip(index, shape, strict=True)),
            )
            yield tile & self
