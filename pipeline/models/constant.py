"""The model that predicts one number everywhere: blending must give exactly that number in every hole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.models.base import Patch, Prediction, Traits
from pipeline.system.paths import shortened

TRAITS = Traits(weighed=False, has_weights=False, absolute=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """Predicts `value` with standard error `scale`, in data units."""

    ndim: int
    value: float
    scale: float
    name: str = "constant"
    blind: bool = True

    @property
    def sha256(self) -> str:
        """Name and numbers, since they are all there is to it."""
        return f"constant value={self.value:g} scale={self.scale:g}"

    def predict(self, patches: list[Patch]) -> list[Prediction]:
        """Return the constant field for each patch."""
        return [
            Prediction(
                mean=np.full(p.filled.shape, self.value, dtype=np.float32),
                scale=np.full(p.filled.shape, self.scale, dtype=np.float32),
            )
            for p in patches
        ]


def open_model(weights: Path | None, *, ndim: int, device: str, options: Mapping[str, Any]) -> Constant:  # noqa: ARG001
    """Return the constant model; options are `value` (default 0) and `scale` (default 1, positive).

    Raises:
        ConfigError: an unknown option, a value that float32 cannot hold, or a scale that is not positive.
    """
    unknown = sorted(set(options) - {"value", "scale"})
    value, scale = options.get("value", 0.0), options.get("scale", 1.0)
    if unknown:
        problem = f"unknown option '{shortened(str(unknown[0]))}'"
    elif not _is_number(value):
        problem = f"value {shortened(repr(value))} is no number"
    elif not _is_number(scale) or not scale > 0:
        problem = f"scale {shortened(repr(scale))} is not positive"
    else:
        return Constant(ndim=ndim, value=float(value), scale=float(scale))
    raise ConfigError(f"model constant: {problem}; it takes value: NUMBER and scale: NUMBER > 0")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= float(np.finfo(np.float32).max)
