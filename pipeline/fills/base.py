"""What a fill promises.

A fill module (its file name is the `kind`) offers::

    NDIM: tuple[int, ...]          spatial dimensions it works in
    def fill(window: Window, **options) -> NDArray[np.float32]
    WHOLE: bool                    optional, True if what it makes of a hole depends on holes far from it, too
    def begun_with(**options) -> FillSpec
    def refined(window: Window, begun: NDArray[np.float32], **options) -> NDArray[np.float32]
                                   optional, if it refines what another fill makes of the window
    class Prepared:                optional, if fills of one window with several options share work
        def __init__(self, window: Window) -> None
        def __call__(self, **options) -> NDArray[np.float32]

`fill` returns `(c, *spatial)`: the observed values where `valid`, finite estimates where `hole`. It is a pure,
deterministic function of the window (single-threaded arithmetic), so any block may recompute it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.alike import alike
from pipeline.registry import load
from pipeline.system.meter import lap


@dataclass(frozen=True, kw_only=True)
class Window:
    """A piece of an image with holes.

    Attributes:
        values: float32 `(c, *spatial)`; meaningful where `valid`.
        valid: bool `(c, *spatial)`; True = observed and trusted.
        hole: bool `(c, *spatial)`; True = to be filled. Pixels that are neither are never touched: they
            carry no information and take no part.
        spacing: step per spatial axis (mm for volumes, 1 for rasters); only ratios matter.
        guess: float32 `(c, *spatial)` or None; a coarse fill of the whole image. Hole pixels on the window's
            own edge that is not an image edge are held at it, so neighbouring windows agree.
        open_edges: per spatial axis `(low, high)`: True where the window's edge cuts through the image.
        asked: bool `(c, *spatial)`, the hole pixels whose estimates count; what a fill makes of others may be anything
            finite. None = all of them.
        rough: estimates are only compared, and need be no more exact than that (see `numerics.solve.ROUGH`).
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    hole: NDArray[np.bool_]
    spacing: tuple[float, ...]
    guess: NDArray[np.float32] | None = None
    open_edges: tuple[tuple[bool, bool], ...] = ()
    asked: NDArray[np.bool_] | None = None
    rough: bool = False

    @cached_property
    def groups(self) -> list[list[int]]:
        """All channels, those with the same `valid` and the same `hole` together; see `alike`."""
        return alike(self.valid, self.hole)

    @property
    def hole_groups(self) -> list[list[int]]:
        """The channels with holes, those with the same `valid` and the same `hole` together."""
        return [channels for channels in self.groups if self.hole[channels[0]].any()]


class Prepared:
    """A window that is filled in several ways, one after the other: fills of one kind share what they can."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self._by_kind: dict[str, Any] = {}

    def filled(self, spec: FillSpec) -> NDArray[np.float32]:
        """Return what a fill makes of the window, as near to what it makes alone as it must be (`Window.rough`)."""
        module = load("fills", spec.kind)
        if not hasattr(module, "Prepared"):
            return spec(self.window)
        with lap(f"fill {spec.label}") as done:
            if spec.kind not in self._by_kind:
                self._by_kind[spec.kind] = module.Prepared(self.window)
            result: NDArray[np.float32] = self._by_kind[spec.kind](**dict(spec.options))
            done.amount = float(np.count_nonzero(self.window.hole))
        return result


@dataclass(frozen=True, slots=True)
class FillSpec:
    """Name and options of a fill, as stored in a plan."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, window: Window) -> NDArray[np.float32]:
        """Fill the window; see the module's `fill`."""
        with lap(f"fill {self.label}") as done:
            result: NDArray[np.float32] = load("fills", self.kind).fill(window, **dict(self.options))
            done.amount = float(np.count_nonzero(window.hole))
        return result

    def over(self, window: Window, begin: Callable[[FillSpec], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Fill the window; where this refines another fill, `begin` gives what that one makes of it."""
        module, options = load("fills", self.kind), dict(self.options)
        if not hasattr(module, "refined"):
            return self(window)
        begun = begin(self.begun_with)
        with lap(f"fill {self.label}") as done:
            result: NDArray[np.float32] = module.refined(window, begun, **options)
            done.amount = float(np.count_nonzero(window.hole))
        return result

    @property
    def begun_with(self) -> FillSpec:
        """Return the fill that this one refines, itself if it begins from nothing."""
        module = load("fills", self.kind)
        begun: FillSpec = module.begun_with(**dict(self.options)) if hasattr(module, "refined") else self
        return begun

    def begun_as(self, other: FillSpec) -> FillSpec:
        """Return this fill as it refines another one, itself if it cannot: so both need that one only once."""
        begun = self.begun_with
        if begun == self or begun.kind != other.kind:
            return self
        return FillSpec(self.kind, {**self.options, **other.options})

    @property
    def whole(self) -> bool:
        """Return True if it must see all holes of a window, wherever they are, to fill some of them as in a run."""
        return bool(getattr(load("fills", self.kind), "WHOLE", False))

    @property
    def label(self) -> str:
        """Short name for tables, e.g. `tension t=0.5`."""
        tail = " ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.options.items())
        return f"{self.kind} {tail}".strip()
