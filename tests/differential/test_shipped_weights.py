"""Shipped weights against the base fill they correct, on real images of places and people never trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.fills.base import FillSpec, Window
from pipeline.formats import open_any
from pipeline.geometry.box import Box
from pipeline.models.autoencoder import open_model
from pipeline.models.base import Patch, shipped
from pipeline.training.masks import blobs, cloud, points, slices, stripes

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
LAZIO = [f"satellite/s2_cr_lazio/ROIs1868_summer_s2_102_p{number}.tif" for number in (100, 500)]
PATIENT = "medical/ms_patient19_mni/T1.nii.gz"


def _gain_db(path: Path, box: Box, draw: Draw, name: str, seed: int = 5) -> float:
    """Return how much smaller the network's squared error is than the base fill's, in dB."""
    entry = next((s for s in shipped() if s.name == name), None)
    if entry is None:
        pytest.skip(f"no weights '{name}' are shipped in this checkout")
    model = open_model(entry.path, ndim=entry.ndim, device="cpu", options={})
    source = open_any(str(path), bands=(3, 8) if entry.ndim == 2 else None)
    truth = source.read(box).astype(np.float32)
    hole = np.broadcast_to(draw(np.random.default_rng(seed), box.shape), truth.shape)
    spacing = (1.0,) * entry.ndim if entry.ndim == 2 else source.space.spacing
    seen = np.where(hole, np.float32(0), truth)
    window = Window(values=seen, valid=~hole, hole=hole, spacing=spacing)
    options = dict(entry.card.base_fill)
    filled = FillSpec(options.pop("kind"), options)(window)
    floor = np.array([0.01 * np.ptp(np.percentile(t, [1, 99])) for t in truth], np.float32)
    patch = Patch(filled=filled, valid=~hole, spacing=spacing, floor=floor)
    mean = model.predict([patch])[0].mean
    before, after = (float(((e - truth)[hole] ** 2).sum()) for e in (filled, mean))
    return 10 * np.log10(before / after)


@pytest.mark.parametrize(
    ("name", "draw", "least"),
    [
        ("optical", points, 0.2),
        ("optical", stripes, 0.0),
        ("optical", cloud, 0.0),
        ("optical_small", points, 0.0),
        ("optical_small", stripes, 0.0),
        ("optical_small", cloud, 0.0),
    ],
)
def test_optical_weights_help_on_average(data_dir, name, draw, least):
    """Lost pixels gain clearly by the large ones, nothing loses; what a hole hides is chance, so twelve count."""
    box = Box((0, 0), (192, 192))
    gains = [_gain_db(data_dir / tile, box, draw, name, seed) for tile in LAZIO for seed in range(6)]
    assert np.mean(gains) > least


@pytest.mark.parametrize(("draw", "least"), [(slices, 0.0), (blobs, -0.1)], ids=["slices", "blobs"])
def test_t1_weights_help_or_at_least_do_no_harm(data_dir, draw, least):
    """Lost slices do not lose, and blobs stay within a tenth of a decibel."""
    box = Box((70, 90, 70), (110, 130, 110))
    assert _gain_db(data_dir / PATIENT, box, draw, "t1") > least
