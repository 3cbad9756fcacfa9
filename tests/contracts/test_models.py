"""Every model keeps the contract of `pipeline.models.base`."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.models.base import Patch, shipped

CASES = [("identity", None, n) for n in (2, 3)] + [("constant", None, n) for n in (2, 3)]
CASES += [("autoencoder", s.path, s.ndim) for s in shipped()]


def _patch(ndim: int) -> Patch:
    shape = (3, *(16,) * ndim)
    rng = np.random.default_rng(1)
    return Patch(
        filled=rng.normal(100, 10, shape).astype(np.float32),
        valid=rng.random(shape) > 0.5,
        spacing=(1.0,) * ndim,
        floor=np.array([1, 2, 3], np.float32),
    )


@pytest.mark.parametrize(("kind", "weights", "ndim"), CASES)
def test_predictions_are_finite_float32_of_the_patch_shape(kind, weights, ndim):
    """One prediction a patch, scale positive, input untouched, the same bytes twice."""
    model = registry.load("models", kind).open_model(weights, ndim=ndim, device="cpu", options={})
    patch = _patch(ndim)
    before = patch.filled.copy()
    first, second = model.predict([patch, patch])
    assert np.array_equal(patch.filled, before)
    assert first.mean.tobytes() == second.mean.tobytes()
    for field in (first.mean, first.scale):
        assert field.shape == patch.filled.shape
        assert field.dtype == np.float32
        assert np.isfinite(field).all()
    assert (first.scale > 0).all()
    assert model.ndim == ndim
    assert model.name
    assert model.sha256


def test_every_model_is_covered():
    """A new model file must be added to the cases."""
    tested = {kind for kind, _, _ in CASES} | {"autoencoder"}
    assert set(registry.kinds("models")) == tested


def test_identity_returns_the_fill_and_the_floor():
    """The oracle changes nothing."""
    model = registry.load("models", "identity").open_model(None, ndim=2, device="cpu", options={})
    patch = _patch(2)
    prediction = model.predict([patch])[0]
    assert np.array_equal(prediction.mean, patch.filled)
    assert np.array_equal(prediction.scale[:, 0, 0], patch.floor)


def test_constant_returns_its_numbers_and_refuses_others():
    """Options are value and scale, nothing else."""
    open_model = registry.load("models", "constant").open_model
    model = open_model(None, ndim=2, device="cpu", options={"value": 7, "scale": 2})
    prediction = model.predict([_patch(2)])[0]
    assert np.all(prediction.mean == 7)
    assert np.all(prediction.scale == 2)
    assert model.sha256 != open_model(None, ndim=2, device="cpu", options={}).sha256
    for options in ({"level": 1}, {"scale": 0}):
        with pytest.raises(ConfigError, match="constant"):
            open_model(None, ndim=2, device="cpu", options=options)
