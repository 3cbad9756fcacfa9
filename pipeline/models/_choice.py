"""What the config says about the model, and which shipped weights an image gets when it names none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import FillSpec
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.models.base import Inpainter, Traits, find_weights, shipped
from pipeline.registry import kinds, load

_NETWORK = "autoencoder"
"""Kind of a model when the config names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """What the config says about the model, and what follows from it."""

    kind: str | None = None
    """Part of `models` or `fills`; None = not said: shipped weights that fit the image."""
    weights: str = "auto"
    """`auto`, the name of shipped weights, or a path."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the model or fill."""
    device: str = "cpu"

    @property
    def fill(self) -> FillSpec | None:
        """The classical fill that was chosen instead of a network, else None."""
        if self.kind is None or self.kind not in kinds("fills") or self.kind in kinds("models"):
            return None
        return FillSpec(self.kind, self.options)

    @property
    def network(self) -> str:
        """The part of `models` that it is opened by."""
        return self.kind or _NETWORK

    @property
    def traits(self) -> Traits:
        """How the chosen model takes part in a run; those of a network if none was named."""
        if self.kind is None or self.fill:
            return Traits()
        traits: Traits = getattr(load("models", self.kind), "TRAITS", Traits())
        return traits

    def weights_files(self, source: Source) -> tuple[Path, ...]:
        """Return the weights file that was named, or the shipped ones for the kind of image; see `by_holes`.

        Raises:
            ConfigError: no such name or file.
            SourceError: the image cannot be read.
        """
        if self.fill or not self.traits.has_weights:
            return ()
        names = auto_weights(source) if self.weights == "auto" else (self.weights,)
        return tuple(find_weights(name) for name in names)

    def open(self, weights: Path | None, ndim: int) -> Inpainter | None:
        """Open the model for images of `ndim` dimensions; None if a fill was chosen.

        Raises:
            ConfigError: unknown kind, missing weights or wrong hash.
            PlanRefused: the device is not there.
        """
        if self.fill:
            return None
        module = load("models", self.network)
        model: Inpainter = module.open_model(weights, ndim=ndim, device=self.device, options=self.options)
        return model


HOUNSFIELD = "hounsfield"
"""`suits` of weights for computed tomography."""
_DEFAULT = {2: ("optical", "optical_small"), 3: ("t1",)}
_FEW_THIN = 0.05
"""Share of the hole pixels in thin holes below which the smaller weights are as good: clouds have 1 %, the gaps of a
broken scanner 9 % (docs/decisions/training.md)."""
_SLICES, _MAX_VALUES = 8, 1 << 24
_AIR, _SOFT = (-1100.0, -850.0), (-200.0, 200.0)
_MIN_AIR, _MIN_SOFT, _MAX_BELOW = 0.01, 0.03, 0.01


def auto_weights(source: Source) -> tuple[str, ...]:
    """Return the names of the shipped weights that fit an image, the most able first; see `by_holes`.

    Rasters get `optical` or `optical_small`; volumes in Hounsfield units those whose card says `suits: hounsfield`,
    other volumes and, if there are none, these too `t1`. The choice is a start: whether the network is used at all is
    up to the self-test.

    Raises:
        SourceError: the middle of a volume cannot be read.
    """
    ndim = source.space.ndim
    if ndim == 3:
        suited = [s.name for s in shipped() if s.ndim == ndim and s.card.suits == HOUNSFIELD]
        if suited and hounsfield(_middle(source)):
            return (suited[0],)
    return _DEFAULT[ndim]


def by_holes(files: Sequence[Path], thin: Callable[[], float]) -> Path | None:
    """Return which of the weights that fit an image it gets: the small ones where hardly any hole is thin.

    Small ones do as well in clouds, and worse by a tenth of a decibel in lost pixels and lines.

    Args:
        files: as `ModelChoice.weights_files` gives them; none of a model without weights.
        thin: says which share of the hole pixels lies in thin holes, 0 to 1; asked only if there is a choice.
    """
    if len(files) > 1 and thin() < _FEW_THIN:
        return files[1]
    return files[0] if files else None


def hounsfield(values: NDArray[np.floating]) -> bool:
    """Say whether values are those of computed tomography: some air, some soft tissue, next to nothing below air.

    The last rule tells them from phase images and standardised volumes, which also go far below zero. Padding outside
    the field of view is one value, the smallest, and does not count.

    Args:
        values: finite physical values of the middle of a volume, any shape.
    """
    if not values.size:
        return False
    seen = values[(values > values.min()) | (values >= _AIR[0])]
    if not seen.size:
        return False
    air = np.mean((seen >= _AIR[0]) & (seen <= _AIR[1]))
    soft = np.mean((seen >= _SOFT[0]) & (seen <= _SOFT[1]))
    return bool(air >= _MIN_AIR and soft >= _MIN_SOFT and np.mean(seen < _AIR[0]) <= _MAX_BELOW)


def _middle(source: Source) -> NDArray[np.float64]:
    """Return the physical values of a few slices in the middle of the first channel, without nodata."""
    shape = source.space.shape
    # a slab along the slowest axis is read in one piece, also from compressed files
    depth = min(shape[0], _SLICES)
    rows = min(shape[1], max(1, _MAX_VALUES // (depth * shape[2])))
    start = ((shape[0] - depth) // 2, (shape[1] - rows) // 2, 0)
    box = Box(start, (start[0] + depth, start[1] + rows, shape[2]))
    stored = source.read(box, slice(0, 1))[0]
    never = source.never(box)[0]
    scale, offset = source.scale_offset[0]
    values = stored[~never].astype(np.float64) * scale + offset
    return np.asarray(values[np.isfinite(values)])
