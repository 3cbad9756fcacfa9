"""How far apart values are still alike, and how far what is observed around a hole is believed inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.fills.base import Window
from pipeline.numerics.correlation import correlation_length
from pipeline.references.estimate import correction, reference_fill
from pipeline.references.prediction import Prediction
from tests.unit.test_references import everywhere, itself, texture


def _field(length: float, n: int = 256, seed: int = 0) -> np.ndarray:
    """Return a field with the covariance exp(-h / length), `(n, n)`, by its spectrum."""
    wave = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n), indexing="ij"))
    power = (1 + (2 * np.pi * length * wave) ** 2) ** -1.5
    noise = np.fft.fft2(np.random.default_rng(seed).normal(size=(n, n)))
    field = np.fft.ifft2(noise * np.sqrt(power)).real
    return field / field.std()


def _places(n: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    grid = np.zeros((n, n), bool)
    grid[::step, ::step] = True
    return grid, np.argwhere(grid).astype(float)


@pytest.mark.parametrize("length", [4.0, 8.0, 16.0])
def test_a_known_length_is_found(length):
    """To a factor of 1.5, on every pixel and on one in nine; noise of single pixels beside it changes nothing."""
    field = _field(length)
    noisy = field + np.random.default_rng(1).normal(size=field.shape)
    for values, step in ((field, 1), (field, 3), (noisy, 1)):
        grid, places = _places(256, step)
        found = correlation_length([(values[grid][:, None], places)])
        assert length / 1.5 < found < 1.5 * length


def test_regions_have_pairs_of_their_own():
    """Four quarters with places from their own corner tell what the whole does; coarser steps count as longer."""
    field = _field(6.0)
    parts = [field[a : a + 128, b : b + 128] for a in (0, 128) for b in (0, 128)]
    grid, places = _places(128)
    found = correlation_length([(part[grid][:, None], places) for part in parts])
    assert 4.0 < found < 9.0
    assert correlation_length([(part[grid][:, None], 4 * places) for part in parts]) == pytest.approx(4 * found)


def test_nothing_is_said_of_few_samples():
    """Too few pairs, or none at all: no length."""
    grid, places = _places(64)
    values = _field(6.0)[:64, :64][grid][:, None]
    assert correlation_length([(values[:20], places[:20])]) is None
    assert correlation_length([]) is None


def test_a_correction_fades_with_distance_over_how_far_it_is_alike():
    """All that is observed is 10 brighter than the map says: so is the rim of a hole, and its middle if alike."""
    truth = texture(5, (128, 128), 26)
    y, x = np.mgrid[:128, :128] - 64
    away = np.hypot(y, x)
    hole = np.broadcast_to(away < 45, truth.shape)
    observed = truth + np.float32(10)
    window = Window(values=np.where(hole, 0, observed), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    relation, base = itself(truth), np.zeros_like(truth)
    middle, rim = hole[0] & (away < 5), hole[0] & (away > 43)
    brighter = {}
    for reach in (None, 100.0, 2.5):
        result = reference_fill(window, truth, everywhere((128, 128)), replace(relation, reach=reach), base)
        brighter[reach] = [float((result.values - truth)[:, part].mean()) for part in (rim, middle)]
    assert brighter[None] == pytest.approx([10, 10], abs=0.5)
    assert brighter[100.0] == pytest.approx([10, 10], abs=0.5)
    # 42 px are 2.8 deviations of 6 x 2.5 px
    assert brighter[2.5] == pytest.approx([10, 10 * np.exp(-0.5 * 2.8**2)], abs=0.5)


def test_a_correction_on_cells_fades_as_in_pixels():
    """The same hole on cells of four pixels: the same part of the correction is left at the same place."""
    truth = texture(6, (128, 128), 26)
    y, x = np.mgrid[:128, :128] - 63.5
    hole = np.broadcast_to(np.hypot(y, x) < 45, truth.shape)
    relation = replace(itself(truth), reach=5.0)
    middle = {}
    for cell in (1, 4):
        values = (truth + np.float32(10)).reshape(len(truth), 128 // cell, cell, 128 // cell, cell).mean(axis=(2, 4))
        hidden = hole[:, cell // 2 :: cell, cell // 2 :: cell]
        window = Window(values=np.where(hidden, 0, values), valid=~hidden, hole=hidden, spacing=(1.0, 1.0))
        predicted = Prediction.on_cells(relation, values - np.float32(10), np.ones(hidden.shape[1:], bool))
        found = correction(window, relation, predicted, cell).values
        centre = 64 // cell
        middle[cell] = float(found[:, centre - 1 : centre + 1, centre - 1 : centre + 1].mean())
    assert middle[4] == pytest.approx(middle[1], rel=0.1)
    assert 3 < middle[1] < 6
