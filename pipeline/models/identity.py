"""The model that changes nothing: the permanent oracle for reading, blending and compositing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.models.base import Patch, Prediction, Traits
from pipeline.numerics.column import column
from pipeline.system.paths import shortened

TRAITS = Traits(weighed=False, has_weights=False, sees_stored=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Predicts what it sees."""

    ndim: int
    name: str = "identity"
    sha256: str = "identity"
    blind: bool = True

    def predict(self, patches: list[Patch]) -> list[Prediction]:
        """Return each patch as its own estimate; the scale is the patch's floor."""
        return [Prediction(mean=p.filled.copy(), scale=_floor(p)) for p in patches]


def open_model(weights: Path | None, *, ndim: int, device: str, options: Mapping[str, Any]) -> Identity:  # noqa: ARG001
    """Return the identity model; it has no weights, device or options.

    Raises:
        ConfigError: an option is given.
    """
    if options:
        raise ConfigError(f"model identity: unknown option '{shortened(str(min(options)))}'; it takes none")
    return Identity(ndim=ndim)


def _floor(patch: Patch) -> np.ndarray[Any, np.dtype[np.float32]]:
    positive = np.maximum(column(patch.floor, patch.filled.ndim - 1), np.finfo(np.float32).tiny)
    return np.broadcast_to(positive, patch.filled.shape).astype(np.float32)
