"""The contract of models, see `pipeline.models.base`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.models.base import Inpainter, Patch
from pipeline.registry import load


def random_patch(ndim: int) -> Patch:
    """Return three channels of 16 pixels an axis, half of them observed."""
    shape = (3, *(16,) * ndim)
    rng = np.random.default_rng(1)
    return Patch(
        filled=rng.normal(100, 10, shape).astype(np.float32),
        valid=rng.random(shape) > 0.5,
        spacing=(1.0,) * ndim,
        floor=np.array([1, 2, 3], np.float32),
    )


class ModelContract:
    """A model gives every patch a finite estimate and a positive scale, the same bytes whatever stands beside it.

    ::

        class TestMine(ModelContract):
            kind = "mine"
            weights = Path("mine.safetensors")
            ndim = 3
    """

    kind: str
    """The model, as the config names it."""
    weights: Path | None = None
    """Its weights, None if it has none."""
    ndim: int = 2
    """Spatial dimensions to test; a model for both is tested twice."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Options of the model."""

    def opened(self) -> Inpainter:
        """Open the model on the CPU."""
        open_model = load("models", self.kind).open_model
        model: Inpainter = open_model(self.weights, ndim=self.ndim, device="cpu", options=self.options)
        return model

    def test_predictions_are_finite_float32_of_the_patch_shape(self) -> None:
        """One prediction a patch, scale positive, input untouched, the same bytes twice and alone."""
        model, patch = self.opened(), random_patch(self.ndim)
        before = patch.filled.copy()
        first, second = model.predict([patch, patch])
        (alone,) = model.predict([patch])
        assert np.array_equal(patch.filled, before)
        for other in (second, alone):
            assert first.mean.tobytes() == other.mean.tobytes()
            assert first.scale.tobytes() == other.scale.tobytes()
        for field in (first.mean, first.scale):
            assert field.shape == patch.filled.shape
            assert field.dtype == np.float32
            assert np.isfinite(field).all()
        assert (first.scale > 0).all()

    def test_names_itself(self) -> None:
        """Name and hash for the record, and the dimensions that were asked for."""
        model = self.opened()
        assert model.ndim == self.ndim
        assert model.name
        assert model.sha256
