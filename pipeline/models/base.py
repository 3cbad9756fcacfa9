"""What a model promises.

A model module (its file name is the `kind`) offers::

    def open_model(weights: Path | None, *, ndim: int, device: str, options: Mapping[str, Any]) -> Inpainter

Models see patches of one constant spatial shape in data units; local normalisation is the model's own affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What the network sees.

    Attributes:
        filled: float32 `(c, *patch)` data units; observed values, the base fill in holes, edge-replicated
            values outside the image.
        valid: bool `(c, *patch)`; True = observed. False in holes, never-touch pixels and outside the image.
        spacing: step per spatial axis (mm for volumes, 1 for rasters).
        floor: smallest local scale to divide by, per channel, in data units (stored quantum and 1 % of the
            robust range of the file).
    """

    filled: NDArray[np.float32]
    valid: NDArray[np.bool_]
    spacing: tuple[float, ...]
    floor: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What it says.

    Attributes:
        mean: float32 `(c, *patch)` data units; the estimate (base fill plus residual).
        scale: float32 `(c, *patch)` data units, > 0; uncalibrated standard error.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]


class Inpainter(Protocol):
    """A trained or trivial model. Deterministic: the same patch gives the same bytes in any batch."""

    name: str
    sha256: str
    """Hash of the weights; the model's name for models without weights."""
    ndim: int

    def predict(self, patches: list[Patch]) -> list[Prediction]:
        """Return one prediction a patch, in order."""
        ...
