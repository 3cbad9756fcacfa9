"""The fills that compete for the holes of an image."""

from __future__ import annotations

from pipeline.fills.base import FillSpec


def default_fills(ndim: int, spacing: tuple[float, ...]) -> list[FillSpec]:
    """Base fills that compete in the self-test, the default first."""
    if ndim == 2:
        return [
            FillSpec("tension", {"t": 0.5}),
            FillSpec("tension", {"t": 0.75}),
            FillSpec("tension", {"t": 0.9}),
            FillSpec("tension", {"t": 1.0}),
            FillSpec("kriging", {"t": 0.75}),
            FillSpec("harmonic"),
            FillSpec("nearest"),
        ]
    fills = [FillSpec("tension", {"t": 0.95}), FillSpec("kriging", {"t": 0.95})]
    if max(spacing) > 1.2 * min(spacing):
        fills += [FillSpec(kind, {"t": 0.95, "isotropic": True}) for kind in ("tension", "kriging")]
    return [
        *fills,
        # wide holes of grainy or thick volumes
        FillSpec("tension", {"t": 0.8}),
        # where there is only one side to go by, stiff splines overshoot
        FillSpec("tension", {"t": 0.5}),
        FillSpec("harmonic"),
        FillSpec("nearest"),
        FillSpec("through", {"order": "linear"}),
        FillSpec("through", {"order": "cubic"}),
    ]
