"""Local statistics: what the network's input is measured against."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import uniform_filter, zoom

from pipeline.numerics import statistics
from pipeline.numerics.statistics import CLIP, depth_channel, local_scales, local_statistics, network_input, varied
from pipeline.synthetic.noise import fractal


def _scene(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return 500 + 100 * fractal(np.random.default_rng(seed), shape, longest=60)


@pytest.mark.parametrize("shape", [(96, 80), (24, 20, 28)])
def test_hidden_values_do_not_matter(shape):
    """The statistics are those of observed pixels, whatever stands in the holes."""
    values, valid = _scene(shape), np.ones(shape, bool)
    valid[tuple(slice(n // 3, n // 2) for n in shape)] = False
    one = local_statistics(values, valid, 1.0)
    two = local_statistics(np.where(valid, values, np.float32(9e4)), valid, 1.0)
    assert np.array_equal(one.mean, two.mean)
    assert np.array_equal(one.scale, two.scale)
    assert one.mean.shape == one.scale.shape == shape


def test_statistics_follow_gain_and_offset():
    """Brighter or stronger data give the same normalised input."""
    values, valid = _scene((64, 64)), np.ones((64, 64), bool)
    valid[20:30, 20:40] = False
    depth = depth_channel(valid, (1.0, 1.0))
    one = network_input(values, valid, local_statistics(values, valid, 1.0), depth)
    scaled = 3 * values + 1000
    two = network_input(scaled, valid, local_statistics(scaled, valid, 3.0), depth)
    assert np.allclose(one, two, atol=2e-3)


def test_the_window_is_local():
    """Two halves of different level and texture get statistics of their own."""
    values = np.concatenate([_scene((128, 128), 1), 5 * _scene((128, 128), 2)], axis=1)
    local = local_statistics(values, np.ones(values.shape, bool), 1.0)
    assert local.mean[64, 20] == pytest.approx(values[:, :64].mean(), rel=0.15)
    assert local.mean[64, 236] == pytest.approx(values[:, 192:].mean(), rel=0.15)
    assert local.scale[64, 236] > 3 * local.scale[64, 20]


def test_nothing_observed_is_described_by_the_fill():
    """A patch inside a giant hole still has a level and a positive scale."""
    values = _scene((64, 64))
    local = local_statistics(values, np.zeros((64, 64), bool), 1.0)
    assert local.mean.mean() == pytest.approx(values.mean(), rel=0.05)
    assert (local.scale > 0).all()


def test_flat_data_are_divided_by_the_floor():
    """Constant pixels neither divide by zero nor blow up noise."""
    local = local_statistics(np.full((40, 40), 7, np.float32), np.ones((40, 40), bool), 2.5)
    assert np.allclose(local.mean, 7)
    assert np.all(local.scale == 2.5)
    assert np.all(local_statistics(local.mean, np.ones((40, 40), bool), 0.0).scale > 0)


def test_depth_counts_steps_of_the_finest_axis():
    """Log distance: 0 where observed, 1 after 63 steps, anisotropic steps counted in length."""
    valid = np.ones((5, 200), bool)
    valid[:, 1:] = False
    depth = depth_channel(valid, (1.0, 1.0))
    assert np.all(depth[:, 0] == 0)
    assert depth[2, 63] == pytest.approx(1.0)
    assert depth_channel(valid, (1.0, 3.0))[2, 21] == pytest.approx(1.0)
    assert np.isfinite(depth_channel(np.zeros((4, 4), bool), (1.0, 1.0))).all()


def test_inputs_are_clipped():
    """One dead pixel does not swamp the input."""
    values = _scene((64, 64))
    values[10, 10] = 1e6
    valid = np.ones((64, 64), bool)
    local = local_statistics(_scene((64, 64)), valid, 1.0)
    stacked = network_input(values, valid, local, depth_channel(valid, (1.0, 1.0)))
    assert stacked[0].max() == CLIP
    assert stacked.dtype == np.float32


@pytest.mark.parametrize("shape", [(40, 33), (20, 17, 12)])
def test_the_scale_alone_is_that_of_the_statistics(shape):
    """To rounding, whatever channels go along; the closer one of a channel is its own to the last bit."""
    rng = np.random.default_rng(3)
    values, valid = rng.normal(size=(3, *shape)).astype(np.float32), rng.random((3, *shape)) > 0.4
    valid[2] = False
    floor = np.asarray([0.1, 0.2, 0.3])
    pixels = np.arange(1, valid[0].size, 2)
    for seen in (valid, np.broadcast_to(valid[0], valid.shape)):
        wide, close = local_scales(values, seen, floor, pixels)
        alone = [local_statistics(*channel).scale.ravel()[pixels] for channel in zip(values, seen, floor, strict=True)]
        np.testing.assert_allclose(wide, alone, rtol=1e-6)
        own = [local_scales(values[k : k + 1], seen[k : k + 1], floor[k : k + 1], pixels)[1][0] for k in range(3)]
        np.testing.assert_array_equal(close, own)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_scale_is_that_of_what_is_close_by(ndim):
    """Calm water beside a rough coast is calm; the window that a network sees through has the coast in it."""
    shape = (64,) * ndim
    values = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    values[:40] *= 0.01
    valid = np.ones(shape, bool)
    hole = (slice(29, 32),) * ndim
    valid[hole] = False
    close = local_scales(values[None], valid[None], np.asarray([1e-3]), np.arange(valid.size))[1][0].reshape(shape)
    assert (close[hole] < 0.4 * local_statistics(values, valid, 1e-3).scale[hole]).all()
    assert np.median(close[48:]) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("shape", [(40, 33), (20, 17, 12)])
def test_fields_are_linear_between_the_centres_of_cells(shape):
    """As SciPy interpolates them, several times as slowly; ragged edges included."""
    cell = {2: 8, 3: 4}[len(shape)]
    coarse = np.random.default_rng(4).normal(size=[-(-n // cell) for n in shape])
    expected = zoom(coarse, cell, order=1, mode="nearest", grid_mode=True)[tuple(slice(n) for n in shape)]
    np.testing.assert_allclose(statistics._refined(coarse[None], shape, cell)[0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "cell"), [((3, 41, 36), 2), ((2, 64, 30), 4), ((1, 50, 33), 8), ((2, 13, 20, 17), 2)]
)
def test_cells_are_means_to_the_last_bit(shape, cell):
    """As NumPy adds them up, pixels beyond the edge counting as zeros: results do not change with the way."""
    field = np.random.default_rng(6).normal(size=shape) ** 3
    padded = np.pad(field, [(0, 0), *((0, -n % cell) for n in shape[1:])])
    split = [size for n in padded.shape[1:] for size in (n // cell, cell)]
    mean = padded.reshape(-1, *split).mean(axis=tuple(range(2, 2 * field.ndim, 2)))
    np.testing.assert_array_equal(statistics.averaged(field, cell), mean)


@pytest.mark.parametrize("shape", [(2, 9, 8, 11), (1, 1, 2, 7)])
def test_where_values_of_a_volume_vary(shape):
    """By the deviation over 5 x 5 x 5 voxels, the field mirrored at its ends."""
    values = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    values[..., : shape[-1] // 2] *= 0.1
    floor = np.full((shape[0], 1, 1, 1), 0.6, np.float32)
    exact = values.astype(np.float64)
    mean, power = (uniform_filter(field, (1, 5, 5, 5), mode="reflect") for field in (exact, exact**2))
    found = varied(values, floor)
    assert np.array_equal(found, power - mean**2 > floor.astype(np.float64) ** 2)
    assert 0 < found.mean() < 1
