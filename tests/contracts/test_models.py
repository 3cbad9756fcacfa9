"""Every model keeps the contract of `pipeline.models.base`."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.models.base import shipped
from pipeline.testing import ModelContract
from pipeline.testing.models import random_patch

CASES = [("identity", None, n) for n in (2, 3)] + [("constant", None, n) for n in (2, 3)]
CASES += [("autoencoder", s.path, s.ndim) for s in shipped()]


class TestModels(ModelContract):
    """Run for every model, with all weights that come with the package."""

    @pytest.fixture(autouse=True, params=CASES, ids=lambda case: f"{case[0]}-{case[1].stem if case[1] else case[2]}")
    def _case(self, request: pytest.FixtureRequest) -> None:
        self.kind, self.weights, self.ndim = request.param


def test_every_model_is_covered():
    """A new model file must be added to the cases."""
    tested = {kind for kind, _, _ in CASES} | {"autoencoder"}
    assert set(registry.kinds("models")) == tested


def test_identity_returns_the_fill_and_the_floor():
    """The oracle changes nothing."""
    model = registry.load("models", "identity").open_model(None, ndim=2, device="cpu", options={})
    patch = random_patch(2)
    prediction = model.predict([patch])[0]
    assert np.array_equal(prediction.mean, patch.filled)
    assert np.array_equal(prediction.scale[:, 0, 0], patch.floor)


def test_constant_returns_its_numbers_and_refuses_others():
    """Options are value and scale, nothing else."""
    open_model = registry.load("models", "constant").open_model
    model = open_model(None, ndim=2, device="cpu", options={"value": 7, "scale": 2})
    prediction = model.predict([random_patch(2)])[0]
    assert np.all(prediction.mean == 7)
    assert np.all(prediction.scale == 2)
    assert model.sha256 != open_model(None, ndim=2, device="cpu", options={}).sha256
    for options in ({"level": 1}, {"scale": 0}):
        with pytest.raises(ConfigError, match="constant"):
            open_model(None, ndim=2, device="cpu", options=options)
